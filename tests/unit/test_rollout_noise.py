"""The standard error of a batch's entropy: prompts, not tokens, are what is drawn independently."""

import pytest
import torch

from trainer.rollout import Rollouts


def of(mask, values, group_size):
    """Return rollouts with these entropies."""
    blank = torch.zeros(mask.shape)
    tokens = torch.zeros(mask.shape, dtype=torch.long)
    return Rollouts(tokens, mask, mask, blank, values, *[blank] * 4, mask[:, 0], group_size)


def test_by_hand():
    mask = torch.tensor([[True, True], [True, False], [True, False], [True, False]])
    values = torch.tensor([[1.0, 2.0], [3.0, 9.0], [1.0, 9.0], [1.0, 9.0]])
    rollouts = of(mask, values, group_size=2)
    # Sums 6 and 2 over 3 and 2 tokens; the mean 8/5 leaves residuals 1.2 and -1.2.
    assert rollouts.standard_error(values) == pytest.approx((2 * 2 * 1.2**2) ** 0.5 / 5)


def test_one_prompt_has_none():
    mask = torch.ones(3, 2, dtype=torch.bool)
    assert of(mask, torch.rand(3, 2), group_size=3).standard_error(torch.rand(3, 2)) is None


def test_it_is_the_spread_of_the_mean_over_batches():
    generator = torch.Generator().manual_seed(0)
    means, errors = [], []
    for _ in range(400):
        # Prompts of different levels and lengths: the spread over tokens would be far too small.
        level = torch.rand(16, 1, 1, generator=generator)
        length = torch.randint(1, 7, (16, 1, 1), generator=generator)
        values = (level + 0.1 * torch.rand(16, 4, 6, generator=generator)).flatten(0, 1)
        mask = (torch.arange(6) < length).expand(16, 4, 6).flatten(0, 1)
        rollouts = of(mask, values, group_size=4)
        means.append(rollouts.mean(values))
        errors.append(rollouts.standard_error(values))
    # The spread of 400 means is known to 1 / sqrt(800) = 3.5 %, at 5 standard errors 18 %; the linearised ratio
    # estimator is low by about 1 / P more.
    assert torch.tensor(errors).square().mean().sqrt() == pytest.approx(torch.tensor(means).std().item(), rel=0.22)
