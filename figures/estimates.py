"""Held-out estimates from counts of right answers, and curves over seeds."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import scipy.stats  # type: ignore[import-untyped]

from figures.audit_tables import each

REPEATS = 1000
LEVEL = 95


@dataclass(frozen=True)
class Estimate:
    """A mean over prompts and seeds.

    Args:
        value: the mean.
        low: lower end of the 95 % bootstrap interval over prompts.
        high: its upper end.
        seeds: the mean of each seed.
    """

    value: float
    low: float
    high: float
    seeds: Sequence[float] = ()


def pass_at_k(right: np.ndarray, samples: int, k: int) -> np.ndarray:
    """Return `1 - C(n-c, k) / C(n, k)`, the chance that k of n samples without replacement hold a right one.

    Args:
        right: c, right answers of each prompt.
        samples: n.
        k: at most n.

    Source:
        Chen et al., arXiv 2107.03374.

    >>> pass_at_k(np.array([0, 1, 4]), 4, 2)
    array([0. , 0.5, 1. ])
    """
    wrong = samples - np.asarray(right, dtype=float)
    factors = np.stack([np.clip(wrong - i, 0, None) / (samples - i) for i in range(k)])
    return 1 - factors.prod(axis=0)


def counts_of(text: str) -> np.ndarray:
    """Return the counts in a table's cell.

    >>> counts_of("3 0 12")
    array([ 3,  0, 12])
    """
    return np.array(text.split(), dtype=int)


def accuracy_at(rows: pd.DataFrame) -> dict[int, float]:
    """Return pass@1 by step, of one evaluation a step."""
    return {int(row.step): float(counts_of(row.counts).mean()) / int(row.samples) for row in each(rows)}


def estimate(rows: pd.DataFrame, k: int) -> Estimate:
    """Return pass@k over the evaluations of several seeds, with prompts resampled for all seeds alike.

    Args:
        rows: one evaluation a seed, of the same prompts.
        k: draws a prompt.
    """
    samples = int(rows.samples.min())
    if k > samples:
        return Estimate(np.nan, np.nan, np.nan)
    values = np.stack([pass_at_k(counts_of(row.counts), int(row.samples), k) for row in each(rows)])
    drawn = np.random.default_rng(0).integers(values.shape[1], size=(REPEATS, values.shape[1]))
    low, high = np.percentile(values.mean(0)[drawn].mean(1), [(100 - LEVEL) / 2, (100 + LEVEL) / 2])
    return Estimate(float(values.mean()), float(low), float(high), tuple(values.mean(1)))


def t_reach(values: Sequence[float]) -> float:
    """Return half of the 95 % interval of Student's t for the mean of values, of which there must be two.

    >>> round(t_reach([1.0, 3.0]), 2)
    12.71
    """
    return float(scipy.stats.t.ppf(0.975, len(values) - 1) * scipy.stats.sem(values))


def over_seeds(rows: pd.DataFrame, column: str) -> pd.DataFrame:
    """Return, of each step, the mean over seeds, the least and the most: columns step, mean, low, high, seeds.

    Steps at which the column is missing for all seeds are left out.
    """
    grouped = rows.dropna(subset=[column]).groupby("step")[column]
    return grouped.agg(mean="mean", low="min", high="max", seeds="count").reset_index()


def smoothed(table: pd.DataFrame, bins: int) -> pd.DataFrame:
    """Return a curve over seeds averaged over neighbouring bins, over fewer at both ends."""
    columns = ["mean", "low", "high"]
    return table.assign(**table[columns].rolling(bins, center=True, min_periods=1).mean())


def held_out(evaluations: pd.DataFrame, k: int) -> pd.DataFrame:
    """Return pass@k at each step over seeds: columns step, mean, low, high (interval over prompts), seeds."""
    found = [(step, estimate(same, k), len(same)) for step, same in evaluations.groupby("step")]
    rows = [(step, got.value, got.low, got.high, seeds) for step, got, seeds in found]
    return pd.DataFrame(rows, columns=["step", "mean", "low", "high", "seeds"])
