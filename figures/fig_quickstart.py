"""The quickstart's picture: whether entropy followed the band, theory predicted its change, and what it cost."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures.load import LoadedRun
from figures.style import BAND, INK, SETTINGS, WIDTH, Line, label, line_of

SMOOTHING = 10
PASS_AT = (1, 8, 32)
PERCENT = 100


def draw_quickstart(runs: Sequence[LoadedRun]) -> Figure:
    """Return the figure: entropy, prediction, accepted fraction, reward, and pass@k in both settings."""
    with plt.rc_context(SETTINGS):
        figure, axes = plt.subplots(2, 3, figsize=(WIDTH, 6.6), layout="constrained")
        draw_entropy(axes[0, 0], runs)
        draw_prediction(axes[0, 1], runs)
        draw_accepted(axes[0, 2], runs)
        draw_reward(axes[1, 0], runs)
        draw_pass_at_k(axes[1, 1], runs, "t1", "Held out, temperature 1")
        draw_pass_at_k(axes[1, 2], runs, "paper", "Held out, 0.6 / top-p 0.95 / top-k 20")
        handles, labels = axes[0, 0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=len(labels))
    return figure


def smooth(values: pd.Series) -> pd.Series:
    """Return the centred moving average over 10 steps, over fewer at both ends."""
    return values.rolling(SMOOTHING, center=True, min_periods=1).mean()


def draw_entropy(axes: Axes, runs: Sequence[LoadedRun]) -> None:
    """Draw each run's entropy on the band it was to follow."""
    rows = runs[0].metrics
    axes.fill_between(rows.step, rows.entropy_low, rows.entropy_high, color=BAND, alpha=0.5, lw=0, label="band")
    for index, run in enumerate(runs):
        look = line_of(index)
        axes.plot(run.metrics.step, run.metrics.entropy, color=look.color, lw=0.6, alpha=0.3)
        axes.plot(
            run.metrics.step,
            smooth(run.metrics.entropy),
            color=look.color,
            ls=look.dash,
            label=run.name.replace("_", " "),
        )
    label(axes, "Entropy (thick: mean of 10 steps)", "step", "entropy (nats/token)")


def draw_prediction(axes: Axes, runs: Sequence[LoadedRun]) -> None:
    """Draw predicted against measured entropy change of each step on the probe, with the identity."""
    scale = 1e3
    largest = 0.0
    for index, run in enumerate(runs):
        rows = run.metrics.dropna(subset=["dH_first_order", "dH_measured"])
        if rows.empty:
            continue
        x, y = scale * rows.dH_first_order.to_numpy(), scale * rows.dH_measured.to_numpy()
        largest = max(largest, np.abs(x).max(), np.abs(y).max())
        look = line_of(index)
        r2 = run.summary["r2_first_order"]
        slope = np.cov(x, y)[0, 1] / x.var(ddof=1) if len(x) > 1 and x.std() > 0 else None
        text = run.name if r2 is None or slope is None else f"$R^2$ {r2:.2f}, slope {slope:.2f}"
        axes.plot(x, y, look.marker, color=look.color, ms=3, alpha=0.5, mew=0, ls="none", label=text)
    label(
        axes,
        "Entropy change of a step",
        "predicted: $\\langle\\nabla H, \\Delta\\theta\\rangle$ ($10^{-3}$ nats/token)",
        "measured ($10^{-3}$ nats/token)",
    )
    if largest == 0:
        axes.annotate("no predictions", (0.5, 0.5), xycoords="axes fraction", ha="center", color=INK)
        return
    axes.plot([-largest, largest], [-largest, largest], color=INK, lw=1)
    axes.annotate("identity", (0.62 * largest, 0.72 * largest), ha="right", color=INK, fontsize=10)
    axes.legend(loc="lower right", handletextpad=0.1, markerscale=2, borderaxespad=0)


def draw_accepted(axes: Axes, runs: Sequence[LoadedRun]) -> None:
    """Draw the share of rollouts that the filter accepted."""
    for index, run in enumerate(runs):
        look = line_of(index)
        axes.plot(run.metrics.step, PERCENT * smooth(run.metrics.accepted_fraction), color=look.color, ls=look.dash)
    axes.set_ylim(0, 105)
    label(axes, "Accepted rollouts, mean of 10 steps", "step", "accepted (% of rollouts)")


def draw_reward(axes: Axes, runs: Sequence[LoadedRun]) -> None:
    """Draw the mean reward of the training rollouts."""
    for index, run in enumerate(runs):
        look = line_of(index)
        axes.plot(run.metrics.step, run.metrics.reward_mean, color=look.color, lw=0.6, alpha=0.3)
        axes.plot(run.metrics.step, smooth(run.metrics.reward_mean), color=look.color, ls=look.dash)
    label(axes, "Training reward", "step", "mean reward (share right)")


def draw_pass_at_k(axes: Axes, runs: Sequence[LoadedRun], setting: str, title: str) -> None:
    """Draw held-out pass@k at the end of each run with its 95 % interval, and the base model where it was evaluated."""
    base = next((row for run in runs if (row := run.base(setting))), None)
    where = f", {runs[0].sets[0]}" if len(runs[0].sets) > 1 else ""
    entries = [("base model", Line(INK, (0, (1, 1)), "x"), base)]
    entries += [(run.name, line_of(index), run.final(setting)) for index, run in enumerate(runs)]
    for place, (name, look, evaluation) in enumerate(entries):
        if evaluation is None:
            continue
        estimates = evaluation["estimates"]
        found = [(k, estimates[f"pass@{k}"]) for k in PASS_AT if f"pass@{k}" in estimates]
        # Neighbours are set apart by a few percent of k, so that their intervals do not hide each other.
        x = [k * 1.05 ** (place - len(entries) / 2) for k, _ in found]
        y = np.array([estimate["value"] for _, estimate in found])
        low, high = (np.array([estimate[side] for _, estimate in found]) for side in ("low", "high"))
        axes.errorbar(
            x,
            PERCENT * y,
            PERCENT * np.array([y - low, high - y]),
            color=look.color,
            ls=look.dash,
            marker=look.marker,
            ms=5,
            capsize=2,
            label=name if name == "base model" else None,
        )
    axes.set_xscale("log", base=2)
    axes.set_xticks(PASS_AT, [str(k) for k in PASS_AT])
    axes.set_ylim(0, 100)
    if base:
        axes.legend(loc="upper left")
    label(axes, title + where, "k (samples a prompt)", "pass@k (% of prompts)")
