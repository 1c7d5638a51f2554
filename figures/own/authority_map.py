"""The control-authority map: in which settings negatives alone raise entropy."""

from collections.abc import Mapping
from dataclasses import dataclass

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import BoundaryNorm, ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from figures.entry import Built, Entry, main_of
from figures.study import Data
from figures.style import SETTINGS, WIDTH, label

OPTIMIZERS = {"map_sgd": "SGD", "map_adam": "Adam"}
# By code: what negatives alone do, and its colour.
EFFECTS = {
    2: ("raises entropy", "#0072B2"),
    1: ("brakes its fall", "#9CCBE8"),
    0: ("no effect", "#F2F2F2"),
    -1: ("lowers it faster than GRPO", "#E8955A"),
}


@dataclass(frozen=True)
class Summary:
    """What the figure shows.

    Args:
        maps: by optimiser, codes of `EFFECTS`: a row a policy, accuracy and batch, a column a use and learning rate.
        shares: by optimiser and code, the share of settings.
    """

    maps: Mapping[str, pd.DataFrame]
    shares: Mapping[tuple[str, int], float]


def summarise(tables: Mapping[str, pd.DataFrame]) -> Summary:
    """Return what the figure shows."""
    maps: dict[str, pd.DataFrame] = {}
    shares: dict[tuple[str, int], float] = {}
    for name, optimizer in OPTIMIZERS.items():
        rows = tables[name]
        wide = rows.pivot(index="row", columns="column", values="code")
        maps[optimizer] = wide.loc[rows.row.unique(), rows.column.unique()]
        shares |= {(optimizer, code): float((rows.code == code).mean()) for code in EFFECTS}
    return Summary(maps, shares)


def draw(summary: Summary) -> Figure:
    """Return the figure."""
    with plt.rc_context(SETTINGS):
        figure, axes = plt.subplots(1, 2, figsize=(WIDTH, 6.4), layout="constrained", sharey=True)
        for panel, letter, (optimizer, cells) in zip(axes, "ab", summary.maps.items(), strict=True):
            draw_cells(panel, cells)
            up, brakes, _, down = (f"{100 * summary.shares[optimizer, code]:.0f} %" for code in EFFECTS)
            title = f"{letter}  {optimizer}: raises in {up},\n    brakes in {brakes}, lowers faster in {down}"
            label(panel, title, "use of a batch, learning rate", "")
        handles = [Patch(facecolor=color, edgecolor="#999999") for _, color in EFFECTS.values()]
        figure.legend(handles, [text for text, _ in EFFECTS.values()], loc="outside lower center", ncols=4)
    return figure


def draw_cells(axes: Axes, cells: pd.DataFrame) -> None:
    """Draw the effect of each setting; a plus where entropy rises, so that it is seen without colour too."""
    codes = sorted(EFFECTS)
    colors = ListedColormap([EFFECTS[code][1] for code in codes])
    norm = BoundaryNorm(np.arange(min(codes), max(codes) + 2) - 0.5, len(codes))
    axes.pcolormesh(cells.to_numpy(dtype=float), cmap=colors, norm=norm, edgecolors="white", lw=1)
    for row, column in np.argwhere(cells.to_numpy() == 2):
        axes.text(column + 0.5, row + 0.45, "+", ha="center", va="center", color="white", fontsize=12)
    axes.grid(visible=False)
    axes.set_xticks(np.arange(cells.shape[1]) + 0.5, list(cells.columns), rotation=40, ha="right", fontsize=9)
    axes.set_yticks(np.arange(len(cells)) + 0.5, list(cells.index), fontsize=9)
    axes.set_ylim(len(cells), 0)


def build(data: Data) -> Built:
    """Load, summarise and draw."""
    return Built(draw(summarise(data.simulation("authority").tables)))


ENTRY = Entry(
    "authority_map",
    "Control authority of Algorithm 1",
    "What keeping negatives alone does to entropy, which is what Algorithm 1 does below its band, over policies, base "
    "accuracies, batches, reuse and learning rates (each beyond 2 standard errors). A setting that only brakes cannot "
    "bring entropy back up.",
    ("simulations/authority",),
    build,
)

if __name__ == "__main__":
    main_of(ENTRY)
