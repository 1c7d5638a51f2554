"""Table 2: the main benchmark, ours on held-out Countdown prompts beside the paper's on mathematics."""

import pandas as pd

from figures.arms import arm_of, in_order
from figures.entry import Built, Entry, main_of
from figures.paper.cells import measured, printed, table, without_dashes
from figures.paper.published import methods, pick
from figures.parts import drawn_from
from figures.study import Data, Study
from figures.tables import SETTING_NAMES

BENCHMARKS = ("MATH-500", "AMC-23", "AIME-25", "Avg")


def summarise(study: Study, numbers: pd.DataFrame) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Return a row a method and notes: our arms with the paper's counterpart, then methods that we did not run."""
    own, paper = study.last[study.last.part == study.main], pick(numbers, table=2)
    rows = {}
    for name in in_order(set(own.arm)):
        same = own[own.arm == name]
        ours = {
            f"ours, {text}: pass@{k} (%)": measured(same[same.setting == setting], k)
            for setting, text in SETTING_NAMES.items()
            for k in (1, 8, 32, 256)
        }
        seeds = {"seeds": str(same.seed.nunique())}
        rows[arm_of(name).text] = {
            **ours,
            **seeds,
            **(published(paper, arm_of(name).paper) if arm_of(name).paper else {}),
        }
    matched = {arm_of(name).paper for name in set(own.arm)}
    rows |= {f"({name})": published(paper, name) for name in methods(paper) if name not in matched}
    return without_dashes(table(rows)), (drawn_from(study, study.main) if len(own) else "Not there: our runs.",)


def published(paper: pd.DataFrame, method: str) -> dict[str, str]:
    """Return the paper's row of a method."""
    return {
        f"paper: {benchmark} {metric}": printed(paper, method=method, benchmark=benchmark, metric=metric)
        for benchmark in BENCHMARKS
        for metric in ("mean@32", "pass@32")
    }


def build(data: Data) -> Built:
    """Load and summarise."""
    found, notes = summarise(data.leading, data.paper())
    return Built(table=found, notes=notes)


ENTRY = Entry(
    "table2_main",
    "Table 2: main benchmark",
    "Ours: held-out prompts at the end of training, percent, with 95 % intervals over prompts, at temperature "
    "1 and in the paper's setting. The paper's: Qwen3-4B-Base, percent as printed; its methods without an arm here are "
    "in brackets. Both Algorithm 1 and the released variant stand for GRPO+Entrocraft: the paper prints the one, its "
    "code runs the other.",
    ("long", "controllers", "paper_tables.csv"),
    build,
)

if __name__ == "__main__":
    main_of(ENTRY)
