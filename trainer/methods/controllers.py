"""Predictive controllers: choose the update so that its predicted entropy change is the wanted one.

All three predict with E4: rollout i changes the batch's entropy by scale * A_i * sum_t (N - S_t) / tokens, `scale`
being the logits' step per unit of advantage over one token's share of the loss. They want the whole gap between the
band's centre and the entropy, and differ in what they change: which rollouts count, with what weight, or an entropy
bonus.

Valid as a prediction where every context owns its logits (the tabular case). With shared parameters the scale is
learnt from what was measured, and the prediction keeps only part of its worth; see `theory` in a run's metrics.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from trainer.methods.stages import Filtered, Groups, Observation, State


@dataclass(frozen=True)
class Prediction:
    """What a batch would do to entropy at first order, per unit of scale.

    Args:
        each: `[*R, P, G]`, of each rollout, nats per token.
        total: `[*R]`, of all together.
        bonus: `[*R]`, of an entropy bonus with coefficient 1.
    """

    each: Float[Tensor, "*R P G"]
    total: Float[Tensor, "*R"]
    bonus: Float[Tensor, "*R"]


def predict(groups: Groups, method: str) -> Prediction:
    """Return the E4 prediction of a batch: sum_t A_t (N - S_t) / tokens of each rollout.

    Source: E4, arXiv 2602.03392, Theorem 3.3; the bonus's part is the square of E2's gradient.
    """
    record = groups.tokens_of(method, "influence", "responsiveness")
    tokens = record.tokens.clamp(min=1).to(groups.rewards.dtype)
    assert record.influence is not None
    assert record.responsiveness is not None
    each = (groups.token_advantages * record.influence).sum(-1) / tokens[..., None, None]
    return Prediction(each, each.sum((-2, -1)), record.responsiveness.sum((-3, -2, -1)) / tokens)


@dataclass(frozen=True)
class _Predictive:
    """What the three controllers share: the scale, given or learnt.

    Args:
        scale: entropy change per unit of prediction; None learns it from the measured changes.
        forgetting: discount a step of what the scale is learnt from; 0.95 remembers about 20 steps.
        first_scale: the scale until something was measured.
    """

    scale: float | None = None
    forgetting: float = 0.95
    first_scale: float = 1.0

    def __post_init__(self) -> None:
        if self.scale is not None and not self.scale > 0:
            raise ValueError(f"{type(self).__name__}(scale={self.scale}) must be above 0, or None to learn it.")
        if not self.first_scale > 0:
            raise ValueError(f"{type(self).__name__}(first_scale={self.first_scale}) must be above 0.")
        if not 0 < self.forgetting <= 1:
            raise ValueError(f"{type(self).__name__}(forgetting={self.forgetting}) must be in (0, 1].")

    @property
    def needs(self) -> frozenset[str]:
        """Influence and responsiveness; the measured change where the scale is learnt."""
        learnt = {"measured_change"} if self.scale is None else set()
        return frozenset({"influence", "responsiveness"} | learnt)

    def start(self) -> State:
        """Return discounted sums of predicted times measured and of predicted squared."""
        return {"cross": 0.0, "square": 0.0}

    def scale_of(self, state: State, like: Tensor) -> Tensor:
        """Return the scale in force, `[*R]`; never negative, since no step reverses its own direction for long."""
        if self.scale is not None:
            return torch.full_like(like, self.scale)
        cross, square = (torch.as_tensor(state[name], dtype=like.dtype) for name in ("cross", "square"))
        learnt = cross / square.clamp(min=torch.finfo(like.dtype).tiny)
        return torch.where((square > 0) & (learnt > 0), learnt, self.first_scale).to(like.device).expand_as(like)

    def wanted(self, groups: Groups, like: Tensor) -> Tensor:
        """Return the wanted change `[*R]`: the whole gap from the entropy to the band's centre."""
        return groups.band.centre - torch.as_tensor(groups.entropy).to(like).expand_as(like)

    def step(self, state: State, observation: Observation) -> tuple[State, Mapping[str, Any]]:
        """Return the state with one more pair of predicted and measured change."""
        if self.scale is not None or observation.measured_change is None:
            return state, {}
        predicted = torch.as_tensor(observation.info["predicted_unit"])
        measured = torch.as_tensor(observation.measured_change).to(predicted)
        sums = {"cross": predicted * measured, "square": predicted.square()}
        return {**state, **{name: self.forgetting * state[name] + value for name, value in sums.items()}}, {}


