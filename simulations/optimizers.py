"""Optimisers whose state has one entry a repeat, so that a repeat without a gradient stays as it is."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from simulations.policies import Parameters

Moments = dict[str, Tensor]


@runtime_checkable
class Optimizer(Protocol):
    """Gradients to a step."""

    def start(self, parameters: Parameters) -> Moments:
        """Return the first state."""

    def step(
        self,
        moments: Moments,
        parameters: Parameters,
        gradients: Parameters,
        learning_rate: Float[Tensor, " R"],
        active: Bool[Tensor, " R"],
    ) -> tuple[Moments, Parameters]:
        """Return the state and the parameters after a step downhill; repeats that are not active keep both."""


@dataclass(frozen=True)
class SGD:
    """theta - learning rate * gradient."""

    def start(self, parameters: Parameters) -> Moments:
        """Return the empty state."""
        return {}

    def step(
        self,
        moments: Moments,
        parameters: Parameters,
        gradients: Parameters,
        learning_rate: Float[Tensor, " R"],
        active: Bool[Tensor, " R"],
    ) -> tuple[Moments, Parameters]:
        """Return the parameters after a step downhill."""
        rate = learning_rate * active
        moved = {name: value - along(rate, value) * gradients[name] for name, value in parameters.items()}
        return moments, moved


@dataclass(frozen=True)
class Adam:
    """theta - learning rate * m^ / (sqrt(v^) + eps), with bias-corrected moments.

    Args:
        beta1: decay of the mean gradient m.
        beta2: decay of the mean square v.
        eps: added to sqrt(v^).

    Source: Kingma and Ba 2015, arXiv 1412.6980, Algorithm 1.
    """

    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8

    def __post_init__(self) -> None:
        if not (0 <= self.beta1 < 1 and 0 <= self.beta2 < 1 and self.eps >= 0):
            raise ValueError(
                f"Adam(beta1={self.beta1}, beta2={self.beta2}, eps={self.eps}) must have betas in [0, 1) and eps >= 0."
            )

    def start(self, parameters: Parameters) -> Moments:
        """Return moments of 0 and a count of 0 steps."""
        some = next(iter(parameters.values()))
        state = {"count": torch.zeros(some.shape[0], dtype=some.dtype, device=some.device)}
        for name, value in parameters.items():
            state |= {f"mean.{name}": torch.zeros_like(value), f"square.{name}": torch.zeros_like(value)}
        return state

    def step(
        self,
        moments: Moments,
        parameters: Parameters,
        gradients: Parameters,
        learning_rate: Float[Tensor, " R"],
        active: Bool[Tensor, " R"],
    ) -> tuple[Moments, Parameters]:
        """Return the moments and the parameters after a step downhill."""
        count = moments["count"] + active
        after, moved = {"count": count}, {}
        safe = count.clamp(min=1)
        correct_mean, correct_square = 1 - self.beta1**safe, 1 - self.beta2**safe
        for name, value in parameters.items():
            moves = along(active, value)
            old_mean, old_square = moments[f"mean.{name}"], moments[f"square.{name}"]
            mean = self.beta1 * old_mean + (1 - self.beta1) * gradients[name]
            square = self.beta2 * old_square + (1 - self.beta2) * gradients[name].square()
            scale = (square / along(correct_square, value)).sqrt() + self.eps
            step = along(learning_rate, value) * (mean / along(correct_mean, value)) / scale
            after[f"mean.{name}"] = torch.where(moves, mean, old_mean)
            after[f"square.{name}"] = torch.where(moves, square, old_square)
            moved[name] = torch.where(moves, value - step, value)
        return after, moved


def along(values: Tensor, like: Tensor) -> Tensor:
    """Return one value a repeat with axes that broadcast over a parameter."""
    return values.view(-1, *[1] * (like.dim() - 1))
