"""Which functions make the numbers of the ledger, by the name that claims use."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from figures.ledger.number import Number
from figures.ledger.selection import averages_off, select, violations
from figures.ledger.training import CONTROLLERS, comparison, decision, entropy_change, filtered_change, likelier, run


@dataclass(frozen=True)
class Measure:
    """A function that makes numbers.

    Args:
        make: data and options to the number.
        tables: files of `figures/data` that it reads, without ending; empty where an option says.
    """

    make: Callable[..., Number]
    tables: tuple[str, ...] = ()


MEASURES = {
    "select": Measure(select),
    "run": Measure(run, ("controllers/runs",)),
    "entropy_change": Measure(entropy_change, ("controllers/runs", "controllers/curves")),
    "likelier": Measure(likelier, ("controllers/curves",)),
    "filtered_change": Measure(filtered_change, ("controllers/curves",)),
    "comparison": Measure(comparison, ("controllers/comparison",)),
    "decision": Measure(decision, ("long/decision",)),
    "violations": Measure(violations, ("audit/responses",)),
    "averages_off": Measure(averages_off, ("paper_tables",)),
}


def tables_of(use: str, options: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the files that a number comes from, relative to `figures/data`."""
    names = MEASURES[use].tables or (str(options["table"]),)
    # Training numbers are of the study of controllers unless they say.
    study = str(options.get("study", CONTROLLERS))
    return tuple(f"{name.replace(f'{CONTROLLERS}/', f'{study}/')}.csv" for name in names)
