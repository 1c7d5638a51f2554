"""Theorem 1 for the policy-gradient step of every token at once, without a row of steps for each token.

The likeliest arm is treated apart: near determinism 1 - p_k, 1 - 2 p_k + n_2 and S_k - N are differences of equal
numbers there, so they are formed from the shares r_i = p_i / q of the other arms in their mass q. With l_m its
log-probability:

    1 - 2 p_m + n_2 = q^2 (1 + sum r^2)
    S_m - N         = q^2 [p_m sum_i r_i (l_m - l_i) - sum_i r_i^2 L_i]

so that the baseline keeps its digits, and its limit as q goes to 0 is taken exactly.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from entropy_theory import validation
from entropy_theory.softmax import Softmax, policy_of


@dataclass(frozen=True)
class EveryToken:
    """What a policy-gradient step of unit size on each token does to its own context, all `[*batch, K]`.

    Args:
        influence: S_k - N, nats: the step of size a on token k changes entropy by -a (S_k - N) at first order. The sign
            rule A Delta H <= 0 holds for token k where it is >= 0, whatever A.
        baseline: Theorem 1's sum_{i != k} w_i log p_i, nats; NaN at masked arms, and where one arm is left.
        claimed_probability: 1 - min(1, exp(baseline)), what the paper calls the probability of its condition.
    """

    influence: Float[Tensor, "*batch K"]
    baseline: Float[Tensor, "*batch K"]
    claimed_probability: Float[Tensor, "*batch K"]


def every_token(logits: Float[Tensor, "*batch K"]) -> EveryToken:
    """Return Theorem 1's objects for the sampled-token step of every token, in O(K) a context.

    baseline_k = log p_k - (S_k - N) / (p_k (1 - 2 p_k + n_2)), from E4 and E5.

    Valid at first order in the step, each context owning its logits.

    Args:
        logits: `[*batch, K]`; -inf masks an arm.

    Raises:
        TypeError: logits that are not floating-point.
        ValueError: a row without a distribution.

    Source: E4 and E5; arXiv 2604.26326, Theorem 1.

    >>> found = every_token(torch.tensor([2.0, 0.0]))
    >>> [round(value, 3) for value in found.influence.tolist()]  # raising the likely token lowers entropy, and back
    [0.05, -0.37]
    """
    policy = policy_of(logits, "every_token")
    p, log_p = policy.probs, policy.log_probs
    top = p.argmax(-1, keepdim=True)
    mean_discriminator = policy.mean(policy.discriminator)[..., None]
    influence = policy.discriminator - mean_discriminator
    spread = p * (1 - 2 * p + policy.mean(p)[..., None])
    of_top, gap = likeliest(policy, top)
    influence = influence.scatter(-1, top, of_top)
    gaps = (influence / spread).scatter(-1, top, gap)
    baseline = (log_p - gaps).where(p > 0, float("nan"))
    return EveryToken(influence, baseline, 1 - baseline.exp().clamp(max=1))


def likeliest(policy: Softmax, top: Tensor) -> tuple[Float[Tensor, "*batch 1"], Float[Tensor, "*batch 1"]]:
    """Return S_m - N and (S_m - N) / (p_m (1 - 2 p_m + n_2)) of the likeliest arm m, whose index is `top`."""
    mass = policy.probs.scatter(-1, top, 0.0).sum(-1, keepdim=True)
    # From the logarithms, so that shares are right where the mass itself is below the float type.
    shares = policy.log_probs.scatter(-1, top, -math.inf).softmax(-1)
    log_p = policy.log_probs.masked_fill(policy.log_probs.isneginf(), 0.0)
    top_p, top_log_p = policy.probs.gather(-1, top), torch.log1p(-mass)
    distance = (shares * (top_log_p - log_p)).sum(-1, keepdim=True)
    bent = top_p * distance - (shares.square() * policy.centred).sum(-1, keepdim=True)
    gap = bent / (top_p * (1 + shares.square().sum(-1, keepdim=True)))
    # Shares are NaN where no other arm is left: nothing can be moved then.
    return (mass.square() * bent).nan_to_num(nan=0.0), gap


def sampled_changes(logits: Float[Tensor, "*batch K"], step: float) -> Float[Tensor, "*batch K"]:
    """Return the exact entropy change of the sampled-token step of every token, `[*batch, K]`, nats, in O(K) a context.

    The step a (e_k - p) is one common part, -a p, and a on arm k alone. With p~ and H~ after the common part and
    D = 1 + (exp(a) - 1) p~_k: H' = log D + [H~ - (exp(a) - 1) p~_k log p~_k - a exp(a) p~_k] / D.

    Args:
        logits: `[*batch, K]`; -inf masks an arm, whose change is then that of the common part.
        step: a, learning rate times advantage.

    Raises:
        TypeError: logits that are not floating-point.
        ValueError: a row without a distribution.

    Source: E1 at E4's step.

    >>> [round(value, 4) for value in sampled_changes(torch.zeros(2), 1.0).tolist()]
    [-0.1109, -0.1109]
    """
    before = policy_of(logits, "sampled_changes")
    validation.finite("sampled_changes", "step", step)
    common = policy_of(logits - step * before.probs, "sampled_changes")
    grown = torch.tensor(step, dtype=common.probs.dtype).expm1()
    log_p = common.log_probs.masked_fill(common.probs == 0, 0.0)
    extra = grown * common.probs
    after = (common.entropy[..., None] - extra * log_p - step * (1 + grown) * common.probs) / (1 + extra)
    return extra.log1p() + after - before.entropy[..., None]
