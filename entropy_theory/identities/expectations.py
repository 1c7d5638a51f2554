"""X1 to X4 and the field's statements on expectations: closed forms against enumeration of what is sampled."""

import torch
from jaxtyping import Float
from torch import Tensor

from entropy_theory.change import entropy_change, first_order_change, second_order_change
from entropy_theory.expectation import (
    drift_coefficient,
    expected_change,
    expected_natural_gradient_change,
    natural_gradient_change,
)
from entropy_theory.identities.cases import Case, Identity, Order
from entropy_theory.softmax import Softmax, policy_of
from entropy_theory.statistics import token_statistics
from entropy_theory.updates import sampled_token_delta

LARGEST = 20  # arms of the cases whose samples, or pairs of samples, are enumerated


def influences(case: Case) -> tuple[Softmax, Float[Tensor, "N K"]]:
    """Return the policy, and S_k - N of every token."""
    found = token_statistics(*case.every_token())
    return policy_of(case.logits), found.discriminator - found.mean_discriminator


def over_tokens(case: Case, advantages: Tensor) -> Tensor:
    """Return the mean over sampled tokens of the first-order change of their steps, at learning rate 1."""
    logits, tokens = case.every_token()
    changes = first_order_change(logits, sampled_token_delta(logits, tokens, advantages))
    return policy_of(case.logits).mean(changes)


def covariance(case: Case) -> Tensor:
    """-eta Cov(a, S) less the mean over every sampled token."""
    return (expected_change(case.logits, case.advantages, 1.0) - over_tokens(case, case.advantages)).abs()


def natural_covariance(case: Case) -> Tensor:
    """-eta Cov(log p, a) less the mean of -eta a_k L_k; masked arms are given another arm's place, and no weight."""
    policy = policy_of(case.logits)
    logits, tokens = case.every_token()
    tokens = tokens.where(policy.probs > 0, case.token[:, None])
    changes = natural_gradient_change(logits, tokens, 1.0) * case.advantages
    closed = expected_natural_gradient_change(case.logits, case.advantages, 1.0)
    return (closed - policy.mean(changes)).abs()


def constant_moves_nothing(case: Case) -> Tensor:
    """E[S_k - N], and the closed form for a constant advantage."""
    policy, effect = influences(case)
    return policy.mean(effect).abs() + expected_change(case.logits, torch.full_like(case.logits, 3.0), 1.0).abs()


def half_and_half(case: Case) -> Tensor:
    """E[max(S_k - N, 0)] less half of E|S_k - N|."""
    policy, effect = influences(case)
    return (policy.mean(effect.clamp(min=0)) - policy.mean(effect.abs()) / 2).abs()


def both_sides_alike(case: Case) -> Tensor:
    """Positives-only less negatives-only, both over all rollouts, for rewards in {0, 1}."""
    reward = (case.advantages > 0).double()
    return (over_tokens(case, reward) - over_tokens(case, reward - 1)).abs()


def pairs(case: Case, value: object, size: float = 1.0) -> Tensor:
    """Return the mean of value(logits, step) over every pair of sampled tokens, G = 2."""
    arms, p = case.arms, policy_of(case.logits).probs
    each = sampled_token_delta(*case.every_token(), size * case.advantages)
    total = torch.zeros(len(case.logits), dtype=torch.float64, device=case.logits.device)
    for other in range(arms):
        steps = (each + each[:, other : other + 1]) / 2
        found = value(case.logits[:, None].expand(-1, arms, -1), steps)  # type: ignore[operator]
        total += p[:, other] * (p * found.masked_fill(p == 0, 0.0)).sum(-1)
    return total


def small(case: Case) -> Case:
    """Return the case with so few arms that pairs can be enumerated; one row keeps its distribution at least."""
    if case.arms <= LARGEST:
        return case
    logits = case.logits[:, :LARGEST].clone()
    logits[:, 0] = logits[:, 0].where(logits[:, 0].isfinite(), 0.0)
    return Case(logits, case.delta[:, :LARGEST], case.token.clamp(max=0), case.advantages[:, :LARGEST])


