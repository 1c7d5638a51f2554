"""Panels of the training study: curves over seeds on a band, pass@k, and points of all arms with their legend."""

from collections.abc import Mapping, Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from figures.arms import arm_of
from figures.estimates import Estimate, over_seeds, smoothed
from figures.style import BAND, Line

PERCENT = 100
SMOOTHING = 3  # bins of 5 steps


def draw_band(axes: Axes, rows: pd.DataFrame) -> None:
    """Draw the band that a part asks for."""
    band = rows.dropna(subset=["entropy_low"]).drop_duplicates("step").sort_values("step")
    axes.fill_between(band.step, band.entropy_low, band.entropy_high, color=BAND, alpha=0.55, lw=0, zorder=0)


def draw_curve(axes: Axes, table: pd.DataFrame, line: Line, scale: float = 1, label: str | None = None) -> None:
    """Draw a curve over seeds: the mean, and from the least to the most of them shaded."""
    axes.plot(table.step, scale * table["mean"], color=line.color, ls=line.dash, label=label)
    axes.fill_between(table.step, scale * table.low, scale * table.high, color=line.color, alpha=0.15, lw=0)


def draw_arms(axes: Axes, curves: pd.DataFrame, arms: Sequence[str], column: str, scale: float = 1) -> None:
    """Draw a column of several arms over their seeds, averaged over 15 steps."""
    for name in arms:
        table = smoothed(over_seeds(curves[curves.arm == name], column), SMOOTHING)
        draw_curve(axes, table, arm_of(name).line, scale)


def draw_held_out(axes: Axes, curves: Mapping[str, pd.DataFrame]) -> None:
    """Draw pass@k at each evaluation with its interval over prompts, in percent."""
    for place, (name, table) in enumerate(curves.items()):
        line = arm_of(name).line
        errors = PERCENT * pd.concat([table["mean"] - table.low, table.high - table["mean"]], axis=1).T
        # Neighbours are set apart, so that their intervals do not hide each other.
        shift = (place - (len(curves) - 1) / 2) * 0.012 * table.step.max()
        axes.errorbar(
            table.step + shift, PERCENT * table["mean"], errors, color=line.color, ls=line.dash, marker=line.marker,
            ms=4.5, lw=1.4, elinewidth=0.8, capsize=0,
        )  # fmt: skip


def draw_points(axes: Axes, points: Mapping[str, tuple[Estimate, Estimate]]) -> None:
    """Draw a point an arm, in percent, with the intervals of both coordinates thin."""
    for name, (x, y) in points.items():
        line = arm_of(name).line
        axes.hlines(PERCENT * y.value, PERCENT * x.low, PERCENT * x.high, color=line.color, lw=0.7, alpha=0.45)
        axes.vlines(PERCENT * x.value, PERCENT * y.low, PERCENT * y.high, color=line.color, lw=0.7, alpha=0.45)
        face = "white" if line.dash != "-" and line.marker not in "123x" else line.color
        axes.plot(
            PERCENT * x.value, PERCENT * y.value, line.marker, color=line.color, mfc=face, ms=7, mew=1.3, zorder=3
        )


def handle(name: str, points: bool = False) -> Line2D:
    """Return the line of a legend for an arm; for points, filled as `draw_points` does."""
    line = arm_of(name).line
    if not points:
        return Line2D([], [], color=line.color, ls=line.dash, marker=line.marker, ms=4.5)
    face = "white" if line.dash != "-" and line.marker not in "123x" else line.color
    return Line2D([], [], color=line.color, ls="none", marker=line.marker, mfc=face, ms=7, mew=1.3)


def legend_below(figure: Figure, arms: Sequence[str], columns: int, points: bool = False, band: bool = True) -> None:
    """Name the arms below a figure, and the band."""
    handles = [handle(name, points) for name in arms]
    names = [arm_of(name).text for name in arms]
    if band:
        handles.append(Line2D([], [], color=BAND, lw=7, alpha=0.55))
        names.append("band asked for")
    figure.legend(handles, names, loc="outside lower center", ncols=columns, handlelength=2.6, columnspacing=1.4)
