"""What must hold for every policy, step and mask: symmetries, bounds, closed forms and mean-zero influence (X2)."""

import math

import hypothesis.strategies as st
import torch
from hypothesis import given

from entropy_theory import (
    entropy,
    entropy_change,
    first_order_change,
    policy_of,
    sampled_token_delta,
    second_order_change,
    token_statistics,
)

CLOSED_FORM = 1e-10
ROUNDING = 1e-12  # sums of at most 30 terms of order one, each off by a few 1e-16
CHANGES = (entropy_change, first_order_change, second_order_change)


@st.composite
def policies(draw, most_arms=30):
    """Logits, a step and a token with mass: 2 to 30 arms, uniform to near-deterministic, any but all arms masked."""
    arms = draw(st.integers(2, most_arms))
    scale = draw(st.sampled_from([0.01, 1.0, 5.0, 30.0]))
    numbers = st.lists(st.floats(-1, 1), min_size=arms, max_size=arms)
    logits, delta = scale * torch.tensor(draw(numbers)), 2 * torch.tensor(draw(numbers))
    token = draw(st.integers(0, arms - 1))
    masked = torch.tensor(draw(st.lists(st.booleans(), min_size=arms, max_size=arms) | st.just([False] * arms)))
    masked[token] = False
    return logits.masked_fill(masked, -math.inf), delta, torch.tensor(token)


def close(actual, expected, within=CLOSED_FORM):
    torch.testing.assert_close(actual, expected, rtol=0, atol=within)


def influence(logits):
    """S_k - N of every token of one row."""
    arms = logits.shape[-1]
    statistics = token_statistics(logits.expand(arms, arms), torch.arange(arms))
    return statistics.discriminator - statistics.mean_discriminator


@given(policies(), st.floats(-1000, 1000), st.floats(-10, 10))
def test_common_shifts_change_nothing(policy, of_logits, of_delta):
    logits, delta, token = policy
    close(entropy(logits + of_logits), entropy(logits))
    for change in CHANGES:
        close(change(logits + of_logits, delta), change(logits, delta))
        close(change(logits, delta + of_delta), change(logits, delta))
    shifted = token_statistics(logits + of_logits, token)
    for name, value in vars(token_statistics(logits, token)).items():
        close(getattr(shifted, name), value)
    close(sampled_token_delta(logits + of_logits, token, 1.5), sampled_token_delta(logits, token, 1.5))


@given(policies(), st.randoms(use_true_random=False))
def test_renaming_the_arms_renames_the_results(policy, random):
    logits, delta, token = policy
    order = list(range(len(logits)))
    random.shuffle(order)
    renamed, place = logits[order], torch.tensor(order.index(token.item()))
    close(entropy(renamed), entropy(logits))
    for change in CHANGES:
        close(change(renamed, delta[order]), change(logits, delta))
    close(policy_of(renamed).discriminator, policy_of(logits).discriminator[order])
    close(sampled_token_delta(renamed, place, -0.4), sampled_token_delta(logits, token, -0.4)[order])
    statistics = token_statistics(renamed, place)
    for name, value in vars(token_statistics(logits, token)).items():
        close(getattr(statistics, name), value)


@given(policies(), st.floats(0.1, 3))
def test_first_order_is_odd_and_linear_second_is_even_and_quadratic(policy, factor):
    logits, delta, _ = policy
    first, second = first_order_change(logits, delta), second_order_change(logits, delta)
    close(first_order_change(logits, -delta), -first)
    close(second_order_change(logits, -delta), second)
    close(first_order_change(logits, factor * delta), factor * first)
    close(second_order_change(logits, factor * delta), factor**2 * second)


@given(policies(), policies())
def test_first_order_adds_over_steps(policy, other):
    logits, one, _ = policy
    another = other[1].repeat(15)[: len(one)]
    both = first_order_change(logits, one) + first_order_change(logits, another)
    close(first_order_change(logits, one + another), both)


@given(policies())
def test_entropy_lies_between_zero_and_the_log_of_the_arms_left(policy):
    logits, _, _ = policy
    assert 0 <= entropy(logits).item() <= math.log(logits.isfinite().sum().item()) + ROUNDING


@given(policies())
def test_there_and_back_again_changes_nothing(policy):
    logits, delta, _ = policy
    close(entropy_change(logits, delta), -entropy_change(logits + delta, -delta))
    close(entropy_change(logits, torch.zeros_like(delta)), torch.tensor(0.0))


@given(policies())
def test_orders_are_those_of_autograd(policy):
    logits, delta, _ = policy
    left = logits.isfinite()
    row, step = logits[left], delta[left]  # autograd on the arms that are left, the closed forms on all
    close(policy_of(logits).discriminator[left], -torch.autograd.functional.jacobian(entropy, row))
    _, slope = torch.autograd.functional.vjp(entropy, row)
    close(first_order_change(logits, delta), slope @ step)
    _, curved = torch.autograd.functional.vhp(entropy, row, step)
    close(second_order_change(logits, delta), 0.5 * curved @ step)


@given(policies(), st.floats(-2, 2))
def test_sampled_token_changes_entropy_by_minus_its_influence(policy, step):
    logits, _, token = policy
    statistics = token_statistics(logits, token)
    by_influence = -step * (statistics.discriminator - statistics.mean_discriminator)
    close(first_order_change(logits, sampled_token_delta(logits, token, step)), by_influence)


@given(policies())
def test_influence_averages_to_zero_with_half_on_each_sign(policy):
    logits, _, _ = policy
    p, effect = logits.softmax(-1), influence(logits)
    close((p * effect).sum(), torch.tensor(0.0))  # X2
    total = (p * effect.abs()).sum()
    close((p * effect.clamp(min=0)).sum(), total / 2)  # theory.md section 4: weighted by size, a coin toss
    close((p * effect.clamp(max=0)).sum(), -total / 2)
