"""The square wave: whether a controller can raise entropy again, and how fast it follows."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures.arms import arm_of, in_order
from figures.curves import draw_band, draw_curve
from figures.entry import Built, Entry, main_of
from figures.estimates import over_seeds
from figures.parts import absent
from figures.study import Data, NothingToDrawError, Study
from figures.style import INK, SETTINGS, WIDTH, label


@dataclass(frozen=True)
class Reaction:
    """Steps from a jump of the band until entropy is in it.

    Args:
        steps: mean over the seeds that arrived; None where none did.
        arrived: seeds that did.
        seeds: of the arm.
    """

    steps: float | None
    arrived: int
    seeds: int


@dataclass(frozen=True)
class Summary:
    """What the figure shows.

    Args:
        curves: rows of the square part.
        up: reaction to the jump up by arm.
        down: reaction to the jump down by arm.
        rmse: by arm, mean over seeds, nats.
        notes: what is missing.
    """

    curves: pd.DataFrame
    up: Mapping[str, Reaction]
    down: Mapping[str, Reaction]
    rmse: Mapping[str, float]
    notes: tuple[str, ...]


def reaction(values: pd.Series) -> Reaction:
    """Return the reaction of an arm's seeds; a seed that never arrived has a missing value.

    >>> reaction(pd.Series([7.0, 9.0, float("nan")]))
    Reaction(steps=8.0, arrived=2, seeds=3)
    """
    found = pd.to_numeric(values, errors="coerce").dropna()
    return Reaction(float(found.mean()) if len(found) else None, len(found), len(values))


def summarise(study: Study) -> Summary:
    """Return what the figure shows."""
    runs, curves = study.runs[study.runs.part == "square"], study.curves[study.curves.part == "square"]
    if curves.empty:
        raise NothingToDrawError("the square part of the training study (controllers/curves.csv)")
    groups = dict(list(runs.groupby("arm")))
    arms = in_order(set(curves.arm))
    return Summary(
        curves,
        {name: reaction(groups[name].reaction_up) for name in arms if name in groups},
        {name: reaction(groups[name].reaction_down) for name in arms if name in groups},
        {name: float(groups[name].rmse.mean()) for name in arms if name in groups},
        tuple(absent(["algorithm1", "released", "soft_directional", "solved_bonus_directional"], set(arms))),
    )


def draw(summary: Summary) -> Figure:
    """Return the figure: a panel an arm."""
    arms = in_order(set(summary.curves.arm))
    columns = min(3, len(arms))
    rows = -(-len(arms) // columns)
    with plt.rc_context(SETTINGS):
        shape: Any = {"squeeze": False, "sharex": True, "sharey": True}
        figure, axes = plt.subplots(rows, columns, figsize=(WIDTH, 3.3 * rows), layout="constrained", **shape)
        for panel in axes.flat[len(arms) :]:
            panel.set_axis_off()
        for panel, name in zip(axes.flat, arms, strict=False):
            draw_arm(panel, summary, name)
            panel.tick_params(labelbottom=True, labelleft=True)
            label(panel, arm_of(name).text, "step", "entropy (nats/token)")
    return figure


def draw_arm(axes: Axes, summary: Summary, name: str) -> None:
    """Draw an arm's entropy on the band, with its reaction and error in words."""
    draw_band(axes, summary.curves)
    rows = summary.curves[summary.curves.arm == name]
    draw_curve(axes, over_seeds(rows, "entropy"), arm_of(name).line)
    texts = [f"RMSE {summary.rmse[name]:.3f}"] if name in summary.rmse else []
    for way, found in (("up", summary.up), ("down", summary.down)):
        if name in found:
            texts.append(f"{way}: {in_words(found[name])}")
    axes.text(0.98, 0.97, "\n".join(texts), transform=axes.transAxes, ha="right", va="top", fontsize=9.5, color=INK)
    axes.set_ylim(None, max(0.9, float(summary.curves.entropy.max()) + 0.15))


def in_words(found: Reaction) -> str:
    """Return a reaction as text.

    >>> in_words(Reaction(8.0, 2, 3)), in_words(Reaction(None, 0, 2))
    ('8 steps (2 of 3 seeds)', 'never (0 of 2 seeds)')
    """
    when = "never" if found.steps is None else f"{found.steps:.0f} steps"
    return f"{when} ({found.arrived} of {found.seeds} seeds)"


def build(data: Data) -> Built:
    """Load, summarise and draw."""
    summary = summarise(data.study)
    return Built(draw(summary), notes=summary.notes)


ENTRY = Entry(
    "square_wave",
    "Square wave",
    "Entropy on a band that jumps down and up again (grey): the test that braking alone cannot pass. Mean over seeds, "
    "the extremes shaded; in words the tracking error and the steps from a jump until entropy is in the band.",
    ("controllers",),
    build,
)

if __name__ == "__main__":
    main_of(ENTRY)
