"""The least change of the weights: that wants in reach are met, and that nothing smaller would do."""

import numpy as np
import pytest
import scipy.optimize
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from trainer.methods.least_change import fewest_rejections, least_squares_weights

# Bisection halves to rounding, of weights between 0 and `most` and of parts up to 2.
ROUNDING = 1e-9
parts = st.lists(st.integers(-20, 20).map(lambda tenths: tenths / 10), min_size=1, max_size=8)
shares = st.floats(0.01, 0.99)
limits = st.sampled_from([1.0, 1.5, 2.0, 5.0])


def reach(each, most):
    """The least and the largest sum that weights between 0 and `most` give."""
    return most * each.clamp(max=0).sum(), most * each.clamp(min=0).sum()


def within(each, share, most):
    low, high = reach(each, most)
    return low + share * (high - low)


@given(parts, shares, limits)
def test_a_want_in_reach_is_met_by_clipped_weights_along_the_parts(values, share, most):
    each = torch.tensor(values, dtype=torch.float64)
    assume(bool((each != 0).any()))
    wanted = within(each, share, most)
    found = least_squares_weights(each, wanted, most)
    assert found.change.item() == pytest.approx(wanted.item(), abs=ROUNDING * 20)
    assert not found.saturated
    assert bool(((found.weights >= 0) & (found.weights <= most)).all())
    # The conditions of Karush, Kuhn and Tucker: one multiplier for all parts inside, none of the rest would move back.
    multiplier = found.multiplier / each.square().mean().sqrt()
    torch.testing.assert_close(found.weights, (1 + multiplier * each).clamp(0, most), rtol=0, atol=ROUNDING)


@pytest.mark.parametrize("most", [1.0, 2.0, 3.5])
@pytest.mark.parametrize("seed", range(4))
def test_no_weights_that_meet_the_want_are_nearer_to_1(seed, most):
    generator = torch.Generator().manual_seed(seed)
    each = torch.randn(6, generator=generator)
    wanted = within(each, [0.1, 0.35, 0.6, 0.9][seed], most)
    found = least_squares_weights(each, wanted, most)
    theirs = scipy.optimize.minimize(
        lambda w: ((w - 1) ** 2).sum(),
        np.full(6, 0.5),
        jac=lambda w: 2 * (w - 1),
        bounds=[(0, most)] * 6,
        constraints={"type": "eq", "fun": lambda w: w @ each.numpy() - wanted.item(), "jac": lambda w: each.numpy()},
        method="SLSQP",
        options={"ftol": 1e-14, "maxiter": 200},
    )
    assert theirs.success
    # Near its minimum a square is flat: the weights are as good as the root of its tolerance.
    torch.testing.assert_close(found.weights, torch.from_numpy(theirs.x), rtol=0, atol=1e-6)


@given(parts, st.lists(st.floats(-3, 3), min_size=2, max_size=2), limits)
def test_who_wants_more_gets_no_less(values, wants, most):
    each = torch.tensor([values, values], dtype=torch.float64)
    found = least_squares_weights(each, torch.tensor(sorted(wants), dtype=torch.float64), most)
    assert found.change[0] <= found.change[1] + ROUNDING
    assert found.multiplier[0] <= found.multiplier[1] + ROUNDING


@given(parts, st.floats(-3, 3))
def test_acceptance_probabilities_spare_the_wanted_side(values, want):
    each = torch.tensor(values, dtype=torch.float64)
    found = least_squares_weights(each, torch.tensor(want, dtype=torch.float64), 1.0).weights
    assert bool(((found >= 0) & (found <= 1)).all())
    helping = each * (want - each.sum()).sign() >= 0
    assert bool((found[helping] > 1 - ROUNDING).all())


@given(parts, limits, st.sampled_from([-1.0, 1.0]))
def test_a_want_out_of_reach_puts_every_part_at_its_bound_and_says_so(values, most, sign):
    each = torch.tensor(values, dtype=torch.float64)
    low, high = reach(each, most)
    wanted = high + 1 if sign > 0 else low - 1
    found = least_squares_weights(each, wanted, most)
    expected = torch.where(each * sign > 0, most, torch.where(each == 0, 1.0, 0.0))
    torch.testing.assert_close(found.weights, expected.to(each), rtol=0, atol=ROUNDING)
    assert found.saturated


