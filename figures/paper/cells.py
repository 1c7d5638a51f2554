"""Cells of the paper's tables: published numbers, and ours with their intervals, as text."""

from collections.abc import Mapping, Sequence

import pandas as pd

from figures.estimates import Estimate, estimate
from figures.paper.published import value

PERCENT = 100
NONE = "-"


def printed(numbers: pd.DataFrame, **wanted: object) -> str:
    """Return a number of the paper as it is printed, a dash where it prints none."""
    found = value(numbers, **wanted)
    return NONE if found is None else f"{found:.1f}"


def measured(rows: pd.DataFrame, k: int) -> str:
    """Return pass@k in percent with its 95 % interval over prompts, a dash where there is no evaluation."""
    return NONE if rows.empty else in_percent(estimate(rows, k))


def in_percent(found: Estimate) -> str:
    """Return an estimate in percent.

    >>> in_percent(Estimate(0.325, 0.28, 0.37))
    '32.5 [28.0, 37.0]'
    """
    if found.value != found.value:
        return NONE
    return f"{PERCENT * found.value:.1f} [{PERCENT * found.low:.1f}, {PERCENT * found.high:.1f}]"


def table(rows: Mapping[str, Mapping[str, str]], columns: Sequence[str] = ()) -> pd.DataFrame:
    """Return rows of cells as a table, empty cells where a row has none."""
    names = list(columns) or list(dict.fromkeys(name for row in rows.values() for name in row))
    return pd.DataFrame([[row.get(name, "") for name in names] for row in rows.values()], list(rows), names)


def without_dashes(found: pd.DataFrame) -> pd.DataFrame:
    """Return the table without the columns that hold nothing.

    >>> without_dashes(pd.DataFrame({"a": ["-", "1"], "b": ["-", ""]})).columns.tolist()
    ['a']
    """
    kept = [name for name in found if not found[name].isin([NONE, ""]).all()]
    return found[kept]
