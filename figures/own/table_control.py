"""Every method on every schedule in one table: how well it holds, and what that costs, with intervals."""

import pandas as pd

from figures.arms import arm_of, in_order
from figures.entry import Built, Entry, main_of
from figures.own.square_wave import reaction
from figures.paper.cells import NONE, PERCENT, table, without_dashes
from figures.study import Data, NothingToDrawError, Study

PARTS = ("constant", "linear", "square")
DIFFERENCES = {
    f"{quantity} less GRPO's, {way}": (quantity, comparison)
    for quantity in ("pass@1", "pass@32")
    for comparison, way in (("same_samples", "same samples"), ("same_entropy", "same entropy"))
}


def spread(values: pd.Series, scale: float = 1, digits: int = 2) -> str:
    """Return the mean over seeds, with the least and the greatest where there are several.

    >>> spread(pd.Series([1.0, 1.25])), spread(pd.Series([0.95]), 100, 0), spread(pd.Series([None], dtype=float))
    ('1.12 (1.00 to 1.25)', '95', '-')
    """
    known = scale * values.dropna()
    if known.empty:
        return NONE
    mean = f"{known.mean():.{digits}f}"
    return mean if len(known) == 1 else f"{mean} ({known.min():.{digits}f} to {known.max():.{digits}f})"


def difference(rows: pd.DataFrame, part: str, quantity: str, comparison: str) -> str:
    """Return a difference to GRPO in points with its 95 % interval; marked where no entropy was matched."""
    found = rows[(rows.part == part) & (rows.quantity == quantity) & (rows.comparison == comparison)]
    if found.empty:
        return NONE
    row = found.iloc[0]
    mark = "*" if row["matched"] == "no" else ""
    low, high = (f"{PERCENT * row[end]:+.1f}" for end in ("low", "high"))
    return f"{PERCENT * row['value']:+.1f} [{low}, {high}]{mark}"


def arrival(values: pd.Series) -> str:
    """Return the mean steps until a band was reached again, and the seeds that did not.

    >>> arrival(pd.Series([7.0, 9.0])), arrival(pd.Series([7.0, None])), arrival(pd.Series([None, None]))
    ('8', '7 (1 of 2 never)', 'never')
    """
    if values.empty:
        return NONE
    found = reaction(values)
    if found.steps is None:
        return "never"
    late = found.seeds - found.arrived
    return f"{found.steps:.0f}" + (f" ({late} of {found.seeds} never)" if late else "")


def summarise(study: Study) -> pd.DataFrame:
    """Return a row an arm; cells are text."""
    runs, comparison = study.runs, study.comparison
    runs = runs[runs.part.isin(PARTS)]
    if runs.empty:
        raise NothingToDrawError("the training study (controllers/runs.csv)")
    at_one = comparison[comparison.setting == "t1"]
    rows = {}
    for name in in_order(set(runs.arm)):
        parts = {part: runs[(runs.arm == name) & (runs.part == part)] for part in PARTS}
        constant, line, square = (parts[part] for part in PARTS)
        own = at_one[at_one.arm == name]
        rows[arm_of(name).text] = {
            "seeds": "/".join(str(len(found)) for found in parts.values()),
            "constant: RMSE / noise": spread(constant.rmse_over_noise),
            "in band (%)": spread(constant.in_band, PERCENT, 0),
            "in band, 5-step mean (%)": spread(constant.in_band_smooth, PERCENT, 0),
            "line: in band, 5-step mean (%)": spread(line.in_band_smooth, PERCENT, 0),
            "square: steps up": arrival(square.reaction_up),
            "steps down": arrival(square.reaction_down),
            **{f"constant: {text}": difference(own, "constant", *which) for text, which in DIFFERENCES.items()},
            **{
                f"line: {text}": difference(own, "linear", *which)
                for text, which in DIFFERENCES.items()
                if which[1] == "same_samples"
            },
        }
    return without_dashes(table(rows))


def build(data: Data) -> Built:
    """Load and summarise."""
    return Built(table=summarise(data.study))


ENTRY = Entry(
    "table_control",
    "Every method on every schedule",
    "How well each method holds a band and what it costs, after the first 50 of 300 steps: mean over seeds (least to "
    "greatest); seeds of the constant, linear and square part. RMSE is to the band's centre, the noise what sampling "
    "alone would give. Steps up and down: from a jump of the band to the first step in it. Differences to GRPO are of "
    "the last step at temperature 1, in points, with 95 % intervals over seeds and prompts: after as many samples, and "
    "where GRPO's own entropy was the same (* : it never was, nearest taken).",
    ("controllers",),
    build,
)

if __name__ == "__main__":
    main_of(ENTRY)