def test_parts_that_do_nothing_are_left_alone():
    nothing = torch.zeros(3, dtype=torch.float64)
    for solve in (
        lambda want: least_squares_weights(nothing, want, 2.0),
        lambda want: fewest_rejections(nothing, want),
    ):
        for want in (0.0, 0.5, -0.5):
            found = solve(torch.tensor(want, dtype=torch.float64))
            assert found.weights.tolist() == [1.0] * 3
            assert found.saturated.item() == (want != 0)


def test_a_want_that_all_together_meet_changes_nothing_to_the_last_bit():
    each = torch.randn(7, generator=torch.Generator().manual_seed(1))
    for found in (least_squares_weights(each, each.sum(-1), 2.0), fewest_rejections(each, each.sum(-1))):
        assert found.weights.tolist() == [1.0] * 7
        assert found.multiplier.item() == 0.0
        assert not found.saturated


@given(parts, st.floats(-3, 3), limits, st.sampled_from([1e-8, 1e-3, 1e4]))
def test_turned_or_scaled_parts_get_the_same_weights(values, want, most, scale):
    each, wanted = torch.tensor(values, dtype=torch.float64), torch.tensor(want, dtype=torch.float64)
    weights = least_squares_weights(each, wanted, most).weights
    for factor in (-1.0, scale):
        other = least_squares_weights(factor * each, factor * wanted, most).weights
        torch.testing.assert_close(other, weights, rtol=0, atol=1e-7)


def test_equal_parts_get_equal_weights_and_repeats_do_not_mix():
    each = torch.tensor([[0.5, -1.0, 0.5, -1.0], [3.0, 1.0, 1.0, 0.0]], dtype=torch.float64)
    wanted = torch.tensor([0.2, 2.0], dtype=torch.float64)
    found = least_squares_weights(each, wanted, 2.0)
    assert found.weights[0, 0] == found.weights[0, 2]
    assert found.weights[0, 1] == found.weights[0, 3]
    for row in range(2):
        alone = least_squares_weights(each[row], wanted[row], 2.0)
        torch.testing.assert_close(found.weights[row], alone.weights)
        few = fewest_rejections(each, wanted).weights[row]
        torch.testing.assert_close(few, fewest_rejections(each[row], wanted[row]).weights)


@given(parts, shares)
def test_fewest_rejections_solve_the_linear_programme(values, share):
    each = torch.tensor(values, dtype=torch.float64)
    wanted = within(each, share, 1.0)
    found = fewest_rejections(each, wanted)
    theirs = scipy.optimize.linprog(-np.ones(len(each)), A_eq=each.numpy()[None], b_eq=[wanted.item()], bounds=(0, 1))
    assert theirs.success
    assert found.change.item() == pytest.approx(wanted.item(), abs=ROUNDING)
    assert found.weights.sum().item() == pytest.approx(-theirs.fun, abs=1e-6)
    assert bool(((found.weights >= 0) & (found.weights <= 1)).all())
    assert int(((found.weights > 0) & (found.weights < 1)).sum()) <= 1
    assert not found.saturated


def test_the_most_contrary_parts_go_first_and_ties_in_their_order():
    each = torch.tensor([0.1, -0.3, -0.2, -0.3, 0.4], dtype=torch.float64)  # -0.3 together
    found = fewest_rejections(each, torch.tensor(0.1, dtype=torch.float64))
    torch.testing.assert_close(found.weights, torch.tensor([1.0, 0.0, 1.0, 2 / 3, 1.0]))
    found = fewest_rejections(each, torch.tensor(-0.75, dtype=torch.float64))
    torch.testing.assert_close(found.weights, torch.tensor([0.5, 1.0, 1.0, 1.0, 0.0]))
    beyond = fewest_rejections(each, torch.tensor(2.0, dtype=torch.float64))
    assert beyond.weights.tolist() == [1, 0, 0, 0, 1]
    assert beyond.saturated


def test_the_multiplier_of_fewest_rejections_is_the_part_rejected_in_part():
    each = torch.tensor([0.1, -0.3, -0.2, -0.3, 0.4], dtype=torch.float64)
    found = fewest_rejections(each, torch.tensor(0.1, dtype=torch.float64))
    assert found.multiplier.item() == pytest.approx(-0.3 / each.square().mean().sqrt().item())
