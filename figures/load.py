"""Run directories as tables. Figures read these and nothing else."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd


@dataclass(frozen=True)
class LoadedRun:
    """What a figure needs of a run directory.

    Args:
        name: the directory's name, with its parent's where names repeat.
        metrics: one row a step, the columns of `metrics.jsonl`.
        summary: `summary.json`.
        evaluations: one dict an evaluation, as in `evaluations.jsonl`, oldest first.
    """

    name: str
    metrics: pd.DataFrame
    summary: dict[str, Any]
    evaluations: list[dict[str, Any]]

    def final(self, setting: str) -> dict[str, Any] | None:
        """Return the last evaluation in a setting, None where there is none."""
        return next((row for row in reversed(self.evaluations) if row["setting"] == setting), None)

    def base(self, setting: str) -> dict[str, Any] | None:
        """Return the evaluation of the base model in a setting, None where there is none."""
        return next((row for row in self.evaluations if row["setting"] == setting and row["step"] == 0), None)


def load_run(path: Path) -> LoadedRun:
    """Return a finished run.

    Raises:
        FileNotFoundError: no run directory there, or a run that has not finished.
    """
    for file in ("metrics.jsonl", "summary.json"):
        if not (path / file).is_file():
            raise FileNotFoundError(
                f"load_run({str(path)!r}) must name the directory of a finished run; got none with {file}. "
                "Check the path, or finish the run with --resume true."
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
    runs = [load_run(path) for path in paths]
    names = [run.name for run in runs]
    if len(set(names)) < len(names):
        runs = [
            replace(run, name=f"{path.resolve().parent.name}/{run.name}") for run, path in zip(runs, paths, strict=True)
        ]
    return runs
