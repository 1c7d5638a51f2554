"""Several jobs at a time, each a process of its own: what fails is reported and the others go on."""

import os
import signal
import subprocess
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from trainer.files import locked
from trainer.study.jobs import Job
from trainer.study.pace import Pace, in_words

POLL_S = 0.1
TAIL = 12


@dataclass
class Running:
    """A job that runs here."""

    job: Job
    process: subprocess.Popen[bytes]
    started: float
    seat: int


class Scheduler:
    """Runs jobs in their order, a few at a time.

    Who does a job holds the lock of its log, as does the process that it started, for as long as that lives. So two
    calls can share a study's jobs, and one call can follow another that was killed while its runs went on.

    Args:
        jobs: what there is to do; what is done already is left alone.
        at_once: how many run at a time.
        environment: variables of their processes, over those of this one.
        pace: what is known of how long they take.
        say: prints a line.
        gpus: as `CUDA_VISIBLE_DEVICES` names them; each job sees one. None: all see what this process sees.
    """

    def __init__(
        self,
        jobs: Iterable[Job],
        at_once: int,
        environment: Mapping[str, str],
        pace: Pace,
        say: Callable[[str], Any] = print,
        gpus: Sequence[str] = (),
    ) -> None:
        self.all = list(jobs)
        self.waiting = deque(job for job in self.all if not job.done)
        self.at_once = at_once
        self.environment = {**os.environ, **environment}
        self.pace = pace
        self.say = say
        self.gpus = gpus
        self.running: list[Running] = []
        self.failed: list[Job] = []
        self.elsewhere: set[str] = set()

    def run(self) -> bool:
        """Do all jobs; return whether all ended well.

        Raises:
            KeyboardInterrupt: after Ctrl-C or SIGTERM, when the runs in hand have saved and stopped.
        """
        try:
            with terminating_as_interrupt():
                while self.start_some() or self.running:
                    self.collect()
                    time.sleep(POLL_S)
        except KeyboardInterrupt:
            self.stop()
            done = sum(job.done for job in self.all)
            raise KeyboardInterrupt(
                f"{done} of {len(self.all)} jobs are done, the runs in hand are saved. Go on with the same command."
            ) from None
        finally:
            self.stop()
        blocked = [job for job in self.waiting if not job.done]
        for job in blocked:
            self.say(f"{job.name} was not begun: {job.needs} is missing")
        return not self.failed and not blocked

    def start_some(self) -> bool:
        """Start what there is room for; return whether to wait for jobs that run elsewhere."""
        elsewhere = []
        for job in list(self.waiting):
            if len(self.running) == self.at_once:
                break
            # Jobs of one run take turns; one whose run is in hand keeps its place.
            in_hand = any(running.job.log == job.log for running in self.running)
            if job.done or (job.ready and not in_hand):
                self.waiting.remove(job)
                if not job.done and not self.start(job):
                    elsewhere.append(job)
        # Asked again after the others.
        self.waiting.extend(elsewhere)
        for name in {job.name for job in elsewhere} - self.elsewhere:
            self.elsewhere.add(name)
            self.say(f"{name} is run by another process; waiting for it")
        return any(job.ready for job in self.waiting)

    def start(self, job: Job) -> bool:
        """Start a job unless another process does it; return whether that is settled."""
        job.log.parent.mkdir(parents=True, exist_ok=True)
        with job.log.open("ab") as log:
            if not locked(log.fileno()):
                return False
            if job.done:
                return True
            job.prepare()
            # In a session of its own, so that Ctrl-C reaches it once, from here: a second one would stop it unsaved.
            seat = min(set(range(self.at_once)) - {running.seat for running in self.running})
            process = subprocess.Popen(
                job.process, env=self.environment_of(seat), stdout=log, stderr=log, stdin=subprocess.DEVNULL,
                start_new_session=True,
            )  # fmt: skip
        self.running.append(Running(job, process, time.monotonic(), seat))
        return True

    def environment_of(self, seat: int) -> dict[str, str]:
        """Return the variables of the process in one of the seats, of which there are as many as run at a time."""
        own = {"CUDA_VISIBLE_DEVICES": self.gpus[seat % len(self.gpus)]} if self.gpus else {}
        return {**self.environment, **own}

    def collect(self) -> None:
        """Report the jobs that have ended."""
        for running in [running for running in self.running if running.process.poll() is not None]:
            self.running.remove(running)
            job, seconds = running.job, time.monotonic() - running.started
            code = running.process.returncode
            if code == 0 and job.done:
                self.pace.learn(job, seconds, job.work)
                self.report(f"{job.name}: {in_words(seconds)}")
            else:
                self.failed.append(job)
                self.report(f"{job.name} failed after {in_words(seconds)}, exit code {code}. The end of {job.log}:")
                self.say("\n".join(f"    {line}" for line in tail(job)))

    def report(self, what: str) -> None:
        """Print what happened to a job, and what is left."""
        now = time.monotonic()
        running = [(running.job, now - running.started) for running in self.running]
        left = self.pace.left(self.waiting, running, self.at_once)
        place = len(self.all) - len(self.waiting) - len(self.running)
        self.say(f"[{place}/{len(self.all)}] {what}; {in_words(left)} left")

    def stop(self) -> None:
        """Ask the jobs to save and stop, and wait for them; ask again when interrupted again."""
        for running in self.running:
            # Not SIGINT, which processes ignore whose first ancestor was started in the background.
            running.process.terminate()
        try:
            with terminating_as_interrupt():
                for running in self.running:
                    running.process.wait()
        except KeyboardInterrupt:
            self.stop()
        self.running = []


@contextmanager
def terminating_as_interrupt() -> Any:
    """Let SIGTERM do what Ctrl-C does."""
    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def interrupt(number: int, frame: Any) -> None:
    """Raise what Ctrl-C raises."""
    raise KeyboardInterrupt


def tail(job: Job) -> list[str]:
    """Return the last lines of a job's log; of a progress bar, its last state."""
    text = job.log.read_bytes().decode(errors="replace")
    return [line.rpartition("\r")[2] for line in text.split("\n") if line.strip()][-TAIL:]
