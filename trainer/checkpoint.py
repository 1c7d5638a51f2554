"""Checkpoints: the model in Hugging Face format plus everything the trainer needs to go on exactly."""

import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from trainer.model import Policy
from trainer.probe import OnlineScale

STATE_FILE = "trainer_state.pt"


@dataclass(frozen=True)
class RunState:
    """What a run carries from step to step, beside the weights and the optimiser's moments.

    Random streams are functions of (seed, step), so the step is all there is to keep of them.

    Args:
        step: steps finished.
        samples: rollouts drawn.
        tokens: completion tokens drawn.
        unit: nats in one unit of the schedule: the base model's entropy, or 1; None before the first batch.
        methods: states of the methods with memory, by stage.
        scale: the tabular prediction's scale.
    """

    step: int = 0
    samples: int = 0
    tokens: int = 0
    unit: float | None = None
    methods: dict[str, dict[str, Any]] = field(default_factory=dict)
    scale: OnlineScale = field(default_factory=OnlineScale)


def save_checkpoint(
    folder: Path, policy: Policy, optimizer: torch.optim.Optimizer, state: RunState, keep: int = 0
) -> Path:
    """Write `folder/step_N`, under a temporary name first, so that a kill never leaves half a checkpoint.

    Args:
        folder: the run's checkpoints.
        policy: weights and tokenizer.
        optimizer: its moments.
        state: the rest.
        keep: delete all but this many of the latest; 0 keeps all.
    """
    final = folder / f"step_{state.step}"
    temporary = folder / f"step_{state.step}.new"
    # A kill while saving leaves a temporary folder behind.
    for unfinished in folder.glob("step_*.new"):
        shutil.rmtree(unfinished)
    temporary.mkdir(parents=True)
    policy.save(temporary)
    torch.save({"optimizer": optimizer.state_dict(), "state": asdict(state)}, temporary / STATE_FILE)
    shutil.rmtree(final, ignore_errors=True)
    temporary.rename(final)
    for old in checkpoints(folder)[:-keep] if keep else []:
        shutil.rmtree(old)
    return final


def checkpoints(folder: Path) -> list[Path]:
    """Return the complete checkpoints of a run, oldest first."""
    found = [path for path in folder.glob("step_*") if path.suffix != ".new" and (path / STATE_FILE).is_file()]
    return sorted(found, key=lambda path: int(path.name.removeprefix("step_")))


def load_state(checkpoint: Path, optimizer: torch.optim.Optimizer) -> RunState:
    """Give the optimiser its moments back and return the run's state."""
    saved = torch.load(checkpoint / STATE_FILE, map_location="cpu", weights_only=True)
    optimizer.load_state_dict(saved["optimizer"])
    state = saved["state"]
    return RunState(**{**state, "scale": OnlineScale(**state["scale"])})
