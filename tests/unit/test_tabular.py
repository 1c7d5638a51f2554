"""The tabular prediction against a hand-made loop and a real tabular policy; its online scale; the sign rule."""

from types import SimpleNamespace

import pytest
import torch

from trainer.methods.advantages import reinforce
from trainer.methods.clips import PPOClip
from trainer.methods.denominators import drop, zero
from trainer.methods.filters import keep_all
from trainer.methods.pipeline import Algorithm
from trainer.methods.stages import Filtered
from trainer.metrics import sign_rule_step
from trainer.network import Network
from trainer.probe import OnlineScale, Probe, TabularTerms, sign_rule_agreement, tabular_terms
from trainer.rollout import Rollouts
from trainer.step import Update, Updater

CLOSED_FORM = 1e-10
VOCABULARY = 6

ADVANTAGES = torch.tensor([[1.5, -0.7, 0.0], [0.4, -2.0, 0.9]], dtype=torch.float64)
WEIGHTS = torch.tensor([[1.0, 0.0, 1.0], [2.0, 1.0, 0.5]], dtype=torch.float64)
LENGTHS = [3, 1, 4, 2, 4, 1]


def random_rollouts():
    """Six completions of different lengths with random statistics; what lies outside the mask must not matter."""
    generator = torch.Generator().manual_seed(1)
    mask = torch.arange(4) < torch.tensor(LENGTHS)[:, None]
    columns = {
        name: torch.randn(6, 4, generator=generator)
        for name in ("log_prob", "entropy", "entropy_t1", "influence", "curvature", "responsiveness")
    }
    tokens = torch.zeros(6, 5, dtype=torch.long)
    return Rollouts(tokens, tokens.bool(), mask, **columns, finished=mask[:, 0], group_size=3)


def terms_by_loop(rollouts, denominators):
    unit = curvature = first = second = shares = 0.0
    for row, length in enumerate(LENGTHS):
        weight, advantage = WEIGHTS.flatten()[row].item(), (WEIGHTS * ADVANTAGES).flatten()[row].item()
        if weight == 0 or denominators[row] == 0:
            continue
        for place in range(length):
            share, influence = 1 / denominators[row], rollouts.influence[row, place].item()
            unit += share * advantage * influence
            curvature += sum(LENGTHS) * (share * advantage) ** 2 * rollouts.curvature[row, place].item()
            first += share * advantage
            second += share * influence
            shares += share
    return unit, unit - first * second / shares, curvature


@pytest.mark.parametrize(
    "denominators",
    [
        [14.0] * 6,  # one mini-batch, accepted rows only (3 + 4 + 2 + 4 + 1)
        [15.0] * 6,  # all rows
        [7.0] * 3 + [6.0] * 3,  # two mini-batches
        [0.0] * 3 + [7.0] * 3,  # of which the first was skipped
    ],
)
def test_terms_are_those_of_a_loop(denominators):
    rollouts = random_rollouts()
    update = Update(tokens_per_row=torch.tensor(denominators))
    found = tabular_terms(rollouts, Filtered(WEIGHTS, ADVANTAGES), update)
    expected = terms_by_loop(rollouts, denominators)
    assert (found.unit, found.covariance, found.curvature) == pytest.approx(expected, abs=CLOSED_FORM)
    assert abs(found.unit - found.covariance) > 0.01  # the mean advantage is not 0


def test_terms_by_hand():
    # two tokens, A = 2 and -1, N - S = 0.3 and 0.5, curvature -0.2 and 0.4, over 2 tokens:
    #   unit (0.6 - 0.5)/2 = 0.05; noise mean(A) mean(N - S) = 0.5 * 0.4 = 0.2; curvature (-0.8 + 0.4)/2 = -0.2
    one = torch.ones(2, 1)
    blank, tokens = 0 * one, torch.zeros(2, 2, dtype=torch.long)
    influence, curvature = torch.tensor([[0.3], [0.5]]), torch.tensor([[-0.2], [0.4]])
    rollouts = Rollouts(
        tokens, tokens.bool(), one.bool(), blank, blank, blank, influence, curvature, blank, one[:, 0].bool(), 2
    )
    given = Filtered(torch.ones(1, 2), torch.tensor([[2.0, -1.0]]))
    found = tabular_terms(rollouts, given, Update(tokens_per_row=torch.tensor([2.0, 2.0])))
    assert (found.unit, found.covariance, found.curvature) == pytest.approx((0.05, -0.15, -0.2), abs=CLOSED_FORM)


