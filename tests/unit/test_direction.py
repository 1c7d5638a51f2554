"""How a batch moves entropy through shared parameters: slopes against autograd, momentum against what AdamW does."""

import copy

import pytest
import torch

from trainer import direction as module
from trainer.config import OptimizerConfig
from trainer.direction import MEMORY, MOMENT, find_direction
from trainer.methods.advantages import GRPO
from trainer.methods.clips import PPOClip
from trainer.methods.controllers import predict
from trainer.methods.denominators import zero
from trainer.methods.filters import keep_all
from trainer.methods.pipeline import Algorithm
from trainer.methods.stages import Band, Filtered, Groups, Response, per_token
from trainer.model import completion_logits
from trainer.network import Network
from trainer.optimizer import (
    averaged_gradients,
    build_optimizer,
    load_whole_state,
    momentum_decay,
    preconditioned,
    running_mean,
    whole_state,
)
from trainer.probe import Probe
from trainer.sampling import Sampling, sample
from trainer.step import Updater
from trainer.streams import TokenUniforms

TEMPERATURE = 0.8
# Without token 0: it is the model's padding index, whose input embedding gets no gradient from torch.
PROMPTS, GROUP = [[5, 3, 7], [2], [8, 6, 6, 4]], 3
RATE = 1e-4
# A forward difference over a trial move of this much entropy errs by about as large a share of each slope.
TRIAL = 1e-6
SIZES = (4, 0)


@pytest.fixture
def model(tiny):
    return tiny.model


@pytest.fixture
def rollouts(tiny):
    return sample(tiny, PROMPTS, GROUP, 5, Sampling(TEMPERATURE), generator=TokenUniforms(1))


@pytest.fixture
def small_trial(monkeypatch):
    monkeypatch.setattr(module, "TRIAL", TRIAL)


def settled(model, beta1=0.0):
    """AdamW after so many steps that neither its preconditioner nor bias correction moves any more."""
    chosen = OptimizerConfig(learning_rate=RATE, beta1=beta1, beta2=1 - 1e-9, eps=1e-8, weight_decay=0.0)
    optimizer = build_optimizer(model.parameters(), chosen)
    generator = torch.Generator().manual_seed(4)
    for parameter in model.parameters():
        draws = torch.rand(parameter.shape, generator=generator)
        optimizer.state[parameter] = {
            "step": torch.tensor(1e12),
            "exp_avg": 0.01 * torch.randn(parameter.shape, generator=generator) if beta1 else torch.zeros_like(draws),
            "exp_avg_sq": (0.01 + 0.02 * draws).square(),
        }
    return optimizer


def probe_of(model, rollouts):
    return Probe(Network(model), rollouts, TEMPERATURE, 64)


def some_advantages(rollouts):
    """One a rollout, of both signs, and one group without any; and the same for each token."""
    values = torch.tensor([[1.0, -0.5, 0.3], [0.0, 0.0, 0.0], [-1.2, 0.7, 0.4]])
    return values, per_token(values, rollouts.record.mask).flatten(0, 1)


def found_with(model, rollouts, optimizer, updates=1):
    """The direction once the running mean is the probe's own gradient."""
    probe = probe_of(model, rollouts)
    advantages = some_advantages(rollouts)[1]
    nothing = find_direction(probe, optimizer, rollouts, advantages, updates, SIZES)
    assert not nothing.tokens.any()  # of earlier batches nothing is known
    assert (nothing.bonus.item(), nothing.carried.item()) == (0.0, 0.0)
    return probe, find_direction(probe, optimizer, rollouts, advantages, updates, SIZES)


def dot(one, other):
    return sum((a * b).sum() for a, b in zip(one, other, strict=True)).item()


def test_slopes_are_those_of_autograd(model, rollouts, small_trial):
    optimizer = settled(model)
    probe, found = found_with(model, rollouts, optimizer)
    along = [
        RATE * g / (optimizer.state[p]["exp_avg_sq"].sqrt() + 1e-8)
        for g, p in zip(probe.gradient, model.parameters(), strict=True)
    ]
    logits = completion_logits(model, rollouts.tokens, rollouts.attention, rollouts.mask.shape[1], TEMPERATURE)
    log_probs = logits.log_softmax(-1).gather(-1, rollouts.completion_ids[..., None])[..., 0]
    slopes, looked_at = found.tokens.flatten(0, 1), 0
    for row, place in rollouts.mask.nonzero().tolist():
        if row in (3, 4, 5):
            assert slopes[row, place] == 0  # no advantage, not looked at
            continue
        exact = dot(torch.autograd.grad(log_probs[row, place], list(model.parameters()), retain_graph=True), along)
        assert slopes[row, place].item() == pytest.approx(exact, rel=1e-3, abs=1e-3 * slopes.abs().max().item())
        looked_at += 1
    assert looked_at > 8
    assert not slopes[~rollouts.mask].any()
    assert found.bonus.item() == pytest.approx(dot(probe.gradient, along), rel=1e-9)


