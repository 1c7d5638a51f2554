"""What the long study decides: every question's difference with both intervals, and pass@k of the first ones."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from figures.arms import arm_of
from figures.curves import PERCENT
from figures.entry import Built, Entry, main_of
from figures.parts import drawn_from
from figures.study import Data, NothingToDrawError, Study
from figures.style import INK, SETTINGS, WIDTH, label
from figures.tables import SETTING_NAMES

DECIDING = "best"
AT_THE_END = "end"
# Marker of a verdict, and what it is filled with where not with its colour.
MARKS = {"above": ("^", ""), "below": ("v", ""), "open": ("o", "white"), "incomplete": ("x", "")}


@dataclass(frozen=True)
class Summary:
    """What the figure shows.

    Args:
        answers: a row a question, in the setting that verdicts are of; index: its words.
        setting: name of that setting.
        pass_at: of the decided questions of most seeds within the main part, by arm: differences to the same other arm
            at the last step, columns k, value, low, high.
        against: that arm's name.
        notes: what it is of.
    """

    answers: pd.DataFrame
    setting: str
    pass_at: Mapping[str, pd.DataFrame]
    against: str
    notes: tuple[str, ...]


def words_of(row: Mapping[Any, Any], main: str) -> str:
    """Return a question in words; parts are named where they are not the main one.

    >>> words_of({"part": "high", "arm": "soft", "against_part": "linear", "against": "grpo"}, "linear")
    'soft weights (high) less GRPO'
    >>> words_of({"part": "high", "arm": "soft", "against_part": "high", "against": "grpo"}, "linear")
    'soft weights less GRPO (both high)'
    """
    if main != row["part"] == row["against_part"]:
        return f"{arm_of(row['arm']).text} less {arm_of(row['against']).text} (both {row['part'].replace('_', ' ')})"
    sides = ((row["arm"], row["part"]), (row["against"], row["against_part"]))
    texts = [arm_of(arm).text + (f" ({part.replace('_', ' ')})" if part != main else "") for arm, part in sides]
    return " less ".join(texts)


def answers_of(study: Study) -> pd.DataFrame:
    """Return the rows that verdicts are of, a question each, in the order of most seeds; index: the question in words.

    Raises:
        NothingToDrawError: the study answers none.
    """
    rows = study.decision[(study.decision.comparison == DECIDING) & (study.decision.quantity == "pass@1")]
    rows = rows[rows.verdict.notna()]
    if rows.empty:
        raise NothingToDrawError("a study that answers questions (decision.csv)")
    rows = rows.sort_values("seeds", ascending=False, kind="stable")
    rows.index = pd.Index([words_of(row, study.main) for row in rows.to_dict("records")])
    return rows


def summarise(study: Study) -> Summary:
    """Return what the figure shows."""
    answers = answers_of(study)
    setting = str(answers.setting.iloc[0])
    every = study.decision[(study.decision.setting == setting) & (study.decision.comparison == AT_THE_END)]
    whole = answers[answers.verdict != "incomplete"]
    inside = whole[(whole.part == study.main) & (whole.against_part == study.main)]
    against = str(inside.against.mode().iloc[0]) if len(inside) else ""
    first = inside[(inside.against == against) & (inside.seeds == inside.seeds.max())]
    pass_at = {}
    for name, question in zip(first.arm, first.question, strict=True):
        rows = every[(every.question == question) & every.quantity.str.startswith("pass@")]
        rows = rows.assign(k=rows.quantity.str.removeprefix("pass@").astype(int)).sort_values("k")
        pass_at[str(name)] = widest(rows)
    missing = [text for text, verdict in answers.verdict.items() if verdict == "incomplete"]
    notes = [drawn_from(study, study.main)]
    if pass_at:
        names = ", ".join(arm_of(name).text for name in pass_at)
        notes.append(f"b: the arms of the most seeds with all of their runs ({names}).")
    if missing:
        notes.append(f"Runs or evaluations are still missing, nothing decided: {'; '.join(map(str, missing))}.")
    return Summary(answers, SETTING_NAMES.get(setting, setting), pass_at, against, tuple(notes))


def widest(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the rows with the ends of both intervals together."""
    return rows.assign(low=rows[["low", "seeds_low"]].min(axis=1), high=rows[["high", "seeds_high"]].max(axis=1))


