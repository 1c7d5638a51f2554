"""The panels of an experiment's page: lines, bars, points and maps."""

import textwrap
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import matplotlib.ticker as mticker
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, Normalize, TwoSlopeNorm

from figures.page import Panel
from figures.style import BAND, INK, Line, label, line_of

HEIGHT = 3.3  # inches of a panel that is not longer by its rows
BAR, GROUP, ENDS = 0.17, 0.07, 0.9  # inches of a bar, between categories, and of title and axis
SMALL = 9
FEW = 16  # points of a line that get markers; rows of a map that get numbers


@dataclass(frozen=True)
class Style:
    """What is drawn how, in every panel.

    Args:
        looks: by column that tells apart, the look of each of its values.
        thin: the look of each reference column.
    """

    looks: Mapping[str, Mapping[Hashable, Line]]
    thin: Mapping[str, Line]


def bars_of(panel: Panel, table: pd.DataFrame) -> tuple[list[Any], list[Any]]:
    """Return the categories of a bar panel, and what is side by side in each; in the order given."""
    side = [None] if panel.by in ("", panel.x) else list(table[panel.by].dropna().unique())
    return list(table[panel.x].dropna().unique()), side


def height_of(panel: Panel, table: pd.DataFrame) -> float:
    """Return inches that a panel needs."""
    if panel.kind == "bar":
        categories, side = bars_of(panel, table)
        return max(2.6, len(categories) * (BAR * len(side) + GROUP) + ENDS)
    return max(HEIGHT, 0.2 * min(table[panel.y].nunique(), 50) + ENDS) if panel.kind == "map" else HEIGHT


def words(column: str) -> str:
    """Return a column's name for readers."""
    return column.replace("_", " ")


def text_of(value: Any) -> str:
    """Return a category's name."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def is_number(values: pd.Series) -> bool:
    """Return whether a column holds numbers."""
    return pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values)


def draw_panel(axes: Axes, panel: Panel, table: pd.DataFrame, style: Style) -> None:
    """Draw a panel; what is not finite is left out."""
    rows = table[list(dict.fromkeys(panel.columns))].replace([np.inf, -np.inf], np.nan)
    # A map's long names and colours leave its title less room.
    title = textwrap.fill(panel.title, 36 if panel.kind == "map" else 58)
    x, y = panel.x_label or words(panel.x), panel.y_label or words(panel.y)
    if not rows[panel.value or panel.y].notna().any():
        axes.annotate("nothing to draw", (0.5, 0.5), xycoords="axes fraction", ha="center", color=INK)
    elif panel.kind == "bar":
        draw_bars(axes, panel, rows, style)
        x, y = y, panel.x_label
    elif panel.kind == "map":
        draw_map(axes, panel, rows)
    else:
        draw_lines(axes, panel, rows, style)
    label(axes, title, x, y)


def series_of(panel: Panel, rows: pd.DataFrame, style: Style) -> list[tuple[Line, pd.DataFrame]]:
    """Return each series with its look, its rows in the order given."""
    if not panel.by:
        return [(line_of(1), rows)]
    looks = style.looks[panel.by]
    return [(looks[value], rows[rows[panel.by] == value]) for value in rows[panel.by].dropna().unique()]


def draw_lines(axes: Axes, panel: Panel, rows: pd.DataFrame, style: Style) -> None:
    """Draw lines with bands, or points with error bars, and the references."""
    named = not is_number(rows[panel.x])
    if named:
        names = list(rows[panel.x].dropna().unique())
        rows = rows.assign(**{panel.x: rows[panel.x].map({name: float(at) for at, name in enumerate(names)})})
        texts = [text_of(name) for name in names]
        axes.set_xticks(range(len(names)), texts, **turned(texts))
    for look, same in series_of(panel, rows, style):
        x, y = same[panel.x], same[panel.y]
        if panel.kind == "line":
            axes.plot(x, y, color=look.color, ls=look.dash, marker=look.marker if len(same) <= FEW else "", ms=4.5)
        else:
            axes.plot(x, y, look.marker, color=look.color, ms=5, alpha=0.8 if len(rows) < 200 else 0.4, mew=0)
        if panel.low and panel.high and panel.kind == "line":
            axes.fill_between(x, same[panel.low], same[panel.high], color=look.color, alpha=0.2, lw=0)
        elif panel.low and panel.high:
            axes.vlines(x, same[panel.low], same[panel.high], color=look.color, lw=1.2, alpha=0.8)
    for name in panel.reference:
        draw_reference(axes, panel, rows, name, style)
    if panel.zero:
        axes.axhline(0, color=INK, lw=0.8, zorder=1)
    if not named:
        axes.locator_params(axis="x", nbins=6)
        logarithmic(axes, "x", panel.x_log, rows[panel.x], rows[[panel.x]])
    logarithmic(axes, "y", panel.y_log, rows[panel.y], rows[[panel.y, *panel.reference]])


def draw_reference(axes: Axes, panel: Panel, rows: pd.DataFrame, name: str, style: Style) -> None:
    """Draw a reference column thin: once where all series have the same, else in the series' colours."""
    shared = rows.groupby(panel.x)[name].nunique().max() <= 1
    thin = style.thin[name]
    for look, same in [(thin, rows.drop_duplicates(panel.x))] if shared else series_of(panel, rows, style):
        same = same.sort_values(panel.x) if shared or panel.kind == "points" else same
        axes.plot(same[panel.x], same[name], color=look.color, lw=1, ls=thin.dash, zorder=2.5)


