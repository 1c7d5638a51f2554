"""Numbers of the training study, over the seeds of an arm; what has no rows has no value."""

from collections.abc import Iterable, Mapping

import pandas as pd

from figures.ledger.number import MISSING, Number
from figures.ledger.selection import rows_where
from figures.study import Data


def over_runs(values: Mapping[int, float]) -> Number:
    """Return the mean over seeds, with the least and the greatest.

    >>> over_runs({0: 0.5, 1: 0.25})
    Number(value=0.375, low=0.25, high=0.5, over='seeds 0, 1', seeds=2, spread=True)
    """
    known = {seed: value for seed, value in sorted(values.items()) if value == value}
    if not known:
        return MISSING
    name = f"seed{'s' if len(known) > 1 else ''} {', '.join(map(str, known))}"
    mean = sum(known.values()) / len(known)
    return Number(mean, min(known.values()), max(known.values()), name, len(known), spread=True)


def by_seed(rows: pd.DataFrame, part: str, arm: str) -> Iterable[tuple[int, pd.DataFrame]]:
    """Yield the rows of a part and arm of the training study seed by seed."""
    for seed, same in rows[(rows.part == part) & (rows.arm == arm)].groupby("seed"):
        yield int(str(seed)), same


def run(data: Data, *, part: str, arm: str, column: str, minus: str = "") -> Number:
    """Return a column of `runs.csv` over the seeds of an arm, or its difference to another arm's, seed by seed."""

    def values(name: str) -> dict[int, float]:
        return {seed: float(rows[column].iloc[0]) for seed, rows in by_seed(data.study.runs, part, name)}

    found = values(arm)
    if minus:
        others = values(minus)
        found = {seed: value - others[seed] for seed, value in found.items() if seed in others}
    return over_runs(found)


def entropy_change(data: Data, *, part: str, arm: str) -> Number:
    """Return the entropy of the last 10 steps less that of the first 5, nats/token."""
    ends = {seed: float(rows.entropy_end.iloc[0]) for seed, rows in by_seed(data.study.runs, part, arm)}
    curves = dict(by_seed(data.study.curves, part, arm))
    starts = {seed: float(rows.sort_values("step").entropy.iloc[0]) for seed, rows in curves.items()}
    return over_runs({seed: end - starts[seed] for seed, end in ends.items() if seed in starts})


def likelier(data: Data, *, part: str, arm: str) -> Number:
    """Return the share of 5-step bins in which positives have the higher log-likelihood."""
    found = {}
    for seed, rows in by_seed(data.study.curves, part, arm):
        both = rows.dropna(subset=["log_likelihood_positive", "log_likelihood_negative"])
        found[seed] = float((both.log_likelihood_positive > both.log_likelihood_negative).mean())
    return over_runs(found)


def filtered_change(data: Data, *, part: str, arm: str, column: str, side: int) -> Number:
    """Return a column's mean over the later half of the filtered 5-step bins less that over the earlier half.

    Args:
        data: the tables.
        part: of the study.
        arm: of the part.
        column: of `curves.csv`.
        side: 1 for bins wholly above the band, -1 for those below it.
    """
    found = {}
    for seed, rows in by_seed(data.study.curves, part, arm):
        values = rows[rows.band_indicator == side].sort_values("step")[column]
        half = len(values) // 2
        if half:
            found[seed] = float(values.iloc[-half:].mean() - values.iloc[:half].mean())
    return over_runs(found)


def comparison(data: Data, *, part: str, arm: str, setting: str, quantity: str, comparison: str) -> Number:
    """Return a row of `comparison.csv`, with its 95 % interval over seeds and prompts."""
    wanted = {"part": part, "arm": arm, "setting": setting, "quantity": quantity, "comparison": comparison}
    rows = rows_where(data.study.comparison, wanted)
    if rows.empty:
        return MISSING
    row = rows.iloc[0]
    seeds = int(row.seeds)
    low, high = (None if end != end else float(end) for end in (row.low, row.high))
    return Number(float(row.value), low, high, f"{seeds} seed{'s' if seeds > 1 else ''}", seeds)
