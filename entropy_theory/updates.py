"""What an update rule does to the logits of one context: the step delta z."""

from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import one_hot


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

    Source: E4; arXiv 2602.03392, Theorem 3.3 (the step under GRPO).

    >>> import torch
    >>> sampled_token_delta(torch.zeros(2), torch.tensor(0), 1.0)
    tensor([ 0.5000, -0.5000])
    """
    direction = one_hot(token.long(), logits.shape[-1]).to(logits.dtype) - logits.softmax(-1)
    return direction * step if isinstance(step, float | int) else direction * step[..., None].to(direction.dtype)
