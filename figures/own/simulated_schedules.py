"""Schedules followed by controllers on small policies: entropy, tracking error and reward."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from figures.arms import DOTTED, ORANGE, arm_of
from figures.entry import Built, Entry, main_of
from figures.page import Panel
from figures.panels import Style, draw_panel
from figures.study import Data
from figures.style import INK, SETTINGS, WIDTH, Line, label

PANELS = {
    "curves_table_constant": "a  Constant target, bandits",
    "curves_table_linear": "b  Linear target, bandits",
    "curves_table_square": "c  Square wave, bandits",
    "curves_mlp_square": "d  Square wave, shared network",
}
SHOWN = ("grpo", "algorithm1", "released", "fixed_bonus", "rejection", "soft", "solved_bonus")
LEARNT = "_learnt"  # the controller learns the scale of its prediction, as it must in a network
FIXED = Line(ORANGE, DOTTED, "v")


@dataclass(frozen=True)
class Summary:
    """What the figure shows.

    Args:
        curves: by table, rows of the controllers shown; those that learn a scale are under their own name where the
            plain one was not run.
        maps: rows controller, cell, rmse, reward of all controllers.
    """

    curves: Mapping[str, pd.DataFrame]
    maps: pd.DataFrame


def chosen(names: Sequence[str]) -> dict[str, str]:
    """Return the rows' controllers to show, by the name that they are shown under.

    >>> chosen(["grpo", "soft_learnt"])
    {'grpo': 'grpo', 'soft_learnt': 'soft'}
    """
    plain = {name: name for name in names if name in SHOWN}
    learnt = {name: name.removesuffix(LEARNT) for name in names if name.endswith(LEARNT)}
    return plain | {name: short for name, short in learnt.items() if short in SHOWN and short not in plain}


def summarise(tables: Mapping[str, pd.DataFrame]) -> Summary:
    """Return what the figure shows."""
    curves = {}
    for name in PANELS:
        shown = chosen(list(tables[name].controller.unique()))
        rows = tables[name][tables[name].controller.isin(shown)]
        curves[name] = rows.assign(controller=rows.controller.map(shown))
    return Summary(curves, tables["summary"])


def line_of(name: str) -> Line:
    """Return the look of a controller."""
    return FIXED if name == "fixed_bonus" else arm_of(name).line


def draw(summary: Summary) -> Figure:
    """Return the figure."""
    with plt.rc_context(SETTINGS):
        figure = plt.figure(figsize=(WIDTH, 12.2), layout="constrained")
        # Apart from each other: the maps' long names would take room from the curves.
        parts: Any = figure.subfigures(2, 1, height_ratios=(1.75, 1))
        for panel, (name, title) in zip(parts[0].subplots(2, 2).flat, PANELS.items(), strict=True):
            draw_curves(panel, summary.curves[name])
            label(panel, title, "step", "entropy (nats)")
        looks = Style({}, {})
        left, right = parts[1].subplots(1, 2)
        for panel, value, title in ((left, "rmse", "e  RMSE (nats)"), (right, "reward", "f  Final reward")):
            shape = Panel(title, "summary", "cell", "controller", "map", value=value, x_label=" ", y_label=" ")
            draw_panel(panel, shape, summary.maps, looks)
        handles = [Line2D([], [], color=line_of(name).color, ls=line_of(name).dash) for name in SHOWN]
        names = ["fixed bonus" if name == "fixed_bonus" else arm_of(name).text for name in SHOWN]
        handles.append(Line2D([], [], color=INK, ls="--", lw=1))
        parts[0].legend(handles, [*names, "target"], loc="outside lower center", ncols=4, handlelength=2.4)
    return figure


def draw_curves(axes: Axes, rows: pd.DataFrame) -> None:
    """Draw each controller's entropy with its interval, and the target."""
    for name in [name for name in SHOWN if name in set(rows.controller)]:
        same, line = rows[rows.controller == name], line_of(name)
        axes.plot(same.step, same.entropy, color=line.color, ls=line.dash)
        axes.fill_between(same.step, same.low, same.high, color=line.color, alpha=0.1, lw=0)
    target = rows.drop_duplicates("step").sort_values("step")
    axes.plot(target.step, target.target, color=INK, ls="--", lw=1, zorder=3)


def build(data: Data) -> Built:
    """Load, summarise and draw."""
    return Built(draw(summarise(data.simulation("schedules").tables)))


ENTRY = Entry(
    "simulated_schedules",
    "Schedules on small policies",
    "a to d: entropy of controllers on bandits that own their logits and on a network that prompts share (there the "
    "predictive ones learn the scale of their prediction), with intervals. e, f: tracking error and final reward of "
    "every controller on every schedule; grey: not run.",
    ("simulations/schedules",),
    build,
)

if __name__ == "__main__":
    main_of(ENTRY)
