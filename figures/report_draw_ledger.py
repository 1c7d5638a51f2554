"""The pictures of a run's entropy ledger."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from figures.report_draw import CHANGE, MILLI, Panel, drawn
from figures.report_ledger import CAUSES, SHIFT, TOTALS, present, windows
from figures.style import BAND, INK

COLORS = {
    "tabular": "#0072B2",
    "network": "#E69F00",
    "first_order": "#56B4E9",
    "second_order": "#009E73",
    "unexplained": BAND,
    "measured": "#666666",
    "context_shift": "#CC79A7",
    "not_probed": "#E69F00",
    "curve": INK,
}
SUM = "sum ($10^{-3}$ nats/token)"
HATCHES = {"unexplained": "///", "network": "..", "context_shift": "\\\\"}


def ledger_panels(rows: pd.DataFrame, name: str) -> list[Panel]:
    """Return the measured change by cause, the curve by measured change and shift, and both as running sums."""
    sums = windows(rows)
    length = int((sums["last"] - sums.step).max()) + 1
    span = f"windows of {length} steps" if length > 1 else "each step"
    shift = {"measured": "", **present(rows, SHIFT)}
    return [
        Panel(
            f"Measured change by cause{name}",
            drawn(lambda axes: draw_stack(axes, sums, present(rows, CAUSES), "measured"), "step", CHANGE),
            f"Sums over {span}; the bars of a window add up to the diamond, the change measured on fixed contexts.",
        ),
        Panel(
            f"Change of the training curve{name}",
            drawn(lambda axes: draw_stack(axes, sums, shift, "curve"), "step", CHANGE),
            f"Sums over {span}; the bars add up to the diamond, how much the training curve changed.",
        ),
        Panel(
            f"Running sums{name}",
            drawn(lambda axes: draw_running(axes, rows, [*present(rows, CAUSES), *shift, "curve"]), "step", SUM),
            "Every step's entry, added up from the first step on; dotted: the training curve less its first value.",
        ),
    ]


def draw_stack(axes: Axes, sums: pd.DataFrame, parts: Mapping[str, str], total: str) -> None:
    """Draw entries of a window on top of each other, positive ones up and negative ones down, and their sum."""
    middle = (sums.step + sums["last"]) / 2
    width = 0.8 * (sums["last"] - sums.step + 1)
    axes.set_axisbelow(True)
    up, down = np.zeros(len(sums)), np.zeros(len(sums))
    for name in parts:
        values = MILLI * sums[name].to_numpy()
        bottom = np.where(values >= 0, up, down)
        axes.bar(middle, values, width, bottom, color=COLORS[name], hatch=HATCHES.get(name), edgecolor="white", lw=0)
        up, down = up + np.clip(values, 0, None), down + np.clip(values, None, 0)
    axes.axhline(0, color=INK, lw=0.8)
    axes.plot(middle, MILLI * sums[total], "D", color=INK, mec="white", mew=0.8, ms=6)


def draw_running(axes: Axes, rows: pd.DataFrame, names: list[str]) -> None:
    """Draw running sums, the totals thick, the training curve dotted."""
    axes.axhline(0, color=INK, lw=0.8)
    for name in names:
        dash, width = (":" if name == "curve" else "-"), (2.2 if name in TOTALS else 1.4)
        axes.plot(rows.step, MILLI * rows[name].cumsum(), color=COLORS[name], ls=dash, lw=width)
