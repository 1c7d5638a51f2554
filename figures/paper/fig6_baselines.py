"""Figure 6: entropy curves of every method, each family in a panel, at a constant target."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from figures.arms import BASE, CONTROLLERS, FAMILIES, arm_of, in_order
from figures.curves import draw_arms, draw_band
from figures.entry import Built, Entry, main_of
from figures.parts import absent
from figures.study import Data, NothingToDrawError
from figures.style import SETTINGS, WIDTH, label

HIGHEST = 1.0  # nats shown
LEGEND: Any = {"fontsize": 9, "columnspacing": 1, "handlelength": 2.2, "borderaxespad": 0}


@dataclass(frozen=True)
class Summary:
    """What the figure shows.

    Args:
        families: the arms of each panel, GRPO not among them.
        curves: rows of the constant part.
        ends: by arm, mean entropy over seeds in the last bin.
        notes: what is missing.
    """

    families: Mapping[str, list[str]]
    curves: pd.DataFrame
    ends: Mapping[str, float]
    notes: tuple[str, ...]


def summarise(curves: pd.DataFrame) -> Summary:
    """Return what the figure shows."""
    rows = curves[curves.part == "constant"]
    if rows.empty:
        raise NothingToDrawError("the constant part of the training study (controllers/curves.csv)")
    present = in_order(set(rows.arm))
    every = (*FAMILIES, "others")
    families = {name: [arm for arm in present if arm_of(arm).family == name] for name in every if name != BASE}
    last = rows[rows.step == rows.step.max()]
    ends = {name: float(last[last.arm == name].entropy.mean()) for name in present}
    notes = absent(CONTROLLERS, set(present))
    beyond = [arm_of(name).text for name in present if rows[rows.arm == name].entropy.max() > HIGHEST]
    if beyond:
        notes.append(f"Above the {HIGHEST:g} nat shown for some time: {', '.join(beyond)}.")
    return Summary({name: arms for name, arms in families.items() if arms}, rows, ends, tuple(notes))


def draw(summary: Summary) -> Figure:
    """Return the figure."""
    count = len(summary.families)
    columns = min(2, max(count, 1))
    with plt.rc_context(SETTINGS):
        rows = -(-count // columns)
        shape: Any = {"squeeze": False, "sharex": True, "sharey": True}
        figure, axes = plt.subplots(rows, columns, figsize=(WIDTH, 4.1 * rows), layout="constrained", **shape)
        for panel in axes.flat[count:]:
            panel.set_axis_off()
        # A destroyed policy's entropy would leave no room for the others.
        high = min(HIGHEST, float(summary.curves.entropy.max()))
        low = max(0.0, float(summary.curves.entropy.min()) - 0.02)
        for panel, (family, arms) in zip(axes.flat, summary.families.items(), strict=False):
            shown = ["grpo", *arms] if "grpo" in summary.ends else arms
            draw_band(panel, summary.curves)
            draw_arms(panel, summary.curves, shown, "entropy")
            names = [f"{arm_of(name).text} ({summary.ends[name]:.2f})" for name in shown]
            handles = [Line2D([], [], color=arm_of(name).line.color, ls=arm_of(name).line.dash) for name in shown]
            panel.legend(handles, names, loc="upper center", bbox_to_anchor=(0.45, -0.17), ncols=2, **LEGEND)
            panel.set_ylim(low, high)
            panel.tick_params(labelbottom=True, labelleft=True)
            label(panel, family, "step", "entropy (nats/token)")
    return figure


def build(data: Data) -> Built:
    """Load, summarise and draw."""
    summary = summarise(data.study.curves)
    return Built(draw(summary), notes=summary.notes)


ENTRY = Entry(
    "fig6_baselines",
    "Figure 6: entropy under every method",
    "Mean over seeds, the least to the most of them shaded, averaged over three rows of the curves; in brackets the "
    "entropy at the end. Grey: the band of those that aim at a target (0.45 to 0.55 nats; other methods look at no "
    "band). GRPO is in every panel.",
    ("controllers",),
    build,
)

if __name__ == "__main__":
    main_of(ENTRY)
