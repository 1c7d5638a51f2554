"""The audit's picture: where the paper's claims about one step hold."""

from typing import Literal

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, LogNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullLocator

from figures.audit_tables import thousands
from figures.load import LoadedAudit, largest_vocabulary, near_entropy, released_fig2a
from figures.style import BAND, INK, LINES, SETTINGS, WIDTH, Line, label, line_of

LLM_ENTROPY = (0.1, 0.6)  # nats: where the entropy bands of the paper's runs lie
LLM_LIKE = 0.3
OF_MASS = r"$A\,\Delta H \leq 0$ (% of mass)"
PERCENT = 100
SMALL = 9.5
CORRECT, WRONG, PRINTED = LINES[2].color, LINES[0].color, LINES[1].color
ENTROPIES = mpl.colormaps["viridis_r"]
ENTROPY_RANGE = LogNorm(0.03, 12)
FAILS_TO_HOLDS = LinearSegmentedColormap.from_list("fails to holds", [WRONG, "#F7F7F7", PRINTED])


def draw_audit(audit: LoadedAudit) -> Figure:
    """Return the figure: the sign rule in four panels, drift, the tie in two, the baseline and Theorem 2."""
    families = list(audit.sign_rule.family.unique())
    looks = {family: line_of(index) for index, family in enumerate(families)}
    policy = "gaussian" if "gaussian" in looks else families[0]
    with plt.rc_context(SETTINGS):
        figure, axes = plt.subplots(3, 3, figsize=(WIDTH, 10), layout="constrained")
        draw_sign_rule(axes[0, 0], audit.sign_rule, looks)
        draw_claimed(axes[0, 1], audit.sign_rule, looks)
        draw_confidence(axes[0, 2], audit.confidence, policy)
        draw_weighted(axes[1, 0], audit.sign_rule, policy)
        draw_drift(axes[1, 1], audit.sign_rule, looks)
        draw_ratio(axes[1, 2], audit.one_sided)
        draw_tie(axes[2, 0], audit.tie, audit.one_sided)
        draw_baseline(axes[2, 1], audit.baseline, looks)
        draw_responses(axes[2, 2], audit.responses, looks)
        handles = [Line2D([], [], color=look.color, ls=look.dash, marker=look.marker, ms=5) for look in looks.values()]
        largest = thousands(audit.sign_rule.vocabulary.max())
        title = f"families of random policies; in a, d, e thick: {largest} tokens, thin: smaller vocabularies"
        figure.legend(handles, families, loc="outside lower center", ncols=len(families), title=title)
    return figure


def words(axes: Axes, text: str, x: float, y: float, color: str = INK, ha: Literal["left", "right"] = "left") -> None:
    """Write a few words into a panel, placed in fractions of it."""
    axes.text(x, y, text, color=color, ha=ha, fontsize=SMALL, transform=axes.transAxes, linespacing=1.4)


def entropy_axis(axes: Axes, rows: pd.DataFrame) -> None:
    """Make x a logarithmic axis of entropies, with the range of language models shaded."""
    low, high = max(rows.entropy.min(), 1e-3) / 1.25, rows.entropy.max() * 1.25
    axes.set_xscale("log")
    axes.set_xlim(low, high)
    axes.set_xticks([tick for tick in (0.001, 0.01, 0.03, 0.1, 0.3, 1, 3, 10) if low <= tick <= high])
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter("")
    axes.axvspan(*LLM_ENTROPY, color=BAND, alpha=0.35, lw=0, zorder=0)


def draw_families(axes: Axes, rows: pd.DataFrame, looks: dict[str, Line], column: str, scale: float) -> None:
    """Draw a column and its standard error against entropy by family; the largest vocabulary thick, others thin."""
    largest = rows.vocabulary.max()
    entropy_axis(axes, rows)
    for (family, vocabulary), same in rows.groupby(["family", "vocabulary"], sort=False):
        look, cells = looks[str(family)], same.sort_values("entropy")
        x, y = cells.entropy, scale * cells[column]
        if vocabulary < largest:
            axes.plot(x, y, color=look.color, lw=0.6, alpha=0.4)
        else:
            error = scale * cells[f"{column}_se"]
            axes.errorbar(x, y, error, color=look.color, ls=look.dash, marker=look.marker, ms=4.5, capsize=2)


def draw_sign_rule(axes: Axes, rows: pd.DataFrame, looks: dict[str, Line]) -> None:
    """Draw how often the rule holds against entropy."""
    draw_families(axes, rows, looks, "holds", PERCENT)
    axes.axhline(50, color=INK, lw=1, ls=":")
    axes.set_ylim(0, 104)
    words(axes, "one half", 0.02, 0.5)
    axes.text(LLM_ENTROPY[0] * 1.1, 4, "LLM tokens\n0.1 to 0.6 nats", color=INK, fontsize=SMALL, linespacing=1.4)
    label(axes, "a  The sign rule needs low entropy", "entropy $H$ (nats)", OF_MASS)


