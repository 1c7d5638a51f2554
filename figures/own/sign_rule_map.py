"""The sign rule over vocabulary, entropy and confidence: how often an advantage's sign tells entropy's direction."""

from collections.abc import Mapping
from dataclasses import dataclass

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.figure import Figure

from figures.entry import Built, Entry, main_of
from figures.fig_audit import FAILS_TO_HOLDS, OF_MASS, PERCENT
from figures.load import LoadedAudit, largest_vocabulary
from figures.study import Data
from figures.style import BAND, SETTINGS, WIDTH, label

ENTROPIES = (0.0, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 13.0)  # nats: edges of the rows


@dataclass(frozen=True)
class Summary:
    """What the figure shows, by family of policies; cells are shares of mass, missing where no policy lies.

    Args:
        vocabulary: rows are ranges of entropy, columns vocabularies.
        confidence: rows are ranges of entropy, columns upper ends of the token's probability; largest vocabulary.
    """

    vocabulary: Mapping[str, pd.DataFrame]
    confidence: Mapping[str, pd.DataFrame]


def row_of(entropy: pd.Series) -> pd.Series:
    """Return the index of each entropy's range.

    >>> row_of(pd.Series([0.05, 0.5])).tolist()
    [0, 3]
    """
    return pd.Series(np.searchsorted(ENTROPIES, entropy, side="right") - 1, index=entropy.index)


def summarise(audit: LoadedAudit) -> Summary:
    """Return what the figure shows; tokens of a cell are averaged by their mass."""
    rule = audit.sign_rule.assign(row=row_of(audit.sign_rule.entropy))
    found = largest_vocabulary(audit.confidence)
    found = found.assign(row=row_of(found.entropy), held=found.holds * found.mass)
    vocabulary, confidence = {}, {}
    every = range(len(ENTROPIES) - 1)
    for family in rule.family.unique():
        same = rule[rule.family == family]
        vocabulary[family] = same.pivot_table(index="row", columns="vocabulary", values="holds").reindex(every)
        sums = found[found.family == family].groupby(["row", "to"])[["held", "mass"]].sum()
        confidence[family] = (sums.held / sums.mass.where(sums.mass > 0)).unstack().reindex(every)
    return Summary(vocabulary, confidence)


def draw(summary: Summary) -> Figure:
    """Return the figure."""
    families = list(summary.vocabulary)
    with plt.rc_context(SETTINGS):
        figure, axes = plt.subplots(2, len(families), figsize=(WIDTH, 7.4), layout="constrained", squeeze=False)
        for place, family in enumerate(families):
            mesh = draw_cells(axes[0, place], summary.vocabulary[family], place == 0)
            label(axes[0, place], family, "vocabulary", "entropy (nats)" if place == 0 else "")
            draw_cells(axes[1, place], summary.confidence[family], place == 0)
            largest = summary.vocabulary[family].columns.max()
            title = f"{family}, V = {largest}"
            label(axes[1, place], title, "$p_k$ of the token, up to", "entropy (nats)" if place == 0 else "")
        bar = figure.colorbar(mesh, ax=axes, shrink=0.6, pad=0.01)
        bar.set_label(OF_MASS)
    return figure


def draw_cells(axes: Axes, cells: pd.DataFrame, named: bool) -> QuadMesh:
    """Draw a map with its numbers, in percent; grey where there is nothing."""
    values = PERCENT * cells.to_numpy(dtype=float)
    axes.set_facecolor(BAND)
    axes.grid(visible=False)
    mesh = axes.pcolormesh(
        np.ma.masked_invalid(values), cmap=FAILS_TO_HOLDS, vmin=0, vmax=100, edgecolors="white", lw=0.5
    )
    for (row, column), value in np.ndenumerate(values):
        if np.isfinite(value):
            color = "white" if abs(value - 50) > 38 else "#222222"
            axes.text(column + 0.5, row + 0.5, f"{value:.0f}", ha="center", va="center", fontsize=8.5, color=color)
    names = [name_of(float(edge)) for edge in cells.columns.to_numpy()]
    axes.set_xticks(np.arange(len(names)) + 0.5, names, fontsize=9, rotation=45 if len(names) > 5 else 0)
    edges = [f"{edge:g}" for edge in ENTROPIES] if named else []
    axes.set_yticks(range(len(ENTROPIES)) if named else [], edges, fontsize=9)
    return mesh


def name_of(edge: float) -> str:
    """Return a column's name: powers of ten below a percent, thousands from ten thousand on.

    >>> name_of(0.001), name_of(0.3), name_of(32000)
    ('$10^{-3}$', '0.3', '32K')
    """
    if edge >= 10_000:
        return f"{edge / 1000:.0f}K"
    return f"{edge:g}" if edge >= 0.01 else f"$10^{{{round(np.log10(edge))}}}$"


def build(data: Data) -> Built:
    """Load, summarise and draw."""
    return Built(draw(summarise(data.audit)))


ENTRY = Entry(
    "sign_rule_map",
    "Where the sign rule holds",
    "Percent of sampled tokens, by probability mass, whose update moves entropy against the sign of its advantage. "
    "Above: by vocabulary and entropy of the policy, four families of random policies. Below: by the probability of "
    "the token, at the largest vocabulary. Blue: the rule holds; red: the opposite does; grey: none of that kind.",
    ("audit",),
    build,
)

if __name__ == "__main__":
    main_of(ENTRY)
