"""Rollout filters: which rollouts the update may use."""

import torch

from trainer.methods.advantages import all_equal
from trainer.methods.stages import Filtered, Groups


def keep_all(groups: Groups) -> Filtered:
    """Accept every rollout: the base algorithm, bit for bit."""
    return Filtered.all(groups)


def algorithm1(groups: Groups) -> Filtered:
    """Accept rollout i iff m A_i >= 0, with m = 1[H > high] - 1[H < low].

    Inside the band all are accepted, above it those with A >= 0, below it those with A <= 0. The loss is the
    unchanged one, averaged over the accepted set: use the denominator `drop`.

    Source: arXiv 2604.26326, Algorithm 1.

    >>> from trainer.methods.stages import Band
    >>> a = torch.tensor([[1.5, -0.5, 0.0]])
    >>> algorithm1(Groups(a, a, entropy=0.2, band=Band(0.3, 0.4), step=0)).weights  # too low: no positives
    tensor([[0., 1., 1.]])
    """
    accepted = groups.side * groups.rollout_advantages >= 0
    return Filtered(accepted.to(groups.rewards.dtype), groups.advantages)


def released(groups: Groups) -> Filtered:
    """Apply the authors' released variant: outside the band, raw rewards of one sign replace the advantages.

    H > high: advantage max(r, 0), as in RAFT++. H < low: min(r, 0), as in NSR. Inside: the given advantages. A
    rejected rollout has advantage 0 and stays in the loss's denominator: use the denominator `zero`. Differs from
    Algorithm 1 in that acceptance goes by the reward's sign and drops the group's baseline.

    Valid for signed rewards.

    Raises:
        ValueError: rewards of 0 and none negative, as under the 0/1 convention, where the negative branch is empty.

    Source: estimators grpo_range and grpo_range_linear of github.com/lblaoke/entrocraft.

    >>> from trainer.methods.stages import Band
    >>> r, a = torch.tensor([[1.0, -1.0, -1.0]]), torch.tensor([[1.2, -0.6, -0.6]])
    >>> released(Groups(r, a, entropy=0.9, band=Band(0.3, 0.4), step=0)).advantages
    tensor([[1., 0., 0.]])
    """
    rewards = groups.rewards
    if bool((rewards == 0).any()) and not bool((rewards < 0).any()):
        raise ValueError(
            "released(rewards) must be signed, wrong answers below 0; got rewards of 0 and none negative, so "
            "the branch that keeps negatives would be empty. Set reward.convention: signed (maps 0/1 to -1/+1), "
            "and replace the run that stopped here."
        )
    side = groups.side
    replaced = torch.where(side > 0, rewards.clamp(min=0), rewards.clamp(max=0))
    weights = ((side == 0) | (replaced != 0)).to(rewards.dtype)
    if groups.advantages.dim() > rewards.dim():
        side, replaced = side[..., None], replaced[..., None].expand(groups.advantages.shape)
        if groups.record is not None:
            replaced = replaced.masked_fill(~groups.record.mask, 0.0)
    return Filtered(weights, torch.where(side == 0, groups.advantages, replaced))


def dapo_groups(groups: Groups) -> Filtered:
    """Reject every rollout of the groups whose rewards are all equal: DAPO's dynamic sampling without the resampling.

    Use the denominator `drop`, so that the mean is over the groups that remain.

    Source: Yu et al. 2025, arXiv 2503.14476, Section 3.2. Ours: rejected groups are not sampled anew, so that the step
    has fewer groups.

    >>> from trainer.methods.stages import Band
    >>> r = torch.tensor([[1.0, 0.0], [1.0, 1.0]])
    >>> dapo_groups(Groups(r, r, entropy=0.2, band=Band(0.3, 0.4), step=0)).weights
    tensor([[1., 1.],
            [0., 0.]])
    """
    return Filtered(
        (~all_equal(groups.rewards)).expand(groups.rewards.shape).to(groups.rewards.dtype), groups.advantages
    )


def nonzero(groups: Groups) -> Filtered:
    """Accept the rollouts whose advantage is not 0 (at some token): the row filter of PSR and NSR.

    Source: Zhu et al. 2025, arXiv 2506.01347, which trains on right or on wrong rows alone.

    >>> from trainer.methods.stages import Band
    >>> a = torch.tensor([[1.0, 0.0, 1.0]])
    >>> nonzero(Groups(a, a, entropy=0.2, band=Band(0.3, 0.4), step=0)).weights
    tensor([[1., 0., 1.]])
    """
    active = groups.advantages != 0
    if active.dim() > groups.rewards.dim():
        active = active.any(-1)
    return Filtered(active.to(groups.rewards.dtype), groups.advantages)
