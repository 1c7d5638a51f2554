"""Figure 7: how many rollouts of a group are used on steps that a filter acts on."""

import math
from dataclasses import dataclass

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures.arms import PREDICTIVE, arm_of, in_order
from figures.curves import handle
from figures.entry import Built, Entry, main_of
from figures.parts import absent, drawn_from
from figures.study import Data, NothingToDrawError, Study
from figures.style import SETTINGS, WIDTH, label

WINDOWS = 12  # that a run is cut into, of at least 25 steps each
WANTED = ("algorithm1", "released", "rejection", "soft")
SIDES = ("above", "below")


@dataclass(frozen=True)
class Summary:
    """What the figure shows.

    Args:
        sizes: columns arm, side (of `SIDES`), step (of the window's middle), size (mean over the window's steps on that
            side), share (of the window's steps that lie there).
        group_size: rollouts of a prompt.
        notes: what is missing.
    """

    sizes: pd.DataFrame
    group_size: float
    notes: tuple[str, ...]


def summarise(study: Study) -> Summary:
    """Return the mean effective group size over the steps outside the band, in windows, over seeds and parts."""
    curves = study.curves[study.curves.part.isin([study.main, "linear"])]
    arms = [name for name in in_order(set(curves.arm)) if name in WANTED or arm_of(name).family == PREDICTIVE]
    rows = curves[curves.arm.isin(arms)].dropna(subset=["share_above", "share_below"])
    if rows.empty:
        raise NothingToDrawError("curves of a training study's filters (curves.csv)")
    row = int(rows.step.drop_duplicates().sort_values().diff().min()) if rows.step.nunique() > 1 else 1
    window = row * math.ceil(max(25, (rows.step.max() + row) / WINDOWS) / row)
    rows = rows.assign(step=window * (rows.step // window + 0.5))
    sides = [side_of(rows, side) for side in SIDES]
    parts = ", ".join(sorted(set(rows.part)))
    notes = [drawn_from(study, parts), f"Windows of {window} steps.", *absent(WANTED, set(arms))]
    return Summary(pd.concat(sides, ignore_index=True), float(study.curves.effective_group_size.max()), tuple(notes))


def side_of(rows: pd.DataFrame, side: str) -> pd.DataFrame:
    """Return the sizes of one side: means of the rows of each window, weighted by their steps on that side."""
    share = rows[f"share_{side}"]
    sums = rows.assign(share=share, size=share * rows[f"effective_group_size_{side}"], every=1.0)
    sums = sums.groupby(["arm", "step"])[["size", "share", "every"]].sum().reset_index()
    sums = sums[sums.share > 0]
    sizes = sums.assign(side=side, size=sums["size"] / sums.share, share=sums.share / sums.every)
    return sizes[["arm", "side", "step", "size", "share"]]


def draw(summary: Summary) -> Figure:
    """Return the figure."""
    arms = in_order(set(summary.sizes.arm))
    with plt.rc_context(SETTINGS):
        figure, axes = plt.subplots(1, 2, figsize=(WIDTH, 4.4), layout="constrained", sharey=True)
        for panel, letter, side in zip(axes, "ab", SIDES, strict=True):
            draw_side(panel, summary.sizes[summary.sizes.side == side], arms)
            panel.axhline(summary.group_size, color="#777777", lw=1, ls=":")
            panel.set_ylim(0, summary.group_size * 1.06)
            label(panel, f"{letter}  Steps with entropy {side} the band", "step", "rollouts used of a group")
            panel.tick_params(labelleft=True)
        names = [arm_of(name).text for name in arms]
        figure.legend([handle(name) for name in arms], names, loc="outside lower center", ncols=5, handlelength=2.6)
    return figure


def draw_side(axes: Axes, sizes: pd.DataFrame, arms: list[str]) -> None:
    """Draw the sizes of a side; the larger a marker, the more of the window's steps it stands for."""
    for name in arms:
        rows, line = sizes[sizes.arm == name], arm_of(name).line
        axes.plot(rows.step, rows["size"], color=line.color, ls=line.dash, lw=1.2)
        axes.scatter(rows.step, rows["size"], 4 + 45 * np.array(rows.share), color=line.color, marker=line.marker)
    if sizes.empty:
        axes.text(0.5, 0.5, "no such steps", transform=axes.transAxes, ha="center", color="#777777")


def build(data: Data) -> Built:
    """Load, summarise and draw."""
    summary = data.first(summarise)
    return Built(draw(summary), notes=summary.notes)


ENTRY = Entry(
    "fig7_effective_batch",
    "Figure 7: effective group size on filtered steps",
    "Rollouts with a weight above 0 on steps with entropy outside the band; the larger a marker, the more "
    "of the window's steps it stands for. Dotted: all rollouts of a group. Above the band Algorithm 1 "
    "keeps advantages of at least 0, below it those of at most 0.",
    ("long", "controllers"),
    build,
)

if __name__ == "__main__":
    main_of(ENTRY)
