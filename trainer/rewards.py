"""Scoring: calls the reward function and checks what it returns."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from trainer.methods.stages import RewardFunction


def score(
    reward: RewardFunction, rows: Sequence[dict[str, Any]], completions: list[str], completion_ids: list[list[int]]
) -> Tensor:
    """Return the rewards `[P, G]`, float32.

    Args:
        reward: the reward function.
        rows: P data rows; each serves G completions in a row.
        completions: P * G texts.
        completion_ids: their tokens, the end token included.

    Raises:
        ValueError: not one finite number for each completion.
    """
    group_size = len(completions) // len(rows)
    repeated = [row for row in rows for _ in range(group_size)]
    columns = {name: [row[name] for row in repeated] for name in rows[0] if name != "prompt"}
    values = reward(
        prompts=[row["prompt"] for row in repeated], completions=completions, completion_ids=completion_ids, **columns
    )
    name = getattr(reward, "__qualname__", type(reward).__name__)
    count = len(values) if hasattr(values, "__len__") else f"a {type(values).__name__}"
    if count != len(completions):
        raise ValueError(
            f"score({name}) must return one reward a completion ({len(completions)}); got {count}. "
            "Return a list of the same length as `completions`."
        )
    for index, value in enumerate(values):
        if not is_reward(value):
            raise ValueError(
                f"score({name}) must return finite numbers; got {value} for completion {index}, "
                f"{completions[index][:60]!r}. Return a number for every completion."
            )
    return torch.tensor([float(value) for value in values]).reshape(len(rows), group_size)


def is_reward(value: Any) -> bool:
    """Return whether a value is a number that float32 holds."""
    if isinstance(value, str):
        return False
    try:
        return abs(float(value)) <= torch.finfo(torch.float32).max
    except (TypeError, ValueError):
        return False


def signed(rewards: Tensor) -> Tensor:
    """Return 2 r - 1: the 0/1 convention as -1/+1.

    Raises:
        ValueError: rewards outside [0, 1].

    >>> signed(torch.tensor([[0.0, 1.0]]))
    tensor([[-1.,  1.]])
    """
    if bool((rewards < 0).any()) or bool((rewards > 1).any()):
        raise ValueError(
            f"signed(rewards) must be given rewards in [0, 1]; got {float(rewards.min())} to {float(rewards.max())}. "
            "Set reward.convention: as_is."
        )
    return 2 * rewards - 1