def test_the_covariance_is_everything_where_the_mean_advantage_is_0():
    rollouts = random_rollouts()
    per_token = torch.tensor(LENGTHS).reshape(2, 3)
    balanced = ADVANTAGES - (ADVANTAGES * per_token).sum() / per_token.sum()
    found = tabular_terms(rollouts, Filtered(torch.ones(2, 3), balanced), Update(torch.full((6,), 15.0)))
    assert found.covariance == pytest.approx(found.unit, abs=CLOSED_FORM)
    assert abs(found.unit) > 0.01


def test_a_constant_advantage_has_no_covariance():
    constant = Filtered(torch.ones(2, 3), torch.full((2, 3), -0.8))
    found = tabular_terms(random_rollouts(), constant, Update(torch.full((6,), 15.0)))
    assert found.covariance == pytest.approx(0.0, abs=CLOSED_FORM)
    assert abs(found.unit) > 0.01


@pytest.mark.parametrize(("weights", "denominator"), [(0.0, 15.0), (1.0, 0.0)])
def test_nothing_trained_is_nothing_predicted(weights, denominator):
    given = Filtered(torch.full((2, 3), weights), ADVANTAGES)
    found = tabular_terms(random_rollouts(), given, Update(torch.full((6,), denominator)))
    assert found == TabularTerms(unit=0.0, covariance=0.0, curvature=0.0)


class Table(torch.nn.Module):
    """A policy that owns its logits: one row of them for each (first token of the prompt, position)."""

    def __init__(self, prompts, positions):
        super().__init__()
        start = torch.randn(prompts, positions, VOCABULARY, generator=torch.Generator().manual_seed(2))
        self.logits = torch.nn.Parameter(start)

    def forward(self, input_ids, attention_mask, logits_to_keep, use_cache):
        logits = self.logits[input_ids[:, :1], torch.arange(input_ids.shape[1])]
        return SimpleNamespace(logits=logits[:, -logits_to_keep:])


def tabular_rollouts(table, group_size, length):
    """Completions of the table's prompts 0, 1, ... with their statistics, each from its definition."""
    prompts = len(table.logits)
    prompt = torch.arange(prompts).repeat_interleave(group_size)
    probs = table.logits.detach()[prompt, :length].softmax(-1)
    flat = torch.multinomial(probs.reshape(-1, VOCABULARY), 1, generator=torch.Generator().manual_seed(3))
    completion = flat.reshape(len(prompt), length)
    log_probs = probs.log()
    entropy = -(probs * log_probs).sum(-1)
    discriminator = probs * (log_probs + entropy[..., None])
    chosen = completion[..., None]
    influence = (probs * discriminator).sum(-1) - discriminator.gather(-1, chosen)[..., 0]
    direction = torch.nn.functional.one_hot(completion, VOCABULARY) - probs
    centred = direction - (probs * direction).sum(-1, keepdim=True)
    curvature = -0.5 * (probs * centred.square() * (1 + log_probs + entropy[..., None])).sum(-1)
    tokens = torch.cat([prompt[:, None], completion], 1)
    mask = torch.ones_like(completion, dtype=torch.bool)
    log_prob = log_probs.gather(-1, chosen)[..., 0]
    everything = torch.ones_like(tokens, dtype=torch.bool)
    blank = torch.zeros_like(entropy)
    statistics = (log_prob, entropy, entropy, influence, curvature, blank)
    return Rollouts(tokens, everything, mask, *statistics, mask[:, 0], group_size)


