"""Per-step entropy change of softmax policies: exact, to known order, and per sampled token (all in nats)."""

from entropy_theory.bounds import RemainderBound, remainder_bound
from entropy_theory.change import entropy_change, first_order_change, second_order_change, third_order_change
from entropy_theory.chunked import chunked_token_statistics, fused_token_statistics
from entropy_theory.every_token import EveryToken, every_token, sampled_changes
from entropy_theory.expectation import (
    drift_coefficient,
    entropy_bonus_change,
    expected_change,
    expected_natural_gradient_change,
    natural_gradient_change,
)
from entropy_theory.measured import MeasuredTheorem1, MeasuredTheorem2, measured_theorem1, measured_theorem2
from entropy_theory.network import DirectionalChange, directional_change
from entropy_theory.sequence import chain_rule_entropy, enumerated_entropy, response_entropy
from entropy_theory.softmax import Softmax, entropy, policy_of
from entropy_theory.statistics import TokenStatistics, token_statistics
from entropy_theory.theorems import Theorem1, Theorem2, theorem1, theorem2
from entropy_theory.updates import sampled_token_delta

__all__ = [
    "DirectionalChange",
    "EveryToken",
    "MeasuredTheorem1",
    "MeasuredTheorem2",
    "RemainderBound",
    "Softmax",
    "Theorem1",
    "Theorem2",
    "TokenStatistics",
    "chain_rule_entropy",
    "chunked_token_statistics",
    "directional_change",
    "drift_coefficient",
    "entropy",
    "entropy_bonus_change",
    "entropy_change",
    "enumerated_entropy",
    "every_token",
    "expected_change",
    "expected_natural_gradient_change",
    "first_order_change",
    "fused_token_statistics",
    "measured_theorem1",
    "measured_theorem2",
    "natural_gradient_change",
    "policy_of",
    "remainder_bound",
    "response_entropy",
    "sampled_changes",
    "sampled_token_delta",
    "second_order_change",
    "theorem1",
    "theorem2",
    "third_order_change",
    "token_statistics",
]
