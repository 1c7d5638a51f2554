"""Arms against the reference: at the same samples, and at the same entropy.

Values per seed and prompt are paired, and intervals resample seeds and prompts for both arms alike.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from trainer.estimators import Estimate, bootstrap_pairs, pass_at_k
from trainer.streams import numpy_stream
from trainer.study.records import Record, Rows, Study
from trainer.summary import AT_THE_END


@dataclass(frozen=True)
class Point:
    """A moment of a run: its entropy, nats per token, and the values of a quantity there, one a prompt."""

    entropy: float
    values: np.ndarray


@dataclass(frozen=True)
class Matched:
    """The reference where its entropy is that of another run; `reached` is whether it ever was."""

    point: Point
    reached: bool


def match(points: Sequence[Point], entropy: float) -> Matched:
    """Return the reference where its entropy was this one, linearly between its points.

    Of several such places the last one, where it has trained longest. Where there is none: the point nearest to it.

    >>> points = [Point(0.8, np.array([0.0])), Point(0.4, np.array([1.0]))]
    >>> match(points, 0.5).point.values.round(12), match(points, 0.3).reached
    (array([0.75]), False)
    """
    for before, after in reversed(list(pairwise(points))):
        if min(before.entropy, after.entropy) <= entropy <= max(before.entropy, after.entropy):
            width = after.entropy - before.entropy
            share = (entropy - before.entropy) / width if width else 1.0
            return Matched(Point(entropy, (1 - share) * before.values + share * after.values), True)
    nearest = min(points, key=lambda point: abs(point.entropy - entropy))
    return Matched(nearest, nearest.entropy == entropy)


def compare(study: Study) -> Iterator[dict[str, Any]]:
    """Yield the rows of `comparison.csv`."""
    groups: dict[tuple[str, str], dict[int, Record]] = {}
    for record in study.records:
        groups.setdefault((record.part, record.arm), {})[record.seed] = record
    for (part, arm), records in groups.items():
        reference = groups.get((part, study.protocol.reference or ""), {})
        others = {} if arm == study.protocol.reference else reference
        curves = {f"pass@{k}": Passes(study, k) for k in study.protocol.pass_at}
        for quantity, curve in {**curves, "reward": rewards}.items():
            for setting in settings_of(records.values()) if quantity != "reward" else ("training",):
                for row in compared(curve, setting, records, others):
                    yield {"part": part, "arm": arm, "setting": setting, "quantity": quantity, **row}


def compared(
    curve: Any, setting: str, records: Mapping[int, Record], others: Mapping[int, Record]
) -> Iterator[dict[str, Any]]:
    """Yield the level of an arm's quantity at its last step, and its differences to the reference."""
    found = {seed: curve(record, setting) for seed, record in sorted(records.items())}
    ends = {seed: points[-1] for seed, points in found.items() if points}
    if not ends:
        return
    prompts = None if setting == "training" else len(next(iter(ends.values())).values)
    shared = {"prompts": prompts}
    yield {"comparison": "level", **estimated([p.values for p in ends.values()]), **entropies(ends.values()), **shared}
    theirs = {seed: curve(others[seed], setting) for seed in ends if seed in others}
    theirs = {seed: points for seed, points in theirs.items() if points}
    if not theirs:
        return
    own = [ends[seed] for seed in theirs]
    last = [points[-1] for points in theirs.values()]
    if all(records[seed].drawn == others[seed].drawn for seed in theirs):
        yield {"comparison": "same_samples", **difference(own, last), **shared}
    if any(len(points) < 2 for points in theirs.values()):
        return
    matches = [match(points, point.entropy) for points, point in zip(theirs.values(), own, strict=True)]
    reached = sum(found.reached for found in matches)
    yield {
        "comparison": "same_entropy",
        **difference(own, [found.point for found in matches]),
        **shared,
        "matched": "yes" if reached == len(matches) else "no",
        "seeds_matched": reached,
    }