def logarithmic(axes: Axes, which: str, wanted: bool, values: pd.Series, shown: pd.DataFrame) -> None:
    """Make an axis logarithmic where there is anything above 0, with limits by what is drawn, not by intervals."""
    if not wanted or not (values > 0).any():
        return
    positive = shown.to_numpy(dtype=float)
    positive = positive[positive > 0]
    low, high = positive.min(), positive.max()
    margin = max((high / low) ** 0.05, 1.15)
    axes.set(**{f"{which}scale": "log", f"{which}lim": (low / margin, high * margin)})
    if high / low < 1000 and low > 1e-3 and high < 1e5:
        # Numbers as they are: powers of ten say little over so small a range.
        axis = axes.xaxis if which == "x" else axes.yaxis
        axis.set_major_formatter(mticker.FormatStrFormatter("%g"))
        axis.set_minor_formatter(mticker.LogFormatter(minor_thresholds=(1.2, 0.5)))


def turned(texts: Sequence[str]) -> dict[str, Any]:
    """Return how names stand below an axis: turned where they would run into each other."""
    return {"rotation": 35, "ha": "right"} if max(map(len, texts), default=0) * len(texts) > 42 else {}


def draw_bars(axes: Axes, panel: Panel, rows: pd.DataFrame, style: Style) -> None:
    """Draw horizontal bars from the top in the order given, each with its number at the right.

    On a logarithmic axis, where a bar's length means nothing, points on lines from the left.
    """
    categories, side = bars_of(panel, rows)
    step = BAR * len(side) + GROUP
    logarithmic(axes, "x", panel.y_log, rows[panel.y], rows[[panel.y, *panel.reference]])
    for index, name in enumerate(categories):
        for place, value in enumerate(side):
            own = (
                rows[rows[panel.x] == name]
                if value is None
                else rows[rows[panel.x].eq(name) & rows[panel.by].eq(value)]
            )
            key, column = (name, panel.x) if value is None else (value, panel.by)
            look = style.looks.get(column, {}).get(key, line_of(1))
            for row in own.to_dict("records"):
                draw_bar(axes, panel, row, index * step + place * BAR, look, style)
    if panel.zero or (axes.get_xscale() == "linear" and (rows[panel.y] < 0).any()):
        axes.axvline(0, color=INK, lw=0.8)
    centres = [index * step + BAR * (len(side) - 1) / 2 for index in range(len(categories))]
    axes.set_yticks(centres, [text_of(name) for name in categories], fontsize=SMALL)
    axes.set_ylim((len(categories) - 1) * step + BAR * (len(side) - 0.2), -BAR * 0.8)
    axes.grid(visible=False, axis="y")
    if axes.get_xscale() == "linear":
        axes.locator_params(axis="x", nbins=6)
    axes.set_axisbelow(True)
    axes.tick_params(axis="y", length=0)


