"""Table 3: held-out results on the way, ours by step beside the paper's by samples."""

from collections.abc import Sequence

import pandas as pd

from figures.arms import arm_of, in_order
from figures.entry import Built, Entry, main_of
from figures.paper.cells import measured, printed, table
from figures.paper.published import methods, pick
from figures.parts import drawn_from, setting_of_curves
from figures.study import Data, Study

QUARTERS = ("100K", "200K", "300K", "400K")


def chosen_steps(steps: list[int]) -> dict[int, int]:
    """Return the steps nearest to the ends of a run's quarters by quarter; one with none within half of it is left out.

    >>> chosen_steps([200, 400, 600, 800, 1000, 1200]), chosen_steps([1200])
    ({1: 200, 2: 600, 3: 800, 4: 1200}, {4: 1200})
    """
    quarter = max(steps, default=0) / len(QUARTERS)
    found = {}
    for place in range(1, len(QUARTERS) + 1) if steps else ():
        nearest = min(steps, key=lambda step: abs(step - place * quarter))
        if abs(nearest - place * quarter) < quarter / 2:
            found[place] = nearest
    return found


def summarise(studies: Sequence[Study], numbers: pd.DataFrame) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Return a row a method and quantity, and notes.

    An arm is of the first study that has it, there of the part of long runs or of the main one; the names of later
    studies are told.
    """
    rows: dict[str, dict[str, str]] = {}
    seen: set[str] = set()
    notes = []
    for study in studies:
        part = "long" if (study.evaluations.part == "long").any() else study.main
        wanted = (study.evaluations.part == part) & (study.evaluations.step > 0) & ~study.evaluations.arm.isin(seen)
        own, setting = setting_of_curves(study.evaluations[wanted])
        steps = chosen_steps(sorted(map(int, own.step.unique())))
        for name in in_order(set(own.arm)):
            same = own[own.arm == name]
            for k in (1, min(32, int(own.samples.min()))):
                cells = {f"quarter {place}": measured(same[same.step == step], k) for place, step in steps.items()}
                rows[f"{arm_of(name).text}, pass@{k}" + (f" (study {study.name})" if seen else "")] = cells
        if steps:
            seen |= set(own.arm)
            ends = ", ".join(f"{step} (quarter {place})" for place, step in steps.items())
            notes.append(f"{drawn_from(study, part)} Steps {ends}, sampled at {setting}.")
    paper = pick(numbers, table=3)
    for benchmark in dict.fromkeys(paper.benchmark):
        for method in methods(paper):
            same = pick(paper, benchmark=benchmark, method=method)
            cells = {f"quarter {place}": printed(same, samples=at) for place, at in enumerate(QUARTERS, 1)}
            rows[f"the paper's {method}, {benchmark} mean@32"] = cells
    return table(rows, [f"quarter {place}" for place in range(1, 5)]), tuple(notes or ["Not there: our runs."])


def build(data: Data) -> Built:
    """Load and summarise."""
    found, notes = summarise(data.studies, data.paper())
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
