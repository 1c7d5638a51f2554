"""The probe: its predictions against finite differences, double backward and their order of convergence."""

import copy
import itertools

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from entropy_theory.network import parameters_set_to
from trainer.methods.advantages import GRPO
from trainer.methods.clips import PPOClip
from trainer.methods.denominators import drop
from trainer.methods.filters import keep_all
from trainer.methods.pipeline import Algorithm
from trainer.methods.stages import Filtered
from trainer.model import completion_logits
from trainer.network import Network
from trainer.probe import Probe
from trainer.sampling import Sampling, sample
from trainer.step import Updater
from trainer.streams import TokenUniforms, python_stream
from trainer.tasks.countdown import Countdown

CENTRAL_DIFFERENCE = 1e-6
TEMPERATURE = 0.8
# without token 0: it is the model's padding index, whose input embedding gets no gradient from torch
PROMPTS, GROUP = [[5, 3, 7], [2], [8, 6, 6, 4], [11, 1]], 4
SMALL_RATE = 1e-5  # of Adam, so that a weight moves by about this: terms beyond the ones under test are below 1 %


@pytest.fixture
def model(tiny):
    return tiny.model


@pytest.fixture
def rollouts(tiny):
    return sample(tiny, PROMPTS, GROUP, 7, Sampling(TEMPERATURE), generator=TokenUniforms(1))


def entropy_of(model, rollouts):
    """The probe's mean entropy, over every token of the completions, as the graph of one forward pass."""
    logits = completion_logits(model, rollouts.tokens, rollouts.attention, rollouts.mask.shape[1], TEMPERATURE)
    log_probs = logits.log_softmax(-1)
    return -(log_probs.exp() * log_probs).sum(-1)[rollouts.mask].mean()


def weights_of(model):
    return [parameter.detach().clone() for parameter in model.parameters()]


def same(one, other):
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def set_to(model, weights, step=None, share=0.0):
    """Set the weights to `weights + share * step`."""
    with torch.no_grad():
        for place, (parameter, value) in enumerate(zip(model.parameters(), weights, strict=True)):
            parameter.copy_(value if step is None else value + share * step[place])


def real_step(model, rollouts, rate=SMALL_RATE):
    """The step of a real update with Adam, two mini-batches and clipped gradients; the weights are put back."""
    before = weights_of(model)
    algorithm = Algorithm.of(GRPO(), filter=keep_all, clip=PPOClip(), denominator=drop)
    updater = Updater(
        network=Network(model),
        reference=None,
        optimizer=torch.optim.AdamW(model.parameters(), lr=rate),
        algorithm=algorithm,
        temperature=TEMPERATURE,
        mini_batches=2,
        epochs=1,
        micro_batch_rows=5,
        gradient_clip=1.0,
    )
    advantages = torch.randn(len(PROMPTS), GROUP, generator=torch.Generator().manual_seed(3))
    updater(rollouts, Filtered(torch.ones_like(advantages), advantages))
    step = [now - then for now, then in zip(weights_of(model), before, strict=True)]
    set_to(model, before)
    return step


def change_along(model, rollouts, step, share=1.0, micro_batch_rows=64, second_order=True):
    """What the probe says when the weights move by `share` times the step; they are put back."""
    before = weights_of(model)
    probe = Probe(Network(model), rollouts, TEMPERATURE, micro_batch_rows)
    set_to(model, before, step, share)
    change = probe.after(second_order)
    set_to(model, before)
    return change


def test_measured_change_is_entropy_after_less_entropy_before(model, rollouts):
    step, before = real_step(model, rollouts, rate=1e-3), weights_of(model)
    change = change_along(model, rollouts, step, second_order=False)
    entropies = []
    for share in (0.0, 1.0):
        set_to(model, before, step, share)
        entropies.append(entropy_of(model, rollouts).item())
    assert change.measured == pytest.approx(entropies[1] - entropies[0], abs=1e-12)
    assert change.per_token[rollouts.mask].mean().item() == pytest.approx(change.measured, abs=1e-12)
    assert not change.per_token[~rollouts.mask].any()
    assert abs(change.measured) > 1e-3
    assert change.second_order is None


def test_first_order_is_the_central_difference_along_the_step(model, rollouts):
    # in a step of the size of real ones; the difference is taken over 1/100 of it
    step, before = real_step(model, rollouts, rate=1e-4), weights_of(model)
    first, entropies = change_along(model, rollouts, step).first_order, []
    for share in (1e-2, -1e-2):
        set_to(model, before, step, share)
        entropies.append(entropy_of(model, rollouts).item())
    assert first == pytest.approx((entropies[0] - entropies[1]) / 2e-2, abs=CENTRAL_DIFFERENCE)
    assert abs(first) > 1e3 * CENTRAL_DIFFERENCE


