"""The paper's published numbers, and which of its rows our arms correspond to."""

from collections.abc import Iterable

import pandas as pd

from figures.arms import ARMS
from figures.style import INK, Line

# The methods of the paper's Table 2 that our study has no arm for; the others look as their arms do.
UNMATCHED = {
    "GSPO": Line("#777777", "--", "o"),
    "GSPO+EntropyLoss": Line("#777777", "--", "v"),
    "GSPO+Clip-Higher": Line("#777777", "--", "P"),
    "GSPO+Clip-Cov": Line("#777777", "--", "X"),
    "GSPO+Entrocraft": Line("#777777", "--", "s"),
}


def pick(numbers: pd.DataFrame, **wanted: object) -> pd.DataFrame:
    """Return the rows whose columns have these values."""
    for column, value in wanted.items():
        numbers = numbers[numbers[column] == value]
    return numbers


def value(numbers: pd.DataFrame, **wanted: object) -> float | None:
    """Return the only number of these rows, None where the paper prints none."""
    found = pick(numbers, **wanted)
    return float(found.value.iloc[0]) if len(found) else None


def line_of_method(method: str) -> Line:
    """Return the look of a method of the paper: that of the first arm that corresponds to it."""
    return next((arm.line for arm in ARMS.values() if arm.paper == method), UNMATCHED.get(method, Line(INK, "-", "o")))


def methods(numbers: pd.DataFrame) -> Iterable[str]:
    """Return the methods of these rows, in the order printed."""
    return dict.fromkeys(numbers.method)
