"""The stages of one RL step, in order, each a typed signature that every method follows.

    rewards [P, G] -> advantages [P, G] -> filter (weights [P, G]) -> token weights [B, T] -> clip rule -> loss terms
    -> sum over tokens / named denominator;  afterwards the controller's step(state, observation).

Letters: P prompts, G samples a prompt, B = P G rows (row b is sample b % G of prompt b // G), T completion tokens.
Masks: True counts. Entropies in nats per token. No method modifies its inputs.

A stage is any callable of the right signature: a function, or a frozen dataclass with `__call__` when it has
hyper-parameters. Users plug in their own by `module:name` wherever a config takes a method's name. A filter that keeps
each group's two best and two worst samples while entropy is inside its band, in a file `mine.py` on the Python path:

>>> import torch
>>> def extremes(groups: Groups) -> Filtered:
...     if groups.band.side(groups.entropy) != 0:
...         return Filtered.all(groups)
...     order = groups.advantages.argsort(dim=1, stable=True)
...     keep = torch.zeros_like(groups.advantages).scatter(1, torch.cat([order[:, :2], order[:, -2:]], 1), 1.0)
...     return Filtered(weights=keep, advantages=groups.advantages, info={"extremes": keep.mean().item()})
>>> rewards = torch.tensor([[0.0, 1.0, 0.0, 0.0, 1.0]])
>>> extremes(Groups(rewards, rewards - 0.4, entropy=0.5, band=Band(0.4, 0.6), step=0)).weights
tensor([[1., 1., 1., 0., 1.]])

and then `entrocraft train --algorithm.filter mine:extremes`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


@dataclass(frozen=True)
class Band:
    """The range in which entropy is wanted, in nats per token.

    Args:
        low: below it, more entropy is wanted.
        high: above it, less entropy is wanted.
    """

    low: float
    high: float

    def __post_init__(self) -> None:
        if not self.low <= self.high:
            raise ValueError(f"Band(low={self.low}, high={self.high}) must have low <= high. Swap the two.")

    @property
    def centre(self) -> float:
        """The middle of the band, nats."""
        return (self.low + self.high) / 2

    def side(self, entropy: float) -> int:
        """Return m = 1[entropy > high] - 1[entropy < low]: 1 above the band, -1 below, 0 inside."""
        return int(entropy > self.high) - int(entropy < self.low)


def per_rollout(advantages: Float[Tensor, "P G *T"]) -> Float[Tensor, "P G"]:
    """Return one advantage a rollout: where tokens have their own, the mean over T, which has the sign of their sum.

    Tokens after a completion's end must hold 0.
    """
    return advantages if advantages.dim() == 2 else advantages.mean(2)


@dataclass(frozen=True)
class Groups:
    """What a filter sees of a batch of rollouts.

    Args:
        rewards: `[P, G]`, as the advantage estimator got them.
        advantages: `[P, G]`, or one value a token, `[P, G, T]`.
        entropy: the batch's entropy, nats per token, before the update.
        band: where it is wanted.
        step: index of the step, from 0.
        influence: `[P, G]`, sum over a rollout's tokens of N - S_k: advantage times it is the rollout's first-order
            entropy change if every context owned its logits (E4), per unit of step; None where theory is off.
    """

    rewards: Float[Tensor, "P G"]
    advantages: Float[Tensor, "P G *T"]
    entropy: float
    band: Band
    step: int
    influence: Float[Tensor, "P G"] | None = None

    @property
    def rollout_advantages(self) -> Float[Tensor, "P G"]:
        """One advantage a rollout: the mean over its tokens where they have their own."""
        return per_rollout(self.advantages)


@dataclass(frozen=True)
class Filtered:
    """What a filter decides.

    Args:
        weights: `[P, G]`, 0 rejects a rollout, 1 accepts it, other positive values weigh it.
        advantages: `[P, G]` or `[P, G, T]`, as given or replaced.
        info: numbers for the log.
    """

    weights: Float[Tensor, "P G"] | Bool[Tensor, "P G"]
    advantages: Float[Tensor, "P G *T"]
    info: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def all(cls, groups: Groups) -> "Filtered":
        """Accept every rollout as it is."""
        return cls(weights=torch.ones_like(groups.rewards), advantages=groups.advantages)

    def checked(self, groups: Groups) -> "Filtered":
        """Return this with weights and info as numbers.

        Raises:
            ValueError: weights of another shape than `[P, G]`, negative or not finite, or advantages that do not fit.
        """
        fits = self.weights.shape == groups.rewards.shape == self.advantages.shape[:2]
        if not fits or not bool((self.weights >= 0).all()) or not bool(self.advantages.isfinite().all()):
            raise ValueError(
                f"a filter must return weights [P, G] = {list(groups.rewards.shape)} that are not negative, and finite "
                f"advantages [P, G] or [P, G, T]; got {list(self.weights.shape)} and {list(self.advantages.shape)}, "
                f"least weight {float(self.weights.min()):.3g}. Mend algorithm.filter or algorithm.advantage."
            )
        info = {name: float(value) for name, value in self.info.items()}
        return Filtered(self.weights.to(groups.rewards.dtype), self.advantages, info)


@dataclass(frozen=True)
class TokenBatch:
    """What token weights, clip rules and loss terms see: completion tokens of some rows, every field `[B, T]`.

    Args:
        log_prob: log-probability under the policy being updated, nats, with gradient; 0 outside the mask.
        old_log_prob: log-probability under the policy that sampled, nats.
        advantages: one value a token (constant over a row for outcome rewards), filter weights included.
        mask: True on completion tokens, the end token included.
        entropy: entropy of the policy being updated at each token, nats; with gradient only where a loss term asks.
        reference_log_prob: log-probability under the frozen reference policy; None without a KL term.
    """

    log_prob: Float[Tensor, "B T"]
    old_log_prob: Float[Tensor, "B T"]
    advantages: Float[Tensor, "B T"]
    mask: Bool[Tensor, "B T"]
    entropy: Float[Tensor, "B T"]
    reference_log_prob: Float[Tensor, "B T"] | None = None


@dataclass(frozen=True)
class Clipped:
    """What a clip rule returns, every field `[B, T]`.

    Args:
        objective: the surrogate to maximise, per token.
        low: tokens whose gradient the lower bound removed.
        high: tokens whose gradient the upper bound removed.
    """

    objective: Float[Tensor, "B T"]
    low: Bool[Tensor, "B T"]
    high: Bool[Tensor, "B T"]


@dataclass(frozen=True)
class Mean:
    """What a mini-batch's loss is a mean over.

    Args:
        rows: `[B]`, the rows that count; further loss terms act on all of them, rejected or not.
        tokens: the denominator: the sum over their tokens is divided by it.
    """

    rows: Bool[Tensor, " B"]
    tokens: float


@dataclass(frozen=True)
class Observation:
    """What a controller learns from a finished step.

    Args:
        step: index of the step, from 0.
        entropy: the batch's entropy before the update, nats per token.
        band: the band of that step.
        measured_change: entropy change on fixed contexts, nats per token; None where it was not measured.
        predicted_change: its first-order prediction, nats per token; None where there is none.
    """

    step: int
    entropy: float
    band: Band
    measured_change: float | None = None
    predicted_change: float | None = None


@runtime_checkable
class RewardFunction(Protocol):
    """Scores completions; extra columns of the data set arrive as lists of the same length (TRL's signature)."""

    def __call__(
        self, prompts: list[str], completions: list[str], completion_ids: list[list[int]], **columns: Any
    ) -> list[float]: ...


@runtime_checkable
class AdvantageEstimator(Protocol):
    """Rewards `[P, G]` -> advantages `[P, G]`, or one value a token, `[P, G, T]`."""

    def __call__(self, rewards: Float[Tensor, "P G"]) -> Float[Tensor, "P G *T"]: ...


@runtime_checkable
class RolloutFilter(Protocol):
    """Which rollouts the update may use, and with what advantage."""

    def __call__(self, groups: Groups) -> Filtered: ...


@runtime_checkable
class TokenWeight(Protocol):
    """A weight `[B, T]` for each token's objective; 0 masks it out. Carries no gradient."""

    def __call__(self, tokens: TokenBatch) -> Float[Tensor, "B T"]: ...


@runtime_checkable
class ClipRule(Protocol):
    """The surrogate objective of each token from its importance ratio and advantage."""

    def __call__(self, tokens: TokenBatch) -> Clipped: ...


@runtime_checkable
class LossTerm(Protocol):
    """A term `[B, T]` added to the loss, its coefficient included.

    `uses_entropy` says that it differentiates `TokenBatch.entropy`, `uses_reference` that it needs the reference.
    """

    @property
    def uses_entropy(self) -> bool: ...

    @property
    def uses_reference(self) -> bool: ...

    def __call__(self, tokens: TokenBatch) -> Float[Tensor, "B T"]: ...


@runtime_checkable
class Denominator(Protocol):
    """What the loss is a mean over, from completion lengths `[B]` and filter weights `[B]` of a mini-batch."""

    def __call__(self, lengths: Int[Tensor, " B"], weights: Float[Tensor, " B"]) -> "Mean": ...


@runtime_checkable
class Schedule(Protocol):
    """Progress u = step / steps in [0, 1] -> the band, in nats, or in units of the base model's entropy."""

    def __call__(self, progress: float) -> Band: ...


@runtime_checkable
class Controller(Protocol):
    """A filter with memory: `decide` before the update, `step` after it.

    The state is a plain dict of numbers and tensors, never modified in place, and travels with checkpoints.
    """

    def start(self) -> dict[str, Any]: ...

    def decide(self, state: dict[str, Any], groups: Groups) -> Filtered: ...

    def step(self, state: dict[str, Any], observation: Observation) -> tuple[dict[str, Any], Mapping[str, float]]: ...


@dataclass(frozen=True)
class Stateless:
    """A rollout filter as a controller without memory: how the loop runs every plain filter.

    Args:
        filter: the rollout filter.
    """

    filter: RolloutFilter

    def start(self) -> dict[str, Any]:
        """Return the empty state."""
        return {}

    def decide(self, state: dict[str, Any], groups: Groups) -> Filtered:
        """Return the filter's decision."""
        return self.filter(groups)

    def step(self, state: dict[str, Any], observation: Observation) -> tuple[dict[str, Any], Mapping[str, float]]:
        """Return the state unchanged."""
        return state, {}
