"""Figure 2: the condition of Theorem 2 with the released and a correct baseline; positives against negatives."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullLocator

from figures.arms import arm_of
from figures.curves import PERCENT, SMOOTHING, draw_curve
from figures.entry import Built, Entry, main_of
from figures.estimates import over_seeds, smoothed
from figures.load import released_fig2a
from figures.parts import absent, ordered
from figures.study import Data
from figures.style import INK, SETTINGS, WIDTH, Line, label

SHOWN = ("grpo", "algorithm1", "released")
KEYS = ("part", "arm", "seed", "step")
CONDITION = (*KEYS, "condition_tokens", "condition_gap_median", "sign_rule_given_condition")
POSITIVE, NEGATIVE = "#0072B2", "#D55E00"
# The methods of the paper's Fig. 2a, by the arm's name and by that of the released numbers.
METHODS = {
    "grpo": ("GRPO", Line(INK, "-", "o")),
    "nsr": ("NSR", Line(NEGATIVE, "--", "s")),
    "raft_plus_plus": ("RAFT++", Line(POSITIVE, ":", "^")),
}


@dataclass(frozen=True)
class Summary:
    """What the figure shows.

    Args:
        released: the numbers of the paper's Fig. 2a.
        condition: curves of the condition on real tokens, with the measured change of probabilities; may be empty.
        likelihoods: log-likelihoods of rollouts with positive and with negative advantages over training.
        above: by arm, the share of steps at which those with positive advantages are likelier.
        notes: what is missing.
    """

    released: pd.DataFrame
    condition: pd.DataFrame
    likelihoods: pd.DataFrame
    above: dict[str, float]
    notes: tuple[str, ...]


def summarise(curves: pd.DataFrame, condition: pd.DataFrame) -> Summary:
    """Return what the figure shows."""
    rows = curves[(curves.part == "constant") & curves.arm.isin(SHOWN)]
    rows = rows.dropna(subset=["log_likelihood_positive", "log_likelihood_negative"])
    likelier = rows.log_likelihood_positive > rows.log_likelihood_negative
    above = {name: float(likelier[rows.arm == name].mean()) for name in ordered(rows)}
    notes = absent(SHOWN, set(rows.arm))
    condition = condition[condition.arm.isin(list(METHODS))].dropna(subset=list(CONDITION))
    if condition.empty:
        notes.append("Not there: the condition on real tokens (condition/curves.csv); a shows the released numbers.")
    return Summary(released_fig2a(), condition, rows, above, tuple(notes))


def draw(summary: Summary) -> Figure:
    """Return the figure."""
    arms = ordered(summary.likelihoods)
    rows: list[list[Callable[[Axes], None]]] = [
        [partial(draw_released, released=summary.released), partial(draw_placeholder, released=summary.released)]
    ]
    if not summary.condition.empty:
        ours = summary.condition
        rows.append([partial(draw_gap, condition=ours), partial(draw_shares, condition=ours)])
    if arms:
        rows.append([partial(draw_likelihoods, summary=summary, name=name) for name in arms])
    with plt.rc_context(SETTINGS):
        figure = plt.figure(figsize=(WIDTH, 3.4 * len(rows)), layout="constrained")
        parts = figure.subfigures(len(rows), 1, squeeze=False)[:, 0]
        for part, row in zip(parts, rows, strict=True):
            panels = part.subplots(1, len(row), squeeze=False)[0]
            for axes, drawn in zip(panels, row, strict=True):
                drawn(axes)
    return figure


def draw_released(axes: Axes, released: pd.DataFrame) -> None:
    """Draw the log-likelihoods of the released numbers, at a scale on which they can be seen."""
    looks = [line for _, line in METHODS.values()]
    for line, (name, rows) in zip(looks, released.groupby("method", sort=False), strict=True):
        axes.plot(rows.step, rows.log_likelihood_per_token, color=line.color, ls=line.dash, label=str(name))
    axes.axhline(0, color=INK, lw=0.8)
    axes.legend(loc="lower right", ncols=3, columnspacing=1, handlelength=1.5)
    low = float(released.log_likelihood_per_token.min())
    axes.set_ylim(1.3 * low, -0.02 * low)
    label(axes, "a  Released: log-likelihood", "step", "nats/token")


def draw_placeholder(axes: Axes, released: pd.DataFrame) -> None:
    """Draw the released baseline, whose weights sum to 15.2, and what it would be with weights that sum to 1."""
    for place, (_, rows) in enumerate(released.groupby("method", sort=False)):
        color = (INK, NEGATIVE, POSITIVE)[place]
        axes.plot(rows.step, rows.placeholder_baseline_per_token, color=color, lw=1.4)
        axes.plot(rows.step, rows.placeholder_baseline_per_token / 15.2, color=color, ls="--", lw=1.2)
        axes.plot(rows.step, rows.log_likelihood_per_token, color=color, ls=":", lw=1.2)
    axes.set_yscale("symlog", linthresh=1e-3)
    axes.set_ylim(-1e6, -2e-3)
    axes.set_yticks([-(10.0**p) for p in range(-2, 4)], [f"$-10^{{{p}}}$" for p in range(-2, 4)])
    axes.yaxis.set_minor_locator(NullLocator())
    texts = ("its log-likelihood", "baseline / 15.2", "baseline (weights: 15.2)")
    handles = [Line2D([], [], color=INK, ls=dash, lw=1.4) for dash in (":", "--", "-")]
    axes.legend(handles, texts, loc="lower left")
    label(axes, "a  Released: baseline", "step", "nats/token")


def draw_gap(axes: Axes, condition: pd.DataFrame) -> None:
    """Draw by how much log-likelihood lies above the measured baseline: the median token's, over seeds."""
    for name, rows in by_method(condition):
        text, line = METHODS[name]
        draw_curve(axes, smoothed(over_seeds(rows, "condition_gap_median"), SMOOTHING), line, label=text)
    axes.axhline(0, color=INK, lw=0.8)
    axes.set_ylim(top=1.25 * axes.get_ylim()[1])
    axes.legend(loc="upper left", ncols=3, columnspacing=1, handlelength=1.5)
    label(axes, "a  Ours: above baseline", "step", "nats (median token)")


