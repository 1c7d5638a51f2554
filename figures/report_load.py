"""Run directories as a report reads them: finished, unfinished, or being written at this moment."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from figures.load import unique_names

# Without these there is no entropy curve to draw; every other column may be absent.
REQUIRED = ("step", "entropy")


@dataclass(frozen=True)
class ReportedRun:
    """What a report needs of a run directory.

    Args:
        name: the directory's name, with its parents' where names repeat.
        metrics: one row a step; a column is there only where the run recorded it, with NaN for null.
        info: one row a step, what filter and controller reported of themselves.
        columns: unit and description of each column.
        summary: `summary.json`; None while the run has not finished.
        evaluations: one dict an evaluation, oldest first.
        samples: rollouts written down, by step.
        config: the resolved settings.
        environment: `environment.json`.
        bad_steps: batches set aside because their loss or gradient was not finite.
    """

    name: str
    metrics: pd.DataFrame
    info: pd.DataFrame = field(default_factory=pd.DataFrame)
    columns: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    summary: Mapping[str, Any] | None = None
    evaluations: Sequence[Mapping[str, Any]] = ()
    samples: Mapping[int, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, Any] = field(default_factory=dict)
    bad_steps: int = 0

    def has(self, column: str) -> bool:
        """Return whether a column has a value in any step."""
        return column in self.metrics and bool(self.metrics[column].notna().any())

    def of(self, column: str) -> pd.Series:
        """Return a column, NaN throughout where the run did not record it."""
        if column in self.metrics:
            return self.metrics[column]
        return pd.Series(float("nan"), index=self.metrics.index, dtype=float)

    def unit(self, column: str) -> str:
        """Return a column's unit, empty where the run does not say."""
        return str(self.columns.get(column, {}).get("unit", ""))


def load_reported(paths: Sequence[Path]) -> list[ReportedRun]:
    """Return the runs of these directories, in the order given; a directory of runs stands for all of them.

    Raises:
        FileNotFoundError: no run there, or one without a finished step.
        ValueError: none given, one given twice, or a file that cannot be read or lacks what the report needs.
    """
    found = [run for path in paths for run in runs_in(path)]
    if not found:
        raise ValueError("report(runs) must get at least one run directory; got none.")
    if len({path.resolve() for path in found}) < len(found):
        raise ValueError(f"report(runs) must get each run once; got {', '.join(map(str, found))}.")
    return [load_one(path, name) for path, name in zip(found, unique_names(found), strict=True)]


def runs_in(path: Path) -> list[Path]:
    """Return the directory itself if it is a run's, else the runs directly inside it, by name."""
    if (path / "metrics.jsonl").is_file():
        return [path]
    inside = sorted(file.parent for file in path.glob("*/metrics.jsonl")) if path.is_dir() else []
    if not inside:
        raise FileNotFoundError(
            f"report({str(path)!r}) must name a run directory, or a folder of them; got none with metrics.jsonl. "
            "Check the path, or wait for the run's first step."
        )
    return inside


def load_one(path: Path, name: str) -> ReportedRun:
    """Return the run of a directory; raises as `load_reported` does."""
    rows = json_lines(path / "metrics.jsonl")
    if not rows:
        raise FileNotFoundError(
            f"report({str(path)!r}) must get a run with a finished step; got none in metrics.jsonl."
        )
    file = path / "metrics.jsonl"
    missing = [column for column in REQUIRED if all(row.get(column) is None for row in rows)]
    if missing:
        raise ValueError(f"report must find {', '.join(missing)} in {file}; got {', '.join(rows[0]) or 'no columns'}.")
    try:
        numbers = {column: [row.get(column) for row in rows] for row in rows for column in row if column != "info"}
        metrics = pd.DataFrame(numbers, dtype=float)
        info = pd.DataFrame([row.get("info") or {} for row in rows], dtype=float)
    except (TypeError, ValueError) as error:
        raise ValueError(f"report must find numbers in {file}; got: {error}.") from error
    return ReportedRun(
        name=name,
        metrics=metrics.assign(step=metrics.step.astype(int)),
        info=info,
        columns=json_file(path / "columns.json") or {},
        summary=json_file(path / "summary.json"),
        evaluations=json_lines(path / "evaluations.jsonl"),
        samples=samples_in(path / "rollouts"),
        config=settings_in(path / "config.yaml"),
        environment=json_file(path / "environment.json") or {},
        bad_steps=len(list((path / "bad_steps").glob("*.safetensors"))),
    )


def json_lines(file: Path) -> list[dict[str, Any]]:
    """Return the rows of a file, none where there is no file.

    A last line without an end is left out: a run that is going on is writing it, or a killed one was.

    Raises:
        ValueError: a line that is no JSON object.
    """
    if not file.is_file():
        return []
    rows = []
    for number, line in enumerate(file.read_text(errors="replace").split("\n")[:-1], 1):
        rows.append(parsed(line, f"line {number} of {file}"))
    return rows


def json_file(file: Path) -> dict[str, Any] | None:
    """Return a JSON object, None where there is no file."""
    return parsed(file.read_text(errors="replace"), str(file)) if file.is_file() else None


def parsed(text: str, where: str) -> dict[str, Any]:
    """Return the object of a JSON text, or say where there is none."""
    try:
        value = json.loads(text)
    except ValueError as error:
        raise ValueError(f"report must read JSON; got {where}: {error}.") from error
    if not isinstance(value, dict):
        raise ValueError(f"report must read JSON objects; got {where}: {text[:60]!r}.")
    return value


def samples_in(folder: Path) -> dict[int, list[dict[str, Any]]]:
    """Return the rollouts written down, by step in ascending order."""
    numbered = {file.stem.removeprefix("step_"): file for file in folder.glob("step_*.jsonl")}
    steps = sorted(int(name) for name in numbered if name.isdigit())
    return {step: json_lines(numbered[str(step)]) for step in steps}


def settings_in(file: Path) -> dict[str, Any]:
    """Return the resolved settings, none where there is no file."""
    if not file.is_file():
        return {}
    try:
        found = yaml.safe_load(file.read_text(errors="replace"))
    except yaml.YAMLError as error:
        raise ValueError(f"report must read YAML; got {file}: {error}.") from error
    return found if isinstance(found, dict) else {}
