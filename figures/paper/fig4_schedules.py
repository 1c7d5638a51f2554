"""Figure 4: constant, linear and cosine schedules: reward, entropy, KL, and held-out results."""

from collections.abc import Mapping
from dataclasses import dataclass

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from figures.arms import SCHEDULES, arm_of, leading
from figures.curves import PERCENT, SMOOTHING, draw_curve
from figures.entry import Built, Entry, main_of
from figures.estimates import held_out, over_seeds, smoothed
from figures.parts import drawn_from, schedule_of, seeds_note, setting_of_curves
from figures.study import Data, NothingToDrawError, Study
from figures.style import SETTINGS, WIDTH, Line, label

PASS_AT = (1, 8, 32)


@dataclass(frozen=True)
class Summary:
    """What the figure shows.

    Args:
        curves: by what is told apart, its rows.
        lines: the look of each.
        setting: name of the sampling setting of `pass_at`.
        pass_at: held-out pass@k over training, by k, likewise.
        notes: what is missing or stands in.
    """

    curves: Mapping[str, pd.DataFrame]
    lines: Mapping[str, Line]
    setting: str
    pass_at: Mapping[int, Mapping[str, pd.DataFrame]]
    notes: tuple[str, ...]


def chosen(study: Study) -> tuple[dict[str, tuple[str, str]], list[str]]:
    """Return the part and arm of each schedule, and what to say of the choice."""
    # Schedules are arms of a part of long runs, or parts of their own. One controller for all of them: a difference
    # between two controllers would pass for one between schedules.
    long: dict[str, dict[str, tuple[str, str]]] = {}
    for arm in sorted(study.arms("long")):
        if kind := schedule_of(arm):
            long.setdefault(arm.removesuffix(f"_{kind}"), {})[kind] = ("long", arm)
    parts: dict[str, dict[str, tuple[str, str]]] = {}
    for kind in SCHEDULES:
        for arm in sorted(study.arms(kind) - {"grpo"}):
            parts.setdefault(arm, {})[kind] = (kind, arm)
    kinds = max(long, parts, key=lambda found: max(map(len, found.values()), default=0))
    most = max(map(len, kinds.values()), default=0)
    if not most:
        return {}, []
    controller = next(iter(leading([name for name, found in kinds.items() if len(found) == most])), min(kinds))
    missing = [kind for kind in SCHEDULES if kind not in kinds[controller]]
    notes = [f"Not there: {', '.join(missing)}."] if missing else []
    return kinds[controller], [f"Controller: {arm_of(controller).text}.", *notes]


def summarise(study: Study) -> Summary:
    """Return what the figure shows: a schedule each, and GRPO."""
    found, notes = chosen(study)
    if len(found) < 2:
        raise NothingToDrawError("runs of one controller on two schedules or more (curves.csv)")
    part = next(iter(found.values()))[0]
    grpo = "long" if part == "long" and "grpo" in study.arms("long") else study.main
    arms = {"GRPO": (grpo, "grpo")} | {kind: found[kind] for kind in SCHEDULES if kind in found}

    def rows(table: pd.DataFrame) -> dict[str, pd.DataFrame]:
        every = {name: table[(table.part == at) & (table.arm == arm)] for name, (at, arm) in arms.items()}
        return {name: same for name, same in every.items() if len(same)}

    held, setting = setting_of_curves(study.evaluations)
    curves, evaluations = rows(study.curves), rows(held)
    notes = [drawn_from(study, ", ".join(dict.fromkeys(at for at, _ in found.values()))), *notes]
    notes.append(seeds_note({name: same.seed.nunique() for name, same in curves.items()}))
    if not any(same.kl.notna().any() for same in curves.values()):
        notes = [*notes, "Not there: KL, which these runs did not log."]
    lines = {kind: Line(*look) for kind, look in SCHEDULES.items()} | {"GRPO": arm_of("grpo").line}
    least = min((int(same.samples.min()) for same in evaluations.values()), default=max(PASS_AT))
    draws = [min(k, least) for k in PASS_AT]
    pass_at = {k: {name: held_out(same, k) for name, same in evaluations.items()} for k in draws}
    return Summary(curves, lines, setting, pass_at, tuple(notes))


def draw(summary: Summary) -> Figure:
    """Return the figure."""
    with plt.rc_context(SETTINGS):
        figure, axes = plt.subplots(2, 3, figsize=(WIDTH, 6.8), layout="constrained")
        draw_column(axes[0, 0], summary, "reward_mean", PERCENT)
        label(axes[0, 0], "a  Training reward", "step", "right (% of rollouts)")
        draw_column(axes[0, 1], summary, "entropy", 1)
        for name, rows in summary.curves.items():
            if name != "GRPO":
                band = rows.drop_duplicates("step").sort_values("step")
                axes[0, 1].fill_between(
                    band.step, band.entropy_low, band.entropy_high, color=summary.lines[name].color, alpha=0.12, lw=0
                )
        label(axes[0, 1], "b  Entropy on its band", "step", "entropy (nats/token)")
        draw_column(axes[0, 2], summary, "kl", 1)
        label(axes[0, 2], "c  KL to the base model", "step", "KL (nats/token)")
        for place, (k, curves) in enumerate(summary.pass_at.items()):
            for name, table in curves.items():
                line = summary.lines[name]
                axes[1, place].plot(
                    table.step, PERCENT * table["mean"], color=line.color, ls=line.dash, marker=line.marker, ms=4.5
                )
                axes[1, place].fill_between(
                    table.step, PERCENT * table.low, PERCENT * table.high, color=line.color, alpha=0.1, lw=0
                )
            label(axes[1, place], f"{'def'[place]}  Held out, {summary.setting}", "step", f"pass@{k} (%)")
        lines = [summary.lines[name] for name in summary.curves]
        handles = [Line2D([], [], color=line.color, ls=line.dash, marker=line.marker, ms=4.5) for line in lines]
        figure.legend(handles, list(summary.curves), loc="outside lower center", ncols=4, handlelength=2.6)
    return figure


def draw_column(axes: Axes, summary: Summary, column: str, scale: float) -> None:
    """Draw a column over seeds for each schedule, or say that it was not logged."""
    for name, rows in summary.curves.items():
        table = smoothed(over_seeds(rows, column), SMOOTHING)
        if len(table):
            draw_curve(axes, table, summary.lines[name], scale)
    if not axes.lines:
        axes.set(xticks=[], yticks=[])
        axes.text(0.5, 0.5, "not logged in these runs", transform=axes.transAxes, ha="center", color="#777777")


def build(data: Data) -> Built:
    """Load, summarise and draw."""
    summary = data.first(summarise)
    return Built(draw(summary), notes=summary.notes)


ENTRY = Entry(
    "fig4_schedules",
    "Figure 4: schedules of the band",
    "Control along a constant, a linear and a cosine schedule beside GRPO without control. The paper finds the "
    "constant one unstable late in training, and the linear one best.",
    ("long", "controllers"),
    build,
)

if __name__ == "__main__":
    main_of(ENTRY)
