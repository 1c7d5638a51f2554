"""Denominators: what the sum over tokens of a mini-batch is divided by."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from trainer.methods.stages import Mean


def drop(lengths: Int[Tensor, "*R B"], weights: Float[Tensor, "*R B"]) -> Mean:
    """Take the mean over the tokens of all accepted rows, those with advantage 0 included.

    Source: arXiv 2604.26326, Algorithm 1 (1/|S|).

    >>> drop(torch.tensor([5, 7]), torch.tensor([1.0, 0.0])).tokens
    tensor([5., 5.])
    """
    rows = weights > 0
    return Mean(rows, shared((lengths * rows).sum(-1, keepdim=True), weights))


def zero(lengths: Int[Tensor, "*R B"], weights: Float[Tensor, "*R B"]) -> Mean:
    """Take the mean over the tokens of all rows: rejected ones count as zeros, so that the step shrinks with them.

    Source: the code released with arXiv 2604.26326.

    >>> zero(torch.tensor([5, 7]), torch.tensor([1.0, 0.0])).tokens
    tensor([12., 12.])
    """
    return Mean(torch.ones_like(weights, dtype=torch.bool), shared(lengths.sum(-1, keepdim=True), weights))


def sequence(lengths: Int[Tensor, "*R B"], weights: Float[Tensor, "*R B"]) -> Mean:
    """Take the mean over accepted rows of each row's own token mean: long and short rows weigh the same.

    (1 / |S|) sum over i in S of (1 / |y_i|) sum over t, S the accepted rows of the mini-batch.

    Source: GRPO as first published, arXiv 2402.03300, Equation 3; GSPO, arXiv 2507.18071.

    >>> sequence(torch.tensor([5, 7, 2]), torch.tensor([1.0, 0.0, 1.0])).tokens
    tensor([10., 14.,  4.])
    """
    rows = weights > 0
    return Mean(rows, accepted(weights) * lengths.clamp(min=1).to(weights.dtype))


@dataclass(frozen=True)
class MaxLength:
    """Divide each accepted row's sum over tokens by a constant length, and average over the accepted rows.

    (1 / |S|) sum over i in S of (1 / length) sum over t, S the accepted rows of the mini-batch, so that no row's
    weight depends on its own length or on the others'.

    Args:
        length: tokens; the greatest completion length of the run.

    Raises:
        ValueError: a length below 1.

    Source: Dr.GRPO, Liu et al. 2025, arXiv 2503.20783. Ours: rejected rows do not count, as in `drop`; the source has
    no filter.

    >>> MaxLength(10)(torch.tensor([5, 7]), torch.tensor([1.0, 1.0])).tokens
    tensor([20., 20.])
    """

    length: int

    def __post_init__(self) -> None:
        if not self.length >= 1:
            raise ValueError(
                f"MaxLength(length={self.length}) must be at least 1; got {self.length}. Give the greatest completion "
                "length."
            )

    def __call__(self, lengths: Int[Tensor, "*R B"], weights: Float[Tensor, "*R B"]) -> Mean:
        """Return the accepted rows and accepted rows times length."""
        return Mean(weights > 0, (accepted(weights) * self.length).expand(weights.shape))


def accepted(weights: Float[Tensor, "*R B"]) -> Float[Tensor, "*R 1"]:
    """Return the number of accepted rows of a mini-batch; 1 where there is none."""
    return (weights > 0).sum(-1, keepdim=True).clamp(min=1).to(weights.dtype)


def shared(total: Int[Tensor, "*R 1"], weights: Float[Tensor, "*R B"]) -> Float[Tensor, "*R B"]:
    """Return one denominator for all rows of a mini-batch; 1 where nothing counts, so that nothing divides by 0."""
    return total.clamp(min=1).to(weights.dtype).expand(weights.shape)
