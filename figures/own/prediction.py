"""Predicted against measured entropy change of real training steps, and how much of it each formula explains."""

from collections.abc import Mapping
from dataclasses import dataclass

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures.arms import CONTROLLERS, arm_of, in_order
from figures.curves import legend_below
from figures.entry import Built, Entry, main_of
from figures.parts import absent
from figures.study import Data, NothingToDrawError, Study
from figures.style import INK, SETTINGS, WIDTH, label

FORMULAS = {"dH_first_order": "along the step taken (E7)", "dH_tabular": "tabular formula (E4)"}
SHOWN = ("grpo", "algorithm1", "released", "nsr", "solved_bonus_directional", "soft_directional")
SCALE = 1e3


@dataclass(frozen=True)
class Summary:
    """What the figure shows.

    Args:
        steps: measured and predicted changes of single steps, nats/token.
        fits: by formula, R2 against the identity over all steps shown.
        r2: by arm, both formulas' mean R2 over seeds; columns as in `FORMULAS`.
        notes: what is missing.
    """

    steps: pd.DataFrame
    fits: Mapping[str, float]
    r2: pd.DataFrame
    notes: tuple[str, ...]


def r_squared(measured: pd.Series, predicted: pd.Series) -> float:
    """Return `1 - sum (measured - predicted)^2 / sum (measured - mean)^2` over steps that have both.

    >>> r_squared(pd.Series([1.0, 3.0, 9.0]), pd.Series([1.0, 2.0, np.nan]))
    0.5
    """
    both = pd.concat({"y": measured, "x": predicted}, axis=1).dropna()
    spread = float(((both.y - both.y.mean()) ** 2).sum())
    return 1 - float(((both.y - both.x) ** 2).sum()) / spread if spread > 0 else float("nan")


def summarise(study: Study) -> Summary:
    """Return what the figure shows, of the constant part."""
    steps = study.steps[(study.steps.part == "constant") & study.steps.arm.isin(SHOWN)].dropna(subset=["dH_measured"])
    runs = study.runs[study.runs.part == "constant"]
    if steps.empty or runs.empty:
        raise NothingToDrawError("the training study (controllers/steps.csv and runs.csv)")
    columns = {"r2_first_order": "dH_first_order", "r2_tabular": "dH_tabular"}
    r2 = runs.groupby("arm")[list(columns)].mean().rename(columns=columns)
    r2 = r2.loc[in_order(set(r2.index))]
    fits = {name: r_squared(steps.dH_measured, steps[name]) for name in FORMULAS}
    return Summary(steps, fits, r2, tuple(absent(CONTROLLERS, set(r2.index))))


def draw(summary: Summary) -> Figure:
    """Return the figure."""
    arms = in_order(set(summary.steps.arm))
    with plt.rc_context(SETTINGS):
        figure = plt.figure(figsize=(WIDTH, 8.6), layout="constrained")
        grid = figure.add_gridspec(2, 2, width_ratios=(1, 1.25))
        for place, (column, text) in enumerate(FORMULAS.items()):
            panel = figure.add_subplot(grid[place, 0])
            draw_steps(panel, summary.steps, column, arms)
            title = f"{'ab'[place]}  {text}: $R^2$ = {summary.fits[column]:.2f}"
            label(panel, title, "predicted ($10^{-3}$ nats/token)", "measured ($10^{-3}$ nats/token)")
        last = figure.add_subplot(grid[:, 1])
        draw_r2(last, summary.r2)
        label(last, "c  $R^2$ of each method's runs (clipped at -1)", "$R^2$ against the identity", "")
        legend_below(figure, arms, 6, points=True, band=False)
    return figure


def draw_steps(axes: Axes, steps: pd.DataFrame, column: str, arms: list[str]) -> None:
    """Draw a point a step, with the identity; the outermost percent of the measured changes is cut off."""
    limit = SCALE * float(np.nanquantile(np.abs(steps.dH_measured), 0.99)) if len(steps) else 1.0
    for name in arms:
        rows, line = steps[steps.arm == name], arm_of(name).line
        x, y = SCALE * rows[column], SCALE * rows.dH_measured
        axes.plot(x, y, ls="none", marker=line.marker, color=line.color, ms=3, alpha=0.35, mew=0)
    axes.plot([-limit, limit], [-limit, limit], color=INK, lw=1)
    axes.set(xlim=(-1.05 * limit, 1.05 * limit), ylim=(-1.05 * limit, 1.05 * limit), aspect="equal")


def draw_r2(axes: Axes, r2: pd.DataFrame) -> None:
    """Draw both R2 of each arm: filled along the step taken, hollow the tabular formula."""
    places = np.arange(len(r2))
    for column, face, text in (("dH_first_order", "#0072B2", "E7"), ("dH_tabular", "white", "E4")):
        values = r2[column].clip(lower=-1).to_numpy()
        axes.plot(values, places, "o", color="#0072B2", mfc=face, ms=6, label=text)
    axes.axvline(0, color=INK, lw=0.8)
    axes.set_yticks(places, [arm_of(name).text for name in r2.index], fontsize=9)
    axes.set_ylim(len(r2) - 0.5, -0.5)
    axes.set_xlim(-1.08, 1.05)
    axes.legend(loc="lower left", handletextpad=0.1)


def build(data: Data) -> Built:
    """Load, summarise and draw."""
    summary = summarise(data.study)
    return Built(draw(summary), notes=summary.notes)


ENTRY = Entry(
    "prediction",
    "Predicted against measured entropy change",
    "Each point is an optimiser step of training, measured on fixed contexts. a: predicted by the derivative of "
    "entropy along the step that was taken. b: by the tabular formula, which knows nothing of shared parameters. "
    "c: R2 of each method's runs.",
    ("controllers",),
    build,
)

if __name__ == "__main__":
    main_of(ENTRY)
