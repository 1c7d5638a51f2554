"""Figure 1: entropy on a falling line, held-out pass@1, and pass@1 against pass@32 of all methods."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures.arms import in_order, leading
from figures.curves import draw_arms, draw_band, draw_held_out, draw_points, legend_below
from figures.entry import Built, Entry, main_of
from figures.estimates import Estimate, estimate, held_out
from figures.paper.published import line_of_method, methods, pick, value
from figures.parts import absent, drawn_from, final_setting, rows_of, setting_of_curves
from figures.study import Data, NothingToDrawError, Study
from figures.style import SETTINGS, WIDTH, label

# Named in the panel, at the right (1) or left (-1) of their point.
NAMED = {"GRPO": 1, "GRPO+Clip-Higher": 1, "GRPO+Clip-Cov": 1, "GSPO+Entrocraft": 1, "GRPO+Entrocraft": -1}


@dataclass(frozen=True)
class Summary:
    """What the figure shows.

    Args:
        part: of the study that the curves are of.
        setting: name of the sampling setting that `held_out` is in.
        curves: rows of the arms shown.
        held_out: pass@1 over training, by arm.
        points: pass@1 and pass@32 at the end, by arm.
        published: mean@32 and pass@32 of the paper's Table 2, averages, by method, in percent.
        notes: what is missing or stands in.
    """

    part: str
    setting: str
    curves: pd.DataFrame
    held_out: Mapping[str, pd.DataFrame]
    points: Mapping[str, tuple[Estimate, Estimate]]
    published: Mapping[str, tuple[float, float]]
    notes: tuple[str, ...]


def summarise(study: Study, numbers: pd.DataFrame) -> Summary:
    """Return what the figure shows: the linear schedule, or the main part where that was not run."""
    part = "linear" if study.arms("linear") - {"grpo"} else study.main
    if not study.arms(part):
        raise NothingToDrawError("a training study (curves.csv)")
    ours = leading(study.arms(part), forms=2)
    shown = ["grpo", "algorithm1", "released", *ours]
    curves = rows_of(study.curves, part, shown, study.main)
    evaluations, setting = setting_of_curves(rows_of(study.evaluations, part, shown, study.main))
    notes = [drawn_from(study, part)]
    notes += [] if part == "linear" else ["The linear schedule is not there yet."]
    notes += absent([*shown, *([] if ours else ["predictive control"])], set(curves.arm))
    if part == "linear" and "grpo" not in study.arms(part):
        notes.append(f"GRPO does not look at the band; its runs are those of the {study.main} part.")
    final, last = final_setting(study.last[study.last.part == study.main])
    notes.append(
        f"c is of the {study.main} part, sampled at {last}; lines: 95 % intervals of the arms in a, over prompts."
    )
    points = {
        name: (estimate(final[final.arm == name], 1), estimate(final[final.arm == name], 32))
        for name in in_order(set(final.arm))
    }
    averages = pick(numbers, table=2, benchmark="Avg")
    published = {
        name: tuple(value(averages, method=name, metric=f"{kind}@32") or 0.0 for kind in ("mean", "pass"))
        for name in methods(averages)
    }
    means = {name: held_out(rows, 1) for name in shown if len(rows := evaluations[evaluations.arm == name])}
    return Summary(part, setting, curves, means, points, published, tuple(notes))  # type: ignore[arg-type]


def draw(summary: Summary) -> Figure:
    """Return the figure."""
    arms = in_order(set(summary.curves.arm))
    with plt.rc_context(SETTINGS):
        figure, axes = plt.subplots(2, 2, figsize=(WIDTH, 8.6), layout="constrained")
        draw_band(axes[0, 0], summary.curves[summary.curves.part == summary.part])
        draw_arms(axes[0, 0], summary.curves, arms, "entropy")
        label(axes[0, 0], f"a  Entropy, {summary.part} schedule", "step", "entropy (nats/token)")
        draw_held_out(axes[0, 1], summary.held_out)
        label(axes[0, 1], f"b  Held out, {summary.setting}", "step", "pass@1 (% of samples)")
        draw_points(axes[1, 0], summary.points, arms)
        label(axes[1, 0], "c  Ours: all methods at the end", "pass@1 (%)", "pass@32 (% of prompts)")
        draw_published(axes[1, 1], summary.published)
        legend_below(figure, in_order(set(arms) | set(summary.points)), 5, points=True)
    return figure


def draw_published(axes: Axes, published: Mapping[str, tuple[float, float]]) -> None:
    """Draw the paper's averages; a method without an arm of ours is grey, and named."""
    for name, (x, y) in published.items():
        line = line_of_method(name)
        axes.plot(x, y, line.marker, color=line.color, ms=7, mew=1.3)
        if name in NAMED:
            side = NAMED[name]
            place: Any = {"xytext": (8 * side, -1), "textcoords": "offset points", "va": "center", "fontsize": 9}
            axes.annotate(name, (x, y), ha="left" if side > 0 else "right", **place)
    axes.plot([], [], "o", color="#777777", label="GSPO and its variants (not run here)")
    axes.legend(loc="upper left", handletextpad=0.1)
    label(axes, "d  The paper's Table 2, averages (Qwen3-4B)", "mean@32 (%)", "pass@32 (%)")


def build(data: Data) -> Built:
    """Load, summarise and draw."""
    summary = data.first(lambda study: summarise(study, data.paper()))
    return Built(draw(summary), notes=summary.notes)


ENTRY = Entry(
    "fig1_overview",
    "Figure 1: overview",
    "a: entropy of GRPO, of the paper's Algorithm 1, of its released variant and of predictive controllers on the "
    "band that all but GRPO were asked to follow. b: what became of held-out pass@1. c: pass@1 against pass@32 of "
    "every method at the end of training. d: the same as published.",
    ("long", "controllers", "paper_tables.csv"),
    build,
)

if __name__ == "__main__":
    main_of(ENTRY)
