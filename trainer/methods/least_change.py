"""The least change of the weights that meets a wanted change of entropy, each as a closed rule or by bisection."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor


@dataclass(frozen=True)
class Solution:
    """Weights and how they came about.

    Args:
        weights: `[*R, n]`, of each part.
        change: `[*R]`, the sum of weights times changes.
        multiplier: `[*R]`, of the parts' changes in units of their spread.
        saturated: `[*R]`, True where the wanted change is out of reach.
    """

    weights: Float[Tensor, "*R n"]
    change: Float[Tensor, "*R"]
    multiplier: Float[Tensor, "*R"]
    saturated: Bool[Tensor, "*R"]

    def unless(self, idle: Bool[Tensor, "*R"], each: Float[Tensor, "*R n"]) -> "Solution":
        """Return weights of exactly 1 where nothing is to be changed."""
        return Solution(
            torch.where(idle[..., None], 1.0, self.weights),
            torch.where(idle, each.sum(-1), self.change),
            torch.where(idle, 0.0, self.multiplier),
            self.saturated & ~idle,
        )


# Halvings of the bracket: what is left is below float64's rounding.
BISECTIONS = 60


def least_squares_weights(each: Float[Tensor, "*R n"], wanted: Float[Tensor, "*R"], most: float) -> Solution:
    """Return w minimising sum (w_i - 1)^2 under sum w_i s_i = wanted and 0 <= w_i <= most.

    By the conditions of Karush, Kuhn and Tucker w_i = clip(1 + lambda s_i, 0, most); lambda by bisection, since the
    sum grows with it. Where no weights reach the want, those that come nearest. `most` 1 gives acceptance
    probabilities: 1 for every part on the wanted side.

    Args:
        each: s, the predicted change of each part.
        wanted: of their sum.
        most: the largest weight, at least 1.

    Source: ours; the projection onto a half-space and a box.

    >>> each = torch.tensor([-2.0, 1.0, 0.0])
    >>> least_squares_weights(each, torch.tensor(0.0), most=2.0).weights.round(decimals=4)
    tensor([0.6000, 1.2000, 1.0000])
    """
    spread = each.square().mean(-1, keepdim=True).sqrt()
    shape = each / spread.clamp(min=torch.finfo(each.dtype).tiny)

    def weights(multiplier: Tensor) -> Tensor:
        return (1 + multiplier[..., None] * shape).clamp(0, most)

    def change(multiplier: Tensor) -> Tensor:
        return (weights(multiplier) * each).sum(-1)

    # Beyond the reciprocal of the smallest part all weights are at a bound.
    smallest = shape.abs().masked_fill(shape == 0, torch.inf).amin(-1)
    limit = torch.where(smallest.isfinite(), max(1.0, most - 1) / smallest, 1.0).clamp(max=1e6)
    low, high = -limit, limit
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        short = change(middle) < wanted
        low, high = torch.where(short, middle, low), torch.where(short, high, middle)
    # A want that is met by all as they are leaves them exactly so.
    met = each.sum(-1) == wanted
    multiplier = torch.where(met | (spread[..., 0] == 0), 0.0, (low + high) / 2)
    found = weights(multiplier)
    reached = (found * each).sum(-1)
    tolerance = 1e-6 * each.abs().sum(-1)
    return Solution(found, reached, multiplier, (reached - wanted).abs() > tolerance)


def fewest_rejections(each: Float[Tensor, "*R n"], wanted: Float[Tensor, "*R"]) -> Solution:
    """Return q maximising sum q_i under sum q_i s_i = wanted and 0 <= q_i <= 1.

    A linear programme whose solution rejects parts in order of their change, the most contrary first, and one of them
    in part. The multiplier is the change, in units of the spread, of the part rejected in part.

    Args:
        each: s, the predicted change of each part.
        wanted: of their sum.

    Source: ours; the fractional knapsack (Dantzig 1957).

    >>> fewest_rejections(torch.tensor([-2.0, -1.0, 1.0]), torch.tensor(-1.0)).weights
    tensor([0.5000, 1.0000, 1.0000])
    """
    total = each.sum(-1)
    # Turned so that the parts always fall short: they go from the one that lowers most.
    sign = torch.where(total < wanted, 1.0, -1.0).to(each)[..., None]
    ordered, order = (each * sign).sort(dim=-1, stable=True)
    gap = ((wanted - total)[..., None] * sign).clamp(min=0)
    # Rejecting those before a part has closed this much of the gap.
    size = (-ordered).clamp(min=0)
    before = size.cumsum(-1) - size
    rejected = ((gap - before) / size.clamp(min=torch.finfo(each.dtype).tiny)).clamp(0, 1)
    rejected = torch.where(size > 0, rejected, 0.0)
    weights = torch.zeros_like(each).scatter(-1, order, 1 - rejected)
    reached = (weights * each).sum(-1)
    spread = each.square().mean(-1).sqrt().clamp(min=torch.finfo(each.dtype).tiny)
    edge = torch.where(rejected > 0, ordered, -torch.inf).amax(-1) * sign[..., 0] / spread
    edge = torch.where(edge.isfinite(), edge, 0.0)
    saturated = (reached - wanted).abs() > 1e-6 * each.abs().sum(-1)
    return Solution(weights, reached, edge, saturated)
