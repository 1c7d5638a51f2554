"""Figure 3: model size against held-out results, and pass@K of both sampling settings."""

from collections.abc import Mapping
from dataclasses import dataclass

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from figures.arms import arm_of, in_order, leading
from figures.audit_tables import each
from figures.curves import PERCENT, legend_below
from figures.entry import Built, Entry, main_of
from figures.estimates import Estimate, estimate
from figures.paper.published import line_of_method, pick
from figures.parts import absent, drawn_from, sizes_there
from figures.study import Data, NothingToDrawError, Study
from figures.style import SETTINGS, WIDTH, label
from figures.tables import SETTING_NAMES

DRAWS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
BONUSES = ("bonus_0.01", "bonus_0.03")  # as many as a study has
BILLIONS = {"Qwen3-4B-Base": 4, "Qwen3-8B-Base": 8, "Qwen3-14B-Base": 14}


@dataclass(frozen=True)
class Summary:
    """What the figure shows.

    Args:
        sizes: held-out pass@1 by number of parameters and arm, as `sizes_there`; may be empty.
        title: what it is of.
        published: AIME-25 mean@32 by billions of parameters and method, from the paper's Tables 2, 7 and 8.
        pass_at: by sampling setting, by arm, pass@K for each of `DRAWS`.
        notes: what is missing.
    """

    sizes: pd.DataFrame
    title: str
    published: Mapping[str, Mapping[int, float]]
    pass_at: Mapping[str, Mapping[str, list[Estimate]]]
    notes: tuple[str, ...]


def summarise(study: Study, sizes: tuple[pd.DataFrame, str, Study], numbers: pd.DataFrame) -> Summary:
    """Return what the figure shows, of the main part."""
    final = study.last[study.last.part == study.main]
    if final.empty:
        raise NothingToDrawError("held-out evaluations of a training study (evaluations.csv)")
    draws = [k for k in DRAWS if k <= final.samples.max()]
    ours = leading(set(final.arm))
    shown = ["grpo", "bonus_0.01", "bonus_0.03", "clip_cov", "algorithm1", "released", *ours]
    pass_at = {
        setting: {
            name: [estimate(rows, k) for k in draws]
            for name in shown
            if len(rows := final[(final.setting == setting) & (final.arm == name)])
        }
        for setting in SETTING_NAMES
    }
    wanted = [name for name in shown if name not in BONUSES or not set(BONUSES) & set(final.arm)]
    notes = [drawn_from(study, study.main)]
    notes += absent([*wanted, *([] if ours else ["predictive control"])], set(final.arm))
    notes += [f"Not there: evaluations at {SETTING_NAMES[name]}." for name, found in pass_at.items() if not found]
    of_sizes, at, other = sizes
    if of_sizes.empty:
        notes.append("Not there: our own larger models; a shows the paper's numbers.")
    else:
        notes.append(f"a: {drawn_from(other, ', '.join(of_sizes.part.unique()))} Sampled at {at}.")
    title = f"a  Ours, {at}" if other.name == study.name else "a  Ours, shorter runs"
    found = pick(numbers[numbers.table.isin([2, 7, 8])], benchmark="AIME-25", metric="mean@32")
    published = {
        method: {BILLIONS[row.model]: float(row.value) for row in each(pick(found, method=method))}
        for method in ("GRPO", "GRPO+Entrocraft")
    }
    return Summary(of_sizes, title, published, pass_at, tuple(notes))


