"""What a run says when memory or the disk is full, and the command with which a stopped run goes on."""

import errno
import shlex
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from trainer.checkpoint import checkpoints
from trainer.config import TrainConfig
from trainer.same_run import CHANGE_ROUNDING, dotted_values

# What to change where memory runs out, in order of effect.
SAMPLING = ("rollout.slots",)
PASSES = ("optimizer.micro_batch_tokens", "optimizer.micro_batch_rows", "model.gradient_checkpointing")
MODEL = ("model.lora_rank", "model.weights", "model.dtype", "model.parallel")
KNOBS = {
    "loading": MODEL,
    "rollout": (*SAMPLING, "rollout.group_size", "rollout.prompts", "rollout.max_new_tokens", "theory.tabular", *MODEL),
    "update": (*PASSES, *MODEL, "rollout.max_new_tokens"),
    "theory": (*PASSES, "theory.condition", "theory.probe_rows", "theory.second_order", "theory.enabled", *MODEL),
    "evaluation": ("evaluation.rows_at_once", "evaluation.samples", "rollout.max_new_tokens", *MODEL),
}
HOW = {
    "rollout.slots": "set it, or lower it",
    "optimizer.micro_batch_tokens": "set it, or lower it",
    "model.gradient_checkpointing": "true",
    "theory.tabular": "false",
    "theory.second_order": "false",
    "theory.condition": "false",
    "theory.enabled": "false",
    "model.lora_rank": "above 0 trains adapters alone",
    "model.weights": "bfloat16",
    "model.dtype": "bfloat16",
    "model.parallel": "fsdp2, on several GPUs",
}
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def resume_command(config: TrainConfig) -> str:
    """Return the command with which the run goes on."""
    return f"entrocraft train --config {shlex.quote(str(config.output / 'config.yaml'))} --resume"


def kept(config: TrainConfig) -> str:
    """Return what of the run is on disk, in words."""
    saved = checkpoints(config.output / "checkpoints")
    return f"checkpoint {saved[-1].name} is kept" if saved else "there was no checkpoint yet"


@contextmanager
def explaining_memory(phase: str, config: TrainConfig) -> Iterator[None]:
    """Say which phase of a run ran out of memory, and what to change.

    Args:
        phase: a key of KNOBS.
        config: the run's.

    Raises:
        MemoryError: in place of whatever said that memory has run out.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise MemoryError(memory_message(phase, config, str(error))) from error


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error says that memory has run out, on a GPU or, where torch says it in words, the CPU."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in str(error)


def memory_message(phase: str, config: TrainConfig, said: str) -> str:
    """Return the message: what ran out, what is kept, and what to change, in order of effect."""
    values = dotted_values(config)
    knobs = [name for name in KNOBS[phase] if values[name] != "bfloat16"]
    described = {name: f"{name} (now {values[name]}; {HOW.get(name, 'lower it')})" for name in knobs}
    same = [described[name] for name in knobs if name in CHANGE_ROUNDING]
    other = [described[name] for name in knobs if name not in CHANGE_ROUNDING]
    first_line = (said.splitlines() or ["no memory left"])[0].rstrip(".")
    message = f"{phase} ran out of memory: {first_line}. {kept(config).capitalize()}. In order of effect,"
    if same:
        message += (
            f" change {', '.join(same)} and go on with: {resume_command(config)} SETTINGS. What helps further makes"
        )
    else:
        message += " what helps makes"
    return f"{message} another run: {', '.join(other)}."


@contextmanager
def explaining_full_disk(config: TrainConfig) -> Iterator[None]:
    """Say that the disk is full, what is safe and how to go on.

    Raises:
        OSError: in place of the system's, where it is full.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in FULL:
            raise
        raise OSError(
            f"the disk is full, writing {error.filename or config.output}: {error.strerror}. "
            f"{kept(config).capitalize()}. Make space, then go on with: {resume_command(config)}"
        ) from error
