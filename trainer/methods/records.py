"""What the stages of a step hand to each other: frozen records of annotated tensors.

Letters: R repeats (runs side by side, any number of leading axes; none in the trainer), P prompts, G samples a prompt,
B = P G rows (row b is sample b % G of prompt b // G), T completion tokens, V vocabulary. Masks: True counts. Entropies
in nats per token. Nothing here is modified by a method.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

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

    def side(self, entropy: Float[Tensor, "*R"] | float) -> Int[Tensor, "*R"]:
        """Return m = 1[entropy > high] - 1[entropy < low]: 1 above the band, -1 below, 0 inside.

        >>> Band(0.4, 0.6).side(0.7)
        tensor(1)
        """
        entropy = torch.as_tensor(entropy)
        return (entropy > self.high).long() - (entropy < self.low).long()


@dataclass(frozen=True)
class TokenRecord:
    """What was recorded of each sampled token under the policy that sampled it; 0 outside the mask.

    Args:
        mask: True on completion tokens, the end token included.
        log_prob: log-probability of the sampled token, nats.
        entropy: entropy of the distribution it was drawn from, nats.
        influence: N - S_k: the context's entropy change per unit of step on its logits, first order (E4); None where
            it was not recorded.
        responsiveness: sum_i S_i^2 = |grad_z H|^2: what a unit step of an entropy bonus adds; None as above.
        tempered: by temperature, the sampled token's log-probability under softmax(logits / temperature).
    """

    mask: Bool[Tensor, "*R P G T"]
    log_prob: Float[Tensor, "*R P G T"]
    entropy: Float[Tensor, "*R P G T"]
    influence: Float[Tensor, "*R P G T"] | None = None
    responsiveness: Float[Tensor, "*R P G T"] | None = None
    tempered: Mapping[float, Float[Tensor, "*R P G T"]] = field(default_factory=dict)

    def to(self, device: torch.device | str) -> "TokenRecord":
        """Return the record on a device."""

        def moved(value: Any) -> Any:
            return value.to(device) if isinstance(value, Tensor) else value

        tensors = {item.name: moved(getattr(self, item.name)) for item in fields(self)}
        return TokenRecord(**{**tensors, "tempered": {key: moved(value) for key, value in self.tempered.items()}})

    @property
    def lengths(self) -> Int[Tensor, "*R P G"]:
        """Completion tokens of each rollout."""
        return self.mask.sum(-1)

    @property
    def tokens(self) -> Int[Tensor, "*R"]:
        """Completion tokens of the batch."""
        return self.mask.sum((-1, -2, -3))


@dataclass(frozen=True)
class Direction:
    """How the batch's update moves entropy through the parameters that all contexts share, first order, in nats.

    With u = P grad H, P the optimiser's preconditioner, all times the learning rate.

    Args:
        tokens: <grad log pi of the sampled token, u>: what a token of advantage 1 adds to the entropy once its gradient
            has worked itself through momentum, times its row's denominator; 0 where no advantage needs it.
        bonus: <grad H, u>, likewise of an entropy bonus with coefficient 1.
        carried: what gradients of earlier batches, held in momentum, will still add.
    """

    tokens: Float[Tensor, "*R P G T"]
    bonus: Float[Tensor, "*R"]
    carried: Float[Tensor, "*R"]


@dataclass(frozen=True)
class Response:
    """How fast the optimiser answers a batch's gradient; plain gradient descent at once.

    Args:
        now: share of a batch's effect that comes with its own update; the rest is carried in momentum.
        kept: share of what is carried that is still carried after an update.
    """

    now: float = 1.0
    kept: float = 0.0

    @property
    def lag(self) -> float:
        """Effect carried in the steady state, in units of one batch's."""
        return (1 - self.now) / (1 - self.kept)

    @classmethod
    def of_momentum(cls, decay: float, updates: int) -> "Response":
        """Return the response of gradients averaged with this decay, over so many optimiser steps a batch.

        Of the gradient of step j of n, sum_{i <= n - j} (1 - d) d^i = 1 - d^{n - j + 1} acts within the batch.

        >>> Response.of_momentum(0.5, updates=1)
        Response(now=0.5, kept=0.5)
        """
        shares = [1 - decay**left for left in range(1, updates + 1)]
        return cls(sum(shares) / updates, decay**updates)


def per_rollout(advantages: Float[Tensor, "..."], rewards: Float[Tensor, "*R P G"]) -> Float[Tensor, "*R P G"]:
    """Return one advantage a rollout: where tokens have their own, the mean over T, which has the sign of their sum.

    Tokens after a completion's end must hold 0.
    """
    return advantages if advantages.dim() == rewards.dim() else advantages.mean(-1)


def per_token(advantages: Float[Tensor, "..."], mask: Bool[Tensor, "*R P G T"]) -> Float[Tensor, "*R P G T"]:
    """Return one advantage a token, 0 outside the mask.

    Raises:
        ValueError: advantages of another number of tokens than the mask's.
    """
    if advantages.dim() < mask.dim():
        advantages = advantages.unsqueeze(-1).expand(mask.shape)
    if advantages.shape != mask.shape:
        raise ValueError(
            f"per_token(advantages) must have T = {mask.shape[-1]} tokens; got {advantages.shape[-1]}. "
            "Return [P, G], or [P, G, T] as wide as the longest completion."
        )
    return advantages.masked_fill(~mask, 0.0)


