"""Advantage estimators: rewards `[*R, P, G]` -> advantages of the same shape. A reward above 0 is a right answer."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor


@dataclass(frozen=True)
class GRPO:
    """Group-normalised rewards: (r - mean) / (std + eps) over the G samples of a prompt.

    A group with equal rewards gets advantage 0 exactly.

    Valid for G >= 2.

    Args:
        eps: added to the standard deviation, in units of the reward.

    Raises:
        ValueError: G = 1, or a negative eps.

    Source: Shao et al. 2024, arXiv 2402.03300; standard deviation with Bessel's correction and eps = 1e-6 as in the
    code released with arXiv 2604.26326.

    >>> GRPO()(torch.tensor([[1.0, 0.0, 0.0, 0.0]])).round(decimals=3)
    tensor([[ 1.5000, -0.5000, -0.5000, -0.5000]])
    """

    eps: float = 1e-6

    def __post_init__(self) -> None:
        if not self.eps >= 0:
            raise ValueError(f"GRPO(eps={self.eps}) must not be negative. Use 1e-6, or 0 for none.")

    def __call__(self, rewards: Float[Tensor, "*R P G"]) -> Float[Tensor, "*R P G"]:
        """Return the advantages."""
        check_group_size(rewards.shape[-1])
        centred = rewards - rewards.mean(-1, keepdim=True)
        # torch.std is ten times slower on groups this small.
        deviation = (centred.square().sum(-1, keepdim=True) / (rewards.shape[-1] - 1)).sqrt()
        return (centred / (deviation + self.eps)).masked_fill(all_equal(rewards), 0.0)


def check_group_size(group_size: int, method: str = "GRPO") -> None:
    """Refuse groups of one, in which there is nothing to compare."""
    if group_size < 2:
        raise ValueError(
            f"{method}(group_size={group_size}) must compare at least 2 samples a prompt; got {group_size}. "
            "Raise rollout.group_size, or choose algorithm.advantage: reinforce."
        )


def all_equal(rewards: Float[Tensor, "*R P G"]) -> Bool[Tensor, "*R P 1"]:
    """Return which groups have equal rewards: no signal, though their mean can differ from them in the last bit."""
    return rewards.amax(-1, keepdim=True) == rewards.amin(-1, keepdim=True)


def reinforce(rewards: Float[Tensor, "*R P G"]) -> Float[Tensor, "*R P G"]:
    """Return the rewards themselves, without a baseline.

    Source: Williams 1992, the REINFORCE estimator.

    >>> reinforce(torch.tensor([[1.0, -1.0]]))
    tensor([[ 1., -1.]])
    """
    return rewards


def dr_grpo(rewards: Float[Tensor, "*R P G"]) -> Float[Tensor, "*R P G"]:
    """Return r - mean over the group, without the standard deviation; 0 exactly in a group of equal rewards.

    Goes with the denominator `max_length`.

    Valid for G >= 2.

    Raises:
        ValueError: G = 1.

    Source: Dr.GRPO, Liu et al. 2025, arXiv 2503.20783.

    >>> dr_grpo(torch.tensor([[1.0, 0.0, 0.0, 0.0]]))
    tensor([[ 0.7500, -0.2500, -0.2500, -0.2500]])
    """
    check_group_size(rewards.shape[-1], "dr_grpo")
    return torch.where(all_equal(rewards), 0.0, rewards - rewards.mean(-1, keepdim=True))


def rloo(rewards: Float[Tensor, "*R P G"]) -> Float[Tensor, "*R P G"]:
    """Return each reward minus the mean of the others: G / (G - 1) (r - mean).

    Valid for G >= 2.

    Raises:
        ValueError: G = 1.

    Source: Ahmadian et al. 2024, arXiv 2402.14740.

    >>> rloo(torch.tensor([[3.0, 0.0, 0.0, 0.0]]))
    tensor([[ 3., -1., -1., -1.]])
    """
    group_size = rewards.shape[-1]
    check_group_size(group_size, "rloo")
    return dr_grpo(rewards) * (group_size / (group_size - 1))


def raft(rewards: Float[Tensor, "*R P G"]) -> Float[Tensor, "*R P G"]:
    """Return max(r, 0): positive samples only. With a PPO clip this is RAFT++.

    Source: Xiong et al. 2025, arXiv 2504.11343; github.com/RLHFlow/Minimal-RL.

    >>> raft(torch.tensor([[1.0, -1.0]]))
    tensor([[1., 0.]])
    """
    return rewards.clamp(min=0)


def psr(rewards: Float[Tensor, "*R P G"]) -> Float[Tensor, "*R P G"]:
    """Return 1[r > 0]: positive sample reinforcement.

    The authors train on the right rows alone: use the filter `nonzero`.

    Source: Zhu et al. 2025, arXiv 2506.01347.

    >>> psr(torch.tensor([[1.0, -1.0]]))
    tensor([[1., 0.]])
    """
    return (rewards > 0).to(rewards.dtype)


def nsr(rewards: Float[Tensor, "*R P G"]) -> Float[Tensor, "*R P G"]:
    """Return -1[r <= 0]: negative sample reinforcement.

    The authors train on the wrong rows alone: use the filter `nonzero`.

    Source: Zhu et al. 2025, arXiv 2506.01347.

    >>> nsr(torch.tensor([[1.0, 0.0]]))
    tensor([[ 0., -1.]])
    """
    return (rewards > 0).to(rewards.dtype) - 1


@dataclass(frozen=True)
class WReinforce:
    """W-REINFORCE: +weight for a right answer, -1 for a wrong one.

    weight 0 is `nsr`; weight 1 is `reinforce` on rewards of -1 and +1.

    Args:
        weight: advantage of a right answer, in units of a wrong one's; 0.1 in the paper.

    Raises:
        ValueError: a negative weight.

    Source: Zhu et al. 2025, arXiv 2506.01347.

    >>> WReinforce()(torch.tensor([[1.0, 0.0]]))
    tensor([[ 0.1000, -1.0000]])
    """

    weight: float = 0.1

    def __post_init__(self) -> None:
        if not self.weight >= 0:
            raise ValueError(f"WReinforce(weight={self.weight}) must not be negative; got {self.weight}. Use 0.1.")

    def __call__(self, rewards: Float[Tensor, "*R P G"]) -> Float[Tensor, "*R P G"]:
        """Return the advantages."""
        return torch.where(rewards > 0, self.weight, -1.0).to(rewards.dtype)


@dataclass(frozen=True)
class AsymGRPO:
    """((1 - m) / m)^b_pos for a right answer, -(m / (1 - m))^b_neg for a wrong one, m the group's share of right ones.

    Exponents of 1/2 are GRPO with the population's standard deviation, exponents of 0 advantages of +1 and -1. Groups
    that are all right or all wrong get 0 where the exponent is above 0; with an exponent of 0 the formula's 0^0 is 1,
    and they get +1 or -1.

    Valid for G >= 2.

    Args:
        b_pos: exponent of right answers; above 1/2, hard prompts weigh more than in GRPO.
        b_neg: exponent of wrong answers; below 1/2, easy prompts weigh less than in GRPO.

    Raises:
        ValueError: a negative exponent, or G = 1.

    Source: arXiv 2604.04894, exponents 0.9 and 0.4.

    >>> AsymGRPO(b_pos=1.0)(torch.tensor([[1.0, 0.0, 0.0, 0.0]])).round(decimals=3)  # odds 3 to 1; (1/3)^0.4 = 0.644
    tensor([[ 3.0000, -0.6440, -0.6440, -0.6440]])
    """

    b_pos: float = 0.9
    b_neg: float = 0.4

    def __post_init__(self) -> None:
        if not (self.b_pos >= 0 and self.b_neg >= 0):
            raise ValueError(
                f"AsymGRPO(b_pos={self.b_pos}, b_neg={self.b_neg}) must not have negative exponents; got "
                f"{min(self.b_pos, self.b_neg)}. Use 0.9 and 0.4, or 0.5 and 0.5 for GRPO."
            )

    def __call__(self, rewards: Float[Tensor, "*R P G"]) -> Float[Tensor, "*R P G"]:
        """Return the advantages."""
        group_size = rewards.shape[-1]
        check_group_size(group_size, "AsymGRPO")
        correct = rewards > 0
        right = correct.sum(-1, keepdim=True).to(rewards.dtype)
        alike = torch.where(correct, right, group_size - right)  # rollouts of the same outcome, this one included
        odds = (group_size - alike) / alike
        return torch.where(correct, odds**self.b_pos, -(odds**self.b_neg))


def reinforce_rej(rewards: Float[Tensor, "*R P G"]) -> Float[Tensor, "*R P G"]:
    """Return the rewards, and 0 in groups whose rewards are all equal: Reinforce-Rej.

    Valid for G >= 2.

    Raises:
        ValueError: G = 1.

    Source: Xiong et al. 2025, arXiv 2504.11343; github.com/RLHFlow/Minimal-RL.

    >>> reinforce_rej(torch.tensor([[1.0, -1.0], [1.0, 1.0]]))
    tensor([[ 1., -1.],
            [ 0.,  0.]])
    """
    check_group_size(rewards.shape[-1], "reinforce_rej")
    return torch.where(all_equal(rewards), 0.0, rewards)
