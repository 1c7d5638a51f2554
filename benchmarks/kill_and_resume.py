"""Kill runs at random moments, resume each to its end, and compare it with the run that was left alone, bit for bit.

    python benchmarks/kill_and_resume.py --kills 30 --seed 0
    python benchmarks/kill_and_resume.py --every-write

The run is small, and everything in it has something to lose: momentum, a controller with memory, a band relative to the
first batch, evaluations on the way, mini-batches, a warm-up. Most signals are SIGKILL; moments are uniform over the
whole run, from its first instant, and some runs are hit more than once. `--every-write` kills at each file operation of
the run in turn instead. Runs are forked from this process, which has imported everything, two at a time.
"""

import argparse
import json
import multiprocessing
import os
import re
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

import entrocraft
from trainer.checkpoint import checkpoints
from trainer.hashes import damage
from trainer.streams import python_stream

STEPS = 6
SETTINGS = {
    "steps": STEPS,
    "model.threads": 1,
    "rollout.prompts": 4,
    "rollout.group_size": 4,
    "algorithm.mini_batches": 2,
    "algorithm.filter": "rejection",
    "algorithm.denominator": "zero",
    "optimizer.learning_rate": 1e-3,
    "optimizer.warmup": 4,
    "band.unit": "relative",
    "theory.probe_rows": 4,
    "evaluation.prompts": 4,
    "evaluation.samples": 2,
    "evaluation.settings": "[t1]",
    "evaluation.every": 3,
    "evaluation.at_start": "true",
    "checkpoint.every": 2,
    "checkpoint.rollouts_every": 1,
}
SIGNALS = (signal.SIGKILL,) * 6 + (signal.SIGTERM, signal.SIGINT)
# How many kills hit one run.
HITS = (1, 1, 1, 2, 3)
FILE_OPERATIONS = {"open", "os.rename", "os.mkdir", "os.remove", "os.rmdir", "shutil.rmtree"}
# Names of what was timed, in every file that is compared.
TIMED = re.compile(r"(^|_)time_|_s$")


@dataclass(frozen=True)
class Kill:
    """When a run is killed, and by which signal.

    Args:
        number: the signal.
        share: of the run's duration, after its start; None for a file operation.
        operation: which file operation of the run; 0 for a share of its duration.
    """

    number: signal.Signals
    share: float | None
    operation: int = 0