def draw(summary: Summary) -> Figure:
    """Return the figure."""
    with plt.rc_context(SETTINGS):
        columns = 3 if summary.sizes.empty else 4
        figure, axes = plt.subplots(1, columns, figsize=(WIDTH, 4.2), layout="constrained")
        draw_published(axes[0], summary.published, "a  The paper" if summary.sizes.empty else "The paper's a")
        if not summary.sizes.empty:
            draw_sizes(axes[1], summary.sizes, summary.title)
        axes[-1].sharey(axes[-2])
        for letter, place, (setting, found) in zip("bc", (-2, -1), summary.pass_at.items(), strict=True):
            draw_pass_at(axes[place], found)
            label(axes[place], f"{letter}  {SETTING_NAMES[setting]}", "K (samples a prompt)", "pass@K (% of prompts)")
        axes[-1].set_ylim(0, None)
        shown = {name for found in summary.pass_at.values() for name in found} | set(summary.sizes.arm)
        legend_below(figure, in_order(shown), 6, band=False)
    return figure


def draw_published(axes: Axes, published: Mapping[str, Mapping[int, float]], title: str) -> None:
    """Draw the paper's Fig. 3a."""
    for method, values in published.items():
        line = line_of_method(method)
        axes.plot(list(values), list(values.values()), color=line.color, ls=line.dash, marker=line.marker, label=method)
    axes.set_xticks(list(BILLIONS.values()))
    axes.set_ylim(0, None)
    axes.legend(loc="lower right")
    label(axes, f"{title}: AIME-25", "parameters ($10^9$, Qwen3 base)", "mean@32 (%)")


def draw_sizes(axes: Axes, sizes: pd.DataFrame, title: str) -> None:
    """Draw our own held-out pass@1 against the number of parameters."""
    arms = in_order(set(sizes.arm))
    for place, name in enumerate(arms):
        rows, line = sizes[sizes.arm == name].sort_values("parameters"), arm_of(name).line
        x = rows.parameters * 1.01 ** (place - (len(arms) - 1) / 2)
        errors = PERCENT * np.array([rows.value - rows.low, rows.high - rows.value])
        axes.errorbar(x, PERCENT * rows.value, errors, color=line.color, ls=line.dash, marker=line.marker)
    axes.set_xscale("log")
    found = sorted(sizes.parameters.unique())
    axes.set_xticks(found, [f"{size / 1e6:.2g}" for size in found])
    axes.xaxis.set_minor_locator(NullLocator())
    label(axes, title, "parameters ($10^6$)", "pass@1 (%)")


def draw_pass_at(axes: Axes, found: Mapping[str, list[Estimate]]) -> None:
    """Draw pass@K with intervals over prompts."""
    for place, (name, estimates) in enumerate(found.items()):
        line = arm_of(name).line
        x = np.array(DRAWS[: len(estimates)]) * 1.03 ** (place - len(found) / 2)
        y, low, high = (np.array([getattr(got, side) for got in estimates]) for side in ("value", "low", "high"))
        axes.errorbar(
            x, PERCENT * y, PERCENT * np.array([y - low, high - y]), color=line.color, ls=line.dash,
            marker=line.marker, ms=4.5, lw=1.4, elinewidth=0.8,
        )  # fmt: skip
    if not found:
        axes.text(0.5, 0.5, "not there", transform=axes.transAxes, ha="center", color="#777777")
    axes.set_xscale("log", base=2)
    shown = DRAWS[: max(map(len, found.values()), default=len(DRAWS))]
    # Three digits do not fit beside each other.
    ticks = shown[:: 1 if max(shown, default=1) < 100 else 2]
    axes.set_xticks(ticks, [str(k) for k in ticks])


def build(data: Data) -> Built:
    """Load, summarise and draw."""
    summary = data.first(lambda study: summarise(study, sizes_there(data), data.paper()))
    return Built(draw(summary), notes=summary.notes)


ENTRY = Entry(
    "fig3_pass_at_k",
    "Figure 3: model size, and pass@K",
    "a: the paper's AIME-25 results by model size, a 4B model with control above an 8B one without. b, c: pass@K of "
    "our runs on held-out prompts at the end of training, at temperature 1 and in the paper's setting (temperature "
    "0.6, top-p 0.95, top-k 20), with 95 % intervals over prompts.",
    ("long", "controllers", "paper_tables.csv"),
    build,
)

if __name__ == "__main__":
    main_of(ENTRY)
