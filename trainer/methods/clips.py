"""Clip rules: the surrogate objective of a token from its importance ratio and advantage."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from trainer.methods.stages import Clipped, TokenBatch
from trainer.methods.token_statistics import importance_ratio

OLD, CURRENT = "old", "current"


def clipped(tokens: TokenBatch, ratio: Float[Tensor, "*R B T"], least: Tensor | float, most: Tensor | float) -> Clipped:
    """Return min(r A, clip(r, least, most) A) per token, and which bound removed a gradient.

    Args:
        tokens: some rows.
        ratio: r of each token.
        least: the lower bound of r, a number or broadcast to `[*R, B, T]`; removes the gradient of A < 0 below it.
        most: the upper bound of r; removes the gradient of A > 0 above it.
    """
    lower, upper = torch.as_tensor(least).to(ratio), torch.as_tensor(most).to(ratio)
    advantages = tokens.advantages
    low = (ratio < lower) & (advantages < 0) & tokens.mask
    high = (ratio > upper) & (advantages > 0) & tokens.mask
    # The bounded ratio is the lesser of the two exactly there; a where costs half of minimum and clamp with gradient.
    bounded = torch.where(low | high, ratio.detach().clamp(lower, upper), ratio)
    return Clipped(bounded * advantages, low, high)


@dataclass(frozen=True)
class PPOClip:
    """min(r A, clip(r, 1 - low, 1 + high) A), r = pi / pi_sampler per token.

    With high = 0.28 it is Clip-Higher of DAPO (Yu et al. 2025, arXiv 2503.14476).

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
        check_ranges(self, self.low, self.high)

    def __call__(self, tokens: TokenBatch) -> Clipped:
        """Return the clipped objective and which bound removed a token's gradient."""
        return clipped(tokens, importance_ratio(tokens), 1 - self.low, 1 + self.high)


def unclipped(tokens: TokenBatch) -> Clipped:
    """Return the objective r A, from which no bound removes a gradient.

    Source: the importance-weighted policy gradient; used with KL-Cov in arXiv 2505.22617.

    >>> ratio, up = torch.tensor([[0.5, 1.5]]), torch.ones(1, 2)
    >>> unclipped(TokenBatch(ratio.log(), 0 * up, up, up.bool(), up)).objective
    tensor([[0.5000, 1.5000]])
    """
    none = torch.zeros_like(tokens.mask)
    return Clipped((importance_ratio(tokens) * tokens.advantages).masked_fill(~tokens.mask, 0.0), none, none)


@dataclass(frozen=True)
class DualClip:
    """PPO's clip with a second bound for A < 0: max(min(r A, clip(r, 1 - low, 1 + high) A), bound * A) there.

    A token of A < 0 whose ratio exceeds `bound` no longer pushes; it is counted in `high`, since its ratio lies above
    an upper bound.

    Args:
        low: the lower clip range; acts on A < 0.
        high: the upper clip range; acts on A > 0.
        bound: the largest ratio that counts where A < 0; 3 in verl, 10 in DAPO's scripts.

    Raises:
        ValueError: ranges as in `PPOClip`, or bound <= 1.

    Source: Ye et al. 2020, arXiv 1912.09729; the same in verl.

    >>> ratio, up = torch.tensor([[0.5, 4.0]]), torch.ones(1, 2)
    >>> DualClip()(TokenBatch(ratio.log(), 0 * up, -up, up.bool(), up)).objective.round(decimals=3)
    tensor([[-0.8000, -3.0000]])
    """

    low: float = 0.2
    high: float = 0.2
    bound: float = 3.0

    def __post_init__(self) -> None:
        check_ranges(self, self.low, self.high)
        if not self.bound > 1:
            raise ValueError(f"{self} must have bound > 1; got {self.bound}. Leave it at 3, or use the clip rule ppo.")

    def __call__(self, tokens: TokenBatch) -> Clipped:
        """Return the clipped objective and which bound removed a token's gradient."""
        ratio = importance_ratio(tokens)
        single = clipped(tokens, ratio, 1 - self.low, 1 + self.high)
        negative = (tokens.advantages < 0) & tokens.mask
        beyond = negative & (ratio > self.bound)
        objective = torch.where(beyond, self.bound * tokens.advantages, single.objective)
        return Clipped(objective, single.low, single.high | beyond)


