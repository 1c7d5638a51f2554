"""Where the paper's claims about one step hold: maps over random policies, as rows of tables.

Tables, in the order in which they come:
    reproduction   the sign rule's frequencies beside those of an independent implementation
    sign_rule      family x vocabulary x entropy: how often the rule holds, what is claimed, and the sampling drift
    confidence     the same, split by the probability of the sampled token
    one_sided      positives-only and negatives-only: expected first-order change, by denominator
    tie            what finite groups and steps do to their equality
    baseline       the output-space baseline with placeholder weights and with the correct ones
    responses      Theorem 2's condition and conclusion on sampled responses
"""

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch

from entropy_theory.audit import baseline, one_sided, policies, reproduction, sign_rule
from entropy_theory.audit.baseline import Baseline, Responses
from entropy_theory.audit.one_sided import OneSided, Tie
from entropy_theory.audit.reproduction import Reproduction
from entropy_theory.audit.sign_rule import Confidence, SignRule

__all__ = ["TABLES", "Row", "audit", "cells", "exit_code", "summary"]

Row = Reproduction | SignRule | Confidence | OneSided | Tie | Baseline | Responses

TABLES: dict[str, type[Row]] = {
    "reproduction": Reproduction,
    "sign_rule": SignRule,
    "confidence": Confidence,
    "one_sided": OneSided,
    "tie": Tie,
    "baseline": Baseline,
    "responses": Responses,
}


def audit(seed: int) -> Iterator[list[Row]]:
    """Yield the rows of the audit, cell by cell; every part draws from a stream of its own.

    Args:
        seed: of all random policies.
    """

    def stream(part: int) -> torch.Generator:
        return torch.Generator().manual_seed(1000 * seed + part)

    for number in reproduction.reproductions(stream(0)):
        yield [number]
    for row, split in sign_rule.sign_rule_map(stream(1)):
        yield [row, *split]
    generator = stream(2)
    for setting in one_sided.settings(generator):
        yield [*one_sided.expected_first_orders(setting), *one_sided.ties(setting, generator)]
    for compared, responses in baseline.baselines(stream(3)):
        yield [compared, *responses]


def cells() -> int:
    """Return how many times `audit` yields.

    >>> cells() > 200
    True
    """
    numbers = sum((row.claimed is not None) + len(reproduction.ROUNDING) - 1 for row in reproduction.REFERENCES)
    grid = sum(len(policies.targets(vocabulary)) for vocabulary in policies.VOCABULARIES) * len(policies.FAMILIES)
    others = len(baseline.VOCABULARIES) * len(policies.FAMILIES) * len(baseline.TARGETS)
    return numbers + grid + len(one_sided.SETTINGS) + others


def exit_code(rows: Mapping[str, Sequence[Any]]) -> int:
    """Return 1 if a reference number is 5 standard errors or more from ours or the half-half identity fails, else 0."""
    far = max(abs(row.z) for row in rows["reproduction"]) >= 5
    return int(far or worst_weighted(rows) > 1e-9)


def worst_weighted(rows: Mapping[str, Sequence[Any]]) -> float:
    """Return how far the |Delta H|-weighted frequency is from one half, at worst."""
    return max(abs(row.weighted - 0.5) for row in rows["sign_rule"])


def summary(rows: Mapping[str, Sequence[Any]]) -> Iterator[str]:
    """Yield what the tables say, a line a finding."""
    found, grid = rows["reproduction"], rows["sign_rule"]
    worst = max(found, key=lambda row: abs(row.z))
    yield (
        f"reproduction: {len(found)} numbers, largest |z| {abs(worst.z):.1f} "
        f"(V={worst.vocabulary}, alpha={worst.alpha}, {worst.quantity})"
    )
    yield f"weighted by |dH| the sign rule holds for one half: off by at most {worst_weighted(rows):.0e}"
    for target in (0.3, 4.0):
        for family in policies.FAMILIES:
            near = [row for row in grid if row.family == family and abs(row.entropy / target - 1) < 0.3]
            if near:
                row = near[-1]
                yield (
                    f"sign rule, {family}, V={row.vocabulary}, H={row.entropy:.2f}: holds {row.holds:.2f}, claimed "
                    f"{row.claimed:.2f}; drift D {row.drift:+.4f}"
                )
    apart = max(abs(row.ratio - 1) for row in rows["one_sided"] if row.denominator == "all rollouts")
    yield f"positives-only / negatives-only, both over all rollouts: expected first order equal to {apart:.0e}"
    small = [row for row in rows["tie"] if row.learning_rate <= 0.1 and row.group_size >= 8]
    beyond = max(abs(row.z_second_order) for row in small)
    yield (
        f"the tie at eta <= 0.1, G >= 8: broken (|z| from {min(abs(row.z) for row in small):.0f}), and X4's second "
        f"order explains it (|z| of the rest up to {beyond:.1f})"
    )
    for family in policies.FAMILIES:
        largest = [row for row in rows["baseline"] if row.family == family and row.vocabulary == 151_936]
        if not largest:
            continue
        row = min(largest, key=lambda row: abs(math.log(row.entropy / 0.3)))
        yield (
            f"baseline, {row.family}, V={row.vocabulary}, H={row.entropy:.2f}: log p {row.log_prob:.2f}, correct "
            f"(median) {row.median_baseline:.2f}, placeholder {row.placeholder:.0f} of weight "
            f"{row.placeholder_weight:.1f}"
        )
    for tokens in baseline.LENGTHS:
        same = [row for row in rows["responses"] if row.tokens == tokens]
        condition, rule, agree = (
            statistics.quantiles([getattr(row, name) for row in same], n=10) for name in ("condition", "rule", "agree")
        )
        yield (
            f"Theorem 2 at {tokens} tokens, median (10 to 90 % of cells): condition holds for {condition[4]:.0%} "
            f"({condition[0]:.0%} to {condition[8]:.0%}), its conclusion for {rule[4]:.0%} ({rule[0]:.0%} to "
            f"{rule[8]:.0%}), both say the same for {agree[4]:.0%} ({agree[0]:.0%} to {agree[8]:.0%})"
        )
