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
from figures.fig_simulation import draw_simulation
from figures.gallery import ENTRIES, PAGE, build_all
from figures.ledger.cli import ledger_command
from figures.load import load_one_audit, load_runs
from figures.page import load_one_page, page_markdown, page_text
from figures.study import Data
from figures.style import save
from figures.tables import as_markdown, as_text, quickstart_table, under_titles


@dataclass(frozen=True)
class Picture:
    """What it takes to draw one figure.

    Args:
        reads: what the directories given to the command must be.
        load: directories to what both functions below take.
        draw: the figure.
        markdown: what it says as Markdown, given the picture's file name too.
        text: the same for the terminal.
        name: of the files, made of the figure's own name.
    """

    reads: str
    load: Callable[[Sequence[Path]], Any]
    draw: Callable[[Any], Figure]
    markdown: Callable[[Any, str], str]
    text: Callable[[Any], str]
    name: Callable[[str, Any], str] = lambda name, loaded: name


def with_tables(
    reads: str,
    load: Callable[[Sequence[Path]], Any],
    draw: Callable[[Any], Figure],
    tabulate: Callable[[Any], Mapping[str, pd.DataFrame]],
) -> Picture:
    """Return a figure that says tables by title; an empty title is left out."""
    return Picture(
        reads,
        load,
        draw,
        lambda loaded, picture: under_titles(tabulate(loaded), "## {}", as_markdown),
        lambda loaded: under_titles(tabulate(loaded), "{}:", as_text),
    )


ALL = "all"
Tabulate = Callable[[str, Path, Path], None]
FIGURES = {
    "audit": with_tables("one directory of `entrocraft theory audit`", load_one_audit, draw_audit, audit_tables),
    "quickstart": with_tables(
        "directories of finished runs", load_runs, draw_quickstart, lambda runs: {"": quickstart_table(runs)}
    ),
    "simulation": Picture(
        "one directory of `entrocraft simulate`",
        load_one_page,
        draw_simulation,
        page_markdown,
        page_text,
        lambda name, page: f"{name}_{page.experiment}",
    ),
}


def build(name: str, paths: Sequence[Path], output: Path) -> tuple[str, Path]:
    """Draw a figure into `output/NAME.png` and write `output/NAME.md`; return the latter as text, and the picture.

    A page of an experiment is called `simulation_EXPERIMENT`.

    Raises:
        FileNotFoundError: a path that is no directory of the kind that the figure reads.
        ValueError: too many of them, or tables that are not whole.
    """
    figure = FIGURES[name]
    loaded = figure.load(paths)
    drawn, file = figure.draw(loaded), f"{figure.name(name, loaded)}.png"
    text, markdown = figure.text(loaded), figure.markdown(loaded, file)
    output.mkdir(parents=True, exist_ok=True)
    save(drawn, output / file)
    plt.close(drawn)
    (output / file).with_suffix(".md").write_text(markdown)
    return text, output / file


def figures_command(arguments: Sequence[str], tabulate: Tabulate | None = None) -> int:
    """Run `entrocraft figures build NAME [PATHS...]` or `entrocraft figures ledger`.

    Args:
        arguments: of the command.
        tabulate: writes a study's tables from its runs, for `--from-runs`: (name of the study, folder of its runs,
            folder of the tables). Figures themselves know nothing of runs.
    """
    if list(arguments[:1]) == ["ledger"]:
        return ledger_command(arguments[1:])
    parser = figures_parser()
    chosen = parser.parse_args(arguments)
    if chosen.name in FIGURES:
        if not chosen.paths:
            parser.error(f"{chosen.name} is drawn of what it is given: {FIGURES[chosen.name].reads}")
        text, picture = build(chosen.name, chosen.paths, chosen.output)
        print(f"{text.rstrip()}\n\npicture: {picture}")
        return 0
    if chosen.paths:
        parser.error(f"{chosen.name} is drawn of committed tables, or of those in --tables, and takes no paths")
    tables = chosen.tables
    if chosen.from_runs:
        if tables is not None or tabulate is None:
            raise ValueError(
                "figures build(--from-runs) must make tables by `entrocraft figures` and be given without --tables; "
                f"got --tables {tables}. Leave one of them out."
            )
        tables = chosen.output / "tables" / chosen.study
        tabulate(chosen.study, chosen.from_runs, tables)
    names = [] if chosen.name == ALL else [chosen.name]
    for written in build_all(Data(tables=tables), chosen.output, names):
        print("  ".join([f"{written.entry.name:22}", ", ".join(written.files) or "-", *written.notes]))
    print(f"\npage: {chosen.output / PAGE}" if not names else f"\nfolder: {chosen.output}")
    return 0


def figures_parser() -> ArgumentParser:
    """Return the parser of `entrocraft figures`."""
    parser = ArgumentParser(
        prog="entrocraft figures",
        description="Draw figures and tables from what is on disk; `figures ledger` writes the ledger of claims.",
    )
    parser.add_argument("action", choices=["build"], help="what to do")
    parser.add_argument("name", choices=[ALL, *sorted(FIGURES), *ENTRIES], help="which figure or table")
    reads = "; ".join(f"{name}: {picture.reads}" for name, picture in FIGURES.items())
    parser.add_argument("paths", nargs="*", type=Path, help=f"what to draw ({reads}; all others: nothing)")
    parser.add_argument(
        "--output", "--out", type=Path, default=Path("runs/figures"), help="where the pictures and tables go"
    )
    parser.add_argument(
        "--tables", type=Path, default=None, help="a training study's tables, instead of the committed ones"
    )
    parser.add_argument(
        "--from-runs", type=Path, default=None, help="a study's runs: writes their tables into OUTPUT/tables first"
    )
    parser.add_argument("--study", type=str, default="controllers", help="the protocol that --from-runs belongs to")
    return parser
