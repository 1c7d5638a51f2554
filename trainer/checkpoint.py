"""Checkpoints: the model in Hugging Face format plus everything the trainer needs to go on exactly.

Each has a list of the SHA-256 of its files, and is read again only if all of them match; nothing in it is pickled.
"""

import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from trainer.files import new_folder
from trainer.hashes import damage, write_hashes
from trainer.probe import OnlineScale
from trainer.state_files import read_state, write_state
from trainer.workers import ALONE, Workers

# Of trainer_state.safetensors and trainer_state.json.
STATE = "trainer_state"


@dataclass(frozen=True)
class RunState:
    """What a run carries from step to step, beside the weights and the optimiser's moments.

    Random streams are functions of (seed, step), so the step is all there is to keep of them.

    Args:
        step: steps finished.
        samples: rollouts drawn.
        tokens: completion tokens drawn.
        first_entropy: of the first batch, nats per token: where a warm start begins, and the unit of a relative band;
            None before it.
        methods: states of the methods with memory, by stage.
        scale: the tabular prediction's scale.
        bad_in_a_row: how many of the latest steps had a loss or gradient that was not finite.
    """

    step: int = 0
    samples: int = 0
    tokens: int = 0
    first_entropy: float | None = None
    methods: dict[str, dict[str, Any]] = field(default_factory=dict)
    scale: OnlineScale = field(default_factory=OnlineScale)
    bad_in_a_row: int = 0


def save_checkpoint(
    folder: Path,
    write_model: Callable[[Path], None],
    optimizer: Mapping[str, Any],
    state: RunState,
    keep: int = 0,
    every: int = 0,
) -> Path:
    """Write `folder/step_N`, under a temporary name first, so that a kill never leaves half a checkpoint.

    Args:
        folder: the run's checkpoints.
        write_model: writes weights and tokenizer into a folder.
        optimizer: its state, as `state_dict()` returns it.
        state: the rest.
        keep: delete all but this many of the latest; 0 keeps all.
        every: how many steps apart they are to be saved. One that was saved between, by an interrupt, is deleted when
            the next is there, and takes the place of none of the others.
    """
    final = folder / f"step_{state.step}"
    # A kill while saving leaves a temporary folder behind.
    for unfinished in folder.glob("step_*.new"):
        shutil.rmtree(unfinished)
    with new_folder(final) as temporary:
        write_model(temporary)
        write_state(temporary / STATE, {"optimizer": optimizer, "state": asdict(state)})
        write_hashes(temporary)
        # One that is there already was damaged: the run went on from an earlier one. So was any of a later step.
        shutil.rmtree(final, ignore_errors=True)
    saved = checkpoints(folder)
    later = [path for path in saved if step_of(path) > state.step]
    earlier = [path for path in saved if step_of(path) < state.step]
    between = [path for path in earlier if every and step_of(path) % every]
    counted = [path for path in [*earlier, final] if path not in between]
    for old in later + (between + counted[:-keep] if keep else []):
        shutil.rmtree(old)
    return final


def checkpoints(folder: Path) -> list[Path]:
    """Return the checkpoints of a run, damaged ones too, oldest first."""
    found = [path for path in folder.glob("step_*") if re.fullmatch(r"step_\d+", path.name) and path.is_dir()]
    return sorted(found, key=step_of)


def step_of(checkpoint: Path) -> int:
    """Return the steps that were finished at a checkpoint."""
    return int(checkpoint.name.removeprefix("step_"))


def last_whole_checkpoint(folder: Path, workers: Workers = ALONE) -> Path | None:
    """Return the latest checkpoint whose files are as they were written; None where none was ever saved.

    Passing over a damaged one is said on stderr, in one line.

    Raises:
        ValueError: every checkpoint is damaged.
    """
    damaged: list[str] = []
    for checkpoint in reversed(checkpoints(folder)):
        fault = damage(checkpoint)
        if fault is None:
            if damaged:
                workers.say(f"damaged: {'; '.join(damaged)}. Going on from {checkpoint.name}.")
            return checkpoint
        damaged.append(f"{checkpoint.name} ({fault})")
    if damaged:
        raise ValueError(
            f"resume must find a whole checkpoint in {folder}; got damaged ones alone: {'; '.join(damaged)}. "
            "Bring one back from a copy, or start the run again with --overwrite."
        )
    return None


def load_checkpoint(checkpoint: Path) -> tuple[dict[str, Any], RunState]:
    """Return the optimiser's state, as `load_state_dict` takes it, and the run's."""
    saved = read_state(checkpoint / STATE)
    state = saved["state"]
    return saved["optimizer"], RunState(**{**state, "scale": OnlineScale(**state["scale"])})
