"""What an update rule does to the logits of one context: the step delta z."""

from jaxtyping import Float, Int
from torch import Tensor

from entropy_theory import validation


def sampled_token_delta(
    logits: Float[Tensor, "*batch K"], token: Int[Tensor, "*batch"], step: float | int | Float[Tensor, "*batch"]
) -> Float[Tensor, "*batch K"]:
    """Return the logit change of one policy-gradient step on one sampled token, on that context's own logits.

    delta z = step (e_k - p), the gradient of `step * log p_k` in z. A positive step raises the sampled token.

    Valid when the policy is tabular (each context owns its logits); a network adds the kernel J J' between contexts.

    Args:
        logits: `[*batch, K]`, each row with a finite logit; -inf masks an arm.
        token: k, `[*batch]`, the sampled token.
        step: learning rate times advantage (times the importance ratio, where there is one), a number or `[*batch]`.

    Returns:
        `[*batch, K]`; rows sum to 0.

    Raises:
        TypeError: logits that are not floating-point, or tokens that are no integers.
        ValueError: a row without a distribution, a token outside the vocabulary, a wrong shape, or a step not finite.

    Source: E4; arXiv 2602.03392, Theorem 3.3 (the step under GRPO).

    >>> import torch
    >>> sampled_token_delta(torch.zeros(2), torch.tensor(0), 1.0)
    tensor([ 0.5000, -0.5000])
    """
    validation.vocabulary("sampled_token_delta", logits)
    probs = validation.at_least_single(logits).softmax(-1)
    validation.rows_with_a_distribution("sampled_token_delta", probs[..., 0])
    index = validation.token_index("sampled_token_delta", token, logits)
    validation.finite("sampled_token_delta", "step", step)
    # 1 - p_k as the mass of the other arms: it keeps its digits where p_k is near 1.
    others = probs.scatter(-1, index, 0.0)
    direction = (-others).scatter(-1, index, others.sum(-1, keepdim=True))
    if isinstance(step, float | int):
        return direction * step
    validation.like("sampled_token_delta", "step", step, token, "token")
    return direction * step[..., None].to(direction.dtype)
