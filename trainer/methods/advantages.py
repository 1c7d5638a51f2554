"""Advantage estimators: rewards `[P, G]` -> advantages `[P, G]`."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class GRPO:
    """Group-normalised rewards: (r - mean) / (std + eps) over the G samples of a prompt.

    A group with equal rewards gets advantage 0 exactly.

    Valid for G >= 2.

    Args:
        eps: added to the standard deviation, in units of the reward.

    Raises:
        ValueError: G = 1.

    Source: Shao et al. 2024, arXiv 2402.03300; standard deviation with Bessel's correction and eps = 1e-6 as in the
    code released with arXiv 2604.26326.

    >>> GRPO()(torch.tensor([[1.0, 0.0, 0.0, 0.0]])).round(decimals=3)
    tensor([[ 1.5000, -0.5000, -0.5000, -0.5000]])
    """

    eps: float = 1e-6

    def __call__(self, rewards: Float[Tensor, "P G"]) -> Float[Tensor, "P G"]:
        """Return the advantages `[P, G]`."""
        check_group_size(rewards.shape[1])
        centred = rewards - rewards.mean(1, keepdim=True)
        # The mean of equal numbers can differ from them in the last bit; such a group carries no signal.
        equal = rewards.amax(1, keepdim=True) == rewards.amin(1, keepdim=True)
        return torch.where(equal, 0.0, centred / (rewards.std(1, keepdim=True) + self.eps))


def check_group_size(group_size: int) -> None:
    """Refuse groups of one, whose normalised advantage is always 0."""
    if group_size < 2:
        raise ValueError(
            f"GRPO(group_size={group_size}) must compare at least 2 samples a prompt; got {group_size}. "
            "Raise rollout.group_size, or choose algorithm.advantage: reinforce."
        )


def reinforce(rewards: Float[Tensor, "P G"]) -> Float[Tensor, "P G"]:
    """Return the rewards themselves, without a baseline.

    Source: Williams 1992, the REINFORCE estimator.

    >>> reinforce(torch.tensor([[1.0, -1.0]]))
    tensor([[ 1., -1.]])
    """
    return rewards
