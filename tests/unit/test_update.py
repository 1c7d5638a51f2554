"""What an update computes, skips and reports: rows without gradient, empty mini-batches, momentum, the gap."""

import copy
from dataclasses import replace

import pytest
import torch

from trainer.methods.advantages import GRPO
from trainer.methods.clips import PPOClip
from trainer.methods.denominators import drop, zero
from trainer.methods.filters import algorithm1, keep_all, released
from trainer.methods.losses import EntropyBonus, KLPenalty
from trainer.methods.pipeline import Algorithm
from trainer.methods.stages import Band, Filtered, Groups
from trainer.network import Network, Reference
from trainer.sampling import Sampling, sample
from trainer.step import Updater
from trainer.streams import TokenUniforms, python_stream, stream_seed
from trainer.tasks.countdown import Countdown

PROMPTS, GROUP = [[5, 3, 7], [2], [0, 6, 6, 4], [11, 0]], 3
NONE, SOME = [0.0] * GROUP, [1.2, -0.9, 0.3]
CLIP = PPOClip()


def updater(model, *, denominator=drop, terms=(), optimizer=None, reference=None, **options):
    algorithm = Algorithm.of(GRPO(), filter=keep_all, clip=CLIP, terms=terms, denominator=denominator)
    optimizer = optimizer or torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.1)
    settings = {"temperature": 1.0, "mini_batches": 2, "epochs": 1, "micro_batch_rows": 4, "gradient_clip": 1.0}
    return Updater(
        network=Network(model), reference=reference, optimizer=optimizer, algorithm=algorithm, **settings | options
    )


def rollouts_of(policy, seed=1):
    return sample(policy, PROMPTS, GROUP, 7, generator=TokenUniforms(seed))


def filtered(advantages, weights=None):
    advantages = torch.tensor(advantages, dtype=torch.float64)
    weights = torch.ones_like(advantages) if weights is None else torch.tensor(weights, dtype=torch.float64)
    return Filtered(weights, advantages)


def weights_of(model):
    return [parameter.detach().clone() for parameter in model.parameters()]


def same(one, other):
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


# advantages 0 in places, and one rollout with an advantage that is rejected
MIXED = filtered([SOME, NONE, [0.0, 0.5, 0.0], [-1.0, 0.0, 0.0]], [[1.0, 0.0, 1.0], [1.0] * 3, [1.0] * 3, [1.0] * 3])