def test_the_error_of_the_slopes_halves_with_the_trial(model, rollouts, monkeypatch):
    results = []
    for trial in (1e-7, 2e-3, 1e-3):
        monkeypatch.setattr(module, "TRIAL", trial)
        results.append(found_with(model, rollouts, settled(model))[1].tokens)
    exact, coarse, fine = results
    assert ((coarse - exact).norm() / (fine - exact).norm()).item() == pytest.approx(2, rel=0.05)


def test_every_optimiser_step_adds_as_much(model, rollouts):
    one, four = (found_with(model, rollouts, settled(model), updates)[1] for updates in (1, 4))
    torch.testing.assert_close(four.tokens, 4 * one.tokens)
    assert four.bonus.item() == pytest.approx(4 * one.bonus.item())


def test_passes_of_any_size_give_the_same(model, rollouts):
    optimizer, probe, advantages = settled(model), probe_of(model, rollouts), some_advantages(rollouts)[1]
    found_with(model, rollouts, optimizer)
    kept = whole_state(optimizer)
    results = []
    for sizes in ((64, 0), (1, 0), (8, 20)):
        load_whole_state(optimizer, copy.deepcopy(kept))
        results.append(find_direction(probe, optimizer, rollouts, advantages, 1, sizes).tokens)
    for other in results[1:]:
        torch.testing.assert_close(other, results[0], rtol=0, atol=1e-9)


def test_weights_gradients_and_the_rollouts_are_left_alone(model, rollouts):
    before = [parameter.detach().clone() for parameter in model.parameters()]
    found_with(model, rollouts, settled(model))
    assert all(torch.equal(now, then) for now, then in zip(model.parameters(), before, strict=True))
    assert all(parameter.grad is None for parameter in model.parameters())


def test_before_the_first_step_nothing_is_predicted_nor_kept(model, rollouts):
    optimizer = build_optimizer(model.parameters(), OptimizerConfig())
    found = find_direction(probe_of(model, rollouts), optimizer, rollouts, some_advantages(rollouts)[1], 1, SIZES)
    assert not found.tokens.any()
    assert (found.bonus.item(), found.carried.item()) == (0.0, 0.0)
    assert not any(MOMENT in state for state in optimizer.state.values())


@pytest.mark.parametrize("beta1", [0.0, 0.9])
def test_the_prediction_at_unit_weights_is_the_first_order_of_a_plain_step(model, rollouts, small_trial, beta1):
    """And of what momentum delays, the share that comes at once; what it carried before comes on top."""
    optimizer = settled(model, beta1)
    probe, found = found_with(model, rollouts, optimizer)
    advantages, _ = some_advantages(rollouts)
    algorithm = Algorithm.of(GRPO(), filter=keep_all, clip=PPOClip(), denominator=zero)
    updater = Updater(
        network=Network(model),
        reference=None,
        optimizer=optimizer,
        algorithm=algorithm,
        temperature=TEMPERATURE,
        mini_batches=1,
        epochs=1,
        micro_batch_rows=64,
        gradient_clip=1e9,
    )
    groups = Groups(advantages, advantages, 1.0, Band(0.0, 9.0), 0, rollouts.record, direction=found)
    prediction = predict(groups, "directional", 0.0, "here")
    updater(rollouts, Filtered(torch.ones_like(advantages), advantages))
    change = probe.after(second_order=True)
    response = Response.of_momentum(momentum_decay(optimizer), updates=1)
    expected = response.now * prediction.total + (1 - response.kept) * prediction.carried
    # The difference over the trial errs by its size, relative to the parts; the preconditioner moves by 1e-9.
    parts = prediction.tokens.abs().sum() + prediction.carried.abs()
    assert change.first_order == pytest.approx(expected.item(), abs=1e-3 * parts.item())
    assert abs(change.first_order) > 0.01 * parts.item()
    assert change.measured == pytest.approx(change.first_order + change.second_order, rel=0.05)
    assert (prediction.carried.item() != 0) == (beta1 > 0)