def draw_shares(axes: Axes, condition: pd.DataFrame) -> None:
    """Draw the share of tokens for which the condition holds, and of those the share that obeys the sign rule."""
    for name, rows in by_method(condition):
        for column, dash in (("condition_tokens", "-"), ("sign_rule_given_condition", "--")):
            look = replace(METHODS[name][1], dash=dash)
            draw_curve(axes, smoothed(over_seeds(rows, column), SMOOTHING), look, PERCENT)
    axes.axhline(50, color=INK, lw=0.8)
    axes.set_ylim(30, 130)
    axes.set_yticks([40, 60, 80, 100])
    handles = [Line2D([], [], color=INK, ls=dash) for dash in ("-", "--")]
    axes.legend(handles, ("the condition holds", "of these: $A\\,\\Delta H \\leq 0$"), loc="upper left")
    label(axes, "a  Ours: how often", "step", "% of tokens")


def by_method(condition: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """Return each method's rows."""
    return [(name, condition[condition.arm == name]) for name in METHODS if (condition.arm == name).any()]


def draw_likelihoods(axes: Axes, summary: Summary, name: str) -> None:
    """Draw the log-likelihoods of rollouts with positive and with negative advantages of an arm."""
    rows = summary.likelihoods[summary.likelihoods.arm == name]
    for column, color, dash, text in (
        ("log_likelihood_positive", POSITIVE, "-", "A > 0"),
        ("log_likelihood_negative", NEGATIVE, "--", "A < 0"),
    ):
        table = smoothed(over_seeds(rows, column), SMOOTHING)
        axes.plot(table.step, table["mean"], color=color, ls=dash, label=text)
        axes.fill_between(table.step, table.low, table.high, color=color, alpha=0.15, lw=0)
    low, high = axes.get_ylim()
    axes.set_ylim(low, high + 0.2 * (high - low))
    axes.legend(loc="upper center", ncols=2)
    share = f"{PERCENT * summary.above[name]:.0f} % of steps"
    label(axes, f"b  {arm_of(name).text}: {share}", "step", "log-likelihood (nats/token)")


def build(data: Data) -> Built:
    """Load, summarise and draw."""
    summary = summarise(data.study.curves, data.table("condition/curves", CONDITION))
    return Built(draw(summary), notes=summary.notes)


ENTRY = Entry(
    "fig2_likelihood",
    "Figure 2: log-likelihood, baseline, positives and negatives",
    "a: the paper's Fig. 2a from its released numbers. Its baseline gives each of some 152 thousand other tokens the "
    "weight 1e-4, 15.2 in all, where the theorem's weights sum to 1: whatever the policy does, log-likelihood lies "
    "above it, so it is no evidence for the condition. Ours: the same three methods on countdown, with weights from "
    "the change of all probabilities that each update made; they sum to 1. The condition holds for most tokens, "
    "whichever way they are pushed; the sign rule holds for half to two thirds of those, since an update through "
    "shared parameters moves many tokens against their advantage. b: log-likelihood of rollouts with positive and with "
    "negative advantages, and the share of steps at which positives are likelier (the paper's Fig. 2b: throughout).",
    ("released_fig2a.csv", "condition", "controllers"),
    build,
)

if __name__ == "__main__":
    main_of(ENTRY)
