"""Schedules of the user's own, as a CSV file of points."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from trainer.config import TrainConfig
from trainer.methods.schedules import Point, checked_points


def with_points(config: TrainConfig) -> TrainConfig:
    """Return the configuration with a schedule's file replaced by the points that it holds.

    So the run directory keeps the schedule itself, and a run whose file has changed since does not go on unnoticed.

    Raises:
        ValueError: a piecewise schedule with both points and a file or neither, or a file that holds no schedule.
        FileNotFoundError: no such file.
    """
    band = config.band
    if band.schedule != "piecewise":
        return config
    given = sorted({"points", "file"}.intersection(band.options))
    if len(given) != 1:
        raise ValueError(
            f"band.options of the schedule piecewise must hold points or file; got {' and '.join(given) or 'neither'}. "
            "Write {points: [[0, 0.6, 0.7], [1, 0.4, 0.5]]}, rows of [share of the run, low, high], or {file: FILE}."
        )
    if given == ["points"]:
        return config
    points = [list(point) for point in read_points(Path(str(band.options["file"])), config.steps)]
    options = {name: value for name, value in band.options.items() if name != "file"}
    return replace(config, band=replace(band, options={**options, "points": points}))


def read_points(path: Path, steps: int) -> tuple[Point, ...]:
    """Return the points (u, low, high) of a CSV file with a header.

    Args:
        path: with a column progress (share of the run) or step (from 0), and low and high, or centre and half_width.
        steps: of the run.

    Raises:
        ValueError: other columns, a cell that is no number, or points that make no schedule; file and line are named.
        FileNotFoundError: no such file.
    """
    if not path.is_file():
        raise FileNotFoundError(f"band.options: {{file: {path}}} must name a CSV file; got no such file.")
    rows, lines = [], []
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream, skipinitialspace=True)
            reader.fieldnames = [name.strip() for name in reader.fieldnames or []]
            place, bounds = columns(path, reader.fieldnames)
            for row in reader:
                where = f"{path}:{reader.line_num}"
                if None in row:
                    raise ValueError(
                        f"{where} must have {len(row) - 1} cells; got more. Write decimal points, not commas."
                    )
                rows.append((progress(row, place, steps, where), *band(row, bounds, where)))
                lines.append(where)
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path} must be a CSV file in UTF-8; got {error}. Save it as such.") from error
    if not rows:
        raise ValueError(f"{path} must hold points below its header; got none.")
    return checked_points(rows, lambda index: lines[index])


def columns(path: Path, names: Sequence[str]) -> tuple[str, tuple[str, str]]:
    """Return the column that says where a point is, and the two that say its band."""
    places = [name for name in ("progress", "step") if name in names]
    pairs = [pair for pair in (("low", "high"), ("centre", "half_width")) if set(pair) <= set(names)]
    if len(places) != 1 or len(pairs) != 1:
        raise ValueError(
            f"{path}:1 must name the columns progress or step, and low and high, or centre and half_width; got "
            f"{list(names)}. Write them in the first line, separated by commas."
        )
    return places[0], pairs[0]


def progress(row: Mapping[str, str | None], place: str, steps: int, where: str) -> float:
    """Return the share of the run at which a row lies."""
    found = number(row, place, where)
    if place == "progress":
        return found
    if not 0 <= found <= steps:
        raise ValueError(f"{where}, column step, must be in the run's [0, {steps}]; got {found:g}. Or set steps.")
    return found / steps


def band(row: Mapping[str, str | None], bounds: tuple[str, str], where: str) -> tuple[float, float]:
    """Return low and high of a row."""
    first, second = (number(row, name, where) for name in bounds)
    return (first, second) if bounds[0] == "low" else (first - second, first + second)


def number(row: Mapping[str, str | None], name: str, where: str) -> float:
    """Return a cell as a number."""
    text = row[name]
    try:
        return float(text or "")
    except ValueError as error:
        raise ValueError(f"{where}, column {name}, must be a number; got {text!r}.") from error
