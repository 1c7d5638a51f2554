"""What the gallery knows of a figure or table: its name, its caption, where its numbers come from, how it is made."""

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from figures.study import Data, NothingToDrawError
from figures.style import save, save_pdf
from figures.tables import as_latex, as_markdown

PICTURES = "pictures"


@dataclass(frozen=True)
class Built:
    """A figure or a table.

    Args:
        figure: None for a table.
        table: cells are text; None for a figure.
        notes: what is missing or stands in for something, for the caption.
    """

    figure: Figure | None = None
    table: pd.DataFrame | None = None
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class Entry:
    """A figure or a table of the gallery.

    Args:
        name: of its files and of the command.
        title: what it is.
        caption: what it shows, and how to read it.
        sources: folders and files of `figures/data` that its numbers come from.
        build: draws it; raises `NothingToDrawError` where there is nothing to draw.
    """

    name: str
    title: str
    caption: str
    sources: Sequence[str]
    build: Callable[[Data], Built]


@dataclass(frozen=True)
class Written:
    """What is on disk of an entry.

    Args:
        entry: the figure or table.
        files: written, by ending; empty where there was nothing to draw.
        notes: what is missing or stands in for something.
        table: the table's cells.
    """

    entry: Entry
    files: Mapping[str, Path] = field(default_factory=dict)
    notes: Sequence[str] = ()
    table: pd.DataFrame | None = None


def write(entry: Entry, data: Data, out: Path) -> Written:
    """Make an entry and write its files into `out/pictures`: PNG and PDF of a figure; Markdown, CSV, LaTeX of a table.

    Where there is nothing to draw, files of an earlier time are removed, so that nothing old looks new.
    """
    folder = out / PICTURES
    folder.mkdir(parents=True, exist_ok=True)
    files = {ending: folder / f"{entry.name}.{ending}" for ending in ("png", "pdf", "md", "csv", "tex")}
    for file in files.values():
        file.unlink(missing_ok=True)
    try:
        built = entry.build(data)
    except NothingToDrawError as missing:
        return Written(entry, notes=(f"Not drawn: {missing.args[0]} is not there.",))
    if built.figure is not None:
        save(built.figure, files["png"])
        save_pdf(built.figure, files["pdf"])
        plt.close(built.figure)
    if built.table is not None:
        files["md"].write_text(as_markdown(built.table))
        built.table.to_csv(files["csv"])
        files["tex"].write_text(as_latex(built.table))
    written = {ending: file for ending, file in files.items() if file.is_file()}
    return Written(entry, written, built.notes, built.table)


def main_of(entry: Entry) -> None:
    """Make one entry from the command line of its own script."""
    parser = argparse.ArgumentParser(description=f"{entry.title}. {entry.caption}")
    parser.add_argument("--out", type=Path, default=Path("runs/figures"), help="where its files go")
    written = write(entry, Data(), parser.parse_args().out)
    print("\n".join([*map(str, written.files.values()), *written.notes]))
