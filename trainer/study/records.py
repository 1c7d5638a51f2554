"""The finished runs of a study, read for its tables: from their folders, or from earlier tables."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from safetensors import safe_open

from trainer.algorithm import band_of_run, build_schedule
from trainer.checkpoint import checkpoints
from trainer.config import TrainConfig
from trainer.files import complete_lines
from trainer.same_run import changes
from trainer.study.columns import cell
from trainer.study.earlier import Earlier
from trainer.study.jobs import BASE_EVALUATION, evaluates_base, final_evaluations, final_job, name_of
from trainer.study.plan import Run, check_runs, configuration, layered, plan
from trainer.study.protocol import BASE, Protocol

Rows = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Record:
    """A finished run, as one of a part.

    Args:
        part: whose band its rows carry.
        source: the part that ran it; another one where runs are reused.
        arm: its arm.
        seed: its seed.
        config: its configuration.
        rows: of `metrics.jsonl`; none where the folder is gone.
        evaluations: of `evaluations.jsonl`, with numbers as tables hold them.
        final: evaluations of the last checkpoints in the protocol's final settings, with their steps, likewise.
        unevaluated: those evaluations that were not made, by name.
        environment: what it depended on.
        parameters: of its model; None where no checkpoint holds it.
        drawn: rollouts in all.
        kept: its rows in earlier tables, by file, where it is read from them; None where from its folder.
    """

    part: str
    source: str
    arm: str
    seed: int
    config: TrainConfig
    rows: Rows
    evaluations: Rows
    final: Rows
    unevaluated: Sequence[str]
    environment: Mapping[str, Any]
    parameters: int | None = None
    drawn: int = 0
    kept: Mapping[str, Sequence[Mapping[str, Any]]] | None = None


@dataclass(frozen=True)
class Study:
    """What there is of a study.

    Args:
        protocol: its protocol.
        records: of the finished runs, those of other parts that a part reuses included.
        missing: names of the runs that are not finished, and of those that a part reuses without their rows in it.
        base: evaluations of the base model, empty where there are none.
        base_config: its configuration.
        earlier: the tables that hold the runs whose folders are gone; None where there are none.
    """

    protocol: Protocol
    records: Sequence[Record]
    missing: Sequence[str]
    base: Rows
    base_config: TrainConfig
    earlier: Earlier | None = None


def read_study(protocol: Protocol, folder: Path, earlier: Earlier | None = None) -> Study:
    """Return what there is of a study: in a folder of runs, and in earlier tables where they have more of a run.

    Raises:
        ValueError: a run of another configuration, or reused runs that a part's settings would have changed.
    """
    runs = plan(protocol, folder)
    check_runs(runs)
    records: list[Record] = []
    missing = []
    for run in runs:
        found = read_run(protocol, run) if run.finished else None
        kept = kept_run(protocol, run, earlier) if earlier and (found is None or found.unevaluated) else None
        if kept and (found is None or len(kept.unevaluated) < len(found.unevaluated)):
            found = kept
        if found:
            records.append(found)
        else:
            missing.append(run.name)
    own = list(records)
    for part, condition in protocol.parts.items():
        for arm, source in condition.reuse.items():
            config = configuration(protocol, folder, part, arm)
            for record in own:
                if (record.part, record.arm) == (source, arm):
                    reused = as_part(record, part, config, earlier, protocol)
                    if reused:
                        records.append(reused)
                    else:
                        missing.append(f"{part}/{arm}/seed{record.seed}")
    base, base_config = saved_evaluations(folder / BASE / BASE_EVALUATION), layered(protocol.base)
    # That of kept runs is the protocol's.
    if not base and earlier and any(record.kept for record in own):
        base = earlier.base(base_config.seed)
    return Study(protocol, records, missing, base, base_config, earlier)


def unevaluated(study: Study) -> list[str]:
    """Return the names of evaluations that the protocol wants beside its runs and that are not there."""
    base = ["base model, evaluation"] if evaluates_base(study.base_config) and not study.base else []
    own = [record for record in study.records if record.part == record.source]
    return base + [name for record in own for name in record.unevaluated]


def read_run(protocol: Protocol, run: Run) -> Record:
    """Return a finished run."""
    rows, evaluations = (
        [json.loads(line) for line in complete_lines(run.path / name)] if (run.path / name).is_file() else []
        for name in ("metrics.jsonl", "evaluations.jsonl")
    )
    evaluations = [as_tables_hold(row) for row in evaluations]
    environment = json.loads((run.path / "environment.json").read_text())
    jobs = [(final_job(run, wanted), wanted.step) for wanted in final_evaluations(protocol, run)]
    final = [{**row, "step": step} for job, step in jobs for row in saved_evaluations(job.result)]
    missing = [job.name for job, _ in jobs if not job.done]
    return Record(
        *(run.part, run.part, run.arm, run.seed, run.config, rows, evaluations, final, missing, environment),
        parameters=parameters_of(run.path),
        drawn=int(rows[-1]["samples"]) if rows else 0,
    )


def kept_run(protocol: Protocol, run: Run, earlier: Earlier) -> Record | None:
    """Return a finished run from earlier tables, None where they do not hold it."""
    kept = earlier.run(protocol, run.part, run.arm, run.seed)
    if kept is None:
        return None
    evaluations, final = (
        earlier.evaluations(name, run.part, run.arm, run.seed) for name in ("evaluations.csv", "final.csv")
    )
    there = {(row["step"], row["samples"], row["key"].rpartition("/")[2]) for row in final}
    missing = [
        name_of(run, wanted)
        for wanted in final_evaluations(protocol, run)
        if not there.issuperset((wanted.step, wanted.samples, setting) for setting in wanted.settings)
    ]
    return Record(
        *(run.part, run.part, run.arm, run.seed, run.config, (), evaluations, final, missing, {}),
        drawn=int(kept["runs.csv"][0]["samples"]),
        kept=kept,
    )


def parameters_of(path: Path) -> int | None:
    """Return how many parameters a run's model has, tied ones once; None where no checkpoint holds a whole model."""
    count = 0
    for saved in checkpoints(path / "checkpoints")[-1:]:
        for file in saved.glob("model*.safetensors"):
            with safe_open(file, framework="pt") as tensors:
                names = list(tensors.keys())
                count += sum(math.prod(tensors.get_slice(name).get_shape()) for name in names)
    return count or None


