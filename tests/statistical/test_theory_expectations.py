"""Expectations over sampled tokens: constant advantage, its drift, and advantage functions (X1, X2, X3, X4).

Monte-Carlo means are asked to lie within 5 standard errors. For a normal mean that fails by chance once in 1.7 million
comparisons; the seeds are fixed, so a run that passes passes always. Each planted bias must exceed the same bound.
"""

import itertools
import math

import pytest
import torch

from entropy_theory import (
    entropy_change,
    first_order_change,
    policy_of,
    sampled_token_delta,
    second_order_change,
    token_statistics,
)

CLOSED_FORM = 1e-10
STANDARD_ERRORS = 5.0
SAMPLES = 100_000

POLICIES = {
    "nearly certain": [0.9, 0.05, 0.03, 0.02],
    "skewed": [0.5, 0.25, 0.15, 0.06, 0.04],
    "nearly uniform": [0.3, 0.25, 0.2, 0.25],
    "two arms": [0.7, 0.3],
}
ADVANTAGE = [1.0, -0.5, 0.3, 2.0, -1.2]  # an advantage function a(k), as long as the longest policy


def logits_of(name):
    return torch.tensor(POLICIES[name]).log() + 0.4


def every_token(logits):
    """The row repeated once for each arm, and the arms."""
    arms = logits.shape[-1]
    return logits.expand(arms, arms), torch.arange(arms)


def sampled(logits, *shape, seed):
    draws = torch.multinomial(
        logits.softmax(-1), math.prod(shape), replacement=True, generator=torch.Generator().manual_seed(seed)
    )
    return draws.view(shape)


def z_score(values, expected=0.0):
    return ((values.mean() - expected) / (values.std() / math.sqrt(len(values)))).item()


def drift(probs):
    """D(p) of theory.md X4: -n_2 - sum p^2 L + 2 sum p^3 + 3 sum p^3 L - n_2^2 - 2 n_2 sum p^2 L."""
    centred = probs.log() - (probs * probs.log()).sum()
    collision, squares = probs.square().sum(), (probs**2 * centred).sum()
    cubes = 2 * (probs**3).sum() + 3 * (probs**3 * centred).sum()
    return -collision - squares + cubes - collision**2 - 2 * collision * squares


@pytest.mark.parametrize("advantage", [1.0, -1.0])
@pytest.mark.parametrize("name", POLICIES)
def test_constant_advantage_moves_nothing_at_first_order(name, advantage):
    logits = logits_of(name)
    tokens = sampled(logits, SAMPLES, seed=1)
    rows = logits.expand(SAMPLES, -1)
    changes = first_order_change(rows, sampled_token_delta(rows, tokens, advantage))
    assert abs(z_score(changes)) < STANDARD_ERRORS

    without_mean = -advantage * token_statistics(rows, tokens).discriminator  # planted: N dropped, a bias of N
    assert abs(z_score(without_mean)) > STANDARD_ERRORS


@pytest.mark.parametrize("name", ["nearly certain", "skewed", "two arms"])
def test_off_policy_tokens_do_move_the_mean(name):
    # planted: tokens drawn from a flatter policy than the one that is updated
    logits = logits_of(name)
    rows, tokens = logits.expand(SAMPLES, -1), sampled(0.8 * logits, SAMPLES, seed=2)
    changes = first_order_change(rows, sampled_token_delta(rows, tokens, 1.0))
    assert abs(z_score(changes)) > STANDARD_ERRORS


@pytest.mark.parametrize("advantage", [1.0, -1.0])
@pytest.mark.parametrize("name", POLICIES)
def test_drift_is_twice_the_expected_second_order(name, advantage):
    # G = 1, eta = 1: E[second order] = 1/2 E[(e_k - p)' (Hessian of H) (e_k - p)] = D / 2, for either sign of A
    rows, tokens = every_token(logits_of(name))
    second = second_order_change(rows, sampled_token_delta(rows, tokens, advantage))
    p = torch.tensor(POLICIES[name])
    torch.testing.assert_close(2 * (p * second).sum(), drift(p), rtol=0, atol=CLOSED_FORM)


def test_drift_by_hand():
    # uniform, K = 4: L = 0, so D = -1/4 + 2/16 - 1/16 = -3/16
    assert drift(torch.full((4,), 0.25)).item() == pytest.approx(-3 / 16, abs=CLOSED_FORM)
    # p = (1/2, 1/3, 1/6): lowers entropy; p = (9/10, 1/20, 1/20): raises it (both worked to 30 digits)
    assert drift(torch.tensor([1 / 2, 1 / 3, 1 / 6])).item() == pytest.approx(-0.19365702120502, abs=CLOSED_FORM)
    assert drift(torch.tensor([0.9, 0.05, 0.05])).item() == pytest.approx(0.027919956685392, abs=CLOSED_FORM)


