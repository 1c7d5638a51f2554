"""Controllers compared: tracking error against what it costs in reward, coverage and samples."""

from dataclasses import dataclass

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatter

from figures.arms import CONTROLLERS, arm_of, in_order
from figures.curves import PERCENT, draw_point, legend_below
from figures.entry import Built, Entry, main_of
from figures.parts import absent
from figures.study import Data, NothingToDrawError, Study
from figures.style import INK, SETTINGS, WIDTH, label

MEASURES = ("rmse_over_noise", "in_band_smooth", "reward_end", "effective_sample_size", "entropy")


@dataclass(frozen=True)
class Summary:
    """What the figure shows.

    Args:
        runs: a row a run of the constant part.
        means: a row an arm: means of `MEASURES` over seeds.
        notes: what is missing.
    """

    runs: pd.DataFrame
    means: pd.DataFrame
    notes: tuple[str, ...]


def summarise(study: Study) -> Summary:
    """Return what the figure shows."""
    runs = study.runs[study.runs.part == "constant"]
    if runs.empty:
        raise NothingToDrawError("the constant part of the training study (controllers/runs.csv)")
    # A filter that reports no effective sample size uses what it accepts.
    runs = runs.assign(effective_sample_size=runs.effective_sample_size.fillna(runs.accepted_fraction))
    means = runs.groupby("arm")[list(MEASURES)].mean()
    means = means.loc[in_order(set(means.index))]
    return Summary(runs, means, tuple(absent(CONTROLLERS, set(means.index))))


def draw(summary: Summary) -> Figure:
    """Return the figure."""
    arms = list(summary.means.index)
    with plt.rc_context(SETTINGS):
        figure, axes = plt.subplots(2, 2, figsize=(WIDTH, 9.2), layout="constrained")
        scatter(axes[0, 0], summary.runs, arms, "rmse_over_noise", "reward_end", 1, PERCENT)
        axes[0, 0].set_xscale("log")
        axes[0, 0].axvline(1, color=INK, lw=1, ls=":")
        label(axes[0, 0], "a  Tracking and reward", "RMSE / noise of a batch", "training reward at the end (%)")
        scatter(axes[0, 1], summary.runs, arms, "entropy", "reward_end", 1, PERCENT)
        label(axes[0, 1], "b  Reward at its entropy", "mean entropy (nats/token)", "training reward at the end (%)")
        scatter(axes[1, 0], summary.runs, arms, "effective_sample_size", "rmse_over_noise", PERCENT, 1)
        axes[1, 0].set_yscale("log")
        axes[1, 0].axhline(1, color=INK, lw=1, ls=":")
        label(axes[1, 0], "c  Samples used and tracking", "effective samples (%)", "RMSE / noise of a batch")
        scatter(axes[1, 1], summary.runs, arms, "rmse_over_noise", "in_band_smooth", 1, PERCENT)
        axes[1, 1].set_xscale("log")
        label(axes[1, 1], "d  Time in the band (smoothed)", "RMSE / noise of a batch", "steps in the band (%)")
        for axis in (axes[0, 0].xaxis, axes[1, 0].yaxis, axes[1, 1].xaxis):
            axis.set_major_formatter("{x:g}")
            axis.set_minor_formatter(LogFormatter(minor_thresholds=(2, 0.5)))
        legend_below(figure, arms, 5, points=True, band=False)
    return figure


def scatter(axes: Axes, runs: pd.DataFrame, arms: list[str], x: str, y: str, x_scale: float, y_scale: float) -> None:
    """Draw a small point a run and a large one an arm, its mean over seeds."""
    for name in arms:
        rows, line = runs[runs.arm == name], arm_of(name).line
        at, to = x_scale * rows[x].to_numpy(float), y_scale * rows[y].to_numpy(float)
        if len(rows) > 1:
            axes.plot(at, to, ".", color=line.color, ms=4, mew=0, alpha=0.6)
        draw_point(axes, float(np.mean(at)), float(np.mean(to)), line)


def build(data: Data) -> Built:
    """Load, summarise and draw."""
    summary = summarise(data.study)
    return Built(draw(summary), notes=summary.notes)


ENTRY = Entry(
    "controllers",
    "Controllers compared",
    "All methods at a constant target of 0.5 nats: how closely entropy follows it, in units of the noise that a "
    "batch's entropy has by itself (dotted: as close as can be told), against training reward, share of samples used "
    "and steps in the band. Large: mean over seeds; small: runs.",
    ("controllers",),
    build,
)

if __name__ == "__main__":
    main_of(ENTRY)
