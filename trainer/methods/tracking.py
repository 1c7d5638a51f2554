"""What a predictive controller knows of the entropy and of its own effect on it, as pure functions of a small state.

Two estimates run beside the training, both over any leading axes of repeats:

* the entropy itself, whose measurements are noisy (a batch draws new prompts every step), advanced by what each update
  was measured to change and corrected by each new batch, with the drift that no update explains (new contexts);
* the gain: how much the measured change of a step answers to its prediction, and what it has beside it.
"""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

Number = Tensor | float


@dataclass(frozen=True)
class Estimate:
    """The entropy's estimate and its drift, before a batch was seen or after.

    Args:
        entropy: nats per token.
        drift: change a step that no update explains, nats per token.
    """

    entropy: Number
    drift: Number


@dataclass(frozen=True)
class Observer:
    """A steady-state Kalman filter (alpha-beta filter) of the batch entropy.

    corrected = predicted + (1 - smoothing) (measured - predicted); the drift moves by beta (measured - predicted), with
    beta = alpha^2 / (2 - alpha), alpha = 1 - smoothing: the pair that tracks a ramp without steady error, at a damping
    ratio of about 0.7.

    Args:
        smoothing: weight of the estimate against a new batch, in [0, 1); 0 believes the batch.

    Source: Benedict and Bordner 1962, "Synthesis of an optimal set of radar track-while-scan smoothing equations".

    >>> Observer(0.8).corrected(Estimate(0.5, 0.0), 0.6).entropy
    0.52
    """

    smoothing: float = 0.85

    def __post_init__(self) -> None:
        if not 0 <= self.smoothing < 1:
            raise ValueError(f"Observer(smoothing={self.smoothing}) must be in [0, 1).")

    def corrected(self, predicted: Estimate, measured: Number) -> Estimate:
        """Return the estimate once a batch's entropy was measured."""
        if not self.smoothing:
            return Estimate(measured, predicted.drift)
        alpha = 1 - self.smoothing
        surprise = measured - predicted.entropy
        beta = alpha**2 / (2 - alpha)
        return Estimate(predicted.entropy + alpha * surprise, predicted.drift + beta * surprise)

    def advanced(self, corrected: Estimate, change: Number) -> Estimate:
        """Return what the next batch's entropy should be, given what the update changed on fixed contexts."""
        return Estimate(corrected.entropy + change + corrected.drift, corrected.drift)


@dataclass(frozen=True)
class Gain:
    """Least squares of the measured change on the predicted one, with forgetting: measured = offset + gain * predicted.

    The slope is drawn towards `first` by a prior worth `prior` of the steps remembered: a controller that holds its
    target predicts nearly the same every step, and a slope from such data would be noise.

    Args:
        first: the gain before anything was measured.
        forgetting: discount a step; 0.95 remembers about 20 steps.
        prior: weight of `first`, as a share of the predictions' mean square.
        range: the gain stays between first / range and first * range.

    Valid when: the gain lies within the range. It grows with the optimiser steps that a batch takes: on the shipped
    model 2 to 3 with one, 3 to 9 with four, some 20 with sixteen (`gain` in metrics.jsonl, median of a run's steps 50
    to 250), where a controller that begins at 1 overshoots before it has learnt. Set `first` where they are many.

    Source: discounted least squares with a ridge; ours.
    """

    first: float = 1.0
    forgetting: float = 0.95
    prior: float = 0.2
    range: float = 10.0

    def __post_init__(self) -> None:
        if not (self.first > 0 and self.prior >= 0 and self.range >= 1):
            raise ValueError(
                f"Gain(first={self.first}, prior={self.prior}, range={self.range}) must have first > 0, prior >= 0, "
                "range >= 1."
            )
        if not 0 < self.forgetting <= 1:
            raise ValueError(f"Gain(forgetting={self.forgetting}) must be in (0, 1].")

    def start(self) -> dict[str, Any]:
        """Return discounted sums over the steps: of 1, predicted, measured, predicted squared, and their product."""
        return {"weight": 0.0, "predicted": 0.0, "measured": 0.0, "square": 0.0, "cross": 0.0}

    def learn(self, sums: dict[str, Any], predicted: Tensor, measured: Tensor) -> dict[str, Any]:
        """Return the sums with one more step."""
        new = {
            "weight": torch.ones_like(predicted),
            "predicted": predicted,
            "measured": measured,
            "square": predicted.square(),
            "cross": predicted * measured,
        }
        return {name: self.forgetting * sums[name] + value for name, value in new.items()}

    def line(self, sums: dict[str, Any], like: Float[Tensor, "*R"]) -> tuple[Tensor, Tensor]:
        """Return (gain, offset), both `[*R]`; (first, 0) before anything was measured."""
        weight, x, y, xx, xy = (torch.as_tensor(sums[name]).to(like).expand_as(like) for name in self.start())
        count = weight.clamp(min=1e-12)
        spread, joint = xx - x * x / count, xy - x * y / count
        ridge = self.prior * xx + torch.finfo(like.dtype).tiny
        gain = (joint + ridge * self.first) / (spread + ridge)
        gain = gain.clamp(self.first / self.range, self.first * self.range)
        gain = torch.where(weight > 0, gain, self.first)
        return gain, torch.where(weight > 0, (y - gain * x) / count, 0.0)
