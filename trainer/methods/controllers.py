"""Predictive controllers: choose the update so that its predicted entropy change is the wanted one.

A batch's effect on entropy is predicted rollout by rollout (or token by token), in one of two ways:

* `tabular`, from what was recorded while sampling (E4): sum_t A_t (N_t - S_t) / tokens. Exact at first order where
  every context owns its logits; with shared parameters its gain is learnt from what was measured.
* `directional`, with the parameters that contexts share (E7): sum_t A_t <grad log pi_t, u> / tokens, u the
  preconditioned gradient of entropy times the learning rate. Costs a backward pass over a few rollouts and a forward
  pass over the batch.

The controllers differ in what they change so that the prediction meets the want: which rollouts count (`Rejection`),
with what weight (`SoftWeights`), or the coefficient of an entropy bonus (`SolvedBonus`). The first two add no term to
the loss; all leave rewards and baselines as they are.

A controller that acts on one side only goes by what batches are expected to do, a running mean, not by what this one
is predicted to: otherwise it would counter every chance fall and no chance rise.

The want: with estimates of entropy and drift (`tracking.Observer`) and of the gain g (`tracking.Gain`),

    entropy to come = estimate + g * carried in momentum + drift * lag
    error = aim - entropy to come
    wanted = (fraction * error + integral - drift) / g

in units of the prediction. Weights chosen by a noisy prediction do less than predicted, at every step alike: that is
for the integral of the error, which stands still while a want is out of reach or nothing is asked for (anti-windup).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from trainer.methods.least_change import fewest_rejections, least_squares_weights
from trainer.methods.stages import Filtered, Groups, Observation, State
from trainer.methods.tracking import Estimate, Gain, Observer


@dataclass(frozen=True)
class Prediction:
    """What a batch would do to entropy at first order, in units of the gain.

    Args:
        tokens: `[*R, P, G, T]`, of each token of weight 1, nats per token.
        bonus: `[*R]`, of an entropy bonus with coefficient 1.
        carried: `[*R]`, what earlier batches will still do through momentum.
    """

    tokens: Float[Tensor, "*R P G T"]
    bonus: Float[Tensor, "*R"]
    carried: Float[Tensor, "*R"]

    @property
    def rollouts(self) -> Float[Tensor, "*R P G"]:
        """Of each rollout."""
        return self.tokens.sum(-1)

    @property
    def total(self) -> Float[Tensor, "*R"]:
        """Of all together, as they are."""
        return self.tokens.sum((-3, -2, -1))


def predict(groups: Groups, influence: str, carried: Tensor | float, method: str) -> Prediction:
    """Return the prediction of a batch.

    Args:
        groups: the batch.
        influence: `tabular` or `directional`.
        carried: what earlier batches carry, for `tabular`; the direction knows its own.
        method: who asks, for messages.

    Raises:
        ValueError: the batch has no record of tokens, or no direction.

    Source: `tabular` E4, arXiv 2602.03392, Theorem 3.3, and the square of E2's gradient; `directional` E7 and E8.
    """
    if influence == "directional":
        if groups.direction is None:
            raise ValueError(
                f"{method}(groups) must have groups.direction for influence='directional'; got none. Give Groups a "
                "Direction, or choose influence: tabular."
            )
        found = groups.direction
        per_advantage, bonus, carried = found.tokens, found.bonus, found.carried
        record = groups.tokens_of(method)
    else:
        record = groups.tokens_of(method, "influence", "responsiveness")
        assert record.influence is not None
        assert record.responsiveness is not None
        per_advantage = record.influence
        bonus = record.responsiveness.sum((-3, -2, -1)) / record.tokens.clamp(min=1)
    if groups.denominators is None:
        denominators = record.tokens.clamp(min=1).to(groups.rewards.dtype)[..., None, None]
    else:
        denominators = groups.denominators
    tokens = groups.token_advantages * per_advantage / denominators[..., None]
    bonus = bonus.to(tokens)
    return Prediction(tokens, bonus, torch.as_tensor(carried).to(bonus).expand_as(bonus))


@dataclass(frozen=True)
class Predictive:
    """What the controllers share: prediction, estimates, the want.

    Args:
        influence: `tabular` or `directional`.
        gain: entropy change per unit of prediction; None learns it from the measured changes.
        fraction: share of the gap asked for in a step, in (0, 1].
        smoothing: weight of the entropy's estimate against a new batch, in [0, 1); 0 believes the batch, and learns no
            drift from it.
        dead_band: while the entropy to come is this near the aim, in half widths of the band, the batch is used whole.
        side: act on `both` sides, or only where batches are expected to leave entropy `below` or `above` the want.
        integral: share of the error added to the integral a step; 0 turns it off.
        memory: weight of earlier batches in what is expected of one, in [0, 1); 0 goes by the batch at hand.
        learning: of the gain, a `Gain` or its options.
    """

    influence: str = "tabular"
    gain: float | None = None
    fraction: float = 0.5
    smoothing: float = 0.85
    dead_band: float = 0.0
    side: str = "both"
    integral: float = 0.05
    memory: float = 0.9
    learning: Gain | Mapping[str, float] = field(default_factory=Gain)

    def __post_init__(self) -> None:
        if not isinstance(self.learning, Gain):
            object.__setattr__(self, "learning", Gain(**self.learning))
        name = type(self).__name__
        if self.influence not in ("tabular", "directional"):
            raise ValueError(f"{name}(influence={self.influence!r}) must be 'tabular' or 'directional'.")
        if self.side not in ("both", "below", "above"):
            raise ValueError(f"{name}(side={self.side!r}) must be 'both', 'below' or 'above'.")
        if self.gain is not None and not self.gain > 0:
            raise ValueError(f"{name}(gain={self.gain}) must be above 0, or None to learn it.")
        if not 0 < self.fraction <= 1:
            raise ValueError(f"{name}(fraction={self.fraction}) must be in (0, 1].")
        if not 0 <= self.memory < 1:
            raise ValueError(f"{name}(memory={self.memory}) must be in [0, 1).")
        if not (self.dead_band >= 0 and self.integral >= 0):
            raise ValueError(f"{name}(dead_band={self.dead_band}, integral={self.integral}) must not be negative.")
        Observer(self.smoothing)

    @property
    def gains(self) -> Gain:
        """How the gain is learnt."""
        assert isinstance(self.learning, Gain)
        return self.learning

    @property
    def needs(self) -> frozenset[str]:
        """What predicts, and the measured change where the gain is learnt."""
        predicts = {"direction"} if self.influence == "directional" else {"influence", "responsiveness"}
        return frozenset(predicts | ({"measured_change"} if self.gain is None else set()))

    def start(self) -> State:
        """Return the state before the first batch: the estimate, what momentum carries, and the gain's sums."""
        estimate = {"seen": 0.0, "entropy": 0.0, "drift": 0.0, "carried": 0.0, "integral": 0.0}
        return {**estimate, "expected": 0.0, "effect": 0.0, **self.gains.start()}

    def remembered(self, state: State, name: str, value: Tensor) -> Tensor:
        """Return the running mean of a value, this batch's included."""
        before = torch.as_tensor(state[name]).to(value)
        seen = torch.as_tensor(state["seen"]).to(value) > 0
        return torch.where(seen, self.memory * before + (1 - self.memory) * value, value)

    def line(self, state: State, like: Tensor) -> tuple[Tensor, Tensor]:
        """Return the gain in force and the offset beside it."""
        if self.gain is not None:
            return torch.full_like(like, self.gain), torch.zeros_like(like)
        return self.gains.line(state, like)

    def estimate(self, state: State, entropy: Tensor) -> Estimate:
        """Return the estimate once this batch's entropy is known; the first batch is believed."""
        predicted = Estimate(*(torch.as_tensor(state[name]).to(entropy) for name in ("entropy", "drift")))
        found = Observer(self.smoothing).corrected(predicted, entropy)
        seen = torch.as_tensor(state["seen"]).to(entropy) > 0
        return Estimate(torch.where(seen, found.entropy, entropy), torch.where(seen, found.drift, 0.0))

    def wanted(self, state: State, groups: Groups, prediction: Prediction) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the wanted sum of the prediction `[*R]`, and what it was made of."""
        total = prediction.total
        gain, offset = self.line(state, total)
        entropy = torch.as_tensor(groups.entropy).to(total).expand_as(total)
        estimate = self.estimate(state, entropy)
        drift = estimate.drift + offset
        to_come = estimate.entropy + gain * prediction.carried + drift * groups.response.lag
        error = groups.aim - to_come
        integral = torch.as_tensor(state["integral"]).to(total)
        want = (self.fraction * error + integral - drift) / gain
        expected = self.remembered(state, "expected", total)
        idle = error.abs() <= self.dead_band * (groups.band.high - groups.band.low) / 2
        idle &= torch.tensor(self.dead_band > 0)
        if self.side != "both":
            idle |= want <= expected if self.side == "below" else want >= expected
        want = torch.where(idle, total, want)
        now = groups.response.now
        info = {
            "gain": gain,
            "entropy_estimate": torch.as_tensor(estimate.entropy),
            "entropy_drift": torch.as_tensor(drift),
            "error": error,
            "wanted": gain * want,
            "uncontrolled": gain * total,
            "carried": gain * prediction.carried,
            "idle": idle.to(total),
            "expected_unit": expected,
            "effect_unit": self.remembered(state, "effect", prediction.bonus),
            "released_unit": (1 - groups.response.kept) * prediction.carried,
            "response_now": torch.full_like(total, now),
            "response_kept": torch.full_like(total, groups.response.kept),
        }
        return want, info

    def reported(
        self, info: dict[str, Tensor], unit: Tensor, weights: Tensor, saturated: Tensor, multiplier: Tensor
    ) -> dict[str, Tensor]:
        """Return what is logged of a decision; `weights` `[*R, n]` of those parts that have a prediction."""
        size = weights.sum(-1).square() / weights.square().sum(-1).clamp(min=1e-12) / weights.shape[-1]
        return {
            **info,
            "predicted_unit": unit,
            "predicted": info["gain"] * unit,
            "multiplier": multiplier,
            "saturated": saturated.to(unit),
            "effective_sample_size": size,
        }

    def step(self, state: State, observation: Observation) -> tuple[State, Mapping[str, Any]]:
        """Return the state with one more step seen: what was predicted of it and what it did."""
        info = {name: torch.as_tensor(value) for name, value in observation.info.items()}
        unit = info["predicted_unit"]
        entropy = torch.as_tensor(observation.entropy).to(unit).expand_as(unit)
        corrected = self.estimate(state, entropy)
        now, kept, released = (info[name] for name in ("response_now", "response_kept", "released_unit"))
        at_once = now * unit + released
        gain, _ = self.line(state, unit)
        sums = {name: state[name] for name in self.gains.start()}
        change = gain * at_once
        if observation.measured_change is not None:
            change = torch.as_tensor(observation.measured_change).to(unit).expand_as(unit)
            if self.gain is None:
                sums = self.gains.learn(sums, at_once, change)
        ahead = Observer(self.smoothing).advanced(corrected, change)
        carried = kept * torch.as_tensor(state["carried"]).to(unit) + (1 - now) * unit
        estimate = {"seen": 1.0, "entropy": ahead.entropy, "drift": ahead.drift, "carried": carried}
        frozen = (info["saturated"] > 0) | (info["idle"] > 0)
        integral = torch.as_tensor(state["integral"]).to(unit)
        estimate["integral"] = torch.where(frozen, integral, integral + self.integral * info["error"])
        means = {"expected": info["expected_unit"], "effect": info["effect_unit"]}
        return {**estimate, **means, **sums}, {}


@dataclass(frozen=True)
class Rejection(Predictive):
    """Accept each rollout with its own probability, such that the prediction of the accepted meets the want.

    `least_squares`: q_i = clip(1 + lambda s_i, 0, 1), the least sum of squared changes; many rollouts are at some risk.
    `fewest`: the largest sum of q_i; the most contrary rollouts go, one of them by chance, the rest stay.

    Args:
        influence: `tabular` or `directional`.
        gain: entropy change per unit of prediction; None learns it.
        fraction: share of the gap asked for in a step.
        smoothing: weight of the entropy's estimate against a new batch.
        dead_band: half widths of the band within which the batch is used whole.
        side: `both`, `below` or `above`.
        integral: share of the error added to the integral a step.
        memory: weight of earlier batches in what is expected of one.
        learning: of the gain.
        rule: `least_squares` or `fewest`.

    Source: ours, from E4 or E7; the paper's Algorithm 1 rejects by the advantage's sign alone.
    """

    rule: str = "least_squares"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.rule not in ("least_squares", "fewest"):
            raise ValueError(f"Rejection(rule={self.rule!r}) must be 'least_squares' or 'fewest'.")

    @property
    def needs(self) -> frozenset[str]:
        """As all, and draws."""
        return super().needs | {"uniforms"}

    def decide(self, state: State, groups: Groups) -> Filtered:
        """Return weights 0 or 1."""
        prediction = predict(groups, self.influence, state["carried"], "Rejection")
        want, info = self.wanted(state, groups, prediction)
        each = prediction.rollouts.flatten(-2)
        found = (
            least_squares_weights(each, want, 1.0) if self.rule == "least_squares" else fewest_rejections(each, want)
        ).unless(info["idle"] > 0, each)
        if groups.uniforms is None:
            raise ValueError("Rejection(groups) must have groups.uniforms; got none. Give Groups one draw a rollout.")
        accepted = (groups.uniforms.flatten(-2) < found.weights).to(each)
        unit = (accepted * each).sum(-1)
        info = self.reported(info, unit, accepted, found.saturated, found.multiplier)
        info["expected"] = info["gain"] * found.change
        return Filtered(accepted.unflatten(-1, groups.rewards.shape[-2:]), groups.advantages, info)


@dataclass(frozen=True)
class SoftWeights(Predictive):
    """Weigh rollouts, or tokens, by clip(1 + lambda s_i, 0, most): the least change of the weights that meets the want.

    Args:
        influence: `tabular` or `directional`.
        gain: entropy change per unit of prediction; None learns it.
        fraction: share of the gap asked for in a step.
        smoothing: weight of the entropy's estimate against a new batch.
        dead_band: half widths of the band within which the batch is used whole.
        side: `both`, `below` or `above`.
        integral: share of the error added to the integral a step.
        memory: weight of earlier batches in what is expected of one.
        learning: of the gain.
        most: the largest weight.
        level: `rollout`, or `token`: each token's own advantage is weighed.

    Source: ours, from E4 or E7.
    """

    most: float = 2.0
    level: str = "rollout"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.most >= 1:
            raise ValueError(f"SoftWeights(most={self.most}) must be at least 1.")
        if self.level not in ("rollout", "token"):
            raise ValueError(f"SoftWeights(level={self.level!r}) must be 'rollout' or 'token'.")

    def decide(self, state: State, groups: Groups) -> Filtered:
        """Return weights between 0 and `most`."""
        prediction = predict(groups, self.influence, state["carried"], "SoftWeights")
        want, info = self.wanted(state, groups, prediction)
        axes = 3 if self.level == "token" else 2
        parts = prediction.tokens if self.level == "token" else prediction.rollouts
        each = parts.flatten(-axes)
        found = least_squares_weights(each, want, self.most).unless(info["idle"] > 0, each)
        info = self.reported(info, found.change, found.weights, found.saturated, found.multiplier)
        weights = found.weights.unflatten(-1, parts.shape[-axes:])
        if self.level == "rollout":
            return Filtered(weights, groups.advantages, info)
        return Filtered(torch.ones_like(groups.rewards), groups.token_advantages * weights, info)


@dataclass(frozen=True)
class SolvedBonus(Predictive):
    """Keep every rollout, and solve each step for the coefficient of an entropy bonus that meets the want.

    coefficient = clip((wanted - expected) / effect of a unit bonus, least, most), both running means: an action on all
    tokens alike is for what batches have in common. Below 0 it lowers entropy.

    Args:
        influence: `tabular` or `directional`.
        gain: entropy change per unit of prediction; None learns it.
        fraction: share of the gap asked for in a step.
        smoothing: weight of the entropy's estimate against a new batch.
        dead_band: half widths of the band within which the batch is used whole.
        side: `both`, `below` or `above`.
        integral: share of the error added to the integral a step.
        memory: weight of earlier batches in what is expected of one.
        learning: of the gain.
        least: the smallest coefficient, nats^-1.
        most: the largest.

    Source: ours, from E4 and the square of E2's gradient, or E7.
    """

    least: float = 0.0
    most: float = 50.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (self.least <= 0 <= self.most and self.least < self.most):
            raise ValueError(f"SolvedBonus(least={self.least}, most={self.most}) must have least <= 0 <= most.")

    @property
    def needs(self) -> frozenset[str]:
        """As all, and the gradient of entropy."""
        return super().needs | {"entropy_gradient"}

    def decide(self, state: State, groups: Groups) -> Filtered:
        """Return all rollouts, and the coefficient."""
        prediction = predict(groups, self.influence, state["carried"], "SolvedBonus")
        want, info = self.wanted(state, groups, prediction)
        effect = info["effect_unit"]
        asked = (want - info["expected_unit"]) / effect.clamp(min=1e-12)
        bonus = torch.where((effect > 0) & (info["idle"] == 0), asked.clamp(self.least, self.most), 0.0)
        whole = torch.ones_like(groups.rewards)
        info = self.reported(info, prediction.total + bonus * effect, whole.flatten(-2), bonus != asked, bonus)
        return Filtered(whole, groups.advantages, {**info, "bonus": bonus}, bonus)
