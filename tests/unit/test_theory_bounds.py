"""The third order by hand; bounds on the remainder hold for every step tried, are tight, and shrink at their orders."""

import math

import pytest
import torch

from entropy_theory import (
    entropy,
    entropy_change,
    first_order_change,
    remainder_bound,
    second_order_change,
    third_order_change,
)

STEPS = [1e-4, 1e-3, 1e-2, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0]
SCALES = [0.1, 1.0, 3.0, 10.0, 30.0]
ROUNDING = 1e-12  # nats; the exact change is a difference of entropies


def errors_of(logits, delta):
    first, second = first_order_change(logits, delta), second_order_change(logits, delta)
    exact = entropy_change(logits, delta)
    return (exact - first).abs(), (exact - first - second).abs()


def assert_bounded(logits, delta):
    bound = remainder_bound(logits, delta)
    predictions = first_order_change(logits, delta).abs() + second_order_change(logits, delta).abs()
    for error, limit in zip(errors_of(logits, delta), (bound.first_order, bound.second_order), strict=True):
        assert bool((error <= limit * (1 + 1e-9) + 1e-14 * predictions + ROUNDING).all())


def steps_of(logits, step, seed):
    """Random steps, steps on one arm, and the steps along and against log p, which turn the policy around."""
    generator = torch.Generator().manual_seed(seed)
    arms = logits.shape[-1]
    arm = torch.nn.functional.one_hot(torch.randint(arms, logits.shape[:-1], generator=generator), arms).double()
    along = logits.masked_fill(logits.isneginf(), 0.0)
    along = along / along.abs().amax(-1, keepdim=True).clamp(min=1e-9)
    return [step * way for way in (torch.randn(logits.shape, generator=generator), arm, -arm, along, -along)]


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("arms", [1, 2, 5, 50, 1000])
def test_no_step_leaves_more_than_the_bound(arms, scale, masked):
    generator = torch.Generator().manual_seed(arms)
    logits = scale * torch.randn(max(4, 1000 // arms), arms, generator=generator)
    if masked:
        hidden = torch.rand(logits.shape, generator=generator) < 0.4
        hidden[:, 0] = False
        logits = logits.masked_fill(hidden, -math.inf)
    for seed, step in enumerate(STEPS):
        for delta in steps_of(logits, step, seed):
            assert_bounded(logits, delta.masked_fill(logits.isneginf(), math.nan))


@pytest.mark.parametrize("peak", [5.0, 20.0, 40.0])
def test_steps_that_overturn_a_sure_policy_are_bounded(peak):
    logits = torch.tensor([peak, 0.0, 0.0])
    for step in STEPS:
        assert_bounded(logits, torch.tensor([-step, 0.0, step / 2]))


@pytest.mark.parametrize(("peak", "step"), [(1e4, 1e3), (1e3, 2e3), (30.0, 1e4), (0.0, 1e4)])
def test_steps_beyond_the_float_range_have_finite_bounds(peak, step):
    logits, delta = torch.tensor([peak, 0.0, 0.0]), torch.tensor([0.0, step, 0.0])
    bound = remainder_bound(logits, delta)
    assert bool(bound.first_order.isfinite())
    assert bool(bound.second_order.isfinite())
    assert_bounded(logits, delta)


def test_the_first_bound_is_tight_for_short_steps():
    generator = torch.Generator().manual_seed(3)
    logits, delta = torch.randn(40, 5, generator=generator), 1e-4 * torch.randn(40, 5, generator=generator)
    ratio = remainder_bound(logits, delta).first_order / errors_of(logits, delta)[0]
    assert bool((ratio > 1 - 1e-3).all())  # the error has about 5 digits
    assert bool((ratio < 1.5).all())


@pytest.mark.parametrize("seed", range(5))
def test_the_bounds_shrink_as_the_second_and_the_third_power(seed):
    generator = torch.Generator().manual_seed(seed)
    logits, delta = torch.randn(5, generator=generator), torch.randn(5, generator=generator)
    long, short = (remainder_bound(logits, step * delta) for step in (2e-6, 1e-6))
    assert math.log2(long.first_order / short.first_order) == pytest.approx(2, abs=0.02)
    assert math.log2(long.second_order / short.second_order) == pytest.approx(3, abs=0.02)


def test_a_common_shift_and_a_masked_arm_leave_nothing_out():
    bound = remainder_bound(torch.tensor([1.0, 0.0, -math.inf]), torch.tensor([2.0, 2.0, 7.0]))
    assert (bound.first_order.item(), bound.second_order.item()) == (0.0, 0.0)


def test_the_exact_change_caps_both_bounds():
    # From the uniform policy over 4, exact lies in [-2 ln2, 0] and the first order is 0.
    bound = remainder_bound(torch.zeros(4), torch.tensor([100.0, 0.0, 0.0, 0.0]))
    assert bound.first_order.item() == pytest.approx(2 * math.log(2), abs=1e-10)


def test_the_third_order_by_hand():
    # p = (1/2, 1/3, 1/6), delta = (1, 0, 2): c = (1/6, -5/6, 7/6), V = 17/36, E c^3 = 2/27. With l2, l3 = ln 2, ln 3:
    # L = (l3/2 - l2/3, 2 l2/3 - l3/2, -l2/3 - l3/2), so that E(c L) = l3/12 - 5 l2/18 and
    # E(c^3 L) = L1/432 - 125 L2/648 + 343 L3/1296 = -47 l2/216 - 5 l3/144. Minus a sixth of
    # E(c^3 L) - 3 V E(c L) + 2 E c^3 = (85 - 47) l2/216 - (5 + 17) l3/144 + 4/27 is
    by_hand = -19 / 648 * math.log(2) + 11 / 432 * math.log(3) - 2 / 81  # -0.01704
    logits, delta = torch.tensor([1 / 2, 1 / 3, 1 / 6]).log() + 3.0, torch.tensor([1.0, 0.0, 2.0])
    assert third_order_change(logits, delta).item() == pytest.approx(by_hand, abs=1e-12)
    assert third_order_change(logits, -2 * delta).item() == pytest.approx(-8 * by_hand, abs=1e-12)


@pytest.mark.parametrize(("arms", "scale"), [(2, 1.0), (3, 3.0), (8, 0.3), (8, 8.0), (50, 2.0)])
def test_the_third_order_is_the_third_derivative(arms, scale):
    generator = torch.Generator().manual_seed(arms)
    logits, delta = scale * torch.randn(arms, generator=generator), torch.randn(arms, generator=generator)
    share = torch.tensor(0.0, requires_grad=True)
    value = entropy(logits + share * delta)
    for _ in range(3):
        (value,) = torch.autograd.grad(value, share, create_graph=True)
    assert third_order_change(logits, delta).item() == pytest.approx(value.item() / 6, abs=1e-12)
    logits[1], delta[1] = -math.inf, math.nan  # as good as absent
    kept = torch.arange(arms) != 1
    alone = third_order_change(logits[kept], delta[kept]).item()
    assert third_order_change(logits, delta).item() == pytest.approx(alone, abs=1e-12)


@pytest.mark.parametrize(("size", "most"), [(1e-3, 1.3), (1e-2, 3.0)])
@pytest.mark.parametrize("arms", [2, 5, 50, 1000])
def test_the_second_bound_is_tight_for_short_steps(arms, size, most):
    # The leading part of the error is the third order, which the bound takes as it is; what it adds grows with the
    # range of the step, which is 7 standard deviations at 1000 arms.
    generator = torch.Generator().manual_seed(arms)
    logits, delta = torch.randn(400, arms, generator=generator), size * torch.randn(400, arms, generator=generator)
    ratio = remainder_bound(logits, delta).second_order / errors_of(logits, delta)[1]
    assert 1 - 1e-4 < ratio.median().item() < most  # an error of 1e-11 has 4 digits and more


@pytest.mark.parametrize("order", [0, 1])
@pytest.mark.parametrize("arms", [2, 3, 5])
def test_steps_sought_for_the_purpose_do_not_break_the_bounds(arms, order):
    # Gradient ascent on error / bound over logits and steps; each row keeps the range of its step.
    reach = torch.tensor([0.01, 0.1, 1.0, 3.0, 5.0, 10.0]).repeat(16)[:, None]
    generator = torch.Generator().manual_seed(arms)
    logits = (2 * torch.randn(len(reach), arms, generator=generator)).requires_grad_()
    way = torch.randn(len(reach), arms, generator=generator).requires_grad_()
    optimizer, largest = torch.optim.Adam([logits, way], lr=0.1), torch.zeros(len(reach))
    for _ in range(40):
        delta = reach * way / (way.amax(-1, keepdim=True) - way.amin(-1, keepdim=True))
        bound = remainder_bound(logits, delta)
        error, limit = errors_of(logits, delta)[order], (bound.first_order, bound.second_order)[order]
        largest = torch.maximum(largest, ((error - 1e-14) / limit).detach())  # 1e-14: rounding of two entropies
        optimizer.zero_grad()
        (limit.log() - error.log()).sum().backward()
        optimizer.step()
    assert largest.max().item() <= 1 + 1e-9
    # It comes within 10 % of the bound at the shortest and the longest steps: one lower by more would be seen.
    assert largest.view(16, 6).amax(0)[[0, 1, 4, 5]].min().item() > 0.9
