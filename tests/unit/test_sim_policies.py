"""Policies, problems, draws and enumeration, against numbers worked by hand and against Monte Carlo."""

import math

import pytest
import torch

from simulations.exact import expected_advantages, policy_gradient, prefixes, tree_of
from simulations.networks import Attention, Recurrent
from simulations.policies import ALL, MLP, Linear, Policy, Table, Tree
from simulations.problems import Problem, bandit, response_index, score, sequences
from simulations.rollouts import Contexts, draw, recorded, sample
from trainer.methods.advantages import GRPO, reinforce

CLOSED_FORM = 1e-10
R, P, V, T = 3, 4, 3, 3


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


FEATURES = torch.randn(P, 5, generator=generator(), dtype=torch.float64)
POLICIES = {
    "table": Table(P, V),
    "linear": Linear(FEATURES, V),
    "mlp": MLP(FEATURES, V, hidden=6),
    "tree": Tree(P, V, T),
    "elman": Recurrent(P, V, T, hidden=5),
    "gru": Recurrent(P, V, T, hidden=5, cell="gru"),
    "attention": Attention(P, V, T, hidden=5),
}
every_policy = pytest.mark.parametrize("policy", POLICIES.values(), ids=POLICIES)


def started(policy, repeats=R):
    return policy.start(repeats, generator=generator(1))


def uniforms(policy, samples, prompts=P):
    return torch.rand(R, prompts, samples, policy.length, generator=generator(2))


@every_policy
def test_enumeration_agrees_with_samples_within_five_standard_errors(policy):
    # 3 repeats x 5 statistics: |z| > 5 by chance in one run of 10^5
    parameters, samples = started(policy), 4000
    tokens, contexts = sample(policy, parameters, ALL, uniforms(policy, samples))
    tree = tree_of(policy, parameters)
    torch.testing.assert_close(tree.probabilities.sum(-1), torch.ones(R, P), rtol=0, atol=CLOSED_FORM)
    values = torch.rand(R, P, policy.vocabulary**policy.length, generator=generator(3))
    found = score(values, ALL, tokens, policy.vocabulary)
    error = found.std(-1).square().mean(-1).div(samples * P).sqrt()
    assert ((found.mean((-2, -1)) - tree.expected(values)).abs() < 5 * error).all()
    if policy.length > 1:  # a bandit's entropy is no estimate
        each = contexts.per_token(contexts.entropy, tokens.shape).mean(-1)
        error = each.std(-1).square().mean(-1).div(samples * P).sqrt()
        assert ((each.mean((-2, -1)) - tree.entropy()).abs() < 5 * error).all()
    # the same sequence has the same probability on both paths
    both = tree.probabilities.log().gather(-1, response_index(tokens, policy.vocabulary))
    torch.testing.assert_close(both, contexts.chosen(tokens).sum(-1), rtol=0, atol=CLOSED_FORM)


@every_policy
@pytest.mark.parametrize(
    "prompts", [ALL, slice(1, 3), torch.tensor([[2, 0], [3, 1], [0, 3]])], ids=["all", "some", "own"]
)
def test_the_pullback_is_autograds(policy, prompts):
    parameters = started(policy)
    count = P if isinstance(prompts, slice) and prompts == ALL else 2
    tokens = torch.randint(V, (R, count, 2, policy.length), generator=generator(4))
    forward = policy.forward(parameters, prompts, tokens)
    cotangent = torch.randn(forward.logits.shape, generator=generator(5))
    by_autograd = Policy.forward(policy, parameters, prompts, tokens)
    assert torch.equal(forward.logits, by_autograd.logits)
    for name, expected in by_autograd.pullback(cotangent).items():
        torch.testing.assert_close(forward.pullback(cotangent)[name], expected, rtol=0, atol=CLOSED_FORM)
        assert expected.abs().max() > 0


@every_policy
def test_repeats_and_later_tokens_do_not_mix(policy):
    parameters = started(policy)
    tokens = torch.randint(V, (R, P, 2, policy.length), generator=generator(4))
    together = policy.logits(parameters, ALL, tokens)
    for r in range(R):
        alone = policy.logits({name: value[r : r + 1] for name, value in parameters.items()}, ALL, tokens[r : r + 1])
        torch.testing.assert_close(alone[0], together[r], rtol=0, atol=CLOSED_FORM)
    if policy.length > 1:
        changed = tokens.clone()
        changed[..., -1] = (changed[..., -1] + 1) % V  # no context comes after the last token
        assert torch.equal(policy.logits(parameters, ALL, changed), together)
        changed[..., 0] = (changed[..., 0] + 1) % V
        moved = (policy.logits(parameters, ALL, changed) != together).view(R, P, 2, policy.length, V).any(-1)
        assert moved[..., 1:].all()
        assert not moved[..., 0].any()


