"""Shaping with memory: advantages of right and wrong answers weighed against each other to reach a target entropy."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from trainer.methods.shaping import rescaled
from trainer.methods.stages import Groups, Observation, State


@dataclass(frozen=True)
class EntroPICPaper:
    """EntroPIC as a baseline of Entrocraft: (1 + alpha) A for right answers, (1 - alpha) A for wrong ones.

    alpha = I + e, e = H - target, H of this batch; after the step I += integral_gain e. Entropy that is too low gives
    alpha < 0: less weight on right answers, more on wrong ones. alpha is not bounded.

    The authors apply it to rewards of -1 and +1 without a baseline: use the advantage `reinforce`.

    Args:
        target: nats per token; 0.5 in that code.
        integral_gain: nats^-1 a step; 0.01 in that code. The proportional gain is 1 nats^-1.

    Raises:
        ValueError: a negative target or gain.

    Source: estimator entropic of github.com/lblaoke/entrocraft, after arXiv 2511.15248.

    >>> groups = Groups.of_rewards(torch.tensor([[1.0, -1.0]]), entropy=0.4)
    >>> EntroPICPaper().decide({"integral": 0.0}, groups)  # alpha = -0.1
    tensor([[ 0.9000, -1.1000]])
    """

    target: float = 0.5
    integral_gain: float = 0.01

    def __post_init__(self) -> None:
        if not (self.target >= 0 and self.integral_gain >= 0):
            raise ValueError(
                f"EntroPICPaper(target={self.target}, integral_gain={self.integral_gain}) must not be negative; got "
                f"{min(self.target, self.integral_gain)}. Use 0.5 and 0.01."
            )

    def start(self) -> State:
        """Return an integral of 0."""
        return {"integral": 0.0}

    def decide(self, state: State, groups: Groups) -> Float[Tensor, "..."]:
        """Return the advantages, of the shape given."""
        rewards = groups.rewards
        alpha = a_repeat(state["integral"], rewards) + a_repeat(groups.entropy, rewards) - self.target
        return rescaled(groups.advantages, torch.where(rewards > 0, 1 + alpha, 1 - alpha))

    def step(self, state: State, observation: Observation) -> tuple[State, Mapping[str, Any]]:
        """Return the integral with this step's error."""
        integral = state["integral"] + self.integral_gain * (observation.entropy - self.target)
        return {"integral": integral}, {"entropic_integral": integral}


@dataclass(frozen=True)
class PositiveReweighting:
    """Multiply advantages above 0 by a weight that moves by a fixed amount a step towards the target entropy.

    After a step, weight += increment sign(H - target), kept in [0, 1]: entropy below the target takes weight off
    positive advantages.

    Args:
        target: nats per token; 0.2 in the paper.
        increment: of the weight, a step.

    Raises:
        ValueError: a negative target or increment.

    Source: arXiv 2511.05993. Ours: the increment 0.01, the first weight 1, the bounds 0 and 1.

    >>> PositiveReweighting().decide({"weight": 0.5}, Groups.of_rewards(torch.tensor([[1.0, -1.0]])))
    tensor([[ 0.5000, -1.0000]])
    """

    target: float = 0.2
    increment: float = 0.01

    def __post_init__(self) -> None:
        if not (self.target >= 0 and self.increment >= 0):
            raise ValueError(
                f"PositiveReweighting(target={self.target}, increment={self.increment}) must not be negative; got "
                f"{min(self.target, self.increment)}. Use 0.2 and 0.01."
            )

    def start(self) -> State:
        """Return a weight of 1."""
        return {"weight": 1.0}

    def decide(self, state: State, groups: Groups) -> Float[Tensor, "..."]:
        """Return the advantages, of the shape given."""
        advantages = groups.advantages
        weight = a_repeat(state["weight"], advantages)
        weight = weight if advantages.dim() == groups.rewards.dim() else weight[..., None]
        return torch.where(advantages > 0, weight * advantages, advantages)

    def step(self, state: State, observation: Observation) -> tuple[State, Mapping[str, Any]]:
        """Return the weight moved towards the target."""
        excess = torch.as_tensor(observation.entropy, dtype=torch.float64) - self.target
        weight = (state["weight"] + self.increment * excess.sign()).clamp(0.0, 1.0)
        return {"weight": weight}, {"positive_weight": weight}


def a_repeat(value: Any, like: Tensor) -> Float[Tensor, "*R 1 1"]:
    """Return a number, or one a repeat, with axes that broadcast over prompts and samples."""
    return torch.as_tensor(value, dtype=like.dtype, device=like.device)[..., None, None]
