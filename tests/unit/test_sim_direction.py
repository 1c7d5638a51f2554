"""Directional influence in the simulations: exact slopes against autograd, and predictions against a plain step."""

from dataclasses import replace

import pytest
import torch

from simulations.direction import find_direction
from simulations.loop import Setting, Simulation
from simulations.networks import Recurrent
from simulations.optimizers import SGD, Adam
from simulations.policies import MLP, Table, Tree
from simulations.problems import bandit, sequences
from trainer.methods.assembly import assemble
from trainer.methods.controllers import predict
from trainer.methods.recipes import RECIPES
from trainer.methods.schedules import Constant
from trainer.methods.stages import Response

REPEATS, SMALL = 2, 1e-5
FEATURES = torch.randn(5, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
POLICIES = {
    "table": Table(3, 4),
    "mlp": MLP(FEATURES, 4, hidden=6),
    "tree": Tree(2, 3, 2),
    "recurrent": Recurrent(2, 3, 2),
}


def simulation(policy, optimizer, rate=SMALL, settings=None, centre=1.0, repeats=REPEATS, **options):
    problem = bandit(policy.prompts, policy.vocabulary, 1)
    if policy.reads_tokens:
        problem = sequences(
            policy.prompts, policy.vocabulary, policy.length, 0.3, generator=torch.Generator().manual_seed(2)
        )
    algorithm = assemble(settings or RECIPES["soft_directional"].settings, group_size=6)
    schedule = Constant((centre, centre), (centre, centre))
    given = Setting(policy, problem, algorithm, 20, rate, optimizer, 6, schedule=schedule, **options)
    return Simulation(given, repeats, seed=3, trace=True)


@pytest.mark.parametrize("name", POLICIES)
def test_slopes_are_those_of_autograd(name):
    policy = POLICIES[name]
    runs = simulation(policy, SGD())
    rollouts = runs.rollouts()
    rate = torch.tensor([0.3, 0.7], dtype=torch.float64)
    found = find_direction(policy, runs.state.parameters, SGD(), {}, rate, rollouts, updates=2)
    leaves = {key: value.clone().requires_grad_() for key, value in runs.state.parameters.items()}
    log_probs = policy.logits(leaves, rollouts.prompts, rollouts.tokens).log_softmax(-1)
    entropy = -(log_probs.exp() * log_probs).sum(-1).mean(-1)
    chosen = log_probs.gather(-1, rollouts.contexts.by_context(rollouts.tokens)).view(rollouts.tokens.shape)
    for repeat in range(REPEATS):
        names = list(leaves)
        of_entropy = torch.autograd.grad(entropy[repeat], [leaves[key] for key in names], retain_graph=True)
        u = [2 * rate[repeat] * g for g in of_entropy]
        assert found.bonus[repeat].item() == pytest.approx(dot(of_entropy, u), abs=1e-12)
        for place in [(0, 0, 0), (1, 3, policy.length - 1), (1, 5, 0)]:
            of_token = torch.autograd.grad(chosen[(repeat, *place)], [leaves[key] for key in names], retain_graph=True)
            assert found.tokens[(repeat, *place)].item() == pytest.approx(dot(of_token, u), abs=1e-12)
    assert found.carried.tolist() == [0.0, 0.0]


def dot(one, other):
    return sum((a * b).sum() for a, b in zip(one, other, strict=True)).item()


def settled(runs, optimizer):
    """Give Adam moments that no further step changes by much."""
    if isinstance(optimizer, Adam):
        moments = dict(runs.state.moments)
        draws = torch.Generator().manual_seed(5)
        for name, value in moments.items():
            drawn = torch.rand(value.shape, generator=draws, dtype=value.dtype)
            moments[name] = 0.05 * drawn - 0.02 if "mean." in name else (0.1 + drawn).square()
        moments["count"] = torch.full((REPEATS,), 1e12, dtype=torch.float64)
        runs.state = replace(runs.state, moments=moments)
    return runs


@pytest.mark.parametrize(
    "optimizer", [SGD(), *(Adam(beta1, beta2=1 - 1e-9) for beta1 in (0.0, 0.8))], ids=["sgd", "adam", "momentum"]
)
@pytest.mark.parametrize("name", ["table", "mlp", "tree"])
def test_predictions_at_unit_weights_are_what_a_small_plain_step_changes(name, optimizer):
    runs = settled(simulation(POLICIES[name], optimizer), optimizer)
    step = runs.advance()
    groups = step.trace.groups
    assert groups.response == optimizer.response(1)
    prediction = predict(groups, "directional", 0.0, "here")
    plain = settled(simulation(POLICIES[name], optimizer, settings={"denominator": "zero"}), optimizer).advance()
    expected = groups.response.now * prediction.total + (1 - groups.response.kept) * prediction.carried
    # What is left is of second order: the step's size, a few 1e-5, times the change.
    torch.testing.assert_close(plain.measured_change, expected, rtol=1e-3, atol=0)
    assert bool((prediction.carried != 0).all()) == (optimizer.response(1) != Response())


def test_carried_is_what_adam_still_does_without_further_gradients():
    adam = Adam(0.8, beta2=1 - 1e-9)
    runs = settled(simulation(POLICIES["mlp"], adam), adam)
    rate, everywhere = runs.learning_rate, torch.ones(REPEATS, dtype=torch.bool)
    still = adam.carried(runs.state.moments, rate)
    moments, parameters = runs.state.moments, runs.state.parameters
    for _ in range(120):  # 0.8^120 is 2e-12
        nothing = {name: torch.zeros_like(value) for name, value in parameters.items()}
        moments, parameters = adam.step(moments, parameters, nothing, rate, everywhere)
    for name, value in parameters.items():
        torch.testing.assert_close(value - runs.state.parameters[name], still[name], rtol=1e-5, atol=1e-13)


def test_before_adams_first_step_nothing_is_predicted():
    groups = simulation(POLICIES["mlp"], Adam()).advance().trace.groups
    assert not groups.direction.tokens.any()
    assert not groups.direction.bonus.any()
    assert not groups.direction.carried.any()


def test_every_optimiser_step_of_a_batch_counts():
    directions = []
    for epochs in (1, 3):
        runs = simulation(POLICIES["mlp"], Adam(0.8), epochs=epochs)
        runs = settled(runs, runs.setting.optimizer)
        groups = runs.advance().trace.groups
        assert groups.response == Response.of_momentum(0.8, epochs)
        directions.append(groups.direction.tokens)
    torch.testing.assert_close(directions[1], 3 * directions[0])


def test_directional_control_with_a_gain_of_1_lands_on_the_aim():
    options = {"influence": "directional", "gain": 1.0, "fraction": 1.0, "smoothing": 0.0, "memory": 0.0, "most": 1e3}
    settings = {"filter": "soft", "filter_options": options, "denominator": "zero"}
    runs = simulation(POLICIES["mlp"], SGD(), rate=0.01, settings=settings, repeats=1)
    entropy = float(runs.rollouts().contexts.entropy.mean())
    runs = simulation(POLICIES["mlp"], SGD(), rate=0.01, settings=settings, centre=entropy + 1e-3, repeats=1)
    step = runs.advance()
    assert not step.info["saturated"]
    # What a step misses is of second order in it.
    assert step.measured_change.item() == pytest.approx(step.info["wanted"].item(), rel=0.1)
    assert step.info["uncontrolled"].item() != pytest.approx(step.info["wanted"].item(), rel=0.3)
