"""Positives against negatives: entropy when right or wrong answers alone are learnt from, and what parts the two."""

from collections.abc import Mapping
from dataclasses import dataclass

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from figures.entry import Built, Entry, main_of
from figures.study import Data
from figures.style import INK, LINES, SETTINGS, WIDTH, label

PANELS = {
    "curves_rewards": "a  Advantages $r$ and $r - 1$",
    "curves_grpo": "b  GRPO's advantages, one difficulty",
    "curves_grpo_spread": "c  GRPO's, many difficulties",
}
SIDES = {"positives": (LINES[1].color, "right answers alone"), "negatives": (LINES[0].color, "wrong answers alone")}
DENOMINATORS = {"zero": ("-", "over all rollouts"), "drop": ("--", "over kept rollouts")}


@dataclass(frozen=True)
class Summary:
    """What the figure shows.

    Args:
        curves: by table, rows with columns side, denominator, exact (expected gradients), time, entropy, low, high.
        ends: by table and denominator, entropy at the end of positives minus that of negatives, nats.
    """

    curves: Mapping[str, pd.DataFrame]
    ends: Mapping[tuple[str, str], float]


def split(run: str) -> tuple[str, str, bool]:
    """Return side, denominator and whether gradients are expected ones, of a run's name.

    >>> split("exact_positives, drop")
    ('positives', 'drop', True)
    """
    side, denominator = run.split(", ")
    return side.removeprefix("exact_"), denominator, side.startswith("exact_")


def summarise(tables: Mapping[str, pd.DataFrame]) -> Summary:
    """Return what the figure shows."""
    curves, ends = {}, {}
    for name in PANELS:
        rows = tables[name]
        parts = pd.DataFrame([split(run) for run in rows.run], rows.index, ["side", "denominator", "exact"])
        curves[name] = pd.concat([rows, parts], axis=1)
        last = curves[name][(rows.time == rows.time.max()) & ~parts.exact]
        for denominator in DENOMINATORS:
            at_end = last[last.denominator == denominator].set_index("side").entropy
            ends[name, denominator] = float(at_end["positives"] - at_end["negatives"])
    return Summary(curves, ends)


def draw(summary: Summary) -> Figure:
    """Return the figure."""
    with plt.rc_context(SETTINGS):
        figure, axes = plt.subplots(1, 3, figsize=(WIDTH, 4.4), layout="constrained", sharey=True)
        for panel, (name, title) in zip(axes, PANELS.items(), strict=True):
            draw_curves(panel, summary.curves[name])
            gaps = [f"{text}: {summary.ends[name, key]:+.2f}" for key, (_, text) in DENOMINATORS.items()]
            words = "\n".join(["right - wrong at the end", *gaps])
            panel.text(0.98, 0.98, words, transform=panel.transAxes, ha="right", va="top", fontsize=9, color=INK)
            panel.tick_params(labelleft=True)
            panel.set_ylim(-0.05, 3.3)
            label(panel, title, "learning rate x steps", "entropy (nats)")
        handles = [Line2D([], [], color=color) for color, _ in SIDES.values()]
        handles += [Line2D([], [], color=INK, ls=dash) for dash, _ in DENOMINATORS.values()]
        handles.append(Line2D([], [], color=INK, ls=":", lw=1))
        names = [*(text for _, text in SIDES.values()), *(f"mean {text}" for _, text in DENOMINATORS.values())]
        figure.legend(handles, [*names, "expected gradients"], loc="outside lower center", ncols=5)
    return figure


def draw_curves(axes: Axes, rows: pd.DataFrame) -> None:
    """Draw sampled runs with their intervals, and dotted what expected gradients alone would do."""
    for (side, denominator, exact), same in rows.groupby(["side", "denominator", "exact"], sort=False):
        color, dash = SIDES[str(side)][0], DENOMINATORS[str(denominator)][0]
        if exact:
            axes.plot(same.time, same.entropy, color=INK, ls=":", lw=1, zorder=3)
        else:
            axes.plot(same.time, same.entropy, color=color, ls=dash)
            axes.fill_between(same.time, same.low, same.high, color=color, alpha=0.15, lw=0)


def build(data: Data) -> Built:
    """Load, summarise and draw."""
    return Built(draw(summarise(data.simulation("one_sided").tables)))


ENTRY = Entry(
    "positives_negatives",
    "Positives against negatives",
    "Small policies that learn from right answers alone (blue) or from wrong ones alone (red), on-policy, in small "
    "steps. With rewards as advantages and a mean over all rollouts (solid) the two move entropy alike; the mean over "
    "kept rollouts (dashed), as in Algorithm 1, and GRPO's normalisation tell them apart, not always the way that the "
    "sign rule says. Dotted: expected gradients, without sampling. Shaded: intervals over repeats.",
    ("simulations/one_sided",),
    build,
)

if __name__ == "__main__":
    main_of(ENTRY)
