"""Statistics and choices of tokens that token weights, clip rules and loss terms share.

Sums run over the tokens of each repeat alone, so runs side by side never mix.
"""

from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from trainer.methods.stages import TokenBatch, masked_mean


def importance_ratio(tokens: TokenBatch) -> Float[Tensor, "*R B T"]:
    """Return pi / pi_sampler of each token, with gradient; 1 outside the mask."""
    return tokens.log_ratio.masked_fill(~tokens.mask, 0.0).exp()


def covariance(tokens: TokenBatch) -> Float[Tensor, "*R B T"]:
    """Return (A - mean A) (log pi - mean log pi) of each token, without gradient, 0 outside the mask.

    The means are over the tokens of the batch given; rejected rollouts count with the advantage 0 that they have there.

    Source: Cui et al. 2025, arXiv 2505.22617.

    >>> a, ones = torch.tensor([[2.0, 0.0]]), torch.ones(1, 2)
    >>> covariance(TokenBatch(torch.tensor([[-1.0, -4.0]]), -ones, a, ones.bool(), ones))  # means 1 and -2.5
    tensor([[1.5000, 1.5000]])
    """
    advantages, log_prob = tokens.advantages, tokens.log_prob.detach()
    centred = (advantages - masked_mean(advantages, tokens.mask)) * (log_prob - masked_mean(log_prob, tokens.mask))
    return centred.masked_fill(~tokens.mask, 0.0)


def share_of(mask: Bool[Tensor, "*R B T"], fraction: float) -> Int[Tensor, "*R 1 1"]:
    """Return max(1, floor(fraction * tokens)) of each repeat."""
    return (mask.sum((-2, -1), keepdim=True).double() * fraction).floor().clamp(min=1).long()


def lowest(
    scores: Float[Tensor, "*R B T"], allowed: Bool[Tensor, "*R B T"], count: Int[Tensor, "*R 1 1"]
) -> Bool[Tensor, "*R B T"]:
    """Return True on the `count` allowed tokens of each repeat with the lowest scores, on all where there are fewer.

    Equal scores are taken in order of rows and tokens.

    >>> allowed = torch.tensor([[True, True, False]])
    >>> lowest(torch.tensor([[3.0, 2.0, 1.0]]), allowed, torch.ones(1, 1, dtype=torch.long))
    tensor([[False,  True, False]])
    """
    flat = scores.masked_fill(~allowed, torch.inf).flatten(-2)
    rank = flat.argsort(dim=-1, stable=True).argsort(dim=-1).reshape(scores.shape)
    return (rank < count) & allowed


def per_repeat(value: Any, like: Float[Tensor, "*R B T"]) -> Tensor:
    """Return a number, or one a repeat `[*R]`, with axes that broadcast over rows and tokens, in the type of `like`."""
    return torch.as_tensor(value).to(like)[..., None, None]


def as_number(value: Any) -> Tensor:
    """Return what a controller remembers or observes, a number or one a repeat `[*R]`, as a tensor."""
    return value if isinstance(value, Tensor) else torch.tensor(value, dtype=torch.float64)


def given(value: Tensor | None, method: str, name: str) -> Tensor:
    """Return a field of a TokenBatch that a method needs.

    Raises:
        ValueError: it is not there.
    """
    if value is None:
        raise ValueError(f"{method}(tokens) must have tokens.{name}; got None. Give TokenBatch {name}.")
    return value