def draw(summary: Summary) -> Figure:
    """Return the figure."""
    with plt.rc_context(SETTINGS):
        height = max(4.2, 1.8 + 0.3 * len(summary.answers))
        figure, axes = plt.subplots(1, 2, figsize=(WIDTH, height), layout="constrained", width_ratios=(1.25, 1))
        draw_answers(axes[0], summary.answers)
        label(axes[0], f"a  pass@1, {summary.setting}", "last three less the other's best three (points)", "")
        draw_pass_at(axes[1], summary.pass_at)
        title = f"b  pass@K, last step{f', less {arm_of(summary.against).text}' if summary.against else ''}"
        label(axes[1], title, "K (samples a prompt)", "difference (points)")
        given = [name for name in MARKS if (summary.answers.verdict == name).any()]
        handles: list[Any] = [
            Line2D([], [], color=INK, lw=5, alpha=0.5),
            Line2D([], [], color=INK, lw=1),
            *(Line2D([], [], color=INK, ls="none", marker=MARKS[name][0], mfc=MARKS[name][1] or INK) for name in given),
        ]
        names = ["95 %, seeds and prompts resampled", "95 %, t over seeds", *given]
        drawn, texts = axes[1].get_legend_handles_labels()
        figure.legend(handles + drawn, names + texts, loc="outside lower center", ncols=6, columnspacing=1.2)
    return figure


def draw_answers(axes: Axes, answers: pd.DataFrame) -> None:
    """Draw a row a question: the difference, both intervals, and the number of seeds at the right."""
    for place, row in enumerate(answers.to_dict("records")):
        line = arm_of(row["arm"]).line
        axes.hlines(place, PERCENT * row["low"], PERCENT * row["high"], color=line.color, lw=5, alpha=0.5)
        axes.hlines(place, PERCENT * row["seeds_low"], PERCENT * row["seeds_high"], color=INK, lw=1)
        mark, face = MARKS[row["verdict"]]
        axes.plot(PERCENT * row["value"], place, mark, color=line.color, mfc=face or line.color, ms=6, zorder=3)
        seeds = f"{row['seeds']:.0f} seed{'s' if row['seeds'] > 1 else ''}"
        axes.text(1.01, place, seeds, transform=axes.get_yaxis_transform(), va="center", fontsize=8, color=INK)
    axes.axvline(0, color=INK, lw=0.8)
    for margin in answers.margin.dropna().unique():
        axes.axvline(PERCENT * margin, color=INK, lw=1, ls=":")
    axes.set_yticks(range(len(answers)), list(answers.index), fontsize=9)
    axes.set_ylim(len(answers) - 0.4, -0.6)
    axes.grid(visible=False, axis="y")
    # The t interval of two seeds is 13 standard errors wide: it may leave the panel.
    ends = np.append(PERCENT * answers[["low", "high", "value"]].to_numpy(float), 0)
    pad = 0.1 * (np.nanmax(ends) - np.nanmin(ends)) + 0.5
    axes.set_xlim(np.nanmin(ends) - pad, np.nanmax(ends) + pad)


def draw_pass_at(axes: Axes, found: Mapping[str, pd.DataFrame]) -> None:
    """Draw differences of pass@k with the ends of both intervals together."""
    shown: Sequence[int] = sorted({int(k) for rows in found.values() for k in rows.k})
    for place, (name, rows) in enumerate(found.items()):
        line = arm_of(name).line
        x = rows.k * 1.06 ** (place - (len(found) - 1) / 2)
        errors = PERCENT * np.array([rows.value - rows.low, rows.high - rows.value])
        axes.errorbar(
            x, PERCENT * rows.value, errors, color=line.color, ls=line.dash, marker=line.marker, ms=5, lw=1.4,
            elinewidth=0.9, label=arm_of(name).text,
        )  # fmt: skip
    axes.axhline(0, color=INK, lw=0.8)
    axes.set_xscale("log", base=2)
    axes.set_xticks(shown, [str(k) for k in shown])


def build(data: Data) -> Built:
    """Load, summarise and draw."""
    summary = summarise(data.long)
    return Built(draw(summary), notes=summary.notes)


ENTRY = Entry(
    "decision",
    "What the long study decides",
    "a: held-out pass@1, mean of the last three evaluations, less the other arm's best three in a row, chosen on one "
    "half of the prompts and measured on the other; by the protocol's rule an arm is better where both intervals lie "
    "wholly above its margin (dotted), and not better where both lie wholly below. b: pass@K of the last checkpoints, "
    "of the most samples drawn of each; bars go from the lower of both intervals' lower ends to the higher of their "
    "upper ones.",
    ("long",),
    build,
)

if __name__ == "__main__":
    main_of(ENTRY)
