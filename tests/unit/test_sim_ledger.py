"""The entropy ledger: it sums, each cause appears when its switch is on, and planted errors show."""

from dataclasses import replace

import pytest
import torch

from entropy_theory import expected_change, first_order_change, second_order_change
from simulations.exact import tree_of
from simulations.ledger import ledger
from simulations.loop import Setting, Simulation
from simulations.networks import Attention, Recurrent
from simulations.optimizers import Adam
from simulations.policies import MLP, Forward, Linear, Table, Tree
from simulations.problems import sequences
from trainer.methods.assembly import assemble
from trainer.methods.schedules import Constant

NOTHING = 1e-14
P, V = 4, 3
FEATURES = torch.randn(P, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
POLICIES = {
    "table": Table(P, V),
    "linear": Linear(FEATURES, V),
    "mlp": MLP(FEATURES, V),
    "tree": Tree(P, V, 3),
    "elman": Recurrent(P, V, 3),
    "gru": Recurrent(P, V, 3, cell="gru"),
    "attention": Attention(P, V, 3),
}
GRPO = {"advantage": "grpo", "denominator": "zero"}


def setting(policy=POLICIES["table"], algorithm=GRPO, **options):
    problem = sequences(
        policy.prompts, policy.vocabulary, policy.length, 0.34, generator=torch.Generator().manual_seed(1)
    )
    return Setting(policy, problem, assemble(algorithm), **{"steps": 6, "learning_rate": 0.1, **options})


def ledgers(given, repeats=8, seed=0):
    return [ledger(given, step.trace) for step in Simulation(given, repeats, seed=seed, trace=True)]


def size(found, name):
    return torch.stack([getattr(each, name) for each in found]).abs().median().item()


@pytest.mark.parametrize("policy", POLICIES.values(), ids=POLICIES)
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_the_causes_sum_to_the_change_and_leave_little_unexplained(policy, optimizer):
    given = setting(policy)
    if optimizer == "adam":
        given = replace(given, optimizer=Adam(), learning_rate=0.003, epochs=2, mini_batches=2)
    runs = Simulation(given, 8, seed=0, trace=True)
    found = [ledger(given, step.trace) for step in runs]
    for each in found:
        torch.testing.assert_close(sum(each.causes.values()), each.measured, rtol=0, atol=NOTHING)
    assert size(found, "unexplained") <= 0.05 * size(found, "measured")
    first = Simulation(given, 8, seed=0, trace=True)
    before = first.advance().exact_entropy
    after = tree_of(policy, first.state.parameters).entropy()
    torch.testing.assert_close(found[0].own_contexts, after - before, rtol=0, atol=NOTHING)
    assert (size(found, "context_shift") > 0) == (policy.length > 1)


def test_a_bandits_causes_are_those_of_the_theory():
    # reinforce on rewards 0/1: the expected advantage is the reward; P prompts divide the rate
    given = setting(algorithm={**GRPO, "advantage": "reinforce"}, steps=1, learning_rate=0.4)
    runs = Simulation(given, 20000, seed=0, trace=True)
    trace = runs.advance().trace
    found = ledger(given, trace)
    z, step = trace.before.parameters["logits"], trace.after.parameters["logits"] - trace.before.parameters["logits"]
    rewards = given.problem.rewards.expand(len(z), -1, -1)
    torch.testing.assert_close(found.covariance, expected_change(z, rewards, 0.4 / P).mean(-1), rtol=0, atol=NOTHING)
    first = first_order_change(z, step).mean(-1)
    torch.testing.assert_close(found.covariance + found.sampling, first, rtol=0, atol=NOTHING)
    torch.testing.assert_close(found.second_order, second_order_change(z, step).mean(-1), rtol=0, atol=NOTHING)
    # sampling noise has mean 0 at any table (5 standard errors), which a covariance off by a tenth would not leave
    noise, wrong = (
        values * found.covariance.sign() for values in (found.sampling, found.sampling - 0.1 * found.covariance)
    )
    error = noise.std() / len(z) ** 0.5
    assert noise.mean().abs() < 5 * error
    assert wrong.mean() < -5 * error


QUIET = {"selection", "shared", "terms", "clip_and_reuse", "optimizer"}
SWITCHES = {
    "none": ({}, {}, set()),
    "filter": ({"filter": "algorithm1"}, {"schedule": Constant((2.0, 3.0), (2.0, 3.0))}, {"selection"}),
    "network": ({}, {"policy": POLICIES["linear"]}, {"shared"}),
    "bonus": ({"terms": {"entropy_bonus": {"coefficient": 0.1}}}, {}, {"terms"}),
    "reuse": ({}, {"epochs": 2}, {"clip_and_reuse"}),
    "adam": ({}, {"optimizer": Adam(), "learning_rate": 0.01}, {"optimizer"}),
    "exact": ({}, {"exact_gradient": True}, set()),
    "exact network": ({}, {"exact_gradient": True, "policy": POLICIES["elman"]}, {"shared"}),
}


@pytest.mark.parametrize(("algorithm", "options", "loud"), SWITCHES.values(), ids=SWITCHES)
def test_each_switch_shows_in_its_own_cause(algorithm, options, loud):
    found = ledgers(setting(algorithm={**GRPO, **algorithm}, **options))
    for name in QUIET:
        assert (size(found, name) > 1e-7) == (name in loud), (name, size(found, name))
        if name not in loud:
            assert size(found, name) < 1e-15
    assert size(found, "covariance") > 1e-7
    assert (size(found, "sampling") > 1e-7) == (not options.get("exact_gradient", False))


def test_a_bonus_moves_entropy_by_the_squared_gradient():
    # rewards of 0: only the bonus acts, at first order rate c |grad H|^2 = rate c sum S^2 / P^2 summed over prompts
    given = setting(algorithm={**GRPO, "terms": {"entropy_bonus": {"coefficient": 0.1}}}, steps=1)
    given = replace(given, problem=replace(given.problem, rewards=torch.zeros(P, V)))
    trace = Simulation(given, 5, seed=0, trace=True).advance().trace
    s = trace.rollouts.contexts.discriminator
    found = ledger(given, trace, exact_advantages=lambda rewards, _: rewards)
    torch.testing.assert_close(found.terms, 0.1 * 0.1 * s.square().sum((-2, -1)) / P**2, rtol=0, atol=NOTHING)


def test_halving_the_step_divides_the_rest_by_eight():
    rest = []
    for rate in (0.04, 0.02):
        given = setting(POLICIES["mlp"], learning_rate=rate, steps=1)
        rest.append(ledgers(given, 64)[0].unexplained.abs().median())
    assert 6 < rest[0] / rest[1] < 10


class Tampered(Table):
    """A table whose gradient is a tenth too large."""

    def forward(self, parameters, prompts=slice(None), tokens=None):
        right = super().forward(parameters, prompts, tokens)
        return Forward(right.logits, lambda gradient: right.pullback(1.1 * gradient))


def test_planted_errors_show():
    wrong = ledgers(setting(Tampered(P, V)))
    assert size(wrong, "shared") == pytest.approx(0.1 * size(ledgers(setting()), "measured"), rel=0.5)
    given = setting()
    trace = Simulation(given, 8, seed=0, trace=True).advance().trace
    moved = {name: value + 0.01 * torch.arange(V) for name, value in trace.after.parameters.items()}
    assert ledger(given, replace(trace, after=replace(trace.after, parameters=moved))).optimizer.abs().median() > 1e-4
    doubled = [replace(each, gradients={k: 2 * v for k, v in each.gradients.items()}) for each in trace.passes]
    assert ledger(given, replace(trace, passes=(*trace.passes, *doubled))).rate.tolist() == pytest.approx([0.1 / 3] * 8)


def test_the_rate_is_sgds_own_and_for_adam_the_nearest():
    given = setting(POLICIES["mlp"], epochs=2)
    assert ledgers(given)[0].rate.tolist() == pytest.approx([0.1] * 8)
    adam = replace(given, optimizer=Adam(), learning_rate=0.003)
    for step in Simulation(adam, 8, seed=0, trace=True):
        found, trace = ledger(adam, step.trace), step.trace
        asked = {k: -sum(each.gradients[k] for each in trace.passes) for k in trace.before.parameters}
        taken = {k: trace.after.parameters[k] - v for k, v in trace.before.parameters.items()}
        rest = sum(
            ((taken[k] - found.rate.view(-1, *[1] * (asked[k].dim() - 1)) * asked[k]) * asked[k]).flatten(1).sum(-1)
            for k in asked
        )
        assert rest.abs().max() < 1e-12
        # what is left to the optimiser is its direction alone
        assert found.optimizer.abs().median() < found.measured.abs().median()
