"""Rewards for the form of a completion, whatever it answers."""

import re
from dataclasses import dataclass
from typing import Any

THINK_AND_ANSWER = r"\A\s*<think>.+?</think>\s*<answer>.+?</answer>\s*\Z"
BOXED = r"\\boxed\{[^{}]"


@dataclass(frozen=True)
class Format:
    r"""1 where the pattern is found in the completion, else 0.

    By default: the whole completion is `<think>...</think>` and then `<answer>...</answer>`, or it holds a
    `\boxed{...}` that is not empty.

    Args:
        pattern: a regular expression, looked for anywhere (anchor it with `\A` and `\Z`); `.` also matches new lines.

    >>> Format()([], ["<think>6 * 7</think> <answer>42</answer>", r"\boxed{42}", "42"], [])
    [1.0, 1.0, 0.0]
    """

    pattern: str = f"{THINK_AND_ANSWER}|{BOXED}"

    def __post_init__(self) -> None:
        try:
            re.compile(self.pattern, re.DOTALL)
        except re.error as error:
            raise ValueError(
                f"format(pattern={self.pattern!r}) must be a regular expression; got {error}. Mend it."
            ) from error

    def __call__(
        self, prompts: list[Any], completions: list[str], completion_ids: list[list[int]], **columns: Any
    ) -> list[float | None]:
        """Return the rewards."""
        # `re` keeps what it has compiled.
        return [float(re.search(self.pattern, text, re.DOTALL) is not None) for text in completions]


@dataclass(frozen=True)
class Overlong:
    """DAPO's soft overlong punishment: from 0 to -1, to be added to a reward for right answers.

        0                              |y| <= limit - buffer
        (limit - buffer - |y|) / buffer     limit - buffer < |y| <= limit
        -1                             limit < |y|

    with |y| the completion's tokens, the end token included.

    Args:
        limit: tokens from which the punishment is whole (L_max).
        buffer: tokens before it over which the punishment grows (L_cache); 0 takes a fifth of the limit, as DAPO does
            (4,096 of 20,480).

    Source: Yu et al. 2025, arXiv 2503.14476, Equation 13.

    >>> Overlong(limit=10, buffer=4)([], ["", "", ""], [[0] * 6, [0] * 7, [0] * 11])
    [0.0, -0.25, -1.0]
    """

    limit: int
    buffer: int = 0

    def __post_init__(self) -> None:
        if self.limit < 1 or not 0 <= self.buffer <= self.limit:
            raise ValueError(
                f"overlong(limit={self.limit}, buffer={self.buffer}) must have limit >= 1 and 0 <= buffer <= limit. "
                "Set them in reward.options.overlong, in tokens."
            )

    def __call__(
        self, prompts: list[Any], completions: list[str], completion_ids: list[list[int]], **columns: Any
    ) -> list[float | None]:
        """Return the punishments."""
        buffer = self.buffer or self.limit / 5
        free = self.limit - buffer
        return [min(0.0, max(-1.0, (free - len(ids)) / buffer)) for ids in completion_ids]