@dataclass(frozen=True)
class Groups:
    """What shaping and filters see of a batch of rollouts.

    Args:
        rewards: as the advantage estimator got them.
        advantages: `[*R, P, G]`, or one value a token, `[*R, P, G, T]`.
        entropy: the batch's entropy, nats per token, before the update; a number, or `[*R]`.
        band: where it is wanted.
        step: index of the step, from 0.
        record: what was recorded of the tokens; None where a caller has only rewards and advantages.
        next_band: where the next batch's entropy, the first that shows this update, is wanted; None takes `band`.
        denominators: of each rollout in the loss, as if all were accepted; None for the batch's tokens.
        response: of the optimiser.
        direction: the update's effect through shared parameters, where a stage needs `direction`.
        uniforms: in [0, 1), one a rollout, where a stage needs `uniforms`.
    """

    rewards: Float[Tensor, "*R P G"]
    advantages: Float[Tensor, "..."]
    entropy: Float[Tensor, "*R"] | float
    band: Band
    step: int
    record: TokenRecord | None = None
    next_band: Band | None = None
    denominators: Float[Tensor, "*R P G"] | None = None
    response: Response = Response()
    direction: Direction | None = None
    uniforms: Float[Tensor, "*R P G"] | None = None

    @classmethod
    def of_rewards(
        cls,
        rewards: Float[Tensor, "*R P G"],
        record: TokenRecord | None = None,
        entropy: Float[Tensor, "*R"] | float = 0.5,
    ) -> "Groups":
        """Return a batch whose advantages are its rewards, inside a band of 0.4 to 0.6: to try a method on."""
        return cls(rewards, rewards, entropy, Band(0.4, 0.6), step=0, record=record)

    @property
    def rollout_advantages(self) -> Float[Tensor, "*R P G"]:
        """One advantage a rollout: the mean over its tokens where they have their own."""
        return per_rollout(self.advantages, self.rewards)

    @property
    def token_advantages(self) -> Float[Tensor, "*R P G T"]:
        """One advantage a token, 0 outside the mask."""
        return per_token(self.advantages, self.tokens_of("token_advantages").mask)

    @property
    def aim(self) -> float:
        """Where this update should bring entropy: the centre of the next step's band, nats per token.

        >>> rewards = torch.zeros(1, 2)
        >>> Groups(rewards, rewards, 0.5, Band(0.4, 0.6), step=0, next_band=Band(0.25, 0.5)).aim
        0.375
        """
        return (self.band if self.next_band is None else self.next_band).centre

    @property
    def side(self) -> Int[Tensor, "*R 1 1"]:
        """The band's side, with axes that broadcast over prompts and samples."""
        return self.band.side(self.entropy)[..., None, None].to(self.rewards.device)

    def tokens_of(self, method: str, *needed: str) -> TokenRecord:
        """Return the token record, with the statistics that a method needs.

        Raises:
            ValueError: nothing was recorded, or not what the method needs.
        """
        missing = [name for name in needed if self.record is not None and getattr(self.record, name) is None]
        if self.record is None or missing:
            statistics = f" with {', '.join(missing)}" if missing else ""
            raise ValueError(
                f"{method}(groups) must have groups.record{statistics}; got none. "
                "Give Groups a TokenRecord of the rollouts."
            )
        return self.record


@dataclass(frozen=True)
class Filtered:
    """What a filter decides.

    Args:
        weights: `[*R, P, G]`, 0 rejects a rollout, 1 accepts it, other positive values weigh it.
        advantages: `[*R, P, G]` or `[*R, P, G, T]`, as given or replaced.
        info: numbers, or one a repeat, for the log and for the controller's own `step`.
        bonus: coefficient of an entropy bonus for this step, nats^-1, a number or `[*R]`; None for none.
    """

    weights: Float[Tensor, "*R P G"] | Bool[Tensor, "*R P G"]
    advantages: Float[Tensor, "..."]
    info: Mapping[str, Any] = field(default_factory=dict)
    bonus: Float[Tensor, "*R"] | None = None

    @classmethod
    def all(cls, groups: Groups) -> "Filtered":
        """Accept every rollout as it is."""
        return cls(weights=torch.ones_like(groups.rewards), advantages=groups.advantages)

    def checked(self, groups: Groups) -> "Filtered":
        """Return this with weights as numbers and info as tensors.

        Raises:
            ValueError: weights of another shape than `[*R, P, G]`, negative or not finite, or advantages that do not
                fit.
        """
        shape = groups.rewards.shape
        fits = self.weights.shape == shape == self.advantages.shape[: len(shape)]
        if not fits or not bool((self.weights >= 0).all()) or not bool(self.advantages.isfinite().all()):
            raise ValueError(
                f"a filter must return weights [P, G] = {list(shape)} that are not negative, and finite "
                f"advantages [P, G] or [P, G, T]; got {list(self.weights.shape)} and {list(self.advantages.shape)}, "
                f"least weight {float(self.weights.min()):.3g}. Mend algorithm.filter, shaping or advantage."
            )
        return replace(self, weights=self.weights.to(groups.rewards.dtype))


