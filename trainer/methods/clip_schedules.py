"""Clip rules with memory: ranges that follow the entropy, or the run."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from trainer.methods.clips import CURRENT, ProbabilityBounds, check_ranges, clipped
from trainer.methods.stages import Clipped, Observation, State, TokenBatch
from trainer.methods.token_statistics import as_number, importance_ratio, per_repeat

SCHEDULES = ("ID", "DID", "OD")


@dataclass(frozen=True)
class ADAPO:
    """PPO's clip whose upper range moves toward a target entropy: up while H is below it, down while above.

    After each step high <- min(max(high + rate * sign(target - H), least), most); the lower range stays.

    Args:
        target: entropy wanted, nats per token; None takes the first observed, the initial policy's, as the authors do.
        low: the lower clip range; 0.2 as in DAPO.
        initial: the upper clip range of the first step; 0.28 as in DAPO.
        rate: by how much it moves after a step.
        least: its least value.
        most: its greatest value.

    Raises:
        ValueError: low outside [0, 1], rate < 0, or not 0 <= least <= initial <= most.

    Source: Petrenko et al. 2026, arXiv 2603.11682, in words: DAPO whose upper range rises below the target and falls
    above it. Ours: the rule, a fixed step as in Skywork's coefficient, and its constants; the upper range never falls
    below the lower one.

    >>> from trainer.methods.stages import Band
    >>> rule = ADAPO(target=0.5)
    >>> round(float(rule.step(rule.start(), Observation(0, 0.7, Band(0.0, 1.0)))[0]["high"]), 6)
    0.27
    """

    target: float | None = None
    low: float = 0.2
    initial: float = 0.28
    rate: float = 0.01
    least: float = 0.2
    most: float = 0.4

    def __post_init__(self) -> None:
        check_ranges(self, self.low, self.least)
        if not (self.least <= self.initial <= self.most and self.rate >= 0):
            raise ValueError(f"{self} must have least <= initial <= most and rate >= 0. Reorder the three, or widen.")

    def start(self) -> State:
        """Return the first upper range and the target, which counts once `observed` is 1."""
        return {"high": self.initial, "target": self.target or 0.0, "observed": int(self.target is not None)}

    def decide(self, state: State, tokens: TokenBatch) -> Clipped:
        """Return the clipped objective and which bound removed a token's gradient."""
        high = per_repeat(state["high"], tokens.log_prob)
        return clipped(tokens, importance_ratio(tokens), 1 - self.low, 1 + high)

    def step(self, state: State, observation: Observation) -> tuple[State, Mapping[str, Any]]:
        """Move the upper range toward the target."""
        entropy = as_number(observation.entropy)
        target = as_number(state["target"]) if state["observed"] else entropy
        high = (as_number(state["high"]) + self.rate * (target - entropy).sign()).clamp(self.least, self.most)
        return {"high": high, "target": target, "observed": 1}, {"clip_range_high": high}


@dataclass(frozen=True)
class FlexibleClip:
    """Clip ranges that raise entropy in one part of the run and lower it in another.

    Raising, the upper range (A > 0) is eps_plus(p), lowering, the lower one (A < 0) is eps_minus(p), both of
    `ProbabilityBounds`; each is mixed with PPO's constant range, share * eps(p) + (1 - share) * constant. With
    u = k / T of the run done:

        ID, up then down:           upper share 1 - 2u, lower 0 while u < 1/2; then upper 0, lower 2 - 2u
        DID, down, up, down:        upper share 2u, lower 0 while u < 1/2; then upper 1, lower 2 - 2u
        OD, damped oscillation:     upper share s, lower 1 - s; s = 1 once H <= H_min, s = 0 once
                                    H > H_min + (H_init - H_min)(1 - u), with H_min = floor * H_init

    Args:
        schedule: "ID", "DID" or "OD".
        low: PPO's lower range.
        high: PPO's upper range.
        alpha_u: slope of eps_plus.
        beta_u: eps_plus at p = 0.
        alpha_l: slope of eps_minus.
        beta_l: eps_minus at p = 0.
        probability: which p, as in `ProbabilityBounds`.
        floor: H_min as a share of H_init, the first observed entropy; 0.2 in the source. OD alone.

    Raises:
        ValueError: an unknown schedule, ranges that are none, or floor outside [0, 1].

    Source: arXiv 2602.09782, which reports ID as the best of the three. Ours: the constants of eps_plus and eps_minus,
    as in `ProbabilityBounds`; k / T is what is done before the step; OD starts with s = 0.

    >>> FlexibleClip("ID").shares({"progress": 0.125, "raising": 0.0})
    (0.0, 0.75)
    """

    schedule: str = "ID"
    low: float = 0.2
    high: float = 0.2
    alpha_u: float = -0.2
    beta_u: float = 0.4
    alpha_l: float = -0.2
    beta_l: float = 0.4
    probability: str = CURRENT
    floor: float = 0.2

    def __post_init__(self) -> None:
        check_ranges(self, self.low, self.high)
        if self.schedule not in SCHEDULES or not 0 <= self.floor <= 1:
            raise ValueError(f"{self} must have a schedule of {list(SCHEDULES)} and 0 <= floor <= 1.")
        self.bounds()  # refuses slopes and offsets that make no range

    def bounds(self) -> ProbabilityBounds:
        """Return the ranges that depend on the token's probability."""
        return ProbabilityBounds(self.alpha_u, self.beta_u, self.alpha_l, self.beta_l, self.probability)

    def start(self) -> State:
        """Return the state before the first step."""
        return {"progress": 0.0, "observed": 0, "initial_entropy": 0.0, "raising": 0.0}

    def shares(self, state: State) -> tuple[Any, Any]:
        """Return the shares of eps_minus in the lower and of eps_plus in the upper range, numbers or `[*R]`."""
        done = state["progress"]
        if self.schedule == "OD":
            return 1 - state["raising"], state["raising"]
        if done < 0.5:
            return 0.0, 1 - 2 * done if self.schedule == "ID" else 2 * done
        return 2 - 2 * done, 0.0 if self.schedule == "ID" else 1.0

    def decide(self, state: State, tokens: TokenBatch) -> Clipped:
        """Return the clipped objective and which bound removed a token's gradient."""
        low_share, high_share = (per_repeat(share, tokens.log_prob) for share in self.shares(state))
        return self.bounds().mixed(tokens, self.low, self.high, low_share, high_share)

    def step(self, state: State, observation: Observation) -> tuple[State, Mapping[str, Any]]:
        """Go on in the run; for OD, switch where the entropy has reached its bound."""
        entropy = as_number(observation.entropy)
        initial = as_number(state["initial_entropy"]) if state["observed"] else entropy
        done = min(max(observation.progress, 0.0), 1.0)
        lowest = self.floor * initial
        falling = entropy > lowest + (initial - lowest) * (1 - done)
        raising: Tensor = torch.where(entropy <= lowest, 1.0, torch.where(falling, 0.0, state["raising"]))
        after = {"progress": done, "observed": 1, "initial_entropy": initial, "raising": raising.to(entropy.dtype)}
        low_share, high_share = self.shares(after)
        return after, {"flexible_low_share": low_share, "flexible_high_share": high_share}
