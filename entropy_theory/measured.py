"""Theorems 1 and 2 of arXiv 2604.26326 for a step that was really taken: delta p = p' - p of two rows of logits.

Theorem 1 compares log p_k with a mean of the other log-probabilities, whose weights -delta p_i / delta p_k are a ratio
that is 0/0 for a token that does not move. What is formed first is therefore the first-order change

    -sum_i delta p_i log p_i = -delta p_k (log p_k - b_k),

whose sign against that of delta p_k is the condition; a division is made where the token moved, and nowhere else.

Differences are taken relative to the sampled arm. With d_i = (z'_i - z'_k) - (z_i - z_k) and
m = sum_i p_i (exp(d_i) - 1): delta p_k = -p_k m / (1 + m), so that a nearly certain token keeps its digits.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from entropy_theory import validation
from entropy_theory.chunked import tiles

# Change of a token's log-odds below which it counts as not moved: a hundred times what rounding logits of size 10 to
# float32 makes of it.
TOLERANCE = 1e-4


@dataclass(frozen=True)
class MeasuredTheorem1:
    """Theorem 1's objects at each token, all `[*batch]`.

    Args:
        log_prob: log p_k before the step, nats.
        delta_p: p'_k - p_k.
        first_order: -sum_i delta p_i log p_i, nats.
        change: H(p') - H(p), nats, exact.
        moved: the token's log-odds changed by more than the tolerance: |delta p_k| > tolerance p_k (1 - p_k).
        condition: log p_k > b_k, as first_order * delta p_k < 0; False where the token did not move.
        baseline: b_k = sum_{i != k} w_i log p_i with w_i = -delta p_i / delta p_k, nats; NaN where it did not move.
    """

    log_prob: Float[Tensor, "*batch"]
    delta_p: Float[Tensor, "*batch"]
    first_order: Float[Tensor, "*batch"]
    change: Float[Tensor, "*batch"]
    moved: Bool[Tensor, "*batch"]
    condition: Bool[Tensor, "*batch"]
    baseline: Float[Tensor, "*batch"]


@dataclass(frozen=True)
class MeasuredTheorem2:
    """Theorem 2's objects of each response, over its tokens that moved, all `[*batch]`.

    Args:
        tokens: how many moved.
        log_prob: the sum of their log-probabilities, nats.
        baseline: the sum of their baselines, nats.
        condition: log_prob >= baseline; False without a token that moved.
        first_order: the sum of their first-order changes, nats.
        effective_delta_p: the delta p_y with first_order = -delta p_y (log_prob - baseline): a mean of the tokens'
            delta p_k whose weights log p_k - b_k can have both signs; NaN where they sum to 0.
    """

    tokens: Int[Tensor, "*batch"]
    log_prob: Float[Tensor, "*batch"]
    baseline: Float[Tensor, "*batch"]
    condition: Bool[Tensor, "*batch"]
    first_order: Float[Tensor, "*batch"]
    effective_delta_p: Float[Tensor, "*batch"]


def measured_theorem1(
    before: Float[Tensor, "*batch K"],
    after: Float[Tensor, "*batch K"],
    token: Int[Tensor, "*batch"],
    *,
    tolerance: float = TOLERANCE,
) -> MeasuredTheorem1:
    """Return the objects of the paper's Theorem 1 with the change of probabilities that was measured.

    log p_k - b_k = (sum_i delta p_i log p_i) / delta p_k. Computed in float64, as many rows at a time as make a tile.

    Valid for steps of any size: the objects are exact; that -delta p_k (log p_k - b_k) is the entropy change holds to
    first order in delta p.

    Args:
        before: logits before the step, `[*batch, K]`; log-probabilities are logits too. -inf masks an arm.
        after: logits after it, `[*batch, K]`.
        token: k, the sampled token, `[*batch]`; not a masked one.
        tolerance: change of its log-odds up to which a token counts as not moved.

    Raises:
        TypeError: logits that are not floating-point, or tokens that are no integers.
        ValueError: a row without a distribution, an arm that is masked before and not after, tokens outside the
            vocabulary or masked, other shapes, or a tolerance that is not above 0.

    Source: arXiv 2604.26326, Theorem 1; E5 with delta p = p' - p.

    >>> found = measured_theorem1(torch.tensor([2.0, 0.0, 0.0]), torch.tensor([2.1, 0.0, 0.0]), torch.tensor(0))
    >>> bool(found.condition), round(found.log_prob.item(), 3), round(found.baseline.item(), 3)
    (True, -0.24, -2.24)
    """
    where = "measured_theorem1"
    validation.vocabulary(where, before, "before")
    validation.vocabulary(where, after, "after")
    validation.like(where, "after", after, before, "before")
    validation.positive(where, "tolerance", tolerance)
    for name, logits in (("before", before), ("after", after)):
        # NaN, +inf and a row without a finite logit show in the largest one.
        validation.rows_with_a_distribution(where, logits.amax(-1), name)
    rule = "mask every arm that `before` masks"
    validation.refuse(where, "after", rule, (before.isneginf() & ~after.isneginf()).any(-1))
    index = validation.sampled_index(where, token, before).reshape(-1, 1)
    validation.sampled_index(where, token, after)
    arms = before.shape[-1]
    old, new = before.reshape(-1, arms), after.reshape(-1, arms)
    parts = []
    for part in tiles(old, arms) if len(old) else [slice(0)]:
        parts.append(measured_rows(old[part].double(), new[part].double(), index[part], tolerance))
    return MeasuredTheorem1(*(torch.cat(values).reshape(token.shape) for values in zip(*parts, strict=True)))


def measured_rows(before: Tensor, after: Tensor, index: Tensor, tolerance: float) -> tuple[Tensor, ...]:
    """Return the fields of `MeasuredTheorem1` for rows `[n, K]` in float64, the tokens being an index `[n, 1]`."""
    log_p = before.log_softmax(-1)
    p = log_p.exp()
    masked = p == 0
    log_p_k = log_p.gather(-1, index)
    # Both relative to the sampled arm, where they are 0.
    distance = (log_p - log_p_k).masked_fill(masked, 0.0)
    moved = ((after - after.gather(-1, index)) - (before - before.gather(-1, index))).masked_fill(masked, 0.0)
    grown = p * moved.expm1()
    mass = grown.sum(-1)
    # sum_i delta p_i log p_i = sum_i delta p_i (log p_i - log p_k), since delta p sums to 0.
    first_order = -((grown * distance).sum(-1) - mass * (p * distance).sum(-1)) / (1 + mass)
    new = p + grown
    divergence = (new * moved.masked_fill(new == 0, 0.0)).sum(-1) / (1 + mass) - mass.log1p()
    delta_p = -p.gather(-1, index)[:, 0] * mass / (1 + mass)
    others = p.scatter(-1, index, 0.0).sum(-1)
    has_moved = mass.abs() > tolerance * others * (1 + mass)
    gap = (-first_order / delta_p).where(has_moved, float("nan"))
    condition = (first_order * delta_p.sign() < 0) & has_moved
    log_prob = log_p_k[:, 0]
    return log_prob, delta_p, first_order, first_order - divergence, has_moved, condition, log_prob - gap


def measured_theorem2(tokens: MeasuredTheorem1, mask: Bool[Tensor, "*batch T"]) -> MeasuredTheorem2:
    """Return the objects of the paper's Theorem 2 for responses whose tokens' objects were measured.

    The condition sum_t log p_k >= sum_t b_k and the effective delta p_y = -first_order / sum_t (log p_k - b_k), over
    the tokens that moved. The theorem's conclusion needs an effective delta p_y of the advantage's sign, which its
    condition does not give: weights of both signs can make it anything.

    Args:
        tokens: of `measured_theorem1`, `[*batch, T]` each.
        mask: True on the response's tokens.

    Raises:
        ValueError: a mask of another shape than the tokens.

    Source: arXiv 2604.26326, Theorem 2 and its proof.

    >>> z, y = torch.tensor([[2.0, 0.0], [0.0, 3.0]]), torch.tensor([0, 1])
    >>> found = measured_theorem2(measured_theorem1(z, 1.1 * z, y), torch.tensor([True, True]))
    >>> bool(found.condition), bool(found.effective_delta_p > 0)
    (True, True)
    """
    validation.like("measured_theorem2", "mask", mask, tokens.log_prob, "the tokens")
    counted = mask & tokens.moved

    def total(values: Tensor) -> Tensor:
        return values.where(counted, 0.0).sum(-1)

    # The gap of each token without the rounding of its baseline.
    gap = total(-tokens.first_order / tokens.delta_p)
    first_order, count = total(tokens.first_order), counted.sum(-1)
    return MeasuredTheorem2(
        tokens=count,
        log_prob=total(tokens.log_prob),
        baseline=total(tokens.baseline),
        condition=(gap >= 0) & (count > 0),
        first_order=first_order,
        effective_delta_p=(-first_order / gap).where(gap != 0, float("nan")),
    )