def test_carried_is_what_adamw_still_does_without_further_gradients(model, rollouts):
    optimizer = settled(model, beta1=0.9)
    probe, found = found_with(model, rollouts, optimizer)
    start = [parameter.detach().clone() for parameter in model.parameters()]
    for _ in range(250):  # 0.9^250 is 4e-12
        for parameter in model.parameters():
            parameter.grad = torch.zeros_like(parameter)
        optimizer.step()
    moved = [now.detach() - then for now, then in zip(model.parameters(), start, strict=True)]
    # beta2 is 1 - 1e-9: its decay over 250 steps is 2.5e-7.
    assert found.carried.item() == pytest.approx(dot(probe.gradient, moved), rel=1e-5)
    assert found.carried.item() != 0


@pytest.mark.parametrize(("decay", "updates"), [(0.9, 1), (0.9, 4), (0.5, 3), (0.0, 2)])
def test_the_response_is_that_of_averaged_gradients(decay, updates):
    """A gradient of 1 at each step of the first batch; what has moved by the end of each batch, of 1 each."""
    mean, moved, by_batch = 0.0, 0.0, []
    for step in range(40 * updates):
        mean = decay * mean + (1 - decay) * (step < updates)
        moved += mean
        if step % updates == updates - 1:
            by_batch.append(moved)
    found = Response.of_momentum(decay, updates)
    assert found.now == pytest.approx(by_batch[0] / updates)
    left = [updates - value for value in by_batch]
    assert left[1] == pytest.approx(found.kept * left[0])
    assert left[2] == pytest.approx(found.kept * left[1])
    # Batches of 1 forever: each leaves 1 - now, of which `kept` stays a batch later.
    carried = 0.0
    for _ in range(400):
        carried = found.kept * carried + 1 - found.now
    assert found.lag == pytest.approx(carried)


def test_averages_and_preconditioner_by_hand():
    weight = torch.nn.Parameter(torch.tensor([1.0, 2.0]))
    optimizer = build_optimizer([weight], OptimizerConfig(learning_rate=0.5, beta1=0.9, beta2=0.75, eps=0.1))
    assert averaged_gradients(optimizer) is None
    for gradient in ([1.0, -2.0], [3.0, 0.0]):
        weight.grad = torch.tensor(gradient)
        optimizer.step()
    # m = 0.9 * 0.1 g1 + 0.1 g2 over 0.19; v = 0.75 * 0.25 g1^2 + 0.25 g2^2 over 1 - 0.5625
    (mean,) = averaged_gradients(optimizer)
    torch.testing.assert_close(mean, torch.tensor([0.39 / 0.19, -0.18 / 0.19]))
    (found,) = preconditioned(optimizer, [torch.tensor([1.0, 1.0])])
    squares = torch.tensor([0.1875 + 2.25, 0.75]) / 0.4375
    torch.testing.assert_close(found, 0.5 / (squares.sqrt() + 0.1))


def test_the_running_mean_is_saved_with_the_optimiser_and_goes_on_where_it_was(model, tmp_path):
    optimizer, values = settled(model), [torch.ones_like(parameter) for parameter in model.parameters()]
    assert running_mean(optimizer, MOMENT, values, MEMORY) is None
    found = running_mean(optimizer, MOMENT, [3 * value for value in values], MEMORY)
    assert all(bool((mean == 1).all()) for mean in found)  # of earlier values alone
    torch.save(whole_state(optimizer), tmp_path / "optimizer.pt")
    other = settled(model)
    load_whole_state(other, torch.load(tmp_path / "optimizer.pt", weights_only=True))
    for each in (optimizer, other):
        mean = running_mean(each, MOMENT, values, MEMORY)
        for part in mean:
            torch.testing.assert_close(part, torch.full_like(part, MEMORY * 1 + (1 - MEMORY) * 3))


def test_a_parameter_without_a_gradient_does_not_hide_the_others():
    used, unused = (torch.nn.Parameter(torch.ones(2)) for _ in range(2))
    optimizer = build_optimizer([used, unused], OptimizerConfig())
    used.grad = torch.ones(2)
    optimizer.step()
    assert averaged_gradients(optimizer) is not None


def test_a_model_that_computes_in_half_precision_has_the_slopes_of_float32(tiny, rollouts):
    model = tiny.model.float()
    whole = found_with(model, rollouts, settled(model))[1].tokens
    model.entrocraft_dtype = "bfloat16"
    halved = found_with(model, rollouts, settled(model))[1].tokens
    assert model.entrocraft_dtype == "bfloat16"
    # The gradient of entropy is of bfloat16, 8 bits, and is summed; the slopes along it are not.
    assert torch.corrcoef(torch.stack([whole.flatten(), halved.flatten()]))[0, 1] > 0.999
    torch.testing.assert_close(halved, whole, rtol=0.1, atol=0.02 * whole.abs().max().item())
