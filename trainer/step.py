"""One update: mini-batches of whole groups, each a forward and backward over the rows that carry gradient."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from entropy_theory import entropy
from trainer.algorithm import Algorithm
from trainer.methods.losses import k3
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

    def __call__(self, rollouts: Rollouts, filtered: Filtered) -> Update:
        """Update the parameters and return what was done.

        A mini-batch in which no row carries gradient takes no optimiser step, so momentum does not move the weights.
        """
        weights = filtered.weights.flatten().to(rollouts.tokens.device)
        advantages = token_advantages(rollouts, filtered)
        update = Update(tokens_per_row=torch.zeros(len(weights), device=weights.device))
        parameters = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        for _ in range(self.epochs):
            for rows in mini_batch_rows(len(weights), rollouts.group_size, self.mini_batches):
                rows = rows.to(weights.device)
                mean = self.algorithm.denominator(rollouts.lengths[rows], weights[rows])
                active = rows[self.carries_gradient(advantages[rows], mean)]
                if len(active) == 0:
                    update.skipped += 1
                    continue
                update.tokens_per_row[rows] = mean.tokens
                loss = 0.0
                for micro in active.split(self.micro_batch_rows):
                    loss += self.backward(rollouts.rows(micro), advantages[micro], mean, update)
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

    def carries_gradient(self, advantages: Tensor, mean: Mean) -> Tensor:
        """Return which rows a loss term differentiates: those with an advantage; with KL or bonus, all that count."""
        return (advantages != 0).any(1) | (mean.rows if self.algorithm.terms else torch.zeros_like(mean.rows))

    def backward(self, rollouts: Rollouts, advantages: Tensor, mean: Mean, update: Update) -> float:
        """Add the gradient of these rows' share of the mini-batch's loss; return that share."""
        logits = completion_logits(
            self.model, rollouts.tokens, rollouts.attention, rollouts.mask.shape[1], self.temperature
        )
        tokens = self.token_batch(rollouts, advantages, logits)
        clipped = self.algorithm.clip(tokens)
        objective = clipped.objective
        if self.algorithm.token_weight is not None:
            objective = objective * self.algorithm.token_weight(tokens)
        per_token = -objective + sum(term(tokens) for term in self.algorithm.terms)
        loss = per_token.masked_fill(~tokens.mask, 0.0).sum() / mean.tokens
        loss.backward()
        self.record(tokens, int(clipped.low.sum()), int(clipped.high.sum()), update)
        return float(loss.detach())

    def token_batch(self, rollouts: Rollouts, advantages: Tensor, logits: Tensor) -> TokenBatch:
        """Return what clip rules and loss terms see of these rows."""
        needs_entropy = any(term.uses_entropy for term in self.algorithm.terms)
        reference = None
        if self.reference is not None:
            with torch.no_grad():
                reference = chosen_log_prob(
                    completion_logits(
                        self.reference, rollouts.tokens, rollouts.attention, rollouts.mask.shape[1], self.temperature
                    ),
                    rollouts,
                )
        return TokenBatch(
            log_prob=chosen_log_prob(logits, rollouts),
            old_log_prob=rollouts.log_prob.to(logits.dtype),
            advantages=advantages[:, : rollouts.mask.shape[1]].to(logits.dtype),
            mask=rollouts.mask,
            entropy=entropy(logits) if needs_entropy else rollouts.entropy.to(logits.dtype),
            reference_log_prob=reference,
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


def token_advantages(rollouts: Rollouts, filtered: Filtered) -> Tensor:
    """Return the advantage of each token times its rollout's weight, `[B, T]`, 0 outside the mask.

    Raises:
        ValueError: advantages `[P, G, T]` of another T than the rollouts'.
    """
    device = rollouts.mask.device
    advantages = filtered.advantages.flatten(0, 1).to(device)
    if advantages.dim() == 1:
        advantages = advantages[:, None].expand(rollouts.mask.shape)
    if advantages.shape != rollouts.mask.shape:
        raise ValueError(
            f"token_advantages(advantages) must have T = {rollouts.mask.shape[1]} tokens; got {advantages.shape[1]}. "
            "Return [P, G], or [P, G, T] as wide as the longest completion."
        )
    return (advantages * filtered.weights.flatten()[:, None].to(device)).masked_fill(~rollouts.mask, 0.0)


def chosen_log_prob(logits: Tensor, rollouts: Rollouts) -> Tensor:
    """Return the log-probability `[B, T]` of the completion's tokens, 0 outside the mask, from logits `[B, T, V]`."""
    chosen = logits.log_softmax(-1).gather(-1, rollouts.completion_ids[..., None])[..., 0]
    return chosen.masked_fill(~rollouts.mask, 0.0)


def mini_batch_rows(count: int, group_size: int, mini_batches: int) -> Iterator[Tensor]:
    """Yield the row indices of each mini-batch: consecutive whole groups, as evenly as they divide."""
    for groups in torch.arange(count // group_size).tensor_split(mini_batches):
        yield (groups[:, None] * group_size + torch.arange(group_size)).flatten()
