"""The tables of a study: small files of text, the same bytes for the same runs."""

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from trainer.files import write_json, write_text
from trainer.study.columns import CURVES, DECISION, TABLES
from trainer.study.comparison import compare
from trainer.study.decision import decide
from trainer.study.protocol import BASE, Protocol
from trainer.study.records import Record, Rows, Study
from trainer.study.tracking import tracked
from trainer.summary import average

# Tables of what only a run's folder holds: of a run whose folder is gone their rows are copied.
OF_FOLDERS = ("runs.csv", "curves.csv", "steps.csv")


def write_tables(study: Study, output: Path) -> None:
    """Write the tables of what there is, `columns.json` and `provenance.json`, over those of an earlier call."""
    output.mkdir(parents=True, exist_ok=True)
    fresh = [record for record in study.records if not record.kept]
    rows: dict[str, list[Mapping[str, Any]]] = {
        "runs.csv": [
            {
                **keys(record),
                "settings": study.protocol.settings_hash(record.source, record.arm),
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
    for name in OF_FOLDERS:
        for record in study.records:
            if study.earlier and record.kept:
                rows[name] += study.earlier.of(name, record.part, record.arm, record.seed)
    tables = dict(TABLES)
    if study.protocol.questions:
        tables["decision.csv"], rows["decision.csv"] = DECISION, list(decide(study))
    for name, columns in tables.items():
        write_text(output / name, table(columns, rows[name]))
    write_json(output / "columns.json", tables)
    write_json(output / "provenance.json", provenance(study))


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


def provenance(study: Study) -> dict[str, Any]:
    """Return what the tables depend on; nothing of the machine that made them."""
    runs = [record for record in study.records if record.part == record.source]
    kept = [record for record in runs if record.kept]
    earlier = study.earlier.provenance if study.earlier and kept else {}
    packages = {name: set(versions) for name, versions in earlier.get("packages", {}).items()}
    commits = set(earlier.get("git_commits", ()))
    for record in runs:
        if not record.kept:
            commits.add(str(record.environment["git_commit"]))
            for name, version in record.environment["packages"].items():
                packages.setdefault(name, set()).add(str(version))
    return {
        "study": study.protocol.name,
        "protocol_sha256": study.protocol.sha256,
        "runs": len(runs),
        "runs_kept": len(kept),
        "runs_missing": sorted(study.missing),
        "git_commits": sorted(commits),
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


def cell(value: Any) -> str:
    """Return a value as a table holds it: floats to 6 significant digits, None as nothing.

    >>> cell(0.12345678), cell(None), cell(7), cell("yes"), cell(-0.0)
    ('0.123457', '', '7', 'yes', '0')
    """
    if value is None:
        return ""
    return f"{value + 0.0:.6g}" if isinstance(value, float) else str(value)
