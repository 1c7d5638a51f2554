"""Theorems 1 and 2 of arXiv 2604.26326 as printed, so that their conditions and claims can be tested."""

from dataclasses import dataclass

from jaxtyping import Bool, Float, Int
from torch import Tensor

from entropy_theory import validation
from entropy_theory.change import stepped


@dataclass(frozen=True)
class Theorem1:
    """The objects of Theorem 1 at each context.

    Args:
        weights: w_i = -delta p_i / delta p_k for i != k, 0 at k, `[*batch, K]`; they sum to 1 and can be negative; NaN
            where delta p_k = 0.
        output_space_baseline: b_k = sum_{i != k} w_i log p_i, `[*batch]`, nats; NaN where delta p_k = 0.
        condition: log p_k > b_k, `[*batch]`: where it holds, the change has the sign opposite to delta p_k.
        delta_p: first-order change of the probabilities, `[*batch, K]`; sums to 0.
        change: -delta p_k (log p_k - b_k), the first-order entropy change, `[*batch]`, nats.
        claimed_probability: 1 - min(1, prod_{i != k} p_i^{w_i}), `[*batch]`, what the paper calls the probability that
            the condition holds.
    """

    weights: Float[Tensor, "*batch K"]
    output_space_baseline: Float[Tensor, "*batch"]
    condition: Bool[Tensor, "*batch"]
    delta_p: Float[Tensor, "*batch K"]
    change: Float[Tensor, "*batch"]
    claimed_probability: Float[Tensor, "*batch"]


def theorem1(
    logits: Float[Tensor, "*batch K"], token: Int[Tensor, "*batch"], delta: Float[Tensor, "*batch K"]
) -> Theorem1:
    """Return the objects of the paper's Theorem 1 for a logit step, with delta p to first order in the step.

    delta p_i = p_i (delta_i - E_p delta). The condition is evaluated as change * delta p_k < 0, which needs no division
    and is the same statement wherever delta p_k != 0.

    Valid to O(|delta|^2), for finite steps; K >= 2.

    Args:
        logits: z, `[*batch, K]`; -inf masks an arm.
        token: k, the sampled token, `[*batch]`; not a masked one.
        delta: the change of the logits, `[*batch, K]`; what it holds at masked arms is not looked at.

    Raises:
        TypeError: logits that are not floating-point, or tokens that are no integers.
        ValueError: a row without a distribution, a token outside the vocabulary or masked, or a step of another shape
            or not finite on arms with mass.

    Source: arXiv 2604.26326, Theorem 1; the form E5 of E2.

    >>> import torch
    >>> from entropy_theory import sampled_token_delta
    >>> z, k = torch.tensor([2.0, 0.0, 0.0]), torch.tensor(0)
    >>> bool(theorem1(z, k, sampled_token_delta(z, k, 0.1)).condition)
    True
    """
    return token_objects("theorem1", logits, token, delta, "token")


def token_objects(where: str, logits: Tensor, token: Tensor, delta: Tensor, name: str) -> Theorem1:
    """Return Theorem 1's objects for the public function `where`, which calls the tokens `name`."""
    policy, delta = stepped(where, logits, delta)
    index = validation.sampled_index(where, token, logits, name)
    # Relative to the sampled arm: for p_k near 1 the small delta p_k then keeps its digits.
    relative = (delta - delta.gather(-1, index)).masked_fill(policy.probs == 0, 0.0)
    spread = policy.centre(relative)
    delta_p = policy.probs * spread
    change = -policy.mean(policy.centred * spread)
    delta_p_k = delta_p.gather(-1, index)
    weights = (-delta_p / delta_p_k).scatter(-1, index, 0.0)
    weights = weights.where(delta_p_k != 0, float("nan"))
    log_p_k = policy.log_probs.gather(-1, index)[..., 0]
    baseline = (log_p_k + change / delta_p_k[..., 0]).where(delta_p_k[..., 0] != 0, float("nan"))
    return Theorem1(
        weights=weights,
        output_space_baseline=baseline,
        condition=change * delta_p_k[..., 0] < 0,
        delta_p=delta_p,
        change=change,
        claimed_probability=1 - baseline.exp().clamp(max=1),
    )


