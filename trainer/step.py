"""One update: mini-batches of whole groups, each a forward and backward over the rows that carry gradient."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from trainer.methods.losses import k3
from trainer.methods.pipeline import (
    Algorithm,
    States,
    Surrogate,
    mean_loss,
    mini_batch_rows,
    weighted_advantages,
)
from trainer.methods.stages import Filtered, Mean, TokenBatch
from trainer.micro_batches import dealt, micro_batches
from trainer.network import Block, Reference, Scored
from trainer.rollout import Rollouts
from trainer.workers import ALONE, Workers, inner, whole


@dataclass
class Update:
    """What the optimiser steps of one update did; sums over the tokens that were computed.

    Args:
        tokens_per_row: `[B]`, the denominator of each row's mini-batch; 0 where the mini-batch was skipped.
        rows: rows computed, over all epochs.
        tokens: tokens computed.
        steps: optimiser steps taken.
        skipped: mini-batches without a row that carries gradient, for which no optimiser step was taken.
        bad: mini-batches whose loss or gradient was not finite, for which none was taken either.
        losses: one a step taken.
        grad_norms: one a step taken, before clipping.
        clipped_low: tokens whose gradient the lower bound removed.
        clipped_high: tokens whose gradient the upper bound removed.
        ratio_max: the largest importance ratio.
        kl: sum of k3 against the reference; None without one.
        gap: largest difference between the sampler's and the trainer's log-probabilities at unchanged weights; None
            where nothing was computed before the first optimiser step.
        gap_sum: sum of those differences' sizes.
        gap_tokens: tokens in that sum.
    """

    tokens_per_row: Tensor
    rows: int = 0
    tokens: int = 0
    steps: int = 0
    skipped: int = 0
    bad: int = 0
    losses: list[float] = field(default_factory=list)
    grad_norms: list[float] = field(default_factory=list)
    clipped_low: int = 0
    clipped_high: int = 0
    ratio_max: float | None = None
    kl: float | None = None
    gap: float | None = None
    gap_sum: float = 0.0
    gap_tokens: int = 0


def joined_updates(parts: Sequence[Update]) -> Update:
    """Return what several processes did in one update: each computed some of the rows of every optimiser step."""
    first = parts[0]
    if len(parts) == 1:
        return first
    summed = ("rows", "tokens", "clipped_low", "clipped_high", "gap_sum", "gap_tokens")
    largest: dict[str, Any] = {name: largest_of(getattr(part, name) for part in parts) for name in ("ratio_max", "gap")}
    sums: dict[str, Any] = {name: sum(getattr(part, name) for part in parts) for name in summed}
    terms = [part.kl for part in parts if part.kl is not None]
    return replace(first, **sums, **largest, kl=sum(terms) if terms else None)


def largest_of(values: Iterable[float | None]) -> float | None:
    """Return the largest of the values that are there: NaN where one is NaN, None where there is none.

    >>> largest_of([None, 1.0, float("nan"), 2.0])
    nan
    """
    given = [value for value in values if value is not None]
    return max(given, key=lambda value: (math.isnan(value), value), default=None)


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
        network: the policy's network (`trainer.network.Network`), as the processes share it; its parameters with
            `requires_grad` are trained.
        reference: the policy before training, for KL terms; None without one.
        optimizer: steps over those parameters.
        algorithm: the methods.
        temperature: the sampling temperature.
        mini_batches: optimiser steps an epoch.
        epochs: passes over the batch.
        micro_batch_rows: most rows of one backward pass.
        micro_batch_tokens: most tokens of one; 0 counts rows alone.
        gradient_clip: largest gradient norm.
        workers: the processes that compute the update together, each holding all rollouts.
    """

    network: nn.Module
    reference: Reference | None
    optimizer: torch.optim.Optimizer
    algorithm: Algorithm
    temperature: float
    mini_batches: int
    epochs: int
    micro_batch_rows: int
    gradient_clip: float
    micro_batch_tokens: int = 0
    workers: Workers = ALONE

    def __call__(
        self, rollouts: Rollouts, filtered: Filtered, states: States | None = None, noise: Tensor | None = None
    ) -> Update:
        """Update the parameters and return what was done.

        A mini-batch in which no row carries gradient takes no optimiser step, so momentum does not move the weights;
        nor does one whose loss or gradient is not finite.

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
        for _ in range(self.epochs):
            for rows in mini_batch_rows(len(weights), rollouts.group_size, self.mini_batches):
                rows = rows.to(weights.device)
                mean = self.algorithm.denominator(rollouts.lengths[rows], weights[rows])
                batch = MiniBatch(rollouts, advantages, rows, mean, states, filtered.bonus, noise)
                active = self.algorithm.carries_gradient(advantages[rows], mean, filtered.bonus).nonzero()[:, 0]
                if len(active) == 0:
                    update.skipped += 1
                    continue
                self.optimise(batch, active, update)
        return joined_updates(self.workers.gather(update))

    def optimise(self, batch: MiniBatch, active: Tensor, update: Update) -> None:
        """Take the optimiser step of a mini-batch, of which the rows at these places carry gradient."""
        lengths = batch.rollouts.attention[batch.rows[active]].sum(1)
        parts = [active[part] for part in self.dealt(lengths)]
        whole_batch = None
        alone = len(parts) == 1 and len(active) == len(batch.rows) and self.workers.count == 1
        if "mini_batch" in self.algorithm.needs and not alone:
            whole_batch = self.whole(batch)
        loss = 0.0
        for index, places in enumerate(parts):
            with self.workers.accumulating(self.network, last=index == len(parts) - 1):
                loss += self.backward(batch, places, whole_batch, update)
        loss = float(self.workers.total(torch.tensor(loss, dtype=torch.float64)))
        parameters = [parameter for parameter in self.network.parameters() if parameter.requires_grad]
        norm = float(whole(nn.utils.clip_grad_norm_(parameters, self.gradient_clip)))
        if math.isfinite(loss) and math.isfinite(norm):
            update.tokens_per_row[batch.rows] = batch.mean.tokens.to(update.tokens_per_row)
            self.optimizer.step()
            update.losses.append(loss)
            update.grad_norms.append(norm)
            update.steps += 1
        else:
            update.bad += 1
        self.optimizer.zero_grad(set_to_none=True)

    def dealt(self, lengths: Tensor) -> list[Tensor]:
        """Return this process's passes over rows of these lengths."""
        return dealt(lengths, self.micro_batch_rows, self.micro_batch_tokens, self.workers)

    def backward(self, batch: MiniBatch, places: Tensor, whole_batch: TokenBatch | None, update: Update) -> float:
        """Add the gradient of these rows' share of the mini-batch's loss; return that share."""
        if len(places) == 0:
            # Every process must take part in every pass; one without rows contributes nothing.
            tokens = self.token_batch(self.network, batch, torch.zeros(1, dtype=torch.long, device=places.device))
            (0.0 * tokens.log_prob.sum()).backward()
            return 0.0
        tokens = self.token_batch(self.network, batch, places)
        if whole_batch is not None:
            tokens = replace(tokens, whole=whole_batch, rows=places)
        surrogate: Surrogate = self.algorithm.surrogate(batch.states, tokens, batch.bonus)
        loss = mean_loss(surrogate.loss, Mean(batch.mean.rows[places], batch.mean.tokens[places]))
        # Copies and shards average their gradients; theirs are shares of a sum.
        (self.workers.count * loss).backward()
        clipped = surrogate.clipped
        self.record(tokens, int(clipped.low.sum()), int(clipped.high.sum()), update)
        return float(loss.detach())

    @torch.no_grad()
    def whole(self, batch: MiniBatch) -> TokenBatch:
        """Return the whole mini-batch without gradient, for methods whose statistics are over all of it."""
        lengths = batch.rollouts.attention[batch.rows].sum(1)
        parts = micro_batches(lengths, self.micro_batch_rows, self.micro_batch_tokens)
        order = torch.cat(parts).argsort()
        # Logits of the whole mini-batch would not fit: those of a pass are let go with it.
        return joined(
            [replace(self.token_batch(inner(self.network), batch, part), logits=None) for part in parts], order
        )

    def token_batch(self, network: nn.Module, batch: MiniBatch, places: Tensor) -> TokenBatch:
        """Return what clip rules and loss terms see of the rows at these places of a mini-batch."""
        rows = batch.rows[places]
        rollouts = batch.rollouts.rows(rows)
        length = rollouts.mask.shape[1]
        block = Block(rollouts.tokens, rollouts.attention, rollouts.mask, self.temperature)
        needs = self.algorithm.needs
        reference = None if self.reference is None else self.reference.log_prob(block)
        scored: Scored = network(block, logits="logits" in needs)
        kind = scored.log_prob.dtype
        if "entropy_gradient" in needs or batch.bonus is not None:
            entropies = scored.entropy
        elif "entropy" in needs:
            entropies = scored.entropy.detach()
        else:
            entropies = rollouts.entropy.to(kind)
        return TokenBatch(
            log_prob=scored.log_prob,
            old_log_prob=rollouts.log_prob.to(kind),
            advantages=batch.advantages[rows, :length].to(kind),
            mask=rollouts.mask & batch.mean.rows[places, None],
            entropy=entropies,
            reference_log_prob=reference,
            logits=scored.logits,
            noise=None if batch.noise is None else batch.noise[rows, :length].to(kind),
        )

    @torch.no_grad()
    def record(self, tokens: TokenBatch, low: int, high: int, update: Update) -> None:
        """Add these rows to the update's counts."""
        difference = (tokens.log_prob - tokens.old_log_prob).masked_fill(~tokens.mask, 0.0)
        if update.steps + update.bad == 0:
            update.gap = largest_of([update.gap, float(difference.abs().max())])
            update.gap_sum += float(difference.abs().double().sum())
            update.gap_tokens += int(tokens.mask.sum())
        update.ratio_max = largest_of([update.ratio_max, float(difference.exp()[tokens.mask].max())])
        update.rows += len(tokens.mask)
        update.tokens += int(tokens.mask.sum())
        update.clipped_low += low
        update.clipped_high += high
        if tokens.reference_log_prob is not None:
            update.kl = (update.kl or 0.0) + float(k3(tokens.log_prob, tokens.reference_log_prob)[tokens.mask].sum())


def joined(parts: list[TokenBatch], order: Tensor) -> TokenBatch:
    """Return the rows of several token batches as one, in this order, padded to the longest; logits are left out."""
    longest = max(part.mask.shape[1] for part in parts)

    def column(name: str) -> Any:
        values = [getattr(part, name) for part in parts]
        if any(value is None for value in values):
            return None
        return torch.cat([nn.functional.pad(value, (0, longest - value.shape[1])) for value in values])[order]

    names = ("log_prob", "old_log_prob", "advantages", "mask", "entropy", "reference_log_prob", "noise")
    return TokenBatch(**{name: column(name) for name in names})
