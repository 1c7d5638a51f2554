"""Entropy changes along parameter steps of small networks: against closed forms, other derivatives and differences."""

import itertools
import math

import pytest
import torch
from torch import nn
from torch.func import functional_call, jvp

from entropy_theory import (
    DirectionalChange,
    directional_change,
    entropy,
    first_order_change,
    second_order_change,
)

CLOSED_FORM = 1e-12
LN3 = math.log(3)


def normal(*shape, seed):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def plain_entropy(logits):
    """Mean entropy without the package."""
    log_probs = logits.log_softmax(-1)
    return -(log_probs.exp() * log_probs).sum(-1).mean()


def weights_of(model):
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


def along_the_line(model, step, entropy_of):
    """H as a function of the share of the step taken, by functional calls."""
    start = weights_of(model)

    def value(share):
        moved = {name: start[name] + share * v for name, v in step.items()}
        return entropy_of(lambda *inputs: functional_call(model, moved, inputs))

    return value


def derivatives(value):
    """First and half the second derivative at 0, by forward mode twice."""
    one, zero = torch.tensor(1.0), torch.tensor(0.0)

    def slope(share):
        return jvp(value, (share,), (one,))[1]

    first, second = jvp(slope, (zero,), (one,))
    return first.item(), second.item() / 2


def central_differences(value, width):
    ahead, here, behind = (value(torch.tensor(share)).item() for share in (width, 0.0, -width))
    return (ahead - behind) / (2 * width), (ahead - 2 * here + behind) / (2 * width**2)


@pytest.mark.parametrize("way", ["hessian", "difference"])
def test_two_arms_by_hand(way):
    # p = (3/4, 1/4), L = (ln3 / 4, -3 ln3 / 4), step (1/10, 0), so c = (1/40, -3/40):
    #   first   -[3/4 (1/40)(ln3 / 4) + 1/4 (-3/40)(-3 ln3 / 4)] = -3 ln3 / 160
    #   second  -1/2 [3/4 (1/1600)(1 + ln3 / 4) + 1/4 (9/1600)(1 - 3 ln3 / 4)] = -(6 - 3 ln3) / 6400
    model = nn.Linear(1, 2, bias=False)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[LN3], [0.0]]))
    step = {"weight": torch.tensor([[0.1], [0.0]])}
    found = directional_change(model, step, lambda m: entropy(m(torch.ones(1))), second_order=way, epsilon=1e-3)
    assert found.first_order == pytest.approx(-3 * LN3 / 160, abs=CLOSED_FORM)
    assert found.second_order == pytest.approx(-(6 - 3 * LN3) / 6400, abs=1e-9 if way == "difference" else CLOSED_FORM)


@pytest.mark.parametrize("seed", range(4))
def test_a_linear_policy_has_the_closed_forms(seed):
    # logits X W' + b move by X V' + u, linearly: E2 and E3 of each context, averaged
    model = nn.Linear(4, 6)
    contexts, step = (
        normal(9, 4, seed=seed),
        {"weight": normal(6, 4, seed=seed + 10), "bias": normal(6, seed=seed + 20)},
    )
    with torch.no_grad():
        model.weight.copy_(normal(6, 4, seed=seed + 30))
    logits, delta = model(contexts).detach(), contexts @ step["weight"].T + step["bias"]
    found = directional_change(model, step, lambda m: entropy(m(contexts)).mean(), second_order="hessian")
    assert found.first_order == pytest.approx(first_order_change(logits, delta).mean().item(), abs=CLOSED_FORM)
    assert found.second_order == pytest.approx(second_order_change(logits, delta).mean().item(), abs=CLOSED_FORM)
    back = {name: -v for name, v in step.items()}
    opposite = directional_change(model, back, lambda m: entropy(m(contexts)).mean(), second_order="hessian")
    assert opposite.first_order == pytest.approx(-found.first_order, abs=CLOSED_FORM)
    assert opposite.second_order == pytest.approx(found.second_order, abs=CLOSED_FORM)


@pytest.fixture
def mlp():
    """A network whose logits are far from linear in its weights, its step and its entropy."""
    model = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 8), nn.GELU(), nn.Linear(8, 5))
    contexts = 2 * normal(7, 3, seed=1)
    with torch.no_grad():
        for place, parameter in enumerate(model.parameters()):
            parameter.copy_(normal(*parameter.shape, seed=40 + place))
    step = {name: 0.3 * normal(*p.shape, seed=60 + i) for i, (name, p) in enumerate(model.named_parameters())}
    return model, step, lambda m: plain_entropy(m(contexts))


@pytest.mark.parametrize("named", [None, ["0.weight"], ["2.bias", "4.weight"], ["4.bias", "0.bias", "2.weight"]])
def test_both_orders_are_the_derivatives_along_the_step(mlp, named):
    model, step, entropy_of = mlp
    step = {name: step[name] for name in named or step}
    value = along_the_line(model, step, entropy_of)
    found = directional_change(model, step, entropy_of, second_order="hessian")
    first, second = derivatives(value)
    assert found.first_order == pytest.approx(first, abs=CLOSED_FORM)
    assert found.second_order == pytest.approx(second, abs=CLOSED_FORM)
    assert min(abs(first), abs(second)) > 1e-4  # numbers whose sign and factor are seen
    # differences over 1e-3: truncation below 1e-5 of the third derivatives, rounding below 1e-16 / 1e-6
    by_difference = central_differences(value, 1e-3)
    assert (found.first_order, found.second_order) == pytest.approx(by_difference, abs=1e-5)
    central = directional_change(model, step, entropy_of, second_order="difference", epsilon=1e-4)
    assert central.first_order == found.first_order
    assert central.second_order == pytest.approx(second, abs=1e-6)


