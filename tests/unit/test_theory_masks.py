"""Masked arms, extreme logits, batch shapes and float32: every value and every gradient stays finite and right."""

import math

import pytest
import torch

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
SINGLE_PRECISION = 1e-5
INF, NAN = math.inf, math.nan


def quantities(logits, delta, token):
    """Everything the package computes, by name."""
    return {
        "H": entropy(logits),
        "change": entropy_change(logits, delta),
        "first": first_order_change(logits, delta),
        "second": second_order_change(logits, delta),
        "step": sampled_token_delta(logits, token, 0.7),
        **vars(token_statistics(logits, token)),
    }


def gradients(logits, delta, token):
    """The gradient of each quantity with respect to the logits and, where it has one, to delta."""
    found = {}
    for name in quantities(logits, delta, token):
        inputs = {"logits": logits.clone().requires_grad_(), "delta": delta.clone().requires_grad_()}
        value = quantities(inputs["logits"], inputs["delta"], token)[name]
        value = value[..., 0] if name == "step" else value  # its rows sum to 0: look at one arm
        slopes = torch.autograd.grad(value.sum(), list(inputs.values()), allow_unused=True)
        found |= {f"{name} by {of}": slope for of, slope in zip(inputs, slopes, strict=True) if slope is not None}
    return found


# (logits, delta, a token that has mass)
EXTREMES = {
    "far apart": ([1e4, -1e4, 0.0], [0.5, -2.0, 1.0], 0),
    "all high": ([1e4, 1e4 - 1.0, 1e4], [0.5, -2.0, 1.0], 1),
    "all low": ([-1e4, -1e4, -1e4 + 2.0], [0.5, -2.0, 1.0], 2),
    "high, low and masked": ([1e4, -INF, -1e4, 1e4 - 2.0], [1.0, 3.0, -1.0, 0.5], 3),
    "some masked": ([0.3, -INF, 1.0, -INF, -0.4], [0.5, 1.0, -2.0, 0.0, 1.0], 2),
    "one left": ([-INF, 2.0, -INF], [1.0, -3.0, 2.0], 1),
    "one left, low": ([-INF, -INF, -1e4], [1.0, -3.0, 2.0], 2),
    "one arm": ([2.5], [-1.5], 0),
    "long step": ([0.3, -0.2, 1.0], [1e4, -1e4, 0.0], 0),
    "masked by the type's lowest": ([0.5, 1.5, torch.finfo(torch.float32).min], [1.0, -1.0, 2.0], 1),
}


def extreme(name, dtype=torch.float64):
    logits, delta, token = EXTREMES[name]
    return torch.tensor(logits, dtype=dtype), torch.tensor(delta, dtype=dtype), torch.tensor(token)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("name", EXTREMES)
def test_extremes_stay_finite_and_keep_their_type(name, dtype):
    row = extreme(name, dtype)
    values, slopes = quantities(*row), gradients(*row)
    assert len(slopes) == len(values) + 3  # each by the logits; change, first and second also by delta
    for what, value in {**values, **slopes}.items():
        assert value.isfinite().all(), (what, value)
        assert value.dtype == dtype, what


@pytest.mark.parametrize("name", EXTREMES)
def test_masked_arms_are_as_good_as_absent(name):
    logits, delta, token = extreme(name)
    kept = logits > -1e30
    alone = logits[kept], delta[kept], kept[:token].sum()
    with_mask, without = quantities(logits, delta, token), quantities(*alone)
    with_mask |= gradients(logits, delta, token)
    without |= gradients(*alone)
    for what, value in with_mask.items():
        if value.shape == logits.shape:
            torch.testing.assert_close(value[~kept], torch.zeros_like(value[~kept]), msg=what)
            value = value[kept]
        if not what.startswith("step by"):  # that gradient is of arm 0, which the mask may remove
            torch.testing.assert_close(value, without[what], rtol=0, atol=CLOSED_FORM, msg=what)


@pytest.mark.parametrize("function", [first_order_change, second_order_change])
@pytest.mark.parametrize("poison", [INF, -INF, NAN])
@pytest.mark.parametrize("masked", [-INF, -1e4])  # -1e4: a finite logit whose probability underflows to 0
def test_what_delta_holds_at_masked_arms_is_not_looked_at(function, poison, masked):
    logits = torch.tensor([[0.3, masked, 1.0, masked], [masked, -2.0, 0.5, 0.1]])
    outcomes = []
    for held in (0.0, poison):
        delta = torch.tensor([[0.5, held, -2.0, held], [held, 1.0, -1.0, 0.3]])
        inputs = logits.clone().requires_grad_(), delta.requires_grad_()
        value = function(*inputs)
        outcomes.append((value, *torch.autograd.grad(value.sum(), inputs)))
    for clean, poisoned in zip(*outcomes, strict=True):
        assert clean.isfinite().all()
        assert clean.any()  # zeros would agree with anything that ignores delta altogether
        torch.testing.assert_close(poisoned, clean, rtol=0, atol=0)


@pytest.mark.parametrize("function", [entropy_change, first_order_change, second_order_change])
def test_nan_at_an_arm_with_mass_is_refused(function):
    with pytest.raises(ValueError, match="delta"):
        function(torch.tensor([0.3, -INF, 1.0]), torch.tensor([NAN, 0.0, 1.0]))


