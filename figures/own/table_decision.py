"""The long study's answers as a table: differences, plateaus, verdicts, and what could have been seen."""

import pandas as pd

from figures.entry import Built, Entry, main_of
from figures.own.decision import answers_of
from figures.paper.cells import NONE, PERCENT, table
from figures.parts import drawn_from
from figures.study import Data, Study


def points(*values: float) -> str:
    """Return numbers in points, a dash where one is not known.

    >>> points(-0.01, 0.06), points(float("nan"))
    ('-1.0, +6.0', '-')
    """
    return ", ".join(f"{PERCENT * value:+.1f}" for value in values) if all(map(pd.notna, values)) else NONE


def difference(row: pd.Series) -> str:
    """Return a difference in points with its interval over seeds and prompts.

    >>> difference(pd.Series({"value": 0.025, "low": -0.01, "high": 0.06}))
    '+2.5 [-1.0, +6.0]'
    """
    return f"{points(row.value)} [{points(row.low, row.high)}]"


def plateau(rows: pd.DataFrame, side: str, form: str) -> str:
    """Return the step of a plateau, or the factor of two, with its interval; what is beyond the end is left open.

    A dash for a factor that nothing bounds.
    """
    found = rows[rows.comparison == side]
    if found.empty:
        return NONE
    row = found.iloc[0]
    low, high = ("-" if pd.isna(row[end]) else f"{row[end]:{form}}" for end in ("low", "high"))
    if side == "factor" and pd.isna(row["value"]) and pd.isna(row["high"]) and not row["low"] > 0:
        return NONE
    if pd.isna(row["value"]):
        return f"not seen [{low}, {high}]"
    return f"{row['value']:{form}} [{low}, {high}]"


def summarise(study: Study) -> tuple[pd.DataFrame, str]:
    """Return a row a question, and the note that says of what."""
    answers = answers_of(study)
    rows = {}
    for text, answer in answers.iterrows():
        same = study.decision[(study.decision.question == answer.question) & (study.decision.setting == answer.setting)]
        end, flat = same[same.comparison == "end"].set_index("quantity"), same[same.quantity == "plateau"]
        rows[str(text)] = {
            "seeds": f"{answer.seeds:.0f}",
            "last three less best three (points)": difference(answer),
            "t over seeds": points(answer.seeds_low, answer.seeds_high),
            "verdict": str(answer.verdict),
            "could be seen": points(answer.detectable),
            **{
                f"{name} at the end": difference(end.loc[name])
                for name in ("pass@1", "pass@8", "pass@32", "pass@256")
                if name in end.index
            },
            "its plateau (step)": plateau(flat, "arm", ".0f"),
            "the other's": plateau(flat, "against", ".0f"),
            "factor": plateau(flat, "factor", ".2f"),
        }
    return table(rows), drawn_from(study, study.main)


def build(data: Data) -> Built:
    """Load and summarise."""
    found, note = summarise(data.long)
    return Built(table=found, notes=(note,))


ENTRY = Entry(
    "table_decision",
    "The long study's answers",
    "Held-out results in the paper's sampling setting (0.6 / 0.95 / 20), in points with 95 % intervals over seeds and "
    "prompts. The first difference is the one that verdicts are of: the mean of the last three evaluations less the "
    "other arm's best three in a row; `above` where both of its intervals lie above one point, `below` where both lie "
    "below, `open` otherwise, `incomplete` while runs are missing. Could be seen: the difference that these seeds and "
    "prompts would have found in 80 of 100 studies, with two or three seeds itself uncertain by a factor of two and "
    "more. A plateau is the first step from which the mean curve is nowhere a point higher within 1000 steps, over the "
    "seeds that both arms have; what is not seen, and an end that is left out, lies beyond the last step "
    "that the rule can judge. Intervals of plateaus resample few seeds and are rather too narrow.",
    ("long",),
    build,
)

if __name__ == "__main__":
    main_of(ENTRY)
