"""The gradient of an update against a plain autograd implementation: one row at a time, without padding."""

import copy

import pytest
import torch

from trainer.methods.advantages import reinforce
from trainer.methods.clips import PPOClip
from trainer.methods.denominators import drop, zero
from trainer.methods.filters import keep_all
from trainer.methods.losses import EntropyBonus, KLPenalty
from trainer.methods.pipeline import Algorithm
from trainer.methods.stages import Filtered
from trainer.network import Network, Reference
from trainer.sampling import Sampling, sample
from trainer.step import Updater, mini_batch_rows
from trainer.streams import TokenUniforms, python_stream
from trainer.tasks.countdown import Countdown

CLOSED_FORM = 1e-10
TEMPERATURE, LOW, HIGH = 0.8, 0.2, 0.3
KL, BONUS = 0.7, 0.4  # large, so that a wrong term shows
DENOMINATORS = {"drop": drop, "zero": zero}
CLIP = PPOClip(LOW, HIGH)
PROMPTS, GROUP = [[5, 3, 7], [2], [0, 6, 6, 4], [11, 0]], 3
# rejected rows, accepted rows with advantage 0, weights other than 1, and sums that are not 0
ADVANTAGES = [[1.5, -0.7, 0.0], [0.4, -2.0, 0.9], [0.0, 0.0, 1.1], [-0.6, 0.8, -1.3]]
WEIGHTS = [[1.0, 0.0, 1.0], [2.0, 1.0, 0.0], [1.0, 0.0, 1.0], [1.0, 1.0, 0.5]]


class GradientRecorder(torch.optim.SGD):
    """Takes no step; remembers the gradients that it was given, each flattened."""

    def __init__(self, model):
        super().__init__(model.parameters(), lr=0.0)
        self.gradients = []

    def step(self):
        parameters = [parameter for group in self.param_groups for parameter in group["params"]]
        self.gradients.append(torch.cat([parameter.grad.flatten() for parameter in parameters]))


def gradients_of_update(model, rollouts, filtered, *, terms=(), denominator=drop, token_weight=None, **options):
    """What an update did, and the gradient of each of its optimiser steps; the weights stay as they are."""
    recorder = GradientRecorder(model)
    settings = {"reference": None, "mini_batches": 1, "epochs": 1, "micro_batch_rows": 64, **options}
    if settings["reference"] is not None:
        settings["reference"] = Reference(Network(settings["reference"]))
    algorithm = Algorithm.of(
        reinforce, filter=keep_all, token_weight=token_weight, clip=CLIP, terms=terms, denominator=denominator
    )
    updater = Updater(
        network=Network(model),
        optimizer=recorder,
        algorithm=algorithm,
        temperature=TEMPERATURE,
        gradient_clip=1e9,
        **settings,
    )
    return updater(rollouts, filtered), recorder.gradients


