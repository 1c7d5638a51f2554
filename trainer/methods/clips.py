"""Clip rules: the surrogate objective of a token from its importance ratio and advantage."""

from dataclasses import dataclass

from trainer.methods.stages import Clipped, TokenBatch


@dataclass(frozen=True)
class PPOClip:
    """min(r A, clip(r, 1 - low, 1 + high) A), r = pi / pi_sampler per token.

    Args:
        low: the lower clip range; acts on A < 0.
        high: the upper clip range; acts on A > 0.

    Raises:
        ValueError: a negative range, or low > 1.

    Source: Schulman et al. 2017, arXiv 1707.06347, Equation 7; ranges 0.2/0.2 as in GRPO.

    >>> import torch
    >>> ratio, up = torch.tensor([[0.5, 1.5]]), torch.ones(1, 2)
    >>> PPOClip()(TokenBatch(ratio.log(), 0 * up, up, up.bool(), up)).objective.round(decimals=3)
    tensor([[0.5000, 1.2000]])
    """

    low: float = 0.2
    high: float = 0.2

    def __post_init__(self) -> None:
        if not (0 <= self.low <= 1 and self.high >= 0):
            raise ValueError(f"PPOClip(low={self.low}, high={self.high}) must have 0 <= low <= 1 and high >= 0.")

    def __call__(self, tokens: TokenBatch) -> Clipped:
        """Return the clipped objective and which bound removed a token's gradient."""
        ratio = (tokens.log_prob - tokens.old_log_prob).exp()
        bounded = ratio.clamp(1 - self.low, 1 + self.high)
        low = (ratio < 1 - self.low) & (tokens.advantages < 0) & tokens.mask
        high = (ratio > 1 + self.high) & (tokens.advantages > 0) & tokens.mask
        return Clipped((ratio * tokens.advantages).minimum(bounded * tokens.advantages), low, high)
