"""Which rows of a study a figure draws, and what to say of those that are not there."""

from collections.abc import Iterable, Sequence

import pandas as pd

from figures.arms import SCHEDULES, arm_of, in_order
from figures.estimates import estimate
from figures.study import Study
from figures.tables import SETTING_NAMES


def rows_of(table: pd.DataFrame, part: str, arms: Iterable[str]) -> pd.DataFrame:
    """Return a part's rows of these arms; GRPO looks at no band, so that its runs of the constant part stand in."""
    found = table[(table.part == part) & table.arm.isin(list(arms))]
    if "grpo" in set(arms) - set(found.arm):
        found = pd.concat([found, table[(table.part == "constant") & (table.arm == "grpo")]])
    return found


def absent(wanted: Sequence[str], present: set[str]) -> list[str]:
    """Return a note of the arms that are not there, none where all are.

    >>> absent(["grpo", "nsr"], {"grpo"})
    ['Not there: NSR.']
    """
    missing = [arm_of(name).text for name in wanted if name not in present]
    return [f"Not there: {', '.join(missing)}."] if missing else []


def final_setting(final: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """Return the last evaluations in the paper's sampling setting, at temperature 1 where it was not used; its name."""
    setting = "paper" if (final.setting == "paper").any() else "t1"
    return final[final.setting == setting], SETTING_NAMES[setting]


def schedule_of(arm: str) -> str | None:
    """Return the schedule that an arm's name ends with, None where it ends with none.

    >>> schedule_of("soft_cosine"), schedule_of("grpo")
    ('cosine', None)
    """
    last = arm.rpartition("_")[2]
    return last if last in SCHEDULES else None


def is_too_high(arm: str) -> bool:
    """Return whether an arm asks for too much entropy, by its name."""
    return "too_high" in arm


def sizes_of(study: Study, setting: str) -> pd.DataFrame:
    """Return pass@1 at the end of the constant part's arms, and of the same arms of parts with other models.

    Returns:
        Columns `part`, `parameters`, `arm`, `value`, `low`, `high`; nothing where all models have one size.
    """
    last = study.last[study.last.setting == setting]
    sizes = {str(part): float(rows.parameters.iloc[0]) for part, rows in study.runs.groupby("part")}
    own = sizes.get("constant")
    parts = [part for part, size in sizes.items() if own and size == size and (part == "constant" or size != own)]
    rows = []
    for part in parts if len(parts) > 1 else ():
        for name in in_order(set(last[last.part == part].arm) & set(last[last.part == "constant"].arm)):
            found = estimate(last[(last.part == part) & (last.arm == name)], 1)
            rows.append((part, sizes[part], name, found.value, found.low, found.high))
    shared = [name for _, _, name, *_ in rows]
    kept = [row for row in rows if shared.count(row[2]) > 1]
    return pd.DataFrame(kept, columns=["part", "parameters", "arm", "value", "low", "high"])


def ordered(table: pd.DataFrame) -> list[str]:
    """Return the arms of a table in their order."""
    return in_order(set(table.arm))