@dataclass(frozen=True)
class TokenBatch:
    """What token weights, clip rules and loss terms see: completion tokens of some rows, fields `[*R, B, T]`.

    Args:
        log_prob: log-probability under the policy being updated, nats, with gradient; 0 outside the mask.
        old_log_prob: log-probability under the policy that sampled, nats.
        advantages: one value a token (constant over a row for outcome rewards), filter weights included.
        mask: True on completion tokens, the end token included.
        entropy: entropy at each token, nats: of the policy being updated where a stage needs `entropy` or, with its
            gradient, `entropy_gradient`; elsewhere a caller may give that of the policy that sampled.
        reference_log_prob: log-probability under the frozen reference policy, where a stage needs `reference`.
        logits: `[*R, B, T, V]` of the policy being updated, divided by the temperature, where a stage needs `logits`.
        noise: uniforms in [0, 1), where a stage needs `noise`.
        whole: the whole mini-batch without gradient, where a stage needs `mini_batch` and these are some of its rows.
        rows: `[b]`, which of its rows these are.
    """

    log_prob: Float[Tensor, "*R B T"]
    old_log_prob: Float[Tensor, "*R B T"]
    advantages: Float[Tensor, "*R B T"]
    mask: Bool[Tensor, "*R B T"]
    entropy: Float[Tensor, "*R B T"]
    reference_log_prob: Float[Tensor, "*R B T"] | None = None
    logits: Float[Tensor, "*R B T V"] | None = None
    noise: Float[Tensor, "*R B T"] | None = None
    whole: "TokenBatch | None" = None
    rows: Int[Tensor, " b"] | None = None

    @property
    def log_ratio(self) -> Float[Tensor, "*R B T"]:
        """log(pi / pi_sampler) of each token."""
        return self.log_prob - self.old_log_prob

    def detached(self) -> "TokenBatch":
        """Return the same numbers without gradient."""
        detached = {item.name: getattr(self, item.name) for item in fields(self)}
        for name, value in detached.items():
            if isinstance(value, Tensor):
                detached[name] = value.detach()
        return TokenBatch(**detached)

    def over_mini_batch(self, statistic: Callable[["TokenBatch"], Tensor]) -> Tensor:
        """Return a statistic `[*R, b, T]` of these rows that depends on the whole mini-batch, without gradient.

        However the mini-batch is split, the numbers are the same.
        """
        with torch.no_grad():
            if self.whole is None or self.rows is None:
                return statistic(self.detached())
            found = statistic(self.whole).index_select(-2, self.rows)
            return found[..., : self.mask.shape[-1]]


@dataclass(frozen=True)
class Clipped:
    """What a clip rule returns, every field `[*R, B, T]`.

    Args:
        objective: the surrogate to maximise, per token.
        low: tokens whose gradient the lower bound removed.
        high: tokens whose gradient the upper bound removed.
    """

    objective: Float[Tensor, "*R B T"]
    low: Bool[Tensor, "*R B T"]
    high: Bool[Tensor, "*R B T"]


@dataclass(frozen=True)
class Mean:
    """What a mini-batch's loss is a mean over: the sum over rows of (sum over the row's tokens) / tokens.

    Args:
        rows: `[*R, B]`, the rows that count; further loss terms act on all of them, rejected or not.
        tokens: `[*R, B]`, each row's denominator, above 0.
    """

    rows: Bool[Tensor, "*R B"]
    tokens: Float[Tensor, "*R B"]


@dataclass(frozen=True)
class Observation:
    """What a controller learns from a finished step.

    Args:
        step: index of the step, from 0.
        entropy: the batch's entropy before the update, nats per token; a number, or `[*R]`.
        band: the band of that step.
        measured_change: entropy change on fixed contexts, nats per token; None where it was not measured.
        predicted_change: its first-order prediction, nats per token; None where there is none.
        progress: share of the run that is done, this step included.
        info: what the filter's own decision reported at that step.
    """

    step: int
    entropy: Float[Tensor, "*R"] | float
    band: Band
    measured_change: Float[Tensor, "*R"] | float | None = None
    predicted_change: Float[Tensor, "*R"] | float | None = None
    progress: float = 0.0
    info: Mapping[str, Any] = field(default_factory=dict)


def masked_mean(values: Float[Tensor, "*R B T"], mask: Bool[Tensor, "*R B T"]) -> Float[Tensor, "*R 1 1"]:
    """Return the mean over the mask of each repeat; 0 where it is empty.

    >>> masked_mean(torch.tensor([[1.0, 3.0, 9.0]]), torch.tensor([[True, True, False]]))
    tensor([[2.]])
    """
    total = values.masked_fill(~mask, 0.0).sum((-2, -1), keepdim=True)
    return total / mask.sum((-2, -1), keepdim=True).clamp(min=1)
