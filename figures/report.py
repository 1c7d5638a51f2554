"""A run, or several side by side, as one page: section by section, in the order of a reader's questions."""

from collections.abc import Sequence

import pandas as pd
import yaml

from figures.report_checks import CHECKS, findings
from figures.report_draw import (
    LEARNING,
    SERIES,
    UPDATES,
    Curve,
    Panel,
    constants,
    curve_panels,
    entropy_panel,
    prediction_panel,
    scatter_panel,
    time_panel,
)
from figures.report_draw_evaluation import evaluation_panels
from figures.report_draw_ledger import COLORS, ledger_panels
from figures.report_html import Html, boxes, details, grid, items, legend, page, section, table, tag, together
from figures.report_ledger import CAUSES, SHIFT, TOTALS, ledger, present, windows
from figures.report_load import ReportedRun
from figures.report_numbers import (
    PARTS,
    PREDICTIONS,
    column_table,
    differing_settings,
    evaluated,
    evaluation_table,
    headline,
    number,
    predicted,
    r_squared,
    status,
)
from figures.report_samples import sample_parts
from figures.style import LINES, line_of

TOLD_APART = (
    "measured: the change of entropy on fixed contexts, those of some of the step's rollouts (the probe);",
    "first order: the gradient of entropy times the parameter step taken, whatever made the step; shown as the "
    "per-token formula for contexts that own their logits (tabular, its scale learnt on earlier steps), and the rest;",
    "second order: curvature along that step, where theory.second_order is on;",
    "context shift: what the training curve changes beyond the probe.",
)
NOT_TOLD_APART = (
    "covariance and sampling noise: the advantages of responses that were not sampled are unknown;",
    "shared parameters, optimiser, loss terms, clipping and reuse, and what the learnt scale is off by;",
    "without theory.second_order, curvature and what is truly unexplained;",
    "new prompts, new tokens, and the difference between the probe and the whole batch, all in context shift.",
)


def report_page(runs: Sequence[ReportedRun]) -> str:
    """Return the page; the same bytes for the same runs."""
    names = ", ".join(run.name for run in runs)
    return page(
        f"{names} - entrocraft",
        tag("h1", names if len(runs) <= 3 else f"{len(runs)} runs"),
        items([f"{run.name}: {status(run)}" for run in runs]),
        looks(runs),
        warnings(runs),
        section("Numbers", table(headline(runs))),
        section("Entropy and learning", looks(runs), curves(runs, LEARNING, [entropy_panel(runs)])),
        prediction_section(runs),
        ledger_section(runs),
        section("Updates", looks(runs), curves(runs, UPDATES)),
        time_section(runs),
        evaluation_section(runs),
        sample_section(runs),
        appendix(runs),
    )


def of_several(runs: Sequence[ReportedRun], run: ReportedRun) -> str:
    """Return what a panel's title adds where there is one for every run."""
    return f", {run.name}" if len(runs) > 1 else ""


def looks(runs: Sequence[ReportedRun]) -> Html:
    """Return the legend of the runs, nothing for one alone."""
    return legend({run.name: line_of(index) for index, run in enumerate(runs)}) if len(runs) > 1 else Html()


def curves(runs: Sequence[ReportedRun], wanted: Sequence[Curve], before: Sequence[Panel] = ()) -> Html:
    """Return the panels of these curves after those given, and in words what never changed."""
    fixed = constants(runs, wanted)
    return together(
        grid([*before, *curve_panels(runs, wanted)]),
        tag("p", f"The same in every step: {'; '.join(fixed)}.") if fixed else Html(),
    )


def warnings(runs: Sequence[ReportedRun]) -> Html:
    """Return what is worth a look, and what was looked for."""
    found = [(run, findings(run)) for run in runs]
    count = sum(len(texts) for _, texts in found)
    parts = [together(tag("b", run.name), items(texts)) for run, texts in found if texts]
    shown = tag("div", parts, class_="found") if count else tag("div", "Nothing out of the ordinary.", class_="none")
    return section("Worth a look", shown, details(f"What was looked for ({len(CHECKS)} checks)", items(list(CHECKS))))


def prediction_section(runs: Sequence[ReportedRun]) -> Html:
    """Return predicted against measured entropy change."""
    probed = [run for run in runs if run.has("dH_measured")]
    if not probed:
        return section("Predicted entropy change", tag("p", "Not recorded: theory.enabled was false."))
    scatter = []
    for name, terms in PREDICTIONS.items():
        agreement = [f"{run.name} {number(r_squared(predicted(run, terms)))}" for run in probed]
        text = f"The line is the identity; R²: {', '.join(agreement)}."
        scatter.append(scatter_panel(probed, name, text))
    return section(
        "Predicted entropy change",
        tag("p", "Of the mean entropy on fixed contexts, by one update. Nothing is fitted but the tabular scale."),
        legend(SERIES),
        grid(prediction_panel(run, of_several(runs, run)) for run in probed),
        looks(probed),
        grid(panel for panel in scatter if panel is not None),
    )


