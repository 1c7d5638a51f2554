"""What control is worth: differences to GRPO after as many samples, and where GRPO's entropy was the same."""

from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from figures.arms import CONTROLLERS, arm_of, in_order
from figures.curves import PERCENT
from figures.entry import Built, Entry, main_of
from figures.parts import absent
from figures.study import Data, NothingToDrawError
from figures.style import INK, LINES, SETTINGS, WIDTH, label

QUANTITIES = {"pass@1": "a  pass@1", "pass@8": "b  pass@8", "pass@32": "c  pass@32"}
# Where an arm stands in its row, its colour and its marker.
WAYS = {
    "same_samples": (-0.16, LINES[1].color, "o", "after as many samples"),
    "same_entropy": (0.16, LINES[0].color, "s", "where GRPO's entropy was the same"),
}


@dataclass(frozen=True)
class Summary:
    """What the figure shows.

    Args:
        arms: in order.
        rows: of comparison.csv: differences of the constant part at temperature 1.
        notes: what is missing.
    """

    arms: Sequence[str]
    rows: pd.DataFrame
    notes: tuple[str, ...]


def summarise(comparison: pd.DataFrame) -> Summary:
    """Return what the figure shows."""
    rows = comparison[(comparison.part == "constant") & (comparison.setting == "t1")]
    rows = rows[rows.comparison.isin(WAYS) & rows.quantity.isin(QUANTITIES)]
    if rows.empty:
        raise NothingToDrawError("the comparison with GRPO (controllers/comparison.csv)")
    arms = in_order(set(rows.arm))
    few = [arm_of(name).text for name in arms if rows[rows.arm == name].seeds.max() < 3]
    notes = absent([name for name in CONTROLLERS if name != "grpo"], set(arms))
    if few:
        which = "all" if len(few) == len(arms) else ", ".join(few)
        notes.append(f"Of fewer than three seeds, whose spread the intervals hardly see: {which}.")
    return Summary(arms, rows, tuple(notes))


def draw(summary: Summary) -> Figure:
    """Return the figure."""
    with plt.rc_context(SETTINGS):
        height = 1.6 + 0.29 * len(summary.arms)
        figure, axes = plt.subplots(1, 3, figsize=(WIDTH, max(height, 3.5)), layout="constrained", sharey=True)
        for panel, (quantity, title) in zip(axes, QUANTITIES.items(), strict=True):
            draw_differences(panel, summary.rows[summary.rows.quantity == quantity], summary.arms)
            label(panel, title, "difference to GRPO (points)", "")
        axes[0].set_yticks(range(len(summary.arms)), [arm_of(name).text for name in summary.arms], fontsize=9.5)
        axes[0].set_ylim(len(summary.arms) - 0.4, -0.6)
        handles = [Line2D([], [], color=color, marker=marker, lw=1.2) for _, color, marker, _ in WAYS.values()]
        handles.append(Line2D([], [], color=INK, ls="none", marker="s", mfc="white"))
        names = [text for *_, text in WAYS.values()]
        figure.legend(handles, [*names, "GRPO never had it: nearest taken"], loc="outside lower center", ncols=3)
    return figure


def draw_differences(axes: Axes, rows: pd.DataFrame, arms: Sequence[str]) -> None:
    """Draw both differences of each arm with their intervals; hollow where entropies could not be matched."""
    for row in rows.to_dict("records"):
        shift, color, marker, _ = WAYS[row["comparison"]]
        place = arms.index(row["arm"]) + shift
        axes.hlines(place, PERCENT * row["low"], PERCENT * row["high"], color=color, lw=1.2)
        face = "white" if row["matched"] == "no" else color
        axes.plot(PERCENT * row["value"], place, marker, color=color, mfc=face, ms=5)
    for place in np.arange(len(arms) - 1) + 0.5:
        axes.axhline(place, color="#F0F0F0", lw=0.8, zorder=0)
    axes.axvline(0, color=INK, lw=0.8)
    axes.grid(visible=False, axis="y")


def build(data: Data) -> Built:
    """Load, summarise and draw."""
    summary = summarise(data.study.comparison)
    return Built(draw(summary), notes=summary.notes)


ENTRY = Entry(
    "comparison",
    "What control is worth",
    "Held-out results of the constant part at temperature 1 minus GRPO's, in percentage points: at the same step, and "
    "against GRPO at the place of its own run where held-out entropy was the arm's; 95 % intervals over seeds and "
    "prompts. To the right of 0 an arm is better than GRPO.",
    ("controllers",),
    build,
)

if __name__ == "__main__":
    main_of(ENTRY)