def start(path: Path, resume: bool, operation: int = 0) -> int:
    """Fork a run and return its process id; at the file operation of this number, from 1, it kills itself."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        log = os.open(path.with_suffix(".log"), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(log, 1)
        os.dup2(log, 2)
        torch.set_num_threads(1)
        count_operations(path, operation)
        arguments = [f"--{name}={value}" for name, value in SETTINGS.items()]
        code = entrocraft.main(["train", f"--output={path}", *arguments, *(["--resume"] if resume else [])])
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def count_operations(path: Path, last: int) -> None:
    """Note each file operation below a run's folder in the log, and die at the one of number `last`."""
    seen = 0

    def count(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal seen
        if event not in FILE_OPERATIONS or not str(arguments[0]).startswith(str(path)) or arguments[0] == path:
            return
        # Opening to read changes nothing.
        if event == "open" and isinstance(arguments[1], str) and arguments[1].startswith("r"):
            return
        seen += 1
        if seen == last:
            os.kill(os.getpid(), signal.SIGKILL)
        os.write(2, f"operation {seen}: {event} {Path(arguments[0]).name}\n".encode())

    if last:
        sys.addaudithook(count)


def finish(path: Path, resume: bool) -> None:
    """Run, or resume, to the end."""
    code = os.waitstatus_to_exitcode(os.waitpid(start(path, resume), 0)[1])
    if code != 0:
        raise RuntimeError(f"{path} ended with {code}: {path.with_suffix('.log').read_text()[-2000:]}")


def killed(path: Path, kill: Kill, resume: bool, duration: float) -> str | None:
    """Run or resume until the kill; return what was on disk then, None if the run was done before."""
    child = start(path, resume, kill.operation)
    if kill.share is not None:
        moment = kill.share * duration
        time.sleep(moment)
        if os.waitpid(child, os.WNOHANG)[0]:
            return None
        os.kill(child, kill.number)
        when = f"{kill.number.name} after {moment:.3f} s"
    else:
        when = f"SIGKILL at operation {kill.operation}"
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if kill.share is None and status == 0:
        return None
    return f"{when}, {on_disk(path)}"


def on_disk(path: Path) -> str:
    """Return in words what a stopped run has left."""
    if not path.exists():
        return "nothing on disk"
    if not (path / "config.yaml").exists():
        return "its folder half made"
    rows = path / "metrics.jsonl"
    steps = len(rows.read_text().splitlines()) if rows.exists() else 0
    saved = checkpoints(path / "checkpoints")
    saving = ", saving another" if list((path / "checkpoints").glob("*.new")) else ""
    done = ", summary written" if (path / "summary.json").exists() else ""
    return f"{steps} rows, last checkpoint {saved[-1].name if saved else 'none'}{saving}{done}"


def timeless(value: Any) -> Any:
    """Return JSON without what was timed."""
    if isinstance(value, dict):
        return {name: timeless(item) for name, item in value.items() if not TIMED.search(name)}
    return [timeless(item) for item in value] if isinstance(value, list) else value


def results(path: Path) -> dict[str, Any]:
    """Return what a finished run must have to the last bit, by file."""
    found: dict[str, Any] = {
        name: [timeless(json.loads(line)) for line in (path / name).read_text().splitlines()]
        for name in ("metrics.jsonl", "evaluations.jsonl")
    }
    found["summary.json"] = timeless(json.loads((path / "summary.json").read_text()))
    last = path / "checkpoints" / f"step_{STEPS}"
    for file in [*(path / "rollouts").iterdir(), *last.iterdir()]:
        found[file.relative_to(path).as_posix()] = file.read_bytes()
    found["damage"] = damage(last)
    found["left behind"] = [file.name for file in path.rglob("*.new")]
    return found


def differences(path: Path, whole: Path) -> list[str]:
    """Return the names of the files in which a run differs from the one that was left alone."""
    one, other = results(path), results(whole)
    return sorted(name for name in one.keys() | other.keys() if one.get(name) != other.get(name))


def trial(kills: list[Kill], folder: Path, duration: float) -> list[tuple[str, list[str]]]:
    """Kill one run as often as asked, resume it to the end, and return each kill with the differences."""
    path = Path(tempfile.mkdtemp(dir=folder)) / "run"
    hits: list[str] = []
    for kill in kills:
        # A run that was done before its moment came is made anew; resumed ones evaluate and summarise again.
        while (hit := killed(path, kill, bool(hits), duration)) is None:
            if kill.operation:
                return []
            if not hits:
                shutil.rmtree(path)
            kill = Kill(kill.number, 0.9 * kill.share)
        hits.append(hit)
    finish(path, resume=True)
    different = differences(path, folder / "whole")
    if not different:
        shutil.rmtree(path.parent)
    return [(hit, different) for hit in hits]


def random_kills(count: int, seed: int) -> Iterator[list[Kill]]:
    """Yield the kills of each run, `count` in all."""
    generator = python_stream(seed, "kills")
    while count:
        hits = min(count, generator.choice(HITS))
        yield [Kill(generator.choice(SIGNALS), generator.random()) for _ in range(hits)]
        count -= hits


def two_whole_runs(folder: Path) -> float:
    """Make two runs that are left alone, both at a time, check that they agree, and return the seconds they took."""
    began = time.perf_counter()
    children = [start(folder / name, resume=False) for name in ("whole", "again")]
    for child in children:
        os.waitpid(child, 0)
    duration = time.perf_counter() - began
    if different := differences(folder / "again", folder / "whole"):
        raise RuntimeError(f"two runs that were left alone differ in {different}: nothing can be compared")
    return duration


def operations(folder: Path) -> int:
    """Return the number of file operations of a run."""
    child = start(folder / "counted", resume=False, operation=sys.maxsize)
    os.waitpid(child, 0)
    return (folder / "counted.log").read_text().count("operation ")


def main() -> int:
    """Kill, resume, compare and print; return 1 if anything differs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--every-write", action="store_true", help="kill at each file operation instead")
    chosen = parser.parse_args()
    os.environ["HF_HUB_OFFLINE"] = "1"
    for module in ("trainer.train", "trainer.cli", "torch.utils.tensorboard"):
        __import__(module)
    folder = Path(tempfile.mkdtemp(prefix="kill_and_resume_"))
    duration = two_whole_runs(folder)
    print(f"the run left alone: {duration:.2f} s, {STEPS} steps, in {folder}", flush=True)
    if chosen.every_write:
        plans = [[Kill(signal.SIGKILL, None, place)] for place in range(1, operations(folder) + 1)]
    else:
        plans = list(random_kills(chosen.kills, chosen.seed))
    hits = different = 0
    try_it: Callable[[list[Kill]], list[tuple[str, list[str]]]] = partial(trial, folder=folder, duration=duration)
    with multiprocessing.get_context("fork").Pool(2) as pool:
        for outcomes in pool.imap_unordered(try_it, plans):
            for hit, found in outcomes:
                hits += 1
                different += bool(found)
                print(
                    f"{hits:4}  {hit}; resumed: {'DIFFERENT in ' + ', '.join(found) if found else 'same'}", flush=True
                )
    if not different:
        shutil.rmtree(folder)
    print(f"{hits} kills, {different} differences")
    return int(different > 0)


if __name__ == "__main__":
    sys.exit(main())
