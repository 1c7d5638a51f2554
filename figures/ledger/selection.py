"""Numbers selected from any of the committed tables; what has no rows has no value."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pandas as pd

from figures.ledger.number import MISSING, Number
from figures.load import near_entropy
from figures.paper.table_arithmetic import averages
from figures.study import STUDIES, Data

NORMAL_95 = 1.96
STATISTICS: dict[str, Callable[[pd.Series], float]] = {
    "mean": lambda found: float(found.mean()),
    "min": lambda found: float(found.min()),
    "max": lambda found: float(found.max()),
}


def table_of(data: Data, name: str) -> pd.DataFrame:
    """Return a table of `figures/data`, without its ending; those of the training study from where `data` has them."""
    folder, _, stem = name.rpartition("/")
    return getattr(data.training(folder), stem) if folder in STUDIES else data.table(name, ())


def rows_where(rows: pd.DataFrame, where: Mapping[str, Any]) -> pd.DataFrame:
    """Return the rows whose columns have these values, are among these values, or have the `largest` one there is.

    >>> rows_where(pd.DataFrame({"a": [1, 2, 2], "b": [3, 4, 5]}), {"a": "largest", "b": [3, 5]}).b.tolist()
    [5]
    """
    for column, wanted in where.items():
        if wanted == "largest":
            rows = rows[rows[column] == rows[column].max()]
        else:
            rows = rows[rows[column].isin(wanted if isinstance(wanted, list) else [wanted])]
    return rows


def select(
    data: Data,
    *,
    table: str,
    column: str,
    where: Mapping[str, Any] | None = None,
    near: float | None = None,
    at_least: Mapping[str, float] | None = None,
    at_most: Mapping[str, float] | None = None,
    less: str = "",
    weight: str = "",
    statistic: str = "only",
    minus: Mapping[str, Any] | None = None,
    over: Mapping[str, Any] | None = None,
    error: str = "",
    interval: Sequence[str] = (),
) -> Number:
    """Return a statistic of a column over some rows of a table.

    Args:
        data: the tables.
        table: file of `figures/data` without its ending.
        column: of the number.
        where: values of columns, as `rows_where` takes them.
        near: of every family, the rows at the nearest entropy, nats.
        at_least: least values of columns.
        at_most: greatest values of columns.
        less: column that is taken off first.
        weight: column of weights, for a mean.
        statistic: of `STATISTICS`, or the `only` row there must be.
        minus: changes to `where`; the statistic there is taken off.
        over: likewise; the relative difference to the statistic there, in percent.
        error: column of the standard error, for a 95 % interval.
        interval: columns of its ends.

    Raises:
        ValueError: several rows where one is asked for.
    """
    every = table_of(data, table)
    if every.empty:
        return MISSING

    def chosen(changes: Mapping[str, Any]) -> pd.DataFrame:
        rows = rows_where(every, {**(where or {}), **changes})
        rows = rows if near is None or rows.empty else near_entropy(rows, near)
        for name, bound in (at_least or {}).items():
            rows = rows[rows[name] >= bound]
        for name, bound in (at_most or {}).items():
            rows = rows[rows[name] <= bound]
        return rows

    def value(changes: Mapping[str, Any]) -> float | None:
        rows = chosen(changes)
        found = rows[column] - rows[less] if less else rows[column]
        if rows.empty:
            return None
        if statistic == "only":
            if len(rows) > 1:
                raise ValueError(f"ledger select(table={table!r}) must find one row; got {len(rows)}. Narrow `where`.")
            return float(found.iloc[0])
        if weight:
            kept = rows[weight] > 0
            return float((found * rows[weight])[kept].sum() / rows[weight][kept].sum())
        return STATISTICS[statistic](found)

    here = value({})
    if here is None:
        return MISSING
    for changes in (minus, over):
        if changes is not None:
            there = value(changes)
            if there is None:
                return MISSING
            return Number(here - there if changes is minus else 100 * (here / there - 1))
    if error:
        reach = NORMAL_95 * float(chosen({})[error].iloc[0])
        return Number(here, here - reach, here + reach)
    low, high = (float(chosen({})[name].iloc[0]) for name in interval) if interval else (None, None)
    return Number(here, low, high)


def averages_off(data: Data) -> Number:
    """Return how many averages of the paper's tables are not those of their columns, within rounding."""
    found = averages(data.paper())
    return Number(float((~found.agrees).sum()), over=f"{len(found)} averages") if len(found) else MISSING


def violations(data: Data, *, tokens: int, near: float) -> Number:
    """Return the share of responses for which Theorem 2's condition holds and its conclusion fails, mean over families.

    With c the share of the condition, r of the conclusion, a of both or neither: `(1 - a + c - r) / 2`.

    Args:
        data: the tables.
        tokens: length of the responses.
        near: entropy of the policies, nats.
    """
    rows = rows_where(table_of(data, "audit/responses"), {"vocabulary": "largest", "tokens": tokens})
    rows = rows if rows.empty else near_entropy(rows, near)
    return Number(float(((1 - rows.agree + rows.condition - rows.rule) / 2).mean())) if len(rows) else MISSING
