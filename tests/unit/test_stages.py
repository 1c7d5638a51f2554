"""What the loop accepts of a filter, and advantages of one value a token."""

import pytest
import torch

from trainer.methods.filters import algorithm1
from trainer.methods.pipeline import weighted_advantages
from trainer.methods.stages import Band, Filtered, Groups
from trainer.rollout import Rollouts

REWARDS = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 1.0]])


def groups(advantages=REWARDS, entropy=0.2):
    return Groups(REWARDS, advantages, entropy, Band(0.3, 0.4), step=0)


def rollouts(lengths):
    mask = torch.arange(max(lengths))[None, :] < torch.tensor(lengths)[:, None]
    blank, tokens = torch.zeros(mask.shape), torch.zeros(mask.shape, dtype=torch.long)
    return Rollouts(tokens, mask, mask, *[blank] * 6, mask[:, 0], group_size=3)


def test_a_boolean_mask_counts_as_weights():
    checked = Filtered(REWARDS > 0, REWARDS, {"kept": torch.tensor(3)}).checked(groups())
    assert checked.weights.dtype == REWARDS.dtype
    assert checked.weights.tolist() == REWARDS.tolist()
    assert checked.info == {"kept": 3.0}


@pytest.mark.parametrize(
    ("weights", "advantages"),
    [
        (torch.ones(3, 2), REWARDS.T),
        (-torch.ones(2, 3), REWARDS),
        (torch.full((2, 3), torch.nan), REWARDS),
        (torch.ones(2, 3), REWARDS / 0),
    ],
    ids=["transposed", "negative", "NaN", "infinite"],
)
def test_what_does_not_fit_is_refused(weights, advantages):
    with pytest.raises(ValueError, match=r"\[P, G\] = \[2, 3\].*Mend algorithm"):
        Filtered(weights, advantages).checked(groups())


def test_algorithm_1_takes_a_rollout_by_the_mean_of_its_tokens():
    # rows: mean +1, mean -1, mean 0 though its tokens differ
    per_token = torch.tensor([[[3.0, -1.0], [-3.0, 1.0], [2.0, -2.0]]] * 2)
    assert algorithm1(groups(per_token)).weights.tolist() == [[0.0, 1.0, 1.0]] * 2
    assert algorithm1(groups(per_token, entropy=0.5)).weights.tolist() == [[1.0, 0.0, 1.0]] * 2


def test_token_advantages_are_weighted_and_masked():
    batch = rollouts([2, 1, 3, 1, 1, 1])
    weights = torch.tensor([[2.0, 0.0, 1.0], [1.0, 1.0, 1.0]])
    per_token = torch.arange(18.0).reshape(2, 3, 3) + 1
    found = weighted_advantages(Filtered(weights, per_token), batch.record.mask)
    assert found[0].tolist() == [2.0, 4.0, 0.0]
    assert found[1].tolist() == [0.0, 0.0, 0.0]
    assert found[2].tolist() == [7.0, 8.0, 9.0]
    whole = weighted_advantages(Filtered(weights, REWARDS), batch.record.mask)
    assert whole[0].tolist() == [2.0, 2.0, 0.0]
    with pytest.raises(ValueError, match="T = 3"):
        weighted_advantages(Filtered(weights, per_token[:, :, :2]), batch.record.mask)
