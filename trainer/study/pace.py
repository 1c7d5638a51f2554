"""How long the rest of a study takes, from how long the like took so far."""

import json
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from trainer.files import complete_lines
from trainer.study.jobs import Job


class Pace:
    """Seconds a unit of work, by kind of job."""

    def __init__(self) -> None:
        self.seen: dict[str, list[float]] = {}

    def learn(self, job: Job, seconds: float, work: int) -> None:
        """Remember how long so much of a job's work took."""
        for kind in job.kind if work else ():
            self.seen.setdefault(kind, []).append(seconds / work)

    def learn_from_disk(self, output: Path) -> None:
        """Learn from the runs that are in a study's folder already."""
        for file in sorted(output.glob("*/*/*/metrics.jsonl")):
            seconds, steps = seconds_of_steps(file)
            for kind in ("train", file.parents[1].name) if steps else ():
                self.seen.setdefault(kind, []).append(seconds / steps)

    def seconds(self, job: Job) -> float | None:
        """Return how long a job will take, None where nothing like it was seen."""
        for kind in reversed(job.kind):
            if kind in self.seen:
                return job.work * sum(self.seen[kind]) / len(self.seen[kind])
        return None

    def left(self, waiting: Sequence[Job], running: Sequence[tuple[Job, float]], at_once: int) -> float | None:
        """Return the seconds until all is done, None where nothing like any of it was seen.

        Args:
            waiting: not started.
            running: started, and for how many seconds they have run.
            at_once: how many run at a time.
        """
        rest = [(self.seconds(job), 0.0) for job in waiting] + [(self.seconds(job), gone) for job, gone in running]
        known = [max(0.0, seconds - gone) for seconds, gone in rest if seconds is not None]
        if rest and not known:
            return None
        return max([sum(known) / at_once, *known]) if known else 0.0


def seconds_of_steps(file: Path) -> tuple[float, int]:
    """Return how long the steps of `metrics.jsonl` took, evaluations on the way included, and how many they are.

    The clock begins anew where a run was resumed: such gaps are left out.
    """
    times = [json.loads(line)["wall_s"] for line in complete_lines(file)] if file.is_file() else []
    gaps = [after - before for before, after in pairwise(times) if after > before]
    return float(sum(gaps)), len(gaps)


def in_words(seconds: float | None) -> str:
    """Return a time as people say it.

    >>> in_words(42.4), in_words(754.0), in_words(8000.0), in_words(None)
    ('42 s', '13 min', '2 h 13 min', 'unknown')
    """
    if seconds is None:
        return "unknown"
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
