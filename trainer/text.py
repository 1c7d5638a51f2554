"""A run's last steps as a few lines of text, for terminals and log files alike."""

import sys
from collections.abc import Mapping, Sequence
from datetime import timedelta
from itertools import pairwise
from typing import Any

import numpy as np

from trainer.summary import agreement, average

BARS = "▁▂▃▄▅▆▇█"
SHOWN = 40  # steps of the sparkline, which then fits a line of 100 characters
RECENT = 10  # steps that a number is a mean of
PARTS = ("rollout", "update", "theory")
# What is said of which column, and how.
LEARNING = {
    "reward": ("reward_mean", ".3f"),
    "accepted": ("accepted_fraction", ".0%"),
    "groups with a signal": ("mixed_groups", ".0%"),
    "tokens": ("response_length", ".1f"),
    "finished": ("finished_fraction", ".0%"),
}
UPDATE = {
    "clipped low": ("clip_low_fraction", ".1%"),
    "high": ("clip_high_fraction", ".1%"),
    "KL": ("kl", ".4f"),
    "gradient norm": ("grad_norm", ".3g"),
}
SIDES = {-1: "below", 0: "in", 1: "above"}


def text_summary(rows: Sequence[Mapping[str, Any]], steps: int) -> str:
    """Return where a run stands, in five lines: progress, entropy, learning, update, speed.

    Args:
        rows: of `metrics.jsonl` so far, at least one.
        steps: of the whole run.

    Numbers are means of the last 10 steps but for entropy, which is the last step's, and R^2, which is over all steps.
    """
    recent = rows[-RECENT:]
    done = rows[-1]["step"] + 1
    left = timedelta(seconds=round(seconds_a_step(rows) * (steps - done)))
    first = number(agreement(rows, ("dH_first_order",)))
    tabular = number(agreement(rows, ("dH_tabular",)))
    return "\n".join(
        [
            f"step {done} of {steps}, {left} left; means of the last {len(recent)}, R2 of {len(rows)}",
            entropy_line(rows),
            f"  {means(recent, LEARNING)}",
            f"  {means(recent, UPDATE)}, predicted dH R2 {first}, tabular {tabular}",
            speed_line(rows),
        ]
    )


def means(rows: Sequence[Mapping[str, Any]], shown: Mapping[str, tuple[str, str]]) -> str:
    """Return the means of these columns as text, a dash where no row has one."""
    found = []
    for name, (column, form) in shown.items():
        value = average(rows, column)
        found.append(f"{name} {'-' if value is None else format(value, form)}")
    return ", ".join(found)


def entropy_line(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return entropy against its band, and its last steps as bars."""
    last, shown = rows[-1], [row["entropy"] for row in rows[-SHOWN:]]
    kept = [value for value in shown if value is not None]
    span = f" {min(kept):.3f} to {max(kept):.3f}" if kept else ""
    return (
        f"  entropy {number(last['entropy'])} nats/token, {SIDES[last['band_indicator']]} the band "
        f"{last['entropy_low']:.3f} to {last['entropy_high']:.3f}  {sparkline(shown)}{span}"
    )


def speed_line(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return completion tokens a second and where the time went, over the last steps."""
    recent = rows[-RECENT:]
    times = {part: sum(row[f"time_{part}_s"] for row in recent) for part in PARTS}
    # `tokens` counts from the run's beginning, and `rows` begins there.
    drawn = recent[-1]["tokens"] - (rows[-RECENT - 1]["tokens"] if len(rows) > RECENT else 0)
    whole = sum(times.values())
    if not whole:
        return f"  {drawn} tokens"
    shares = ", ".join(f"{part} {value / whole:.0%}" for part, value in times.items())
    return f"  {drawn / whole:.0f} tokens/s, time: {shares}"


def sparkline(values: Sequence[float | None]) -> str:
    """Return a bar a value, from the least to the greatest; a blank for a missing one.

    >>> sparkline([0.0, 0.5, None, 1.0])
    '▁▅ █'
    """
    kept = [value for value in values if value is not None]
    if not kept:
        return ""
    low, span = min(kept), max(kept) - min(kept)
    places = [None if value is None else round((value - low) / span * 7) if span else 3 for value in values]
    return "".join(" " if place is None else BARS[place] for place in places)


def seconds_a_step(rows: Sequence[Mapping[str, Any]]) -> float:
    """Return the median time between the last steps, which leaves out evaluations and the time a run was stopped."""
    clock = [row["wall_s"] for row in rows[-RECENT - 1 :]]
    between = [after - before for before, after in pairwise(clock) if after > before]
    return float(np.median(between)) if between else clock[-1]


def number(value: float | None) -> str:
    """Return a number with three decimals, a dash for a missing one."""
    return "-" if value is None else f"{value:.3f}"


def printable(text: str) -> str:
    """Return the text as standard output can show it: with question marks for what its encoding lacks."""
    encoding = sys.stdout.encoding or "utf-8"
    return text.encode(encoding, "replace").decode(encoding)
