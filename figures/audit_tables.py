"""The audit's key numbers, a table a finding."""

from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

from figures.load import LoadedAudit, largest_vocabulary, near_entropy
from figures.tables import share

ENTROPIES = (0.3, 4.0)  # nats: a token of a language model, and one far from it
GROUP_SIZE = 8
LEARNING_RATE = 0.1
QUANTITIES = {
    "entropy": "mean entropy (nats)",
    "holds": "sign rule holds",
    "claimed": "claimed probability",
    "drift_negative": "share of policies with D < 0",
}


def audit_tables(audit: LoadedAudit) -> Mapping[str, pd.DataFrame]:
    """Return the key numbers by title; cells are text. Families are at the nearest entropy that they have, named.

    A finding without rows at the group size and learning rate of its table is left out.
    """
    vocabulary = thousands(audit.sign_rule.vocabulary.max())
    words = thousands(audit.baseline.vocabulary.max())
    first = f"{ENTROPIES[0]:g}"
    tables = {
        "Numbers of an independent implementation, reproduced": reproduction_table(audit.reproduction),
        f"Sign rule A dH <= 0, vocabulary {vocabulary} (by probability mass)": sign_rule_table(audit.sign_rule),
        f"Expected first-order dH, positives-only / negatives-only, G = {GROUP_SIZE}": ratio_table(audit.one_sided),
        f"The tie over all rollouts at eta = {LEARNING_RATE:g}, G = {GROUP_SIZE} (1e-6 nats)": tie_table(
            audit.tie, audit.one_sided
        ),
        f"Output-space baseline, vocabulary {words}, H near {first} (nats/token)": baseline_table(audit.baseline),
        f"Theorem 2, vocabulary {words}, H near {first}: condition holds / dH has the claimed sign / both agree": (
            responses_table(audit.responses)
        ),
    }
    return {title: table for title, table in tables.items() if not table.empty}


def thousands(number: int) -> str:
    """Return a whole number in groups of three digits."""
    return f"{number:,}".replace(",", " ")


def frame(rows: dict[str, dict[str, str]]) -> pd.DataFrame:
    """Return text cells, by row and column, as a table."""
    return pd.DataFrame.from_dict(rows, orient="index").fillna("")


def each(rows: pd.DataFrame) -> Iterable[Any]:
    """Return the rows, columns as attributes."""
    return rows.itertuples()


def reproduction_table(rows: pd.DataFrame) -> pd.DataFrame:
    """Return how far the numbers of each quantity are from the reference, at worst."""
    found = {}
    for quantity, same in rows.groupby("quantity", sort=False):
        worst = same.iloc[int(same.z.abs().argmax())]
        found[QUANTITIES.get(str(quantity), str(quantity))] = {
            "numbers": str(len(same)),
            "largest distance (s.e.)": f"{worst.z:+.1f}",
            "there": f"V = {thousands(worst.vocabulary)}, alpha = {worst.alpha:g}",
            "found": f"{worst.found:.4f}",
            "reference": f"{worst.reference:g}",
        }
    return frame(found)


def sign_rule_table(rows: pd.DataFrame) -> pd.DataFrame:
    """Return how often the rule holds beside what is claimed, at two entropies."""
    found = {}
    for target in ENTROPIES:
        for row in each(near_entropy(largest_vocabulary(rows), target)):
            found[f"{row.family}, H {row.entropy:.2f}"] = {
                "holds": with_error(row.holds, row.holds_se),
                "claimed probability": with_error(row.claimed, row.claimed_se),
                "holds, weighted by the size of dH": f"{row.weighted:.3f}",
                "drift D (nats)": with_error(row.drift, row.drift_se, "+.4f"),
            }
    return frame(found)


def with_error(value: float, error: float, form: str = ".3f") -> str:
    """Return a number with its standard error, without it where there is none."""
    return f"{value:{form}}" + (f" ± {error:{form.removeprefix('+')}}" if error else "")


def ratio_table(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the ratio of both expected changes for each policy and denominator."""
    found: dict[str, dict[str, str]] = {}
    for row in each(rows[rows.group_size == GROUP_SIZE]):
        policy = f"{row.policy}: H {row.entropy:.2f}, P(right) {row.accuracy:.4g}"
        found.setdefault(policy, {})[str(row.denominator)] = f"{row.ratio:.4g}"
    return frame(found)


def tie_table(rows: pd.DataFrame, expected: pd.DataFrame) -> pd.DataFrame:
    """Return the first-order change that both steps share, and their measured difference beside X4's second order."""
    over_all = expected[(expected.denominator == "all rollouts") & (expected.group_size == GROUP_SIZE)]
    first = dict(zip(over_all.policy, over_all.positives, strict=True))
    chosen = rows[(rows.group_size == GROUP_SIZE) & (rows.learning_rate == LEARNING_RATE)]
    return frame(
        {
            f"{row.policy}: H {row.entropy:.2f}": {
                "first order, either": f"{LEARNING_RATE * 1e6 * first[row.policy]:+.1f}",
                "difference, measured": with_error(1e6 * row.difference, 1e6 * row.difference_se, "+.2f"),
                "difference, second order (X4)": f"{1e6 * row.second_order:+.2f}",
            }
            for row in each(chosen)
        }
    )


def baseline_table(rows: pd.DataFrame) -> pd.DataFrame:
    """Return log p beside both baselines, and how often each is exceeded."""
    return frame(
        {
            f"{row.family}, H {row.entropy:.2f}": {
                "log p": f"{row.log_prob:.2f}",
                "correct baseline (median)": f"{row.median_baseline:.2f}",
                "log p above it": share(row.holds),
                "placeholder": f"{row.placeholder:.4g}",
                "its weight": f"{row.placeholder_weight:.1f}",
                "log p above placeholder": share(row.placeholder_holds),
            }
            for row in each(near_entropy(largest_vocabulary(rows), ENTROPIES[0]))
        }
    )


def responses_table(rows: pd.DataFrame) -> pd.DataFrame:
    """Return how often Theorem 2's condition and its conclusion hold, and both say the same, by response length."""
    found: dict[str, dict[str, str]] = {}
    for row in each(near_entropy(largest_vocabulary(rows), ENTROPIES[0])):
        cell = " / ".join(share(value) for value in (row.condition, row.rule, row.agree))
        found.setdefault(f"{row.family}, H {row.entropy:.2f}", {})[
            f"{row.tokens} tokens ({row.responses} responses)"
        ] = cell
    return frame(found)
