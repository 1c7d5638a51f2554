"""The small tables that figures are drawn from: those of training studies, of the audit and of the simulations."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd

from figures.load import LoadedAudit, load_audit
from figures.page import Page, load_page

DATA = Path(__file__).parent / "data"
STUDIES = ("controllers", "long")
PAPERS_METHOD = "algorithm1"
CURVES = (
    *("part", "arm", "seed", "step", "entropy", "entropy_standard_error", "entropy_low", "entropy_high"),
    *("reward_mean", "accepted_fraction", "effective_group_size", "band_indicator", "log_likelihood_positive"),
    *("log_likelihood_negative", "kl", "dH_measured", "dH_first_order", "dH_tabular", "condition_tokens"),
    *("condition_sequences", "sign_rule_agreement", "delta_p_agreement", "share_above", "share_below"),
    *("effective_group_size_above", "effective_group_size_below"),
)
EVALUATIONS = ("part", "arm", "seed", "step", "setting", "samples", "entropy", "distinct", "counts")
# What is read of each table of a study; `entrocraft study tables` writes them.
COLUMNS: dict[str, tuple[str, ...]] = {
    "runs": (
        *("part", "arm", "seed", "parameters", "steps", "entropy", "rmse", "noise", "rmse_over_noise", "in_band"),
        *("in_band_possible", "in_band_smooth", "entropy_end", "accepted_fraction", "effective_sample_size"),
        *("reward_end", "time_step_s", "r2_first_order", "r2_tabular", "reaction_up", "reaction_up_available"),
        *("reaction_down", "reaction_down_available"),
    ),
    "curves": CURVES,
    "steps": CURVES,
    "evaluations": EVALUATIONS,
    "final": EVALUATIONS,
    "comparison": (
        *("part", "arm", "setting", "quantity", "comparison", "value", "low", "high", "seeds", "entropy"),
        *("reference_value", "reference_entropy", "matched"),
    ),
    "decision": (
        *("question", "part", "arm", "against_part", "against", "setting", "quantity", "comparison", "value", "low"),
        *("high", "seeds_low", "seeds_high", "margin", "verdict", "detectable", "seeds"),
    ),
}
T = TypeVar("T")


class NothingToDrawError(LookupError):
    """A figure's tables are not there, or hold nothing of what it draws; the message names what is missing."""


def read(file: Path, columns: Sequence[str]) -> pd.DataFrame:
    """Return a table with at least these columns: what is not there is missing, row or column, never made up.

    Raises:
        ValueError: a file that is not CSV.
    """
    if not file.is_file():
        return pd.DataFrame(columns=list(columns))
    try:
        table = pd.read_csv(file, dtype={"arm": str, "part": str, "counts": str})
    except (pd.errors.EmptyDataError, pd.errors.ParserError, UnicodeDecodeError) as error:
        raise ValueError(f"figures must read CSV; got {file}: {error}. Write the table again.") from error
    return table.assign(**{name: float("nan") for name in columns if name not in table})


@dataclass(frozen=True)
class Study:
    """A training study's tables; a table that is not there is empty. `name` is that of their folder."""

    runs: pd.DataFrame
    curves: pd.DataFrame
    steps: pd.DataFrame
    evaluations: pd.DataFrame
    final: pd.DataFrame
    comparison: pd.DataFrame
    decision: pd.DataFrame
    name: str = ""

    @cached_property
    def last(self) -> pd.DataFrame:
        """Evaluations at the end of each run: of its last step, in each setting that of most samples."""
        run = ["part", "arm", "seed"]
        every = pd.concat([self.evaluations, self.final])
        ends = every[every.step == every.groupby(run).step.transform("max")]
        return ends.sort_values("samples", kind="stable").drop_duplicates([*run, "setting"], keep="last").sort_index()

    @cached_property
    def main(self) -> str:
        """The part of most arms, of several the first by name; "" where there is none.

        By evaluations, where reused runs stand under their own part alone; by runs and curves where there are none.
        """
        evaluated, trained = (self.evaluations, self.final), (self.runs, self.curves)
        tables = trained if all(table[table.part != "base"].empty for table in evaluated) else evaluated
        rows = pd.concat([table[["part", "arm"]] for table in tables])
        arms = rows[rows.part != "base"].drop_duplicates().groupby("part").size()
        return str(arms.idxmax()) if len(arms) else ""

    def arms(self, part: str) -> set[str]:
        """Return the arms whose curves there are in a part."""
        return set(self.curves[self.curves.part == part].arm)


def load_study(folder: Path) -> Study:
    """Return a study's tables; raises as `read` does."""
    return Study(**{name: read(folder / f"{name}.csv", columns) for name, columns in COLUMNS.items()}, name=folder.name)


@dataclass(frozen=True)
class Data:
    """All that the figures of the gallery are drawn from.

    Args:
        folder: of the tables, with a folder each for the audit and the simulations.
        tables: of one training study, in place of those in `folder`.
        instead_of: which one of `STUDIES` they stand for; None for all of them.
    """

    folder: Path = DATA
    tables: Path | None = None
    instead_of: str | None = None

    @cached_property
    def study(self) -> Study:
        """The training study of controllers."""
        return load_study(self.folder_of("controllers"))

    @cached_property
    def long(self) -> Study:
        """The training study of long runs."""
        return load_study(self.folder_of("long"))

    def training(self, name: str) -> Study:
        """Return one of `STUDIES`."""
        return {"controllers": self.study, "long": self.long}[name]

    def first(self, summarise: Callable[[Study], T]) -> T:
        """Return what is made of the leading study, or of that of controllers where it has not what that takes."""
        try:
            return summarise(self.leading)
        except NothingToDrawError:
            return summarise(self.study)

    @property
    def studies(self) -> tuple[Study, ...]:
        """The leading study, and that of controllers after it, whose runs are shorter and of more methods."""
        return (self.long, self.study) if self.leading is self.long else (self.study,)

    @property
    def leading(self) -> Study:
        """The study that the paper's figures are of: the long one once the paper's own method is evaluated in it."""
        return self.long if PAPERS_METHOD in set(self.long.last.arm) else self.study

    def folder_of(self, source: str) -> Path:
        """Return the folder of a source's tables."""
        replaced = source in STUDIES and self.instead_of in (None, source)
        return self.tables if self.tables and replaced else self.folder / source

    @cached_property
    def audit(self) -> LoadedAudit:
        """The audit's tables."""
        if not (self.folder / "audit").is_dir():
            raise NothingToDrawError("the tables of `entrocraft theory audit`")
        return load_audit(self.folder / "audit")

    def simulation(self, name: str) -> Page:
        """Return the page of a simulation."""
        folder = self.folder / "simulations" / name
        if not folder.is_dir():
            raise NothingToDrawError(f"the tables of `entrocraft simulate {name}`")
        return load_page(folder)

    def table(self, name: str, columns: Sequence[str]) -> pd.DataFrame:
        """Return a table of its own, empty where it is not there."""
        return read(self.folder / f"{name}.csv", columns)

    def paper(self) -> pd.DataFrame:
        """Return the numbers of the paper's tables."""
        return self.table("paper_tables", ("table", "model", "method", "benchmark", "metric", "samples", "value"))

    def provenance(self, source: str) -> Mapping[str, Any]:
        """Return what is known of how a folder of tables was made; empty where nothing is."""
        file = self.folder_of(source) / "provenance.json"
        return json.loads(file.read_text()) if file.is_file() else {}
