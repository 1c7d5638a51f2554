"""The pictures of a report: small panels as SVG, the same bytes for the same rows; the page adds titles and legends."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from io import BytesIO

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures.fig_quickstart import smooth
from figures.report_load import ReportedRun
from figures.report_numbers import PARTS, PREDICTIONS, predicted
from figures.style import BAND, INK, LINES, SETTINGS, Line, line_of

SIZE = (5.2, 3.1)  # inches: two panels beside each other on a page, one on a narrow screen
PERCENT = 100
MILLI = 1e3
MANY = 2000  # points of one panel that are drawn as pixels: as paths they would make the page heavy
CHANGE = "change ($10^{-3}$ nats/token)"
DECADE = 10
SERIES = {"measured": Line(INK, "-", "o")} | {name: LINES[place] for place, name in enumerate(PREDICTIONS)}


@dataclass(frozen=True)
class Panel:
    """A picture with what stands above and below it.

    Args:
        title: what it shows.
        svg: the picture.
        text: how to read it.
    """

    title: str
    svg: str
    text: str = ""


@dataclass(frozen=True)
class Curve:
    """A column drawn against steps.

    Args:
        column: its name.
        title: what it shows.
        y: the axis, with the unit.
        scale: what values are multiplied with.
        log: logarithmic axis where values span more than a factor of 10.
        text: how to read it.
    """

    column: str
    title: str
    y: str
    scale: float = 1
    log: bool = False
    text: str = ""


LEARNING = (
    Curve("accepted_fraction", "Accepted rollouts", "% of rollouts", PERCENT, text="Those that the filter kept."),
    Curve("reward_mean", "Reward", "mean reward"),
    Curve("response_length", "Response length", "tokens", text="The end token included."),
    Curve("mixed_groups", "Groups with unequal rewards", "% of groups", PERCENT, text="The others carry no signal."),
    Curve("finished_fraction", "Finished completions", "% of completions", PERCENT, text="The others were cut."),
)
UPDATES = (
    Curve("grad_norm", "Gradient norm", "before clipping", log=True),
    Curve("clip_low_fraction", "Clipped at the lower bound", "% of computed tokens", PERCENT),
    Curve("clip_high_fraction", "Clipped at the upper bound", "% of computed tokens", PERCENT),
    Curve("ratio_max", "Largest importance ratio", "ratio", log=True),
    Curve("kl", "KL to the initial policy (k3)", "nats/token"),
    Curve("log_prob_gap", "Sampler against trainer", "nats", text="Largest gap of a token's log-probability."),
    Curve("lr", "Learning rate", ""),
)


def drawn(draw: Callable[[Axes], None], x: str, y: str, size: tuple[float, float] = SIZE) -> str:
    """Return what `draw` draws as SVG."""
    buffer = BytesIO()
    with mpl.rc_context({**SETTINGS, "font.size": 10, "axes.labelsize": 10, "svg.fonttype": "path"}):
        figure = Figure(figsize=size, layout="constrained")
        axes = figure.subplots()
        draw(axes)
        axes.set_xlabel(x)
        axes.set_ylabel(y)
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": "entrocraft"})
    return buffer.getvalue().decode()


def curve_panels(runs: Sequence[ReportedRun], curves: Sequence[Curve]) -> list[Panel]:
    """Return a panel for each curve that has two values or more; `constants` says what the others are."""
    return [curve_panel(runs, curve) for curve in curves if len(values_of(runs, curve.column)) > 1]


def constants(runs: Sequence[ReportedRun], curves: Sequence[Curve]) -> list[str]:
    """Return in words the curves that have one value in all steps of all runs."""
    found = []
    for curve in curves:
        values = values_of(runs, curve.column)
        if len(values) == 1:
            found.append(f"{curve.title.lower()}: {curve.scale * values[0]:g} {curve.y}".strip())
    return found


def values_of(runs: Sequence[ReportedRun], column: str) -> np.ndarray:
    """Return the different values that a column has in any run."""
    return pd.concat([run.of(column) for run in runs]).dropna().unique()


def curve_panel(runs: Sequence[ReportedRun], curve: Curve) -> Panel:
    """Return a column of all runs against steps: thin as it is, thick its mean of 10 steps."""
    values = values_of(runs, curve.column)

    def draw(axes: Axes) -> None:
        for index, run in enumerate(runs):
            draw_curve(axes, run.metrics.step, curve.scale * run.of(curve.column), line_of(index))
        if curve.log and values.min() > 0 and values.max() > DECADE * values.min():
            axes.set_yscale("log")
        if curve.scale == PERCENT:
            axes.set_ylim(bottom=0)

    return Panel(curve.title, drawn(draw, "step", curve.y), curve.text)


def draw_curve(axes: Axes, steps: pd.Series, values: pd.Series, look: Line) -> None:
    """Draw values thin, and their mean of 10 steps thick; few of them as points too."""
    axes.plot(steps, values, color=look.color, lw=0.6, alpha=0.35)
    marker = look.marker if values.notna().sum() == 1 else ""
    axes.plot(steps, smooth(values), color=look.color, ls=look.dash, marker=marker)


def entropy_panel(runs: Sequence[ReportedRun]) -> Panel:
    """Return entropy on its band; bands that differ have their runs' colours."""
    bands = [run.metrics.reindex(columns=["step", "entropy_low", "entropy_high"]) for run in runs]
    shared = max(bands, key=len)
    # An unfinished run has the same band as far as it is.
    one = all(band.equals(shared[: len(band)]) for band in bands)

    def draw(axes: Axes) -> None:
        for index, band in [(0, shared)] if one else list(enumerate(bands)):
            color, alpha = (BAND, 0.5) if one else (line_of(index).color, 0.15)
            axes.fill_between(band.step, band.entropy_low, band.entropy_high, color=color, alpha=alpha, lw=0)
        for index, run in enumerate(runs):
            draw_curve(axes, run.metrics.step, run.of("entropy"), line_of(index))

    text = "Thin: as measured on each batch; thick: mean of 10 steps; shaded: the band it was to follow."
    return Panel("Entropy", drawn(draw, "step", "entropy (nats/token)"), text)


