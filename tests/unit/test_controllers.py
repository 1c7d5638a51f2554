"""Predictive controllers: the prediction and the want by hand, what meets it, and how they learn from a step."""

from dataclasses import replace
from functools import partial

import pytest
import torch

from trainer.methods.controllers import Rejection, SoftWeights, SolvedBonus, predict
from trainer.methods.stages import Band, Direction, Groups, Observation, Response, TokenRecord

CLOSED_FORM = 1e-10
ADVANTAGES, INFLUENCE = [-1.0, -2.0, -2.0, 2.0], [0.8, -0.2, 0.1, 0.05]
EACH, TOTAL = [-0.2, 0.1, -0.05, 0.025], -0.125  # A (N - S) / 4
# Without memory of earlier batches, the want is the whole gap over the gain.
PLAIN = {"gain": 1.0, "fraction": 1.0, "smoothing": 0.0, "memory": 0.0, "integral": 0.0}


def batch(entropy=1.0, aim=1.0, responsiveness=1.0, uniforms=0.5, **more):
    """One prompt with one token a sample; a band of +- 0.1."""
    influence = torch.tensor(INFLUENCE, dtype=torch.float64)[None, :, None]
    blank = torch.zeros_like(influence)
    record = TokenRecord(torch.ones_like(influence, dtype=torch.bool), blank, blank, influence, blank + responsiveness)
    advantages = torch.tensor([ADVANTAGES], dtype=torch.float64)
    draws = torch.full_like(advantages, uniforms)
    return Groups(advantages, advantages, entropy, Band(aim - 0.1, aim + 0.1), 0, record, uniforms=draws, **more)


def numbers(**values):
    return {name: torch.tensor(value, dtype=torch.float64) for name, value in values.items()}


def seen(method, **values):
    """A state after some steps."""
    return {**method.start(), "seen": 1.0, **numbers(**values)}


def decided(method, groups, **state):
    return method.decide(seen(method, **state) if state else method.start(), groups)


def value_of(found, name):
    return found.info[name].item()


# What is predicted


def uneven(**more):
    """Two prompts of two samples over up to three tokens, with what was recorded and slopes of tokens."""
    lengths = torch.tensor([[1, 3], [2, 2]])
    mask = torch.arange(3) < lengths[..., None]
    values = torch.arange(12, dtype=torch.float64).reshape(2, 2, 3).masked_fill(~mask, 0.0)
    advantages = torch.tensor([[1.0, -1.0], [0.0, 2.0]], dtype=torch.float64)
    record = TokenRecord(mask, 0 * values, 0 * values, values, (values > 0).to(values))
    return Groups(advantages, advantages, 1.0, Band(0.9, 1.1), 0, record, **more)


def test_the_tabular_prediction_by_hand():
    found = predict(uneven(), "tabular", 0.25, "here")
    # rollouts [0], [3, 4, 5], [6, 7], [9, 10] times advantages 1, -1, 0, 2 over 8 tokens
    torch.testing.assert_close(found.rollouts, torch.tensor([[0, -12.0], [0, 38]]).double() / 8)
    torch.testing.assert_close(found.tokens[0, 1], torch.tensor([-3.0, -4, -5]).double() / 8)
    assert found.total.item() == pytest.approx(26 / 8)
    assert found.bonus.item() == pytest.approx(7 / 8)  # one of the tokens has a responsiveness of 0
    assert found.carried.item() == 0.25


def test_each_rollout_has_its_own_denominator():
    denominators = torch.tensor([[2.0, 6.0], [4.0, 4.0]], dtype=torch.float64)
    found = predict(uneven(denominators=denominators), "tabular", 0.0, "here")
    torch.testing.assert_close(found.rollouts, torch.tensor([[0, -2.0], [0, 9.5]]).double())


def test_the_directional_prediction_goes_by_the_slopes_alone():
    slopes = torch.full((2, 2, 3), 0.3, dtype=torch.float64)
    direction = Direction(slopes, *numbers(bonus=0.7, carried=-0.4).values())
    found = predict(uneven(direction=direction), "directional", 9.0, "here")
    torch.testing.assert_close(found.rollouts, torch.tensor([[1.0, -3], [0, 4]]).double() * 0.3 / 8)
    assert (found.bonus.item(), found.carried.item()) == (0.7, -0.4)


