"""A checkpoint as a plain Hugging Face model folder: adapters merged in, the trainer's own state left out."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from trainer.checkpoint import last_whole_checkpoint
from trainer.files import new_folder
from trainer.hashes import HASH_FILE, damage
from trainer.model import Policy, load_policy, with_lora

ADAPTER = "adapter_config.json"
CHECKPOINTS = "checkpoints"
# Largest difference of logits, as a share of the largest of them. Merging in float32 rounds each weight and sum anew;
# rounding all weights to half precision moves logits by a few times its unit.
TOLERANCE = {"float32": 1e-4, "bfloat16": 0.1, "float16": 0.02}
CHECKED_TOKENS = 8


@dataclass(frozen=True)
class ExportConfig:
    """How a checkpoint is exported.

    Args:
        dtype: type of the weights that are written.
        base: the model under the adapters, where it is no longer at the place that the checkpoint names.
    """

    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    base: str | None = None


@dataclass(frozen=True)
class Export:
    """What was written.

    Args:
        output: the folder.
        merged: whether adapters were merged in.
        difference: largest difference of the exported model's logits from the checkpoint's.
        scale: the largest of those logits.
    """

    output: Path
    merged: bool
    difference: float
    scale: float


def export(checkpoint: Path, output: Path, config: ExportConfig = ExportConfig()) -> Export:
    """Write a checkpoint as a model that any program reads, once its logits are those of the checkpoint.

    The folder holds weights, configuration, generation configuration and tokenizer with its chat template.

    Args:
        checkpoint: a checkpoint of a run, of all weights or of adapters; of a run directory its latest whole one.
        output: a new or empty folder.
        config: how.

    Raises:
        FileNotFoundError: no checkpoint there, or no base model where the adapters' configuration says.
        FileExistsError: the output holds files.
        ImportError: adapters without the extra `lora`.
        ValueError: a damaged checkpoint, or an exported model that is not the checkpoint's; nothing is left behind.
    """
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise FileExistsError(f"export(output={str(output)!r}) must be a new or empty folder; got one with files.")
    if (checkpoint / CHECKPOINTS).is_dir():
        checkpoint = last_whole_checkpoint(checkpoint / CHECKPOINTS) or checkpoint
    policy = load_checkpoint(checkpoint, config.base)
    merged = (checkpoint / ADAPTER).is_file()
    before = sample_logits(policy.model)
    if merged:
        policy = replace(policy, model=policy.model.merge_and_unload())
    with new_folder(output) as unfinished:
        policy.model.to(getattr(torch, config.dtype))
        policy.save(unfinished)
        after = sample_logits(load_policy(str(unfinished), device="cpu").model)
        found = Export(output, merged, float((after - before).abs().max()), float(before.abs().max()))
        share = TOLERANCE[config.dtype]
        if not found.difference <= share * found.scale:
            raise ValueError(
                f"export(checkpoint={str(checkpoint)!r}, dtype={config.dtype!r}) must keep the logits to {share:g} of "
                f"the largest, {found.scale:.4g}; got a difference of {found.difference:.4g}. Export in float32, and "
                "look at the checkpoint's weights."
            )
    return found


def load_checkpoint(checkpoint: Path, base: str | None = None) -> Policy:
    """Return a checkpoint's policy in float32 on the CPU, adapters on their base model."""
    if (checkpoint / HASH_FILE).is_file() and (fault := damage(checkpoint)):
        raise ValueError(
            f"export(checkpoint={str(checkpoint)!r}) must be as it was written; got damage: {fault}. "
            "Take another checkpoint of the run."
        )
    if not (checkpoint / ADAPTER).is_file():
        return load_policy(str(checkpoint.resolve()) if checkpoint.is_dir() else str(checkpoint), device="cpu")
    saved = json.loads((checkpoint / ADAPTER).read_text(encoding="utf-8"))
    place = base or saved["base_model_name_or_path"]
    try:
        policy = load_policy(place, device="cpu")
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"export(checkpoint={str(checkpoint)!r}) must find the adapters' base model; got none at {place!r}. "
            "Say where it is with --base."
        ) from error
    return with_lora(policy, rank=saved["r"], alpha=saved["lora_alpha"], seed=0, checkpoint=checkpoint)


@torch.no_grad()
def sample_logits(model: Any) -> Tensor:
    """Return float32 logits `[1, n, V]` of a few tokens spread over the vocabulary."""
    vocabulary = model.get_input_embeddings().weight.shape[0]
    tokens = torch.linspace(0, vocabulary - 1, CHECKED_TOKENS).long()[None]
    return model(input_ids=tokens, use_cache=False).logits.float()