@dataclass(frozen=True)
class Rejection(_Predictive):
    """Drop rollouts in order of their predicted change until the prediction meets the want.

    Where the batch would leave entropy too low, those that lower it most go first, until what is left meets the want or
    none that lowers it is left. A batch that would leave it too high is used whole, since learning lowers entropy by
    itself and every dropped rollout costs reward; `eager` drops those that raise it most there.

    Args:
        scale: entropy change per unit of prediction; None learns it from the measured changes.
        forgetting: discount a step of what the scale is learnt from.
        first_scale: the scale until something was measured.
        eager: also drop rollouts where the batch would leave entropy too high.

    Source: ours, from E4; the paper's Algorithm 1 drops by the advantage's sign alone.
    """

    eager: bool = False

    def decide(self, state: State, groups: Groups) -> Filtered:
        """Return weights 0 or 1."""
        prediction = predict(groups, "Rejection")
        scale = self.scale_of(state, prediction.total)
        want = self.wanted(groups, prediction.total) / scale
        # Turned so that the batch always falls short: rollouts go from the one that lowers most.
        sign = torch.where(prediction.total < want, 1.0, -1.0).to(want)[..., None]
        each = prediction.each.flatten(-2) * sign
        ordered, order = each.sort(dim=-1, stable=True)
        total, want_turned = prediction.total[..., None] * sign, want[..., None] * sign
        # What is left after dropping 1, 2, ... rollouts grows while those that go are negative.
        short = (total - ordered.cumsum(-1) < want_turned) & (ordered < 0)
        enough = short.long().sum(-1, keepdim=True) + (total < want_turned).long()
        dropped = torch.minimum(enough, (ordered < 0).long().sum(-1, keepdim=True))
        if not self.eager:
            dropped = dropped * (sign > 0)
        place = torch.arange(each.shape[-1], device=each.device)
        kept = (place >= dropped).to(groups.rewards.dtype)
        weights = torch.zeros_like(kept).scatter(-1, order, kept).unflatten(-1, groups.rewards.shape[-2:])
        unit = (weights * prediction.each).sum((-2, -1))
        info = {"predicted_unit": unit, "predicted": unit * scale, "scale": scale}
        return Filtered(weights, groups.advantages, info)


@dataclass(frozen=True)
class SoftWeights(_Predictive):
    """Weigh rollout i by clip(1 + lambda s_i / sd(s), 0, most), lambda such that the prediction meets the want.

    Args:
        scale: entropy change per unit of prediction; None learns it from the measured changes.
        forgetting: discount a step of what the scale is learnt from.
        first_scale: the scale until something was measured.
        most: the largest weight.
        limit: the largest |lambda|.

    Source: ours, from E4; bisection.
    """

    most: float = 2.0
    limit: float = 50.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (self.most >= 1 and self.limit > 0):
            raise ValueError(f"SoftWeights(most={self.most}, limit={self.limit}) must have most >= 1 and limit > 0.")

    def decide(self, state: State, groups: Groups) -> Filtered:
        """Return weights between 0 and `most`."""
        prediction = predict(groups, "SoftWeights")
        scale = self.scale_of(state, prediction.total)
        want = self.wanted(groups, prediction.total) / scale
        spread = prediction.each.flatten(-2).std(-1, correction=0)[..., None, None]
        shape = prediction.each / spread.clamp(min=torch.finfo(spread.dtype).tiny)

        def weights(multiplier: Tensor) -> Tensor:
            return (1 + multiplier[..., None, None] * shape).clamp(0, self.most)

        low, high = torch.full_like(want, -self.limit), torch.full_like(want, self.limit)
        for _ in range(BISECTIONS):
            middle = (low + high) / 2
            short = (weights(middle) * prediction.each).sum((-2, -1)) < want
            low, high = torch.where(short, middle, low), torch.where(short, high, middle)
        # A batch whose rollouts all predict 0 has nothing to weigh.
        chosen = torch.where(spread > 0, weights(low), 1.0)
        unit = (chosen * prediction.each).sum((-2, -1))
        info = {"predicted_unit": unit, "predicted": unit * scale, "scale": scale, "multiplier": low}
        return Filtered(chosen, groups.advantages, info)


# Halvings of a range of 100: what is left is below float64's rounding of 1.
BISECTIONS = 50


@dataclass(frozen=True)
class SolvedBonus(_Predictive):
    """Keep every rollout, and solve each step for the entropy bonus that closes the gap.

    coefficient = clip((want - predicted) / (scale |grad_z H|^2), 0, most): it only ever raises entropy.

    Args:
        scale: entropy change per unit of prediction; None learns it from the measured changes.
        forgetting: discount a step of what the scale is learnt from.
        first_scale: the scale until something was measured.
        most: the largest coefficient, nats^-1.

    Source: ours, from E4 and the square of E2's gradient.
    """

    most: float = 50.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.most > 0:
            raise ValueError(f"SolvedBonus(most={self.most}) must be above 0: it only ever raises entropy.")

    @property
    def needs(self) -> frozenset[str]:
        """As the others, and the gradient of entropy."""
        return super().needs | {"entropy_gradient"}

    def decide(self, state: State, groups: Groups) -> Filtered:
        """Return all rollouts, and the coefficient."""
        prediction = predict(groups, "SolvedBonus")
        scale = self.scale_of(state, prediction.total)
        want = self.wanted(groups, prediction.total) / scale
        bonus = ((want - prediction.total) / prediction.bonus.clamp(min=1e-12)).clamp(0, self.most)
        unit = prediction.total + bonus * prediction.bonus
        info = {"predicted_unit": unit, "predicted": unit * scale, "scale": scale, "bonus": bonus}
        return Filtered(torch.ones_like(groups.rewards), groups.advantages, info, bonus)