@pytest.mark.parametrize("name", POLICIES)
def test_drift_is_the_exact_change_that_is_left_on_average(name):
    # The exact change, averaged over tokens and both signs of A, is eta^2 D / 2 + O(eta^4): no formula of ours but D.
    rows, tokens = every_token(logits_of(name))
    p = torch.tensor(POLICIES[name])
    gaps = []
    for eta in (0.02, 0.01):
        means = [(p * entropy_change(rows, sampled_token_delta(rows, tokens, a))).sum() for a in (eta, -eta)]
        gaps.append((sum(means) / 2 / (eta**2 / 2) - drift(p)).abs().item())
    assert gaps[0] < 0.02**2 * 10  # the fourth-order coefficient is of order one
    assert gaps[0] / gaps[1] == pytest.approx(4, rel=0.05)


@pytest.mark.parametrize("name", POLICIES)
def test_drift_of_a_group_is_divided_by_its_size(name):
    group, groups = 8, 20_000
    logits = logits_of(name)
    rows = logits.expand(groups, group, -1)
    tokens = sampled(logits, groups, group, seed=3)
    delta = sampled_token_delta(rows, tokens, 1.0).mean(1)
    second = second_order_change(rows[:, 0], delta)
    expected = drift(torch.tensor(POLICIES[name])).item() / (2 * group)
    assert abs(z_score(second, expected)) < STANDARD_ERRORS
    assert abs(z_score(second, expected * group)) > STANDARD_ERRORS  # planted: the division by G forgotten


@pytest.mark.parametrize("name", POLICIES)
def test_advantage_function_acts_by_its_covariance_with_the_discriminator(name):
    # X1: E[change] = -eta Cov_p(a, S) = -eta Cov_p(log p, p (a - E_p a))
    logits, eta = logits_of(name), 0.3
    rows, tokens = every_token(logits)
    p, policy = torch.tensor(POLICIES[name]), policy_of(logits)
    advantage = torch.tensor(ADVANTAGE[: len(p)])
    expected = (p * first_order_change(rows, sampled_token_delta(rows, tokens, eta * advantage))).sum()
    covariance = (p * (advantage - (p * advantage).sum()) * policy.discriminator).sum()
    torch.testing.assert_close(expected, -eta * covariance, rtol=0, atol=CLOSED_FORM)
    mean_step = p * (advantage - (p * advantage).sum())  # the expected gradient, as one step
    torch.testing.assert_close(expected, first_order_change(logits, eta * mean_step), rtol=0, atol=CLOSED_FORM)


@pytest.mark.parametrize("name", POLICIES)
def test_positives_only_and_negatives_only_move_entropy_alike(name):
    # X3: r in {0, 1} and r - 1 differ by a constant advantage
    rows, tokens = every_token(logits_of(name))
    p = torch.tensor(POLICIES[name])
    reward = (torch.arange(len(p)) % 2).to(p)
    kept = [(p * first_order_change(rows, sampled_token_delta(rows, tokens, a))).sum() for a in (reward, reward - 1)]
    torch.testing.assert_close(*kept, rtol=0, atol=CLOSED_FORM)
    assert kept[0].abs() > 1e-3  # both move, so that their agreement says something


@pytest.mark.parametrize("name", POLICIES)
def test_second_order_of_a_pair_splits_into_mean_and_noise(name):
    # X4 in full at G = 2, by enumerating both tokens; eta = 1, so 1/2 v' (Hessian) v is second_order_change(v)
    logits = logits_of(name)
    p = torch.tensor(POLICIES[name])
    advantage = torch.tensor(ADVANTAGE[: len(p)])
    one, other = torch.tensor(list(itertools.product(range(len(p)), repeat=2))).T
    rows = logits.expand(len(one), -1)
    steps = [sampled_token_delta(rows, token, advantage[token]) for token in (one, other)]
    enumerated = (p[one] * p[other] * second_order_change(rows, sum(steps) / 2)).sum()

    alone, tokens = every_token(logits)
    noise = (p * second_order_change(alone, sampled_token_delta(alone, tokens, advantage))).sum()
    mean = second_order_change(logits, p * (advantage - (p * advantage).sum()))
    torch.testing.assert_close(enumerated, (1 - 1 / 2) * mean + (1 / 2) * noise, rtol=0, atol=CLOSED_FORM)
