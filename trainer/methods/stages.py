"""The stages of one RL step, in order, each a typed signature that every method follows.

    rewards [P, G] -> advantages [P, G] -> shaping (one value a token, or still one a rollout) -> filter (weights
    [P, G]) -> token weights [B, T] -> clip rule -> loss terms -> sum over tokens / named denominator; afterwards the
    `step(state, observation)` of every stage that has memory.

Letters and records: `trainer.methods.records`. Every axis may be preceded by axes of repeats R, runs side by side that
never mix: the simulations use them. No method modifies its inputs.

A stage is any callable of the right signature: a function, or a frozen dataclass with `__call__` when it has
hyper-parameters, or a `Controller` when it has memory. What a stage needs beyond the ordinary it names in an attribute
`needs`, a set of the names in `NEEDS`. Users plug in their own by `module:name` wherever a config takes a method's
name. A filter that keeps each group's two best and two worst samples while entropy is inside its band, in a file
`mine.py` on the Python path:

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

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar, runtime_checkable

from jaxtyping import Float, Int
from torch import Tensor

from trainer.methods.records import (
    Band,
    Clipped,
    Direction,
    Filtered,
    Groups,
    Mean,
    Observation,
    Response,
    TokenBatch,
    TokenRecord,
    masked_mean,
    per_rollout,
    per_token,
)

__all__ = [
    "NEEDS",
    "AdvantageEstimator",
    "Band",
    "ClipRule",
    "Clipped",
    "Controller",
    "Denominator",
    "Direction",
    "Filtered",
    "Groups",
    "LossTerm",
    "Mean",
    "Observation",
    "Response",
    "RewardFunction",
    "RolloutFilter",
    "Schedule",
    "Shaping",
    "State",
    "Stateless",
    "TokenBatch",
    "TokenRecord",
    "TokenWeight",
    "as_controller",
    "masked_mean",
    "needs_of",
    "per_rollout",
    "per_token",
]

State = dict[str, Any]

# What a stage may ask of its caller, beyond rewards, advantages, masks and log-probabilities.
NEEDS = {
    "influence": "TokenRecord.influence of the sampled tokens",
    "responsiveness": "TokenRecord.responsiveness of the sampled tokens",
    "entropy": "TokenBatch.entropy of the policy being updated",
    "entropy_gradient": "the same with its gradient",
    "reference": "TokenBatch.reference_log_prob",
    "logits": "TokenBatch.logits",
    "noise": "TokenBatch.noise",
    "mini_batch": "the whole mini-batch's statistics: one more forward where it is split into micro-batches",
    "measured_change": "Observation.measured_change",
    "direction": "Groups.direction",
    "uniforms": "Groups.uniforms",
}


@runtime_checkable
class RewardFunction(Protocol):
    """Scores completions; extra columns of the data set arrive as lists of the same length (TRL's signature).

    Prompts are as in the data: text, or conversations. Completions are text. None says that the reward does not apply
    to a completion.
    """

    def __call__(
        self, prompts: list[Any], completions: list[str], completion_ids: list[list[int]], **columns: Any
    ) -> Sequence[float | None]: ...


@runtime_checkable
class AdvantageEstimator(Protocol):
    """Rewards `[*R, P, G]` -> advantages `[*R, P, G]`, or one value a token, `[*R, P, G, T]`."""

    def __call__(self, rewards: Float[Tensor, "*R P G"]) -> Float[Tensor, "..."]: ...


@runtime_checkable
class Shaping(Protocol):
    """Advantages from the estimator's and what was recorded of the tokens: `[*R, P, G]` or `[*R, P, G, T]`."""

    def __call__(self, groups: Groups) -> Float[Tensor, "..."]: ...


@runtime_checkable
class RolloutFilter(Protocol):
    """Which rollouts the update may use, and with what advantage."""

    def __call__(self, groups: Groups) -> Filtered: ...


@runtime_checkable
class TokenWeight(Protocol):
    """A weight `[*R, B, T]` for each token's objective; 0 masks it out. Carries no gradient."""

    def __call__(self, tokens: TokenBatch) -> Float[Tensor, "*R B T"]: ...


@runtime_checkable
class ClipRule(Protocol):
    """The surrogate objective of each token from its importance ratio and advantage."""

    def __call__(self, tokens: TokenBatch) -> Clipped: ...


@runtime_checkable
class LossTerm(Protocol):
    """A term `[*R, B, T]` added to the loss, its coefficient included."""

    def __call__(self, tokens: TokenBatch) -> Float[Tensor, "*R B T"]: ...


@runtime_checkable
class Denominator(Protocol):
    """What the loss is a mean over, from completion lengths `[*R, B]` and filter weights `[*R, B]` of a mini-batch."""

    def __call__(self, lengths: Int[Tensor, "*R B"], weights: Float[Tensor, "*R B"]) -> Mean: ...


@runtime_checkable
class Schedule(Protocol):
    """Progress u = step / steps in [0, 1] -> the band, in nats, or in units of the base model's entropy."""

    def __call__(self, progress: float) -> Band: ...


Decision = TypeVar("Decision", covariant=True)


@runtime_checkable
class Controller(Protocol[Decision]):
    """A stage with memory: `decide` before the update, in place of the stage's call, and `step` after it.

    The state is a plain dict of numbers and tensors, never modified in place, and travels with checkpoints. A number
    may become a tensor `[*R]` once the controller has seen repeats.
    """

    def start(self) -> State: ...

    def decide(self, state: State, batch: Any) -> Decision: ...

    def step(self, state: State, observation: Observation) -> tuple[State, Mapping[str, Any]]: ...


@dataclass(frozen=True)
class Stateless:
    """A stage as a controller without memory: how the loop runs every plain stage.

    Args:
        stage: the plain stage.
    """

    stage: Any

    @property
    def needs(self) -> frozenset[str]:
        """What the stage needs."""
        return needs_of(self.stage)

    @property
    def temperatures(self) -> tuple[float, ...]:
        """Temperatures at which the stage needs log-probabilities."""
        return tuple(getattr(self.stage, "temperatures", ()))

    def start(self) -> State:
        """Return the empty state."""
        return {}

    def decide(self, state: State, batch: Any) -> Any:
        """Return the stage's decision."""
        return self.stage(batch)

    def step(self, state: State, observation: Observation) -> tuple[State, Mapping[str, Any]]:
        """Return the state unchanged."""
        return state, {}


def as_controller(stage: Any) -> Controller[Any]:
    """Return a stage with memory as it is, and a plain one with an empty state."""
    return stage if isinstance(stage, Controller) else Stateless(stage)


def needs_of(stage: Any) -> frozenset[str]:
    """Return what a stage says it needs.

    Raises:
        ValueError: a name that no caller knows.
    """
    needs = frozenset(getattr(stage, "needs", ()))
    unknown = sorted(needs - NEEDS.keys())
    if unknown:
        raise ValueError(f"{type(stage).__name__}.needs must be of {sorted(NEEDS)}; got {unknown}.")
    return needs
