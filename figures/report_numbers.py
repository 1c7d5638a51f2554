"""A run, or several, in tables of text: headline numbers, evaluations, settings, columns."""

from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from figures.report_load import ReportedRun

AT_THE_END = 10  # steps, as in `summary.json`
PARTS = {"rollout": "time_rollout_s", "update": "time_update_s", "theory": "time_theory_s"}
PREDICTIONS = {
    "first order": ("dH_first_order",),
    "first + second order": ("dH_first_order", "dH_second_order"),
    "tabular": ("dH_tabular",),
}


def predicted(run: ReportedRun, terms: Sequence[str]) -> pd.DataFrame:
    """Return `step`, `predicted` (the sum of these columns) and `measured`, of the steps that have them all."""
    parts = pd.concat([run.of(term) for term in terms], axis=1)
    rows = pd.DataFrame(
        {"step": run.metrics.step, "predicted": parts.sum(axis=1, skipna=False), "measured": run.of("dH_measured")}
    )
    return rows.dropna().reset_index(drop=True)


def r_squared(rows: pd.DataFrame) -> float | None:
    """Return 1 - sum (measured - predicted)^2 / sum (measured - mean)^2; None for fewer than 2 points or equal ones."""
    if len(rows) < 2 or rows.measured.nunique() < 2:
        return None
    left = ((rows.measured - rows.predicted) ** 2).sum()
    return float(1 - left / ((rows.measured - rows.measured.mean()) ** 2).sum())


def status(run: ReportedRun) -> str:
    """Return whether a run has finished, and how far it is."""
    done, planned = int(run.metrics.step.iloc[-1]) + 1, run.config.get("steps")
    if run.summary is not None:
        return f"finished, {done} steps"
    return f"unfinished: {done} of {planned} steps" if planned else f"unfinished: {done} steps"


def headline(runs: Sequence[ReportedRun]) -> pd.DataFrame:
    """Return the runs' numbers, one column a run, without rows that no run has; cells are text.

    All are of the metrics written so far, so that an unfinished run has them too.
    """
    table = pd.DataFrame({run.name: headline_cells(run) for run in runs})
    return table[(table != "-").any(axis=1)]


def headline_cells(run: ReportedRun) -> dict[str, str]:
    """Return what the steps of a run say, by name."""
    entropy = run.of("entropy").dropna()
    low, high = run.of("entropy_low"), run.of("entropy_high")
    inside = run.of("entropy").between(low, high)[low.notna()]
    times = {name: float(run.of(column).sum()) for name, column in PARTS.items()}
    spent = sum(times.values())
    end = f"mean of the last {min(AT_THE_END, len(run.metrics))} steps"
    return {
        "entropy, first step (nats/token)": number(entropy.iloc[0]),
        f"entropy, {end}": number(run.of("entropy")[-AT_THE_END:].mean()),
        "distance to the band's centre, RMSE (nats/token)": number(
            np.sqrt(((run.of("entropy") - (low + high) / 2) ** 2).mean())
        ),
        "steps in the band": share(inside.mean()),
        "rollouts accepted": share(run.of("accepted_fraction").mean()),
        "reward, first step": number(run.of("reward_mean").iloc[0]),
        f"reward, {end}": number(run.of("reward_mean")[-AT_THE_END:].mean()),
        f"completion tokens, {end}": number(run.of("response_length")[-AT_THE_END:].mean(), ".1f"),
        **{f"R² of predicted dH, {name}": number(r_squared(predicted(run, PREDICTIONS[name]))) for name in PREDICTIONS},
        "sign rule right (probe tokens)": share(run.of("sign_rule_agreement").mean()),
        "skipped steps": number(run.of("skipped").sum(min_count=1), ".0f"),
        "rollouts drawn": number(run.of("samples").max(), ",.0f"),
        "completion tokens drawn": number(run.of("tokens").max(), ",.0f"),
        "time in steps": duration(spent) if spent else "-",
        **{f"share of it in {name}": share(value / spent) if spent else "-" for name, value in times.items()},
        "tokens a second": number(run.of("tokens").max() / spent, ",.0f") if spent else "-",
    }


