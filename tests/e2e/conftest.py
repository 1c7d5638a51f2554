"""Tiny runs through the command line, in this process, each made once a session; and the plug-ins they name."""

import contextlib
import hashlib
import io
import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import entrocraft

TINY = {
    "steps": "3",
    "rollout.prompts": "4",
    "rollout.group_size": "4",
    "algorithm.mini_batches": "2",
    "evaluation.prompts": "0",
    "evaluation.samples": "4",
    "theory.probe_rows": "4",
    "checkpoint.rollouts_every": "1",
}
PLUGINS = '''
"""What a user would write in a file of their own."""

import torch
from trainer.methods.filters import algorithm1
from trainer.methods.stages import Filtered


def parity(prompts, completions, completion_ids, **columns):
    """Reward an odd sum of ids: nearly every group is mixed."""
    return [float(sum(ids) % 2) for ids in completion_ids]


def equal(prompts, completions, completion_ids, **columns):
    return [1.0] * len(completions)


def nothing(prompts, completions, completion_ids, **columns):
    return [0.0] * len(completions)


def keep_all(groups):
    return Filtered(weights=torch.ones_like(groups.advantages), advantages=groups.advantages)


def aiming(groups):
    return Filtered(weights=torch.ones_like(groups.rewards), advantages=groups.advantages, info={"aim": groups.aim})


def zeros(tokens):
    return torch.zeros_like(tokens.log_prob)


def ones(tokens):
    return torch.ones_like(tokens.log_prob)


class Remembering:
    """A controller whose decision depends on every entropy it has seen."""

    def start(self):
        return {"seen": torch.zeros(0), "steps": 0}

    def decide(self, state, groups):
        even = int(state["seen"].double().sum() * 1000) % 2 == 0
        keep = groups.advantages >= 0 if even else groups.advantages <= 0
        weights = keep.to(groups.advantages.dtype)
        return Filtered(weights=weights, advantages=groups.advantages, info={"even": float(even)})

    def step(self, state, observation):
        seen = torch.cat([state["seen"], torch.tensor([observation.entropy])])
        return {"seen": seen, "steps": state["steps"] + 1}, {"steps_seen": state["steps"] + 1.0, "odd": float("nan")}
'''


@dataclass(frozen=True)
class Run:
    """What a call of `entrocraft` did: its exit code, what it said, and its run directory."""

    code: int
    path: Path
    printed: str
    said: str

    @property
    def rows(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.path / "metrics.jsonl").read_text().splitlines()]

    @property
    def timeless(self) -> list[dict[str, Any]]:
        return [{k: v for k, v in row.items() if k != "wall_s" and not k.startswith("time_")} for row in self.rows]

    @property
    def evaluations(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.path / "evaluations.jsonl").read_text().splitlines()]

    def rollouts(self, step: int) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.path / "rollouts" / f"step_{step}.jsonl").read_text().splitlines()]

    @property
    def last(self) -> Path:
        return max((self.path / "checkpoints").iterdir(), key=lambda path: int(path.name.removeprefix("step_")))

    @property
    def weights(self) -> dict[str, str]:
        return digests(self.last)


def digests(folder: Path) -> dict[str, str]:
    """A model's weights, each as a digest of its bytes: equal means equal bit for bit, and -0.0 is not 0.0."""
    tensors = load_file(folder / "model.safetensors")
    return {name: hashlib.sha256(value.contiguous().numpy()).hexdigest()[:12] for name, value in tensors.items()}


def call(arguments: list[str], path: Path) -> Run:
    """Call the command line as a process would be called: float32, one thread, its own module path."""
    printed, said, kept = io.StringIO(), io.StringIO(), list(sys.path)
    dtype = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    torch.set_num_threads(1)
    try:
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(said):
            code = entrocraft.main(arguments)
    except SystemExit as stop:
        code = stop.code
    finally:
        torch.set_default_dtype(dtype)
        sys.path[:] = kept
    return Run(code, path, printed.getvalue(), said.getvalue())


@pytest.fixture(scope="session", autouse=True)
def offline():
    """Never look for the hub, here or in a process started from here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HUB_OFFLINE", "1")
        # The variable is read once, at the first import.
        patch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
        yield


@pytest.fixture(scope="session")
def plugins(tmp_path_factory) -> str:
    """The name of an importable module with methods and rewards of a user's own."""
    folder = tmp_path_factory.mktemp("plugins")
    (folder / "users_own.py").write_text(PLUGINS)
    sys.path.append(str(folder))
    return "users_own"


@pytest.fixture(scope="session")
def tiny(tmp_path_factory, plugins) -> Callable[..., Run]:
    """A function that returns a finished run of 3 steps with these settings; equal settings share one run.

    It does not evaluate unless `evaluation.prompts` is given.
    `output=` makes a new run there; `expect=` is the exit code.
    """
    done: dict[Any, Run] = {}

    def run(settings: dict[str, Any] | None = None, *, output: Path | None = None, expect: int = 0) -> Run:
        chosen = {**TINY, **(settings or {})}
        key = tuple(sorted((name, str(value)) for name, value in chosen.items()))
        if output is None and key in done:
            return done[key]
        path = output or tmp_path_factory.mktemp("runs") / "run"
        finished = call(
            ["train", "--output", str(path), *(f"--{name}={value}" for name, value in chosen.items())], path
        )
        assert finished.code == expect, finished.said
        if output is None:
            done[key] = finished
        return finished

    return run


@pytest.fixture(scope="session")
def command() -> Callable[..., Run]:
    """A function that calls `entrocraft` with these arguments; `path` is the run directory to look at afterwards."""
    return lambda *arguments, path=Path(): call([str(argument) for argument in arguments], path)


@pytest.fixture
def copied(tmp_path) -> Callable[[Run], Path]:
    """A function that returns a copy of a run directory that a test may change."""
    return lambda run: shutil.copytree(run.path, tmp_path / f"copy{len(list(tmp_path.iterdir()))}")


@pytest.fixture(scope="session")
def base_weights() -> dict[str, str]:
    """The shipped model's weights, as digests."""
    return digests(entrocraft.load("trainer.model").SHIPPED["countdown-0.2m"])
