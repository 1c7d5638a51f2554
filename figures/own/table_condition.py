"""Whether the theorems' condition on real tokens predicts what becomes of a long run."""

from itertools import pairwise

import numpy as np
import pandas as pd
import scipy.stats  # type: ignore[import-untyped]

from figures.arms import arm_of, in_order
from figures.entry import Built, Entry, main_of
from figures.estimates import accuracy_at, t_reach
from figures.paper.cells import NONE, table
from figures.parts import setting_of_curves
from figures.study import Data, NothingToDrawError, Study

PREDICTORS = {
    "condition_tokens": "tokens on which Theorem 1's condition holds",
    "condition_sequences": "responses on which Theorem 2's condition holds",
    "sign_rule_agreement": "tokens whose change has the rule's sign",
    "delta_p_agreement": "tokens whose probability moves as the advantage says",
    "entropy": "entropy, for comparison",
}
OUTCOMES = {
    "entropy": "entropy change to the next interval",
    "pass@1": "gain in held-out pass@1 over the interval",
}
FEWEST = 5  # intervals of a run, below which ranks say nothing


def intervals(curves: pd.DataFrame, evaluations: pd.DataFrame) -> pd.DataFrame:
    """Return a run's intervals between evaluations: means of the predictors, and what became of it.

    Args:
        curves: rows of the run.
        evaluations: of the run, in one sampling setting.

    Returns:
        Columns step, those of `PREDICTORS`, and `to:` those of `OUTCOMES`.
    """
    rows = evaluations.drop_duplicates("step").sort_values("step")
    found = []
    for (start, before), (end, after) in pairwise(accuracy_at(rows).items()):
        here = curves[(curves.step >= start) & (curves.step < end)]
        found.append({"step": start, **here[list(PREDICTORS)].mean(), "to:pass@1": after - before})
    table_of = pd.DataFrame(found, columns=["step", *PREDICTORS, "to:pass@1"])
    return table_of.assign(**{"to:entropy": table_of.entropy.shift(-1) - table_of.entropy})


def rank_correlation(x: pd.Series, y: pd.Series, step: pd.Series | None = None) -> float:
    """Return Spearman's rank correlation; given steps, of what is left when their ranks are regressed out of both.

    NaN for fewer than five pairs, or where one side does not vary.

    >>> up = pd.Series([1.0, 2.0, 4.0, 8.0, 16.0])
    >>> round(rank_correlation(up, -up), 12), rank_correlation(up, up * 0)
    (-1.0, nan)
    """
    known = x.notna() & y.notna()
    if known.sum() < FEWEST:
        return float("nan")
    ranks = np.stack([values[known].rank().to_numpy(float) for values in (x, y)])
    if step is not None:
        against = np.vander(step[known].rank().to_numpy(float), 2)
        ranks = ranks - (against @ np.linalg.lstsq(against, ranks.T, rcond=None)[0]).T
    if np.ptp(ranks, axis=1).min() < 1e-9:
        return float("nan")
    return float(scipy.stats.pearsonr(*ranks).statistic)


def runs_of(study: Study) -> tuple[dict[str, list[pd.DataFrame]], str]:
    """Return the intervals of each run with evaluations and measured conditions, by arm; the name of their setting."""
    shown, setting = setting_of_curves(study.evaluations)
    found: dict[str, list[pd.DataFrame]] = {}
    for (part, arm, seed), rows in shown[shown.part != "base"].groupby(["part", "arm", "seed"]):
        own = study.curves[(study.curves.part == part) & (study.curves.arm == arm) & (study.curves.seed == seed)]
        if own.condition_tokens.notna().any():
            found.setdefault(str(arm), []).append(intervals(own, rows))
    return found, setting


def over_runs(values: list[float]) -> str:
    """Return the mean over runs with its 95 % t interval, and of how many it is.

    >>> over_runs([0.5, 0.7]), over_runs([0.5]), over_runs([float("nan")])
    ('+0.60 [-0.67, +1.87] (2)', '+0.50 (1)', '-')
    """
    known = np.array([value for value in values if value == value])
    if not len(known):
        return NONE
    text = f"{known.mean():+.2f}"
    if len(known) > 1:
        half = t_reach(known.tolist())
        text += f" [{known.mean() - half:+.2f}, {known.mean() + half:+.2f}]"
    return f"{text} ({len(known)})"


def cells_of(runs: list[pd.DataFrame], predictor: str) -> dict[str, str]:
    """Return the correlations of a quantity within each run, over these runs."""
    return {
        f"{became}{', steps regressed out' if partial else ''}": over_runs(
            [rank_correlation(run[predictor], run[f"to:{outcome}"], run.step if partial else None) for run in runs]
        )
        for outcome, became in OUTCOMES.items()
        for partial in (False, True)
    }


def summarise(study: Study) -> tuple[pd.DataFrame, str]:
    """Return a row an arm and predictor, and the note that says of what."""
    arms, setting = runs_of(study)
    if not arms:
        raise NothingToDrawError("long runs with measured conditions (curves.csv, evaluations.csv)")
    rows = {}
    for arm in in_order(set(arms)):
        for name, text in PREDICTORS.items():
            mean = pd.Series([run[name].mean() for run in arms[arm]]).mean()
            if pd.notna(mean):
                rows[f"{arm_of(arm).text}: {text} (mean {mean:.2f})"] = cells_of(arms[arm], name)
    return table(rows), f"Of the study {study.name or 'given'}, all parts; pass@1 sampled at {setting}."


def build(data: Data) -> Built:
    """Load and summarise."""
    found, note = summarise(data.long)
    return Built(table=found, notes=(note,))


ENTRY = Entry(
    "table_condition",
    "Does the theorems' condition predict what becomes of a run?",
    "Spearman's rank correlation within a run, over the intervals between its evaluations, between the mean of a "
    "quantity over an interval and what became of the run; mean over an arm's runs with a 95 % t interval and their "
    "number, without runs that are in the order of their steps to the letter. Everything drifts with training: the "
    "columns with steps regressed out say what is left of that. Under control a schedule moves entropy, not the "
    "condition.",
    ("long",),
    build,
)

if __name__ == "__main__":
    main_of(ENTRY)