def prediction_panel(run: ReportedRun, name: str) -> Panel:
    """Return a run's measured and predicted changes against steps."""
    parts = {key: predicted(run, terms) for key, terms in PREDICTIONS.items()}
    measured = run.of("dH_measured")

    def draw(axes: Axes) -> None:
        axes.axhline(0, color=INK, lw=0.8)
        axes.plot(run.metrics.step, MILLI * measured, color=INK, lw=0.5, alpha=0.35)
        axes.plot(run.metrics.step, MILLI * smooth(measured), color=INK)
        for key, rows in parts.items():
            look = SERIES[key]
            axes.plot(rows.step, MILLI * smooth(rows.predicted), color=look.color, ls=look.dash, lw=1.4)

    text = "Means of 10 steps; thin: the measured change of each step."
    return Panel(
        f"Entropy change over time{name}", drawn(draw, "step", "change of a step ($10^{-3}$ nats/token)"), text
    )


def scatter_panel(runs: Sequence[ReportedRun], name: str, text: str) -> Panel | None:
    """Return predicted against measured changes with the identity, None where no run has this prediction."""
    rows = [predicted(run, PREDICTIONS[name]) for run in runs]
    points = pd.concat(rows)
    if points.empty:
        return None
    both = MILLI * points[["predicted", "measured"]].to_numpy()
    ends = [both.min(), both.max()]

    def draw(axes: Axes) -> None:
        axes.plot(ends, ends, color=INK, lw=1)
        for index, found in enumerate(rows):
            look = line_of(index)
            x, y = MILLI * found.predicted, MILLI * found.measured
            axes.plot(x, y, look.marker, color=look.color, ms=3.5, alpha=0.5, mew=0, rasterized=len(points) > MANY)

    x, y = f"predicted, {name} ($10^{{-3}}$ nats/token)", "measured ($10^{-3}$ nats/token)"
    return Panel(f"Predicted against measured: {name}", drawn(draw, x, y), text)


def time_panel(run: ReportedRun, name: str) -> Panel:
    """Return where the time of a run's steps went, stacked."""
    parts = [smooth(run.of(column)).fillna(0) for column in PARTS.values()]

    def draw(axes: Axes) -> None:
        colors = [LINES[place].color for place in range(len(PARTS))]
        axes.set_axisbelow(True)
        axes.stackplot(run.metrics.step, *parts, colors=colors, alpha=0.8, lw=0)
        axes.set_ylim(bottom=0)

    return Panel(f"Time of a step{name}", drawn(draw, "step", "seconds"), "Mean of 10 steps, stacked.")
