"""The entropy change of one step on the logits of a context: exact, to first order, and its second-order term.

To second order the prediction is `first_order_change + second_order_change`; its error is O(|delta|^3).
"""

import math

from jaxtyping import Float
from torch import Tensor

from entropy_theory.softmax import entropy, policy_of


def entropy_change(logits: Float[Tensor, "*batch K"], delta: Float[Tensor, "*batch K"]) -> Float[Tensor, "*batch"]:
    """Return the exact entropy change H(softmax(z + delta)) - H(softmax(z)), in nats.

    Valid when each row of z and of z + delta has a finite logit and none is +inf. The two entropies are subtracted, so
    changes below the rounding of H (about 1e-16 H in float64) are lost.

    Args:
        logits: z, `[*batch, K]`; -inf masks an arm before and after, whatever delta holds there.
        delta: the change of the logits, `[*batch, K]`; -inf masks an arm by the step.

    Returns:
        `[*batch]`, nats; negative when the step lowers entropy.

    Source: E1, the definition.

    >>> import torch
    >>> z, up = torch.zeros(2, dtype=torch.float64), torch.tensor([1.0, 0.0], dtype=torch.float64)
    >>> round(entropy_change(z, up).item(), 6)  # any step away from uniform lowers entropy
    -0.110944
    """
    return entropy((logits + delta).masked_fill(logits.isneginf(), -math.inf)) - entropy(logits)


def first_order_change(logits: Float[Tensor, "*batch K"], delta: Float[Tensor, "*batch K"]) -> Float[Tensor, "*batch"]:
    """Return the first-order entropy change of a logit step, in nats: minus the covariance of log p and delta.

    -sum_i S_i delta_i = -Cov_p(log p, delta): raising tokens that are already likely lowers entropy. A common shift
    of all logits changes nothing.

    Valid to O(|delta|^2), for finite steps on arms with mass.

    Args:
        logits: z, `[*batch, K]`; -inf masks an arm.
        delta: the change of the logits, `[*batch, K]`; what it holds at masked arms is not looked at.

    Returns:
        `[*batch]`, nats.

    Source: E2; Cui et al. 2025, arXiv 2505.22617, Lemma 1; arXiv 2604.26326, Section 2, written in delta p.

    >>> import torch
    >>> z, step = torch.tensor([1.0, 0.0]), torch.tensor([0.1, -0.1])
    >>> round(first_order_change(z, step).item(), 5)
    -0.03932
    """
    policy = policy_of(logits)
    return -policy.mean(policy.centred * policy.centre(delta))


def second_order_change(logits: Float[Tensor, "*batch K"], delta: Float[Tensor, "*batch K"]) -> Float[Tensor, "*batch"]:
    """Return the second-order term alone of the entropy change of a logit step, in nats.

    1/2 delta' (Hessian of H) delta = -1/2 sum_i p_i (delta_i - E_p delta)^2 (1 + L_i). It has the same sign for a step
    and for its opposite, so it survives averaging over steps whose first order cancels.

    Valid to O(|delta|^3), as the second term of first + second, for finite steps on arms with mass.

    Args:
        logits: z, `[*batch, K]`; -inf masks an arm.
        delta: the change of the logits, `[*batch, K]`; what it holds at masked arms is not looked at.

    Returns:
        `[*batch]`, nats.

    Source: E3, d2H/dz_i dz_j = p_i p_j (1 + L_i + L_j) - [i = j] p_i (1 + L_i); none was found published.

    >>> import torch
    >>> round(second_order_change(torch.zeros(2), torch.tensor([0.2, 0.0])).item(), 6)  # uniform: -1/2 Var_p(delta)
    -0.005
    """
    policy = policy_of(logits)
    return -0.5 * policy.mean(policy.centre(delta).square() * (1 + policy.centred))
