"""Loss terms beside the policy objective; those with memory are in `entropy_terms`."""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from trainer.methods.stages import TokenBatch
from trainer.methods.token_statistics import covariance, given, lowest, share_of


@dataclass(frozen=True)
class EntropyBonus:
    """-coefficient H per token: minimising it raises entropy.

    Args:
        coefficient: weight of the entropy, nats^-1; 0.003 in the paper's entropy-loss baseline.

    Source: Williams and Peng 1991; coefficient of arXiv 2604.26326, Section 4.
    """

    coefficient: float
    needs = frozenset({"entropy_gradient"})

    def __call__(self, tokens: TokenBatch) -> Float[Tensor, "*R B T"]:
        """Return the term `[*R, B, T]`."""
        return (-self.coefficient * tokens.entropy).masked_fill(~tokens.mask, 0.0)


@dataclass(frozen=True)
class KLPenalty:
    """coefficient k per token, with k an estimate of KL(pi, reference) from the sampled token.

    As a loss it is k's gradient at fixed tokens that counts, and the estimators differ there: see `k1`, `k2` and `k3`.

    Args:
        coefficient: weight of the KL term; 1e-3 in the paper.
        estimator: "k1", "k2" or "k3"; k3 in GRPO.

    Raises:
        ValueError: an unknown estimator.

    Source: Schulman 2020, "Approximating KL divergence"; Shao et al. 2024, arXiv 2402.03300, Equation 4.
    """

    coefficient: float
    estimator: str = "k3"
    needs = frozenset({"reference"})

    def __post_init__(self) -> None:
        if self.estimator not in ESTIMATORS:
            raise ValueError(f"{self} must have an estimator of {list(ESTIMATORS)}; got {self.estimator!r}.")

    def __call__(self, tokens: TokenBatch) -> Float[Tensor, "*R B T"]:
        """Return the term `[*R, B, T]`."""
        reference = given(tokens.reference_log_prob, "KLPenalty", "reference_log_prob")
        estimate = ESTIMATORS[self.estimator](tokens.log_prob, reference)
        return (self.coefficient * estimate).masked_fill(~tokens.mask, 0.0)


def k1(log_prob: Float[Tensor, "*batch"], reference: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
    """Return log_prob - reference: an unbiased estimate of KL(pi, reference), nats, of either sign.

    Its gradient is d log pi, whose expectation is 0: as a loss it adds noise and no pull to the reference.

    Valid in expectation over tokens drawn from pi.

    Source: Schulman 2020, "Approximating KL divergence".

    >>> import torch
    >>> k1(torch.tensor([-1.0]), torch.tensor([-1.5]))
    tensor([0.5000])
    """
    return log_prob - reference


def k2(log_prob: Float[Tensor, "*batch"], reference: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
    """Return (log_prob - reference)^2 / 2: a biased, non-negative estimate of KL(pi, reference), nats, of low variance.

    Its gradient is (log pi - log ref) d log pi, whose expectation is the gradient of KL(pi, reference) itself.

    Valid in expectation over tokens drawn from pi.

    Source: Schulman 2020, "Approximating KL divergence".

    >>> import torch
    >>> k2(torch.tensor([-1.0]), torch.tensor([-1.5]))
    tensor([0.1250])
    """
    return (log_prob - reference).square() / 2


def k3(log_prob: Float[Tensor, "*batch"], reference: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
    """Return exp(d) - d - 1, d = reference - log_prob: an unbiased, non-negative estimate of KL(pi, reference), nats.

    Its gradient is (1 - ref / pi) d log pi, whose expectation is the gradient of the other one, KL(reference, pi).

    Valid in expectation over tokens drawn from pi.

    Source: Schulman 2020, "Approximating KL divergence".

    >>> import torch
    >>> k3(torch.zeros(1), torch.zeros(1)).item()
    0.0
    """
    difference = reference - log_prob
    return difference.expm1() - difference


ESTIMATORS = {"k1": k1, "k2": k2, "k3": k3}


@dataclass(frozen=True)
class KLCov:
    """coefficient |log r| on the tokens of largest covariance, r = pi / pi_sampler.

    cov = (A - mean A)(log pi - mean log pi); the max(1, floor(fraction * tokens)) largest of the mini-batch are chosen.
    At the first optimiser step of a batch log r = 0, where the gradient is 0: the term needs several a batch. The
    authors use it with the clip rule `unclipped`.

    Args:
        fraction: share of all tokens that is penalised; 2e-4 (32B and verl), 2e-3 (7B).
        coefficient: weight of |log r|; 1.

    Raises:
        ValueError: fraction outside [0, 1].

    Source: Cui et al. 2025, arXiv 2505.22617, and its code in verl. Ours: means and choice over the mini-batch, where
    the code takes the micro-batch.

    >>> import torch
    >>> a, p, ones = torch.tensor([[2.0, 0.0]]), torch.tensor([[-1.0, -4.0]]), torch.ones(1, 2)
    >>> KLCov()(TokenBatch(p, p - 0.5, a, ones.bool(), ones))  # equal covariances: the first
    tensor([[0.5000, 0.0000]])
    """

    fraction: float = 2e-4
    coefficient: float = 1.0
    needs = frozenset({"mini_batch"})

    def __post_init__(self) -> None:
        if not 0 <= self.fraction <= 1:
            raise ValueError(f"{self} must have 0 <= fraction <= 1. Give it as a share of all tokens.")

    def __call__(self, tokens: TokenBatch) -> Float[Tensor, "*R B T"]:
        """Return the term `[*R, B, T]`."""
        return self.coefficient * tokens.over_mini_batch(self.chosen) * tokens.log_ratio.abs()

    def chosen(self, tokens: TokenBatch) -> Float[Tensor, "*R B T"]:
        """Return 1 for the tokens of a whole mini-batch that are penalised, 0 for the others."""
        values = covariance(tokens)
        return lowest(-values, tokens.mask, share_of(tokens.mask, self.fraction)).to(values)
