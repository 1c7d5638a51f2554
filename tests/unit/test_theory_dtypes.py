"""Float types: half precision is computed in float32, float32 keeps the digits that are promised, float64 stays."""

import math
from dataclasses import is_dataclass

import pytest
import torch

from entropy_theory import (
    chain_rule_entropy,
    chunked_token_statistics,
    drift_coefficient,
    entropy,
    entropy_bonus_change,
    entropy_change,
    enumerated_entropy,
    every_token,
    expected_change,
    expected_natural_gradient_change,
    first_order_change,
    natural_gradient_change,
    policy_of,
    remainder_bound,
    response_entropy,
    sampled_changes,
    sampled_token_delta,
    second_order_change,
    theorem1,
    theorem2,
    third_order_change,
    token_statistics,
)

HALF = [torch.bfloat16, torch.float16]
# Every public function, as one of (logits, token, a value an arm); fused statistics make their logits themselves.
CALLS = {
    "entropy": lambda z, k, d: entropy(z),
    "policy_of": lambda z, k, d: policy_of(z),
    "response_entropy": lambda z, k, d: response_entropy(z, k > 1),
    "drift_coefficient": lambda z, k, d: drift_coefficient(z),
    "entropy_bonus_change": lambda z, k, d: entropy_bonus_change(z, 0.1, 0.3),
    "enumerated_entropy": lambda z, k, d: enumerated_entropy(lambda prefix: z[0, len(prefix)], 7, 2),
    "chain_rule_entropy": lambda z, k, d: chain_rule_entropy(lambda prefix: z[0, len(prefix)], 7, 2),
    "every_token": lambda z, k, d: every_token(z),
    "sampled_changes": lambda z, k, d: sampled_changes(z, 0.3),
    "sampled_token_delta": lambda z, k, d: sampled_token_delta(z, k, 0.3),
    "token_statistics": lambda z, k, d: token_statistics(z, k),
    "chunked_token_statistics": lambda z, k, d: chunked_token_statistics(z, k, 3),
    "natural_gradient_change": lambda z, k, d: natural_gradient_change(z, k, 0.3),
}
STEPPED = {
    "entropy_change": lambda z, k, d: entropy_change(z, d),
    "first_order_change": lambda z, k, d: first_order_change(z, d),
    "second_order_change": lambda z, k, d: second_order_change(z, d),
    "third_order_change": lambda z, k, d: third_order_change(z, d),
    "remainder_bound": lambda z, k, d: remainder_bound(z, d),
    "expected_change": lambda z, k, d: expected_change(z, d, 0.3, 2, 2),
    "expected_natural_gradient_change": lambda z, k, d: expected_natural_gradient_change(z, d, 0.3),
    "theorem1": lambda z, k, d: theorem1(z, k, d),
    "theorem2": lambda z, k, d: theorem2(z, k, d),
}


def fields_of(result, name=""):
    """The tensors of a result by name, those of dataclasses within it too."""
    if not is_dataclass(result):
        return {name: result}
    return {k: v for field, value in vars(result).items() for k, v in fields_of(value, f"{name}.{field}").items()}


def rows(seed=0):
    """Logits with a masked arm, tokens that are not masked, and a step, in float64."""
    generator = torch.Generator().manual_seed(seed)
    logits, delta = 3 * torch.randn(4, 6, 7, generator=generator), torch.randn(4, 6, 7, generator=generator)
    return logits.index_fill(-1, torch.tensor(6), -math.inf), torch.randint(6, (4, 6), generator=generator), delta


def assert_same_bits(found, expected):
    for name, value in fields_of(expected).items():
        torch.testing.assert_close(fields_of(found)[name], value, rtol=0, atol=0, equal_nan=True, msg=name)


@pytest.mark.parametrize("half", HALF)
@pytest.mark.parametrize("call", CALLS | STEPPED)
def test_half_precision_logits_are_computed_in_float32(call, half):
    logits, token, delta = rows()
    logits, delta, call = logits.to(half), delta.float(), (CALLS | STEPPED)[call]
    found = call(logits, token, delta)
    assert {value.dtype for value in fields_of(found).values()} <= {torch.float32, torch.bool}
    assert_same_bits(found, call(logits.float(), token, delta))


@pytest.mark.parametrize("half", HALF)
@pytest.mark.parametrize("call", STEPPED)
def test_half_precision_steps_are_computed_in_float32(call, half):
    logits, token, delta = rows()
    logits, delta, call = logits.to(half), delta.to(half), STEPPED[call]
    expected = call(logits.float(), token, delta.float())
    assert_same_bits(call(logits, token, delta), expected)
    assert_same_bits(call(logits.float(), token, delta), expected)


