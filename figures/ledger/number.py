"""A number that a claim quotes, and how it is written."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Number:
    """A number of a table.

    Args:
        value: None where its rows are not there, or where it lies beyond what can be judged.
        low: lower end of its interval; None where it has none.
        high: upper end.
        over: what it is of: seeds, prompts, repeats.
        seeds: training runs that it is of; None where it is not of such.
        spread: whether the interval is the least and the greatest seed, rather than a 95 % interval.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    over: str = ""
    seeds: int | None = None
    spread: bool = False

    @property
    def has_interval(self) -> bool:
        """Whether an end of its interval was measured; the other may lie beyond what can be judged."""
        return self.low is not None or self.high is not None

    @property
    def is_there(self) -> bool:
        """Whether it was measured, be it only that it lies beyond what can be judged."""
        return self.value is not None or self.has_interval


MISSING = Number(None)


def as_text(number: Number, form: str) -> str:
    """Return a number with its interval and what it is of.

    >>> as_text(Number(0.375, 0.25, 0.5, "seeds 0, 1", 2, True), ".2f")
    '0.38 (0.25 to 0.50; seeds 0, 1)'
    >>> as_text(Number(0.5, 0.4, 0.6, "5 seeds"), ".0%"), as_text(Number(None), ".2f")
    ('50% [40%, 60%] (5 seeds)', 'not yet measured')
    >>> as_text(Number(None, 1600, None, "5 seeds"), ".0f")
    'not seen [1600, -] (5 seeds)'
    """
    if not number.is_there:
        return "not yet measured"
    measured = [end for end in (number.low, number.high) if end is not None]
    parts = ["not seen" if number.value is None else f"{number.value:{form}}"]
    ends = [("-" if end is None else f"{end:{form}}") for end in (number.low, number.high)] if measured else []
    brackets = [number.over] if number.over else []
    if ends and number.spread and number.low != number.high:
        brackets.insert(0, f"{ends[0]} to {ends[1]}")
    elif ends and not number.spread:
        parts.append(f"[{ends[0]}, {ends[1]}]")
    if brackets:
        parts.append(f"({'; '.join(brackets)})")
    return " ".join(parts)
