"""The command `entrocraft figures ledger`."""

import json
from collections.abc import Sequence
from pathlib import Path

from jsonargparse import ArgumentParser

from figures.ledger.page import page_of
from figures.ledger.training import CONTROLLERS
from figures.study import STUDIES, Data

PAGE = "paper_repro.md"


def ledger_parser() -> ArgumentParser:
    """Return the parser of `entrocraft figures ledger`."""
    parser = ArgumentParser(
        prog="entrocraft figures ledger",
        description="Write the ledger of the paper's claims: words and verdicts from figures/ledger/words, numbers "
        "from the committed tables. Exit code 1 where a verdict is not the one that follows from its numbers.",
    )
    parser.add_argument("--output", type=Path, default=Path(PAGE), help="the page; an earlier one is replaced")
    parser.add_argument(
        *("--tables",),
        type=Path | None,
        default=None,
        help="a training study's tables, instead of the committed ones of the study of that name, else of controllers",
    )
    return parser


def study_of(tables: Path | None) -> str:
    """Return the study that tables stand for: the one that their provenance names, or that of controllers."""
    file = (tables or Path()) / "provenance.json"
    name = json.loads(file.read_text()).get("study") if tables and file.is_file() else None
    return name if name in STUDIES else CONTROLLERS


def ledger_command(arguments: Sequence[str]) -> int:
    """Run `entrocraft figures ledger`: write the page, say which verdicts no longer follow from their numbers."""
    chosen = ledger_parser().parse_args(arguments)
    text, disagreeing = page_of(Data(tables=chosen.tables, instead_of=study_of(chosen.tables)))
    chosen.output.parent.mkdir(parents=True, exist_ok=True)
    chosen.output.write_text(text, encoding="utf-8")
    for row in disagreeing:
        print(f"{row.claim.id}: written {row.claim.verdict!r}, its numbers say {row.disagreement!r}")
    print(f"ledger: {chosen.output}")
    return 1 if disagreeing else 0
