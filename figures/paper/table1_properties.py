"""Table 1: which methods reach a target and control the curve, measured."""

import pandas as pd

from figures.arms import arm_of, in_order
from figures.entry import Built, Entry, main_of
from figures.own.square_wave import in_words, reaction
from figures.paper.cells import NONE, PERCENT, table, without_dashes
from figures.study import Data, NothingToDrawError

ENOUGH = 0.9  # share of smoothed steps in the band
RULE = "at least 90 % of smoothed steps in the band"
# The estimators and clip rules of the part `estimators`.
OVER = {
    "rloo": "RLOO",
    "dr_grpo": "Dr. GRPO",
    "reinforce_plus_plus": "REINFORCE++",
    "w_reinforce": "W-REINFORCE",
    "raft_plus_plus": "RAFT++",
    "nsr": "NSR",
    "clip_higher": "Clip-Higher",
    "dual_clip": "dual clip",
    "gspo": "GSPO",
}
# The advantage estimator of the arms that are defined with one of their own.
ESTIMATORS = {"nsr": "NSR", "w_reinforce": "W-REINFORCE", "entropic_paper": "REINFORCE", "repo_r": "RLOO"}


def tick(shares: pd.Series) -> str:
    """Return whether every seed of an arm was in the band, with the mean share.

    >>> tick(pd.Series([0.95, 0.91])), tick(pd.Series([0.95, 0.61])), tick(pd.Series([float("nan")]))
    ('yes (93 %)', 'no (78 %)', '-')
    """
    known = shares.dropna()
    if known.empty:
        return NONE
    return f"{'yes' if (known >= ENOUGH).all() else 'no'} ({PERCENT * known.mean():.0f} %)"


def elsewhere(runs: pd.DataFrame, name: str) -> str:
    """Return over which other estimators and clip rules an arm reaches the constant target, and over which it does not.

    >>> rows = pd.DataFrame(
    ...     [("estimators", "soft_rloo", 0.95), ("estimators", "soft_nsr", 0.1)],
    ...     columns=["part", "arm", "in_band_smooth"],
    ... )
    >>> elsewhere(rows, "soft"), elsewhere(rows, "grpo")
    ('RLOO 95 %; not over NSR 10 %', '-')
    """
    added = runs[(runs.part == "estimators") & runs.arm.str.startswith(f"{name}_")]
    texts: dict[bool, list[str]] = {True: [], False: []}
    for arm in added.arm.unique():
        over, shares = arm.removeprefix(f"{name}_"), added.in_band_smooth[added.arm == arm]
        texts[bool((shares >= ENOUGH).all())].append(f"{OVER.get(over, over)} {PERCENT * shares.mean():.0f} %")
    refused = f"not over {', '.join(texts[False])}" if texts[False] else ""
    return "; ".join(filter(None, [", ".join(texts[True]), refused])) or NONE


def summarise(runs: pd.DataFrame) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Return a row an arm and notes; cells are text."""
    if runs.empty:
        raise NothingToDrawError("the training study (controllers/runs.csv)")
    rows = {}
    names = ("constant", "linear", "square")
    for name in in_order(set(runs.arm[runs.part.isin(names)])):
        parts = {part: runs[(runs.arm == name) & (runs.part == part)] for part in names}
        jumps = {way: parts["square"][f"reaction_{way}"] for way in ("down", "up")}
        rows[arm_of(name).text] = {
            "reaches a constant target": tick(parts["constant"].in_band_smooth),
            "follows a falling line": tick(parts["linear"].in_band_smooth),
            **{
                f"follows a jump {way}": in_words(reaction(found)) if len(found) else NONE
                for way, found in jumps.items()
            },
            "run with the estimator": ESTIMATORS.get(name, "GRPO"),
            "reaches it over": elsewhere(runs, name),
            "seeds": str(max(map(len, parts.values()))),
        }
    missing = [part for part in (*names, "estimators") if part not in set(runs.part)]
    notes = [f"Not there: the parts {', '.join(missing)}."] if missing else []
    return without_dashes(table(rows)), tuple(notes)


def build(data: Data) -> Built:
    """Load and summarise."""
    found, notes = summarise(data.study.runs)
    return Built(table=found, notes=notes)


ENTRY = Entry(
    "table1_properties",
    "Table 1: properties, measured",
    f"The paper's Table 1 ticks properties; here they are measured. A target is reached, and a line followed, with "
    f"{RULE} in every seed after the first 50 steps (smoothed: a moving mean of 5 steps; in brackets the mean share). "
    "A jump: steps until entropy is in the band, and how many seeds arrived before the next one. The estimator is the "
    "one that the arm was run with here; over other estimators and clip rules two controllers were run, with the share "
    "of smoothed steps in the constant band.",
    ("controllers",),
    build,
)

if __name__ == "__main__":
    main_of(ENTRY)
