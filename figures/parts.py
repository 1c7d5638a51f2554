"""Which rows of a study a figure draws, and what to say of those that are not there."""

from collections.abc import Iterable, Mapping, Sequence

import pandas as pd

from figures.arms import SCHEDULES, arm_of, in_order
from figures.estimates import estimate
from figures.study import Data, Study
from figures.tables import SETTING_NAMES


def rows_of(table: pd.DataFrame, part: str, arms: Iterable[str], main: str) -> pd.DataFrame:
    """Return a part's rows of these arms; GRPO looks at no band, so that its runs of the main part stand in."""
    found = table[(table.part == part) & table.arm.isin(list(arms))]
    if "grpo" in set(arms) - set(found.arm):
        found = pd.concat([found, table[(table.part == main) & (table.arm == "grpo")]])
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


def setting_of_curves(evaluations: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """Return evaluations in the paper's sampling setting, at temperature 1 where that has more steps; its name."""
    steps = {name: evaluations[evaluations.setting == name].step.nunique() for name in SETTING_NAMES}
    setting = "paper" if steps["paper"] >= steps["t1"] else "t1"
    return evaluations[evaluations.setting == setting], SETTING_NAMES[setting]


def drawn_from(study: Study, part: str) -> str:
    """Return the note that says what a figure is of."""
    return f"Of the study {study.name or 'given'}, part {part}."


def seeds_note(seeds: Mapping[str, int]) -> str:
    """Return the note that says how many seeds each line is of.

    >>> seeds_note({"GRPO": 5, "linear": 3})
    'Seeds: GRPO 5, linear 3.'
    """
    return f"Seeds: {', '.join(f'{name} {count}' for name, count in seeds.items())}."


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


def sizes_of(study: Study) -> tuple[pd.DataFrame, str]:
    """Return pass@1 at the end of the main part's arms, and of the same arms of parts with other models.

    Returns:
        Columns `part`, `parameters`, `arm`, `value`, `low`, `high`; nothing where all models have one size. The name of
        the sampling setting.
    """
    last, setting = final_setting(study.last)
    sizes = {str(part): float(rows.parameters.iloc[0]) for part, rows in study.runs.groupby("part")}
    own = sizes.get(study.main)
    parts = [part for part, size in sizes.items() if own and size == size and (part == study.main or size != own)]
    rows = []
    for part in parts if len(parts) > 1 else ():
        for name in in_order(set(last[last.part == part].arm) & set(last[last.part == study.main].arm)):
            found = estimate(last[(last.part == part) & (last.arm == name)], 1)
            rows.append((part, sizes[part], name, found.value, found.low, found.high))
    shared = [name for _, _, name, *_ in rows]
    kept = [row for row in rows if shared.count(row[2]) > 1]
    return pd.DataFrame(kept, columns=["part", "parameters", "arm", "value", "low", "high"]), setting


def sizes_there(data: Data) -> tuple[pd.DataFrame, str, Study]:
    """Return what `sizes_of` does of the long study, of that of controllers where it has but one, and which it is."""
    study = data.study if sizes_of(data.long)[0].empty else data.long
    sizes, setting = sizes_of(study)
    return sizes, setting, study


def ordered(table: pd.DataFrame) -> list[str]:
    """Return the arms of a table in their order."""
    return in_order(set(table.arm))
