"""The scheduler of studies, on processes that do nothing: order, locks, failures, interrupts, time left."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace

import pytest

from trainer.files import locked
from trainer.study.jobs import Job
from trainer.study.pace import Pace, seconds_of_steps
from trainer.study.scheduler import Scheduler

WRITE = "from pathlib import Path; Path({!r}).touch()"
SAVES = "import pathlib, signal, sys, time\nsignal.signal(signal.SIGTERM, lambda *_: sys.exit(1))\n{}\ntime.sleep(60)"


class Fake(Job):
    """A job whose command is Python code."""

    @property
    def process(self):
        return [sys.executable, "-S", "-c", *self.command]


@pytest.fixture
def job(tmp_path):
    """A function that makes a job of this name; by default it writes its result."""

    def make(name, code=None, **options):
        result = tmp_path / f"{name}.result"
        command = (WRITE.format(str(result)) if code is None else code,)
        return Fake(name, ("train", name), command, None, tmp_path / "logs" / f"{name}.log", result, **options)

    return make


def schedule(jobs, at_once=1, gpus=()):
    said = []
    return Scheduler(jobs, at_once, {}, Pace(), said.append, gpus), said


def test_jobs_run_in_order_and_what_is_done_is_left_alone(job, tmp_path):
    jobs = [job("a"), job("b", "raise SystemExit('never')"), job("c", needs=tmp_path / "a.result")]
    jobs[1].result.touch()
    scheduler, said = schedule(jobs)
    assert scheduler.run()
    assert [line.split(":")[0] for line in said] == ["[2/3] a", "[3/3] c"]
    assert all(job.done for job in jobs)
    again, said = schedule(jobs)
    assert again.run()
    assert said == []


def test_jobs_are_shared_out_over_gpus(job, tmp_path):
    """Three at a time on two GPUs; the fourth takes the place of the first that ends."""
    code = (
        "import os, time, pathlib; place = pathlib.Path({!r}); place.write_text(os.environ['CUDA_VISIBLE_DEVICES'])\n"
        "while {!r} != 'b' and not pathlib.Path({!r}).exists(): time.sleep(0.01)"
    )
    last = str(tmp_path / "d.result")
    jobs = [job(name, code.format(str(tmp_path / f"{name}.result"), name, last)) for name in "abcd"]
    scheduler, _ = schedule(jobs, at_once=3, gpus=("4", "7"))
    assert scheduler.run()
    assert [job.result.read_text() for job in jobs] == ["4", "7", "4", "7"]


def test_jobs_of_one_run_take_turns_and_keep_their_places(job, tmp_path):
    """The second of a run waits for the first, not for what comes after both."""
    code = "import pathlib, time; time.sleep(0.2); pathlib.Path({!r}).touch()"
    jobs = [job(name, code.format(str(tmp_path / f"{name}.result"))) for name in ("a1", "a2", "b", "c", "d")]
    jobs[1] = replace(jobs[1], log=jobs[0].log)
    scheduler, said = schedule(jobs, at_once=2)
    assert scheduler.run()
    done = [line.partition("] ")[2].partition(":")[0] for line in said]
    assert sorted(done) == ["a1", "a2", "b", "c", "d"]
    assert done.index("a1") < done.index("a2") < done.index("d")


def test_a_failure_is_reported_and_the_others_go_on(job, tmp_path):
    code = "import sys; print('\\n'.join(map(str, range(30)))); print('a\\rb\\rbar', file=sys.stderr); sys.exit(3)"
    # one that ends well without its result has failed too
    jobs = [job("a", code), job("b", needs=tmp_path / "a.result"), job("c"), job("d", "pass")]
    scheduler, said = schedule(jobs, 2)
    assert not scheduler.run()
    assert [job.done for job in jobs] == [False, False, True, False]
    assert {job.name for job in scheduler.failed} == {"a", "d"}
    (failure,) = [place for place, line in enumerate(said) if "] a failed after" in line]
    assert "exit code 3" in said[failure]
    assert said[failure + 1].split() == [*map(str, range(19, 30)), "bar"]
    assert said[-1].startswith("b was not begun: ")


def test_a_job_hears_of_ctrl_c_from_the_scheduler_alone(job, tmp_path):
    """The terminal sends it to every process of its session; a run that hears it twice stops without saving."""
    seen = job("a", f"import os, pathlib; pathlib.Path({str(tmp_path / 'a.result')!r}).write_text(str(os.getsid(0)))")
    assert schedule([seen])[0].run()
    assert int(seen.result.read_text()) != os.getsid(0)


def interrupt_when(there, number=signal.SIGINT):
    def send():
        while not there.exists():
            time.sleep(0.01)
        os.kill(os.getpid(), number)

    threading.Thread(target=send, daemon=True).start()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_lets_the_jobs_in_hand_save(job, tmp_path, number):
    saved = tmp_path / "saved"
    code = SAVES.replace("sys.exit(1)", f"(pathlib.Path({str(saved)!r}).touch(), sys.exit(1))")
    jobs = [job("a"), job("b", code.format(WRITE.format(str(tmp_path / "ready")))), job("c")]
    scheduler, _ = schedule(jobs)
    interrupt_when(tmp_path / "ready", number)
    with pytest.raises(KeyboardInterrupt, match="1 of 3 jobs are done"):
        scheduler.run()
    assert saved.exists()
    assert [job.done for job in jobs] == [True, False, False]
    assert scheduler.running == []


def test_what_another_process_runs_is_waited_for(job, tmp_path):
    """As after a kill of the study: its processes hold their logs' locks and go on."""
    jobs = [job("a", "raise SystemExit('never')"), job("b"), job("c")]
    jobs[0].log.parent.mkdir()
    code = f"import sys, time; time.sleep(0.5); {WRITE.format(str(jobs[0].result))}"
    with jobs[0].log.open("ab") as log:
        assert locked(log.fileno())
        other = subprocess.Popen([sys.executable, "-S", "-c", code], stdout=log)
    scheduler, said = schedule(jobs)
    assert scheduler.run()
    assert other.wait() == 0
    assert all(job.done for job in jobs)
    assert said.count("a is run by another process; waiting for it") == 1


