"""A rigorous bound on what the first- and second-order predictions of the entropy change leave out.

Proof. Let f(s) = H(softmax(z + s delta)), p = p(s), c = delta - E_p delta, L = log p + H, V = E_p c^2, and R the
range of delta over arms that are not masked, so that |c| <= R and V <= R^2 / 4. Writing kappa for joint cumulants
under p, f' = -kappa(log p, delta), and d/ds kappa(g, delta, ...) = kappa(g, delta, ..., delta) + kappa(g', delta, ...)
with (log p)' = c, so that

    f''   = -[V + E_p(c^2 L)]                                             (E3)
    f'''  = -[2 E_p c^3 + E_p(c^3 L) - 3 V E_p(c L)]                      (`third_order_change`)
    f'''' = -[3 (E_p c^4 - 3 V^2) + E_p(c^4 L) - 4 E_p(c L) E_p c^3 - 6 V E_p(c^2 L)].

Everything below holds at every s in [0, 1]. Write V, H, M_j, X_j for bounds on E_p c^2, on the entropy, on E_p |c|^j
and on E_p(-log p) |c|^j there. As -log p >= 0, E_p(-log p) = H and L = H - (-log p): |E_p(c L)| <= X_1;
E_p(c^2 L) lies between -X_2 and V H, E_p(c^4 L) between -X_4 and M_4 H; |E_p(c^3 L)| <= M_3 H + X_3; and
V^2 <= E_p c^4 puts E_p c^4 - 3 (E_p c^2)^2 in [-2 V^2, M_4]. Hence

    |f''|   <= max(V (1 + H), X_2)
    |f'''|  <= 2 M_3 + M_3 H + X_3 + 3 V X_1
    |f''''| <= 3 max(M_4, 2 V^2) + max(M_4 H, X_4) + 4 X_1 M_3 + 6 V max(V H, X_2).

Each ingredient is the lesser of two. By range: |c| <= R, V <= R^2 / 4 (Popoviciu), M_j <= R^(j-2) V, X_j <= R^j H and
H <= log K. By what is known at s = 0: p_i(s) <= e^R p_i(0), -log p_i(s) <= R - log p_i(0), and c moves by at most V
(dE_p delta / ds is the variance), so M_j <= e^R E_0 (|c| + V)^j and X_j <= e^R E_0 (R - log p) (|c| + V)^j;
V <= e^R V(0), as the variance is the least mean square distance to any constant; and
H(s) <= -sum p_i(s) log p_i(0) <= e^R H(0) by Gibbs' inequality.

Taylor's theorem then gives |exact - first| <= sup |f''| / 2 and |exact - first - second| <= r, r being the lesser of
sup |f'''| / 6 and |third| + sup |f''''| / 24; also |exact - first| <= |second| + r. Last, exact lies in
[-H(0), log K - H(0)], which caps both for large steps.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from entropy_theory.change import first_order_change, second_order_change, stepped, third_order_change
from entropy_theory.softmax import Softmax


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

    second = min(sup|f'''| / 6, |third order| + sup|f''''| / 24) and first = min(sup|f''| / 2, |second order| + second),
    with the suprema of the module's docstring, each capped by the range that the exact change can have. They shrink as
    R^2 and R^3 with the range R of the step; for small steps both are tight to a factor 1 + O(R).

    Valid for all logits and all finite steps, in exact arithmetic: allow for rounding of the compared values.

    Args:
        logits: z, `[*batch, K]`; -inf masks an arm.
        delta: the change of the logits, `[*batch, K]`; what it holds at masked arms is not looked at.

    Raises:
        TypeError: logits that are not floating-point.
        ValueError: a row without a distribution, or a step of another shape or not finite on arms with mass.

    Source: the proof in the docstring of this module.

    >>> bound = remainder_bound(torch.tensor([1.0, 0.0]), torch.tensor([0.1, 0.0]))
    >>> bool(bound.second_order < bound.first_order)
    True
    """
    masked = logits.isneginf()
    policy, delta = stepped("remainder_bound", logits, delta)
    high = delta.masked_fill(masked, -math.inf).amax(-1)
    low = delta.masked_fill(masked, math.inf).amin(-1)
    reach = high - low
    curvature, third, fourth = suprema(policy, policy.centre(delta).abs(), reach, (~masked).sum(-1))
    first, second = first_order_change(logits, delta), second_order_change(logits, delta)
    beyond = torch.minimum(third / 6, third_order_change(logits, delta).abs() + fourth / 24)
    largest_entropy = (~masked).sum(-1).to(reach.dtype).log()
    caps = [
        torch.maximum((predicted + policy.entropy).abs(), (predicted + policy.entropy - largest_entropy).abs())
        for predicted in (first, first + second)
    ]
    return RemainderBound(
        first_order=torch.minimum(torch.minimum(curvature / 2, second.abs() + beyond), caps[0]),
        second_order=torch.minimum(beyond, caps[1]),
    )


def suprema(
    policy: Softmax, spread: Float[Tensor, "*batch K"], reach: Float[Tensor, "*batch"], arms: Int[Tensor, "*batch"]
) -> tuple[Float[Tensor, "*batch"], Float[Tensor, "*batch"], Float[Tensor, "*batch"]]:
    """Return bounds on |f''|, |f'''| and |f''''| along the whole step, `[*batch]` each.

    Args:
        policy: at the logits before the step.
        spread: |c| there.
        reach: R.
        arms: K, arms that are not masked.
    """
    growth = reach.exp()

    def lesser(by_range: Tensor, at_start: Tensor) -> Tensor:
        # Beyond the float range, inf * 0 says nothing: the other bound then counts.
        return torch.minimum(by_range, (growth * at_start).nan_to_num(nan=math.inf, posinf=math.inf))

    entropy = lesser(arms.to(reach.dtype).log(), policy.entropy)
    variance = lesser(reach.square() / 4, policy.mean(spread.square()))
    distance = spread + variance[..., None]
    surprisal = reach[..., None] - policy.log_probs
    m3, m4 = (lesser(reach ** (j - 2) * variance, policy.mean(distance**j)) for j in (3, 4))
    x1, x2, x3, x4 = (lesser(reach**j * entropy, policy.mean(surprisal * distance**j)) for j in (1, 2, 3, 4))
    squares = torch.maximum(variance * entropy, x2)
    return (
        torch.maximum(variance * (1 + entropy), x2),
        2 * m3 + m3 * entropy + x3 + 3 * variance * x1,
        3 * torch.maximum(m4, 2 * variance.square())
        + torch.maximum(m4 * entropy, x4)
        + 4 * x1 * m3
        + 6 * variance * squares,
    )
