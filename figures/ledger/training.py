"""Numbers of the training study, over the seeds of an arm; what has no rows has no value."""

import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd

from figures.estimates import accuracy_at, t_reach
from figures.ledger.number import MISSING, Number
from figures.ledger.selection import rows_where
from figures.study import STUDIES, Data

CONTROLLERS, LONG = STUDIES
EVALUATIONS = 3


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


def run(data: Data, *, part: str, arm: str, column: str, minus: str = "", study: str = CONTROLLERS) -> Number:
    """Return a column of a study's `runs.csv` over the seeds of an arm, or its difference to another arm's."""

    def values(name: str) -> dict[int, float]:
        return {seed: float(rows[column].iloc[0]) for seed, rows in by_seed(data.training(study).runs, part, name)}

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


def filtered_change(data: Data, *, part: str, arm: str, side: str, study: str = CONTROLLERS) -> Number:
    """Return the effective group size over the later half of a run's steps outside its band less the earlier half.

    Args:
        data: the tables.
        part: of the study.
        arm: of the part.
        side: `above` or `below` the band.
        study: of `STUDIES`.
    """
    found = {}
    for seed, rows in by_seed(data.training(study).curves, part, arm):
        rows = rows[rows[f"share_{side}"] > 0].sort_values("step")
        steps = rows[f"share_{side}"]
        # A row in the middle belongs to both halves by its share.
        later = ((steps.cumsum() - steps.sum() / 2) / steps).clip(0, 1) * steps
        sizes = rows[f"effective_group_size_{side}"]
        if len(rows) > 1:
            after, before = (float((sizes * half).sum() / half.sum()) for half in (later, steps - later))
            found[seed] = after - before
    return over_runs(found)


def progress(data: Data, *, part: str, arm: str, setting: str, start: int, end: int, study: str = LONG) -> Number:
    """Return held-out pass@1 at step `end` less that at `start`, with its 95 % t interval over the seeds.

    Each is a mean of the last `EVALUATIONS` up to its step, as the rules of the long study have it.
    """
    rows = rows_where(data.training(study).evaluations, {"setting": setting})
    found = []
    for _, same in by_seed(rows.sort_values("step"), part, arm):
        right = pd.Series(accuracy_at(same))
        if {start, end} <= set(right.index):
            later, earlier = (float(right.loc[:step].tail(EVALUATIONS).mean()) for step in (end, start))
            found.append(later - earlier)
    if not found:
        return MISSING
    mean, seeds = float(np.mean(found)), len(found)
    low, high = (mean - t_reach(found), mean + t_reach(found)) if seeds > 1 else (None, None)
    return Number(mean, low, high, in_words(seeds), seeds)


def roughness(
    data: Data, *, part: str, arm: str, column: str, start: int = 0, end: int | None = None, study: str = LONG
) -> Number:
    """Return how much a column of `curves.csv` varies from row to row: the spread of its differences over sqrt(2).

    That is the standard deviation of independent rows about a straight line, in the column's unit.

    Args:
        data: the tables.
        part: of the study.
        arm: of the part.
        column: of `curves.csv`.
        start: first step.
        end: step before which they end; None: the last one.
        study: of `STUDIES`.
    """
    found = {}
    for seed, rows in by_seed(data.training(study).curves, part, arm):
        rows = rows[(rows.step >= start) & (rows.step < (math.inf if end is None else end))].sort_values("step")
        if len(rows) > 1:
            found[seed] = float(np.std(np.diff(rows[column])) / math.sqrt(2))
    return over_runs(found)


def comparison(
    data: Data, *, part: str, arm: str, setting: str, quantity: str, comparison: str, study: str = CONTROLLERS
) -> Number:
    """Return a row of `comparison.csv`, with its 95 % interval over seeds and prompts."""
    wanted = {"part": part, "arm": arm, "setting": setting, "quantity": quantity, "comparison": comparison}
    rows = rows_where(data.training(study).comparison, wanted)
    if rows.empty:
        return MISSING
    return estimated(rows.iloc[0], ("low",), ("high",))


def decision(data: Data, *, question: str, quantity: str, comparison: str, setting: str, study: str = LONG) -> Number:
    """Return a row of `decision.csv` with the ends of its 95 % intervals: over seeds and prompts, and t over seeds.

    A plateau that is not seen, and a factor of one, has no value, and the ends that are known.

    Nothing while runs or evaluations of the question are missing.

    Args:
        data: the tables.
        question: of the protocol.
        quantity: `pass@k` or `plateau`.
        comparison: what is compared, as the table names it.
        setting: sampling setting.
        study: of `STUDIES`.
    """
    answers = rows_where(data.training(study).decision, {"question": question})
    if (answers.verdict == "incomplete").any():
        return MISSING
    rows = rows_where(answers, {"quantity": quantity, "comparison": comparison, "setting": setting})
    return MISSING if rows.empty else estimated(rows.iloc[0], ("low", "seeds_low"), ("high", "seeds_high"))


def estimated(row: pd.Series, low: Sequence[str], high: Sequence[str]) -> Number:
    """Return a row's value with the lowest of its lower ends and the highest of its upper ones."""
    seeds = int(row.seeds)
    least, most = (None if pd.isna(end) else float(end) for end in (row[list(low)].min(), row[list(high)].max()))
    value = None if pd.isna(row.value) else float(row.value)
    return Number(value, least, most, in_words(seeds), seeds)


def in_words(seeds: int) -> str:
    """Return a number of seeds in words.

    >>> in_words(1), in_words(5)
    ('1 seed', '5 seeds')
    """
    return f"{seeds} seed{'s' if seeds > 1 else ''}"