def duration(seconds: float) -> str:
    """Return a time in the unit that suits it.

    >>> duration(59), duration(90), duration(7320)
    ('59.0 s', '1.5 min', '2.0 h')
    """
    if seconds < 60:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 3600 else f"{seconds / 3600:.1f} h"


def number(value: float | None, form: str = ".3f") -> str:
    """Return a number as text, a dash for a missing one."""
    return "-" if value is None or pd.isna(value) else f"{value:{form}}"


def share(value: float | None) -> str:
    """Return a share in percent, a dash for a missing one."""
    return number(value, ".1%")


def evaluated(runs: Sequence[ReportedRun]) -> list[tuple[str, str]]:
    """Return every (set of prompts, sampling setting) that a run was evaluated in; the set is empty where unnamed."""
    return list(dict.fromkeys(place_of(row) for run in runs for row in run.evaluations))


def place_of(evaluation: Mapping[str, Any]) -> tuple[str, str]:
    """Return an evaluation's set of prompts and sampling setting."""
    return str(evaluation.get("set", "")), str(evaluation.get("setting", ""))


def evaluations_of(run: ReportedRun, place: tuple[str, str]) -> dict[int, Mapping[str, Any]]:
    """Return a run's evaluations in this set and setting, by step in ascending order; the latest of a step."""
    found = {int(row["step"]): row for row in run.evaluations if place_of(row) == place}
    return dict(sorted(found.items()))


def evaluation_table(runs: Sequence[ReportedRun], place: tuple[str, str]) -> pd.DataFrame:
    """Return the estimates of the first and last evaluation of each run; cells are text with the interval."""
    columns: dict[str, dict[str, str]] = {}
    for run in runs:
        rows = evaluations_of(run, place)
        for step in dict.fromkeys([*list(rows)[:1], *list(rows)[-1:]]):
            named = f"{run.name}, step {step}" if len(runs) > 1 else f"step {step}"
            columns[named] = {name: interval(value) for name, value in rows[step].get("estimates", {}).items()}
    return pd.DataFrame(columns).fillna("-")


def interval(estimate: Mapping[str, Any]) -> str:
    """Return an estimate with its interval.

    >>> interval({"value": 0.5, "low": 0.25, "high": 0.75})
    '0.500 [0.250, 0.750]'
    """
    return f"{number(estimate['value'])} [{number(estimate.get('low'))}, {number(estimate.get('high'))}]"


def flat(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield nested settings under their full names.

    >>> dict(flat({"a": 1, "b": {"c": [2], "d": {}}}))
    {'a': 1, 'b.c': [2], 'b.d': {}}
    """
    for name, value in settings.items():
        if isinstance(value, Mapping) and value:
            yield from flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def differing_settings(runs: Sequence[ReportedRun]) -> pd.DataFrame:
    """Return the settings in which runs differ, but for where they are; cells are text."""
    settings = [dict(flat(run.config)) for run in runs]
    names = dict.fromkeys(name for found in settings for name in found if name != "output")
    rows = {name: ["-" if name not in found else str(found[name]) for found in settings] for name in names}
    kept = {name: row for name, row in rows.items() if len(set(row)) > 1}
    return pd.DataFrame.from_dict(kept, orient="index", columns=[run.name for run in runs])


def column_table(runs: Sequence[ReportedRun]) -> pd.DataFrame:
    """Return every column that a run recorded: unit, meaning, and each run's first, last and mean value."""
    names = dict.fromkeys(str(name) for run in runs for name in run.metrics if run.has(str(name)))
    rows: dict[Hashable, dict[str, str]] = {}
    for name in names:
        described: Mapping[str, str] = next((run.columns[name] for run in runs if name in run.columns), {})
        rows[name] = {"unit": described.get("unit", ""), "meaning": described.get("description", "")}
        for run in runs:
            values = run.of(name).dropna()
            ends = (values.iloc[0], values.iloc[-1], values.mean()) if len(values) else (None, None, None)
            rows[name][f"{run.name}: first, last, mean"] = ", ".join(number(value, ".4g") for value in ends)
    return pd.DataFrame.from_dict(rows, orient="index")
