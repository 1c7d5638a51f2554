"""Token weights: what each token's objective is multiplied by; no weight carries gradient.

Statistics are over the whole mini-batch, whatever its micro-batches: ours where a source takes the micro-batch.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from trainer.methods.clips import PPOClip
from trainer.methods.stages import Observation, State, TokenBatch
from trainer.methods.token_statistics import as_number, covariance, given, lowest, per_repeat, share_of


@dataclass(frozen=True)
class ClipCov:
    """Masks out a few tokens, chosen at random among those whose covariance is large.

    cov = (A - mean A)(log pi - mean log pi); of the tokens with low < cov < high that PPO's clip with the ranges
    clip_low and clip_high has not removed, max(1, floor(ratio * tokens)) drawn uniformly get weight 0, or all of them
    where there are fewer.

    Args:
        ratio: share of all tokens that is masked out; 2e-4.
        low: the least covariance of a candidate; 1.
        high: the greatest; 5.
        clip_low: lower clip range of the clip rule in use; 1.0 in the authors' runs, which clips nothing.
        clip_high: upper clip range of the clip rule in use; 1.0 in the authors' runs.

    Raises:
        ValueError: ratio outside [0, 1], low > high, or clip ranges that are none.

    Source: Cui et al. 2025, arXiv 2505.22617, and its code in verl. Ours: means, candidates and their number over the
    mini-batch, where the code takes the micro-batch.

    >>> a, p, ones = torch.tensor([[2.0, -2.0, 0.0]]), torch.tensor([[-1.0, -3.0, -2.0]]), torch.ones(1, 3)
    >>> ClipCov()(TokenBatch(p, p, a, ones.bool(), ones, noise=torch.tensor([[0.7, 0.1, 0.0]])))  # cov 2, 2, 0
    tensor([[1., 0., 1.]])
    """

    ratio: float = 2e-4
    low: float = 1.0
    high: float = 5.0
    clip_low: float = 1.0
    clip_high: float = 1.0
    needs = frozenset({"mini_batch", "noise"})

    def __post_init__(self) -> None:
        if not (0 <= self.ratio <= 1 and self.low <= self.high):
            raise ValueError(f"{self} must have 0 <= ratio <= 1 and low <= high. Give ratio as a share of all tokens.")
        PPOClip(self.clip_low, self.clip_high)  # refuses ranges that are none

    def __call__(self, tokens: TokenBatch) -> Float[Tensor, "*R B T"]:
        """Return 0 for the tokens masked out, 1 for the others."""
        return tokens.over_mini_batch(self.weights)

    def weights(self, tokens: TokenBatch) -> Float[Tensor, "*R B T"]:
        """Return the weights of a whole mini-batch."""
        noise = given(tokens.noise, "ClipCov", "noise")
        clipped = PPOClip(self.clip_low, self.clip_high)(tokens)
        values = covariance(tokens)
        candidates = (values > self.low) & (values < self.high) & tokens.mask & ~(clipped.low | clipped.high)
        removed = lowest(noise.to(values), candidates, share_of(tokens.mask, self.ratio))
        return (tokens.mask & ~removed).to(values)


@dataclass(frozen=True)
class STEER:
    """Weighs tokens down by the entropy change that they are estimated to cause.

    omega = |A r (1 - pi) (log pi + H)|, r = pi / pi_sampler. kind "linear": omega's range over the mini-batch is
    mapped to [most, least], weight = most - (most - least) (omega - min) / (max - min); 1 where all omegas are equal.
    kind "exponential": weight = exp(-k omega), k = -log(least) / max(max omega, scale), in [least, 1].

    Args:
        kind: "linear" or "exponential".
        least: the least weight; 0.8.
        most: the greatest weight of kind "linear"; 1.2.
        scale: the least omega that may get the least weight, kind "exponential"; 0.02.

    Raises:
        ValueError: an unknown kind, not 0 < least <= 1 <= most, or scale <= 0.

    Source: arXiv 2510.10150 and its code. Ours: the mini-batch's range, and weight 1 where all omegas are equal.

    >>> a, p, ones = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.5, 0.5]]).log(), torch.ones(1, 2)
    >>> STEER()(TokenBatch(p, p, a, ones.bool(), ones)).round(decimals=3)
    tensor([[0.8000, 1.2000]])
    """

    kind: str = "linear"
    least: float = 0.8
    most: float = 1.2
    scale: float = 0.02
    needs = frozenset({"mini_batch", "entropy"})

    def __post_init__(self) -> None:
        if self.kind not in ("linear", "exponential"):
            raise ValueError(f"{self} must have kind 'linear' or 'exponential'; got {self.kind!r}.")
        if not (0 < self.least <= 1 <= self.most and self.scale > 0):
            raise ValueError(f"{self} must have 0 < least <= 1 <= most and scale > 0. Reorder the weights.")

    def __call__(self, tokens: TokenBatch) -> Float[Tensor, "*R B T"]:
        """Return the weights, 0 outside the mask."""
        return tokens.over_mini_batch(self.weights)

    def weights(self, tokens: TokenBatch) -> Float[Tensor, "*R B T"]:
        """Return the weights of a whole mini-batch."""
        log_prob, ratio = tokens.log_prob, tokens.log_ratio.exp()
        change = (tokens.advantages * ratio * -log_prob.expm1() * (log_prob + tokens.entropy)).abs()
        change = change.masked_fill(~tokens.mask, 0.0)
        greatest = change.flatten(-2).amax(-1)[..., None, None]
        if self.kind == "exponential":
            weights = (math.log(self.least) * change / greatest.clamp(min=self.scale)).exp()
        else:
            smallest = change.masked_fill(~tokens.mask, torch.inf).flatten(-2).amin(-1)[..., None, None]
            spread = greatest - smallest
            place = (change - smallest) / spread.where(spread > 0, 1.0)
            weights = torch.where(spread > 0, self.most - (self.most - self.least) * place, 1.0)
        return weights.masked_fill(~tokens.mask, 0.0)


@dataclass(frozen=True)
class REPOR:
    """REPO-R with its controller: rare tokens are pushed up harder and down less while entropy is below a target.

    weight = max(0, 1 - sign(A) zeta log pi): the advantage becomes max(0, A (1 - zeta log pi)) where A > 0 and
    min(0, A (1 + zeta log pi)) where A < 0. After each step zeta moves towards raising entropy (H < target) or lowering
    it (H > target): it doubles, up to zmax in size, where it has that sign, and else is halved, or, where half of it
    is below zmin in size, becomes zmin of the other sign.

    Args:
        target: entropy wanted, nats per token; None takes the first observed entropy, as the authors do.
        initial: zeta at the first step, not 0; 1e-3.
        zmin: least size of zeta; 1e-4.
        zmax: greatest size of zeta; 0.05.
        floor: log pi counts as at least this, nats; -20.

    Raises:
        ValueError: not 0 < zmin <= |initial| <= zmax, or floor > 0.

    Source: Petrenko et al. 2026, arXiv 2603.11682; constants and controller of SkyRL's pull request 1896. Ours: zeta
    stays where H is exactly the target.

    >>> p, a, ones = torch.tensor([[-2.0, -2.0]]), torch.tensor([[1.0, -1.0]]), torch.ones(1, 2)
    >>> REPOR().decide({"zeta": 0.05}, TokenBatch(p, p, a, ones.bool(), ones))
    tensor([[1.1000, 0.9000]])
    """

    target: float | None = None
    initial: float = 1e-3
    zmin: float = 1e-4
    zmax: float = 0.05
    floor: float = -20.0

    def __post_init__(self) -> None:
        if not (0 < self.zmin <= abs(self.initial) <= self.zmax and self.floor <= 0):
            raise ValueError(f"{self} must have 0 < zmin <= |initial| <= zmax and floor <= 0. Reorder the three sizes.")

    def start(self) -> State:
        """Return the first zeta and the target, which counts once `observed` is 1."""
        return {"zeta": self.initial, "target": self.target or 0.0, "observed": int(self.target is not None)}

    def decide(self, state: State, tokens: TokenBatch) -> Float[Tensor, "*R B T"]:
        """Return the weights, 0 outside the mask."""
        zeta = per_repeat(state["zeta"], tokens.log_prob)
        log_prob = tokens.log_prob.detach().clamp(min=self.floor)
        weights = (1 - tokens.advantages.sign() * zeta * log_prob).clamp(min=0.0)
        return weights.masked_fill(~tokens.mask, 0.0)

    def step(self, state: State, observation: Observation) -> tuple[State, Mapping[str, Any]]:
        """Move zeta towards raising or lowering entropy."""
        entropy = as_number(observation.entropy)
        target = as_number(state["target"]) if state["observed"] else entropy
        direction = (target - entropy).sign()
        # In the direction wanted, zeta > 0 has the right sign already.
        size = direction * as_number(state["zeta"])
        halved = torch.where(size / 2 > -self.zmin, self.zmin, size / 2)
        moved = direction * torch.where(size >= 0, (2 * size).clamp(max=self.zmax), halved)
        zeta = torch.where(direction == 0, as_number(state["zeta"]), moved)
        return {"zeta": zeta, "target": target, "observed": 1}, {"zeta": zeta}
