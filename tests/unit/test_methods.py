"""Advantages and filters, against numbers worked by hand."""

import copy
import math

import pytest
import torch

from trainer.methods.advantages import GRPO, reinforce
from trainer.methods.filters import algorithm1, keep_all, released
from trainer.methods.stages import Band, Groups

CLOSED_FORM = 1e-10
BELOW, INSIDE, ABOVE = 0.2, 0.35, 0.5  # entropies about the band
BAND = Band(0.3, 0.4)

# rewards of two groups and what GRPO makes of them:
#   (1, 0, 0, 0): mean 1/4, centred (3/4, -1/4, -1/4, -1/4), variance (9 + 1 + 1 + 1)/16 / 3 = 1/4, deviation 1/2
#   (2, 5, 2, 7): mean 4, centred (-2, 1, -2, 3), variance (4 + 1 + 4 + 9) / 3 = 6
REWARDS = [[1.0, 0.0, 0.0, 0.0], [2.0, 5.0, 2.0, 7.0]]
BY_HAND = [
    [0.75 / 0.500001, -0.25 / 0.500001, -0.25 / 0.500001, -0.25 / 0.500001],
    [centred / (math.sqrt(6) + 1e-6) for centred in (-2.0, 1.0, -2.0, 3.0)],
]


def groups(rewards, advantages, entropy):
    return Groups(torch.tensor(rewards), torch.tensor(advantages), entropy, BAND, step=0)


def test_grpo_by_hand_with_bessels_correction_and_eps():
    advantages = GRPO()(torch.tensor(REWARDS))
    torch.testing.assert_close(advantages, torch.tensor(BY_HAND), rtol=0, atol=CLOSED_FORM)
    without_eps = GRPO(eps=0.0)(torch.tensor(REWARDS))[0]
    assert without_eps.tolist() == pytest.approx([1.5, -0.5, -0.5, -0.5], abs=CLOSED_FORM)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("reward", [0.0, 1.0, -1.0, 0.1, 0.3, 1e-9, 12345.678])
@pytest.mark.parametrize("size", [2, 3, 7, 10])
def test_grpo_of_equal_rewards_is_zero_to_the_last_bit(reward, size, dtype):
    # the mean of ten times 0.1 is not 0.1 in floating point, so centring alone leaves advantages of order one
    advantages = GRPO(eps=0.0)(torch.full((2, size), reward, dtype=dtype))
    assert torch.equal(advantages, torch.zeros(2, size, dtype=dtype))


def test_grpo_groups_do_not_mix_and_one_sample_is_refused():
    alone = [GRPO()(torch.tensor([row])) for row in REWARDS]
    assert torch.equal(GRPO()(torch.tensor(REWARDS)), torch.cat(alone))
    with pytest.raises(ValueError, match=r"group_size=1.*at least 2"):
        GRPO()(torch.tensor([[1.0], [0.0]]))


def test_reinforce_is_the_reward():
    rewards = torch.tensor([[1.0, -0.5], [0.25, 0.0]])
    assert torch.equal(reinforce(rewards), rewards)


@pytest.mark.parametrize(
    ("entropy", "side", "accepted"),
    [(BELOW, -1, [0, 1, 1, 0, 1]), (INSIDE, 0, [1, 1, 1, 1, 1]), (ABOVE, 1, [1, 0, 1, 1, 0])],
)
def test_algorithm_1_in_the_three_places_about_the_band(entropy, side, accepted):
    # the third rollout has advantage 0: it is accepted everywhere
    given = groups([[1.0, 0.0, 0.5, 2.0, 0.0]], [[1.5, -0.5, 0.0, 0.2, -1.2]], entropy)
    assert BAND.side(entropy) == side
    decided = algorithm1(given)
    assert decided.weights.tolist() == [[float(value) for value in accepted]]
    assert torch.equal(decided.advantages, given.advantages)


@pytest.mark.parametrize("entropy", [BAND.low, BAND.high])
def test_the_bounds_belong_to_the_band(entropy):
    assert BAND.side(entropy) == 0
    assert algorithm1(groups([[1.0, 0.0]], [[0.7, -0.7]], entropy)).weights.tolist() == [[1.0, 1.0]]


@pytest.mark.parametrize(
    ("entropy", "weights", "advantages"),
    [
        (BELOW, [0, 1, 1, 0], [0.0, -1.0, -0.25, 0.0]),
        (INSIDE, [1, 1, 1, 1], [1.2, -0.9, 0.1, -0.3]),
        (ABOVE, [1, 0, 0, 1], [1.0, 0.0, 0.0, 0.5]),
    ],
)
def test_released_variant_in_the_three_places_about_the_band(entropy, weights, advantages):
    # it goes by the reward's sign: the third rollout has a negative reward and a positive advantage
    decided = released(groups([[1.0, -1.0, -0.25, 0.5]], [[1.2, -0.9, 0.1, -0.3]], entropy))
    assert decided.weights.tolist() == [[float(value) for value in weights]]
    assert decided.advantages.tolist() == [advantages]


@pytest.mark.parametrize("entropy", [BELOW, INSIDE, ABOVE])
def test_released_variant_refuses_rewards_of_0_and_1(entropy):
    with pytest.raises(ValueError, match=r"signed.*reward\.convention"):
        released(groups([[1.0, 0.0, 0.0]], [[1.2, -0.6, -0.6]], entropy))
    with_a_tie = groups([[1.0, 0.0, -1.0]], [[1.2, 0.0, -1.2]], entropy)  # signed, and one rollout in the middle
    assert released(with_a_tie).weights[0, 1] == (1.0 if entropy == INSIDE else 0.0)


@pytest.mark.parametrize("entropy", [BELOW, INSIDE, ABOVE])
def test_keep_all_keeps_all(entropy):
    given = groups([[1.0, -1.0, 0.0]], [[1.5, -0.7, 0.0]], entropy)
    decided = keep_all(given)
    assert torch.equal(decided.weights, torch.ones(1, 3))
    assert torch.equal(decided.advantages, given.advantages)


@pytest.mark.parametrize("entropy", [BELOW, INSIDE, ABOVE])
@pytest.mark.parametrize("filter_", [keep_all, algorithm1, released])
def test_filters_leave_their_inputs_alone(filter_, entropy):
    given = groups([[1.0, -1.0, -0.25, 0.5]], [[1.2, -0.9, 0.0, -0.3]], entropy)
    before = copy.deepcopy(given)
    decided = filter_(given)
    decided.weights.add_(1)  # what it returns must not be its input either
    assert torch.equal(given.rewards, before.rewards)
    assert torch.equal(given.advantages, before.advantages)


@pytest.mark.parametrize("estimate", [GRPO(), GRPO(eps=0.0), reinforce])
def test_advantage_estimators_leave_their_input_alone(estimate):
    rewards = torch.tensor(REWARDS)
    estimate(rewards)
    assert torch.equal(rewards, torch.tensor(REWARDS))