def test_advantages_of_tokens_weigh_their_own_tokens():
    groups = uneven()
    advantages = groups.token_advantages * torch.tensor([1.0, 0.0, 2.0])
    found = predict(replace(groups, advantages=advantages), "tabular", 0.0, "here")
    torch.testing.assert_close(found.rollouts[0], torch.tensor([0.0, -13.0]).double() / 8)


# What is wanted


def test_the_want_by_hand():
    method = SoftWeights(gain=2.0, fraction=0.5, smoothing=0.75, most=9.0)
    groups = batch(entropy=1.0, aim=1.1, response=Response(0.4, 0.7))
    found = decided(method, groups, entropy=1.2, drift=-0.02, integral=0.03, carried=-0.05)
    drift = -0.02 - 0.2 * 0.0625 / 1.75  # beta 0.0625 / 1.75
    assert value_of(found, "entropy_estimate") == pytest.approx(1.15)
    assert value_of(found, "entropy_drift") == pytest.approx(drift)
    error = 1.1 - (1.15 + 2 * -0.05 + 2 * drift)  # lag 0.6 / 0.3
    assert value_of(found, "error") == pytest.approx(error)
    wanted = 0.5 * error + 0.03 - drift
    assert value_of(found, "wanted") == pytest.approx(wanted)
    assert value_of(found, "predicted") == pytest.approx(wanted, abs=1e-8)
    assert value_of(found, "uncontrolled") == pytest.approx(2 * TOTAL)
    assert value_of(found, "carried") == pytest.approx(2 * -0.05)
    assert value_of(found, "released_unit") == pytest.approx(0.3 * -0.05)


def test_the_first_batch_is_believed():
    found = SoftWeights(gain=1.0).decide(SoftWeights().start(), batch(entropy=1.3))
    assert value_of(found, "entropy_estimate") == pytest.approx(1.3)
    assert value_of(found, "entropy_drift") == 0.0


def test_the_learnt_line_gives_gain_and_drift():
    method = SoftWeights(fraction=1.0, smoothing=0.0, integral=0.0, learning={"prior": 0.0})
    # two steps, predicted 0.1 and 0.3, measured 0.2 and 0.8: gain 3, offset -0.1
    sums = {"weight": 2.0, "predicted": 0.4, "measured": 1.0, "square": 0.1, "cross": 0.26}
    found = decided(method, batch(aim=1.2, response=Response(0.5, 0.5)), **sums)
    assert value_of(found, "gain") == pytest.approx(3.0)
    assert value_of(found, "entropy_drift") == pytest.approx(-0.1)
    assert value_of(found, "wanted") == pytest.approx(0.2 + 0.1 + 0.1)  # once for the lag, once for this step
    given = decided(replace(method, gain=0.7), batch(aim=1.2), **sums)
    assert value_of(given, "gain") == pytest.approx(0.7)
    assert value_of(given, "entropy_drift") == 0.0


# total -0.125; after expected 0.1 the running mean is 0.9 * 0.1 - 0.0125 = 0.0775
@pytest.mark.parametrize(
    ("side", "want", "acts"),
    [
        ("below", 0.1, True),
        ("below", 0.0, False),  # this batch falls short of it, but what batches are expected to do does not
        ("below", -0.2, False),
        ("above", 0.1, False),
        ("above", 0.0, True),
        ("above", -0.2, True),
        ("both", -0.2, True),
        ("both", 0.1, True),
    ],
)
def test_one_side_goes_by_what_batches_are_expected_to_do(side, want, acts):
    method = SoftWeights(**{**PLAIN, "memory": 0.9, "most": 9.0}, side=side)
    found = decided(method, batch(aim=1.0 + want), expected=0.1)
    assert value_of(found, "expected_unit") == pytest.approx(0.0775)
    assert value_of(found, "idle") == (not acts)
    assert value_of(found, "predicted") == pytest.approx(want if acts else TOTAL, abs=1e-8)
    assert found.weights.tolist() == [[1.0] * 4] or acts