def draw_claimed(axes: Axes, rows: pd.DataFrame, looks: dict[str, Line]) -> None:
    """Draw the measured frequency against the paper's probability, a point a cell, coloured by entropy."""
    axes.plot([0, 100], [0, 100], color=INK, lw=1)
    for family, cells in rows.groupby("family", sort=False):
        x, y, marker = PERCENT * cells.claimed, PERCENT * cells.holds, looks[str(family)].marker
        colors = ENTROPIES(ENTROPY_RANGE(cells.entropy.to_numpy()))
        axes.scatter(x, y, c=colors, marker=marker, s=24, lw=0.4, edgecolor="white", zorder=3)
    scale = mpl.cm.ScalarMappable(ENTROPY_RANGE, ENTROPIES)
    bar = plt.colorbar(scale, cax=axes.inset_axes((0.07, 0.91, 0.42, 0.05)), orientation="horizontal")
    bar.set_ticks([0.1, 1, 10], labels=["0.1", "1", "10"], fontsize=SMALL)
    bar.set_label("entropy $H$ (nats)", fontsize=SMALL, labelpad=0)
    axes.set_xlim(0, 104)
    axes.set_ylim(0, 104)
    words(axes, "below the line:\ntoo much claimed", 0.98, 0.04, ha="right")
    label(axes, "b  Claimed probability: off both ways", r"claimed: $1 - \Pi_i\,p_i^{w_i}$ (%)", OF_MASS)


def draw_confidence(axes: Axes, rows: pd.DataFrame, family: str) -> None:
    """Draw how often the rule holds in each range of the token's probability, at each entropy, as a map."""
    cells = largest_vocabulary(rows[rows.family == family])
    grid = cells.pivot_table(index="entropy", columns="to", values="holds", dropna=False)
    edges = [cells.above.min(), *grid.columns]
    axes.set_facecolor(BAND)
    axes.grid(False)
    mesh = axes.pcolormesh(PERCENT * grid.to_numpy(), cmap=FAILS_TO_HOLDS, vmin=0, vmax=100, edgecolor="white", lw=0.5)
    names = [
        f"$10^{{{round(np.log10(edge))}}}$" if 0 < edge < 0.01 else f"{edge:g}".lstrip("0") or "0" for edge in edges
    ]
    axes.set_xticks(range(len(edges)), names, fontsize=SMALL - 0.5)
    axes.set_yticks(np.arange(len(grid)) + 0.5, [f"{entropy:.2g}" for entropy in grid.index])
    bar = plt.colorbar(mesh, ax=axes, fraction=0.05, pad=0.02, shrink=0.85)
    bar.set_ticks([0, 50, 100], labels=["0", "50", "100"])
    bar.set_label(OF_MASS, labelpad=-4)
    label(axes, "c  It holds for likely tokens", f"$p_k$ ({family}; grey: no token)", "entropy $H$ (nats)")


def draw_weighted(axes: Axes, rows: pd.DataFrame, family: str) -> None:
    """Draw how often the rule holds when tokens count by how much they move entropy."""
    cells = largest_vocabulary(rows[rows.family == family]).sort_values("entropy")
    entropy_axis(axes, cells)
    for index, column in enumerate(("holds", "weighted_sharp", "weighted", "weighted_confident")):
        look = line_of(index)
        axes.plot(cells.entropy, PERCENT * cells[column], color=look.color, ls=look.dash, marker=look.marker, ms=4.5)
    axes.set_ylim(0, 104)
    words(axes, "each token alike", 0.98, 0.02, LINES[0].color, "right")
    words(axes, "sampled at\ntemperature 0.6", 0.02, 0.65, LINES[1].color)
    words(axes, "on-policy: one half", 0.02, 0.51, LINES[2].color)
    words(axes, "$A$ rewards the\nlikeliest token", 0.02, 0.26, LINES[3].color)
    label(axes, rf"d  Weighted by $|\Delta H|$ ({family})", "entropy $H$ (nats)", r"$A\,\Delta H \leq 0$ (% of weight)")


def draw_drift(axes: Axes, rows: pd.DataFrame, looks: dict[str, Line]) -> None:
    """Draw the coefficient of sampling noise's second-order change against entropy."""
    draw_families(axes, rows, looks, "drift", 1)
    axes.axhline(0, color=INK, lw=1)
    words(axes, "noise raises entropy", 0.02, 0.94)
    words(axes, "noise lowers entropy", 0.02, 0.03)
    label(axes, r"e  Sampling noise drifts, $\eta^2 D / 2G$", "entropy $H$ (nats)", "$D$ (nats)")