def test_half_precision_advantages_do_not_overflow():
    logits, advantages = torch.zeros(3, dtype=torch.float16), torch.tensor([300.0, 0.0, 0.0], dtype=torch.float16)
    expected = expected_change(logits.float(), advantages.float(), 1e-3, order=2)
    assert expected_change(logits, advantages, 1e-3, order=2).item() == expected.item()


@pytest.mark.parametrize("kind", [torch.float32, torch.float64])
@pytest.mark.parametrize("call", CALLS | STEPPED)
def test_single_and_double_stay_what_they_are(call, kind):
    logits, token, delta = rows()
    found = (CALLS | STEPPED)[call](logits.to(kind), token, delta.to(kind))
    assert {value.dtype for value in fields_of(found).values()} <= {kind, torch.bool}


@pytest.mark.parametrize("call", STEPPED)
def test_a_step_of_another_type_is_taken_as_it_is(call):
    # The wider type wins; a float64 step with float32 logits loses none of the step's digits.
    logits, token, delta = rows()
    call = STEPPED[call]
    narrow, wide = call(logits, token, delta.float()), call(logits, token, delta.float().double())
    assert_same_bits(narrow, wide)
    mixed, double = (
        fields_of(call(logits.float(), token, delta)),
        fields_of(call(logits.float().double(), token, delta)),
    )
    for name in mixed:
        if mixed[name].dtype != torch.bool and ("change" in name or not name):
            torch.testing.assert_close(mixed[name].double(), double[name], rtol=1e-5, atol=1e-5, msg=name)


def policies(arms, scale):
    """Float32 rows, a step, and tokens half of which are the likeliest."""
    generator = torch.Generator().manual_seed(arms)
    count = max(8, min(2000, 200_000 // arms))
    logits, delta = (torch.randn(count, arms, generator=generator).float() for _ in range(2))
    logits, token = scale * logits, torch.randint(arms, (count,), generator=generator)
    token[::2] = logits[::2].argmax(-1)
    return logits, token, delta


@pytest.mark.parametrize("scale", [0.1, 1.0, 3.0, 5.0, 10.0, 30.0])
@pytest.mark.parametrize("arms", [5, 106, 4096, 32_000])
def test_float32_keeps_what_is_promised(arms, scale):
    logits, token, _ = policies(arms, scale)
    found, true = token_statistics(logits, token), token_statistics(logits.double(), token)
    assert torch.equal(entropy(logits), found.entropy)
    errors = {name: (value.double() - vars(true)[name]).abs() for name, value in vars(found).items()}
    errors["entropy"] /= true.entropy.clamp(min=1e-2)
    errors["log_prob"] /= true.log_prob.abs().clamp(min=1)
    worst = {name: error.max().item() for name, error in errors.items()}
    assert {name: error for name, error in worst.items() if error > 5e-5} == {}


@pytest.mark.parametrize("scale", [0.1, 1.0, 3.0, 5.0, 10.0, 30.0])
@pytest.mark.parametrize("arms", [5, 106, 4096, 32_000])
def test_the_first_order_in_float32_is_exact_on_the_scale_of_its_terms(arms, scale):
    logits, _, delta = policies(arms, scale)
    policy = policy_of(logits.double())
    terms = (policy.discriminator * policy.centre(delta.double())).abs().sum(-1).clamp(min=0.1)
    error = first_order_change(logits, delta).double() - first_order_change(logits.double(), delta.double())
    assert (error.abs() / terms).max().item() < 5e-6


def test_a_tiny_step_needs_the_terms_in_float32():
    # H has a rounding of 1e-7 there, as large as the change itself; the first order is a product and keeps its digits.
    logits, _, delta = policies(106, 1.0)
    delta = 1e-6 * delta
    true = entropy_change(logits.double(), delta.double())
    terms = (policy_of(logits).discriminator * delta).double().abs().sum(-1)
    assert ((entropy_change(logits, delta) - true) / true).abs().median().item() > 0.3
    first = (first_order_change(logits, delta) - true).abs()
    assert (first / true.abs()).median().item() < 1e-4
    assert (first / terms).max().item() < 1e-5
    # in float64 the difference itself has those digits
    assert ((true - first_order_change(logits.double(), delta.double())) / terms).abs().max().item() < 1e-5