def saved_evaluations(file: Path) -> Rows:
    """Return the evaluations that `entrocraft evaluate` saved, none where there is no file."""
    return [as_tables_hold(row) for row in json.loads(file.read_text())["evaluations"]] if file.is_file() else []


def as_tables_hold(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return an evaluation with the numbers that are matched rounded as in tables, so that these say all there is."""
    held = {name: row["estimates"][name]["value"] for name in ("entropy", "distinct")}
    return {**row, "estimates": {name: {"value": float(cell(float(value)))} for name, value in held.items()}}


def as_part(
    record: Record, part: str, config: TrainConfig, earlier: Earlier | None, protocol: Protocol
) -> Record | None:
    """Return a run as one of another part: its rows against that part's band; None where they are gone.

    Raises:
        ValueError: the part's settings change more than the band, so that its run would be another one.
    """
    other = [name for name in changes(record.config, replace(config, seed=record.seed)) if not is_free(name)]
    if other:
        raise ValueError(
            f"parts.{part}.reuse.{record.arm} must be runs that differ in the band alone; got other values of {other}. "
            f"Name seeds of {record.arm} in part {part} instead."
        )
    if record.kept:
        kept = earlier.run(protocol, part, record.arm, record.seed) if earlier else None
        return replace(record, part=part, kept=kept) if kept else None
    schedule = build_schedule(config)
    rows = []
    for row in record.rows:
        band = band_of_run(config, schedule, row["step"], record.rows[0]["entropy"])
        side = int(row["entropy"] > band.high) - int(row["entropy"] < band.low)
        rows.append({**row, "entropy_low": band.low, "entropy_high": band.high, "band_indicator": side})
    return replace(record, part=part, rows=rows)


def is_free(name: str) -> bool:
    """Return whether a setting may differ between a run and the part that reuses it."""
    return name == "output" or name.startswith("band.")