def test_what_was_waited_for_may_end_while_nobody_looks(job):
    """Between the looks of one pass at a run of another process and at what needs it."""

    class Elsewhere(Fake):
        @property
        def done(self):
            looks.append(1)
            if len(looks) == 4:
                log.close()
                self.result.touch()
            return self.result.is_file()

    looks = []
    run = job("a")
    run = Elsewhere(run.name, run.kind, run.command, None, run.log, run.result)
    run.log.parent.mkdir()
    log = run.log.open("ab")
    assert locked(log.fileno())
    then = replace(job("b", needs=run.result), log=run.log)
    scheduler, said = schedule([run, then])
    assert scheduler.run(), said
    assert then.done


def test_time_left_by_hand(job):
    pace = Pace()
    a, b, c = job("a", work=10), job("b", work=4), job("c", work=6)
    assert pace.left([a], [], 1) is None
    assert pace.left([], [], 1) == 0.0
    pace.learn(a, 20.0, 10)
    pace.learn(a, 10.0, 10)  # 1.5 s a unit of a, and of any other of its kind
    pace.learn(b, 2.0, 4)  # 0.5 s a unit of b; 4/3 over all
    assert pace.seconds(a) == pytest.approx(15.0)
    assert pace.seconds(b) == pytest.approx(2.0)
    assert pace.seconds(c) == pytest.approx(6 * (2 + 1 + 0.5) / 3)
    assert pace.left([c, b], [(a, 5.0)], 2) == pytest.approx(10.0)  # 7 + 2 + 10 by two, but a alone needs 10
    assert pace.left([c, b], [(a, 5.0)], 1) == pytest.approx(19.0)


def test_gaps_of_a_resumed_run_are_left_out(tmp_path):
    file = tmp_path / "metrics.jsonl"
    file.write_text("".join(json.dumps({"wall_s": t}) + "\n" for t in (1.0, 3.0, 4.5, 0.5, 2.5)) + '{"half')
    assert seconds_of_steps(file) == (5.5, 3)
    assert seconds_of_steps(tmp_path / "none") == (0, 0)
