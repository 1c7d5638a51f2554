"""Tables of runs, and tables as text for the terminal and as Markdown."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pandas as pd

from figures.load import LoadedRun

SETTING_NAMES = {"t1": "temperature 1", "paper": "0.6 / 0.95 / 20"}
ESTIMATE_NAMES = {
    "distinct": "distinct right of {samples}",
    "response_length": "response length (tokens)",
    "finished": "share finished",
    "entropy": "entropy at temperature 1 (nats/token)",
}


def quickstart_table(runs: Sequence[LoadedRun]) -> pd.DataFrame:
    """Return one column a run, and one for the base model where a run evaluated it; cells are text.

    Intervals are 95 % bootstrap intervals over the held-out prompts. Entropy's end is a mean over the last steps.
    """
    columns: dict[str, dict[str, str]] = {}
    base = next((run for run in runs if any(row["step"] == 0 for row in run.evaluations)), None)
    if base is not None:
        columns["base model"] = evaluation_cells(base, base.base)
    for run in runs:
        columns[run.name] = training_cells(run) | evaluation_cells(run, run.final)
    columns = without_empty_rows(columns)
    order = list(dict.fromkeys(key for cells in reversed(columns.values()) for key in cells))
    return pd.DataFrame(columns, index=order).fillna("")


def without_empty_rows(columns: dict[str, dict[str, str]]) -> dict[str, dict[str, str]]:
    """Return the columns without the rows that no run has a value for."""
    kept = {key for cells in columns.values() for key, text in cells.items() if text != "-"}
    return {name: {key: text for key, text in cells.items() if key in kept} for name, cells in columns.items()}


def training_cells(run: LoadedRun) -> dict[str, str]:
    """Return what the steps of a run say of entropy and its prediction."""
    summary = run.summary
    end = summary["entropy_end_steps"]
    return {
        "entropy at start (nats/token)": number(summary["entropy_start"]),
        f"entropy at end, mean of {end} steps": number(summary["entropy_end"]),
        "RMSE to the band's centre (nats/token)": number(summary["band_rmse"]),
        "steps in the band": share(summary["in_band"]),
        "rollouts accepted": share(summary["accepted_fraction"]),
        "R2 of predicted dH (E7, first order)": number(summary["r2_first_order"]),
        "R2 with second order": number(summary["r2_second_order"]),
        "sign rule right (tokens)": share(summary["sign_rule_agreement"]),
    }


def evaluation_cells(run: LoadedRun, evaluation: Callable[..., dict[str, Any] | None]) -> dict[str, str]:
    """Return the held-out results that `evaluation` gives for each of a run's sets and settings."""
    cells = {}
    for held_out in run.sets:
        where = f", {held_out}" if len(run.sets) > 1 else ""
        for setting in sorted(run.settings, key=order_of_setting):
            row = evaluation(setting, held_out) or {"estimates": {}}
            for key, estimate in row["estimates"].items():
                name = ESTIMATE_NAMES.get(key, key).format(**row)
                text = f"{estimate['value']:.3f} [{estimate['low']:.3f}, {estimate['high']:.3f}]"
                cells[f"{name}{where}, {SETTING_NAMES.get(setting, setting)}"] = text
    return cells


def order_of_setting(setting: str) -> int:
    """Return where a setting comes in a table: those of SETTING_NAMES first."""
    return list(SETTING_NAMES).index(setting) if setting in SETTING_NAMES else len(SETTING_NAMES)


def number(value: float | None) -> str:
    """Return a number with three decimals, a dash for a missing one."""
    return "-" if value is None else f"{value:.3f}"


def share(value: float | None) -> str:
    """Return a share in percent, a dash for a missing one."""
    return "-" if value is None else f"{value:.0%}"


def as_text(table: pd.DataFrame) -> str:
    """Return the table in aligned columns."""
    return table.to_string(justify="left")


def as_markdown(table: pd.DataFrame) -> str:
    """Return the table as Markdown."""
    lines = ["| | " + " | ".join(table.columns) + " |", "|---" * (len(table.columns) + 1) + "|"]
    lines += [f"| {name} | " + " | ".join(row) + " |" for name, row in zip(table.index, table.to_numpy(), strict=True)]
    return "\n".join(lines) + "\n"


def as_latex(table: pd.DataFrame) -> str:
    r"""Return the table as LaTeX, with the rules of booktabs.

    >>> print(as_latex(pd.DataFrame({"pass@1 (%)": ["50"]}, index=["a_b"])))
    \begin{tabular}{ll}
    \toprule
     & pass@1 (\%) \\
    \midrule
    a\_b & 50 \\
    \bottomrule
    \end{tabular}
    <BLANKLINE>
    """

    def line(cells: Sequence[str]) -> str:
        return " & ".join(re.sub(r"([%&_#$])", r"\\\1", cell) for cell in cells) + r" \\"

    rows = [line([name, *cells]) for name, cells in zip(table.index, table.to_numpy(), strict=True)]
    top = [rf"\begin{{tabular}}{{{'l' * (len(table.columns) + 1)}}}", r"\toprule", line(["", *table.columns])]
    return "\n".join([*top, r"\midrule", *rows, r"\bottomrule", r"\end{tabular}"]) + "\n"


def under_titles(tables: Mapping[str, pd.DataFrame], heading: str, form: Callable[[pd.DataFrame], str]) -> str:
    """Return tables one after the other, each under its title unless that is empty.

    Args:
        tables: by title.
        heading: format string that makes a heading of a title.
        form: `as_text` or `as_markdown`.
    """
    parts = []
    for title, table in tables.items():
        above = f"{heading.format(title)}\n\n" if title else ""
        parts.append(above + form(table).rstrip("\n") + "\n")
    return "\n".join(parts)
