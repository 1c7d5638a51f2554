"""Whether a long run goes on improving: held-out pass@1, entropy on its band, and training less held-out."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from figures.arms import arm_of, in_order
from figures.curves import PERCENT, draw_arms, draw_band, draw_held_out, draw_plateaus, legend_below
from figures.entry import Built, Entry, main_of
from figures.estimates import held_out
from figures.parts import drawn_from, seeds_note, setting_of_curves
from figures.study import Data, NothingToDrawError, Study
from figures.style import SETTINGS, WIDTH, label

SEEDS = 3  # that an arm has at least, unless all have fewer


@dataclass(frozen=True)
class Summary:
    """What the figure shows, of the arms of `SEEDS` and more.

    Args:
        curves: their rows.
        setting: name of the sampling setting of `held_out`.
        held_out: pass@1 over training by arm.
        gap: training reward less held-out pass@1 at temperature 1, by arm: columns step, value.
        plateaus: step from which pass@1 is flat by the protocol's rule, by arm; NaN of an arm whose curve is not.
        notes: what it is of.
    """

    curves: pd.DataFrame
    setting: str
    held_out: Mapping[str, pd.DataFrame]
    gap: Mapping[str, pd.DataFrame]
    plateaus: Mapping[str, float]
    notes: tuple[str, ...]


def gap_of(curves: pd.DataFrame, evaluations: pd.DataFrame) -> pd.DataFrame:
    """Return the training reward between two evaluations less the mean held-out pass@1 of both, over seeds.

    Args:
        curves: rows of an arm.
        evaluations: of the same arm at temperature 1, where training samples too.
    """
    found = held_out(evaluations, 1)
    rows = []
    for (start, before), (end, after) in pairwise(zip(found.step, found["mean"], strict=True)):
        between = curves[(curves.step >= start) & (curves.step < end)]
        rows.append(((start + end) / 2, between.reward_mean.mean() - (before + after) / 2))
    return pd.DataFrame(rows, columns=["step", "value"])


def plateaus_of(decision: pd.DataFrame, setting: str, part: str) -> dict[str, float]:
    """Return the steps from which the arms of a part are flat, each by the question of the most seeds; NaN: not flat.

    Args:
        decision: rows of `decision.csv`.
        setting: `paper` or `t1`.
        part: of the study.
    """
    answers = decision[(decision.quantity == "plateau") & (decision.setting == setting)]
    sides = []
    for side, of, arm in (("arm", "part", "arm"), ("against", "against_part", "against")):
        rows = answers[(answers.comparison == side) & (answers[of] == part)]
        sides.append(rows.assign(name=rows[arm], inside=rows.part == rows.against_part))
    # Those wholly of the part last: they hold where as many seeds were asked otherwise.
    every = pd.concat(sides).sort_values(["seeds", "inside"], kind="stable").drop_duplicates("name", keep="last")
    return dict(zip(every.name, every.value.astype(float), strict=True))


def summarise(study: Study) -> Summary:
    """Return what the figure shows, of the main part."""
    curves = study.curves[study.curves.part == study.main]
    every = study.evaluations[study.evaluations.part == study.main]
    if curves.empty or every.empty or study.decision.empty:
        raise NothingToDrawError("a study that answers questions (curves.csv, evaluations.csv, decision.csv)")
    seeds = every.groupby("arm").seed.nunique()
    arms = in_order(set(seeds[seeds >= min(SEEDS, seeds.max())].index))
    shown, setting = setting_of_curves(every)
    at_one = every[every.setting == "t1"]
    found = plateaus_of(study.decision, shown.setting.iloc[0], study.main)
    plateaus = {name: found[name] for name in arms if name in found}
    flat = [f"{arm_of(name).text} {'not seen' if at != at else f'from step {at:.0f}'}" for name, at in plateaus.items()]
    return Summary(
        curves[curves.arm.isin(arms)],
        setting,
        {name: held_out(shown[shown.arm == name], 1) for name in arms},
        {name: gap_of(curves[curves.arm == name], at_one[at_one.arm == name]) for name in arms},
        plateaus,
        (
            f"{drawn_from(study, study.main)} {seeds_note({arm_of(name).text: seeds[name] for name in arms})}",
            f"Flat by the protocol's rule: {', '.join(flat) or 'not asked'}.",
        ),
    )


def draw(summary: Summary) -> Figure:
    """Return the figure."""
    arms = list(summary.held_out)
    with plt.rc_context(SETTINGS):
        figure, axes = plt.subplots(1, 3, figsize=(WIDTH, 4.4), layout="constrained")
        draw_held_out(axes[0], summary.held_out, intervals=arms[:1])
        draw_plateaus(axes[0], summary.plateaus)
        label(axes[0], f"a  Held out, {summary.setting}", "step", "pass@1 (%)")
        draw_band(axes[1], summary.curves)
        draw_arms(axes[1], summary.curves, arms, "entropy")
        label(axes[1], "b  Entropy", "step", "entropy (nats/token)")
        for name, rows in summary.gap.items():
            line = arm_of(name).line
            axes[2].plot(rows.step, PERCENT * rows.value, color=line.color, ls=line.dash, marker=line.marker, ms=4)
        label(axes[2], "c  Training less held out", "step", "difference at temperature 1 (points)")
        legend_below(figure, arms, 6)
    return figure


def build(data: Data) -> Built:
    """Load, summarise and draw."""
    summary = summarise(data.long)
    return Built(draw(summary), notes=summary.notes)


ENTRY = Entry(
    "saturation",
    "Long runs: does improvement last?",
    "a: held-out pass@1, shaded: the first arm's interval over prompts, which all arms share, so that differences are "
    "known better than that (decision); upright lines: from where an arm's curve is flat by the protocol's rule, which "
    "cannot see what lies nearer to the end than it looks ahead. b: entropy; least to greatest seed "
    "shaded. c: training reward between two evaluations less the mean held-out pass@1 of both, all at temperature 1. "
    "What it rises by is learnt of the training prompts alone; it does not begin at 0, since held-out prompts are one "
    "a problem and training draws them as they come.",
    ("long",),
    build,
)

if __name__ == "__main__":
    main_of(ENTRY)
