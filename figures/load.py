"""Run directories and audit tables, as pandas frames. Figures read these and nothing else."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import pandas as pd


@dataclass(frozen=True)
class LoadedRun:
    """What a figure needs of a run directory.

    Args:
        name: the directory's name, with its parents' where names repeat.
        metrics: one row a step, the columns of `metrics.jsonl`.
        summary: `summary.json`.
        evaluations: one dict an evaluation, as in `evaluations.jsonl`, oldest first.
    """

    name: str
    metrics: pd.DataFrame
    summary: dict[str, Any]
    evaluations: list[dict[str, Any]]

    @property
    def sets(self) -> tuple[str | None, ...]:
        """The held-out sets that were evaluated, the first one first; None stands for that of runs without names."""
        return tuple(dict.fromkeys(row.get("set") for row in self.evaluations))

    @property
    def settings(self) -> tuple[str, ...]:
        """The sampling settings of its evaluations."""
        return tuple(dict.fromkeys(row["setting"] for row in self.evaluations))

    def results(self, setting: str, held_out: str | None = None) -> list[dict[str, Any]]:
        """Return the evaluations in a setting on a held-out set, the first one by default, oldest first."""
        wanted = held_out or next(iter(self.sets), None)
        return [row for row in self.evaluations if row["setting"] == setting and row.get("set") == wanted]

    def final(self, setting: str, held_out: str | None = None) -> dict[str, Any] | None:
        """Return the last evaluation in a setting, None where there is none."""
        return next(reversed(self.results(setting, held_out)), None)

    def base(self, setting: str, held_out: str | None = None) -> dict[str, Any] | None:
        """Return the evaluation of the base model in a setting, None where there is none."""
        return next((row for row in self.results(setting, held_out) if row["step"] == 0), None)


def load_run(path: Path) -> LoadedRun:
    """Return a finished run.

    Raises:
        FileNotFoundError: no run directory there, or a run that has not finished.
    """
    for file in ("metrics.jsonl", "summary.json"):
        if not (path / file).is_file():
            raise FileNotFoundError(
                f"load_run({str(path)!r}) must name the directory of a finished run; got none with {file}. "
                "Check the path, or finish the run with --resume."
            )
    evaluations = path / "evaluations.jsonl"
    lines = evaluations.read_text().splitlines() if evaluations.is_file() else []
    return LoadedRun(
        name=path.resolve().name,
        metrics=pd.read_json(path / "metrics.jsonl", lines=True),
        summary=json.loads((path / "summary.json").read_text()),
        evaluations=[json.loads(line) for line in lines],
    )


def load_runs(paths: Sequence[Path]) -> list[LoadedRun]:
    """Return finished runs, in the order given.

    Raises:
        FileNotFoundError: one of them is no finished run.
        ValueError: none given.
    """
    if not paths:
        raise ValueError("load_runs(paths) must get at least one run directory; got none.")
    return [replace(load_run(path), name=name) for path, name in zip(paths, unique_names(paths), strict=True)]


def unique_names(paths: Sequence[Path]) -> list[str]:
    """Return the directories' names, with as many of their parents as it takes to tell them apart.

    >>> unique_names([Path("/runs/a/grpo"), Path("/runs/b/grpo")])
    ['a/grpo', 'b/grpo']
    """
    parts = [path.resolve().parts for path in paths]
    longest = max(map(len, parts))
    for depth in range(1, longest + 1):
        names = ["/".join(part[-depth:]) for part in parts]
        if len(set(names)) == len(set(parts)):
            break
    return names


@dataclass(frozen=True)
class LoadedAudit:
    """The tables of `entrocraft theory audit`; `entropy_theory.audit` says what every column is."""

    reproduction: pd.DataFrame
    sign_rule: pd.DataFrame
    confidence: pd.DataFrame
    one_sided: pd.DataFrame
    tie: pd.DataFrame
    baseline: pd.DataFrame
    responses: pd.DataFrame


def load_audit(path: Path) -> LoadedAudit:
    """Return the tables of an audit.

    Raises:
        FileNotFoundError: a table is not there.
        ValueError: a table without rows, or without a column that the audit writes.
    """
    from entropy_theory.audit import TABLES  # it needs torch, which other figures do without

    remedy = "Write them again: entrocraft theory audit --output {} --overwrite"
    tables = {}
    for name, row in TABLES.items():
        file = path / f"{name}.csv"
        if not file.is_file():
            raise FileNotFoundError(
                f"load_audit({str(path)!r}) must name a directory with the audit's tables; got none with {file.name}. "
                f"Make them: entrocraft theory audit --output {path}"
            )
        wanted = [field.name for field in fields(row)]
        try:
            table = pd.read_csv(file)
        except (pd.errors.EmptyDataError, pd.errors.ParserError, UnicodeDecodeError) as error:
            raise ValueError(f"load_audit must read CSV; got {file}: {error}. {remedy.format(path)}") from error
        missing = [column for column in wanted if column not in table]
        if missing or table.empty:
            what = f"without the columns {', '.join(missing)}" if missing else "without rows"
            raise ValueError(f"load_audit must read whole tables; got {file} {what}. {remedy.format(path)}")
        tables[name] = table
    return LoadedAudit(**tables)


def load_one_audit(paths: Sequence[Path]) -> LoadedAudit:
    """Return the tables of the only audit given.

    Raises:
        FileNotFoundError: a table is not there.
        ValueError: not exactly one directory, or a table that is not whole.
    """
    if len(paths) != 1:
        raise ValueError(
            f"figures build audit(paths) must get one directory of `entrocraft theory audit`; got {len(paths)}. "
            "Draw one after the other, each with its own --output."
        )
    return load_audit(paths[0])


def released_fig2a() -> pd.DataFrame:
    """Return the numbers of the paper's Fig. 2a as released with it; `data/SOURCES.md` says what the columns are."""
    return pd.read_csv(Path(__file__).parent / "data" / "released_fig2a.csv")


def largest_vocabulary(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of the largest vocabulary."""
    return rows[rows.vocabulary == rows.vocabulary.max()]


def near_entropy(rows: pd.DataFrame, entropy: float) -> pd.DataFrame:
    """Return, of each family and vocabulary, the rows whose entropy is the nearest."""
    nearest = rows.groupby(["family", "vocabulary"]).entropy.transform(
        lambda found: found.iloc[int((found - entropy).abs().argmin())]
    )
    return rows[rows.entropy == nearest]
