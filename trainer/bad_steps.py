"""Steps whose loss or gradient was not finite: the batch is kept to be looked at, and a row of them stops the run."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from trainer.files import write_text, writing
from trainer.methods.stages import Filtered
from trainer.rollout import Rollouts
from trainer.state_files import unshared

FOLDER = "bad_steps"


def save_bad_step(
    run: Path, step: int, rollouts: Rollouts, filtered: Filtered, rows: Iterable[Mapping[str, Any]]
) -> None:
    """Write `bad_steps/step_N.safetensors`, the update's inputs, and `step_N.jsonl`, its texts and rewards.

    Args:
        run: the run directory.
        step: its index.
        rollouts: the batch.
        filtered: what the update used of it.
        rows: one a rollout, as `rollouts/` has them.
    """
    folder = run / FOLDER
    folder.mkdir(exist_ok=True)
    tensors = {name: getattr(rollouts, name) for name in ("tokens", "attention", "mask", "log_prob", "entropy")}
    tensors |= {"advantages": filtered.advantages, "weights": filtered.weights}
    file = folder / f"step_{step}.safetensors"
    with writing(file):
        save_file(unshared(tensors), file)
    write_text(folder / f"step_{step}.jsonl", "".join(json.dumps(row) + "\n" for row in rows))


def forget_bad_steps(run: Path, step: int) -> None:
    """Remove what was kept of this step and later ones, which are taken again."""
    for file in (run / FOLDER).glob("step_*"):
        # A kill while one was written leaves `step_N.jsonl.new`.
        if int(file.name.removeprefix("step_").partition(".")[0]) >= step:
            file.unlink()


def stop_message(count: int, run: Path) -> str:
    """Return what to say when so many steps in a row were bad."""
    return (
        f"the loss or its gradient was not finite in {count} steps in a row (optimizer.bad_steps={count}). No "
        f"mini-batch of that kind moved the weights; the batches are in {run / FOLDER}. Lower optimizer.learning_rate, "
        "look at the loss terms and the clip rule, or take model.dtype float32. With other settings it is another run: "
        "begin it at a checkpoint of this one, with --model.path CHECKPOINT and an output of its own."
    )
