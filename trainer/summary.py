"""A run in a few numbers, from its rows of metrics."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

AT_THE_END = 10


def r_squared(predicted: Sequence[float], measured: Sequence[float]) -> float | None:
    """Return 1 - sum (measured - predicted)^2 / sum (measured - mean)^2: agreement with the identity, nothing fitted.

    1 is exact; 0 is no better than the mean; it can be negative. None with fewer than 2 points or equal ones.

    >>> r_squared([1.0, 2.0], [1.0, 2.0])
    1.0
    """
    x, y = np.asarray(predicted, dtype=float), np.asarray(measured, dtype=float)
    if len(y) < 2 or np.all(y == y[0]):
        return None
    return float(1 - ((y - x) ** 2).sum() / ((y - y.mean()) ** 2).sum())


def band_error(entropy: Sequence[float], low: Sequence[float], high: Sequence[float]) -> tuple[float, float]:
    """Return (RMSE to the band's centre in nats per token, share of steps inside the band, bounds included)."""
    h, lower, upper = (np.asarray(values, dtype=float) for values in (entropy, low, high))
    rmse = float(np.sqrt(((h - (lower + upper) / 2) ** 2).mean()))
    return rmse, float(((h >= lower) & (h <= upper)).mean())


def summarise(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the summary of a run's rows: entropy, tracking, prediction, times (medians, seconds)."""
    entropy = [row["entropy"] for row in rows]
    rmse, in_band = band_error(entropy, [row["entropy_low"] for row in rows], [row["entropy_high"] for row in rows])
    return {
        "steps": len(rows),
        "samples": rows[-1]["samples"],
        "skipped_steps": sum(row["skipped"] for row in rows),
        "entropy_start": entropy[0],
        "entropy_end": float(np.mean(entropy[-AT_THE_END:])),
        "entropy_end_steps": min(AT_THE_END, len(rows)),
        "band_rmse": rmse,
        "in_band": in_band,
        "accepted_fraction": float(np.mean([row["accepted_fraction"] for row in rows])),
        "reward_end": float(np.mean([row["reward_mean"] for row in rows[-AT_THE_END:]])),
        "log_prob_gap_max": largest(rows, "log_prob_gap"),
        "r2_first_order": agreement(rows, ("dH_first_order",)),
        "r2_second_order": agreement(rows, ("dH_first_order", "dH_second_order")),
        "r2_tabular": agreement(rows, ("dH_tabular",)),
        "sign_rule_agreement": average(rows, "sign_rule_agreement"),
        "sign_rule_step": average(rows, "sign_rule_step"),
        "median_time_rollout_s": float(np.median([row["time_rollout_s"] for row in rows])),
        "median_time_update_s": float(np.median([row["time_update_s"] for row in rows])),
        "median_time_theory_s": float(np.median([row["time_theory_s"] for row in rows])),
    }


def agreement(rows: Sequence[Mapping[str, Any]], terms: tuple[str, ...]) -> float | None:
    """Return R^2 of the sum of these predictions against the measured change, over the steps that have them all."""
    kept = [row for row in rows if all(row[name] is not None for name in ("dH_measured", *terms))]
    return r_squared([sum(row[name] for name in terms) for row in kept], [row["dH_measured"] for row in kept])


def average(rows: Sequence[Mapping[str, Any]], name: str) -> float | None:
    """Return the mean of a column over the rows that have it, None where none has."""
    values = [row[name] for row in rows if row.get(name) is not None]
    return float(np.mean(values)) if values else None


def largest(rows: Sequence[Mapping[str, Any]], name: str) -> float | None:
    """Return the largest value of a column, None where no row has it."""
    return max((row[name] for row in rows if row[name] is not None), default=None)
