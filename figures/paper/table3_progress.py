"""Table 3: held-out results on the way, ours by step beside the paper's by samples."""

import numpy as np
import pandas as pd

from figures.arms import arm_of, in_order
from figures.entry import Built, Entry, main_of
from figures.paper.cells import measured, printed, table
from figures.paper.published import methods, pick
from figures.parts import drawn_from, setting_of_curves
from figures.study import Data, Study

QUARTERS = ("100K", "200K", "300K", "400K")


def chosen_steps(steps: list[int]) -> list[int]:
    """Return at most four of the steps, evenly spread, the first and the last among them.

    >>> chosen_steps([50, 100, 150, 200, 250, 300])
    [50, 150, 200, 300]
    """
    places = np.unique(np.round(np.linspace(0, len(steps) - 1, 4)).astype(int))
    return [steps[place] for place in places] if steps else []


def summarise(study: Study, numbers: pd.DataFrame) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Return a row a method and quantity, and notes: the part of long runs, or the main one."""
    part = "long" if (study.evaluations.part == "long").any() else study.main
    own, setting = setting_of_curves(study.evaluations[(study.evaluations.part == part) & (study.evaluations.step > 0)])
    steps = chosen_steps(sorted(map(int, own.step.unique())))
    rows = {}
    for name in in_order(set(own.arm)):
        same = own[own.arm == name]
        for k in (1, min(32, int(own.samples.min()))):
            cells = {f"quarter {place}": measured(same[same.step == step], k) for place, step in enumerate(steps, 1)}
            rows[f"{arm_of(name).text}, pass@{k}"] = cells
    paper = pick(numbers, table=3)
    for benchmark in dict.fromkeys(paper.benchmark):
        for method in methods(paper):
            same = pick(paper, benchmark=benchmark, method=method)
            cells = {f"quarter {place}": printed(same, samples=at) for place, at in enumerate(QUARTERS, 1)}
            rows[f"the paper's {method}, {benchmark} mean@32"] = cells
    notes = [drawn_from(study, part), f"Ours: steps {', '.join(map(str, steps))}, sampled at {setting}."]
    notes = notes if steps else ["Not there: our runs."]
    return table(rows, [f"quarter {place}" for place in range(1, 5)]), tuple(notes)


def build(data: Data) -> Built:
    """Load and summarise."""
    found, notes = summarise(data.leading, data.paper())
    return Built(table=found, notes=notes)


ENTRY = Entry(
    "table3_progress",
    "Table 3: progress over training",
    "Ours: held-out pass@k, percent, with 95 % intervals over prompts. The paper's: "
    "mean@32 in percent at 100, 200, 300 and 400 thousand samples.",
    ("long", "controllers", "paper_tables.csv"),
    build,
)

if __name__ == "__main__":
    main_of(ENTRY)
