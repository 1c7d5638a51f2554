"""Tables of a study that an earlier call wrote: what is left of runs whose folders are gone."""

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainer.study.columns import TABLES
from trainer.study.plan import Run
from trainer.study.protocol import BASE, Protocol

Row = Mapping[str, Any]
# What names the rows of a run, or of an arm, in every table; whole numbers are sorted as such.
WHOLE = ("seed", "step")
Key = tuple[str, str, int | None]


@dataclass(frozen=True)
class Earlier:
    """Tables, as they are written: texts, but for the whole numbers that rows are sorted by.

    Args:
        folder: where they are.
        rows: of each file, by part, arm and seed; seed None in tables of arms.
        provenance: what they depend on.
    """

    folder: Path
    rows: Mapping[str, Mapping[Key, Sequence[Row]]]
    provenance: Mapping[str, Any]

    def of(self, file: str, part: str, arm: str, seed: int | None = None) -> Sequence[Row]:
        """Return the rows of a run, or of an arm, in a table."""
        return self.rows[file].get((part, arm, seed), ())

    def evaluations(self, file: str, part: str, arm: str, seed: int) -> list[dict[str, Any]]:
        """Return evaluations as `entrocraft evaluate` saves them, as far as the tables and comparisons need them."""
        return [
            {
                "step": row["step"],
                "key": row["setting"],
                "samples": int(row["samples"]),
                "correct": [int(count) for count in row["counts"].split()],
                "estimates": {name: {"value": float(row[name])} for name in ("entropy", "distinct")},
            }
            for row in self.of(file, part, arm, seed)
        ]

    def base(self) -> list[dict[str, Any]]:
        """Return the evaluations of the base model."""
        seeds = [seed for part, arm, seed in self.rows["evaluations.csv"] if part == arm == BASE]
        return [row for seed in seeds for row in self.evaluations("evaluations.csv", BASE, BASE, seed or 0)]

    def own(self) -> Iterator[Row]:
        """Yield the rows of `runs.csv` that are under the part that ran them."""
        for (part, _, _), rows in self.rows["runs.csv"].items():
            yield from (row for row in rows if row["source"] == part)

    def holds(self, protocol: Protocol, run: Run) -> bool:
        """Return whether a run is in the tables.

        Raises:
            ValueError: it is, and the protocol says something else of it than then.
        """
        rows = self.of("runs.csv", run.part, run.arm, run.seed)
        if rows and rows[0].get("settings") != protocol.settings_hash(run.part, run.arm):
            raise ValueError(
                f"study(run={run.name}) must be in {self.folder} as the protocol has it now; got other settings there "
                f"({rows[0].get('settings') or 'none'}). Put the protocol back as it was, or choose other tables."
            )
        return bool(rows)


def read_earlier(protocol: Protocol, folder: Path) -> Earlier:
    """Return a study's tables in a folder.

    Raises:
        ValueError: there are none, or they are of another study.
    """
    file = folder / "provenance.json"
    provenance = json.loads(file.read_text()) if file.is_file() else {}
    if provenance.get("study") != protocol.name:
        raise ValueError(
            f"study(tables={folder}) must hold tables of study {protocol.name}; got "
            f"{provenance.get('study', 'none')}. Name another folder."
        )
    return Earlier(folder, {name: by_key(folder / name) for name in TABLES}, provenance)


def by_key(file: Path) -> dict[Key, list[Row]]:
    """Return the rows of a table by what names them."""
    found: dict[Key, list[Row]] = {}
    with file.open(newline="") as stream:
        for texts in csv.DictReader(stream):
            seed = int(texts["seed"]) if "seed" in texts else None
            row = {name: int(text) if name in WHOLE else text for name, text in texts.items()}
            found.setdefault((texts["part"], texts["arm"], seed), []).append(row)
    return found
