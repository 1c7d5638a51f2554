"""Table 2: the main benchmark, ours on held-out Countdown prompts beside the paper's on mathematics."""

from collections.abc import Sequence

import pandas as pd

from figures.arms import arm_of, in_order
from figures.entry import Built, Entry, main_of
from figures.paper.cells import measured, printed, table, without_dashes
from figures.paper.published import methods, pick
from figures.parts import drawn_from
from figures.study import Data, Study
from figures.tables import SETTING_NAMES

BENCHMARKS = ("MATH-500", "AMC-23", "AIME-25", "Avg")


def summarise(studies: Sequence[Study], numbers: pd.DataFrame) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Return a row a method and notes: our arms with the paper's counterpart, then methods that we did not run.

    An arm is of the first study that has it; the names of later studies are told.
    """
    paper = pick(numbers, table=2)
    rows: dict[str, dict[str, str]] = {}
    seen: set[str] = set()
    notes = []
    for study in studies:
        own = study.last[(study.last.part == study.main) & ~study.last.arm.isin(seen)]
        for name in in_order(set(own.arm)):
            text = arm_of(name).text + (f" (study {study.name})" if seen else "")
            rows[text] = ours(own[own.arm == name]) | published(paper, arm_of(name).paper)
        seen |= set(own.arm)
        notes += [drawn_from(study, study.main)] if len(own) else []
    matched = {arm_of(name).paper for name in seen}
    rows |= {f"({name})": published(paper, name) for name in methods(paper) if name not in matched}
    return without_dashes(table(rows)), tuple(notes or ["Not there: our runs."])


def ours(rows: pd.DataFrame) -> dict[str, str]:
    """Return what an arm of ours comes to at the end of training."""
    cells = {
        f"ours, {text}: pass@{k} (%)": measured(rows[rows.setting == setting], k)
        for setting, text in SETTING_NAMES.items()
        for k in (1, 8, 32, 256)
    }
    return {**cells, "seeds": str(rows.seed.nunique())}


def published(paper: pd.DataFrame, method: str) -> dict[str, str]:
    """Return the paper's row of a method, nothing where it has none."""
    return {
        f"paper: {benchmark} {metric}": printed(paper, method=method, benchmark=benchmark, metric=metric)
        for benchmark in BENCHMARKS
        for metric in ("mean@32", "pass@32")
        if method
    }


def build(data: Data) -> Built:
    """Load and summarise."""
    found, notes = summarise(data.studies, data.paper())
    return Built(table=found, notes=notes)


ENTRY = Entry(
    "table2_main",
    "Table 2: main benchmark",
    "Ours: held-out prompts at the end of training (of shorter runs where a study is named), percent, with 95 % "
    "intervals over prompts, at temperature 1 and in the paper's setting. The paper's: Qwen3-4B-Base, percent as "
    "printed; its methods without an arm here are in brackets. Both Algorithm 1 and the released variant stand for "
    "GRPO+Entrocraft: the paper prints the one, its code runs the other.",
    ("long", "controllers", "paper_tables.csv"),
    build,
)

if __name__ == "__main__":
    main_of(ENTRY)
