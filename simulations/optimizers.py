"""Optimisers whose state has one entry a repeat, so that a repeat without a gradient stays as it is."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from simulations.policies import Parameters
from trainer.methods.stages import Response

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

    def response(self, updates: int) -> Response:
        """Return how fast it answers a batch of so many steps."""

    def towards(self, moments: Moments, values: Parameters, learning_rate: Float[Tensor, " R"]) -> Parameters:
        """Return what a gradient of -values adds to the parameters in the end; 0 where that is not known yet."""

    def carried(self, moments: Moments, learning_rate: Float[Tensor, " R"]) -> Parameters:
        """Return what it would still add without further gradients."""


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

    def response(self, updates: int) -> Response:
        """Return that all comes at once."""
        return Response()

    def towards(self, moments: Moments, values: Parameters, learning_rate: Float[Tensor, " R"]) -> Parameters:
        """Return learning rate * values."""
        return {name: along(learning_rate, value) * value for name, value in values.items()}

    def carried(self, moments: Moments, learning_rate: Float[Tensor, " R"]) -> Parameters:
        """Return no parameters: it remembers none."""
        return {}


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

    def response(self, updates: int) -> Response:
        """Return that of gradients averaged with beta1."""
        return Response.of_momentum(self.beta1, updates)

    def towards(self, moments: Moments, values: Parameters, learning_rate: Float[Tensor, " R"]) -> Parameters:
        """Return learning rate * values / (sqrt(v^) + eps), 0 before the first step."""
        count, found = moments["count"], {}
        correct = 1 - self.beta2 ** count.clamp(min=1)
        for name, value in values.items():
            scale = (moments[f"square.{name}"] / along(correct, value)).sqrt() + self.eps
            found[name] = torch.where(along(count > 0, value), along(learning_rate, value) * value / scale, 0.0)
        return found

    def carried(self, moments: Moments, learning_rate: Float[Tensor, " R"]) -> Parameters:
        """Return -learning rate * m^ / (sqrt(v^) + eps) * beta1 / (1 - beta1), at today's v^."""
        means = {name.removeprefix("mean."): value for name, value in moments.items() if name.startswith("mean.")}
        left = self.beta1 / (1 - self.beta1) / (1 - self.beta1 ** moments["count"].clamp(min=1))
        downhill = {name: -along(left, value) * value for name, value in means.items()}
        return self.towards(moments, downhill, learning_rate)


def along(values: Tensor, like: Tensor) -> Tensor:
    """Return one value a repeat with axes that broadcast over a parameter."""
    return values.view(-1, *[1] * (like.dim() - 1))