def draw_bar(axes: Axes, panel: Panel, row: Mapping[Any, Any], at: float, look: Line, style: Style) -> None:
    """Draw one bar, its interval, its references and its number."""
    value = row[panel.y]
    if axes.get_xscale() == "log":
        axes.hlines(at, axes.get_xlim()[0], value, color=look.color, lw=1, alpha=0.5)
        axes.plot(value, at, "o", color=look.color, ms=5)
    else:
        axes.barh(at, value, BAR * 0.85, color=look.color, alpha=0.85)
    if panel.low and panel.high:
        axes.hlines(at, row[panel.low], row[panel.high], color=INK, lw=1.2)
    for name in panel.reference:
        axes.plot(row[name], at, style.thin[name].marker, color=INK, ms=4.5)
    number = "-" if pd.isna(value) else f"{value:.3g}"
    axes.text(1.01, at, number, transform=axes.get_yaxis_transform(), va="center", fontsize=8, color=INK)


def draw_map(axes: Axes, panel: Panel, rows: pd.DataFrame) -> None:
    """Draw coloured cells; numbers ascend along both axes, names stay in the order given, from the top."""
    x, y = axis_of(rows[panel.x]), axis_of(rows[panel.y])
    wide = rows.pivot(index=panel.y, columns=panel.x, values=panel.value).reindex(index=y, columns=x)
    values = wide.to_numpy(dtype=float)
    colors, norm = colors_of(values)
    small = len(x) <= FEW / 2 and len(y) <= FEW
    edges = {"edgecolors": "white", "lw": 0.5} if small else {"rasterized": True}
    mesh = axes.pcolormesh(np.ma.masked_invalid(values), cmap=colors, norm=norm, **edges)
    axes.set_facecolor(BAND)
    plt.colorbar(mesh, ax=axes, label=panel.value_label or words(panel.value))
    x_texts, y_texts = [text_of(name) for name in x], [text_of(name) for name in y]
    every, each = -(-len(x) // 12), -(-len(y) // 50)
    axes.set_xticks(np.arange(0, len(x), every) + 0.5, x_texts[::every], fontsize=SMALL, **turned(x_texts[::every]))
    axes.set_yticks(np.arange(0, len(y), each) + 0.5, y_texts[::each], fontsize=SMALL)
    if not is_number(rows[panel.y]):
        axes.invert_yaxis()
    axes.grid(visible=False)
    number = "{:.2f}" if np.nanmax(np.abs(values)) >= 0.1 else "{:.2g}"
    for (row, column), value in np.ndenumerate(values):
        if small and np.isfinite(value):
            color = "white" if sum(colors(norm(value))[:3]) < 1.6 else INK
            axes.text(
                column + 0.5, row + 0.5, number.format(value), ha="center", va="center", fontsize=SMALL, color=color
            )


def axis_of(values: pd.Series) -> list[Any]:
    """Return the places of a map's axis."""
    found = list(values.dropna().unique())
    return sorted(found) if is_number(values) else found


def colors_of(values: np.ndarray) -> tuple[Colormap, Normalize]:
    """Return the colours of a map: two-sided around 0 where there are both signs."""
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    if low < 0 < high:
        most = max(-low, high)
        return mpl.colormaps["PuOr"], TwoSlopeNorm(0, -most, most)
    return mpl.colormaps["viridis"], Normalize(low, high if high > low else low + 1)
