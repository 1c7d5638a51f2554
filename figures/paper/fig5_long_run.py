"""Figure 5: a long run of GRPO, Clip-Higher, Clip-Cov and control: entropy and held-out results, beside the paper's."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures.arms import in_order, leading
from figures.curves import draw_arms, draw_band, draw_held_out, legend_below
from figures.entry import Built, Entry, main_of
from figures.estimates import held_out
from figures.paper.published import line_of_method, methods, pick
from figures.parts import absent, drawn_from, schedule_of, setting_of_curves
from figures.study import Data, NothingToDrawError, Study
from figures.style import SETTINGS, WIDTH, label

BASELINES = ("grpo", "clip_higher", "clip_cov")


@dataclass(frozen=True)
class Summary:
    """What the figure shows.

    Args:
        steps: of the longest run.
        setting: name of the sampling setting of `pass_at`.
        curves: rows of the arms shown.
        one_band: whether all of them were asked for one band.
        pass_at: held-out pass@k over training, by k and arm.
        published: rows of the paper's Table 3.
        notes: what is missing or stands in.
    """

    steps: int
    setting: str
    curves: pd.DataFrame
    one_band: bool
    pass_at: Mapping[int, Mapping[str, pd.DataFrame]]
    published: pd.DataFrame
    notes: tuple[str, ...]


def controlled(arms: set[str]) -> dict[str, list[str]]:
    """Return the controlled arms to show by kind, all of one schedule: a linear one where it is there, as the paper's.

    >>> controlled({"grpo", "algorithm1_linear", "soft_directional_constant", "soft_linear", "rejection"})
    {'Algorithm 1': ['algorithm1_linear'], 'predictive control': ['soft_linear']}
    """
    of_schedule = [
        {name.removesuffix(f"_{kind}"): name for name in arms if schedule_of(name) == kind}
        for kind in ("linear", None, "constant", "cosine")
    ]
    named = next((found for found in of_schedule if leading(found) or "algorithm1" in found), {})
    kinds = {
        "Algorithm 1": [name for name in ("algorithm1",) if name in named],
        "predictive control": leading(named, 2),
    }
    return {kind: [named[name] for name in names] for kind, names in kinds.items() if names}


def summarise(study: Study, numbers: pd.DataFrame) -> Summary:
    """Return what the figure shows: the part of long runs, or the main one where there is none."""
    part = "long" if "grpo" in study.arms("long") else study.main
    ours = controlled(study.arms(part))
    shown = [*(name for name in BASELINES if name in study.arms(part)), *chain.from_iterable(ours.values())]
    if not shown:
        raise NothingToDrawError("a training study (curves.csv)")
    notes = [drawn_from(study, part)]
    notes += absent(BASELINES, set(shown))
    notes += [f"Not there: {kind}." for kind in ("Algorithm 1", "predictive control") if kind not in ours]
    curves = study.curves[(study.curves.part == part) & study.curves.arm.isin(shown)]
    every, setting = setting_of_curves(study.evaluations[study.evaluations.part == part])
    rows = {name: same for name in shown if len(same := every[every.arm == name])}
    # What is asked of more samples than there are is not drawn.
    most = int(every.samples.min()) if len(every) else 32
    pass_at = {k: {name: held_out(same, k) for name, same in rows.items()} for k in (1, min(most, 32))}
    rows_apart = curves.step.drop_duplicates().sort_values().diff().min()
    steps = int(curves.step.max() + (rows_apart if rows_apart == rows_apart else 1))
    bands = curves.dropna(subset=["entropy_low"]).groupby("step").entropy_low.nunique()
    return Summary(steps, setting, curves, bool(bands.max() == 1), pass_at, pick(numbers, table=3), tuple(notes))


def draw(summary: Summary) -> Figure:
    """Return the figure."""
    arms = in_order(set(summary.curves.arm))
    with plt.rc_context(SETTINGS):
        figure, axes = plt.subplots(2, 3, figsize=(WIDTH, 6.8), layout="constrained")
        if summary.one_band:
            draw_band(axes[0, 0], summary.curves)
        draw_arms(axes[0, 0], summary.curves, arms, "entropy")
        label(axes[0, 0], f"a  Entropy, {summary.steps} steps", "step", "entropy (nats/token)")
        for letter, place, (k, curves) in zip("bc", (1, 2), summary.pass_at.items(), strict=False):
            draw_held_out(axes[0, place], curves)
            label(axes[0, place], f"{letter}  Held out, {summary.setting}", "step", f"pass@{k} (%)")
        draw_published(axes[1, 0], pick(summary.published, benchmark="MATH-500"))
        label(axes[1, 0], "d  The paper: MATH-500", "samples (thousands)", "mean@32 (%)")
        draw_published(axes[1, 1], pick(summary.published, benchmark="AIME-25"))
        label(axes[1, 1], "e  The paper: AIME-25", "samples (thousands)", "mean@32 (%)")
        axes[1, 2].set_axis_off()
        handles, names = axes[1, 0].get_legend_handles_labels()
        axes[1, 2].legend(handles, names, loc="center left", title="the paper's methods")
        legend_below(figure, arms, 6, band=summary.one_band)
    return figure


def draw_published(axes: Axes, rows: pd.DataFrame) -> None:
    """Draw a benchmark of the paper's Table 3."""
    for method in methods(rows):
        same, line = pick(rows, method=method), line_of_method(method)
        samples = same.samples.str.removesuffix("K").astype(int)
        axes.plot(samples, same.value, color=line.color, ls=line.dash, marker=line.marker, ms=5, label=method)
    axes.set_xticks([100, 200, 300, 400])


def build(data: Data) -> Built:
    """Load, summarise and draw."""
    summary = data.first(lambda study: summarise(study, data.paper()))
    return Built(draw(summary), notes=summary.notes)


ENTRY = Entry(
    "fig5_long_run",
    "Figure 5: long runs",
    "Whether control keeps a long run improving. a to c: our runs; error bars are 95 % intervals over prompts. d, e: "
    "the paper's Table 3, its own long run at 100 to 400 thousand samples.",
    ("long", "controllers", "paper_tables.csv"),
    build,
)

if __name__ == "__main__":
    main_of(ENTRY)
