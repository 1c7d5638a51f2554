"""Tables 5 to 8: the paper's further benchmarks and models, with ours where there is a counterpart."""

from collections.abc import Callable

import pandas as pd

from figures.arms import arm_of, in_order
from figures.entry import Built, Entry, main_of
from figures.estimates import Estimate
from figures.paper.cells import in_percent, measured, printed, table
from figures.paper.published import methods, pick
from figures.parts import drawn_from, sizes_there
from figures.study import Data

MODELS = {6: "Llama-3.1-8B-Instruct", 7: "Qwen3-8B-Base", 8: "Qwen3-14B-Base"}


def published(numbers: pd.DataFrame, number: int) -> dict[str, dict[str, str]]:
    """Return the rows of one of the paper's tables."""
    rows = pick(numbers, table=number)
    return {
        f"the paper's {method}": {
            f"{benchmark} {metric}": printed(rows, method=method, benchmark=benchmark, metric=metric)
            for benchmark in dict.fromkeys(rows.benchmark)
            for metric in dict.fromkeys(rows.metric)
        }
        for method in methods(rows)
    }


def aime(data: Data) -> Built:
    """Return Table 5: all AIME years as published, and our one held-out set at temperature 1."""
    final = data.study.last[(data.study.last.part == "constant") & (data.study.last.setting == "t1")]
    rows = {
        arm_of(name).text: {f"ours: pass@{k} (%)": measured(final[final.arm == name], k) for k in (1, 32)}
        for name in in_order(set(final.arm))
    }
    notes = () if rows else ("Not there: our runs.",)
    return Built(table=table(published(data.paper(), 5) | rows), notes=notes)


def of_model(number: int) -> Callable[[Data], Built]:
    """Return what builds the table of another model: the paper's numbers, and ours of larger models."""

    def build(data: Data) -> Built:
        sizes, setting, study = sizes_there(data)
        largest = sizes[sizes.parameters == sizes.parameters.max()]
        ours = {
            f"{arm_of(row['arm']).text}, {row['parameters'] / 1e6:.2g} million parameters": {
                f"ours: pass@1 at {setting} (%)": in_percent(Estimate(row["value"], row["low"], row["high"]))
            }
            for row in largest.to_dict("records")
        }
        notes = (
            (drawn_from(study, ", ".join(sizes.part.unique())),)
            if ours
            else ("No counterpart: our runs are of one model size.",)
        )
        return Built(table=table(published(data.paper(), number) | ours), notes=notes)

    return build


ENTRIES = (
    Entry(
        "table5_aime",
        "Table 5: AIME 2024 to 2026",
        "The paper's full AIME numbers, percent. We have one held-out set: the end of the constant part, sampled at "
        "temperature 1, with 95 % intervals over prompts.",
        ("controllers", "paper_tables.csv"),
        aime,
    ),
    *(
        Entry(
            f"table{number}_model",
            f"Table {number}: {model}",
            f"The paper's numbers for {model}, percent as printed, and our largest model where it was run.",
            ("long", "controllers", "paper_tables.csv"),
            of_model(number),
        )
        for number, model in MODELS.items()
    ),
)

if __name__ == "__main__":
    for entry in ENTRIES:
        main_of(entry)
