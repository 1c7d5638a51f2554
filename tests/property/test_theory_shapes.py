"""Batch axes change nothing: every function gives each row what it gives the row alone, for any logits and mask."""

import itertools
import math
from dataclasses import is_dataclass

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings

from entropy_theory import (
    chunked_token_statistics,
    drift_coefficient,
    entropy,
    entropy_bonus_change,
    entropy_change,
    every_token,
    expected_change,
    expected_natural_gradient_change,
    first_order_change,
    fused_token_statistics,
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

# One row, three, none, and two times three.
SHAPES = [(), (3,), (2, 0), (2, 3)]
SCALES = [0.0, 1.0, 30.0, 1e4, 1e30]
MASKS = [-math.inf, torch.finfo(torch.float32).min]
CALLS = {
    "entropy": lambda z, k, d: entropy(z),
    "policy_of": lambda z, k, d: policy_of(z),
    "drift_coefficient": lambda z, k, d: drift_coefficient(z),
    "entropy_bonus_change": lambda z, k, d: entropy_bonus_change(z, 0.1, 0.3),
    "every_token": lambda z, k, d: every_token(z),
    "sampled_changes": lambda z, k, d: sampled_changes(z, 0.3),
    "entropy_change": lambda z, k, d: entropy_change(z, d),
    "first_order_change": lambda z, k, d: first_order_change(z, d),
    "second_order_change": lambda z, k, d: second_order_change(z, d),
    "third_order_change": lambda z, k, d: third_order_change(z, d),
    "remainder_bound": lambda z, k, d: remainder_bound(z, d),
    "expected_change": lambda z, k, d: expected_change(z, d, 0.3, 2, 2),
    "expected_natural_gradient_change": lambda z, k, d: expected_natural_gradient_change(z, d, 0.3),
    "sampled_token_delta": lambda z, k, d: sampled_token_delta(z, k, d.gather(-1, k[..., None])[..., 0]),
    "natural_gradient_change": lambda z, k, d: natural_gradient_change(z, k, -0.3),
    "token_statistics": lambda z, k, d: token_statistics(z, k),
    "chunked_token_statistics": lambda z, k, d: chunked_token_statistics(z, k, 3),
    "theorem1": lambda z, k, d: theorem1(z, k, d),
}
STEPS = [*list(CALLS)[6:13], "theorem1"]  # what a step holds at arms without mass is not looked at
RESPONSES = {
    "theorem2": lambda z, k, d: theorem2(z, k, d),
    "response_entropy": lambda z, k, d: response_entropy(z),
    "response_entropy with a mask": lambda z, k, d: response_entropy(z, k % 2 == 0),  # NaN where nothing counts
    "fused_token_statistics": lambda z, k, d: fused_token_statistics(d, output_matrix(d), k % 3, 2),
}
# What is divided by a delta p, or compared: where rounding decides, it is only as good as its type.
QUOTIENTS = ("weights", "baseline", "condition", "claimed", "effective", "valid", "share")


def fields_of(result, name=""):
    """The tensors of a result by name, those of dataclasses within it too."""
    if not is_dataclass(result):
        return {name: result}
    return {k: v for field, value in vars(result).items() for k, v in fields_of(value, f"{name}.{field}").items()}


def close(found, expected, what):
    # A sum of at most nine terms in another order differs by a few units in the last place of its largest term.
    within = 1e-12 if expected.dtype == torch.float64 else 2e-5
    torch.testing.assert_close(found, expected, rtol=within, atol=within, equal_nan=True, msg=what)


def output_matrix(hidden):
    width = hidden.shape[-1]
    return torch.arange(3 * width, dtype=hidden.dtype).sin().view(3, width)


@st.composite
def policies(draw, shapes):
    """Logits with masked arms, tokens that are not masked and a step; float32 or float64, up to 1e30 apart."""
    shape, arms = draw(st.sampled_from(shapes)), draw(st.integers(1, 9))
    dtype, scale = draw(st.sampled_from([torch.float32, torch.float64])), draw(st.sampled_from(SCALES))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 10_000)))
    logits, delta = ((size * torch.randn(*shape, arms, generator=generator)).to(dtype) for size in (scale, 1.0))
    hidden = torch.rand(*shape, arms, generator=generator) < draw(st.sampled_from([0.0, 0.3, 0.9]))
    token = torch.randint(arms, shape, generator=generator)
    hidden = hidden.scatter(-1, token[..., None], False)
    return logits.masked_fill(hidden, draw(st.sampled_from(MASKS))), token, delta, hidden


def assert_each_row_is_its_own(call, batch, tensors):
    whole = fields_of(call(*tensors))
    for value in whole.values():
        assert value.shape[: len(batch)] == batch
        assert value.dtype in (tensors[0].dtype, torch.bool)
    for row in itertools.product(*map(range, batch)):
        alone = fields_of(call(*(value[row] for value in tensors)))
        for name, value in whole.items():
            assert value[row].shape == alone[name].shape
            if not any(word in name for word in QUOTIENTS):
                close(value[row], alone[name], name)


@pytest.mark.parametrize("call", CALLS)
@settings(max_examples=40)
@given(policies(SHAPES))
def test_a_row_does_not_depend_on_its_batch(call, policy):
    logits, token, delta, _ = policy
    assert_each_row_is_its_own(CALLS[call], token.shape, (logits, token, delta))


@pytest.mark.parametrize("call", RESPONSES)
@settings(max_examples=40)
@given(policies([(*shape, 2) for shape in SHAPES]))
def test_a_response_does_not_depend_on_its_batch(call, policy):
    logits, token, delta, _ = policy
    assert_each_row_is_its_own(RESPONSES[call], token.shape[:-1], (logits, token, delta))


@pytest.mark.parametrize("call", CALLS)
@settings(max_examples=40)
@given(policies([()]))
def test_masked_arms_are_as_good_as_absent_and_all_is_finite(call, policy):
    logits, token, delta, hidden = policy
    kept = ~hidden
    if call in ("entropy_change", "remainder_bound"):  # they look at every arm that is not masked by -inf
        logits = logits.masked_fill(hidden, -math.inf)
    found = fields_of(CALLS[call](logits, token, delta.masked_fill(hidden, math.nan if call in STEPS else 0.0)))
    alone = fields_of(CALLS[call](logits[kept], kept[:token].sum(), delta[kept]))
    for name, value in found.items():
        if any(word in name for word in QUOTIENTS):
            continue
        close(value[kept] if value.ndim else value, alone[name], name)
        assert value.isfinite().all() or name == ".log_probs"


@given(policies(SHAPES))
def test_entropy_and_its_exact_change_stay_in_range(policy):
    logits, _, delta, hidden = policy
    most = (~hidden).sum(-1).log() + 1e-6
    before = entropy(logits)
    assert bool((before >= 0).all())
    assert bool((before <= most).all())
    change = entropy_change(logits, delta)
    assert bool((before + change >= -1e-6).all())
    assert bool((before + change <= most).all())
