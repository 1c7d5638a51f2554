"""How well a run followed its band, from its rows: pure functions of columns."""

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from statistics import NormalDist
from typing import Any

import numpy as np

from trainer.summary import AT_THE_END, agreement, average, band_error

Row = Mapping[str, Any]
SMOOTHED = 5


def column(rows: Sequence[Row], name: str) -> list[float]:
    """Return a column's values, without the rows that lack it."""
    return [float(row[name]) for row in rows if row.get(name) is not None]


def noise_level(rows: Sequence[Row]) -> float | None:
    """Return the root mean square of the entropy's standard error, nats: what a policy at the centre would miss by."""
    errors = column(rows, "entropy_standard_error")
    return math.sqrt(sum(error**2 for error in errors) / len(errors)) if errors else None


def possible_share(rows: Sequence[Row]) -> float | None:
    """Return the share of steps in the band that a policy exactly at its centre would show, given the noise.

    The mean over steps of 2 Phi(w / s) - 1, with the band's half width w and the entropy's standard error s. Valid when
    the error is normal, as a mean over many tokens of many prompts is nearly.
    """
    shares = [
        2 * NormalDist().cdf((row["entropy_high"] - row["entropy_low"]) / 2 / row["entropy_standard_error"]) - 1
        if row["entropy_standard_error"]
        else 1.0
        for row in rows
        if row.get("entropy_standard_error") is not None
    ]
    return sum(shares) / len(shares) if shares else None


def smoothed_share(rows: Sequence[Row], after: int) -> float | None:
    """Return the share of steps, from `after` on, whose centred moving mean of 5 entropies is in the band.

    Steps without two others on either side are left out.
    """
    half = SMOOTHED // 2
    inside = [
        rows[place]["entropy_low"]
        <= sum(row["entropy"] for row in rows[place - half : place + half + 1]) / SMOOTHED
        <= rows[place]["entropy_high"]
        for place in range(half, len(rows) - half)
        if rows[place]["step"] >= after
    ]
    return sum(inside) / len(inside) if inside else None


def reactions(rows: Sequence[Row]) -> dict[str, tuple[int | None, int]]:
    """Return of the band's first jump "up" and "down": (steps until the entropy is in it, steps there were for it).

    A jump is a step whose band does not overlap the one before. The steps are counted from it: 0 where the entropy is
    in the new band at once; None where it never is before the next jump or the end.
    """
    jumps = [
        place
        for place, (before, now) in enumerate(pairwise(rows), 1)
        if now["entropy_low"] > before["entropy_high"] or now["entropy_high"] < before["entropy_low"]
    ]
    found: dict[str, tuple[int | None, int]] = {}
    for start, stop in pairwise([*jumps, len(rows)]):
        direction = "up" if rows[start]["entropy_low"] > rows[start - 1]["entropy_high"] else "down"
        arrived = (
            place - start
            for place in range(start, stop)
            if rows[place]["entropy_low"] <= rows[place]["entropy"] <= rows[place]["entropy_high"]
        )
        found.setdefault(direction, (next(arrived, None), stop - start))
    return found


def tracked(every: Sequence[Row], after: int) -> dict[str, Any]:
    """Return what `runs.csv` says of a run, by the column's name.

    Args:
        every: its rows.
        after: steps that are left out at the beginning.
    """
    rows = [row for row in every if row["step"] >= after]
    if not rows:
        raise ValueError(f"study(after={after}) must leave steps of every run; got one of {len(every)}. Lower it.")
    entropy, low, high = (column(rows, name) for name in ("entropy", "entropy_low", "entropy_high"))
    rmse, inside = band_error(entropy, low, high)
    noise = noise_level(rows)
    sizes = column([row["info"] for row in rows], "effective_sample_size")
    times = {part: column(rows, f"time_{part}_s") for part in ("rollout", "update", "theory")}
    return {
        "steps": len(every),
        "after": after,
        "entropy": float(np.mean(entropy)),
        "spread": float(np.std(entropy)),
        "rmse": rmse,
        "noise": noise,
        "rmse_over_noise": rmse / noise if noise else None,
        "in_band": inside,
        "in_band_possible": possible_share(rows),
        "in_band_smooth": smoothed_share(every, after),
        "entropy_end": float(np.mean(entropy[-AT_THE_END:])),
        "accepted_fraction": average(rows, "accepted_fraction"),
        "effective_sample_size": float(np.mean(sizes)) if sizes else None,
        "reward_end": float(np.mean(column(rows, "reward_mean")[-AT_THE_END:])),
        "skipped_steps": sum(row["skipped"] for row in rows),
        "r2_first_order": agreement(rows, ("dH_first_order",)),
        "r2_tabular": agreement(rows, ("dH_tabular",)),
        **{f"time_{part}_s": float(np.median(seconds)) for part, seconds in times.items()},
        "time_step_s": float(np.median(np.sum(list(times.values()), axis=0))),
        **reaction_columns(reactions(every)),
    }


def reaction_columns(found: Mapping[str, tuple[int | None, int]]) -> dict[str, int | None]:
    """Return reaction times by the column's name; None where the band never jumps that way."""
    nothing: tuple[int | None, int | None] = (None, None)
    return {
        name: value
        for direction in ("up", "down")
        for name, value in zip(
            (f"reaction_{direction}", f"reaction_{direction}_available"), found.get(direction, nothing), strict=True
        )
    }