def test_without_memory_one_side_goes_by_the_batch_at_hand():
    found = decided(SoftWeights(**PLAIN, side="below"), batch(aim=1.0), expected=0.1)
    assert value_of(found, "idle") == 0
    assert value_of(found, "predicted") == pytest.approx(0.0, abs=1e-8)


@pytest.mark.parametrize(("dead_band", "idle"), [(0.0, 0), (0.4, 0), (0.6, 1)])
def test_in_the_dead_band_a_batch_is_used_whole(dead_band, idle):
    found = SoftWeights(**PLAIN, dead_band=dead_band).decide(SoftWeights().start(), batch(entropy=1.05))
    assert value_of(found, "idle") == idle
    assert value_of(found, "predicted") == pytest.approx(TOTAL if idle else -0.05, abs=1e-8)
    assert found.weights.tolist() == [[1.0] * 4] or not idle


# What meets the want


@pytest.mark.parametrize(
    ("want", "uniforms", "kept"),
    [
        (-0.125, 0.999, [1, 1, 1, 1]),  # all together do it
        # -0.2 q1 + 0.1 - 0.05 q3 + 0.025 = 0: q = 1 + lambda s, lambda 0.125 / 0.0425, q1 0.412, q3 0.853
        (0.0, 0.4, [1, 1, 1, 1]),
        (0.0, 0.5, [0, 1, 1, 1]),
        (0.0, 0.9, [0, 1, 0, 1]),
        (9.0, 0.0, [0, 1, 0, 1]),  # out of reach: all that help, whatever is drawn
        (-9.0, 0.001, [1, 0, 1, 0]),
    ],
)
def test_rejection_by_least_squares(want, uniforms, kept):
    found = Rejection(**PLAIN).decide(Rejection().start(), batch(aim=1.0 + want, uniforms=uniforms))
    assert found.weights.tolist() == [[float(value) for value in kept]]
    unit = sum(each for each, keep in zip(EACH, kept, strict=True) if keep)
    assert value_of(found, "predicted") == pytest.approx(unit, abs=CLOSED_FORM)
    assert value_of(found, "expected") == pytest.approx(min(max(want, -0.25), 0.125), abs=1e-8)
    assert value_of(found, "saturated") == (abs(want) > 1)
    assert value_of(found, "effective_sample_size") == pytest.approx(sum(kept) / 4)
    assert found.bonus is None


@pytest.mark.parametrize(
    ("want", "uniforms", "kept"),
    [
        # 0.125 more than all: 0.2 of it could come from the first
        (0.0, 0.37, [1, 1, 1, 1]),
        (0.0, 0.38, [0, 1, 1, 1]),
        # 0.225 more: the first whole, and half of the third
        (0.1, 0.49, [0, 1, 1, 1]),
        (0.1, 0.51, [0, 1, 0, 1]),
        # 0.05 less: half of the second
        (-0.175, 0.49, [1, 1, 1, 1]),
        (-0.175, 0.51, [1, 0, 1, 1]),
    ],
)
def test_rejection_of_the_fewest(want, uniforms, kept):
    method = Rejection(**{**PLAIN, "gain": 0.5}, rule="fewest")
    found = method.decide(method.start(), batch(aim=1.0 + want / 2, uniforms=uniforms))
    assert found.weights.tolist() == [[float(value) for value in kept]]
    assert value_of(found, "expected") == pytest.approx(want / 2, abs=CLOSED_FORM)


def test_soft_weights_by_hand():
    found = SoftWeights(**PLAIN).decide(SoftWeights().start(), batch(aim=1.0))
    weights = [1 + 0.125 / 0.053125 * each for each in EACH]  # sum of squares 0.053125; none at its bound
    torch.testing.assert_close(found.weights, torch.tensor([weights], dtype=torch.float64))
    size = sum(weights) ** 2 / sum(w * w for w in weights) / 4
    assert value_of(found, "effective_sample_size") == pytest.approx(size)
    assert not value_of(found, "saturated")
    capped = SoftWeights(**PLAIN, most=1.5).decide(SoftWeights().start(), batch(aim=9.0))
    torch.testing.assert_close(capped.weights, torch.tensor([[0.0, 1.5, 0.0, 1.5]]).double())
    assert value_of(capped, "saturated")
    assert value_of(capped, "effective_sample_size") == pytest.approx(0.5)


