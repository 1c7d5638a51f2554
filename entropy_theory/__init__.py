"""Per-step entropy change of softmax policies: exact, to known order, and per sampled token (all in nats)."""

from entropy_theory.change import entropy_change, first_order_change, second_order_change
from entropy_theory.softmax import Softmax, entropy, policy_of
from entropy_theory.statistics import TokenStatistics, token_statistics
from entropy_theory.updates import sampled_token_delta

__all__ = [
    "Softmax",
    "TokenStatistics",
    "entropy",
    "entropy_change",
    "first_order_change",
    "policy_of",
    "sampled_token_delta",
    "second_order_change",
    "token_statistics",
]