def pair_curvature(case: Case) -> Tensor:
    """Order-2 expectation at G = 2 less first plus second order over every pair."""
    few = small(case)
    closed = expected_change(few.logits, few.advantages, 1.0, group_size=2, order=2)
    return (closed - pairs(few, lambda z, v: first_order_change(z, v) + second_order_change(z, v))).abs()


def drift(case: Case) -> Tensor:
    """D / 2 less the mean second order of single samples with advantage 1, and of those with -1."""
    logits, tokens = case.every_token()
    policy, half = policy_of(case.logits), drift_coefficient(case.logits) / 2
    up, down = (policy.mean(second_order_change(logits, sampled_token_delta(logits, tokens, a))) for a in (1.0, -1.0))
    return (up - half).abs() + (down - half).abs()


def unclipped_ratio(case: Case) -> Tensor:
    """E_q[(p / q)(S - N)] for another sampling policy q: off-policy with the exact ratio keeps X2."""
    policy, effect = influences(case)
    sampler = policy_of(0.7 * case.logits)
    ratio = (policy.log_probs - sampler.log_probs).masked_fill(sampler.probs == 0, 0.0).exp()
    return sampler.mean(ratio * effect).abs()


def repo_is_a_bonus(case: Case) -> Tensor:
    """E_k[-beta L_k (e_k - p)] less -beta S: a centred log-probability as advantage is an entropy bonus."""
    policy = policy_of(case.logits)
    step = policy.probs * policy.centre(-policy.centred)
    return (step + policy.discriminator).abs().amax(-1)


def step_size(case: Case) -> Tensor:
    """E|e_k - p|^2 less 1 - n_2, and what 1 - n_2 has beyond 1 - exp(-H)."""
    policy = policy_of(case.logits)
    logits, tokens = case.every_token()
    mean = policy.mean(sampled_token_delta(logits, tokens, 1.0).square().sum(-1))
    spread = 1 - policy.mean(policy.probs)
    return (mean - spread).abs() + (spread - 1 + (-policy.entropy).exp()).clamp(min=0)


def residual(case: Case, size: float, order: int) -> Tensor:
    """Return the exact mean change over every pair of samples less its expectation to an order."""
    few = small(case)
    closed = expected_change(few.logits, few.advantages, size, group_size=2, order=1 if order == 1 else 2)
    return pairs(few, entropy_change, size) - closed


EQUALITIES = (
    Identity("X1", "mean first order of sampled steps = -eta Cov(a, S)", covariance),
    Identity("X1", "natural gradient: mean = -eta Cov(log p, a)", natural_covariance),
    Identity("X2", "a constant advantage moves nothing: E[S_k - N] = 0", constant_moves_nothing),
    Identity("X2", "weighted by |dH|, the sign rule holds for one half", half_and_half),
    Identity("X3", "positives-only = negatives-only, both over all G", both_sides_alike),
    Identity("X4", "order 2 at G = 2 = mean over every pair of samples", pair_curvature, 1e-9),
    Identity("X4", "D/2 = mean second order of single samples, a = 1 and -1", drift),
    Identity("X6", "off-policy, exact ratio: E_q[(p/q)(S - N)] = 0", unclipped_ratio),
    Identity("T10", "advantage -beta L in expectation = entropy bonus", repo_is_a_bonus),
    Identity("T16", "E|e_k - p|^2 = 1 - n_2 <= 1 - exp(-H)", step_size),
)

ORDERS = (
    Order("X1", "exact mean over pairs - order 1", lambda case, size: residual(case, size, 1), 2),
    Order("X4", "exact mean over pairs - order 2", lambda case, size: residual(case, size, 2), 3, 0.15),
)
