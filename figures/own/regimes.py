"""Control in other models and regimes: held-out pass@1 and pass@16 and entropy, each part beside GRPO of its own."""

from collections.abc import Mapping
from dataclasses import dataclass

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from figures.arms import arm_of, leading
from figures.curves import draw_arms, draw_band, draw_held_out, draw_plateaus, legend_below
from figures.entry import Built, Entry, main_of
from figures.estimates import held_out
from figures.own.saturation import plateaus_of
from figures.parts import drawn_from, seeds_note, setting_of_curves
from figures.study import Data, NothingToDrawError, Study
from figures.style import SETTINGS, WIDTH, label

PASS_AT = (1, 16)
PLAIN = "grpo"


@dataclass(frozen=True)
class Summary:
    """What the figure shows.

    Args:
        arms: GRPO and the controlled arm.
        curves: their rows, by part.
        setting: name of the sampling setting of `pass_at`.
        pass_at: held-out pass@k over training, by part, k and arm.
        plateaus: step from which pass@1 is flat by the protocol's rule, by part and arm; NaN where it is not.
        notes: what it is of.
    """

    arms: tuple[str, str]
    curves: Mapping[str, pd.DataFrame]
    setting: str
    pass_at: Mapping[str, Mapping[int, Mapping[str, pd.DataFrame]]]
    plateaus: Mapping[str, Mapping[str, float]]
    notes: tuple[str, ...]


def summarise(study: Study) -> Summary:
    """Return what the figure shows: the parts that have runs of both arms of their own, the main part first."""
    controlled = leading(study.arms(study.main))
    own = study.evaluations[["part", "arm", "seed"]].drop_duplicates().groupby(["part", "arm"]).seed.nunique()
    arms = (PLAIN, *controlled)
    parts = [
        name
        for name in sorted({*own.index.get_level_values("part")}, key=lambda name: (name != study.main, name))
        if all((name, arm) in own for arm in arms)
    ]
    if len(arms) < 2 or len(parts) < 2:
        raise NothingToDrawError("a study with GRPO and control in several parts (evaluations.csv)")
    shown, setting = setting_of_curves(study.evaluations[study.evaluations.part.isin(parts)])
    flat = {part: plateaus_of(study.decision, shown.setting.iloc[0], part) for part in parts}
    plateaus = {part: {arm: at for arm, at in found.items() if arm in arms} for part, found in flat.items()}
    curves = {part: study.curves[(study.curves.part == part) & study.curves.arm.isin(arms)] for part in parts}
    pass_at = {
        part: {k: {arm: held_out(shown[(shown.part == part) & (shown.arm == arm)], k) for arm in arms} for k in PASS_AT}
        for part in parts
    }
    return Summary(
        (arms[0], arms[1]),
        curves,
        setting,
        pass_at,
        plateaus,
        (
            f"{drawn_from(study, ', '.join(parts))} Sampled at {setting}.",
            *(f"{part}: {seeds_note({arm_of(arm).text: int(own[part, arm]) for arm in arms})}" for part in parts),
        ),
    )


def draw(summary: Summary) -> Figure:
    """Return the figure, a column a part."""
    parts = list(summary.curves)
    letters = iter("abcdefghijklmnopqrstuvwxyz")
    with plt.rc_context(SETTINGS):
        figure, axes = plt.subplots(
            len(PASS_AT) + 1, len(parts), figsize=(WIDTH, 8.2), layout="constrained", squeeze=False, sharex=True
        )
        for row, k in enumerate(PASS_AT):
            for place, part in enumerate(parts):
                draw_held_out(axes[row, place], summary.pass_at[part][k])
                label(axes[row, place], f"{next(letters)}  {part.replace('_', ' ')}", "", f"pass@{k} (%)")
        for place, part in enumerate(parts):
            draw_plateaus(axes[0, place], summary.plateaus[part])
            draw_band(axes[-1, place], summary.curves[part])
            draw_arms(axes[-1, place], summary.curves[part], summary.arms, "entropy")
            label(axes[-1, place], f"{next(letters)}  {part.replace('_', ' ')}", "step", "entropy (nats/token)")
        legend_below(figure, summary.arms, 3)
    return figure


def build(data: Data) -> Built:
    """Load, summarise and draw."""
    summary = summarise(data.long)
    return Built(draw(summary), notes=summary.notes)


ENTRY = Entry(
    "regimes",
    "Long runs: other models and regimes",
    "GRPO and control in each part of the long study that has runs of both, the main one first. Upper row: held-out "
    "pass@1, upright lines where an arm's curve is flat by the protocol's rule, which cannot see what lies nearer to "
    "the end than it looks ahead; middle: pass@16; shaded: 95 % intervals over prompts, which the arms of a panel "
    "share. Lower row: entropy on the band asked for, least to greatest seed shaded.",
    ("long",),
    build,
)

if __name__ == "__main__":
    main_of(ENTRY)
