"""A rigorous bound on what the first- and second-order predictions of the entropy change leave out.

Derivation. Let f(s) = H(softmax(z + s delta)), p = p(s), c = delta - E_p delta, L = log p + H, V = E_p c^2, and R the
range of delta over arms that are not masked, so that |c| <= R and V <= R^2 / 4. Writing kappa for joint cumulants
under p, f' = -kappa(log p, delta), and d/ds kappa(g, delta, ...) = kappa(g, delta, ..., delta) + kappa(g', delta, ...)
with (log p)' = c, so that

    f''  = -[V + E_p(c^2 L)]                                  (E3)
    f''' = -[2 E_p c^3 + E_p(c^3 L) - 3 V E_p(c L)].

With -log p >= 0 and E_p(-log p) = H: E_p(c^2 L) lies between V H - R^2 H and V H, so |f''| <= max(V (1 + H), R^2 H);
|E_p c^3| <= R V, |E_p(c^3 L)| <= R (R^2 H + V H), |E_p(c L)| = |E_p(c log p)| <= R H, so
|f'''| <= R [2 V + (R^2 + 4 V) H].

Along the path p_i(s) <= exp(R) p_i(0), hence V(s) <= exp(R) V(0), as the variance is the least mean square distance to
any constant, and H(s) <= -sum p_i(s) log p_i(0) <= exp(R) H(0) by Gibbs' inequality. Taylor's theorem with
V <= min(R^2 / 4, exp(R) V(0)) and H <= min(log K, exp(R) H(0)) gives |exact - first| <= sup |f''| / 2 and
|exact - first - second| <= sup |f'''| / 6; also |exact - first| <= |second| + sup |f'''| / 6. Last, exact lies in
[-H(0), log K - H(0)], which caps both for large steps.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from entropy_theory.change import first_order_change, second_order_change
from entropy_theory.softmax import policy_of


@dataclass(frozen=True)
class RemainderBound:
    """Bounds on what a prediction of the entropy change leaves out.

    Args:
        first_order: on |exact - first order|, `[*batch]`, nats.
        second_order: on |exact - first order - second order|, `[*batch]`, nats.
    """

    first_order: Float[Tensor, "*batch"]
    second_order: Float[Tensor, "*batch"]


def remainder_bound(logits: Float[Tensor, "*batch K"], delta: Float[Tensor, "*batch K"]) -> RemainderBound:
    """Return rigorous bounds on the errors of the first- and second-order entropy change, in nats.

    first = min(sup|f''| / 2, |second order| + sup|f'''| / 6), second = sup|f'''| / 6, with the suprema of the module's
    docstring, each capped by the range that the exact change can have. They shrink as R^2 and R^3 with the range R of
    the step; for small steps the first is tight to a factor 1 + O(R).

    Valid for all logits and all finite steps, in exact arithmetic: allow for rounding of the compared values.

    Args:
        logits: z, `[*batch, K]`; -inf masks an arm.
        delta: the change of the logits, `[*batch, K]`; what it holds at masked arms is not looked at.

    Source: the derivation in the docstring of this module.

    >>> bound = remainder_bound(torch.tensor([1.0, 0.0]), torch.tensor([0.1, 0.0]))
    >>> bool(bound.second_order < bound.first_order)
    True
    """
    masked = logits.isneginf()
    policy = policy_of(logits)
    high = delta.masked_fill(masked, -math.inf).amax(-1)
    low = delta.masked_fill(masked, math.inf).amin(-1)
    reach = high - low
    largest_entropy = (~masked).sum(-1).to(logits.dtype).log()
    growth = reach.exp()
    # Beyond the float range, inf * 0 says nothing: the other bound then counts.
    grown_variance = (growth * policy.mean(policy.centre(delta).square())).nan_to_num(nan=math.inf, posinf=math.inf)
    grown_entropy = (growth * policy.entropy).nan_to_num(nan=math.inf, posinf=math.inf)
    variance = torch.minimum(reach.square() / 4, grown_variance)
    entropy = torch.minimum(largest_entropy, grown_entropy)
    curvature = torch.maximum(variance * (1 + entropy), reach.square() * entropy)
    third = reach * (2 * variance + (reach.square() + 4 * variance) * entropy) / 6
    first, second = first_order_change(logits, delta), second_order_change(logits, delta)
    caps = [
        torch.maximum((predicted + policy.entropy).abs(), (predicted + policy.entropy - largest_entropy).abs())
        for predicted in (first, first + second)
    ]
    return RemainderBound(
        first_order=torch.minimum(torch.minimum(curvature / 2, second.abs() + third), caps[0]),
        second_order=torch.minimum(third, caps[1]),
    )