def difference(own: Sequence[Point], theirs: Sequence[Point]) -> dict[str, Any]:
    """Return the mean difference of paired points with its interval, and both sides' entropies."""
    values = [a.values - b.values for a, b in zip(own, theirs, strict=True)]
    reference = float(np.mean([point.values.mean() for point in theirs]))
    return {**estimated(values), "reference_value": reference, **entropies(own, theirs)}


def entropies(own: Any, theirs: Any = ()) -> dict[str, float | None]:
    """Return the mean entropy of either side over seeds."""
    sides = (("entropy", list(own)), ("reference_entropy", list(theirs)))
    return {name: float(np.mean([p.entropy for p in points])) if points else None for name, points in sides}


def estimated(values: Sequence[np.ndarray]) -> dict[str, Any]:
    """Return the mean over seeds and prompts with its interval, none for a single value; all use the same resamples."""
    table = np.stack(values)
    found: Estimate = bootstrap_pairs(table, generator=numpy_stream(0, "bootstrap", "study"))
    interval = {"low": found.low, "high": found.high} if table.size > 1 else {}
    return {"value": found.value, **interval, "seeds": len(values)}


@dataclass(frozen=True)
class Passes:
    """pass@k of a run's evaluations in a setting, oldest first; the base model's own comes first where it has one."""

    study: Study
    k: int

    def __call__(self, record: Record, setting: str) -> list[Point]:
        """Return its points, where at least k samples were drawn."""
        rows: Rows = [row for row in record.evaluations if row["key"] == setting]
        own_start = any(row["step"] == 0 for row in rows)
        if rows and not own_start and same_start(self.study, record):
            rows = [*(row for row in self.study.base if row["key"] == setting), *rows]
        rows = best_of([*rows, *(row for row in record.final if row["key"] == setting)])
        return [
            Point(
                row["estimates"]["entropy"]["value"],
                np.array([pass_at_k(row["samples"], right, self.k) for right in row["correct"]]),
            )
            for row in rows
            if row["samples"] >= self.k
        ]


def best_of(rows: Rows) -> Rows:
    """Return of every step the evaluation of most samples, in the order of steps.

    >>> [row["samples"] for row in best_of([{"step": 8, "samples": 4}, {"samples": 2}, {"step": 8, "samples": 16}])]
    [2, 16]
    """
    best = {}
    for row in sorted(rows, key=lambda row: row["samples"]):
        best[row.get("step", 0)] = row
    return [best[step] for step in sorted(best)]


def same_start(study: Study, record: Record) -> bool:
    """Return whether a run began at the study's base model and is evaluated on the same prompts."""
    one, two = study.base_config, record.config
    prompts = [(c.evaluation.prompts, c.evaluation.split, c.evaluation.seed) for c in (one, two)]
    return one.model.path == two.model.path and one.data == two.data and prompts[0] == prompts[1]


def rewards(record: Record, setting: str) -> list[Point]:
    """Return the training reward over a run: means of 10 steps each, the last ones whole.

    Where the folder is gone: rows of the curves, and the last 10 steps.
    """
    if record.kept:
        (end,) = record.kept["runs.csv"]
        pairs = [(row["entropy"], row["reward_mean"]) for row in record.kept["curves.csv"]]
        pairs.append((end["entropy_end"], end["reward_end"]))
        return [Point(float(entropy), np.array([float(reward)])) for entropy, reward in pairs]
    rows = record.rows[len(record.rows) % AT_THE_END :] if len(record.rows) > AT_THE_END else record.rows
    blocks = [rows[start : start + AT_THE_END] for start in range(0, len(rows), AT_THE_END)]
    return [Point(mean_of(block, "entropy"), np.array([mean_of(block, "reward_mean")])) for block in blocks]


def mean_of(rows: Rows, name: str) -> float:
    """Return the mean of a column."""
    return float(np.mean([row[name] for row in rows]))


def settings_of(records: Any) -> list[str]:
    """Return the settings, and sets, that these runs were evaluated in."""
    return sorted({row["key"] for record in records for row in (*record.evaluations, *record.final)})
