"""How a batch would move entropy through the parameters that its contexts share: what directional control asks for.

For an optimiser that steps by -rate * P * (averaged gradient of the loss), a token of advantage A changes the entropy,
at first order, by A <grad log pi, rate * P grad H> over its denominator. The right-hand side is found for all tokens at
once from one more forward pass, at parameters moved a little along u = rate * P grad H: a difference of
log-probabilities.

Contexts of the same prompts that the batch trains on move more than new ones do, so each half of the prompts is judged
by the gradient of the other half's entropy (cross-fitting).
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from entropy_theory.network import first_order_along, parameters_set_to
from trainer.methods.stages import Direction
from trainer.micro_batches import dealt
from trainer.network import Block, Scored
from trainer.optimizer import averaged_gradients, momentum_decay, preconditioned
from trainer.probe import Probe, locals_of
from trainer.rollout import Rollouts
from trainer.workers import inner

# Entropy change, nats per token, that the trial move along u makes at first order: log-probabilities then change by
# about as much, far above float32's rounding and far below where curvature matters.
TRIAL = 0.01


def find_direction(
    probe: Probe,
    optimizer: torch.optim.Optimizer,
    rollouts: Rollouts,
    advantages: Tensor,
    updates: int,
    micro_batch_rows: int,
    micro_batch_tokens: int = 0,
) -> Direction:
    """Return what each token of advantage 1 would add to the entropy.

    Before the optimiser's first step nothing is known of its preconditioner: every effect is 0.

    Args:
        probe: with the gradients of entropy of its folds, before the update.
        optimizer: AdamW, its learning rate set.
        rollouts: the batch.
        advantages: `[B, T]`; rows without any are not looked at.
        updates: optimiser steps a batch, mini-batches times epochs.
        micro_batch_rows: most rows of a pass.
        micro_batch_tokens: most tokens of a pass; 0 counts rows alone.

    Source: E7 and E8; a forward difference.
    """
    shape = (-1, rollouts.group_size, rollouts.mask.shape[1])
    tokens = rollouts.log_prob.new_zeros(rollouts.mask.shape)
    averages = averaged_gradients(optimizer)
    if averages is None:
        nothing = torch.zeros((), dtype=torch.float64)
        return Direction(tokens.double().reshape(shape).cpu(), nothing, nothing)
    along = [preconditioned(optimizer, gradient) for gradient in probe.gradients]
    across = list(reversed(range(len(along))))
    sizes = (micro_batch_rows, micro_batch_tokens)
    for fold, other in enumerate(across):
        # Rows of this fold are judged by the other's gradient; a probe of one fold judges all rows.
        judged = probe.fold_of_rows(rollouts, fold) & (advantages != 0).any(1)
        rows = judged.nonzero()[:, 0]
        if len(rows):
            own = probe.over_shards(first_order_along(locals_of(probe.gradients[other]), locals_of(along[other])))
            size = TRIAL / max(own, torch.finfo(torch.float32).tiny)
            tokens[rows] = slopes(probe, rollouts.rows(rows), along[other], size, sizes, rollouts.mask.shape[1])
    decay = momentum_decay(optimizer)
    mean_along = [sum(values) / len(along) for values in zip(*along, strict=True)]
    held = probe.over_shards(first_order_along(locals_of(averages), locals_of(mean_along)))
    bonus = probe.over_shards(first_order_along(locals_of(probe.gradients[0]), locals_of(along[-1])))
    return Direction(
        tokens=updates * tokens.double().reshape(shape).cpu(),
        bonus=torch.tensor(updates * bonus, dtype=torch.float64),
        carried=torch.tensor(-held * decay / (1 - decay), dtype=torch.float64),
    )


@torch.no_grad()
def slopes(
    probe: Probe, rollouts: Rollouts, along: Sequence[Tensor], size: float, sizes: tuple[int, int], width: int
) -> Tensor:
    """Return the derivative of each token's log-probability along a change of the parameters, `[n, width]`."""
    parts = dealt(rollouts.attention.sum(1), *sizes, probe.workers)
    network = inner(probe.network)
    moved = [now + size * v for now, v in zip(probe.parameters, along, strict=True)]
    found = rollouts.log_prob.new_zeros(len(rollouts.mask), width)
    with parameters_set_to(probe.parameters, moved):
        for rows in parts:
            log_prob = log_probs(network, rollouts, rows, probe.temperature)
            found[rows, : log_prob.shape[1]] = log_prob[: len(rows)].to(found)
    found = probe.workers.total(found)
    blank = width - rollouts.mask.shape[1]
    before = nn.functional.pad(rollouts.log_prob, (0, blank))
    return ((found - before) / size).masked_fill(~nn.functional.pad(rollouts.mask, (0, blank)), 0.0)


def log_probs(network: nn.Module, rollouts: Rollouts, rows: Tensor, temperature: float) -> Tensor:
    """Return the log-probabilities of these rows; of one row that is not looked at where there is none."""
    # A process without rows takes part in the pass all the same.
    part = rollouts.rows(rows if len(rows) else torch.zeros(1, dtype=torch.long, device=rollouts.mask.device))
    scored: Scored = network(Block(part.tokens, part.attention, part.mask, temperature))
    return scored.log_prob
