"""Predictive controllers: the prediction by hand, that the want is met where it can be, the scale that is learnt."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from trainer.methods.controllers import Rejection, SoftWeights, SolvedBonus, predict
from trainer.methods.stages import Band, Groups, Observation, TokenRecord

CLOSED_FORM = 1e-10


def batch(influence, advantages, entropy, target, responsiveness=1.0):
    """One prompt with one token a sample, of these influences N - S and advantages."""
    influence = torch.tensor(influence, dtype=torch.float64)[None, :, None]
    blank = torch.zeros_like(influence)
    record = TokenRecord(torch.ones_like(influence, dtype=torch.bool), blank, blank, influence, blank + responsiveness)
    advantages = torch.tensor([advantages], dtype=torch.float64)
    return Groups(advantages, advantages, entropy, Band(target, target), 0, record)


# each: A (N - S) / 4 = (-0.2, 0.1, -0.05, 0.025), total -0.125
GIVEN = ([0.8, -0.2, 0.1, 0.05], [-1.0, -2.0, -2.0, 2.0])
EACH = [-0.2, 0.1, -0.05, 0.025]


def test_the_prediction_is_the_mean_over_tokens_of_advantage_times_influence():
    found = predict(batch(*GIVEN, entropy=1.0, target=1.0, responsiveness=0.3), "here")
    assert found.each[0].tolist() == pytest.approx(EACH, abs=CLOSED_FORM)
    assert found.total.item() == pytest.approx(-0.125, abs=CLOSED_FORM)
    assert found.bonus.item() == pytest.approx(0.3, abs=CLOSED_FORM)


@pytest.mark.parametrize(
    ("want", "eager", "kept"),
    [
        (-0.13, False, [1, 1, 1, 1]),  # the batch does all but what is wanted
        (-0.3, False, [1, 1, 1, 1]),  # it lowers entropy less than wanted: used whole
        (-0.3, True, [1, 0, 1, 0]),  # unless eager: those that raise it go, most first, and more would not help
        (-0.2, True, [1, 0, 1, 1]),  # -0.225 without the first of them
        (0.0, False, [0, 1, 1, 1]),  # 0.075 without the one that lowers most
        (0.1, False, [0, 1, 0, 1]),  # 0.125 without both that lower
        (0.9, False, [0, 1, 0, 1]),  # out of reach: all that help
    ],
)
def test_rejection_by_hand(want, eager, kept):
    # the scale of 0.5 halves what is predicted, so half the want is asked for
    given = batch(*GIVEN, entropy=1.0, target=1.0 + want / 2)
    decided = Rejection(scale=0.5, eager=eager).decide({}, given)
    assert decided.weights.tolist() == [[float(value) for value in kept]]
    predicted = 0.5 * sum(each for each, keep in zip(EACH, kept, strict=True) if keep)
    assert decided.info["predicted"].item() == pytest.approx(predicted, abs=CLOSED_FORM)
    assert decided.bonus is None


def test_the_solved_bonus_by_hand():
    # scale 0.5: the gap of 0.1 is 0.2 in units of prediction; 0.2 + 0.125 over 0.25 is 1.3
    decided = SolvedBonus(scale=0.5).decide({}, batch(*GIVEN, entropy=1.0, target=1.1, responsiveness=0.25))
    assert decided.bonus.item() == pytest.approx(1.3, abs=CLOSED_FORM)
    assert decided.info["predicted"].item() == pytest.approx(0.1, abs=CLOSED_FORM)
    assert decided.weights.tolist() == [[1.0] * 4]
    above = SolvedBonus(scale=0.5).decide({}, batch(*GIVEN, entropy=1.0, target=0.5, responsiveness=0.25))
    assert above.bonus.item() == 0.0
    capped = SolvedBonus(scale=0.5, most=0.7).decide({}, batch(*GIVEN, entropy=1.0, target=1.1, responsiveness=0.25))
    assert capped.bonus.item() == pytest.approx(0.7)


numbers = st.floats(-2.0, 2.0, allow_subnormal=False)


@given(st.lists(st.tuples(numbers, numbers), min_size=2, max_size=9), st.floats(-0.5, 0.5), st.floats(0.1, 3.0))
def test_soft_weights_meet_every_want_in_reach(tokens, want, scale):
    given_batch = batch(*zip(*tokens, strict=True), entropy=1.0, target=1.0 + want)
    each = predict(given_batch, "here").each[0]
    decided = SoftWeights(scale=scale, limit=1e6).decide({}, given_batch)
    least, most = 2 * scale * each.clamp(max=0).sum().item(), 2 * scale * each.clamp(min=0).sum().item()
    assert bool(((decided.weights >= 0) & (decided.weights <= 2)).all())
    spread = each.std(correction=0).item()
    # Weights that meet the want need rollouts that differ, and none whose part is lost in the others' rounding.
    if spread > 1e-6 and each.abs().min() > 1e-3 and least + 1e-6 < want < most - 1e-6:
        assert decided.info["predicted"].item() == pytest.approx(want, abs=1e-6)


@given(st.lists(st.tuples(numbers, numbers), min_size=2, max_size=9), st.floats(-0.5, 0.5))
def test_rejection_never_leaves_entropy_lower_than_the_batch_would_and_wants(tokens, want):
    given_batch = batch(*zip(*tokens, strict=True), entropy=1.0, target=1.0 + want)
    found = predict(given_batch, "here")
    decided = Rejection(scale=1.0).decide({}, given_batch)
    predicted, rising = decided.info["predicted"].item(), found.each.clamp(min=0).sum().item()
    assert predicted >= min(want, rising) - 1e-9 or predicted == pytest.approx(found.total.item())
    assert predicted >= found.total.item() - 1e-9


def observed(measured, unit):
    return Observation(0, 1.0, Band(0.9, 1.1), measured_change=measured, info={"predicted_unit": torch.tensor(unit)})


def test_the_scale_is_learnt_by_discounted_least_squares():
    method = Rejection(forgetting=0.5)
    assert method.scale_of(method.start(), torch.zeros(())).item() == 1.0  # nothing seen yet
    state, _ = method.step(method.start(), observed(-0.1, -0.2))
    assert method.scale_of(state, torch.zeros(())).item() == pytest.approx(0.5)
    state, _ = method.step(state, observed(0.3, 0.1))
    # cross 0.02/2 + 0.03, square 0.04/2 + 0.01
    assert method.scale_of(state, torch.zeros(())).item() == pytest.approx(0.04 / 0.03)
    # measured changes against the prediction give no scale below 0
    against, _ = method.step(method.start(), observed(0.1, -0.2))
    assert method.scale_of(against, torch.zeros(())).item() == 1.0
    given_scale = Rejection(scale=0.7)
    assert given_scale.step(given_scale.start(), observed(0.1, -0.2))[0] == given_scale.start()


def test_needs_say_what_is_measured_and_differentiated():
    assert Rejection().needs == {"influence", "responsiveness", "measured_change"}
    assert SoftWeights(scale=1.0).needs == {"influence", "responsiveness"}
    assert "entropy_gradient" in SolvedBonus(scale=1.0).needs


@pytest.mark.parametrize("options", [{"scale": 0.0}, {"scale": -1.0}, {"forgetting": 0.0}, {"forgetting": 1.5}])
def test_options_that_cannot_be_are_refused(options):
    with pytest.raises(ValueError, match=r"^Rejection\("):
        Rejection(**options)


@pytest.mark.parametrize(
    ("method", "options"),
    [
        (SoftWeights, {"most": 0.5}),
        (SoftWeights, {"limit": 0.0}),
        (SolvedBonus, {"most": -1.0}),
        (SolvedBonus, {"first_scale": 0.0}),
    ],
)
def test_limits_that_cannot_be_are_refused(method, options):
    with pytest.raises(ValueError, match=rf"^{method.__name__}\("):
        method(**options)


def test_a_batch_without_a_record_is_refused():
    rewards = torch.ones(1, 2)
    with pytest.raises(ValueError, match=r"Rejection\(groups\) must have groups\.record"):
        Rejection(scale=1.0).decide({}, Groups.of_rewards(rewards))