def test_both_orders_are_those_of_double_backward(model, rollouts):
    step, parameters = real_step(model, rollouts), list(model.parameters())
    change = change_along(model, rollouts, step)
    with sdpa_kernel(SDPBackend.MATH):  # the kernel that has a second derivative
        gradient = torch.autograd.grad(entropy_of(model, rollouts), parameters, create_graph=True)
        slope = sum((g * v).sum() for g, v in zip(gradient, step, strict=True))
        curved = torch.autograd.grad(slope, parameters)
    half_form = 0.5 * sum((c * v).sum() for c, v in zip(curved, step, strict=True)).item()
    assert change.first_order == pytest.approx(slope.item(), rel=1e-10)
    assert change.second_order == pytest.approx(half_form, rel=CENTRAL_DIFFERENCE)
    assert abs(slope.item()) > abs(half_form) > 1e-7


def test_residuals_fall_four_and_eightfold_when_the_step_is_halved(model, rollouts):
    step = real_step(model, rollouts)
    after_first, after_second = [], []
    for share in (1.0, 0.5, 0.25):
        change = change_along(model, rollouts, step, share)
        after_first.append(change.measured - change.first_order)
        after_second.append(after_first[-1] - change.second_order)
    for residuals, order in ((after_first, 2), (after_second, 3)):
        for larger, smaller in itertools.pairwise(residuals):
            assert larger / smaller == pytest.approx(2**order, rel=0.05)


def test_micro_batches_change_nothing(model, rollouts):
    step = real_step(model, rollouts)
    whole = change_along(model, rollouts, step)
    for rows in (1, 5):
        split = change_along(model, rollouts, step, micro_batch_rows=rows)
        for name in ("measured", "first_order", "second_order"):
            assert getattr(split, name) == pytest.approx(getattr(whole, name), abs=1e-12)
        torch.testing.assert_close(split.per_token, whole.per_token, rtol=0, atol=1e-12)


def test_without_a_step_there_is_no_change(model, rollouts):
    probe = Probe(Network(model), rollouts, TEMPERATURE, 64)
    change = probe.after(second_order=True)
    assert (change.measured, change.first_order, change.second_order) == (0.0, 0.0, 0.0)


def test_the_probe_touches_neither_weights_gradients_nor_random_numbers(model, rollouts):
    step, before = real_step(model, rollouts), weights_of(model)
    state = torch.get_rng_state()
    gradients = [torch.randn_like(parameter) for parameter in before]
    for parameter, gradient in zip(model.parameters(), gradients, strict=True):
        parameter.grad = gradient.clone()
    torch.set_rng_state(state)

    probe = Probe(Network(model), rollouts, TEMPERATURE, 5)
    assert same(weights_of(model), before)
    set_to(model, before, step, 1.0)
    moved = weights_of(model)
    probe.after(second_order=True)
    assert same(weights_of(model), moved)
    assert not same(moved, before)
    assert same([parameter.grad for parameter in model.parameters()], gradients)
    assert torch.equal(torch.get_rng_state(), state)


def test_parameters_come_back_bit_for_bit_even_after_an_error(model):
    before = weights_of(model)
    elsewhere = [value / 3 for value in before]

    def fail_elsewhere():
        with parameters_set_to(list(model.parameters()), elsewhere):
            assert same(weights_of(model), elsewhere)
            raise RuntimeError("inside")

    with pytest.raises(RuntimeError, match="inside"):
        fail_elsewhere()
    assert same(weights_of(model), before)


def test_float32_agrees_with_float64_on_the_shipped_model(shipped, shipped64):
    generator = python_stream(0, "prompts")
    prompts = shipped.encode([Countdown().row("train", generator=generator)["prompt"] for _ in range(4)])
    rollouts = sample(shipped, prompts, GROUP, 13, Sampling(TEMPERATURE), generator=TokenUniforms(1))
    step = real_step(copy.deepcopy(shipped.model), rollouts, rate=1e-4)
    single = change_along(copy.deepcopy(shipped.model), rollouts, step, second_order=True)
    double = change_along(copy.deepcopy(shipped64.model), rollouts, step, second_order=True)
    for name in ("measured", "first_order", "second_order"):
        assert getattr(single, name) == pytest.approx(getattr(double, name), abs=1e-5)
    assert abs(double.first_order) > 1e-3
