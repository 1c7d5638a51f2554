"""Filters of several repeats at once, filters of the field, and denominators."""

import pytest
import torch

from trainer.methods.advantages import psr
from trainer.methods.denominators import MaxLength, drop, sequence, zero
from trainer.methods.filters import algorithm1, dapo_groups, keep_all, nonzero, released
from trainer.methods.pipeline import mean_loss
from trainer.methods.stages import Band, Groups, TokenRecord

BAND = Band(0.3, 0.4)
ENTROPIES = torch.tensor([0.2, 0.35, 0.5])  # below, inside, above
REWARDS = torch.tensor([[1.0, -1.0, -0.25, 0.5]])
ADVANTAGES = torch.tensor([[1.2, -0.9, 0.1, -0.3]])


def groups(rewards, advantages, entropy=0.35, record=None):
    return Groups(rewards, advantages, entropy, BAND, step=0, record=record)


@pytest.mark.parametrize("filter_", [keep_all, algorithm1, released])
def test_repeats_on_three_sides_of_the_band_are_filtered_as_each_alone(filter_):
    together = filter_(groups(REWARDS.expand(3, 1, 4), ADVANTAGES.expand(3, 1, 4), ENTROPIES))
    for repeat, entropy in enumerate(ENTROPIES):
        alone = filter_(groups(REWARDS, ADVANTAGES, float(entropy)))
        assert torch.equal(together.weights[repeat], alone.weights)
        assert torch.equal(together.advantages[repeat], alone.advantages)


def test_released_replaces_token_advantages_outside_the_band_and_keeps_them_inside():
    mask = torch.tensor([[[1, 1], [1, 0], [1, 1], [1, 1]]]).bool()
    tokens = torch.tensor([[[1.0, 3.0], [-2.0, 0.0], [0.5, 0.5], [-1.0, 0.0]]])
    record = TokenRecord(mask, 0 * tokens, 0 * tokens)
    inside, above, below = (released(groups(REWARDS, tokens, entropy, record)) for entropy in (0.35, 0.5, 0.2))
    assert torch.equal(inside.advantages, tokens)
    assert inside.weights.tolist() == [[1.0, 1.0, 1.0, 1.0]]
    assert above.advantages.tolist() == [[[1.0, 1.0], [0.0, 0.0], [0.0, 0.0], [0.5, 0.5]]]
    assert below.advantages.tolist() == [[[0.0, 0.0], [-1.0, 0.0], [-0.25, -0.25], [0.0, 0.0]]]
    assert below.weights.tolist() == [[0.0, 1.0, 1.0, 0.0]]


@pytest.mark.parametrize("entropy", ENTROPIES.tolist())
def test_dapo_rejects_groups_of_equal_rewards(entropy):
    rewards = torch.tensor([[1.0, 0.0, 1.0], [0.1, 0.1, 0.1], [0.0, 0.0, 0.0], [0.0, 0.0, 2.0]])
    decided = dapo_groups(groups(rewards, rewards - 0.4, entropy))
    assert decided.weights.tolist() == [[1.0] * 3, [0.0] * 3, [0.0] * 3, [1.0] * 3]
    assert torch.equal(decided.advantages, rewards - 0.4)


def test_nonzero_accepts_a_rollout_with_an_advantage_at_any_token():
    rewards = torch.tensor([[1.0, 0.0, 1.0]])
    assert nonzero(groups(rewards, psr(rewards))).weights.tolist() == [[1.0, 0.0, 1.0]]
    tokens = torch.tensor([[[0.0, 0.0], [2.0, -2.0], [0.0, -1.0]]])  # the second sums to 0
    assert nonzero(groups(rewards, tokens)).weights.tolist() == [[0.0, 1.0, 1.0]]


LENGTHS, WEIGHTS = torch.tensor([2, 4, 1]), torch.tensor([1.0, 0.0, 0.5], dtype=torch.float64)
# per token; the second row is rejected, its loss 0
LOSS = torch.tensor([[3, 5, 0, 0], [0, 0, 0, 0], [7, 0, 0, 0]], dtype=torch.float64)


@pytest.mark.parametrize(
    ("denominator", "expected", "rows"),
    [
        (drop, 15 / 3, [True, False, True]),  # 2 + 1 accepted tokens
        (zero, 15 / 7, [True, True, True]),
        (sequence, (8 / 2 + 7 / 1) / 2, [True, False, True]),  # mean of the rows' own means
        (MaxLength(5), (8 / 5 + 7 / 5) / 2, [True, False, True]),
    ],
)
def test_denominators_by_hand(denominator, expected, rows):
    mean = denominator(LENGTHS, WEIGHTS)
    assert mean.rows.tolist() == rows
    assert mean_loss(LOSS, mean).item() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("denominator", [drop, zero, sequence, MaxLength(3)])
def test_denominators_of_repeats_do_not_mix_and_are_never_0(denominator):
    lengths = torch.stack([LENGTHS, LENGTHS + 1, 0 * LENGTHS])
    weights = torch.stack([WEIGHTS, WEIGHTS.flip(0), 0 * WEIGHTS])
    together = denominator(lengths, weights)
    assert bool((together.tokens > 0).all())
    for repeat in range(3):
        assert torch.equal(together.tokens[repeat], denominator(lengths[repeat], weights[repeat]).tokens)


def test_rows_of_equal_length_make_sequence_and_drop_the_same():
    lengths = torch.full((3,), 4)
    torch.testing.assert_close(sequence(lengths, WEIGHTS).tokens, drop(lengths, WEIGHTS).tokens)
    torch.testing.assert_close(MaxLength(4)(lengths, WEIGHTS).tokens, drop(lengths, WEIGHTS).tokens)


def test_a_length_below_1_is_refused():
    with pytest.raises(ValueError, match=r"MaxLength\(length=0\) must be at least 1"):
        MaxLength(0)
