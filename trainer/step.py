"""One update: mini-batches of whole groups, each a forward and backward over the rows that carry gradient."""

from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from entropy_theory import chunked_token_statistics, entropy
from trainer.methods.losses import k3
from trainer.methods.pipeline import Algorithm, States, Surrogate, mean_loss, mini_batch_rows, weighted_advantages
from trainer.methods.stages import Filtered, Mean, TokenBatch
from trainer.model import completion_logits
from trainer.rollout import Rollouts


@dataclass
class Update:
    """What the optimiser steps of one update did; sums over the tokens that were computed.

    Args:
        tokens_per_row: `[B]`, the denominator of each row's mini-batch; 0 where the mini-batch was skipped.
        rows: rows computed, over all epochs.
        tokens: tokens computed.
        steps: optimiser steps taken.
        skipped: mini-batches without a row that carries gradient, for which no optimiser step was taken.
        losses: one a step taken.
        grad_norms: one a step taken, before clipping.
        clipped_low: tokens whose gradient the lower bound removed.
        clipped_high: tokens whose gradient the upper bound removed.
        ratio_max: the largest importance ratio.
        kl: sum of k3 against the reference; None without one.
        gap: largest difference between the sampler's and the trainer's log-probabilities at unchanged weights; None
            where nothing was computed before the first optimiser step.
    """

    tokens_per_row: Tensor
    rows: int = 0
    tokens: int = 0
    steps: int = 0
    skipped: int = 0
    losses: list[float] = field(default_factory=list)
    grad_norms: list[float] = field(default_factory=list)
    clipped_low: int = 0
    clipped_high: int = 0
    ratio_max: float | None = None
    kl: float | None = None
    gap: float | None = None


@dataclass(frozen=True)
class MiniBatch:
    """The rows of one optimiser step.

    Args:
        rollouts: the whole batch.
        advantages: `[B, T]`, of the whole batch, filter weights included.
        rows: `[b]`, which rows these are.
        mean: what their loss is a mean over, `[b]`.
        states: of the methods with memory.
        bonus: coefficient of the entropy bonus that the filter asked for.
        noise: `[B, T]`, of the whole batch.
    """

    rollouts: Rollouts
    advantages: Tensor
    rows: Tensor
    mean: Mean
    states: States
    bonus: Tensor | None
    noise: Tensor | None