def draw_ratio(axes: Axes, rows: pd.DataFrame) -> None:
    """Draw the ratio of positives-only to negatives-only expected changes against the probability of a right answer."""
    sizes = sorted(rows.group_size.unique())
    lines = [("all rollouts", sizes[-1], "all rollouts")]
    lines += [("kept rollouts", size, f"kept of {size}") for size in sizes]
    lines += [("GRPO, all rollouts", sizes[-1], "all, GRPO's $A$")]
    for index, (denominator, size, name) in enumerate(lines):
        cells = rows[(rows.denominator == denominator) & (rows.group_size == size)].sort_values("accuracy")
        look = line_of(index)
        axes.plot(cells.accuracy, cells.ratio, color=look.color, ls=look.dash, marker=look.marker, ms=4.5, label=name)
    axes.set_xscale("logit")
    axes.set_yscale("log")
    axes.set_ylim(rows.ratio.min() / 3, 1e3 * rows.ratio.max())  # room for the legend
    ticks = (0.001, 0.01, 0.1, 0.5, 0.9, 0.99, 0.999)
    axes.set_xticks(ticks, [f"{tick:g}".lstrip("0") for tick in ticks])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.legend(fontsize=SMALL, loc="upper right", title="averaged over", title_fontsize=SMALL)
    label(axes, "f  Positives-only / negatives-only", "probability of a right answer", r"ratio of expected $\Delta H$")


def draw_tie(axes: Axes, rows: pd.DataFrame, expected: pd.DataFrame) -> None:
    """Draw the measured difference of both steps beside X4's second order, for the first policy."""
    policy = rows.policy.iloc[0]
    cells = rows[rows.policy == policy]
    rates = np.array(sorted(cells.learning_rate.unique()))
    for index, (size, same) in enumerate(cells.groupby("group_size")):
        look = line_of(index)
        x, y = same.learning_rate, same.difference.abs()
        axes.plot(x, same.second_order.abs(), color=look.color, ls=look.dash, lw=1.2)
        axes.errorbar(
            x, y, same.difference_se, color=look.color, ls="none", marker=look.marker, ms=5, capsize=2,
            label=f"$G$ = {size}",
        )  # fmt: skip
    both = expected[(expected.policy == policy) & (expected.denominator == "all rollouts")]
    axes.plot(rates, both.positives.abs().iloc[0] * rates, color=INK, lw=1, ls=":")
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xticks(rates, [f"{rate:g}" for rate in rates])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.legend(loc="upper left", handletextpad=0.2)
    words(axes, "points: measured\nlines: second order\ndotted: first order of both", 0.99, 0.03, ha="right")
    title = f"g  Noise breaks that tie ($H$ = {cells.entropy.iloc[0]:.2g})"
    label(axes, title, r"learning rate $\eta$", r"|difference of $\Delta H$| (nats)")


def draw_baseline(axes: Axes, rows: pd.DataFrame, looks: dict[str, Line]) -> None:
    """Draw log p, the correct and the placeholder baseline against vocabulary, and the paper's released values."""
    cells = near_entropy(rows, LLM_LIKE)
    for family, same in cells.groupby("family", sort=False):
        for column, color in {"log_prob": INK, "median_baseline": CORRECT, "placeholder": WRONG}.items():
            look = looks[str(family)]
            axes.plot(same.vocabulary, same[column], color=color, ls=look.dash, marker=look.marker, ms=4.5, lw=1.2)
    released = released_fig2a()
    place = 1.8 * rows.vocabulary.max()
    for column in ("log_likelihood_per_token", "placeholder_baseline_per_token"):
        axes.plot([place] * 2, [released[column].min(), released[column].max()], color=PRINTED, lw=5)
    axes.set_xscale("log")
    axes.set_yscale("symlog", linthresh=0.01)
    ticks = [-(10.0**power) for power in range(-2, 9, 2)]
    axes.set_yticks(ticks, [f"$-10^{{{round(np.log10(-tick))}}}$" for tick in ticks])
    axes.set_ylim(min(10 * cells.placeholder.min(), -1e4), -0.003)
    handles = [Line2D([], [], color=color, lw=3) for color in (INK, CORRECT, WRONG, PRINTED)]
    names = [r"$\log p_k$", "correct (median)", "placeholder", "released values"]
    axes.legend(handles, names, loc="lower left", fontsize=SMALL, handlelength=1)
    label(axes, f"h  Baseline of Fig. 2a, $H$ near {LLM_LIKE:g}", "vocabulary $V$ (tokens)", "nats/token")


def draw_responses(axes: Axes, rows: pd.DataFrame, looks: dict[str, Line]) -> None:
    """Draw how often Theorem 2's condition holds, and how often it and the conclusion agree, by response length."""
    cells = near_entropy(largest_vocabulary(rows), LLM_LIKE)
    for family, same in cells.groupby("family", sort=False):
        look = looks[str(family)]
        for column, color in {"condition": WRONG, "agree": PRINTED}.items():
            share = PERCENT * same[column]
            axes.plot(same.tokens, share, color=color, ls=look.dash, marker=look.marker, ms=4.5, lw=1.2)
    axes.axhline(50, color=INK, lw=1, ls=":")
    axes.set_xscale("log", base=2)
    lengths = sorted(cells.tokens.unique())
    axes.set_xticks(lengths, [str(length) for length in lengths])
    axes.set_ylim(0, 104)
    handles = [Line2D([], [], color=color, lw=3) for color in (WRONG, PRINTED)]
    axes.legend(
        handles, ["condition holds", "it agrees with the sign"], loc="lower left", fontsize=SMALL, handlelength=1
    )
    label(axes, f"i  Theorem 2, $H$ near {LLM_LIKE:g}", "response length (tokens)", "responses (%)")
