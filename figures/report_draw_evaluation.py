"""The pictures of held-out evaluations: estimates against k, and against steps."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from figures.report_draw import Panel, drawn
from figures.report_load import ReportedRun
from figures.report_numbers import evaluations_of
from figures.style import Line, line_of

OVERLAP = 1.03  # runs at the same k stand this factor apart


def families_of(estimates: Mapping[str, Mapping[str, float]]) -> dict[str, list[tuple[int, Mapping[str, float]]]]:
    """Return estimates named `NAME@K` by NAME, each with its K in ascending order.

    >>> families_of({"pass@8": {"value": 1}, "pass@1": {"value": 0}, "distinct": {"value": 2}})
    {'pass': [(1, {'value': 0}), (8, {'value': 1})]}
    """
    found: dict[str, list[tuple[int, Mapping[str, float]]]] = {}
    for name, estimate in estimates.items():
        family, at, k = name.rpartition("@")
        if at and k.isdigit() and int(k) > 0:
            found.setdefault(family, []).append((int(k), estimate))
    return {family: sorted(points, key=lambda point: point[0]) for family, points in found.items()}


def evaluation_panels(runs: Sequence[ReportedRun], place: tuple[str, str], named: str) -> list[Panel]:
    """Return pass@k and the like against k at the end, and every estimate against steps where there are several."""
    rows = [evaluations_of(run, place) for run in runs]
    last = [list(found.values())[-1].get("estimates", {}) if found else {} for found in rows]
    families = dict.fromkeys(family for estimates in last for family in families_of(estimates))
    points = {family: [families_of(estimates).get(family, []) for estimates in last] for family in families}
    panels = [k_panel(found, family, named) for family, found in points.items()]
    if any(len(found) > 1 for found in rows):
        names = dict.fromkeys(name for estimates in last for name in estimates)
        first = [name for name in names if "@" not in name or name.endswith("@1")]
        panels += [steps_panel(rows, name, named) for name in first]
    return panels


def k_panel(points: Sequence[Sequence[tuple[int, Mapping[str, float]]]], family: str, named: str) -> Panel:
    """Return a family of estimates against k, one line a run."""

    def draw(axes: Axes) -> None:
        for index, found in enumerate(points):
            shift = OVERLAP ** (index - (len(points) - 1) / 2)
            draw_estimates(axes, [k * shift for k, _ in found], [estimate for _, estimate in found], line_of(index))
        axes.set_xscale("log", base=2)
        ticks = sorted({k for found in points for k, _ in found})
        axes.set_xticks(ticks, [str(k) for k in ticks], minor=False)
        axes.set_xticks([], minor=True)

    title = f"{family}@k, {named}"
    return Panel(title, drawn(draw, "k (samples a prompt)", f"{family}@k"), "At the last evaluation; 95 % intervals.")


def steps_panel(rows: Sequence[Mapping[int, Mapping[str, Any]]], name: str, named: str) -> Panel:
    """Return an estimate against steps, one line a run."""

    def draw(axes: Axes) -> None:
        for index, found in enumerate(rows):
            kept = {step: row["estimates"][name] for step, row in found.items() if name in row.get("estimates", {})}
            draw_estimates(axes, list(kept), list(kept.values()), line_of(index))

    return Panel(f"{name} over the run, {named}", drawn(draw, "step", name), "With 95 % intervals.")


def draw_estimates(axes: Axes, x: Sequence[float], estimates: Sequence[Mapping[str, float]], look: Line) -> None:
    """Draw values with their intervals."""
    values, low, high = (np.array([row[key] for row in estimates], dtype=float) for key in ("value", "low", "high"))
    axes.vlines(x, low, high, color=look.color, lw=1.2, alpha=0.7)
    axes.plot(x, values, color=look.color, ls=look.dash, marker=look.marker, ms=5)
