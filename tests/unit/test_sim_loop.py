"""The loop against a step worked by hand, single runs, the reference bandit and torch's own optimisers."""

import math
from dataclasses import replace

import pytest
import torch

from simulations.loop import Setting, Simulation
from simulations.networks import Attention, Recurrent
from simulations.optimizers import SGD, Adam
from simulations.policies import Linear as LinearPolicy
from simulations.policies import Table, Tree
from simulations.problems import Problem, bandit, sequences
from trainer.methods.assembly import assemble
from trainer.methods.schedules import Constant, Linear

EXACT = 1e-12
RATE = 0.3


def setting(policy=None, problem=None, algorithm=None, **options):
    policy = policy or Table(2, 3)
    problem = problem or bandit(policy.prompts, policy.vocabulary, 1)
    algorithm = assemble({"advantage": "reinforce", **(algorithm or {})})
    return Setting(policy, problem, algorithm, **{"steps": 5, "learning_rate": RATE, "group_size": 2, **options})


def test_one_step_of_a_bandit_by_hand():
    # one prompt, p = (1/2, 1/4, 1/4), arm 0 correct with reward 1 and arm 2 with -1; samples: arms 0 and 2
    policy = Table(1, 3, scale=0.0, initial=torch.tensor([[0.5, 0.25, 0.25]]).log())
    given = setting(policy, Problem(torch.tensor([[1.0, 0.0, -1.0]]), 3))
    runs = Simulation(given, 1, seed=0)
    step = runs.advance(torch.tensor([[[[0.1], [0.9]]]]))
    # z + rate/2 [(e_0 - p) - (e_2 - p)] = z + rate/2 (1, 0, -1)
    moved = policy.initial + RATE / 2 * torch.tensor([1.0, 0.0, -1.0])
    torch.testing.assert_close(runs.state.parameters["logits"][0], moved, rtol=0, atol=EXACT)
    assert step.entropy.item() == pytest.approx(1.5 * math.log(2), abs=EXACT)
    assert step.exact_entropy.item() == pytest.approx(1.5 * math.log(2), abs=EXACT)
    assert (step.reward.item(), step.expected_reward.item()) == pytest.approx((0.0, 0.25), abs=EXACT)
    after = torch.distributions.Categorical(logits=moved).entropy().item()
    assert step.measured_change.item() == pytest.approx(after - 1.5 * math.log(2), abs=EXACT)
    assert (step.accepted.item(), step.updates.item()) == (1.0, 1.0)


def test_the_filter_aims_at_the_next_steps_band():
    # centres at u = 0, 1/5, ..., 4/5: 2, 1.8, ..., 1.2; after the last step there is no other band
    falling = setting(schedule=Linear((1.9, 2.1), (0.9, 1.1)))
    steps = list(Simulation(falling, 1, seed=0, trace=True))
    assert [step.trace.groups.band.centre for step in steps] == pytest.approx([2.0, 1.8, 1.6, 1.4, 1.2], abs=EXACT)
    assert [step.trace.groups.aim for step in steps] == pytest.approx([1.8, 1.6, 1.4, 1.2, 1.2], abs=EXACT)


def test_a_second_pass_uses_the_ratio_and_the_clip():
    # p = (1/2, 1/2), both samples arm 0 with reward 1: pass 1 moves z_0 by rate (1 - 1/2) and z_1 by the opposite;
    # at rate 1 the ratio is then 2 sigmoid(1) = 1.462 > 1.2, so pass 2 has no gradient under the clip
    policy = Table(1, 2, scale=0.0)
    both = torch.tensor([[[[0.1], [0.2]]]])
    clipped = Simulation(setting(policy, learning_rate=1.0, epochs=2), 1, seed=0)
    step = clipped.advance(both)
    assert clipped.state.parameters["logits"].flatten().tolist() == pytest.approx([0.5, -0.5], abs=EXACT)
    assert step.clip_high.item() == 0.5  # of the tokens of both passes
    wide = setting(policy, learning_rate=1.0, epochs=2, algorithm={"clip_options": {"high": 9.0}})
    free = Simulation(wide, 1, seed=0)
    free.advance(both)
    p = 1 / (1 + math.exp(-1.0))
    push = (p / 0.5) * (1 - p)
    assert free.state.parameters["logits"].flatten().tolist() == pytest.approx([0.5 + push, -0.5 - push], abs=EXACT)


