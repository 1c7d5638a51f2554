"""Which functions make the numbers of the ledger, by the name that claims use."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from figures.ledger.number import Number
from figures.ledger.selection import averages_off, select, violations
from figures.ledger.training import (
    CONTROLLERS,
    LONG,
    comparison,
    decision,
    entropy_change,
    filtered_change,
    likelier,
    progress,
    roughness,
    run,
)


@dataclass(frozen=True)
class Measure:
    """A function that makes numbers.

    Args:
        make: data and options to the number.
        tables: files that it reads, without ending; empty where its option `table` says.
        study: training study that they are of unless its option `study` says; "" for files of `figures/data`.
    """

    make: Callable[..., Number]
    tables: tuple[str, ...] = ()
    study: str = ""


MEASURES = {
    "select": Measure(select),
    "run": Measure(run, ("runs",), CONTROLLERS),
    "entropy_change": Measure(entropy_change, ("runs", "curves"), CONTROLLERS),
    "likelier": Measure(likelier, ("curves",), CONTROLLERS),
    "filtered_change": Measure(filtered_change, ("curves",), CONTROLLERS),
    "progress": Measure(progress, ("evaluations",), LONG),
    "roughness": Measure(roughness, ("curves",), LONG),
    "comparison": Measure(comparison, ("comparison",), CONTROLLERS),
    "decision": Measure(decision, ("decision",), LONG),
    "violations": Measure(violations, ("audit/responses",)),
    "averages_off": Measure(averages_off, ("paper_tables",)),
}


def tables_of(use: str, options: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the files that a number comes from, relative to `figures/data`."""
    measure = MEASURES[use]
    names = measure.tables or (str(options["table"]),)
    study = str(options.get("study", measure.study))
    return tuple(f"{study}/{name}.csv" if study else f"{name}.csv" for name in names)