def test_at_token_level_weights_stay_1_and_each_token_has_its_own():
    groups = uneven()
    groups = replace(groups, band=Band(0.9, 1.1), entropy=1.0)
    # tokens with an advantage: 0, -3, -4, -5, 18, 20 eighths, 26 together; wanted 0
    found = SoftWeights(**PLAIN, level="token").decide(SoftWeights().start(), groups)
    assert found.weights.tolist() == [[1.0, 1.0], [1.0, 1.0]]
    assert found.advantages.shape == (2, 2, 3)
    assert not bool(found.advantages[~groups.record.mask].any())
    parts = torch.tensor([0.0, -3, -4, -5, 18, 20]).double()
    used = groups.token_advantages != 0
    expected = groups.token_advantages[used] * (1 - 26 / parts.square().sum() * parts)
    torch.testing.assert_close(found.advantages[used], expected)
    assert value_of(found, "predicted") == pytest.approx(0.0, abs=1e-8)
    by_rollout = SoftWeights(**PLAIN).decide(SoftWeights().start(), groups)
    assert by_rollout.advantages is groups.advantages


@pytest.mark.parametrize(
    ("aim", "options", "bonus", "saturated"),
    [
        (1.1, {}, 1.3, False),  # 0.1 is 0.2 in units of prediction; 0.2 + 0.125 over 0.25
        (1.1, {"most": 0.7}, 0.7, True),
        (0.5, {}, 0.0, True),
        (0.5, {"least": -9.0}, -3.5, False),  # (-1 + 0.125) / 0.25
        (0.5, {"least": -2.0}, -2.0, True),
    ],
)
def test_the_solved_bonus_by_hand(aim, options, bonus, saturated):
    method = SolvedBonus(**{**PLAIN, "gain": 0.5}, **options)
    found = method.decide(method.start(), batch(aim=aim, responsiveness=0.25))
    assert found.bonus.item() == value_of(found, "bonus") == pytest.approx(bonus, abs=CLOSED_FORM)
    assert value_of(found, "predicted") == pytest.approx(0.5 * (TOTAL + 0.25 * bonus), abs=CLOSED_FORM)
    assert value_of(found, "saturated") == saturated
    assert found.weights.tolist() == [[1.0] * 4]
    assert value_of(found, "effective_sample_size") == 1.0


def test_the_bonus_is_for_what_batches_have_in_common():
    method = SolvedBonus(**{**PLAIN, "memory": 0.9})
    found = decided(method, batch(aim=1.2, responsiveness=0.25), expected=0.1, effect=0.5)
    # expected 0.0775, effect 0.475, not this batch's -0.125 and 0.25
    assert value_of(found, "bonus") == pytest.approx((0.2 - 0.0775) / 0.475)
    idle = SolvedBonus(**PLAIN, side="below").decide(method.start(), batch(aim=0.5))
    assert (value_of(idle, "bonus"), value_of(idle, "idle")) == (0.0, 1.0)
    nothing = method.decide(method.start(), batch(aim=1.2, responsiveness=0.0))
    assert value_of(nothing, "bonus") == 0.0


# What is learnt from a step


def observation(found, entropy=1.0, measured=None):
    return Observation(0, entropy, Band(0.9, 1.1), measured_change=measured, info=found.info)


def test_a_step_by_hand():
    method = SoftWeights(fraction=0.5, smoothing=0.75, most=9.0, integral=0.1, learning={"forgetting": 0.5})
    before = {"entropy": 1.2, "drift": -0.02, "integral": 0.03, "carried": -0.05, "expected": 0.1, "effect": 0.5}
    found = decided(method, batch(aim=1.1, response=Response(0.4, 0.7)), **before)
    after, info = method.step(seen(method, **before), observation(found, measured=-0.3))
    unit = value_of(found, "predicted_unit")
    at_once = 0.4 * unit + 0.3 * -0.05
    drift = -0.02 - 0.2 * 0.0625 / 1.75
    expected = {
        "seen": 1.0,
        "entropy": 1.15 - 0.3 + drift,
        "drift": drift,
        "carried": 0.7 * -0.05 + 0.6 * unit,
        "integral": 0.03 + 0.1 * value_of(found, "error"),
        "expected": 0.9 * 0.1 + 0.1 * TOTAL,
        "effect": 0.9 * 0.5 + 0.1 * 1.0,
        "weight": 1.0,
        "predicted": at_once,
        "measured": -0.3,
        "square": at_once**2,
        "cross": at_once * -0.3,
    }
    assert {name: float(value) for name, value in after.items()} == pytest.approx(expected)
    assert dict(info) == {}


