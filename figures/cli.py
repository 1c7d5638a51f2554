"""The command `entrocraft figures`."""

from collections.abc import Callable, Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
from jsonargparse import ArgumentParser
from matplotlib.figure import Figure

from figures.fig_quickstart import draw_quickstart
from figures.load import LoadedRun, load_runs
from figures.tables import as_markdown, as_text, quickstart_table

FIGURES: dict[str, tuple[Callable[[Sequence[LoadedRun]], Figure], Callable[[Sequence[LoadedRun]], pd.DataFrame]]] = {
    "quickstart": (draw_quickstart, quickstart_table)
}


def build(name: str, runs: Sequence[Path], output: Path) -> str:
    """Draw a figure of finished runs into `output/NAME.png`, its table into `output/NAME.md`; return the table as text.

    Raises:
        FileNotFoundError: a path that is no finished run.
    """
    loaded = load_runs(runs)
    draw, tabulate = FIGURES[name]
    output.mkdir(parents=True, exist_ok=True)
    figure = draw(loaded)
    figure.savefig(output / f"{name}.png", metadata={"Software": "entrocraft"})
    plt.close(figure)
    table = tabulate(loaded)
    (output / f"{name}.md").write_text(as_markdown(table))
    return as_text(table)


def figures_command(arguments: Sequence[str]) -> int:
    """Run `entrocraft figures build NAME RUNS...`."""
    parser = ArgumentParser(prog="entrocraft figures", description="Draw figures and tables from run directories.")
    parser.add_argument("action", choices=["build"], help="what to do")
    parser.add_argument("name", choices=sorted(FIGURES), help="which figure")
    parser.add_argument("runs", nargs="+", type=Path, help="directories of finished runs")
    parser.add_argument("--output", type=Path, default=Path("runs/figures"), help="where the picture and table go")
    chosen = parser.parse_args(arguments)
    print(build(chosen.name, chosen.runs, chosen.output))
    print(f"\npicture: {chosen.output / chosen.name}.png")
    return 0
