"""Figure 8: what becomes of a run whose entropy target is too high."""

from collections.abc import Mapping
from dataclasses import dataclass

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from figures.arms import in_order
from figures.curves import PERCENT, draw_arms, draw_band, draw_held_out, legend_below
from figures.entry import Built, Entry, main_of
from figures.estimates import held_out
from figures.parts import drawn_from, is_too_high, setting_of_curves
from figures.study import Data, NothingToDrawError, Study
from figures.style import SETTINGS, WIDTH, label


@dataclass(frozen=True)
class Summary:
    """What the figure shows.

    Args:
        curves: rows of the arms with too high a target, and of GRPO.
        setting: name of the sampling setting of `held_out`.
        held_out: pass@1 over training by arm.
        notes: which study it is of.
    """

    curves: pd.DataFrame
    setting: str
    held_out: Mapping[str, pd.DataFrame]
    notes: tuple[str, ...]


def chosen(table: pd.DataFrame, instead: str) -> pd.DataFrame:
    """Return the rows of a part or of arms with too high a target, with GRPO's of the same part, or of one instead."""
    high = table[table.part.map(is_too_high) | table.arm.map(is_too_high)]
    grpo = table[table.arm == "grpo"]
    beside = grpo[grpo.part.isin(set(high.part))]
    return pd.concat([grpo[grpo.part == instead] if beside.empty else beside, high]).drop_duplicates()


def summarise(study: Study) -> Summary:
    """Return what the figure shows."""
    instead = "long" if "grpo" in study.arms("long") else study.main
    held, setting = setting_of_curves(study.evaluations)
    curves, evaluations = chosen(study.curves, instead), chosen(held, instead)
    if set(curves.arm) <= {"grpo"}:
        raise NothingToDrawError("runs with too high a target (curves.csv)")
    arms = in_order(set(evaluations.arm))
    means = {name: held_out(evaluations[evaluations.arm == name], 1) for name in arms}
    parts = ", ".join(sorted(set(curves[curves.arm != "grpo"].part)))
    return Summary(curves, setting, means, (drawn_from(study, parts),))


def bands(curves: pd.DataFrame) -> list[pd.DataFrame]:
    """Return rows of each band that is too high, once: drawn twice it would look like another one."""
    high = curves[curves.arm != "grpo"]
    found = {tuple(rows.drop_duplicates("step").entropy_low): rows for _, rows in high.groupby("arm")}
    return list(found.values())


def draw(summary: Summary) -> Figure:
    """Return the figure."""
    arms = in_order(set(summary.curves.arm))
    with plt.rc_context(SETTINGS):
        figure, axes = plt.subplots(1, 3, figsize=(WIDTH, 4.2), layout="constrained")
        for rows in bands(summary.curves):
            draw_band(axes[0], rows)
        draw_arms(axes[0], summary.curves, arms, "entropy")
        label(axes[0], "a  Entropy on its band", "step", "entropy (nats/token)")
        draw_arms(axes[1], summary.curves, arms, "reward_mean", PERCENT)
        label(axes[1], "b  Training reward", "step", "right (% of rollouts)")
        draw_held_out(axes[2], summary.held_out)
        label(axes[2], f"c  Held out, {summary.setting}", "step", "pass@1 (%)")
        legend_below(figure, arms, 5)
    return figure


def build(data: Data) -> Built:
    """Load, summarise and draw."""
    summary = data.first(summarise)
    return Built(draw(summary), notes=summary.notes)


ENTRY = Entry(
    "fig8_too_high",
    "Figure 8: too high a target",
    "The paper's failure case: long runs that are asked for more entropy than the task leaves room for.",
    ("long", "controllers"),
    build,
)

if __name__ == "__main__":
    main_of(ENTRY)
