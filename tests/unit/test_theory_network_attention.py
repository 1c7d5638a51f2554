"""Entropy changes along parameter steps of a transformer: measured changes, micro-batches, and what is left behind."""

import itertools
import math

import pytest
import torch
from torch.func import functional_call

from entropy_theory import directional_change, entropy, response_entropy

ROWS = [[2, 5, 3, 7, 4], [8, 6, 6, 11, 9], [10, 3, 2, 2, 5]]  # without token 0, the padding, which gets no gradient
STEP = 3e-3  # of every weight, whose own size is about 0.2
MATRIX = "model.layers.1.self_attn.q_proj.weight"


def whole(model):
    """The mean entropy at 15 contexts."""
    return response_entropy(model(input_ids=torch.tensor(ROWS)).logits).mean()


def by_rows(model):
    """The same entropy a row at a time, each with its share."""
    for row in ROWS:
        yield entropy(model(input_ids=torch.tensor([row])).logits).sum() / 15


@pytest.fixture
def model(tiny):
    return tiny.model


@pytest.fixture
def step(model):
    """A step of every weight; the embeddings are tied to the output matrix and named once."""
    generator = torch.Generator().manual_seed(8)
    return {n: STEP * torch.randn(p.shape, generator=generator) for n, p in model.named_parameters()}


def weights_of(model):
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


def entropy_at(model, step, share):
    """The entropy with a share of the step taken, in copies of the weights."""
    moved = {name: value + share * step[name] for name, value in weights_of(model).items() if name in step}
    with torch.no_grad():
        return whole(lambda **inputs: functional_call(model, moved, (), inputs)).item()


@pytest.mark.parametrize("named", ["all", MATRIX, "model.embed_tokens.weight"])
def test_both_ways_are_the_central_differences_of_the_entropy(model, step, named):
    step = step if named == "all" else {named: step[named]}
    exact = directional_change(model, step, whole, second_order="hessian")
    central = directional_change(model, step, whole, second_order="difference", epsilon=0.01)
    assert central.first_order == exact.first_order
    assert central.second_order == pytest.approx(exact.second_order, rel=1e-3)
    # over 1/10 of the step: rounding is 1e-14 in the second difference; the next orders are under 1e-3
    ahead, here, behind = (entropy_at(model, step, share) for share in (0.1, 0.0, -0.1))
    assert exact.first_order == pytest.approx((ahead - behind) / 0.2, rel=1e-3)
    assert exact.second_order == pytest.approx((ahead - 2 * here + behind) / 0.02, rel=1e-3)
    assert min(abs(exact.first_order), abs(exact.second_order)) > 1e-9  # far above the rounding


@pytest.mark.parametrize("way", ["hessian", "difference"])
def test_the_errors_fall_as_the_second_and_the_third_power_of_the_step(model, step, way):
    here, after_first, after_second = entropy_at(model, step, 0.0), [], []
    for share in [2.0**-halvings for halvings in range(2, 6)]:
        scaled = {name: share * v for name, v in step.items()}
        found = directional_change(model, scaled, whole, second_order=way, epsilon=1e-2)
        after_first.append(entropy_at(model, step, share) - here - found.first_order)
        after_second.append(after_first[-1] - found.second_order)
    for errors, order, within in ((after_first, 2, 0.1), (after_second, 3, 0.15)):
        slopes = [math.log2(larger / smaller) for larger, smaller in itertools.pairwise(errors)]  # all of one sign
        assert slopes == pytest.approx([order] * 3, abs=within)
    assert abs(after_second[-1]) > 1e-12


@pytest.mark.parametrize("way", ["hessian", "difference"])
def test_micro_batches_add_up_to_the_whole(model, step, way):
    expected = directional_change(model, step, whole, second_order=way)
    for parts in (by_rows, lambda m: list(by_rows(m)), lambda m: (part[None] for part in by_rows(m))):
        found = directional_change(model, step, parts, second_order=way)
        assert found.first_order == pytest.approx(expected.first_order, abs=1e-12)
        assert found.second_order == pytest.approx(expected.second_order, abs=1e-12)
    assert min(abs(expected.first_order), abs(expected.second_order)) > 1e-6


@pytest.mark.parametrize("way", ["none", "hessian", "difference"])
@pytest.mark.parametrize("named", ["all", MATRIX])
def test_the_model_is_left_to_the_last_bit(model, step, way, named):
    before = weights_of(model)
    for place, parameter in enumerate(model.parameters()):
        parameter.grad = torch.full_like(parameter, place + 0.1)
    state = torch.get_rng_state()
    directional_change(model, step if named == "all" else {named: step[named]}, by_rows, second_order=way)
    assert all(torch.equal(now, before[name]) for name, now in weights_of(model).items())
    assert all(bool((p.grad == place + 0.1).all()) for place, p in enumerate(model.parameters()))
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("way", ["hessian", "difference"])
def test_a_step_of_nothing_changes_nothing(model, step, way):
    still = directional_change(model, {name: 0 * v for name, v in step.items()}, whole, second_order=way)
    assert (still.first_order, still.second_order) == (0.0, 0.0)
