"""The softmax policy at one context: its entropy and the quantities that every formula of this package is made of.

Notation, for logits z over K arms: p = softmax(z), l = log p, H = -sum p l, centred log-probability L = l + H (so that
E_p[L] = 0) and discriminator S = p L. All entropies are in nats. An arm with logit -inf is masked: p = 0, and it adds
nothing to any sum.
"""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class Softmax:
    """p, L and H of a batch of policies, free of NaN where arms are masked.

    Args:
        probs: p, `[*batch, K]`.
        centred: L = log p + H, `[*batch, K]`; 0 at arms with logit -inf, where only p L = 0 is ever needed.
        entropy: H, `[*batch]`, nats.
    """

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


def policy_of(logits: Float[Tensor, "*batch K"]) -> Softmax:
    """Return p, L and H of the softmax policies with these logits.

    Valid when each row has at least one finite logit and none is +inf.

    Args:
        logits: `[*batch, K]`; -inf masks an arm.
    """
    log_probs = logits.log_softmax(-1)
    # Masked arms, and arms so far below the largest that their log-probability leaves the float type.
    masked = log_probs.isneginf()
    log_probs = log_probs.masked_fill(masked, 0.0)
    probs = log_probs.exp().masked_fill(masked, 0.0)
    entropy = -(probs * log_probs).sum(-1)
    return Softmax(probs, (log_probs + entropy[..., None]).masked_fill(masked, 0.0), entropy)


def entropy(logits: Float[Tensor, "*batch K"]) -> Float[Tensor, "*batch"]:
    """Return the Shannon entropy of the softmax policies with these logits, in nats.

    H = -sum_i p_i log p_i. Differentiable; values and gradients are finite for masked arms (-inf) and for logits of
    any finite size.

    Valid when each row has at least one finite logit and none is +inf.

    Args:
        logits: `[*batch, K]`, any float type (computed in that type); -inf masks an arm.

    Returns:
        `[*batch]`, nats, in [0, log K].

    Source: Shannon's entropy; gradient -S (E2, Liu 2025; Cui et al. 2025, arXiv 2505.22617, Lemma 1).

    >>> import torch
    >>> round(entropy(torch.zeros(4, dtype=torch.float64)).item(), 6)  # log 4
    1.386294
    """
    return policy_of(logits).entropy