def test_a_tree_of_two_tokens_by_hand():
    # after nothing (1/4, 3/4); after token 0 (1/2, 1/2); after token 1 (1/5, 4/5)
    table = torch.tensor([[[[0.25, 0.75], [0.5, 0.5], [0.2, 0.8]]]]).log()
    tree = tree_of(Tree(1, 2, 2), {"logits": table})
    torch.testing.assert_close(tree.probabilities[0, 0], torch.tensor([0.125, 0.125, 0.15, 0.6]))
    h = [-sum(p * math.log(p) for p in row) for row in ((0.25, 0.75), (0.5, 0.5), (0.2, 0.8))]
    assert float(tree.entropy()) == pytest.approx((h[0] + 0.25 * h[1] + 0.75 * h[2]) / 2, abs=CLOSED_FORM)
    values = torch.tensor([[[8.0, 0.0, 5.0, 10.0]]])  # after 0: 4; after 1: 1 + 8 = 9; in all 1 + 6.75
    assert tree.expected(values).item() == pytest.approx(7.75, abs=CLOSED_FORM)
    assert tree.action_values(values)[0].flatten().tolist() == pytest.approx([4.0, 9.0], abs=CLOSED_FORM)


@every_policy
def test_the_exact_policy_gradient_is_that_of_the_expected_reward(policy):
    parameters = {name: value.requires_grad_() for name, value in started(policy).items()}
    values = torch.rand(R, P, V**policy.length, generator=generator(6))
    tree_of(policy, parameters).expected(values).sum().backward()
    _, found = policy_gradient(policy, parameters, values)
    for name, value in parameters.items():
        torch.testing.assert_close(found[name], value.grad / policy.length, rtol=0, atol=CLOSED_FORM)


def test_expected_advantages_by_hand_and_by_enumeration():
    # G = 2 without eps: a pair that differs has advantages +-1/sqrt 2, else 0; the other sample wins with 3/4
    rewards, p = torch.tensor([[[1.0, 0.0, 1.0]]]), torch.tensor([[[0.5, 0.25, 0.25]]])
    found = expected_advantages(GRPO(eps=0.0), rewards, p, 2)
    assert found.flatten().tolist() == pytest.approx([0.25 * 0.5**0.5, -0.75 * 0.5**0.5, 0.25 * 0.5**0.5])
    # G = 4: all 27 groups of the other three
    others = prefixes(3, 3)[:, :3]
    chance = p[0, 0][others].prod(-1)
    for arm in range(3):
        groups = torch.cat([torch.full((27, 1), arm), others], 1)
        mean = (chance * GRPO()(rewards[0, 0][groups])[:, 0]).sum()
        assert expected_advantages(GRPO(), rewards, p, 4)[0, 0, arm].item() == pytest.approx(mean.item())
    with pytest.raises(ValueError, match="at most two values; got 3"):
        expected_advantages(reinforce, torch.tensor([[[0.0, 1.0, 2.0]]]), p, 4)


def test_draws_by_inversion():
    p = torch.tensor([[[0.2, 0.3, 0.5]]])
    u = torch.tensor([[[0.0, 0.19, 0.21, 0.49, 0.51, 1.0]]])
    assert draw(p, u).tolist() == [[[0, 0, 1, 1, 2, 2]]]
    p, u = torch.rand(5, 4, 17).softmax(-1), torch.rand(5, 4, 50)
    cumulative = p.cumsum(-1)
    assert torch.equal(draw(p, u), torch.searchsorted(cumulative, u * cumulative[..., -1:], right=True))


def test_what_is_recorded_of_tokens_by_hand():
    # p = (1/4, 3/4): l = (-1.386, -0.288), H = 0.5623; S = p (l + H), N = p S
    contexts = Contexts.of(Table(1, 2).forward({"logits": torch.tensor([[[0.25, 0.75]]]).log()}))
    h = -(0.25 * math.log(0.25) + 0.75 * math.log(0.75))
    s = [0.25 * (math.log(0.25) + h), 0.75 * (math.log(0.75) + h)]
    n = 0.25 * s[0] + 0.75 * s[1]
    tokens = torch.tensor([[[[1], [0]]]])
    record = recorded(contexts, tokens, frozenset({"influence", "responsiveness"}), (2.0,))
    assert record.influence.flatten().tolist() == pytest.approx([n - s[1], n - s[0]])
    assert record.responsiveness.flatten().tolist() == pytest.approx([s[0] ** 2 + s[1] ** 2] * 2)
    assert record.entropy.flatten().tolist() == pytest.approx([h, h])
    assert record.log_prob.flatten().tolist() == pytest.approx([math.log(0.75), math.log(0.25)])
    root = math.sqrt(0.25) + math.sqrt(0.75)
    assert record.tempered[2.0].flatten().exp().tolist() == pytest.approx([math.sqrt(0.75) / root, 0.5 / root])
    assert recorded(contexts, tokens).influence is None


def test_problems():
    assert bandit(3, 5, (1, 3)).rewards.tolist() == [[1, 0, 0, 0, 0], [1, 1, 0, 0, 0], [1, 1, 1, 0, 0]]
    drawn = bandit(50, 5, 2, generator=generator())
    assert drawn.rewards.sum(-1).unique().tolist() == [2.0]
    assert drawn.rewards.sum(0).min() > 0
    problem = sequences(2, 2, 3, (0.25, 0.5), generator=generator())
    assert (problem.prompts, problem.length, problem.rewards.sum(-1).tolist()) == (2, 3, [2.0, 4.0])
    with pytest.raises(ValueError, match=r"V\^T responses"):
        Problem(torch.zeros(2, 7), 2)
    with pytest.raises(ValueError, match="between 0 and 5 arms"):
        bandit(3, 5, 6)