def nudge(model, size, seed):
    """Move every weight, as updates since the rollouts would have."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(size * torch.randn(parameter.shape, generator=generator))


@pytest.fixture
def off_policy(tiny):
    """A network that has moved since it drew the rollouts, the rollouts, and a reference that differs from both."""
    rollouts = sample(tiny, PROMPTS, GROUP, 7, Sampling(TEMPERATURE), generator=TokenUniforms(1))
    reference = copy.deepcopy(tiny.model).requires_grad_(False)
    nudge(reference, 0.05, seed=1)
    nudge(tiny.model, 0.03, seed=2)
    return tiny.model, rollouts, reference


FILTERED = Filtered(torch.tensor(WEIGHTS, dtype=torch.float64), torch.tensor(ADVANTAGES, dtype=torch.float64))


def plain_loss(
    model, reference, rollouts, rows, *, every_row_counts, kl=0.0, bonus=0.0, weigh=lambda ratio: 1.0, given=FILTERED
):
    """The loss of these rows written out, its denominator, and how many tokens each clip bound took out."""
    weights, advantages = given.weights.flatten(), given.advantages.flatten(0, 1)
    total, tokens, low, high = 0.0, 0, 0, 0
    for row in rows:
        completion, prompt = rollouts.completions()[row], PROMPTS[row // GROUP]
        counts = every_row_counts or weights[row] > 0
        tokens += len(completion) * int(counts)
        ids = torch.tensor([prompt + completion])
        logits, of_reference = (
            network(input_ids=ids).logits[0, len(prompt) - 1 : -1] / TEMPERATURE for network in (model, reference)
        )
        for place, token in enumerate(completion):
            log_probs = logits[place].log_softmax(-1)
            ratio = (log_probs[token] - rollouts.log_prob[row, place]).exp()
            advantage = weights[row] * (advantages[row, place] if advantages.dim() == 2 else advantages[row])
            surrogate = torch.minimum(ratio * advantage, ratio.clamp(1 - LOW, 1 + HIGH) * advantage)
            total -= weigh(ratio.detach()) * surrogate
            low += int(ratio < 1 - LOW and advantage < 0)
            high += int(ratio > 1 + HIGH and advantage > 0)
            if counts:
                difference = of_reference[place].log_softmax(-1)[token] - log_probs[token]
                total += kl * (difference.exp() - difference - 1)
                total += bonus * (log_probs.exp() * log_probs).sum()
    return total / tokens, tokens, low, high


def plain_gradient(loss, model):
    return torch.cat([part.flatten() for part in torch.autograd.grad(loss, list(model.parameters()))])


@pytest.mark.parametrize("mini_batches", [1, 3])
@pytest.mark.parametrize(("kl", "bonus"), [(0.0, 0.0), (KL, 0.0), (0.0, BONUS), (KL, BONUS)])
@pytest.mark.parametrize("denominator", DENOMINATORS)
def test_gradients_are_those_of_plain_autograd(off_policy, denominator, kl, bonus, mini_batches):
    model, rollouts, reference = off_policy
    terms = (*([KLPenalty(kl)] if kl else []), *([EntropyBonus(bonus)] if bonus else []))
    update, gradients = gradients_of_update(
        model,
        rollouts,
        FILTERED,
        terms=terms,
        denominator=DENOMINATORS[denominator],
        reference=reference if kl else None,
        mini_batches=mini_batches,
    )
    batches = [range(12)] if mini_batches == 1 else [range(6), range(6, 9), range(9, 12)]
    assert len(gradients) == update.steps == mini_batches
    removed = [0, 0]
    for place, rows in enumerate(batches):
        loss, tokens, low, high = plain_loss(
            model, reference, rollouts, rows, every_row_counts=denominator == "zero", kl=kl, bonus=bonus
        )
        expected = plain_gradient(loss, model)
        torch.testing.assert_close(gradients[place], expected, rtol=0, atol=CLOSED_FORM)
        assert update.losses[place] == pytest.approx(loss.item(), abs=CLOSED_FORM)
        assert update.grad_norms[place] == pytest.approx(expected.norm().item(), abs=CLOSED_FORM)
        assert update.tokens_per_row[list(rows)].tolist() == [tokens] * len(rows)
        removed = [removed[0] + low, removed[1] + high]
    assert [update.clipped_low, update.clipped_high] == removed
    assert min(removed) > 0  # both bounds were at work


def test_advantages_may_differ_from_token_to_token(off_policy):
    model, rollouts, reference = off_policy
    width = rollouts.mask.shape[1]
    advantages = torch.randn(len(PROMPTS), GROUP, width, generator=torch.Generator().manual_seed(4))
    given = Filtered(FILTERED.weights, advantages)
    for micro_batch_rows in (64, 1):  # alone, a row is narrower than the batch
        update, gradients = gradients_of_update(model, rollouts, given, micro_batch_rows=micro_batch_rows)
        loss, *_ = plain_loss(model, reference, rollouts, range(12), every_row_counts=False, given=given)
        torch.testing.assert_close(gradients[0], plain_gradient(loss, model), rtol=0, atol=CLOSED_FORM)
        assert update.losses == pytest.approx([loss.item()], abs=CLOSED_FORM)
    constant = Filtered(FILTERED.weights, FILTERED.advantages[..., None].expand(-1, -1, width))
    by_token, by_rollout = (gradients_of_update(model, rollouts, one)[1][0] for one in (constant, FILTERED))
    assert torch.equal(by_token, by_rollout)


def test_token_weights_multiply_the_objective_alone(off_policy):
    model, rollouts, reference = off_policy

    def weigh(ratio):
        return ratio.clamp(max=1.1) ** 2

    update, gradients = gradients_of_update(
        model,
        rollouts,
        FILTERED,
        terms=(EntropyBonus(BONUS),),
        token_weight=lambda tokens: weigh((tokens.log_prob - tokens.old_log_prob).exp()).detach(),
    )
    loss, *_ = plain_loss(model, reference, rollouts, range(12), every_row_counts=False, bonus=BONUS, weigh=weigh)
    torch.testing.assert_close(gradients[0], plain_gradient(loss, model), rtol=0, atol=CLOSED_FORM)
    assert update.losses == pytest.approx([loss.item()], abs=CLOSED_FORM)


@pytest.mark.parametrize("with_terms", [False, True])
@pytest.mark.parametrize("denominator", DENOMINATORS)
def test_micro_batches_change_no_gradient_in_float64(off_policy, denominator, with_terms):
    model, rollouts, reference = off_policy
    options = {"terms": (KLPenalty(KL), EntropyBonus(BONUS)), "reference": reference} if with_terms else {}
    options |= {"denominator": DENOMINATORS[denominator], "mini_batches": 2}
    whole = gradients_of_update(model, rollouts, FILTERED, micro_batch_rows=64, **options)
    for rows in (1, 3):
        split = gradients_of_update(model, rollouts, FILTERED, micro_batch_rows=rows, **options)
        for one, other in zip(split[1], whole[1], strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=1e-12)
        assert split[0].losses == pytest.approx(whole[0].losses, abs=1e-12)
        counts = ("rows", "tokens", "clipped_low", "clipped_high", "skipped")
        assert [getattr(split[0], name) for name in counts] == [getattr(whole[0], name) for name in counts]
        assert (split[0].gap, split[0].ratio_max) == pytest.approx((whole[0].gap, whole[0].ratio_max), abs=1e-12)


def test_micro_batches_change_no_gradient_of_the_shipped_model_in_float32(shipped):
    torch.set_default_dtype(torch.float32)
    model = copy.deepcopy(shipped.model)
    generator = python_stream(0, "prompts")
    prompts = shipped.encode([Countdown().row("train", generator=generator)["prompt"] for _ in range(8)])
    rollouts = sample(shipped, prompts, 8, 13, Sampling(TEMPERATURE), generator=TokenUniforms(2))
    advantages = torch.randn(8, 8, generator=torch.Generator().manual_seed(1))
    filtered = Filtered((advantages < 1).float(), advantages)
    whole, one_by_one, by_threes = (
        gradients_of_update(model, rollouts, filtered, micro_batch_rows=rows, terms=(EntropyBonus(BONUS),))[1][0]
        for rows in (64, 1, 3)
    )
    assert whole.dtype == torch.float32
    for split in (one_by_one, by_threes):
        assert (split - whole).norm() < 1e-6 * whole.norm()


@pytest.mark.parametrize(
    ("count", "group_size", "mini_batches", "expected"),
    [
        (12, 3, 1, [range(12)]),
        (12, 3, 4, [range(3), range(3, 6), range(6, 9), range(9, 12)]),
        (12, 3, 3, [range(6), range(6, 9), range(9, 12)]),  # four groups among three: the first takes two
        (6, 2, 3, [range(2), range(2, 4), range(4, 6)]),
    ],
)
def test_mini_batches_are_whole_groups_in_order(count, group_size, mini_batches, expected):
    found = [rows.tolist() for rows in mini_batch_rows(count, group_size, mini_batches)]
    assert found == [list(rows) for rows in expected]
