"""An experiment's page as a picture: its claim, an axes a panel, and below them what colours and thin lines mean."""

import textwrap
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec
from matplotlib.lines import Line2D

from figures.arms import ARMS
from figures.page import Page, Panel
from figures.panels import Style, draw_panel, height_of, text_of, words
from figures.style import INK, LINES, SETTINGS, WIDTH, Line, line_of

TALL = 5.0  # inches of a panel from where on others are stacked beside it
ENTRY, LEFT = 0.22, 1.3  # inches of a legend's line, and of its title
THIN = (
    Line(INK, (0, (4, 2)), "d"),
    Line(INK, (0, (1, 1)), "x"),
    Line(INK, (0, (6, 1, 1, 1)), "*"),
)


@dataclass(frozen=True)
class Legend:
    """Lines of a legend.

    Args:
        title: what is told apart.
        handles: what is drawn.
        labels: what it is.
    """

    title: str
    handles: Sequence[Line2D]
    labels: Sequence[str]

    @property
    def columns(self) -> int:
        """Entries side by side."""
        longest = max(map(len, self.labels))
        return max(1, min(len(self.labels), int((WIDTH - LEFT - 0.3) / (0.6 + 0.078 * longest))))

    @property
    def height(self) -> float:
        """Inches."""
        return 0.15 + ENTRY * -(-len(self.labels) // self.columns)


@dataclass(frozen=True)
class Block:
    """Panels side by side.

    Args:
        left: from the top.
        right: likewise; empty where the left takes the whole width.
        height: inches.
    """

    left: Sequence[Panel]
    right: Sequence[Panel]
    height: float


def draw_simulation(page: Page) -> Figure:
    """Return the picture of a page."""
    style = style_of(page)
    legends, blocks = legends_of(page, style), blocks_of(page)
    # What was found stands beside what was claimed: a picture travels without its tables.
    found = page.findings[0] if page.findings else ""
    shown = (f"Claim: {page.claim}", f"Found: {textwrap.shorten(found, 330)}" if found else "")
    claim = "\n".join(textwrap.fill(text, 112) for text in shown if text)
    heights = [*(block.height for block in blocks), *(legend.height for legend in legends)]
    with plt.rc_context(SETTINGS):
        total = sum(heights) + 0.25 * claim.count("\n") + 0.5
        figure = plt.figure(figsize=(WIDTH, total), layout="constrained")
        figure.suptitle(claim, x=0.01, ha="left", fontsize=12.5)
        if not heights:
            return figure
        grid = GridSpec(len(heights), 1, figure, height_ratios=heights)
        for place, block in enumerate(blocks):
            columns = [column for column in (block.left, block.right) if column]
            parts = grid[place, 0].subgridspec(1, len(columns))
            for index, column in enumerate(columns):
                lengths = [height_of(panel, page.tables[panel.table]) for panel in column]
                rest = block.height - sum(lengths)
                ratios = [*lengths, rest] if rest > 1 and block.height > TALL else lengths
                cells = parts[0, index].subgridspec(len(ratios), 1, height_ratios=ratios)
                for row, panel in enumerate(column):
                    draw_panel(figure.add_subplot(cells[row, 0]), panel, page.tables[panel.table], style)
        for place, legend in enumerate(legends, len(blocks)):
            draw_legend(figure.add_subplot(grid[place, 0]), legend)
    return figure


def draw_legend(axes: Axes, legend: Legend) -> None:
    """Draw a legend beside its title."""
    axes.set_axis_off()
    axes.text(0, 0.5, legend.title, transform=axes.transAxes, va="center", fontsize=10.5)
    place: dict[str, Any] = {
        "loc": "center left",
        "bbox_to_anchor": (LEFT / WIDTH, 0.5),
        "borderaxespad": 0,
        "handlelength": 3,
    }
    axes.legend(legend.handles, legend.labels, ncols=legend.columns, **place)


def blocks_of(page: Page) -> list[Block]:
    """Return the panels in pairs, in order; beside one that is long by its bars, as many others as fit."""
    waiting = list(page.panels)
    heights = {id(panel): height_of(panel, page.tables[panel.table]) for panel in page.panels}
    blocks = []
    while waiting:
        first = waiting.pop(0)
        if not waiting:
            blocks.append(Block([first], [], heights[id(first)]))
            break
        left, right = [first], [waiting.pop(0)]
        long, short = (left, right) if heights[id(first)] >= heights[id(right[0])] else (right, left)
        height = heights[id(long[0])]
        while waiting and height > TALL and sum(heights[id(p)] for p in [*short, waiting[0]]) <= height + 0.5:
            short.append(waiting.pop(0))
        blocks.append(Block(left, right, max(height, sum(heights[id(p)] for p in short))))
    return blocks


def style_of(page: Page) -> Style:
    """Return the looks of all that is told apart on a page."""
    found: dict[str, dict[Hashable, None]] = {}
    for panel in page.panels:
        if panel.by and panel.kind != "map":
            values = page.tables[panel.table][panel.by].dropna().unique()
            found.setdefault(panel.by, {}).update(dict.fromkeys(values))
    looks = {column: dict(zip(values, looks_for(list(values)), strict=True)) for column, values in found.items()}
    # Methods look as they do in every other figure, where all of them do.
    for column, same in looks.items():
        if set(map(str, same)) <= set(ARMS):
            looks[column] = {name: ARMS[str(name)].line for name in same}
    names = dict.fromkeys(name for panel in page.panels if panel.kind != "map" for name in panel.reference)
    return Style(looks, {name: THIN[place % len(THIN)] for place, name in enumerate(names)})


def looks_for(values: Sequence[Hashable]) -> list[Line]:
    """Return a look a value: many numbers on a scale from dark to light, others by colour, dash and marker."""
    count = len(LINES)
    if len(values) > count and all(isinstance(value, Real) for value in values):
        ranks = np.argsort(np.argsort(np.array(values))) / (len(values) - 1)
        return [Line(mpl.colors.to_hex(color), "-", "o") for color in mpl.colormaps["viridis"](ranks * 0.9)]
    # All pairs of a colour and a dash before one comes again.
    others = [line_of(i + i // count) for i in range(len(values))]
    return [Line(line_of(i).color, other.dash, other.marker) for i, other in enumerate(others)]


def legends_of(page: Page, style: Style) -> list[Legend]:
    """Return the legends below the panels; bars that are named on their axis need none."""
    found = []
    for column, looks in style.looks.items():
        if looks and any(panel.by == column and panel.x != column for panel in page.panels):
            lines = [
                Line2D([], [], color=look.color, ls=look.dash, marker=look.marker, ms=5) for look in looks.values()
            ]
            found.append(Legend(words(column), lines, [text_of(value) for value in looks]))
    if style.thin:
        on_bars = {name for panel in page.panels if panel.kind == "bar" for name in panel.reference}
        thin = [
            Line2D([], [], color=look.color, lw=1, ls=look.dash, marker=look.marker if name in on_bars else "", ms=5)
            for name, look in style.thin.items()
        ]
        found.append(Legend("thin lines", thin, [words(name) for name in style.thin]))
    return found