def test_a_step_may_mask_an_arm():
    # from p = (1/2, 1/4, 1/4), H = (3/2) ln2, to (2/3, 1/3), H = ln3 - (2/3) ln2
    change = entropy_change(torch.tensor([2.0, 1.0, 1.0]) * math.log(2), torch.tensor([0.0, -INF, 0.0]))
    assert change.item() == pytest.approx(math.log(3) - (2 / 3 + 3 / 2) * math.log(2), abs=CLOSED_FORM)


def test_a_masked_token_has_no_mass():
    statistics = token_statistics(torch.tensor([0.3, -INF, 1.0]), torch.tensor(1))
    assert statistics.log_prob.item() == -INF
    assert statistics.discriminator.item() == 0.0
    assert policy_of(torch.tensor([0.3, -INF, 1.0])).centred[1].item() == 0.0


def test_a_token_whose_probability_underflows_keeps_its_log_probability():
    statistics = token_statistics(torch.tensor([1e4, -1e4]), torch.tensor(1))
    assert statistics.log_prob.item() == pytest.approx(-2e4, abs=CLOSED_FORM)
    assert statistics.discriminator.item() == 0.0


@pytest.mark.parametrize("logits", [[2.5], [-INF, 1e4, -INF]])
def test_a_certain_token_has_no_entropy_and_cannot_move(logits):
    logits = torch.tensor(logits)
    token = logits.argmax()
    values = quantities(logits, torch.full_like(logits, 3.0), token)
    assert values.pop("collision").item() == pytest.approx(1.0, abs=CLOSED_FORM)
    for what, value in values.items():
        torch.testing.assert_close(value, torch.zeros_like(value), rtol=0, atol=CLOSED_FORM, msg=what)


@pytest.mark.parametrize("batch", [(), (1,), (2, 3), (0,), (0, 4), (20_000,), (2, 1, 5, 3)])
def test_batch_axes_are_kept(batch):
    generator = torch.Generator().manual_seed(5)
    logits, delta = (torch.randn(*batch, 4, generator=generator) for _ in range(2))
    token = torch.randint(4, batch, generator=generator)
    values = quantities(logits, delta, token)
    assert values.pop("step").shape == logits.shape
    for what, value in values.items():
        assert value.shape == torch.Size(batch), what
        assert value.isfinite().all(), what
    if logits.numel():
        last = tuple(size - 1 for size in batch)
        for what, value in quantities(logits[last], delta[last], token[last]).items():
            if what != "step":
                torch.testing.assert_close(values[what][last], value, rtol=0, atol=CLOSED_FORM, msg=what)


@pytest.mark.parametrize("scale", [0.1, 3.0])
def test_float32_agrees_with_float64(scale):
    generator = torch.Generator().manual_seed(6)
    logits, delta = scale * torch.randn(200, 50, generator=generator), torch.randn(200, 50, generator=generator)
    logits[:, ::7] = -INF
    logits, delta = logits.float(), delta.float()  # the same numbers in both types
    token = torch.randint(1, 7, (200,), generator=generator)  # never a masked one
    single = quantities(logits, delta, token) | gradients(logits, delta, token)
    double = quantities(logits.double(), delta.double(), token) | gradients(logits.double(), delta.double(), token)
    for what, value in single.items():
        torch.testing.assert_close(value.double(), double[what], rtol=SINGLE_PRECISION, atol=SINGLE_PRECISION, msg=what)


def test_second_derivatives_survive_a_mask():
    # Hessian-vector products of entropy (E7) go twice through the masked arms
    logits = torch.tensor([0.3, -INF, 1.0, -0.5])
    kept = logits.isfinite()
    hessian = torch.autograd.functional.hessian(entropy, logits)
    alone = torch.autograd.functional.hessian(entropy, logits[kept])
    torch.testing.assert_close(hessian[kept][:, kept], alone, rtol=0, atol=CLOSED_FORM)
    assert not hessian[~kept].any()
    assert not hessian[:, ~kept].any()


def test_inputs_are_left_as_they_were():
    logits, delta, token = torch.tensor([0.3, -INF, 1.0]), torch.tensor([1.0, NAN, 2.0]), torch.tensor(2)
    before = logits.clone(), delta.clone(), token.clone()
    quantities(logits, delta, token)
    for now, then in zip((logits, delta, token), before, strict=True):
        torch.testing.assert_close(now, then, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize(
    ("dtype", "row"), [(torch.float32, [3e38, -3e38, 1.0]), (torch.float16, [20.0, -65504.0, 19.0])]
)
def test_log_probabilities_beyond_the_float_type_count_as_masked(dtype, row):
    logits = torch.tensor(row, dtype=dtype, requires_grad=True)
    value = entropy(logits)
    (gradient,) = torch.autograd.grad(value, logits)
    assert value.isfinite()
    assert gradient.isfinite().all()


@pytest.mark.parametrize("stray", [math.nan, math.inf, -math.inf])
def test_exact_change_ignores_the_step_at_masked_arms(stray):
    logits, delta = torch.tensor([0.0, 1.0, -math.inf]), torch.tensor([0.3, -0.2, stray])
    assert entropy_change(logits, delta) == entropy_change(logits[:2], delta[:2])


def test_sampled_token_delta_keeps_the_type_of_the_logits():
    logits, token = torch.zeros(2, 3, dtype=torch.float32), torch.tensor([0, 2], dtype=torch.int32)
    step = torch.tensor([0.1, -0.2], dtype=torch.float64)
    assert sampled_token_delta(logits, token, step).dtype == torch.float32