@dataclass(frozen=True)
class Updater:
    """Applies the update of one batch of rollouts.

    Args:
        model: the network; its parameters with `requires_grad` are trained.
        reference: the frozen initial network, for KL terms; None without one.
        optimizer: steps over those parameters.
        algorithm: the methods.
        temperature: the sampling temperature.
        mini_batches: optimiser steps an epoch.
        epochs: passes over the batch.
        micro_batch_rows: rows of one backward pass.
        gradient_clip: largest gradient norm.
    """

    model: nn.Module
    reference: nn.Module | None
    optimizer: torch.optim.Optimizer
    algorithm: Algorithm
    temperature: float
    mini_batches: int
    epochs: int
    micro_batch_rows: int
    gradient_clip: float

    def __call__(
        self, rollouts: Rollouts, filtered: Filtered, states: States | None = None, noise: Tensor | None = None
    ) -> Update:
        """Update the parameters and return what was done.

        A mini-batch in which no row carries gradient takes no optimiser step, so momentum does not move the weights.

        Args:
            rollouts: the batch.
            filtered: what the filter decided.
            states: of the methods with memory; by default their first ones.
            noise: `[B, T]` uniforms, for methods that choose at random.
        """
        weights = filtered.weights.flatten().to(rollouts.tokens.device)
        advantages = weighted_advantages(filtered, rollouts.record.mask)
        states = self.algorithm.start() if states is None else states
        update = Update(tokens_per_row=torch.zeros(len(weights), device=weights.device))
        parameters = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        for _ in range(self.epochs):
            for rows in mini_batch_rows(len(weights), rollouts.group_size, self.mini_batches):
                rows = rows.to(weights.device)
                mean = self.algorithm.denominator(rollouts.lengths[rows], weights[rows])
                active = self.algorithm.carries_gradient(advantages[rows], mean, filtered.bonus).nonzero()[:, 0]
                if len(active) == 0:
                    update.skipped += 1
                    continue
                update.tokens_per_row[rows] = mean.tokens.to(update.tokens_per_row)
                batch = MiniBatch(rollouts, advantages, rows, mean, states, filtered.bonus, noise)
                micro_batches = active.split(self.micro_batch_rows)
                whole = None
                if "mini_batch" in self.algorithm.needs and (len(micro_batches) > 1 or len(active) < len(rows)):
                    whole = self.whole(batch)
                loss = 0.0
                for places in micro_batches:
                    loss += self.backward(batch, places, whole, update)
                norm = nn.utils.clip_grad_norm_(parameters, self.gradient_clip)
                if not norm.isfinite():
                    raise ValueError(
                        f"Updater(gradient norm={float(norm)}) must be finite. The weights and the checkpoints before "
                        "this step are as they were; lower optimizer.learning_rate, or look at the loss terms."
                    )
                self.optimizer.step()
                self.optimizer.zero_grad(set_to_none=True)
                update.losses.append(loss)
                update.grad_norms.append(float(norm))
                update.steps += 1
        return update

    def backward(self, batch: "MiniBatch", places: Tensor, whole: TokenBatch | None, update: Update) -> float:
        """Add the gradient of these rows' share of the mini-batch's loss; return that share."""
        tokens = self.token_batch(batch, places)
        if whole is not None:
            tokens = replace(tokens, whole=whole, rows=places)
        surrogate: Surrogate = self.algorithm.surrogate(batch.states, tokens, batch.bonus)
        loss = mean_loss(surrogate.loss, Mean(batch.mean.rows[places], batch.mean.tokens[places]))
        loss.backward()
        clipped = surrogate.clipped
        self.record(tokens, int(clipped.low.sum()), int(clipped.high.sum()), update)
        return float(loss.detach())

    @torch.no_grad()
    def whole(self, batch: "MiniBatch") -> TokenBatch:
        """Return the whole mini-batch without gradient, for methods whose statistics are over all of it."""
        places = torch.arange(len(batch.rows), device=batch.rows.device)
        parts = [self.token_batch(batch, part) for part in places.split(self.micro_batch_rows)]
        return joined(parts)

    def token_batch(self, batch: "MiniBatch", places: Tensor) -> TokenBatch:
        """Return what clip rules and loss terms see of the rows at these places of a mini-batch."""
        rows = batch.rows[places]
        rollouts = batch.rollouts.rows(rows)
        length = rollouts.mask.shape[1]
        block = (rollouts.tokens, rollouts.attention, length, self.temperature)
        logits = completion_logits(self.model, *block)
        needs = self.algorithm.needs
        reference = None
        if self.reference is not None:
            with torch.no_grad():
                reference = chosen_log_prob(completion_logits(self.reference, *block), rollouts)
        if "entropy_gradient" in needs or batch.bonus is not None:
            entropies = entropy(logits)
        elif "entropy" in needs:
            entropies = entropy(logits.detach())
        else:
            entropies = rollouts.entropy.to(logits.dtype)
        return TokenBatch(
            log_prob=chosen_log_prob(logits, rollouts),
            old_log_prob=rollouts.log_prob.to(logits.dtype),
            advantages=batch.advantages[rows, :length].to(logits.dtype),
            mask=rollouts.mask & batch.mean.rows[places, None],
            entropy=entropies,
            reference_log_prob=reference,
            logits=logits if "logits" in needs else None,
            noise=None if batch.noise is None else batch.noise[rows, :length].to(logits),
        )

    @torch.no_grad()
    def record(self, tokens: TokenBatch, low: int, high: int, update: Update) -> None:
        """Add these rows to the update's counts."""
        difference = (tokens.log_prob - tokens.old_log_prob).masked_fill(~tokens.mask, 0.0)
        if update.steps == 0:
            update.gap = max(update.gap or 0.0, float(difference.abs().max()))
        update.ratio_max = max(update.ratio_max or 0.0, float(difference.exp()[tokens.mask].max()))
        update.rows += len(tokens.mask)
        update.tokens += int(tokens.mask.sum())
        update.clipped_low += low
        update.clipped_high += high
        if tokens.reference_log_prob is not None:
            update.kl = (update.kl or 0.0) + float(k3(tokens.log_prob, tokens.reference_log_prob)[tokens.mask].sum())


def chosen_log_prob(logits: Tensor, rollouts: Rollouts) -> Tensor:
    """Return the log-probability `[B, T]` of the completion's tokens, 0 outside the mask, from logits `[B, T, V]`."""
    # As the sampler records it, so that the two agree to the last bit.
    return chunked_token_statistics(logits, rollouts.completion_ids).log_prob.masked_fill(~rollouts.mask, 0.0)


def joined(parts: list[TokenBatch]) -> TokenBatch:
    """Return the rows of several token batches as one, padded to the longest; logits are left out."""
    longest = max(part.mask.shape[1] for part in parts)

    def column(name: str) -> Any:
        values = [getattr(part, name) for part in parts]
        if any(value is None for value in values):
            return None
        return torch.cat([nn.functional.pad(value, (0, longest - value.shape[1])) for value in values])

    names = ("log_prob", "old_log_prob", "advantages", "mask", "entropy", "reference_log_prob", "noise")
    return TokenBatch(**{name: column(name) for name in names})
