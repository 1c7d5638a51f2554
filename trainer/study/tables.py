"""The tables of a study: small files of text, the same bytes for the same runs."""

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from trainer.files import write_json, write_text
from trainer.study.columns import CURVES, DECISION, TABLES, cell
from trainer.study.comparison import compare
from trainer.study.decision import decide
from trainer.study.earlier import Earlier
from trainer.study.protocol import BASE, Protocol
from trainer.study.records import Record, Rows, Study
from trainer.study.tracking import tracked
from trainer.summary import average

# What a row of a table that is not computed from the others says that there is.
HELD = {
    "runs.csv": ("part", "arm", "seed"),
    "evaluations.csv": ("part", "arm", "seed", "step", "setting", "samples"),
    "final.csv": ("part", "arm", "seed", "step", "setting", "samples"),
}


def write_tables(study: Study, output: Path, guarded: Earlier | None = None) -> None:
    """Write the tables of what there is, `columns.json` and `provenance.json`, over those of an earlier call.

    Raises:
        ValueError: the tables `guarded` hold runs or evaluations that would be lost.
    """
    fresh = [record for record in study.records if not record.kept]
    rows: dict[str, list[Mapping[str, Any]]] = {
        "runs.csv": [
            {
                **keys(record),
                "settings": study.protocol.settings_hash(record.part, record.arm),
                "git_commit": record.environment["git_commit"],
                "parameters": record.parameters,
                "samples": record.drawn,
                **tracked(record.rows, study.protocol.after),
            }
            for record in fresh
        ],
        "curves.csv": [row for record in fresh for row in binned(record, study.protocol.curve_steps)],
        "steps.csv": [row for record in fresh for row in every_step(study.protocol, record)],
        "evaluations.csv": list(evaluation_rows(study)),
        "final.csv": list(final_rows(study)),
        "comparison.csv": list(compare(study)),
    }
    for record in study.records:
        for name, kept in (record.kept or {}).items():
            rows[name] += kept
    if guarded:
        check_nothing_is_lost(rows, guarded)
    output.mkdir(parents=True, exist_ok=True)
    tables = dict(TABLES)
    if study.protocol.questions:
        tables["decision.csv"], rows["decision.csv"] = DECISION, list(decide(study))
    # What says that a run is there comes after all that is said of it.
    for name in sorted(tables, key=lambda name: name == "runs.csv"):
        write_text(output / name, table(tables[name], rows[name]))
    write_json(output / "columns.json", tables)
    write_json(output / "provenance.json", provenance(study, rows["runs.csv"]))


def check_nothing_is_lost(rows: Mapping[str, Sequence[Mapping[str, Any]]], earlier: Earlier) -> None:
    """Refuse to write over tables that hold more than these rows.

    Raises:
        ValueError: of which file, how much, and what first.
    """
    for file, names in HELD.items():
        there = {tuple(str(row[name]) for name in names) for row in rows[file]}
        found = [row for same in earlier.rows[file].values() for row in same]
        lost = [row for row in found if tuple(str(row[name]) for name in names) not in there]
        if lost:
            raise ValueError(
                f"study tables(output={earlier.folder}) must lose nothing; got {len(lost)} of {len(found)} rows of "
                f"{file} there that would be gone, as of {lost[0]['part']}/{lost[0]['arm']}/seed{lost[0]['seed']}. "
                "--gone=keep keeps the runs of the protocol whose folders are gone, --gone=drop writes over all, or "
                "choose another --output."
            )


def keys(record: Record) -> dict[str, Any]:
    """Return what names a run in every table."""
    return {"part": record.part, "arm": record.arm, "seed": record.seed, "source": record.source}