@pytest.mark.parametrize(("prompts", "group_size", "length"), [(1, 12, 1), (1, 4, 3), (5, 1, 2), (6, 4, 3)])
@pytest.mark.parametrize("denominator", [drop, zero])
@pytest.mark.parametrize("split", [False, True])
def test_on_a_table_the_unit_times_the_rate_is_the_first_order_of_plain_gradient_descent(
    prompts, group_size, length, denominator, split
):
    # every context is met by G tokens and owns its logits. The prediction adds up the contexts' changes, the probe
    # takes their mean: with one context (a bandit) unit times rate is the change itself
    rate, contexts = 0.3, prompts * length
    table = Table(prompts, length)
    rollouts = tabular_rollouts(table, group_size, length)
    generator = torch.Generator().manual_seed(4)
    advantages = torch.randn(prompts, group_size, generator=generator)
    weights = (torch.rand(prompts, group_size, generator=generator) < 0.7).double()
    weights[0, 0] = 1.0
    given = Filtered(weights, advantages)
    updater = Updater(
        network=Network(table),
        reference=None,
        optimizer=torch.optim.SGD(table.parameters(), lr=rate),
        algorithm=Algorithm.of(reinforce, filter=keep_all, clip=PPOClip(), denominator=denominator),
        temperature=1.0,
        mini_batches=prompts if split else 1,
        epochs=1,
        micro_batch_rows=64,
        gradient_clip=1e9,
    )
    probe = Probe(Network(table), rollouts, 1.0, 64)
    update = updater(rollouts, given)
    change = probe.after(second_order=True)
    terms = tabular_terms(rollouts, given, update)
    assert change.first_order == pytest.approx(terms.unit * rate / contexts, abs=CLOSED_FORM)
    assert abs(change.first_order) > 1e-4
    if group_size == 1:
        # each context has one token: the second order is tabular too, at the square of the first order's step
        of_mean = terms.curvature * (rate / contexts) ** 2
        assert change.second_order == pytest.approx(of_mean, rel=1e-4)  # the probe's own difference: epsilon^2 step^2


def test_online_scale_by_hand():
    scale = OnlineScale(forgetting=0.5)
    assert scale.value is None
    once = scale.learn(predicted=2.0, measured=-1.0)
    assert once.value == -0.5
    # cross 0.5 (-2) + 3 = 2, square 0.5 (4) + 9 = 11
    twice = once.learn(predicted=3.0, measured=1.0)
    assert (twice.cross, twice.square, twice.value) == pytest.approx((2.0, 11.0, 2 / 11), abs=CLOSED_FORM)
    assert scale.value is None  # frozen: learning returns a new one
    assert OnlineScale().learn(predicted=0.0, measured=1.0).value is None


def test_online_scale_finds_the_factor_and_follows_when_it_changes():
    scale = OnlineScale()
    generator = torch.Generator().manual_seed(5)
    for factor in (0.7, -0.2):
        for predicted in torch.randn(300, generator=generator).tolist():
            scale = scale.learn(predicted=predicted, measured=factor * predicted)
        assert scale.value == pytest.approx(factor, abs=1e-5)  # 0.95^300 is 2e-7


def test_sign_rule_agreement_by_hand():
    advantages = torch.tensor([2.0, -1.0, 0.0])[:, None].expand(3, 3)
    changes = torch.tensor([[-0.1, 0.2, -0.3], [0.1, 0.0, -9.0], [0.1, 0.1, 0.1]])
    mask = torch.tensor([[True, True, True], [True, True, False], [True, True, True]])
    # A dH: -, +, - and -, 0 (obeys); the row without advantage and the token outside the mask are left out
    assert sign_rule_agreement(advantages, changes, mask) == pytest.approx(4 / 5)
    assert sign_rule_agreement(-advantages, changes, mask) == pytest.approx(2 / 5)
    assert sign_rule_agreement(0 * advantages, changes, mask) is None
    assert sign_rule_agreement(advantages, changes, mask & False) is None


@pytest.mark.parametrize(
    ("advantages", "measured", "obeys"),
    [
        ([1.0, -0.5], -0.1, 1),
        ([1.0, -0.5], 0.1, 0),
        ([0.5, -1.0], 0.1, 1),
        ([1.0, -1.0], 0.1, None),
        ([0.0], 0.1, None),
    ],
)
def test_sign_rule_of_a_step_by_hand(advantages, measured, obeys):
    assert sign_rule_step(torch.tensor(advantages), measured) == obeys
