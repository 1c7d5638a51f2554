"""One method a stage, and the path through them that the trainer and the simulations share."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from trainer.methods.stages import (
    AdvantageEstimator,
    Band,
    Clipped,
    Controller,
    Denominator,
    Filtered,
    Groups,
    Mean,
    Observation,
    State,
    TokenBatch,
    TokenRecord,
    as_controller,
    needs_of,
    per_token,
)

States = dict[str, State]


@dataclass(frozen=True)
class Surrogate:
    """What the update minimises.

    Args:
        loss: `[*R, B, T]`, per token, 0 outside the mask.
        clipped: what the clip rule returned.
    """

    loss: Float[Tensor, "*R B T"]
    clipped: Clipped


@dataclass(frozen=True)
class Algorithm:
    """One method for each stage; the states of those with memory travel beside it.

    Args:
        advantage: rewards to advantages.
        filter: the rollout filter.
        clip: the surrogate objective.
        denominator: what the sum over tokens is divided by.
        shaping: advantages reshaped with what was recorded of the tokens, or None.
        token_weight: a weight for each token's objective, or None.
        terms: further loss terms.
    """

    advantage: AdvantageEstimator
    filter: Controller[Filtered]
    clip: Controller[Clipped]
    denominator: Denominator
    shaping: Controller[Tensor] | None = None
    token_weight: Controller[Tensor] | None = None
    terms: tuple[Controller[Tensor], ...] = ()

    @classmethod
    def of(
        cls,
        advantage: AdvantageEstimator,
        *,
        filter: Any,
        clip: Any,
        denominator: Denominator,
        shaping: Any = None,
        token_weight: Any = None,
        terms: Sequence[Any] = (),
    ) -> "Algorithm":
        """Return the algorithm of plain stages or controllers, the plain ones with an empty state."""
        return cls(
            advantage=advantage,
            filter=as_controller(filter),
            clip=as_controller(clip),
            denominator=denominator,
            shaping=None if shaping is None else as_controller(shaping),
            token_weight=None if token_weight is None else as_controller(token_weight),
            terms=tuple(as_controller(term) for term in terms),
        )

    @cached_property
    def controllers(self) -> dict[str, Controller[Any]]:
        """The stages that may have memory, by the name of their state."""
        named = {"shaping": self.shaping, "filter": self.filter, "token_weight": self.token_weight, "clip": self.clip}
        named |= {f"terms.{index}": term for index, term in enumerate(self.terms)}
        return {name: stage for name, stage in named.items() if stage is not None}

    @cached_property
    def needs(self) -> frozenset[str]:
        """What the stages need of their caller, of `stages.NEEDS`."""
        return frozenset().union(*(needs_of(stage) for stage in self.controllers.values()))

    @cached_property
    def temperatures(self) -> tuple[float, ...]:
        """Temperatures at which a stage needs the sampled tokens' log-probability."""
        asked = (getattr(stage, "temperatures", ()) for stage in self.controllers.values())
        return tuple(sorted({value for values in asked for value in values}))

    def start(self) -> States:
        """Return every stage's first state."""
        return {name: dict(stage.start()) for name, stage in self.controllers.items()}

    def see(
        self,
        states: States,
        rewards: Float[Tensor, "*R P G"],
        entropy: Float[Tensor, "*R"] | float,
        band: Band,
        step: int,
        record: TokenRecord | None,
        **more: Any,
    ) -> Groups:
        """Return what the filter is to see of a batch.

        Args:
            states: of the stages.
            rewards: of the rollouts.
            entropy: the batch's, nats per token.
            band: where it is wanted.
            step: index of the step, from 0.
            record: what was recorded of the tokens.
            more: further fields of `Groups`.
        """
        if record is not None:
            lengths = record.lengths.flatten(-2)
            tokens = self.denominator(lengths, torch.ones_like(rewards).flatten(-2)).tokens
            more = {**more, "denominators": tokens.unflatten(-1, rewards.shape[-2:])}
        groups = Groups(rewards, self.advantage(rewards), entropy, band, step, record, **more)
        if self.shaping is not None:
            groups = replace(groups, advantages=self.shaping.decide(states["shaping"], groups))
        return groups

    def decide(self, states: States, groups: Groups) -> Filtered:
        """Return what the filter decides of a batch."""
        return self.filter.decide(states["filter"], groups).checked(groups)

    def surrogate(self, states: States, tokens: TokenBatch, bonus: Tensor | None = None) -> Surrogate:
        """Return the loss of each token: -objective * weight + terms - bonus * entropy.

        Args:
            states: of the stages.
            tokens: some rows.
            bonus: `Filtered.bonus`.
        """
        clipped = self.clip.decide(states["clip"], tokens)
        objective = clipped.objective
        if self.token_weight is not None:
            objective = objective * self.token_weight.decide(states["token_weight"], tokens)
        loss = -objective
        for index, term in enumerate(self.terms):
            loss = loss + term.decide(states[f"terms.{index}"], tokens)
        if bonus is not None:
            loss = loss - bonus[..., None, None].to(loss) * tokens.entropy
        return Surrogate(loss.masked_fill(~tokens.mask, 0.0), clipped)

    def carries_gradient(
        self, advantages: Float[Tensor, "*R B T"], mean: Mean, bonus: Tensor | None = None
    ) -> Bool[Tensor, "*R B"]:
        """Return which rows the loss differentiates: those with an advantage; with further terms, all that count."""
        active = (advantages != 0).any(-1)
        return active | mean.rows if self.terms or bonus is not None else active

    def step(self, states: States, observation: Observation) -> tuple[States, dict[str, Any]]:
        """Return the states after a finished step, and what the stages report."""
        after: States = {}
        info: dict[str, Any] = {}
        for name, stage in self.controllers.items():
            after[name], reported = stage.step(states[name], observation)
            info.update(reported)
        return after, info


def mean_loss(loss: Float[Tensor, "*R B T"], mean: Mean) -> Float[Tensor, "*R"]:
    """Return the sum over rows of (sum over the row's tokens) / its denominator."""
    return (loss.sum(-1) / mean.tokens.to(loss)).sum(-1)


def weighted_advantages(filtered: Filtered, mask: Bool[Tensor, "*R P G T"]) -> Float[Tensor, "*R B T"]:
    """Return the advantage of each token times its rollout's weight, 0 outside the mask, prompts and samples as rows.

    Raises:
        ValueError: advantages of another number of tokens than the mask's.
    """
    advantages = per_token(filtered.advantages.to(mask.device), mask) * filtered.weights.to(mask.device)[..., None]
    return advantages.flatten(-3, -2)


def mini_batch_rows(count: int, group_size: int, mini_batches: int) -> Iterator[Tensor]:
    """Yield the row indices of each mini-batch: consecutive whole groups, as evenly as they divide."""
    for groups in torch.arange(count // group_size).tensor_split(mini_batches):
        yield (groups[:, None] * group_size + torch.arange(group_size)).flatten()


def numbers(info: Mapping[str, Any]) -> dict[str, float]:
    """Return what stages report as plain numbers, for a run without repeats."""
    return {name: float(value) for name, value in info.items()}
