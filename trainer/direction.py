"""How a batch would move entropy through the parameters that contexts share: what directional control asks for.

For an optimiser that steps by -rate * P * (averaged gradient of the loss), a token of advantage A changes the entropy,
at first order, by A <grad log pi, u> over its denominator, u = rate * P grad H. All tokens' slopes along u come from
one more forward pass, at parameters moved a little along it: a difference of log-probabilities.

grad H is a running mean over earlier batches: it varies little from step to step, while that of a few rollouts is
noisy, and a batch is best judged by contexts that are not its own (its own move more than new ones do). The mean is
kept as one more moment of the optimiser, with which it is saved and loaded.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from entropy_theory.network import first_order_along
from trainer.methods.stages import Direction
from trainer.micro_batches import dealt
from trainer.model import in_full_precision
from trainer.optimizer import averaged_gradients, momentum_decay, preconditioned, running_mean
from trainer.probe import Probe, locals_of, scored_rows
from trainer.rollout import Rollouts
from trainer.workers import inner, weights_set_to

# The running mean's name among the optimiser's moments, and the weight of earlier batches in it.
MOMENT = "entropy_gradient"
MEMORY = 0.9
# Entropy change, nats per token, that the trial move along u makes at first order: log-probabilities then change by
# about as much, far above float32's rounding and far below where curvature matters.
TRIAL = 0.01


def find_direction(
    probe: Probe,
    optimizer: torch.optim.Optimizer,
    rollouts: Rollouts,
    advantages: Tensor,
    updates: int,
    sizes: tuple[int, int],
) -> Direction:
    """Return what each token of advantage 1 would add to the entropy, and take the probe's gradient into the mean.

    Before the optimiser's first step nothing is known of its preconditioner, nor of earlier batches: every effect is 0.

    Args:
        probe: with the gradient of entropy, before the update.
        optimizer: AdamW, its learning rate set.
        rollouts: the batch.
        advantages: `[B, T]`; rows without any are not looked at.
        updates: optimiser steps a batch, mini-batches times epochs.
        sizes: most rows and most tokens of a pass; 0 tokens counts rows alone.

    Source: E7 and E8; a forward difference.
    """
    shape = (-1, rollouts.group_size, rollouts.mask.shape[1])
    tokens = rollouts.log_prob.new_zeros(rollouts.mask.shape)
    averages = averaged_gradients(optimizer)
    mean = None if averages is None else running_mean(optimizer, MOMENT, probe.gradient, MEMORY)
    if averages is None or mean is None:
        nothing = torch.zeros((), dtype=torch.float64)
        return Direction(tokens.double().reshape(shape).cpu(), nothing, nothing)
    along = preconditioned(optimizer, mean)

    def product(values: Sequence[Tensor]) -> float:
        return probe.over_shards(first_order_along(locals_of(values), locals_of(along)))

    rows = (advantages != 0).any(1).nonzero()[:, 0]
    if len(rows):
        size = TRIAL / max(product(mean), torch.finfo(torch.float32).tiny)
        tokens[rows] = slopes(probe, rollouts.rows(rows), along, size, sizes, rollouts.mask.shape[1])
    decay = momentum_decay(optimizer)
    return Direction(
        tokens=updates * tokens.double().reshape(shape).cpu(),
        bonus=torch.tensor(updates * product(probe.gradient), dtype=torch.float64),
        carried=torch.tensor(-product(averages) * decay / (1 - decay), dtype=torch.float64),
    )


@torch.no_grad()
def slopes(
    probe: Probe, rollouts: Rollouts, along: Sequence[Tensor], size: float, sizes: tuple[int, int], width: int
) -> Tensor:
    """Return the derivative of each token's log-probability along a change of the parameters, `[n, width]`.

    A model that computes in half precision does so in float32 here: its rounding is as large as the difference.
    """
    model = inner(probe.network).model
    halved = getattr(model, "entrocraft_dtype", None) == "bfloat16"
    moved = [now + size * v for now, v in zip(probe.parameters, along, strict=True)]
    with in_full_precision(model):
        before = log_probs(probe, rollouts, sizes) if halved else rollouts.log_prob
        with weights_set_to(probe.network, probe.parameters, moved):
            after = log_probs(probe, rollouts, sizes)
    found = ((after - before) / size).masked_fill(~rollouts.mask, 0.0)
    return nn.functional.pad(found, (0, width - rollouts.mask.shape[1]))


def log_probs(probe: Probe, rollouts: Rollouts, sizes: tuple[int, int]) -> Tensor:
    """Return the log-probabilities of all tokens at the weights as they are, `[n, T]`."""
    network, found = inner(probe.network), rollouts.log_prob.new_zeros(rollouts.mask.shape)
    for rows in dealt(rollouts.attention.sum(1), *sizes, probe.workers):
        log_prob = scored_rows(network, rollouts, rows, probe.temperature).log_prob
        found[rows, : log_prob.shape[1]] = log_prob[: len(rows)].to(found)
    return probe.workers.total(found)
