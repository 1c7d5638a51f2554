"""Expected changes against exact enumeration of the samples, and natural-gradient and bonus steps against E2."""

import itertools
import math

import pytest
import torch

from entropy_theory import (
    drift_coefficient,
    entropy,
    entropy_bonus_change,
    entropy_change,
    expected_change,
    expected_natural_gradient_change,
    first_order_change,
    natural_gradient_change,
    sampled_token_delta,
    second_order_change,
)

CLOSED_FORM = 1e-10
POLICIES = [(2, 1.0, 0), (3, 2.0, 1), (5, 0.5, 2), (6, 3.0, 3)]


def close(found, expected):
    torch.testing.assert_close(found, expected, rtol=0, atol=CLOSED_FORM)


def policy_and_advantages(arms, scale, seed):
    generator = torch.Generator().manual_seed(seed)
    return scale * torch.randn(arms, generator=generator), torch.randn(arms, generator=generator)


def enumerated(change, logits, advantages, rate, group):
    """The mean of a change over every group of on-policy samples, each with its probability."""
    probs, total = logits.softmax(-1), torch.tensor(0.0)
    for samples in itertools.product(range(len(logits)), repeat=group):
        drawn = torch.tensor(samples)
        steps = sampled_token_delta(logits.expand(group, -1), drawn, advantages[drawn])
        total = total + probs[drawn].prod() * change(logits, rate * steps.mean(0))
    return total


@pytest.mark.parametrize("group", [1, 2, 3])
@pytest.mark.parametrize(("arms", "scale", "seed"), POLICIES[:3])
def test_each_order_is_the_enumerated_mean_of_that_order(arms, scale, seed, group):
    logits, advantages = policy_and_advantages(arms, scale, seed)
    first = enumerated(first_order_change, logits, advantages, 0.7, group)
    second = enumerated(second_order_change, logits, advantages, 0.7, group)
    close(expected_change(logits, advantages, 0.7, group), first)
    close(expected_change(logits, advantages, 0.7, group, order=2), first + second)


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("group", [1, 2])
@pytest.mark.parametrize(("arms", "scale", "seed"), POLICIES)
def test_the_error_falls_as_the_next_power_of_the_rate(arms, scale, seed, group, order):
    logits, advantages = policy_and_advantages(arms, scale, seed)
    errors = [
        enumerated(entropy_change, logits, advantages, rate, group)
        - expected_change(logits, advantages, rate, group, order)
        for rate in (0.004, 0.002)
    ]
    assert math.log2(errors[0] / errors[1]) == pytest.approx(order + 1, abs=0.05)


@pytest.mark.parametrize(("arms", "scale", "seed"), POLICIES)
def test_a_constant_advantage_leaves_only_the_drift(arms, scale, seed):
    logits, _ = policy_and_advantages(arms, scale, seed)
    close(expected_change(logits, torch.full((arms,), 3.0), 0.5), torch.tensor(0.0))
    for constant, group in ((1.0, 1), (-1.0, 4)):
        drift = expected_change(logits, torch.full((arms,), constant), 0.5, group, order=2)
        close(drift, 0.25 / (2 * group) * drift_coefficient(logits))


@pytest.mark.parametrize(("arms", "scale", "seed"), POLICIES)
def test_the_drift_is_twice_the_expected_second_order(arms, scale, seed):
    logits, _ = policy_and_advantages(arms, scale, seed)
    close(drift_coefficient(logits), 2 * enumerated(second_order_change, logits, torch.ones(arms), 1.0, 1))


@pytest.mark.parametrize("arms", [1, 2, 20, 1000])
def test_the_drift_of_the_uniform_policy_by_hand(arms):
    # L = 0 and n_2 = 1/V: -1/V + 2/V^2 - 1/V^2
    close(drift_coefficient(torch.zeros(arms)), torch.tensor(1 / arms**2 - 1 / arms))


def test_two_arms_by_hand():
    # p = (3/4, 1/4), a = (1, 0): S = +-(3/16) ln3, so -eta Cov_p(a, S) = -eta (3/16)(2)(3/16) ln3
    logits, advantages = torch.tensor([math.log(3), 0.0]), torch.tensor([1.0, 0.0])
    close(expected_change(logits, advantages, 0.1), torch.tensor(-0.1 * 2 * (3 / 16) ** 2 * math.log(3)))
    close(expected_natural_gradient_change(logits, advantages, 0.1), torch.tensor(-0.1 * 3 / 16 * math.log(3)))
    close(entropy_bonus_change(logits, 0.2, 0.1), torch.tensor(0.02 * 2 * (3 / 16 * math.log(3)) ** 2))


def test_masked_arms_take_no_part():
    logits, advantages = torch.tensor([1.0, -math.inf, 0.2, -0.4]), torch.tensor([0.3, math.nan, -0.1, 0.5])
    kept = torch.tensor([0, 2, 3])
    for order in (1, 2):
        close(
            expected_change(logits, advantages, 0.5, 2, order),
            expected_change(logits[kept], advantages[kept], 0.5, 2, order),
        )
    close(drift_coefficient(logits), drift_coefficient(logits[kept]))


@pytest.mark.parametrize(("arms", "scale", "seed"), POLICIES)
def test_a_natural_gradient_step_is_first_order_at_its_own_delta(arms, scale, seed):
    logits, advantages = policy_and_advantages(arms, scale, seed)
    steps = torch.eye(arms) / logits.softmax(-1)
    rows, tokens = logits.expand(arms, arms), torch.arange(arms)
    close(natural_gradient_change(rows, tokens, -0.3), first_order_change(rows, -0.3 * steps))
    close(expected_natural_gradient_change(logits, advantages, 0.3), first_order_change(logits, 0.3 * advantages))
    sampled = torch.stack([natural_gradient_change(logits, k, 0.3 * advantages[k].item()) for k in tokens])
    close(expected_natural_gradient_change(logits, advantages, 0.3), (logits.softmax(-1) * sampled).sum())


@pytest.mark.parametrize(("arms", "scale", "seed"), POLICIES)
def test_a_bonus_step_is_first_order_at_its_own_delta(arms, scale, seed):
    logits, _ = policy_and_advantages(arms, scale, seed)
    leaf = logits.clone().requires_grad_()
    (slope,) = torch.autograd.grad(entropy(leaf), leaf)
    found = entropy_bonus_change(logits, 0.2, 0.5)
    close(found, first_order_change(logits, 0.2 * 0.5 * slope))
    assert found.item() > 0


@pytest.mark.parametrize("rate", [0.0, -0.1, math.inf, math.nan])
def test_a_rate_that_is_not_above_zero_is_refused(rate):
    logits = torch.zeros(3)
    for call in (
        lambda: expected_change(logits, logits, rate),
        lambda: expected_natural_gradient_change(logits, logits, rate),
        lambda: entropy_bonus_change(logits, 0.1, rate),
    ):
        with pytest.raises(ValueError, match="learning_rate"):
            call()


@pytest.mark.parametrize("group", [0, -1])
def test_a_group_without_samples_is_refused(group):
    with pytest.raises(ValueError, match=f"group_size={group}"):
        expected_change(torch.zeros(3), torch.zeros(3), 0.1, group)
