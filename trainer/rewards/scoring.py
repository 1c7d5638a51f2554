"""Scoring: calls the reward functions, checks what they return, and adds it up."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from trainer.methods.stages import RewardFunction


@dataclass(frozen=True)
class Part:
    """One of a run's reward functions.

    Args:
        name: what messages and metrics call it.
        function: scores completions.
        weight: its factor in the total.
    """

    name: str
    function: RewardFunction
    weight: float = 1.0

    @property
    def failures(self) -> int:
        """Return how many checks of the function have failed so far; 0 for one that does not say."""
        return getattr(self.function, "failures", 0)


@dataclass(frozen=True)
class Rewards:
    """A run's reward functions; the first is the judge, which says in evaluation whether a completion is right.

    Args:
        parts: at least one.
    """

    parts: tuple[Part, ...]

    @classmethod
    def of(cls, reward: "RewardFunction | Rewards") -> "Rewards":
        """Return rewards as they are, and a function as the only one, under its own name."""
        if isinstance(reward, Rewards):
            return reward
        return cls((Part(getattr(reward, "__qualname__", type(reward).__name__), reward),))

    @property
    def judge(self) -> Part:
        """Return the first function."""
        return self.parts[0]

    def close(self) -> None:
        """End the processes that functions have started; each starts anew when it is called again."""
        for part in self.parts:
            close = getattr(part.function, "close", None)
            if close is not None:
                close()


@dataclass(frozen=True)
class Scores:
    """The rewards of a batch.

    Args:
        total: the weighted sum over the functions that answered.
        parts: what each function gave, by name; NaN where it answered None.
        failures: checks that failed in this batch, by name, of functions that count them in an attribute `failures`.
    """

    total: Float[Tensor, "P G"]
    parts: Mapping[str, Float[Tensor, "P G"]]
    failures: Mapping[str, int]

    @property
    def info(self) -> dict[str, float]:
        """Return numbers to log: each function's mean where there are several, and how many checks failed."""
        means = {f"reward/{name}": float(part.double().nanmean()) for name, part in self.parts.items()}
        failed = {"reward/failures": float(sum(self.failures.values()))} if self.failures else {}
        return {**(means if len(means) > 1 else {}), **failed}


def score(
    reward: RewardFunction | Rewards,
    rows: Sequence[dict[str, Any]],
    completions: list[str],
    completion_ids: list[list[int]],
) -> Scores:
    """Return the rewards of completions, in torch's default type.

    total = sum over functions of weight * reward, over those that did not answer None.

    Args:
        reward: a function, or several with their weights.
        rows: P data rows; each serves G completions in a row.
        completions: P * G texts.
        completion_ids: their tokens, the end token included.

    Raises:
        ValueError: not one finite number or None for each completion, or None from every function for one.

    >>> def length(prompts, completions, completion_ids, **columns):
    ...     return [float(len(ids)) for ids in completion_ids]
    >>> score(length, [{"prompt": "p"}], ["a", "b c"], [[1, 0], [1, 2, 0]]).total
    tensor([[2., 3.]])
    """
    parts = Rewards.of(reward).parts
    before = [part.failures for part in parts]
    answers = [answers_of(part, rows, completions, completion_ids) for part in parts]
    totals = [weighted(parts, values, completions, index) for index, values in enumerate(zip(*answers, strict=True))]
    shape = (len(rows), len(completions) // len(rows))
    return Scores(
        total=torch.tensor(totals).reshape(shape),
        parts={part.name: as_tensor(values, shape) for part, values in zip(parts, answers, strict=True)},
        failures={
            part.name: part.failures - count
            for part, count in zip(parts, before, strict=True)
            if hasattr(part.function, "failures")
        },
    )


def judged(
    reward: RewardFunction | Rewards,
    rows: Sequence[dict[str, Any]],
    completions: list[str],
    completion_ids: list[list[int]],
) -> Float[Tensor, "P G"]:
    """Return what the judge alone gives; NaN where it answers None. Arguments and errors are those of `score`."""
    answers = answers_of(Rewards.of(reward).judge, rows, completions, completion_ids)
    return as_tensor(answers, (len(rows), len(completions) // len(rows)))


def answers_of(
    part: Part, rows: Sequence[dict[str, Any]], completions: list[str], completion_ids: list[list[int]]
) -> list[float | None]:
    """Return what one function gives for each completion."""
    group_size = len(completions) // len(rows)
    repeated = [row for row in rows for _ in range(group_size)]
    columns = {name: [row[name] for row in repeated] for name in rows[0] if name != "prompt"}
    values = part.function(
        prompts=[row["prompt"] for row in repeated], completions=completions, completion_ids=completion_ids, **columns
    )
    count = len(values) if hasattr(values, "__len__") else f"a {type(values).__name__}"
    if count != len(completions):
        raise ValueError(
            f"score({part.name}) must return one reward a completion ({len(completions)}); got {count}. "
            "Return a list of the same length as `completions`."
        )
    for index, value in enumerate(values):
        if value is not None and not is_reward(value):
            raise ValueError(
                f"score({part.name}) must return finite numbers; got {value} for completion {index}, "
                f"{completions[index][:60]!r}. Return a number for every completion, or None where none applies."
            )
    return [None if value is None else float(value) for value in values]


def weighted(parts: Sequence[Part], values: Sequence[float | None], completions: list[str], index: int) -> float:
    """Return the total of one completion."""
    given = [part.weight * value for part, value in zip(parts, values, strict=True) if value is not None]
    names = ", ".join(part.name for part in parts)
    if not given:
        raise ValueError(
            f"score({names}) must give every completion a reward; got None from every function for completion {index}, "
            f"{completions[index][:60]!r}. Name a further reward that applies to its row, or take the row out."
        )
    total = sum(given)
    if not is_reward(total):
        raise ValueError(
            f"score({names}) must add up to finite numbers; got {total} for completion {index}, "
            f"{completions[index][:60]!r}. Lower the weights in reward.function."
        )
    return total


def is_reward(value: Any) -> bool:
    """Return whether a value is a number that float32 holds."""
    if isinstance(value, str):
        return False
    try:
        return abs(float(value)) <= torch.finfo(torch.float32).max
    except (TypeError, ValueError):
        return False


def as_tensor(values: Sequence[float | None], shape: tuple[int, int]) -> Tensor:
    """Return values `[P, G]`, NaN for None."""
    return torch.tensor([math.nan if value is None else value for value in values]).reshape(shape)


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
            "Set reward.convention: as_is, or give several rewards weights that keep their sum there."
        )
    return 2 * rewards - 1
