"""Means over repeats with their standard errors, as columns of a table and as text of a finding."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd


def each(frame: pd.DataFrame) -> Iterator[Any]:
    """Yield the rows of a table, columns as attributes.

    >>> [row.fall for row in each(pd.DataFrame({"fall": [1.0, 2.0]}))]
    [1.0, 2.0]
    """
    yield from frame.itertuples()


def records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the rows of a table as mappings from column to value."""
    return [{str(name): value for name, value in row.items()} for row in frame.to_dict("records")]


def mean_error(name: str, values: pd.Series) -> dict[str, float]:
    """Return `name` and `name_error`: a mean over repeats and its standard error, 0 for a single one; NaN are left out.

    >>> mean_error("fall", pd.Series([1.0, 3.0]))
    {'fall': 2.0, 'fall_error': 1.0}
    """
    given = values.dropna().to_numpy(dtype=float)
    error = float(given.std(ddof=1)) / len(given) ** 0.5 if len(given) > 1 else 0.0
    return {name: float(given.mean()) if len(given) else float("nan"), f"{name}_error": error}


def ratio_error(name: str, top: pd.Series, bottom: pd.Series) -> dict[str, float]:
    """Return the ratio of two means over the same repeats and its standard error, to first order in both's noise.

    NaN where there are no repeats, or the lower mean is 0.

    >>> ratio_error("ratio", pd.Series([2.0, 4.0]), pd.Series([1.0, 2.0]))  # noise that both share cancels
    {'ratio': 2.0, 'ratio_error': 0.0}
    """
    if len(bottom) == 0 or bottom.mean() == 0:
        return {name: float("nan"), f"{name}_error": float("nan")}
    value = float(top.mean() / bottom.mean())
    return {name: value, f"{name}_error": mean_error("off", (top - value * bottom) / bottom.mean())["off_error"]}


def power(x: pd.Series, y: pd.Series) -> tuple[float, float]:
    """Return exponent and R^2 of the least-squares line of log y on log x; NaN where a y is not above 0.

    >>> power(pd.Series([1.0, 2.0, 4.0]), pd.Series([3.0, 12.0, 48.0]))
    (2.0, 1.0)
    """
    if len(x) < 2 or not bool((y > 0).all()):
        return float("nan"), float("nan")
    a, b = np.log(x.to_numpy(float)), np.log(y.to_numpy(float))
    a, b = a - a.mean(), b - b.mean()
    slope = float((a * b).sum() / (a * a).sum())
    spread = float((b * b).sum())
    fit = 1.0 if spread == 0 else 1 - float(((b - slope * a) ** 2).sum()) / spread
    return round(slope, 12), round(fit, 12)


def text(value: float, error: float | None = None, digits: int = 3, sign: bool = False) -> str:
    """Return a number and its standard error, "none" for NaN.

    >>> text(1.5, 0.25, digits=2, sign=True)
    '+1.50 +- 0.25'
    """
    if np.isnan(value):
        return "none"
    number = f"{value:+.{digits}f}" if sign else f"{value:.{digits}f}"
    return number if error is None else f"{number} +- {error:.{digits}f}"
