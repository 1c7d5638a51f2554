"""The paper's arithmetic: averages recomputed, and numbers that it prints twice or claims in words."""

from collections.abc import Iterator

import pandas as pd

from figures.entry import Built, Entry, main_of
from figures.paper.cells import table
from figures.paper.published import methods, pick, value
from figures.study import Data, NothingToDrawError

AVERAGED = (2, 6, 7, 8)
HALF_DIGIT = 0.05  # of a number printed with one decimal
CLAIMED_GAIN = 50


def averages(numbers: pd.DataFrame) -> pd.DataFrame:
    """Return the averages of Tables 2, 6, 7, 8 beside the mean of their columns.

    Columns table, method, metric, printed, recomputed, agrees: the mean of rounded columns is off by at most half a
    digit, and so is the printed average.
    """
    found = []
    for number in AVERAGED:
        for method in methods(rows := pick(numbers, table=number)):
            for metric in dict.fromkeys(rows.metric):
                same = pick(rows, method=method, metric=metric)
                mean = float(same[same.benchmark != "Avg"].value.mean())
                stated = value(same, benchmark="Avg")
                if stated is not None:
                    agrees = abs(stated - mean) <= 2 * HALF_DIGIT + 1e-9
                    found.append((number, method, metric, stated, mean, agrees))
    return pd.DataFrame(found, columns=["table", "method", "metric", "printed", "recomputed", "agrees"])


def twice(numbers: pd.DataFrame) -> Iterator[tuple[str, str, float, float]]:
    """Yield method, metric and both values of AIME-25 wherever Tables 2 and 5 differ."""
    rows = pick(numbers, benchmark="AIME-25")
    for method in methods(pick(rows, table=2)):
        for metric in ("mean@32", "pass@32"):
            first, second = (value(rows, table=number, method=method, metric=metric) for number in (2, 5))
            if first is not None and second is not None and first != second:
                yield method, metric, first, second


def summarise(numbers: pd.DataFrame) -> pd.DataFrame:
    """Return what was checked, what is printed, what follows, and whether they agree; cells are text."""
    if numbers.empty:
        raise NothingToDrawError("the paper's tables (paper_tables.csv)")
    found = averages(numbers)
    good = int(found.agrees.sum())
    rows = {
        "averages of Tables 2, 6, 7, 8": verdict(
            f"{len(found)} averages", f"{good} recompute to within rounding", good == len(found)
        )
    }
    for row in found[~found.agrees].to_dict("records"):
        name = f"Table {row['table']}, {row['method']}, Avg {row['metric']}"
        rows[name] = verdict(f"{row['printed']:.1f}", f"{row['recomputed']:.2f} from its columns", False)
    for method, metric, first, second in twice(numbers):
        name = f"AIME-25 {metric} of {method} in Tables 2 and 5"
        rows[name] = verdict(f"{first:.1f}", f"{second:.1f} in Table 5", False)
    ours = value(numbers, table=5, method="GRPO+Entrocraft", benchmark="AIME-25", metric="mean@32") or 0.0
    columns = pick(numbers, table=2, method="GRPO+Entrocraft", metric="mean@32")
    others = columns[~columns.benchmark.isin(["Avg", "AIME-25"])].value.sum()
    stated = value(columns, benchmark="Avg") or 0.0
    with_other = (others + ours) / 3
    agrees = abs(with_other - stated) <= 2 * HALF_DIGIT
    name = "Table 2, GRPO+Entrocraft, Avg mean@32 with Table 5's AIME-25"
    rows[name] = verdict(f"{stated:.1f}", f"{with_other:.2f}", agrees)
    return table(rows | gains(numbers))


def gains(numbers: pd.DataFrame) -> dict[str, dict[str, str]]:
    """Return the claim of a pass@32 on AIME-25 higher by half, against GRPO and against the lowest baseline."""
    rows = pick(numbers, table=2, benchmark="AIME-25", metric="pass@32")
    best = value(rows, method="GRPO+Entrocraft") or 0.0
    others = rows[~rows.method.str.endswith("Entrocraft")]
    lowest = others.value.min()
    found = {}
    for text, reference in {"GRPO": value(rows, method="GRPO") or 1.0, "the lowest baseline": lowest}.items():
        gain = 100 * (best / reference - 1)
        name = f"pass@K on AIME-25 against {text}"
        found[name] = verdict(
            f"+{CLAIMED_GAIN} %",
            f"+{gain:.0f} % at K = 32 ({best:.1f} and {reference:.1f})",
            abs(gain - CLAIMED_GAIN) < 1,
        )
    return found


def verdict(printed: str, follows: str, agrees: bool) -> dict[str, str]:
    """Return a row."""
    return {"printed": printed, "found": follows, "agrees": "yes" if agrees else "no"}


def build(data: Data) -> Built:
    """Load and summarise."""
    return Built(table=summarise(data.paper()))


ENTRY = Entry(
    "table_arithmetic",
    "The paper's arithmetic",
    "Averages recomputed from the columns that they average (to within rounding: 0.1), numbers that are printed twice, "
    "and a gain that is claimed in words.",
    ("paper_tables.csv",),
    build,
)

if __name__ == "__main__":
    main_of(ENTRY)
