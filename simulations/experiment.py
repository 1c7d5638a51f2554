"""An experiment: one claim, the cells that test it, and the page that shows it.

A cell is the smallest part that is saved by itself: a finished cell is never run again. Cells of an experiment share
nothing but its options, so that a sweep can be stopped and resumed at any of them.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import pandas as pd

Rows = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Cell:
    """One part of a sweep.

    Args:
        key: its name, fit for a file's.
        run: returns its rows, each a mapping from column to number or text.
    """

    key: str
    run: Callable[[], Rows]


@dataclass(frozen=True)
class Panel:
    """A picture of a page: what is drawn of which table.

    Args:
        title: what it shows, one line.
        table: a table's name, of `Experiment.tables`.
        x: column on the horizontal axis.
        y: column on the vertical axis; for `map`, the column of rows.
        kind: `line` with one line a value of `by`, `bar`, `points`, or `map`, coloured cells of `value` over x and y.
        by: column whose values are told apart by colour; "" for none.
        value: column of a map's colours.
        low: column of the lower end of an interval about y; "" for none.
        high: column of its upper end.
        x_label: with the unit.
        y_label: with the unit.
        value_label: of a map's colours, with the unit.
        x_log: logarithmic axis.
        y_log: logarithmic axis.
        reference: columns of the same table drawn as thin lines, such as a prediction or a target.
        zero: draw a line at 0.
    """

    title: str
    table: str
    x: str
    y: str
    kind: Literal["line", "bar", "points", "map"] = "line"
    by: str = ""
    value: str = ""
    low: str = ""
    high: str = ""
    x_label: str = ""
    y_label: str = ""
    value_label: str = ""
    x_log: bool = False
    y_log: bool = False
    reference: tuple[str, ...] = ()
    zero: bool = False


@dataclass(frozen=True)
class Experiment:
    """A claim and its test.

    Args:
        name: as `entrocraft simulate` takes it.
        claim: what is tested, in one or two sentences.
        options: a frozen dataclass of sizes and seeds; its docstring says what each is.
        cells: options -> the cells.
        tables: all rows -> tables by name, each a page's or a reader's; deterministic.
        findings: tables -> what they say, sentences with numbers, whichever way they came out.
        panels: of the page.
    """

    name: str
    claim: str
    options: type
    cells: Callable[[Any], list[Cell]]
    tables: Callable[[pd.DataFrame], dict[str, pd.DataFrame]]
    findings: Callable[[Mapping[str, pd.DataFrame]], list[str]]
    panels: tuple[Panel, ...] = field(default=())


def mean_and_interval(frame: pd.DataFrame, by: list[str], value: str) -> pd.DataFrame:
    """Return the mean of a column over the rows of each group, with mean +- 2 standard errors as `low` and `high`.

    Args:
        frame: rows, one a repeat.
        by: columns of a group.
        value: the column.

    Returns:
        Columns `by`, `value`, `low`, `high`, `error` (standard error; 0 for a single row) and `repeats`.

    >>> mean_and_interval(pd.DataFrame({"a": [1, 1], "v": [1.0, 3.0]}), ["a"], "v")[["v", "error"]].values.tolist()
    [[2.0, 1.0]]
    """
    grouped = frame.groupby(by, sort=False)[value]
    found = grouped.agg(["mean", "sem", "count"]).reset_index()
    found = found.rename(columns={"mean": value, "sem": "error", "count": "repeats"})
    found["error"] = found["error"].fillna(0.0)
    found["low"], found["high"] = found[value] - 2 * found["error"], found[value] + 2 * found["error"]
    return found
