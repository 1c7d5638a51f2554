"""The entropy change of one step on the logits of a context: exact, and its terms of first, second and third order.

To second order the prediction is `first_order_change + second_order_change`; its error is O(|delta|^3), and the third
term is the leading part of that error. All terms follow from one rule. With kappa the joint cumulants under p and
f(s) = H(softmax(z + s delta)): f' = -kappa(log p, delta); a derivative in s adds one more delta to a cumulant, plus the
cumulant in which delta has replaced log p.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from entropy_theory import validation
from entropy_theory.softmax import Softmax, policy_of


def entropy_change(logits: Float[Tensor, "*batch K"], delta: Float[Tensor, "*batch K"]) -> Float[Tensor, "*batch"]:
    """Return the exact entropy change H(softmax(z + delta)) - H(softmax(z)), in nats.

    The two entropies are subtracted, so changes below the rounding of H are lost (about 1e-16 H in float64, 1e-7 H in
    float32: the change of a training step needs float64, or the terms below, which are products and keep their digits).

    Args:
        logits: z, `[*batch, K]`; -inf masks an arm before and after, whatever delta holds there.
        delta: the change of the logits, `[*batch, K]`; -inf masks an arm by the step.

    Returns:
        `[*batch]`, nats; negative when the step lowers entropy.

    Raises:
        TypeError: logits that are not floating-point.
        ValueError: a row without a distribution before or after the step, or a step of another shape.

    Source: E1, the definition.

    >>> import torch
    >>> z, up = torch.zeros(2, dtype=torch.float64), torch.tensor([1.0, 0.0], dtype=torch.float64)
    >>> round(entropy_change(z, up).item(), 6)  # any step away from uniform lowers entropy
    -0.110944
    """
    before = policy_of(logits, "entropy_change")
    validation.like("entropy_change", "delta", delta, logits, "logits")
    # Half precision would round a small step away.
    moved = validation.at_least_single(logits) + delta
    after = policy_of(moved.masked_fill(logits.isneginf(), -math.inf), "entropy_change", "logits + delta")
    return after.entropy - before.entropy


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

    Raises:
        TypeError: logits that are not floating-point.
        ValueError: a row without a distribution, or a step of another shape or not finite on arms with mass.

    Source: E2; Cui et al. 2025, arXiv 2505.22617, Lemma 1; arXiv 2604.26326, Section 2, written in delta p.

    >>> import torch
    >>> z, step = torch.tensor([1.0, 0.0]), torch.tensor([0.1, -0.1])
    >>> round(first_order_change(z, step).item(), 5)
    -0.03932
    """
    policy, delta = stepped("first_order_change", logits, delta)
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

    Raises:
        TypeError: logits that are not floating-point.
        ValueError: a row without a distribution, or a step of another shape or not finite on arms with mass.

    Source: E3, d2H/dz_i dz_j = p_i p_j (1 + L_i + L_j) - [i = j] p_i (1 + L_i); none was found published.

    >>> import torch
    >>> round(second_order_change(torch.zeros(2), torch.tensor([0.2, 0.0])).item(), 6)  # uniform: -1/2 Var_p(delta)
    -0.005
    """
    policy, delta = stepped("second_order_change", logits, delta)
    return -0.5 * policy.mean(policy.centre(delta).square() * (1 + policy.centred))


def third_order_change(logits: Float[Tensor, "*batch K"], delta: Float[Tensor, "*batch K"]) -> Float[Tensor, "*batch"]:
    """Return the third-order term alone of the entropy change of a logit step, in nats.

    With c = delta - E_p delta and V = E_p c^2: -1/6 [E_p(c^3 L) - 3 V E_p(c L) + 2 E_p c^3]. It is the leading part of
    what first + second leave out.

    Valid to O(|delta|^4), as the third term of first + second + third, for finite steps on arms with mass.

    Args:
        logits: z, `[*batch, K]`; -inf masks an arm.
        delta: the change of the logits, `[*batch, K]`; what it holds at masked arms is not looked at.

    Returns:
        `[*batch]`, nats.

    Raises:
        TypeError: logits that are not floating-point.
        ValueError: a row without a distribution, or a step of another shape or not finite on arms with mass.

    Source: -[kappa(log p, delta, delta, delta) + 2 kappa(delta, delta, delta)] / 6, by the rule of this module.

    >>> import torch
    >>> up = torch.tensor([0.2, 0.0, 0.0])
    >>> round(third_order_change(torch.zeros(3), up).item(), 6)  # uniform: minus a third of the third moment of delta
    -0.000198
    """
    policy, delta = stepped("third_order_change", logits, delta)
    c = policy.centre(delta)
    cubes = policy.mean(c.pow(3) * (policy.centred + 2))
    return -(cubes - 3 * policy.mean(c.square()) * policy.mean(c * policy.centred)) / 6


def stepped(
    where: str, logits: Float[Tensor, "*batch K"], delta: Float[Tensor, "*batch K"], name: str = "delta"
) -> tuple[Softmax, Float[Tensor, "*batch K"]]:
    """Return the policy at the logits and the step, checked, both in the wider of their types and float32 at least."""
    if delta.is_floating_point() and logits.is_floating_point():
        kind = torch.promote_types(torch.promote_types(logits.dtype, delta.dtype), torch.float32)
        logits, delta = logits.to(kind), delta.to(kind)
    policy = policy_of(logits, where)
    validation.step(where, delta, logits, policy.probs, name)
    return policy, delta
