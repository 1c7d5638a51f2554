"""Panels of the training study: curves over seeds on a band, pass@k, and points of all arms with their legend."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from figures.arms import arm_of
from figures.estimates import Estimate, over_seeds, smoothed
from figures.style import BAND, Line

PERCENT = 100
SMOOTHING = 3  # rows of curves.csv
TINY = 1e-4  # nats
MANY = 8  # evaluations, from which on intervals are shaded
STROKES = ("1", "2", "3", "x", "$2$", "$4$")


def draw_band(axes: Axes, rows: pd.DataFrame) -> None:
    """Draw the band that a part asks for; where it jumps, with upright edges."""
    band = edges(rows)
    jumps = has_jumps(band)
    look: Any = {"color": BAND, "alpha": 0.55, "lw": 0, "zorder": 0, "step": "post" if jumps else None}
    axes.fill_between(band.step, band.entropy_low, band.entropy_high, **look)


def edges(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the band at each step; where it jumps, without bins that mean over both sides of a jump."""
    band = rows.dropna(subset=["entropy_low"]).drop_duplicates("step").sort_values("step")
    low = band.entropy_low
    between = (low - low.shift()).abs().gt(TINY) & (low - low.shift(-1)).abs().gt(TINY)
    return band[~between | (band.step == band.step.max())] if has_jumps(band) else band


def has_jumps(band: pd.DataFrame) -> bool:
    """Return whether the band moves by more than its own width within two bins."""
    width = band.entropy_high - band.entropy_low
    return bool((band.entropy_low - band.entropy_low.shift(2)).abs().gt(width).any())


def draw_curve(axes: Axes, table: pd.DataFrame, line: Line, scale: float = 1, label: str | None = None) -> None:
    """Draw a curve over seeds: the mean, and from the least to the most of them shaded."""
    axes.plot(table.step, scale * table["mean"], color=line.color, ls=line.dash, label=label)
    axes.fill_between(table.step, scale * table.low, scale * table.high, color=line.color, alpha=0.15, lw=0)


def draw_arms(axes: Axes, curves: pd.DataFrame, arms: Sequence[str], column: str, scale: float = 1) -> None:
    """Draw a column of several arms over their seeds, averaged over three rows."""
    for name in arms:
        table = smoothed(over_seeds(curves[curves.arm == name], column), SMOOTHING)
        draw_curve(axes, table, arm_of(name).line, scale)


def draw_held_out(axes: Axes, curves: Mapping[str, pd.DataFrame], intervals: Collection[str] | None = None) -> None:
    """Draw pass@k at each evaluation, in percent, with its interval over prompts: bars, or shades where many.

    Args:
        axes: to draw in.
        curves: by arm, as `held_out`.
        intervals: arms of which intervals are drawn; all by default.
    """
    for place, (name, table) in enumerate(curves.items()):
        line = arm_of(name).line
        look: Any = {"color": line.color, "ls": line.dash, "marker": line.marker, "ms": 4.5, "lw": 1.4}
        shown = intervals is None or name in intervals
        if len(table) > MANY:
            axes.plot(table.step, PERCENT * table["mean"], **look)
            if shown:
                shade: Any = {"color": line.color, "alpha": 0.1, "lw": 0}
                axes.fill_between(table.step, PERCENT * table.low, PERCENT * table.high, **shade)
            continue
        errors = PERCENT * pd.concat([table["mean"] - table.low, table.high - table["mean"]], axis=1).T
        # Neighbours are set apart, so that their intervals do not hide each other.
        shift = (place - (len(curves) - 1) / 2) * 0.012 * table.step.max()
        bars = errors if shown else None
        axes.errorbar(table.step + shift, PERCENT * table["mean"], bars, **look, elinewidth=0.8, capsize=0)


def draw_plateaus(axes: Axes, plateaus: Mapping[str, float]) -> None:
    """Draw an upright line at the step from which each arm is flat; none at NaN."""
    for name, step in plateaus.items():
        axes.axvline(step, color=arm_of(name).line.color, ls=arm_of(name).line.dash, lw=0.9, alpha=0.7)


def face_of(line: Line) -> str:
    """Return what a point is filled with: nothing where its line is dashed, but for markers that are strokes."""
    return "white" if line.dash != "-" and line.marker not in STROKES else line.color


def draw_point(axes: Axes, x: float, y: float, line: Line) -> None:
    """Draw the large point of an arm."""
    axes.plot(x, y, ls="none", marker=line.marker, color=line.color, mfc=face_of(line), ms=8, mew=1.3, zorder=3)


def draw_points(axes: Axes, points: Mapping[str, tuple[Estimate, Estimate]], intervals: Collection[str]) -> None:
    """Draw a point an arm, in percent, with the intervals of both coordinates thin for those named."""
    for name, (x, y) in points.items():
        line = arm_of(name).line
        if name in intervals:
            axes.hlines(PERCENT * y.value, PERCENT * x.low, PERCENT * x.high, color=line.color, lw=0.9, alpha=0.5)
            axes.vlines(PERCENT * x.value, PERCENT * y.low, PERCENT * y.high, color=line.color, lw=0.9, alpha=0.5)
        draw_point(axes, PERCENT * x.value, PERCENT * y.value, line)


def handle(name: str, points: bool = False) -> Line2D:
    """Return the line of a legend for an arm; for points, filled as they are."""
    line = arm_of(name).line
    if not points:
        return Line2D([], [], color=line.color, ls=line.dash, marker=line.marker, ms=4.5)
    return Line2D([], [], color=line.color, ls="none", marker=line.marker, mfc=face_of(line), ms=8, mew=1.3)


def legend_below(figure: Figure, arms: Sequence[str], columns: int, points: bool = False, band: bool = True) -> None:
    """Name the arms below a figure, and the band."""
    handles = [handle(name, points) for name in arms]
    names = [arm_of(name).text for name in arms]
    if band:
        handles.append(Line2D([], [], color=BAND, lw=7, alpha=0.55))
        names.append("band asked for")
    figure.legend(handles, names, loc="outside lower center", ncols=columns, handlelength=2.6, columnspacing=1.4)
