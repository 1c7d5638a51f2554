"""The softmax policy at one context: its entropy and the quantities that every formula of this package is made of.

Notation, for logits z over K arms: p = softmax(z), l = log p, H = -sum p l, centred log-probability L = l + H (so that
E_p[L] = 0) and discriminator S = p L. All entropies are in nats. An arm with logit -inf is masked: p = 0, and it adds
nothing to any sum.
"""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from entropy_theory import validation


@dataclass(frozen=True)
class Softmax:
    """p, L and H of a batch of policies, free of NaN where arms are masked.

    Args:
        log_probs: log p, `[*batch, K]`; -inf at masked arms.
        probs: p, `[*batch, K]`.
        centred: L = log p + H, `[*batch, K]`; 0 at arms with logit -inf, where only p L = 0 is ever needed.
        entropy: H, `[*batch]`, nats.
    """

    log_probs: Float[Tensor, "*batch K"]
    probs: Float[Tensor, "*batch K"]
    centred: Float[Tensor, "*batch K"]
    entropy: Float[Tensor, "*batch"]

    @property
    def discriminator(self) -> Float[Tensor, "*batch K"]:
        """S = p L, `[*batch, K]`."""
        return self.probs * self.centred

    def mean(self, values: Float[Tensor, "*batch K"]) -> Float[Tensor, "*batch"]:
        """E_p[values], `[*batch]`; values at arms without mass are not looked at."""
        return (self.probs * values.masked_fill(self.probs == 0, 0.0)).sum(-1)

    def centre(self, values: Float[Tensor, "*batch K"]) -> Float[Tensor, "*batch K"]:
        """Values - E_p[values], `[*batch, K]`; 0 at arms without mass, whatever stands there."""
        return (values - self.mean(values)[..., None]).masked_fill(self.probs == 0, 0.0)


def policy_of(logits: Float[Tensor, "*batch K"], where: str = "policy_of", name: str = "logits") -> Softmax:
    """Return p, L and H of the softmax policies with these logits.

    Half-precision logits are taken to float32 first; float32 and float64 are computed in their own type.

    Args:
        logits: `[*batch, K]`; -inf masks an arm.
        where: the public function that messages name.
        name: what that function calls the logits.

    Raises:
        TypeError: logits that are not floating-point.
        ValueError: no arms, or a row with NaN, +inf or no finite logit.
    """
    validation.vocabulary(where, logits, name)
    log_probs = validation.at_least_single(logits).log_softmax(-1)
    # Masked arms, and arms so far below the largest that their log-probability leaves the float type.
    masked = log_probs.isneginf()
    finite = log_probs.masked_fill(masked, 0.0)
    probs = finite.exp().masked_fill(masked, 0.0)
    entropy = -(probs * finite).sum(-1)
    validation.rows_with_a_distribution(where, entropy, name)
    return Softmax(log_probs, probs, (finite + entropy[..., None]).masked_fill(masked, 0.0), entropy)


def entropy(logits: Float[Tensor, "*batch K"]) -> Float[Tensor, "*batch"]:
    """Return the Shannon entropy of the softmax policies with these logits, in nats.

    H = -sum_i p_i log p_i. Differentiable; values and gradients are finite for masked arms (-inf) and for logits of
    any finite size.

    Args:
        logits: `[*batch, K]`; -inf masks an arm. Computed in their own type, half precision in float32: from float32
            logits the error is below 5e-5 max(H, 1e-2) (2e-6 with `chunked_token_statistics`); rounding logits to
            bf16 costs up to 2^-8 of their spread whatever is done afterwards.

    Returns:
        `[*batch]`, nats, in [0, log K].

    Raises:
        TypeError: logits that are not floating-point.
        ValueError: no arms, or a row with NaN, +inf or no finite logit.

    Source: Shannon's entropy; gradient -S (E2, Liu 2025; Cui et al. 2025, arXiv 2505.22617, Lemma 1).

    >>> import torch
    >>> round(entropy(torch.zeros(4, dtype=torch.float64)).item(), 6)  # log 4
    1.386294
    """
    return policy_of(logits, "entropy").entropy
