"""Tables of a study that an earlier call wrote: what is left of runs whose folders are gone."""

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainer.study.columns import TABLES
from trainer.study.protocol import BASE, Protocol

Row = Mapping[str, Any]
# Part, arm and seed; no seed in tables of arms.
Key = tuple[str, str, int | None]
# Numbers that rows are sorted by.
WHOLE = ("seed", "step")
# What the folder of a run alone holds.
OF_FOLDERS = ("runs.csv", "curves.csv", "steps.csv")


@dataclass(frozen=True)
class Earlier:
    """Tables, as they are written: texts, but for the whole numbers that rows are sorted by.

    Args:
        folder: where they are.
        rows: of each file, by part, arm and seed.
        provenance: what they depend on.
    """

    folder: Path
    rows: Mapping[str, Mapping[Key, Sequence[Row]]]
    provenance: Mapping[str, Any]

    def run(self, protocol: Protocol, part: str, arm: str, seed: int) -> Mapping[str, Sequence[Row]] | None:
        """Return the rows of a run, as one of a part, in the tables `OF_FOLDERS`; None where there are none.

        Raises:
            ValueError: the protocol says something else of the run, or of its tables, than then.
        """
        kept = {name: self.rows[name].get((part, arm, seed), ()) for name in OF_FOLDERS}
        if not kept["runs.csv"]:
            return None
        said = kept["runs.csv"][0].get("settings")
        if said != protocol.settings_hash(part, arm):
            then = f"got other settings there ({said})" if said else "got tables from before they said what a run is of"
            raise ValueError(
                f"study(run={part}/{arm}/seed{seed}) must be in {self.folder} as the protocol has it now; {then}. Put "
                "the protocol back as it was, or leave these tables and run it again."
            )
        return kept

    def evaluations(self, file: str, part: str, arm: str, seed: int) -> list[dict[str, Any]]:
        """Return evaluations as `entrocraft evaluate` saves them, as far as tables and comparisons need them."""
        return [
            {
                "step": row["step"],
                "key": row["setting"],
                "samples": int(row["samples"]),
                "correct": [int(count) for count in row["counts"].split()],
                "estimates": {name: {"value": float(row[name])} for name in ("entropy", "distinct")},
            }
            for row in self.rows[file].get((part, arm, seed), ())
        ]

    def base(self, seed: int) -> list[dict[str, Any]]:
        """Return the evaluations of the base model."""
        return self.evaluations("evaluations.csv", BASE, BASE, seed)


def read_earlier(protocol: Protocol, folder: Path) -> Earlier | None:
    """Return a study's tables in a folder, None where there are none: what they depend on is written last.

    Raises:
        ValueError: tables of another study.
    """
    file = folder / "provenance.json"
    if not file.is_file():
        return None
    provenance = json.loads(file.read_text())
    if provenance.get("study") != protocol.name:
        raise ValueError(
            f"study(tables={folder}) must hold tables of study {protocol.name}; got those of "
            f"{provenance.get('study')}. Name another folder."
        )
    return Earlier(folder, {name: by_key(folder / name) for name in TABLES}, provenance)


def by_key(file: Path) -> dict[Key, list[Row]]:
    """Return the rows of a table by what names them; none where there is no file."""
    found: dict[Key, list[Row]] = {}
    if file.is_file():
        with file.open(newline="") as stream:
            for texts in csv.DictReader(stream):
                seed = int(texts["seed"]) if "seed" in texts else None
                row = {name: int(text) if name in WHOLE else text for name, text in texts.items()}
                found.setdefault((texts["part"], texts["arm"], seed), []).append(row)
    return found