def ledger_section(runs: Sequence[ReportedRun]) -> Html:
    """Return what the change of the training curve is made of."""
    ledgers = [(run, ledger(run)) for run in runs]
    told = [(run, rows) for run, rows in ledgers if len(rows) and (rows.measured != 0).any()]
    if not told:
        return section("Entropy ledger", tag("p", "No step has a measured change and a step after it."))
    entries = {**CAUSES, "measured": TOTALS["measured"], **SHIFT}
    every = pd.concat([rows for _, rows in told])
    kept = present(every, entries)
    sums = pd.DataFrame({run.name: ledger_table(rows).iloc[-1] for run, rows in told})
    return section(
        "Entropy ledger",
        tag("p", "What the change of the training curve is made of. The parts add up exactly."),
        boxes({text: COLORS[name] for name, text in kept.items()}),
        [grid(ledger_panels(rows, of_several(runs, run))) for run, rows in told],
        tag("p", "Sums over all steps but the last, which no batch follows (nats/token):"),
        table(sums.reindex([*kept.values(), TOTALS["curve"]]).fillna("-")),
        [details(f"by window{of_several(runs, run)}", table(ledger_table(rows))) for run, rows in told],
        details(
            "What the trainer can and cannot tell apart",
            tag("p", "It tells apart:"),
            items(TOLD_APART),
            tag("p", "It has as one term:"),
            items(NOT_TOLD_APART),
            tag("p", tag("code", "entrocraft simulate attribution"), " separates them all, on enumerable policies."),
        ),
    )


def ledger_table(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the ledger's sums by window and over all steps as text, nats per token."""
    sums = windows(rows)
    names = {**present(rows, CAUSES), "measured": TOTALS["measured"], **present(rows, SHIFT), "curve": TOTALS["curve"]}
    whole = pd.concat([sums, rows.drop(columns="step").sum().to_frame().T], ignore_index=True)
    index = [f"steps {first} to {last}" for first, last in zip(sums.step, sums["last"], strict=True)] + ["all steps"]
    return pd.DataFrame({text: [f"{value:+.4f}" for value in whole[name]] for name, text in names.items()}, index=index)


def time_section(runs: Sequence[ReportedRun]) -> Html:
    """Return where the time went."""
    timed = [run for run in runs if any(run.has(column) for column in PARTS.values())]
    if not timed:
        return Html()
    colors = {name: LINES[place].color for place, name in enumerate(PARTS)}
    return section("Time", boxes(colors), grid(time_panel(run, of_several(runs, run)) for run in timed))


def evaluation_section(runs: Sequence[ReportedRun]) -> Html:
    """Return the held-out evaluations, set by set and setting by setting."""
    parts: list[Html] = []
    for place in evaluated(runs):
        named = ", ".join(part for part in place if part)
        panels = evaluation_panels(runs, place, named)
        parts += [tag("h3", named), table(evaluation_table(runs, place)), grid(panels)]
    if not parts:
        parts = [tag("p", "None yet.")]
    return section("Held-out evaluation", tag("p", "Estimates with 95 % intervals over prompts."), looks(runs), parts)


def sample_section(runs: Sequence[ReportedRun]) -> Html:
    """Return completions to read."""
    parts = [
        together(tag("h3", run.name) if len(runs) > 1 else Html(), sample_parts(run)) for run in runs if run.samples
    ]
    return section("Completions", parts or [tag("p", "None written down; see checkpoint.rollouts_every.")])


def appendix(runs: Sequence[ReportedRun]) -> Html:
    """Return settings, environment, and everything else that was recorded."""
    differing = differing_settings(runs)
    parts = [together(tag("p", "Settings that differ:"), table(differing, wide=True))] if len(differing) else []
    parts.append(details("Every column, with its unit and meaning", table(column_table(runs), wide=True)))
    reported = [ReportedRun(run.name, run.info.assign(step=run.metrics.step)) for run in runs]
    names = dict.fromkeys(str(name) for run in runs for name in run.info)
    if names:
        own = curves(reported, [Curve(name, name, "") for name in names])
        parts.append(details("What filter and controller reported", looks(runs), own))
    for run in runs:
        for name, values in (
            ("settings", run.config),
            ("environment", run.environment),
            ("summary.json", run.summary or {}),
        ):
            text = yaml.safe_dump(dict(values), sort_keys=False, allow_unicode=True)
            parts += [details(f"{run.name}: {name}", tag("pre", text))] if values else []
    return section("Settings and everything else", parts)
