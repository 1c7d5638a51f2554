"""The command `entrocraft figures`."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
from jsonargparse import ArgumentParser
from matplotlib.figure import Figure

from figures.audit_tables import audit_tables
from figures.fig_audit import draw_audit
from figures.fig_quickstart import draw_quickstart
from figures.load import load_one_audit, load_runs
from figures.style import save
from figures.tables import as_markdown, as_text, quickstart_table, under_titles


@dataclass(frozen=True)
class Picture:
    """What it takes to draw one figure.

    Args:
        reads: what the directories given to the command must be.
        load: directories to what both functions below take.
        draw: the figure.
        tabulate: its tables by title; an empty title is left out.
    """

    reads: str
    load: Callable[[Sequence[Path]], Any]
    draw: Callable[[Any], Figure]
    tabulate: Callable[[Any], Mapping[str, pd.DataFrame]]


FIGURES = {
    "audit": Picture("one directory of `entrocraft theory audit`", load_one_audit, draw_audit, audit_tables),
    "quickstart": Picture(
        "directories of finished runs", load_runs, draw_quickstart, lambda runs: {"": quickstart_table(runs)}
    ),
}


def build(name: str, paths: Sequence[Path], output: Path) -> str:
    """Draw a figure into `output/NAME.png`, write its tables into `output/NAME.md`; return the tables as text.

    Raises:
        FileNotFoundError: a path that is no directory of the kind that the figure reads.
        ValueError: too many of them, or tables that are not whole.
    """
    picture = FIGURES[name]
    loaded = picture.load(paths)
    figure, tables = picture.draw(loaded), picture.tabulate(loaded)
    output.mkdir(parents=True, exist_ok=True)
    save(figure, output / f"{name}.png")
    plt.close(figure)
    (output / f"{name}.md").write_text(under_titles(tables, "## {}", as_markdown))
    return under_titles(tables, "{}:", as_text)


def figures_command(arguments: Sequence[str]) -> int:
    """Run `entrocraft figures build NAME PATHS...`."""
    parser = ArgumentParser(prog="entrocraft figures", description="Draw figures and tables from what is on disk.")
    parser.add_argument("action", choices=["build"], help="what to do")
    parser.add_argument("name", choices=sorted(FIGURES), help="which figure")
    reads = "; ".join(f"{name}: {picture.reads}" for name, picture in FIGURES.items())
    parser.add_argument("paths", nargs="+", type=Path, help=f"what to draw ({reads})")
    parser.add_argument("--output", type=Path, default=Path("runs/figures"), help="where the picture and table go")
    chosen = parser.parse_args(arguments)
    print(build(chosen.name, chosen.paths, chosen.output).rstrip())
    print(f"\npicture: {chosen.output / chosen.name}.png")
    return 0
