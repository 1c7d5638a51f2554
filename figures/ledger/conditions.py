"""What a claim's numbers must be for it to hold, and the verdict that follows from them."""

import operator
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from figures.ledger.number import Number

COMPARISONS = {"<=": operator.le, ">=": operator.ge, "<": operator.lt, ">": operator.gt}
FORM = re.compile(r"(?P<left>[\w.]+) (?P<sign><=|>=|<|>) (?P<right>-?[\w.]+)")
ENOUGH_SEEDS = 2


@dataclass(frozen=True)
class Condition:
    """A comparison of a number, or of an end of its interval, with another one or with a constant.

    Args:
        left: `name`, `name.low` or `name.high`.
        sign: of `COMPARISONS`.
        right: likewise, or a constant.
    """

    left: str
    sign: str
    right: str

    @property
    def names(self) -> set[str]:
        """The numbers that it is about."""
        return {side.partition(".")[0] for side in (self.left, self.right) if side[0].isalpha()}

    def holds(self, numbers: Mapping[str, Number]) -> bool | None:
        """Return whether it holds; None where that cannot be said.

        That is where a number, or the end of an interval, is not there, and where other ends of the intervals that are
        compared would meet it.
        """
        left, right = value_of(self.left, numbers), value_of(self.right, numbers)
        if left is None or right is None:
            return None
        compare = COMPARISONS[self.sign]
        if compare(left, right):
            return True
        others = [[value, *end_beyond(side, numbers)] for side, value in ((self.left, left), (self.right, right))]
        return None if any(compare(one, two) for one in others[0] for two in others[1]) else False


def condition_of(text: str) -> Condition:
    """Return the condition of a text.

    Raises:
        ValueError: another form.

    >>> condition_of("rmse.high <= 0.05")
    Condition(left='rmse.high', sign='<=', right='0.05')
    """
    found = FORM.fullmatch(text)
    if not found:
        raise ValueError(f"ledger condition({text!r}) must read `name < 0.5` or `name.low > other`. Mend its spelling.")
    return Condition(**found.groupdict())


def other_end(side: str) -> str:
    """Return the other end of an interval.

    >>> other_end("rmse.low")
    'rmse.high'
    """
    name, _, end = side.partition(".")
    return f"{name}.{'high' if end == 'low' else 'low'}"


def end_beyond(side: str, numbers: Mapping[str, Number]) -> list[float]:
    """Return the other end of the interval whose end is compared, nothing where none is."""
    other = value_of(other_end(side), numbers) if "." in side and side[0].isalpha() else None
    return [] if other is None else [other]


def value_of(side: str, numbers: Mapping[str, Number]) -> float | None:
    """Return the value of a side of a comparison, None where it was not measured."""
    if not side[0].isalpha():
        return float(side)
    name, _, end = side.partition(".")
    value = getattr(numbers[name], end or "value")
    return None if value is None or value != value else float(value)


def follows(conditions: Sequence[Condition], numbers: Mapping[str, Number]) -> str:
    """Return the verdict that follows from the numbers: all conditions, some, or none of them hold.

    Where some hold and some do not, the others cannot change it. Else it depends on those that cannot be judged:
    `not yet` where one of them is not measured, or on fewer than `ENOUGH_SEEDS` seeds, and `open` where all are.

    >>> three = {"x": Number(3.0, 2.0, 4.0), "y": Number(3.0, seeds=1)}
    >>> [follows([condition_of(f"x > {least}") for least in pair], three) for pair in ((1, 2), (2, 4), (4, 5))]
    ['holds', 'in part', 'does not']
    >>> [follows([condition_of("x > 1"), condition_of(text)], three) for text in ("x.low > 3", "y > 1")]
    ['open', 'not yet']
    >>> follows([condition_of(text) for text in ("x > 1", "x > 4", "y > 1")], three)
    'in part'
    """
    measured = {condition: is_measured(condition, numbers) for condition in conditions}
    found = [condition.holds(numbers) if measured[condition] else None for condition in conditions]
    if True in found and False in found:
        return "in part"
    if not all(measured.values()):
        return "not yet"
    if None in found:
        return "open"
    return "holds" if all(found) else "does not"


def is_measured(condition: Condition, numbers: Mapping[str, Number]) -> bool:
    """Return whether all that a condition compares is there, of `ENOUGH_SEEDS` training runs where it is of such."""
    for side in filter(lambda text: text[0].isalpha(), (condition.left, condition.right)):
        name, _, end = side.partition(".")
        number = numbers[name]
        there = number.has_interval if end else number.is_there
        if not there or (number.seeds is not None and number.seeds < ENOUGH_SEEDS):
            return False
    return True