def test_the_second_order_is_the_form_of_the_whole_hessian(mlp):
    model, step, entropy_of = mlp
    start = weights_of(model)
    sizes = [value.numel() for value in start.values()]

    def of_vector(vector):
        pieces = zip(start.items(), vector.split(sizes), strict=True)
        moved = {name: piece.view_as(value) for (name, value), piece in pieces}
        return entropy_of(lambda *inputs: functional_call(model, moved, inputs))

    at, v = (torch.cat([values[name].flatten() for name in start]) for values in (start, step))
    hessian = torch.func.hessian(of_vector)(at)
    found = directional_change(model, step, entropy_of, second_order="hessian")
    assert found.second_order == pytest.approx((0.5 * v @ hessian @ v).item(), abs=CLOSED_FORM)


def test_without_a_second_order_there_is_none(mlp):
    model, step, entropy_of = mlp
    found = directional_change(model, step, entropy_of)
    assert isinstance(found, DirectionalChange)
    assert found.second_order is None
    assert found.first_order == directional_change(model, step, entropy_of, second_order="hessian").first_order


class Tied(nn.Module):
    """An embedding that is also the output matrix: one parameter that acts twice."""

    def __init__(self):
        super().__init__()
        self.inputs, self.outputs = nn.Embedding(6, 4), nn.Linear(4, 6, bias=False)
        self.outputs.weight = self.inputs.weight

    def forward(self, tokens):
        return self.outputs(self.inputs(tokens).tanh())


def test_a_tied_matrix_moves_in_both_its_places():
    model, tokens = Tied(), torch.tensor([1, 4, 2, 1])
    start, v = normal(6, 4, seed=70), 0.2 * normal(6, 4, seed=71)
    with torch.no_grad():
        model.inputs.weight.copy_(start)

    def value(share):
        moved = start + share * v
        return plain_entropy(moved[tokens].tanh() @ moved.T)

    for way, within in (("hessian", CLOSED_FORM), ("difference", 1e-6)):
        step = {"inputs.weight": v}
        found = directional_change(model, step, lambda m: plain_entropy(m(tokens)), second_order=way, epsilon=1e-3)
        assert (found.first_order, found.second_order) == pytest.approx(derivatives(value), abs=within)
    with pytest.raises(ValueError, match=r"outputs\.weight"):
        directional_change(model, {"outputs.weight": v}, lambda m: plain_entropy(m(tokens)))


def test_parameters_without_part_in_the_entropy_add_nothing(mlp):
    model, step, entropy_of = mlp
    whole = nn.ModuleDict({"policy": model, "value": nn.Linear(3, 1)})
    extended = {f"policy.{name}": v for name, v in step.items()} | {"value.weight": torch.ones(1, 3)}
    for way in ("hessian", "difference"):
        alone = directional_change(model, step, entropy_of, second_order=way)
        assert directional_change(whole, extended, lambda m: entropy_of(m["policy"]), second_order=way) == alone
        only = directional_change(whole, {"value.weight": torch.ones(1, 3)}, lambda m: entropy_of(m["policy"]))
        assert only.first_order == 0


@pytest.mark.parametrize("way", ["none", "hessian", "difference"])
def test_only_named_parameters_move_and_all_come_back(mlp, way):
    model, step, entropy_of = mlp
    before, seen = weights_of(model), []
    for parameter in model.parameters():
        parameter.grad = torch.full_like(parameter, 7.0)

    def watched(m):
        seen.append(weights_of(m))
        return entropy_of(m)

    directional_change(model, {"2.weight": step["2.weight"]}, watched, second_order=way, epsilon=0.5)
    shares = {"none": [0], "hessian": [0, 0], "difference": [0, 0.5, -0.5]}[way]
    assert len(seen) == len(shares)
    for share, weights in zip(shares, seen, strict=True):
        expected = before | {"2.weight": before["2.weight"] + share * step["2.weight"]}
        assert all(torch.equal(weights[name], value) for name, value in expected.items())
    assert all(torch.equal(now, before[name]) for name, now in weights_of(model).items())
    assert all(bool((parameter.grad == 7).all()) for parameter in model.parameters())


def test_an_error_on_the_way_leaves_the_model_as_it_was(mlp):
    model, step, entropy_of = mlp
    before, calls = weights_of(model), itertools.count()

    def fails_later(m):
        if next(calls) == 2:
            raise RuntimeError("out of memory")
        return entropy_of(m)

    with pytest.raises(RuntimeError, match="out of memory"):
        directional_change(model, step, fails_later, second_order="difference")
    assert all(torch.equal(now, before[name]) for name, now in weights_of(model).items())
