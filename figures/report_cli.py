"""The command `entrocraft report`."""

from collections.abc import Sequence
from pathlib import Path

from jsonargparse import ArgumentParser

from figures.report import report_page
from figures.report_checks import findings
from figures.report_load import load_reported


def report_parser() -> ArgumentParser:
    """Return the parser of `entrocraft report`."""
    parser = ArgumentParser(
        prog="entrocraft report",
        description="Write one page of a run, or of several side by side, finished or not: curves, predicted against "
        "measured entropy change, the entropy ledger, evaluations, completions, settings.",
    )
    parser.add_argument("runs", nargs="+", type=Path, help="run directories, or folders of them")
    parser.add_argument("--output", type=Path, default=Path("report.html"), help="the page; an earlier one is replaced")
    return parser


def report_command(arguments: Sequence[str]) -> int:
    """Run `entrocraft report RUN...`."""
    chosen = report_parser().parse_args(arguments)
    if chosen.output.is_dir():
        raise IsADirectoryError(f"--output {chosen.output} must be a file; got a folder. Add a name: report.html")
    runs = load_reported(chosen.runs)
    text = report_page(runs)
    chosen.output.parent.mkdir(parents=True, exist_ok=True)
    chosen.output.write_text(text, encoding="utf-8")
    for run in runs:
        for finding in findings(run):
            print(f"{run.name}: {finding}")
    print(f"report: {chosen.output}")
    return 0
