"""Positives-only against negatives-only: the same expected first-order change, and what breaks the tie.

Rewards are 0 or 1. Positives-only (RAFT++) steps on the right rollouts with advantage 1, negatives-only (NSR) on the
wrong ones with -1. On-policy and in expectation both follow the gradient of the expected reward (X3); the denominator
decides how fast. Reuse, clipping and optimisers are left to simulations.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from entropy_theory.audit.policies import gaussian
from entropy_theory.change import entropy_change, first_order_change
from entropy_theory.every_token import every_token
from entropy_theory.expectation import expected_change
from entropy_theory.softmax import policy_of

GROUP_SIZES = (2, 8, 64)
LEARNING_RATES = (0.02, 0.1, 0.3, 1.0)
EPSILON = 1e-6  # added to GRPO's standard deviation
DRAWS = 40_000  # groups a cell
# Entropy of each policy, and whether its likeliest arms are the right ones.
SETTINGS = {
    "high entropy": (2.57, False),
    "middle": (1.2, False),
    "low entropy": (0.4, False),
    "low entropy, learnt": (0.4, True),
}
DENOMINATORS = ("all rollouts", "kept rollouts", "GRPO, all rollouts")


@dataclass(frozen=True)
class Setting:
    """A policy with its right arms.

    Args:
        name: what the tables call it.
        logits: `[V]`.
        right: `[V]`, True where the reward is 1.
    """

    name: str
    logits: Float[Tensor, " V"]
    right: Bool[Tensor, " V"]

    @property
    def accuracy(self) -> float:
        """Probability of a right arm."""
        return float((policy_of(self.logits).probs * self.right).sum())


def settings(generator: torch.Generator) -> list[Setting]:
    """Return policies of 20 arms, 5 of them right: from the start of training to a policy that has learnt."""
    right = torch.arange(20) % 4 == 0
    # The arms in an order that has the right ones first.
    ranked = torch.cat([right.nonzero()[:, 0], (~right).nonzero()[:, 0]])
    found = []
    for name, (target, learnt) in SETTINGS.items():
        logits = gaussian(20, target, 1, generator).logits[0]
        if learnt:
            logits = torch.empty_like(logits).scatter(0, ranked, logits.sort(descending=True).values)
        found.append(Setting(name, logits, right))
    return found


@dataclass(frozen=True)
class OneSided:
    """Expected first-order change of a group's step at learning rate 1, exact over all groups.

    Args:
        policy: which.
        entropy: H, nats.
        accuracy: probability of a right arm.
        group_size: G.
        denominator: what the loss divides by, and how advantages are made.
        positives: expected change of keeping the right rollouts, nats.
        negatives: expected change of keeping the wrong ones, nats.
        ratio: positives / negatives.
    """

    policy: str
    entropy: float
    accuracy: float
    group_size: int
    denominator: str
    positives: float
    negatives: float
    ratio: float


def step_weights(right: int, size: int, denominator: str) -> tuple[float, float]:
    """Return the total weight of right rollouts' scores in a positives-only step, and of wrong ones' in the other.

    Args:
        right: right rollouts in the group.
        size: G.
        denominator: one of `DENOMINATORS`.
    """
    wrong = size - right
    if denominator == "kept rollouts":
        return float(right > 0), -float(wrong > 0)
    if denominator == "all rollouts":
        return right / size, -wrong / size
    mean = right / size
    deviation = math.sqrt(size / (size - 1) * mean * (1 - mean)) + EPSILON
    return mean * (1 - mean) / deviation, -(1 - mean) * mean / deviation


def expected_first_orders(setting: Setting) -> Iterator[OneSided]:
    """Yield the exact expectations: binomial in the number of right rollouts, whose tokens are p restricted to them.

    With e_1 = E[S - N | right] and e_0 = E[S - N | wrong], a group with weights (w_1, w_0) changes entropy by
    -w_1 e_1 or -w_0 e_0 at first order.
    """
    policy, influence = policy_of(setting.logits), every_token(setting.logits).influence
    accuracy = setting.accuracy
    of_right = float((policy.probs * influence * setting.right).sum()) / accuracy
    of_wrong = float((policy.probs * influence * ~setting.right).sum()) / (1 - accuracy)
    for size in GROUP_SIZES:
        odds = [math.comb(size, n) * accuracy**n * (1 - accuracy) ** (size - n) for n in range(size + 1)]
        for denominator in DENOMINATORS:
            weights = [step_weights(n, size, denominator) for n in range(size + 1)]
            positives = -of_right * sum(odd * weight for odd, (weight, _) in zip(odds, weights, strict=True))
            negatives = -of_wrong * sum(odd * weight for odd, (_, weight) in zip(odds, weights, strict=True))
            yield OneSided(
                setting.name, float(policy.entropy), accuracy, size, denominator, positives, negatives,
                positives / negatives,
            )  # fmt: skip


@dataclass(frozen=True)
class Tie:
    """The exact changes of both steps on the same sampled groups, both divided by G.

    Args:
        policy: which.
        entropy: H, nats.
        group_size: G.
        learning_rate: eta.
        groups: how many were drawn.
        positives: mean exact change of the positives-only step, nats.
        negatives: mean exact change of the negatives-only step, nats.
        difference: positives - negatives, paired over groups, less the first-order change of the difference of the two
            steps: a constant advantage's, whose mean is 0 (X2), taken out as a control variate.
        difference_se: its standard error.
        z: difference / difference_se: whether the tie is broken.
        second_order: the difference that X4 predicts: eta^2 / 2G times E[(2 r - 1) (e_y - p)' Hessian (e_y - p)].
        z_second_order: (difference - second_order) / difference_se: whether more than second order breaks it.
    """

    policy: str
    entropy: float
    group_size: int
    learning_rate: float
    groups: int
    positives: float
    negatives: float
    difference: float
    difference_se: float
    z: float
    second_order: float
    z_second_order: float


def ties(setting: Setting, generator: torch.Generator) -> Iterator[Tie]:
    """Yield the measured difference of both steps for every group size and learning rate."""
    policy = policy_of(setting.logits)
    reward = setting.right.double()
    for size in GROUP_SIZES:
        drawn = torch.multinomial(policy.probs, DRAWS * size, replacement=True, generator=generator)
        counts = torch.zeros(DRAWS, len(reward), dtype=torch.float64)
        counts.scatter_add_(1, drawn.view(DRAWS, size), torch.ones(DRAWS, size, dtype=torch.float64))
        # sum_y a_y (e_y - p) over a group, from how often each arm was drawn.
        steps = [
            (counts * advantage - (counts * advantage).sum(-1, keepdim=True) * policy.probs) / size
            for advantage in (reward, reward - 1)
        ]
        logits = setting.logits.expand_as(counts)
        for rate in LEARNING_RATES:
            up, down = (entropy_change(logits, rate * step) for step in steps)
            second = [
                float(expected_change(setting.logits, advantage, rate, group_size=size, order=2))
                for advantage in (reward, reward - 1)
            ]
            beyond = up - down - first_order_change(logits, rate * (steps[0] - steps[1]))
            difference, error = float(beyond.mean()), float(beyond.std() / math.sqrt(DRAWS))
            predicted = second[0] - second[1]
            yield Tie(
                setting.name, float(policy.entropy), size, rate, DRAWS, float(up.mean()), float(down.mean()),
                difference, error, difference / error, predicted, (difference - predicted) / error,
            )  # fmt: skip