@dataclass(frozen=True)
class GSPO:
    """Clip by the ratio of the whole completion: min(s A, clip(s, 1 - low, 1 + high) A), s = exp(mean_t log r_t).

    Each token carries sg[s] pi / sg[pi] (sg: no gradient), which has the value s and the gradient s d log pi, so that
    advantages may differ from token to token. A completion without tokens has s = 1.

    Args:
        low: the lower clip range of s; acts on A < 0.
        high: the upper clip range of s; acts on A > 0.

    Raises:
        ValueError: a negative range, or low > 1.

    Source: Zheng et al. 2025, arXiv 2507.18071, GSPO-token. The paper averages over completions, each divided by its
    own length; the sum over tokens here is divided by whatever denominator is chosen.

    >>> log_ratio, up = torch.tensor([[0.3, -0.1]]), torch.ones(1, 2)  # mean 0.1
    >>> GSPO(0.2, 0.2)(TokenBatch(log_ratio, 0 * up, up, up.bool(), up)).objective.round(decimals=3)
    tensor([[1.1050, 1.1050]])
    """

    low: float = 3e-4
    high: float = 4e-4

    def __post_init__(self) -> None:
        check_ranges(self, self.low, self.high)

    def __call__(self, tokens: TokenBatch) -> Clipped:
        """Return the clipped objective and which tokens lost their gradient with their completion."""
        log_prob = tokens.log_prob.masked_fill(~tokens.mask, 0.0)
        total = tokens.log_ratio.detach().masked_fill(~tokens.mask, 0.0).sum(-1, keepdim=True)
        mean = total / tokens.mask.sum(-1, keepdim=True).clamp(min=1)
        ratio = (mean + log_prob - log_prob.detach()).exp()
        return clipped(tokens, ratio, 1 - self.low, 1 + self.high)


@dataclass(frozen=True)
class ProbabilityBounds:
    """PPO's clip with ranges that fall with the token's probability p: rare tokens may move further than likely ones.

    The upper range eps_plus(p) = alpha_u p + beta_u acts on A > 0, the lower eps_minus(p) = alpha_l p + beta_l on
    A < 0. With p the sampler's probability: 1 - eps_minus(p) <= r <= 1 + eps_plus(p). With p the current one,
    p = r p_old, the same inequalities solved for r: (1 - beta_l) / (1 + alpha_l p_old) <= r <=
    (1 + beta_u) / (1 - alpha_u p_old).

    Args:
        alpha_u: slope of the upper range, in [-beta_u, 0].
        beta_u: the upper range at p = 0.
        alpha_l: slope of the lower range, in [-beta_l, 0].
        beta_l: the lower range at p = 0, below 1.
        probability: which p: "old", the sampler's, or "current".

    Raises:
        ValueError: values outside these ranges.

    Source: arXiv 2602.09782. Ours: the constants, which the source does not give; -0.2 p + 0.4 is 0.2 at p = 1, PPO's
    range. The source's cap on pi is that of "current".

    >>> p, up = torch.tensor([[0.25, 0.5]]), torch.ones(1, 2)  # caps 1.4 / 1.05 and 1.4 / 1.1
    >>> ProbabilityBounds()(TokenBatch(p.log() + 1, p.log(), up, up.bool(), up)).objective.round(decimals=3)
    tensor([[1.3330, 1.2730]])
    """

    alpha_u: float = -0.2
    beta_u: float = 0.4
    alpha_l: float = -0.2
    beta_l: float = 0.4
    probability: str = CURRENT

    def __post_init__(self) -> None:
        if not (-self.beta_u <= self.alpha_u <= 0 and -self.beta_l <= self.alpha_l <= 0 and self.beta_l < 1):
            raise ValueError(f"{self} must have -beta <= alpha <= 0 for both ranges, and beta_l < 1.")
        if self.probability not in (OLD, CURRENT):
            raise ValueError(f"{self} must have probability 'old' or 'current'; got {self.probability!r}.")

    def __call__(self, tokens: TokenBatch) -> Clipped:
        """Return the clipped objective and which bound removed a token's gradient."""
        return self.mixed(tokens, 0.0, 0.0, 1.0, 1.0)

    def mixed(
        self, tokens: TokenBatch, low: float, high: float, low_share: Tensor | float, high_share: Tensor | float
    ) -> Clipped:
        """Clip with ranges between constant ones and these: share * (alpha p + beta) + (1 - share) * constant.

        Args:
            tokens: some rows.
            low: the constant lower range.
            high: the constant upper range.
            low_share: share of eps_minus(p) in the lower range, a number or broadcast to `[*R, B, T]`.
            high_share: share of eps_plus(p) in the upper range, likewise.
        """
        beta_l = low_share * self.beta_l + (1 - low_share) * low
        beta_u = high_share * self.beta_u + (1 - high_share) * high
        p = tokens.old_log_prob.masked_fill(~tokens.mask, 0.0).exp()
        least = self.bound(p, -low_share * self.alpha_l, -beta_l)
        most = self.bound(p, high_share * self.alpha_u, beta_u)
        return clipped(tokens, importance_ratio(tokens), least, most)

    def bound(self, old: Float[Tensor, "*R B T"], slope: Tensor | float, offset: Tensor | float) -> Tensor:
        """Return the ratio r at which r = 1 + slope p + offset, with p as `probability` says."""
        return 1 + slope * old + offset if self.probability == OLD else (1 + offset) / (1 - slope * old)


def check_ranges(rule: object, low: float, high: float) -> None:
    """Refuse clip ranges that are none.

    Raises:
        ValueError: a negative range, or low > 1.
    """
    if not (0 <= low <= 1 and high >= 0):
        raise ValueError(f"{rule} must have 0 <= low <= 1 and high >= 0. Give both as shares of the ratio 1.")