def test_unmeasured_steps_advance_by_what_was_predicted_and_learn_no_gain():
    method = SoftWeights(gain=2.0, smoothing=0.0)
    found = method.decide(method.start(), batch(aim=1.1))
    after, _ = method.step(method.start(), observation(found))
    assert after["entropy"].item() == pytest.approx(1.0 + 2.0 * value_of(found, "predicted_unit"))
    assert [after[name] for name in method.gains.start()] == [0.0] * 5
    measured, _ = method.step(method.start(), observation(found, measured=0.01))
    assert measured["entropy"].item() == pytest.approx(1.01)
    assert measured["weight"] == 0.0  # a given gain is not learnt


@pytest.mark.parametrize(
    ("options", "aim", "moves"),
    [({}, 1.05, True), ({}, 9.0, False), ({"dead_band": 2.0}, 1.05, False), ({"side": "above"}, 1.2, False)],
)
def test_the_integral_stands_still_out_of_reach_and_where_nothing_is_asked(options, aim, moves):
    method = SoftWeights(**{**PLAIN, "integral": 0.1}, **options)
    found = method.decide(method.start(), batch(aim=aim))
    after, _ = method.step(method.start(), observation(found))
    assert after["integral"].item() == pytest.approx(0.1 * (aim - 1.0) if moves else 0.0)


def closed_loop(method, steps, bias=0.0, response=None, entropy=1.3):
    """Entropies and errors of a run whose changes are as predicted, less a bias every step."""
    state, carried, entropies, errors = method.start(), 0.0, [], []
    response = response or Response()
    for _ in range(steps):
        found = method.decide(state, batch(entropy=entropy, aim=1.0, response=response))
        assert not value_of(found, "saturated")
        unit = value_of(found, "predicted_unit")
        change = response.now * unit + (1 - response.kept) * carried - bias
        carried = response.kept * carried + (1 - response.now) * unit
        entropies.append(entropy)
        errors.append(value_of(found, "error"))
        state, _ = method.step(state, observation(found, entropy, change))
        entropy += change
    return entropies, errors


def test_the_integral_removes_what_a_constant_bias_leaves():
    options = {**PLAIN, "fraction": 0.5, "most": 50.0}
    assert closed_loop(SoftWeights(**options), 60, bias=0.01)[0][-1] == pytest.approx(1.0 - 0.01 / 0.5, abs=1e-6)
    settled = closed_loop(SoftWeights(**{**options, "integral": 0.1}), 120, bias=0.01)[0]
    assert settled[-1] == pytest.approx(1.0, abs=1e-6)


def test_what_momentum_carries_is_counted_so_that_the_gap_closes_by_a_fraction_each_step():
    method = SoftWeights(**{**PLAIN, "fraction": 0.4, "most": 50.0})
    entropies, errors = closed_loop(method, 60, response=Response.of_momentum(0.8, updates=2))
    assert errors[:12] == pytest.approx([-0.3 * 0.6**step for step in range(12)], abs=1e-7)
    assert min(entropies) > 1.0 - 1e-6  # no overshoot
    assert entropies[-1] == pytest.approx(1.0, abs=1e-5)


# What is asked for, and refused


def test_needs_say_what_predicts_measures_draws_and_differentiates():
    tabular, directional = {"influence", "responsiveness"}, {"direction"}
    assert SoftWeights(gain=1.0).needs == tabular
    assert SoftWeights().needs == tabular | {"measured_change"}
    assert SoftWeights(gain=1.0, influence="directional").needs == directional
    assert Rejection(gain=1.0).needs == tabular | {"uniforms"}
    assert SolvedBonus(gain=1.0, influence="directional").needs == directional | {"entropy_gradient"}


