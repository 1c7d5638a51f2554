"""Ledger bars: what moved entropy over whole runs, cause by cause."""

from dataclasses import dataclass

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures.entry import Built, Entry, main_of
from figures.study import Data
from figures.style import INK, SETTINGS, WIDTH, label

# In the order of the ledger; hatches tell neighbours apart without colour.
CAUSES = {
    "covariance": ("#0072B2", ""),
    "sampling": ("#CC79A7", "//"),
    "selection": ("#999999", ""),
    "shared": ("#56B4E9", ""),
    "terms": ("#777777", "//"),
    "clip_and_reuse": ("#E69F00", ""),
    "optimizer": ("#009E73", ""),
    "second_order": ("#D55E00", "//"),
    "context_shift": ("#F0E442", ""),
    "unexplained": ("#222222", ""),
}
PERCENT = 100


@dataclass(frozen=True)
class Summary:
    """What the figure shows.

    Args:
        shares: a row a run, a column a cause: share of the change measured on fixed contexts; context shift, which
            comes on top of it, likewise.
        unexplained: by run, median |unexplained| over median |measured| of single steps.
    """

    shares: pd.DataFrame
    unexplained: pd.Series


def summarise(shares: pd.DataFrame, unexplained: pd.DataFrame) -> Summary:
    """Return what the figure shows."""
    wide = shares.pivot(index="run", columns="cause", values="share").fillna(0.0)
    wide = wide.loc[shares.run.unique(), [name for name in CAUSES if name in wide]]
    return Summary(wide, unexplained.set_index("run").share.reindex(wide.index))


def draw(summary: Summary) -> Figure:
    """Return the figure."""
    with plt.rc_context(SETTINGS):
        figure, axes = plt.subplots(
            1, 2, figsize=(WIDTH, 5.2), layout="constrained", width_ratios=(2.6, 1), sharey=True
        )
        draw_bars(axes[0], summary.shares)
        label(axes[0], "a  Causes over a whole run", "share of the measured change (%)", "")
        places = np.arange(len(summary.unexplained))
        axes[1].barh(places, PERCENT * summary.unexplained, 0.6, color=CAUSES["unexplained"][0])
        for place, value in zip(places, summary.unexplained, strict=True):
            axes[1].text(PERCENT * value + 0.05, place, f"{PERCENT * value:.2g} %", va="center", fontsize=9)
        axes[1].set_axisbelow(True)
        axes[1].set_xlim(0, 1.35 * PERCENT * summary.unexplained.max())
        label(axes[1], "b  Unexplained in a step", "of what was measured (%)", "")
        handles, names = axes[0].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside lower center", ncols=5)
    return figure


def draw_bars(axes: Axes, shares: pd.DataFrame) -> None:
    """Draw stacked bars: what goes with the measured change to the right of 0, what goes against it to the left."""
    places = np.arange(len(shares))
    right, left = np.zeros(len(shares)), np.zeros(len(shares))
    for cause in shares:
        values = PERCENT * shares[cause].to_numpy()
        color, hatch = CAUSES[str(cause)]
        start = np.where(values >= 0, right, left)
        name = str(cause).replace("_", " ")
        axes.barh(places, values, 0.7, left=start, color=color, hatch=hatch, edgecolor="white", lw=0.5, label=name)
        right, left = right + np.clip(values, 0, None), left + np.clip(values, None, 0)
    axes.axvline(0, color=INK, lw=0.8)
    axes.axvline(PERCENT, color=INK, lw=0.8, ls=":")
    axes.set_yticks(places, list(shares.index))
    axes.set_ylim(len(shares) - 0.4, -0.6)
    axes.grid(visible=False, axis="y")
    axes.set_axisbelow(True)


def build(data: Data) -> Built:
    """Load, summarise and draw."""
    tables = data.simulation("attribution").tables
    return Built(draw(summarise(tables["shares"], tables["unexplained"])))


ENTRY = Entry(
    "ledger_bars",
    "Entropy ledger",
    "a: what changed entropy over whole runs of small policies, as shares of the change that was measured on fixed "
    "contexts (they sum to 100 %, dotted; context shift comes on top). Covariance is what the theory of one context "
    "knows of. b: what the ledger leaves unexplained of a single step, medians.",
    ("simulations/attribution",),
    build,
)

if __name__ == "__main__":
    main_of(ENTRY)