@dataclass(frozen=True)
class Theorem2:
    """The objects of Theorem 2 for a response of T tokens.

    Args:
        tokens: Theorem 1's objects at each token, `[*batch, T]`.
        log_prob: log-likelihood of the response, `[*batch]`, nats.
        sequence_baseline: sum of the tokens' baselines, `[*batch]`, nats.
        condition: log_prob >= sequence_baseline, `[*batch]`.
        change: sum of the tokens' first-order changes, `[*batch]`, nats.
        effective_delta_p: the delta p_y with change = -delta p_y (log_prob - sequence_baseline), `[*batch]`: the mean
            of the tokens' delta p_k with weights log p_k - b_k; NaN where the weights sum to 0.
        effective_sign: its sign, `[*batch]`: -1, 0 or 1.
        valid: True where all weights have one sign, so that the mean is a mean, `[*batch]`.
        token_condition_share: share of tokens whose own condition holds, `[*batch]`.
    """

    tokens: Theorem1
    log_prob: Float[Tensor, "*batch"]
    sequence_baseline: Float[Tensor, "*batch"]
    condition: Bool[Tensor, "*batch"]
    change: Float[Tensor, "*batch"]
    effective_delta_p: Float[Tensor, "*batch"]
    effective_sign: Float[Tensor, "*batch"]
    valid: Bool[Tensor, "*batch"]
    token_condition_share: Float[Tensor, "*batch"]


def theorem2(
    logits: Float[Tensor, "*batch T K"], tokens: Int[Tensor, "*batch T"], delta: Float[Tensor, "*batch T K"]
) -> Theorem2:
    """Return the objects of the paper's Theorem 2 for a response whose tokens take these logit steps.

    The proof replaces the tokens' delta p_k by one effective mean. Its weights log p_k - b_k change sign with the
    tokens' own conditions: then the effective delta p_y can be negative although every delta p_k is positive, and the
    theorem's conclusion does not follow. `valid` says where it does.

    Valid to O(|delta|^2), each context owning its logits.

    Args:
        logits: `[*batch, T, K]`, one row a token; -inf masks an arm.
        tokens: the response, `[*batch, T]`.
        delta: the change of each row's logits, `[*batch, T, K]`.

    Raises:
        TypeError: logits that are not floating-point, or tokens that are no integers.
        ValueError: no tokens axis or no tokens, or what `theorem1` refuses.

    Source: arXiv 2604.26326, Theorem 2 and its proof.

    >>> import torch
    >>> from entropy_theory import sampled_token_delta
    >>> z, y = torch.tensor([[2.0, 0.0], [3.0, 0.0]]), torch.tensor([0, 0])
    >>> bool(theorem2(z, y, sampled_token_delta(z, y, 0.1)).valid)
    True
    """
    validation.vocabulary("theorem2", logits)
    if logits.ndim < 2 or logits.shape[-2] < 1:
        raise ValueError(
            f"theorem2(logits) must be [*batch, T, K] with at least one token; got shape {list(logits.shape)}. "
            "Pass one row of logits a token."
        )
    each = token_objects("theorem2", logits, tokens, delta, "tokens")
    index = tokens.long()[..., None]
    delta_p_k = each.delta_p.gather(-1, index)[..., 0]
    log_p = logits.to(delta_p_k.dtype).log_softmax(-1).gather(-1, index)[..., 0]
    # log p_k - b_k without the rounding of b_k, so that its sign is that of the token's condition.
    gap = (-each.change / delta_p_k).where(delta_p_k != 0, float("nan"))
    change, total_gap = each.change.sum(-1), gap.sum(-1)
    effective = (-change / total_gap).where(total_gap != 0, float("nan"))
    return Theorem2(
        tokens=each,
        log_prob=log_p.sum(-1),
        sequence_baseline=each.output_space_baseline.sum(-1),
        condition=total_gap >= 0,
        change=change,
        effective_delta_p=effective,
        effective_sign=effective.sign(),
        valid=(gap > 0).all(-1) | (gap < 0).all(-1),
        token_condition_share=each.condition.to(log_p.dtype).mean(-1),
    )