@pytest.mark.parametrize(
    ("denominator", "terms", "rows"),
    [
        (drop, False, [0, 2, 7, 9]),
        (zero, False, [0, 2, 7, 9]),
        (drop, True, [0, *range(2, 12)]),  # every accepted row
        (zero, True, list(range(12))),
    ],
)
@pytest.mark.parametrize("term", ["kl", "bonus"])
def test_only_rows_with_gradient_are_computed(tiny, denominator, terms, rows, term):
    rollouts = rollouts_of(tiny)
    reference = Reference(Network(copy.deepcopy(tiny.model))) if terms and term == "kl" else None
    chosen = (KLPenalty(0.1) if term == "kl" else EntropyBonus(0.1),) if terms else ()
    lengths = rollouts.lengths
    update = updater(tiny.model, denominator=denominator, terms=chosen, reference=reference, epochs=2)(rollouts, MIXED)
    assert update.rows == 2 * len(rows)
    assert update.tokens == 2 * int(lengths[rows].sum())
    assert (update.steps, update.skipped) == (4, 0)
    counted = [row for row in range(12) if denominator is zero or row != 1]
    per_half = [float(sum(lengths[row] for row in counted if row // 6 == half)) for half in (0, 1)]
    assert update.tokens_per_row.tolist() == [per_half[row // 6] for row in range(12)]
    assert (update.kl is not None) == (reference is not None)


def test_a_mini_batch_without_gradient_takes_no_step_in_spite_of_momentum_and_decay(tiny):
    rollouts, update = rollouts_of(tiny), updater(tiny.model)
    update(rollouts, filtered([SOME] * 4))  # gives Adam its momentum
    before, moments = weights_of(tiny.model), copy.deepcopy(update.optimizer.state_dict())
    rejected = filtered([SOME] * 4, [NONE] * 4)
    for nothing in (filtered([NONE] * 4), rejected):
        done = update(rollouts, nothing)
        assert (done.steps, done.skipped, done.rows, done.tokens, done.losses) == (0, 2, 0, 0, [])
        assert (done.gap, done.ratio_max, done.kl) == (None, None, None)
        assert not done.tokens_per_row.any()
        assert same(weights_of(tiny.model), before)
    after = update.optimizer.state_dict()
    assert all(same(after["state"][key].values(), moments["state"][key].values()) for key in moments["state"])

    half = update(rollouts, filtered([NONE, NONE, SOME, NONE]))
    assert (half.steps, half.skipped, half.rows) == (1, 1, 3)
    assert half.tokens_per_row[:6].tolist() == [0.0] * 6
    assert not same(weights_of(tiny.model), before)


def test_a_step_is_taken_once_a_mini_batch_and_the_next_starts_from_zero_gradient(tiny):
    # plain gradient descent: two mini-batches, each a step of its own from where the last one ended
    rollouts, advantages = rollouts_of(tiny), [SOME, NONE, [0.0, 0.5, 0.0], [-1.0, 0.0, 0.0]]
    start = copy.deepcopy(tiny.model)
    rates = {"lr": 0.3}
    updater(tiny.model, optimizer=torch.optim.SGD(tiny.model.parameters(), **rates))(rollouts, filtered(advantages))
    assert all(parameter.grad is None for parameter in tiny.model.parameters())
    by_hand = updater(start, optimizer=torch.optim.SGD(start.parameters(), **rates), mini_batches=1)
    for half in ([0, 1], [2, 3]):
        rows = torch.tensor([GROUP * group + sample for group in half for sample in range(GROUP)])
        by_hand(rollouts.rows(rows), filtered([advantages[group] for group in half]))
    for one, other in zip(weights_of(tiny.model), weights_of(start), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-12)


def test_gradients_are_clipped_to_the_norm_and_reported_before(tiny):
    rollouts, before = rollouts_of(tiny), weights_of(tiny.model)
    optimizer = torch.optim.SGD(tiny.model.parameters(), lr=1.0)
    done = updater(tiny.model, optimizer=optimizer, gradient_clip=0.01, mini_batches=1)(rollouts, filtered([SOME] * 4))
    moved = [now - then for now, then in zip(weights_of(tiny.model), before, strict=True)]
    assert done.grad_norms[0] > 0.1
    # torch divides by the norm + 1e-6
    expected = 0.01 * done.grad_norms[0] / (done.grad_norms[0] + 1e-6)
    assert torch.cat([part.flatten() for part in moved]).norm().item() == pytest.approx(expected, rel=1e-9)


def several_steps(policy, decide):
    """The weights after five GRPO steps whose filter is `decide`, with Adam and two epochs of two mini-batches."""
    policy = replace(policy, model=copy.deepcopy(policy.model))
    update = updater(policy.model, epochs=2)
    for step in range(5):
        rollouts = rollouts_of(policy, seed=step)
        # rewarded with +1 for each even token, -1 for each odd: most groups are mixed
        rewards = (rollouts.mask * (1.0 - 2.0 * (rollouts.completion_ids % 2))).sum(1).reshape(-1, GROUP)
        given = Groups(rewards, GRPO()(rewards), rollouts.mean(rollouts.entropy), Band(0.0, 9.0), step)
        done = update(rollouts, decide(given))
        assert done.steps > 0
    return weights_of(policy.model)


def test_a_filter_that_keeps_all_is_grpo_bit_for_bit(tiny):
    without = several_steps(tiny, lambda given: Filtered(torch.ones(4, GROUP), given.advantages))
    for inside_the_band in (keep_all, algorithm1, released):
        assert same(several_steps(tiny, inside_the_band), without)
    above_all = Band(8.0, 9.0)
    never = several_steps(tiny, lambda given: algorithm1(replace(given, band=above_all)))
    assert not same(never, without)


@pytest.mark.parametrize(("prompts", "group_size", "largest"), [(32, 8, 0.0), (5, 3, 1e-5)])
@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_the_gap_vanishes_on_the_shipped_model_at_unchanged_weights(shipped, prompts, group_size, largest, temperature):
    # exactly, as sdpa_float64 promises, while enough rows are decoded at once: the matrix product of MKL sums a
    # handful of rows in another order, which leaves float32 rounding
    torch.set_default_dtype(torch.float32)  # as in a run
    model = copy.deepcopy(shipped.model)
    generator = python_stream(0, "prompts", prompts)
    ids = shipped.encode([Countdown().row("train", generator=generator)["prompt"] for _ in range(prompts)])
    rollouts = sample(
        shipped, ids, group_size, 13, Sampling(temperature), generator=TokenUniforms(stream_seed(0, "rollout", 0))
    )
    advantages = torch.randn(prompts, group_size, generator=torch.Generator().manual_seed(2))
    given = Filtered(torch.ones_like(advantages), advantages)
    options = {"temperature": temperature, "mini_batches": min(4, prompts), "micro_batch_rows": 64}
    done = updater(model, **options)(rollouts, given)
    assert done.gap <= largest
    if done.steps > 1:
        assert done.ratio_max > 1.0  # later mini-batches are off-policy, and do not count for the gap
    moved = updater(model, **options)(rollouts, given)
    assert moved.gap > 1e-3  # the weights have changed since the rollouts


def test_rejected_and_zero_rows_do_not_enter_the_gap_nor_the_ratios(tiny):
    rollouts = rollouts_of(tiny)
    wrong = copy.deepcopy(rollouts.log_prob)
    wrong[3:] -= 1.0  # as if recorded by another policy: a gap of 1, a ratio of e
    doctored = replace(rollouts, log_prob=wrong.masked_fill(~rollouts.mask, 0.0))
    clean = updater(tiny.model, mini_batches=1)(doctored, filtered([SOME, NONE, NONE, NONE]))
    assert clean.gap < 1e-10
    assert clean.ratio_max == pytest.approx(1.0, abs=1e-10)


def test_gap_and_ratio_by_hand(tiny):
    rollouts = rollouts_of(tiny)
    old = rollouts.log_prob.clone()
    old[0, 0] += 0.7
    old[1, 0] -= 0.4
    doctored = replace(rollouts, log_prob=old)
    still = updater(tiny.model, mini_batches=1, optimizer=torch.optim.SGD(tiny.model.parameters(), lr=0.0))
    done = still(doctored, filtered([SOME, NONE, NONE, NONE]))
    assert done.gap == pytest.approx(0.7, abs=1e-10)
    assert done.ratio_max == pytest.approx(torch.tensor(0.4).exp().item(), abs=1e-10)
    # SOME is (1.2, -0.9, 0.3): ratio e^-0.7 with a positive advantage and e^0.4 with a negative one are not clipped
    assert (done.clipped_low, done.clipped_high) == (0, 0)
    done = still(doctored, filtered([[-1.2, 0.9, 0.3], NONE, NONE, NONE]))
    assert (done.clipped_low, done.clipped_high) == (1, 1)


def test_an_update_leaves_rollouts_and_decision_alone(tiny):
    weights = [[1.0, 0.0, 2.0], NONE, [0.5] * GROUP, [1.0] * GROUP]
    rollouts, given = rollouts_of(tiny), filtered([SOME] * 4, weights)
    before = copy.deepcopy(rollouts)
    updater(tiny.model, terms=(EntropyBonus(0.1),), epochs=2)(rollouts, given)
    assert given.weights.tolist() == weights
    assert given.advantages.tolist() == [SOME] * 4
    for name, value in vars(before).items():
        now = getattr(rollouts, name)
        same = torch.equal(now, value) if isinstance(value, torch.Tensor) else now == value
        assert same, name


def test_a_gradient_that_is_not_finite_is_dropped_before_it_reaches_the_weights(tiny):
    rollouts, before = rollouts_of(tiny), weights_of(tiny.model)
    old = rollouts.log_prob.clone()
    old[0, 0] = -1e4  # an infinite ratio
    doctored, optimizer = replace(rollouts, log_prob=old), torch.optim.AdamW(tiny.model.parameters(), lr=1e-2)
    done = updater(tiny.model, optimizer=optimizer, mini_batches=1)(doctored, filtered([[-1.0, 1.0, 0.0]] * 4))
    assert (done.bad, done.steps, done.losses) == (1, 0, [])
    assert same(weights_of(tiny.model), before)
    assert not optimizer.state
