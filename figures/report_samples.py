"""Completions to read: which of those that a run wrote down a report shows, and how."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any

import pandas as pd

from figures.report_html import Html, details, tag, together
from figures.report_load import ReportedRun
from figures.report_numbers import number

STEPS = 4
GROUPS = 3  # prompts of a step
MEMBERS = 8  # completions of a prompt
LONGEST = 1200  # characters of a text: its beginning and end
NUMBERS = ("reward", "advantage", "weight")


def shown_steps(steps: Sequence[int]) -> list[int]:
    """Return at most 4 steps, the first and the last among them, evenly apart.

    >>> shown_steps(range(0, 100, 10)), shown_steps([3])
    ([0, 30, 60, 90], [3])
    """
    if len(steps) <= STEPS:
        return list(steps)
    return [steps[round(place * (len(steps) - 1) / (STEPS - 1))] for place in range(STEPS)]


def groups_of(rows: Iterable[Mapping[str, Any]]) -> list[list[Mapping[str, Any]]]:
    """Return the rollouts of each prompt; without numbered groups, neighbours with one prompt are a group."""
    return [list(group) for _, group in groupby(rows, key=lambda row: (row.get("group"), row.get("prompt")))]


def chosen(group: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return at most 8 rollouts of a group by falling reward: the best and the worst halves where there are more."""
    ranked = sorted(group, key=lambda row: -(row.get("reward") or 0.0))
    return ranked if len(ranked) <= MEMBERS else ranked[: MEMBERS // 2] + ranked[-MEMBERS // 2 :]


def shortened(text: str) -> str:
    r"""Return a text, its beginning and end where it is long.

    >>> shortened("a" * 700 + "b" * 700)[595:640]
    'aaaaa\n[... 200 characters left out ...]\nbbbbb'
    """
    if len(text) <= LONGEST:
        return text
    half = LONGEST // 2
    return f"{text[:half]}\n[... {len(text) - LONGEST} characters left out ...]\n{text[-half:]}"


def group_table(group: Sequence[Mapping[str, Any]]) -> Html:
    """Return the rollouts of a prompt: numbers, whatever else is a number in them, and the completion."""
    shown = chosen(group)
    others = [
        name
        for name in dict.fromkeys(name for row in shown for name in row)
        if name not in (*NUMBERS, "group") and any(isinstance(row.get(name), int | float) for row in shown)
    ]
    columns = [name for name in NUMBERS if any(name in row for row in shown)] + others
    head = tag("tr", [tag("th", name, scope="col") for name in (*columns, "completion")])
    body = [
        tag(
            "tr",
            [tag("td", cell(row.get(name))) for name in columns],
            tag("td", tag("pre", shortened(str(row.get("completion", ""))))),
        )
        for row in shown
    ]
    return tag("div", tag("table", tag("thead", head), tag("tbody", body), class_="words samples"), class_="scroll")


def cell(value: Any) -> str:
    """Return a rollout's number as text."""
    return number(value, ".3g") if isinstance(value, int | float) or pd.isna(value) else str(value)


def sample_parts(run: ReportedRun) -> Html:
    """Return a few steps' samples, one below the other, the first opened."""
    steps = shown_steps([step for step, rows in run.samples.items() if rows])
    return together(details_of(step, run.samples[step], step == steps[-1]) for step in steps)


def details_of(step: int, rows: Sequence[Mapping[str, Any]], opened: bool) -> Html:
    """Return a step's first few groups."""
    groups = groups_of(rows)
    shown = groups[:GROUPS]
    parts = []
    for group in shown:
        left_out = len(group) - len(chosen(group))
        parts.append(tag("p", "Prompt", f" ({left_out} of its {len(group)} completions left out)" if left_out else ""))
        parts += [tag("pre", shortened(str(group[0].get("prompt", "")))), group_table(group)]
    return details(f"step {step}: {len(shown)} of {len(groups)} prompts written down", parts, opened=opened)
