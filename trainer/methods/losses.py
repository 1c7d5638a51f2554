"""Loss terms beside the policy objective, and the denominators that the sum over tokens is divided by."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from trainer.methods.stages import Mean, TokenBatch


@dataclass(frozen=True)
class EntropyBonus:
    """-coefficient H per token: minimising it raises entropy.

    Args:
        coefficient: weight of the entropy, nats^-1; 0.003 in the paper's entropy-loss baseline.

    Source: Williams and Peng 1991; coefficient of arXiv 2604.26326, Section 4.
    """

    coefficient: float
    uses_entropy = True
    uses_reference = False

    def __call__(self, tokens: TokenBatch) -> Float[Tensor, "B T"]:
        """Return the term `[B, T]`."""
        return -self.coefficient * tokens.entropy


@dataclass(frozen=True)
class KLPenalty:
    """coefficient k3 per token, k3 = exp(d) - d - 1 with d = log pi_ref - log pi: a KL estimate that is never negative.

    Args:
        coefficient: weight of the KL term; 1e-3 in the paper.

    Source: Schulman 2020, "Approximating KL divergence"; Shao et al. 2024, arXiv 2402.03300, Equation 4.
    """

    coefficient: float
    uses_entropy = False
    uses_reference = True

    def __call__(self, tokens: TokenBatch) -> Float[Tensor, "B T"]:
        """Return the term `[B, T]`."""
        assert tokens.reference_log_prob is not None
        return self.coefficient * k3(tokens.log_prob, tokens.reference_log_prob)


def k3(log_prob: Float[Tensor, "*batch"], reference: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
    """Return exp(d) - d - 1, d = reference - log_prob: an unbiased, non-negative estimate of KL(pi, reference), nats.

    Valid in expectation over tokens drawn from pi.

    Source: Schulman 2020, "Approximating KL divergence".

    >>> import torch
    >>> k3(torch.zeros(1), torch.zeros(1)).item()
    0.0
    """
    difference = reference - log_prob
    return difference.expm1() - difference


def drop(lengths: Int[Tensor, " B"], weights: Float[Tensor, " B"]) -> Mean:
    """Take the mean over the tokens of all accepted rows, those with advantage 0 included.

    Source: arXiv 2604.26326, Algorithm 1 (1/|S|).

    >>> drop(torch.tensor([5, 7]), torch.tensor([1.0, 0.0])).tokens
    5.0
    """
    rows = weights > 0
    return Mean(rows, float(lengths[rows].sum()))


def zero(lengths: Int[Tensor, " B"], weights: Float[Tensor, " B"]) -> Mean:
    """Take the mean over the tokens of all rows: rejected ones count as zeros, so that the step shrinks with them.

    Source: the code released with arXiv 2604.26326.

    >>> zero(torch.tensor([5, 7]), torch.tensor([1.0, 0.0])).tokens
    12.0
    """
    return Mean(torch.ones_like(weights, dtype=torch.bool), float(lengths.sum()))
