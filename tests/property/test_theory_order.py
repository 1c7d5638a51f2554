"""The measured order of convergence: halving the step divides the error of each order by 4 and by 8."""

import math

import pytest
import torch

from entropy_theory import entropy_change, first_order_change, sampled_token_delta, second_order_change

# Steps 2^-5 to 2^-9. The next order adds a relative error of about the step (3 % at most, mostly less), which bends a
# slope by less than 0.05. Rounding is 1e-16 of H: at the smallest step the third-order error, about 0.1 h^3 = 7e-10,
# stands a million times above it.
STEPS = [2.0**-halvings for halvings in range(5, 10)]
SLOPE_BOUND = 0.05
POLICIES = 400


def random_policies(arms, scale):
    generator = torch.Generator().manual_seed(1000 * arms + int(10 * scale))
    logits = scale * torch.randn(POLICIES, arms, generator=generator)
    direction = torch.randn(POLICIES, arms, generator=generator)
    return logits, direction, torch.randint(arms, (POLICIES,), generator=generator)


def errors(logits, direction):
    """|exact - first| and |exact - first - second|, each `[steps, policies]`."""
    of_first, of_second = [], []
    for step in STEPS:
        delta = step * direction
        residual = entropy_change(logits, delta) - first_order_change(logits, delta)
        of_first.append(residual.abs())
        of_second.append((residual - second_order_change(logits, delta)).abs())
    return torch.stack(of_first), torch.stack(of_second)


def slopes(sizes):
    """Least-squares slope of log error on log step, one for each column."""
    x = torch.tensor(STEPS).log()
    x = x - x.mean()
    return (x[:, None] * sizes.log()).sum(0) / x.square().sum()


def assert_order(sizes, order):
    pooled = sizes.square().mean(1).sqrt()  # one policy's error may cross zero, that of all of them together cannot
    ratios = pooled[:-1] / pooled[1:]
    assert slopes(pooled[:, None]).item() == pytest.approx(order, abs=SLOPE_BOUND)
    assert slopes(sizes).median().item() == pytest.approx(order, abs=SLOPE_BOUND)
    assert ratios.log2().tolist() == pytest.approx([order] * len(ratios), abs=2 * SLOPE_BOUND)


@pytest.mark.parametrize(("arms", "scale"), [(2, 1.0), (5, 0.5), (5, 2.0), (20, 1.0), (20, 3.0)])
def test_any_step(arms, scale):
    logits, direction, _ = random_policies(arms, scale)
    of_first, of_second = errors(logits, direction)
    assert_order(of_first, 2)
    assert_order(of_second, 3)


@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.parametrize(("arms", "scale"), [(5, 2.0), (20, 1.0)])
def test_sampled_token_steps(arms, scale, sign):
    logits, _, token = random_policies(arms, scale)
    of_first, of_second = errors(logits, sampled_token_delta(logits, token, sign))
    assert_order(of_first, 2)
    assert_order(of_second, 3)


def test_masked_policies():
    logits, direction, _ = random_policies(8, 1.0)
    logits[:, ::3] = -math.inf
    of_first, of_second = errors(logits, direction)
    assert_order(of_first, 2)
    assert_order(of_second, 3)