def test_bonus_and_kl_by_hand():
    # rewards of 0 leave the bonus alone: z + rate c (-S), S = p (l + H), mean over the prompt's tokens
    p = torch.tensor([[0.5, 0.25, 0.25]])
    policy = Table(1, 3, scale=0.0, initial=p.log())
    terms = {"terms": {"entropy_bonus": {"coefficient": 0.2}}}
    given = setting(policy, Problem(torch.zeros(1, 3), 3), algorithm=terms)
    runs = Simulation(given, 1, seed=0)
    runs.advance()
    s = p * (p.log() + 1.5 * math.log(2))
    torch.testing.assert_close(runs.state.parameters["logits"][0], p.log() - RATE * 0.2 * s, rtol=0, atol=EXACT)
    # KL to where it started: no gradient at first, pulls back later
    pulled = setting(policy, bandit(1, 3, 1), algorithm={"terms": {"kl": {"coefficient": 5.0}}}, steps=40)
    free = setting(policy, bandit(1, 3, 1), steps=40)
    far = [list(Simulation(each, 8, seed=1))[-1].expected_reward.mean() for each in (pulled, free)]
    assert far[0] < far[1] - 0.05


def test_repeats_side_by_side_are_the_single_runs():
    features = torch.randn(4, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    band = Constant((0.6, 0.7), (0.6, 0.7))
    drop = {"filter": "algorithm1", "advantage": "grpo", "denominator": "drop"}
    for policy in (Table(4, 3), LinearPolicy(features, 3), Tree(4, 3, 2), Attention(4, 3, 2, hidden=4)):
        problem = sequences(4, 3, policy.length, 0.3, generator=torch.Generator().manual_seed(1))
        given = setting(
            policy, problem, drop, group_size=4, mini_batches=2, epochs=2, optimizer=Adam(), schedule=band,
            learning_rate=torch.tensor([0.05, 0.1, 0.2]),
        )  # fmt: skip
        together = Simulation(given, 3, seed=5)
        first = together.state.parameters
        draws = torch.rand(4, 3, 4, 4, policy.length, generator=torch.Generator().manual_seed(2))
        for uniforms in draws:
            together.advance(uniforms)
        for r in range(3):
            alone = Simulation(replace(given, learning_rate=float(given.learning_rate[r])), 1, seed=9)
            own = {name: value[r : r + 1] for name, value in first.items()}
            alone.state = replace(alone.state, parameters=own, moments=given.optimizer.start(own))
            for uniforms in draws:
                alone.advance(uniforms[r : r + 1])
            for name, value in alone.state.parameters.items():
                torch.testing.assert_close(value[0], together.state.parameters[name][r], rtol=0, atol=1e-10)


def test_a_repeat_without_gradient_keeps_parameters_and_moments():
    # repeat 0 draws arms 0 and 1, repeat 1 draws arm 0 twice: equal rewards, no advantage
    given = setting(Table(1, 3, scale=0.0), algorithm={"advantage": "grpo"}, optimizer=Adam())
    runs = Simulation(given, 2, seed=0)
    runs.advance(torch.tensor([[[[0.1], [0.5]]], [[[0.1], [0.5]]]]))  # both move
    before = runs.state
    step = runs.advance(torch.tensor([[[[0.1], [0.9]]], [[[0.1], [0.2]]]]))
    assert step.updates.tolist() == [1.0, 0.0]
    for name, value in (before.parameters | before.moments).items():
        after = (runs.state.parameters | runs.state.moments)[name]
        assert torch.equal(after[1], value[1])
        assert not torch.equal(after[0], value[0])


@pytest.mark.parametrize("ours", [SGD(), Adam(), Adam(beta1=0.5, beta2=0.9, eps=1e-3)])
def test_optimisers_are_torchs(ours):
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(2, 3, generator=generator, dtype=torch.float64)
    theirs = [row.clone().requires_grad_() for row in start]
    rates = torch.tensor([0.1, 0.02])

    def of_torch(row, rate):
        if isinstance(ours, SGD):
            return torch.optim.SGD([row], lr=rate)
        return torch.optim.Adam([row], lr=rate, betas=(ours.beta1, ours.beta2), eps=ours.eps)

    optimisers = [of_torch(row, float(rate)) for row, rate in zip(theirs, rates, strict=True)]
    parameters = {"w": start}
    moments = ours.start(parameters)
    for _ in range(6):
        gradient = torch.randn(2, 3, generator=generator, dtype=torch.float64)
        active = torch.ones(2, dtype=torch.bool)
        moments, parameters = ours.step(moments, parameters, {"w": gradient}, rates, active)
        for row, value, optimiser in zip(theirs, gradient, optimisers, strict=True):
            row.grad = value.clone()
            optimiser.step()
    torch.testing.assert_close(parameters["w"], torch.stack(theirs).detach(), rtol=0, atol=1e-12)


def test_the_exact_gradient_is_the_mean_of_sampled_ones():
    # 20000 repeats of one step from the same table: every logit within 5 standard errors
    policy = Table(2, 3, scale=0.0, initial=torch.tensor([[0.5, 0.0, -0.5], [1.0, 0.2, 0.0]]))
    given = setting(policy, bandit(2, 3, (1, 2)))
    exact = Simulation(replace(given, exact_gradient=True), 1, seed=0)
    exact.advance()
    runs = Simulation(given, 20000, seed=0)
    runs.advance()
    found = runs.state.parameters["logits"]
    error = found.std(0) / 20000**0.5
    assert ((found.mean(0) - exact.state.parameters["logits"][0]).abs() < 5 * error).all()
    wrong = exact.state.parameters["logits"][0] * 1.1
    assert ((found.mean(0) - wrong).abs() > 5 * error).any()


def test_seeds_prompts_and_refusals():
    given = setting(Table(6, 3), prompts_per_step=2)
    curves = [torch.stack([step.entropy for step in Simulation(given, 3, seed=seed)]) for seed in (1, 1, 2)]
    assert torch.equal(curves[0], curves[1])
    assert not torch.equal(curves[0], curves[2])
    runs = Simulation(given, 3, seed=1, trace=True)
    moved = next(iter(runs)).trace
    changed = (moved.after.parameters["logits"] != moved.before.parameters["logits"]).any(-1)
    assert (changed.sum(-1) <= 2).all()
    for wrong, message in (
        ({"group_size": 0}, "group_size=0"),
        ({"prompts_per_step": 7}, "prompts_per_step=7"),
        ({"mini_batches": 7}, "mini_batches=7"),
        ({"problem": bandit(5, 3, 1)}, "same P, V and T"),
        ({"learning_rate": 0.0}, "learning_rate=0.0"),
        ({"learning_rate": torch.tensor([0.1, math.nan])}, "finite and above 0"),
    ):
        with pytest.raises(ValueError, match=message):
            replace(given, **wrong)
    for wrong in ({"repeats": 0, "seed": 0}, {"repeats": 1, "seed": -1}):
        with pytest.raises(ValueError, match="at least one repeat"):
            Simulation(given, **wrong)


def test_the_reference_bandit():
    # 256 contexts of 20 arms, 5 correct, GRPO, G = 8, rate 0.1 a prompt, no band; the reference script gives, with a
    # standard deviation below 0.05 over seeds: entropy 0.695 at step 200, 0.257 at 400; reward 0.983 at 400
    given = setting(
        Table(256, 20), bandit(256, 20, 5), {"advantage": "grpo", "denominator": "zero"},
        steps=401, learning_rate=25.6, group_size=8,
    )  # fmt: skip
    steps = list(Simulation(given, 2, seed=0, dtype=torch.float32))
    assert steps[0].entropy.mean().item() == pytest.approx(2.571, abs=0.03)
    assert steps[200].entropy.mean().item() == pytest.approx(0.695, abs=0.1)
    assert steps[400].entropy.mean().item() == pytest.approx(0.257, abs=0.04)
    assert steps[400].expected_reward.mean().item() == pytest.approx(0.983, abs=0.005)


def test_a_tree_of_one_token_is_a_table():
    table, tree = (Simulation(setting(policy), 3, seed=0) for policy in (Table(2, 3), Tree(2, 3, 1)))
    for one, other in zip(table, tree, strict=True):
        torch.testing.assert_close(one.exact_entropy, other.exact_entropy, rtol=0, atol=EXACT)
        torch.testing.assert_close(one.reward, other.reward)


@pytest.mark.parametrize("policy", [Tree(2, 3, 1), Recurrent(2, 3, 1), Attention(2, 3, 1)])
def test_sequence_policies_of_one_token_run(policy):
    runs = Simulation(setting(policy), 3, seed=0)
    steps = list(runs)
    assert bool((steps[-1].expected_reward > steps[0].expected_reward).all())


def test_a_caller_without_gradients_changes_nothing():
    runs, others = (Simulation(setting(), 2, seed=0) for _ in range(2))
    with torch.no_grad():
        runs.advance()
    others.advance()
    assert torch.equal(runs.state.parameters["logits"], others.state.parameters["logits"])
    assert not torch.equal(runs.state.parameters["logits"], runs.reference["logits"])
