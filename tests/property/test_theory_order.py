"""The measured order of convergence: halving the step divides the error of each order by 4, by 8 and by 16."""

import math

import pytest
import torch

from entropy_theory import (
    entropy_change,
    first_order_change,
    sampled_token_delta,
    second_order_change,
    third_order_change,
)

# Steps 2^-5 to 2^-9. The next order adds a relative error of about the step (3 % at most, mostly less), which bends a
# slope by less than 0.05. Rounding is 1e-16 of H: at the smallest step the third-order error, about 0.1 h^3 = 7e-10,
# stands a million times above it.
STEPS = [2.0**-halvings for halvings in range(5, 10)]
# For the third order 2^-4 to 2^-7, as its error, about 0.02 h^4, is down to 1e-11 there: still 1e4 times the rounding.
LONGER = [2.0**-halvings for halvings in range(4, 8)]
SLOPE_BOUND = 0.05
POLICIES = 400


def random_policies(arms, scale):
    generator = torch.Generator().manual_seed(1000 * arms + int(10 * scale))
    logits = scale * torch.randn(POLICIES, arms, generator=generator)
    direction = torch.randn(POLICIES, arms, generator=generator)
    return logits, direction, torch.randint(arms, (POLICIES,), generator=generator)


def errors(logits, direction, terms, steps):
    """What these terms leave out of the exact change in absolute value, `[steps, policies]`."""
    deltas = [step * direction for step in steps]
    left = [entropy_change(logits, delta) - sum(term(logits, delta) for term in terms) for delta in deltas]
    return torch.stack(left).abs()


def slopes(sizes, steps):
    """Least-squares slope of log error on log step, one for each column."""
    x = torch.tensor(steps).log()
    x = x - x.mean()
    return (x[:, None] * sizes.log()).sum(0) / x.square().sum()


def assert_orders(logits, direction):
    for count, steps in ((1, STEPS), (2, STEPS), (3, LONGER)):
        terms = (first_order_change, second_order_change, third_order_change)[:count]
        sizes, order = errors(logits, direction, terms, steps), count + 1
        pooled = sizes.square().mean(1).sqrt()  # one policy's error may cross zero, that of all of them together cannot
        ratios = pooled[:-1] / pooled[1:]
        assert slopes(pooled[:, None], steps).item() == pytest.approx(order, abs=SLOPE_BOUND)
        assert slopes(sizes, steps).median().item() == pytest.approx(order, abs=SLOPE_BOUND)
        assert ratios.log2().tolist() == pytest.approx([order] * len(ratios), abs=2 * SLOPE_BOUND)


@pytest.mark.parametrize(("arms", "scale"), [(2, 1.0), (5, 0.5), (5, 2.0), (20, 1.0), (20, 3.0)])
def test_any_step(arms, scale):
    logits, direction, _ = random_policies(arms, scale)
    assert_orders(logits, direction)


@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.parametrize(("arms", "scale"), [(5, 2.0), (20, 1.0)])
def test_sampled_token_steps(arms, scale, sign):
    logits, _, token = random_policies(arms, scale)
    assert_orders(logits, sampled_token_delta(logits, token, sign))


def test_masked_policies():
    logits, direction, _ = random_policies(8, 1.0)
    logits[:, ::3] = -math.inf
    assert_orders(logits, direction)


def test_a_third_order_of_the_wrong_sign_or_size_has_a_lower_order():
    # The check above can fail: with 99 % or minus the third term the error stays of the third power.
    logits, direction, _ = random_policies(5, 2.0)
    for share in (0.99, -1.0):
        terms = first_order_change, second_order_change, lambda z, d, share=share: share * third_order_change(z, d)
        assert slopes(errors(logits, direction, terms, LONGER), LONGER).median().item() < 4 - 2 * SLOPE_BOUND
