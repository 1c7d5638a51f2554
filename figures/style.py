"""One look for every figure: colour-blind safe (Okabe and Ito), told apart by dash and marker too."""

from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image, PngImagePlugin  # what matplotlib writes PNG with

mpl.use("Agg")

WIDTH = 11.0  # inches; at 150 dots an inch a README shows it at about half size
DPI = 150
INK = "#333333"
BAND = "#BBBBBB"

SETTINGS: Any = {
    "font.size": 11,
    "axes.titlesize": 11.5,
    "axes.titlelocation": "left",
    "axes.labelsize": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#E6E6E6",
    "legend.frameon": False,
    "legend.fontsize": 10,
    "lines.linewidth": 1.8,
    "figure.dpi": DPI,
    "savefig.dpi": DPI,
    "svg.hashsalt": "entrocraft",
}


@dataclass(frozen=True)
class Line:
    """How one run is drawn everywhere."""

    color: str
    dash: Any
    marker: str


LINES = (
    Line("#D55E00", "-", "o"),
    Line("#0072B2", (0, (5, 1.5)), "s"),
    Line("#009E73", (0, (1.5, 1)), "^"),
    Line("#CC79A7", (0, (5, 1.5, 1, 1.5)), "D"),
    Line("#E69F00", (0, (3, 1, 1, 1, 1, 1)), "v"),
    Line("#56B4E9", (0, (8, 2)), "P"),
)


def line_of(index: int) -> Line:
    """Return the look of the run at this place; looks repeat after six."""
    return LINES[index % len(LINES)]


def label(axes: Axes, title: str, x: str, y: str) -> None:
    """Give a panel its title and its axes their quantities with units."""
    axes.set_title(title)
    axes.set_xlabel(x)
    axes.set_ylabel(y)


def save(figure: Figure, path: Path) -> None:
    """Write a figure as PNG of 256 colours: a third of the bytes, and no colour visibly off."""
    buffer = BytesIO()
    figure.savefig(buffer, format="png")
    named = PngImagePlugin.PngInfo()
    named.add_text("Software", "entrocraft")
    picture = Image.open(buffer).convert("RGB").quantize(256, method=Image.Quantize.FASTOCTREE)
    picture.save(path, format="PNG", optimize=True, pnginfo=named)


def save_pdf(figure: Figure, path: Path) -> None:
    """Write a figure as PDF, without dates and names: the same figure gives the same bytes.

    What was laid out for an earlier file stays where it is.
    """
    figure.set_layout_engine("none")
    figure.savefig(path, format="pdf", metadata={"CreationDate": None, "Creator": None, "Producer": None})
