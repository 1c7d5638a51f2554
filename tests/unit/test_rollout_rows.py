"""Which rollouts of a step are written down."""

import pytest
import torch

from trainer.methods.stages import Filtered
from trainer.metrics import rollout_rows


@pytest.mark.parametrize(
    ("count", "groups"),
    [(0, []), (1, [0]), (3, [0]), (4, [0, 2]), (6, [0, 1, 3]), (8, [0, 1, 2, 3]), (10, [0, 1, 2, 3, 4])],
)
def test_whole_groups_of_prompts_spread_over_the_step(count, groups):
    rewards = torch.arange(10.0).view(5, 2)
    filtered = Filtered(weights=(rewards > 3).double(), advantages=rewards - 4)
    prompts = [{"prompt": f"p{index}"} for index in range(5)]
    found = list(rollout_rows(prompts, [f"c{index}" for index in range(10)], rewards, filtered, count))
    assert [row["group"] for row in found] == [group for group in groups for _ in range(2)]
    for row, index in zip(found, (2 * group + member for group in groups for member in range(2)), strict=True):
        assert row == {
            "group": index // 2,
            "prompt": f"p{index // 2}",
            "completion": f"c{index}",
            "reward": float(index),
            "advantage": float(index) - 4,
            "weight": float(index > 3),
        }