def binned(record: Record, steps: int) -> Iterator[dict[str, Any]]:
    """Yield the means of a run's columns over so many steps each."""
    bins: dict[int, list[Mapping[str, Any]]] = {}
    for row in record.rows:
        bins.setdefault(row["step"] // steps, []).append(row)
    for place, rows in bins.items():
        means = {name: average(rows, name) for name in CURVES}
        yield {
            **keys(record),
            "step": place * steps,
            **means,
            **outside(rows, "above", 1),
            **outside(rows, "below", -1),
        }


def outside(rows: Sequence[Mapping[str, Any]], name: str, side: int) -> dict[str, float | None]:
    """Return the share of steps on one side of the band, and the effective group size of these."""
    there = [row for row in rows if row["band_indicator"] == side]
    size = average(there, "effective_group_size")
    return {f"share_{name}": len(there) / len(rows), f"effective_group_size_{name}": size}


def every_step(protocol: Protocol, record: Record) -> Iterator[dict[str, Any]]:
    """Yield every step of a run that the protocol wants whole: the first seed of some arms, reused ones once."""
    first = protocol.parts[record.source].seeds[record.arm][0]
    wanted = record.arm in protocol.every_step and record.part == record.source
    for row in record.rows if wanted and record.seed == first else ():
        yield {**keys(record), "step": row["step"], **{name: row.get(name) for name in CURVES}}


def evaluation_rows(study: Study) -> Iterator[dict[str, Any]]:
    """Yield the evaluations of every run on its way, and of the base model; reused runs once, under their own part."""
    yield from evaluated({"part": BASE, "arm": BASE, "seed": study.base_config.seed}, study.base)
    for record in study.records:
        if record.part == record.source:
            yield from evaluated(keys(record), record.evaluations)


def final_rows(study: Study) -> Iterator[dict[str, Any]]:
    """Yield the evaluations of every run's last checkpoints in the protocol's final settings."""
    for record in study.records:
        if record.part == record.source:
            yield from evaluated(keys(record), record.final)


def evaluated(named: Mapping[str, Any], rows: Rows) -> Iterator[dict[str, Any]]:
    """Yield the rows of evaluations; those that name no step are of the base model."""
    for row in rows:
        yield {
            **named,
            "step": row.get("step", 0),
            "setting": row["key"],
            "samples": row["samples"],
            "entropy": row["estimates"]["entropy"]["value"],
            "distinct": row["estimates"]["distinct"]["value"],
            "counts": " ".join(map(str, row["correct"])),
        }


def provenance(study: Study, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return what the tables depend on, given the rows of `runs.csv`; nothing of the machine that made them."""
    runs = [record for record in study.records if record.part == record.source]
    kept = [record for record in runs if record.kept]
    earlier = study.earlier.provenance if study.earlier and kept else {}
    packages = {name: set(versions) for name, versions in earlier.get("packages", {}).items()}
    for record in runs:
        for name, version in record.environment.get("packages", {}).items():
            packages.setdefault(name, set()).add(str(version))
    return {
        "study": study.protocol.name,
        "protocol_sha256": study.protocol.sha256,
        "runs": len(runs),
        "runs_kept": len(kept),
        "runs_missing": sorted(study.missing),
        "git_commits": sorted({commit for row in rows for commit in str(row["git_commit"]).split("|")}),
        "packages": {name: sorted(versions) for name, versions in sorted(packages.items())},
        "date": datetime.now(UTC).date().isoformat(),
    }


def table(columns: Iterable[str], rows: Sequence[Mapping[str, Any]]) -> str:
    """Return rows as CSV with these columns, in order of part, arm and the others; those of questions as they come."""
    names = list(columns)
    ordered = rows if "question" in names else sorted(rows, key=place)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(names)
    writer.writerows([cell(row.get(name)) for name in names] for row in ordered)
    return text.getvalue()


def place(row: Mapping[str, Any]) -> tuple[str, str, int, int, str, str, str]:
    """Return what rows are sorted by."""
    numbers = (row.get("seed", 0), row.get("step", 0))
    texts = (row.get(name, "") for name in ("setting", "quantity", "comparison"))
    return (row["part"], row["arm"], *numbers, *texts)