NAN = float("nan")


@pytest.mark.parametrize(
    "options",
    [
        {"influence": "network"},
        {"side": "left"},
        *({"gain": value} for value in (0.0, -1.0, NAN)),
        *({"fraction": value} for value in (0.0, 1.5, NAN)),
        *({"smoothing": value} for value in (-0.1, 1.0, NAN)),
        *({"memory": value} for value in (-0.1, 1.0, NAN)),
        *({name: value} for name in ("dead_band", "integral") for value in (-0.1, NAN)),
        {"learning": {"first": 0.0}},
    ],
    ids=str,
)
@pytest.mark.parametrize("method", [Rejection, SoftWeights, SolvedBonus])
def test_options_that_cannot_be_are_refused(method, options):
    with pytest.raises(ValueError, match=rf"^({method.__name__}|Observer|Gain)\(.*\) must "):
        method(**options)


@pytest.mark.parametrize(
    ("method", "options"),
    [
        (Rejection, {"rule": "most"}),
        (SoftWeights, {"most": 0.5}),
        (SoftWeights, {"level": "word"}),
        (SolvedBonus, {"most": -1.0}),
        (SolvedBonus, {"least": 0.1}),
        (SolvedBonus, {"least": 0.0, "most": 0.0}),
    ],
)
def test_limits_that_cannot_be_are_refused(method, options):
    with pytest.raises(ValueError, match=rf"^{method.__name__}\(.*\) must "):
        method(**options)


@pytest.mark.parametrize("method", [Rejection, SoftWeights, SolvedBonus])
@pytest.mark.parametrize(
    ("lacks", "options", "words"),
    [
        ({"record": None}, {}, r"must have groups\.record; got none"),
        ({"record": None, "direction": "any"}, {"influence": "directional"}, r"must have groups\.record; got none"),
        ({}, {"influence": "directional"}, r"must have groups\.direction for influence='directional'"),
    ],
)
def test_a_batch_without_what_predicts_is_refused(method, lacks, options, words):
    if "direction" in lacks:
        slopes = torch.zeros(1, 4, 1)
        lacks = {**lacks, "direction": Direction(slopes, torch.tensor(0.0), torch.tensor(0.0))}
    with pytest.raises(ValueError, match=rf"^{method.__name__}\(groups\) {words}"):
        method(**options).decide(method().start(), replace(batch(), **lacks))


@pytest.mark.parametrize("name", ["influence", "responsiveness"])
def test_a_record_without_what_predicts_is_refused(name):
    groups = batch()
    with pytest.raises(ValueError, match=rf"^SoftWeights\(groups\) must have groups\.record with {name}; got none"):
        SoftWeights().decide(SoftWeights().start(), replace(groups, record=replace(groups.record, **{name: None})))


def test_rejection_without_draws_is_refused():
    with pytest.raises(ValueError, match=r"^Rejection\(groups\) must have groups\.uniforms; got none"):
        Rejection().decide(Rejection().start(), replace(batch(), uniforms=None))


@pytest.mark.parametrize("method", [Rejection, partial(Rejection, rule="fewest"), SoftWeights])
def test_a_batch_that_is_left_alone_keeps_every_weight_at_exactly_1(method):
    """Whatever the sums round to: the largest draw there is accepts, and soft weights carry no error of the solver."""
    generator = torch.Generator().manual_seed(3)
    advantages = torch.randn(8, 40, dtype=torch.float64, generator=generator)
    influence = torch.randn(8, 40, 5, dtype=torch.float64, generator=generator)
    blank = torch.zeros_like(influence)
    record = TokenRecord(torch.ones_like(influence, dtype=torch.bool), blank, blank, influence, blank + 1.0)
    draws = torch.full_like(advantages, 1 - 2.0**-53)
    groups = Groups(advantages, advantages, 1.0, Band(0.2, 0.4), 0, record, uniforms=draws)
    each = predict(groups, "tabular", 0.0, "here")
    assert each.rollouts.flatten().sum() != each.total  # two orders of summing: a solver would see a want
    chosen = method(gain=1.0, side="below")
    found = chosen.decide(chosen.start(), groups)
    assert found.info["idle"] == 1
    assert bool((found.weights == 1).all())
