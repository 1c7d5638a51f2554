"""The rollouts of several processes as one batch."""

from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from trainer.rewards import Scores
from trainer.rollout import Rollouts
from trainer.workers import Workers

# Blocks whose columns are the prompt's and the completion's; the others have the completion's alone.
SEQUENCES = ("tokens", "attention")


def everyones(own: tuple[Rollouts, list[str], Scores], workers: Workers) -> tuple[Rollouts, list[str], Scores]:
    """Return the rollouts, texts and rewards of all processes, by rank, on this process's device."""
    if workers.count == 1:
        return own
    device = own[0].tokens.device
    rollouts, texts, scores = zip(*workers.gather((on_device(own[0], torch.device("cpu")), *own[1:])), strict=True)
    return on_device(joined(rollouts), device), [text for part in texts for text in part], joined_scores(scores)


def joined_scores(parts: Sequence[Scores]) -> Scores:
    """Return the rewards of several batches as those of one."""
    return Scores(
        total=torch.cat([part.total for part in parts]),
        parts={name: torch.cat([part.parts[name] for part in parts]) for name in parts[0].parts},
        failures={name: sum(part.failures[name] for part in parts) for name in parts[0].failures},
    )


def joined(parts: Sequence[Rollouts]) -> Rollouts:
    """Return several batches as one, in this order, prompts padded on the left and completions on the right."""
    completion = max(part.mask.shape[1] for part in parts)
    prompt = max(part.tokens.shape[1] - part.mask.shape[1] for part in parts)

    def widened(name: str, part: Rollouts, values: Tensor) -> Tensor:
        if values.ndim == 1:
            return values
        spare = completion - part.mask.shape[1]
        before = prompt - (part.tokens.shape[1] - part.mask.shape[1]) if name in SEQUENCES else 0
        return pad(values, (before, spare))

    def column(name: str) -> Any:
        return torch.cat([widened(name, part, getattr(part, name)) for part in parts])

    first = parts[0]
    names = [item.name for item in fields(Rollouts) if isinstance(getattr(first, item.name), Tensor)]
    tempered = {
        temperature: torch.cat([widened("", part, part.tempered[temperature]) for part in parts])
        for temperature in first.tempered
    }
    seconds = max(part.statistics_s for part in parts)
    return replace(first, **{name: column(name) for name in names}, tempered=tempered, statistics_s=seconds)


def on_device(rollouts: Rollouts, device: torch.device) -> Rollouts:
    """Return the rollouts with every tensor on a device."""
    tensors: dict[str, Any] = {
        item.name: value.to(device)
        for item in fields(rollouts)
        if isinstance(value := getattr(rollouts, item.name), Tensor)
    }
    tempered = {temperature: values.to(device) for temperature, values in rollouts.tempered.items()}
    return replace(rollouts, **tensors, tempered=tempered)
