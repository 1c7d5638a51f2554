"""How a batch would move entropy through the parameters that contexts share: exact slopes, for directional control."""

import torch
from jaxtyping import Float
from torch import Tensor

from simulations.optimizers import Moments, Optimizer
from simulations.policies import Parameters, Policy
from simulations.rollouts import Rollouts
from trainer.methods.stages import Direction


def find_direction(
    policy: Policy,
    parameters: Parameters,
    optimizer: Optimizer,
    moments: Moments,
    learning_rate: Float[Tensor, " R"],
    rollouts: Rollouts,
    updates: int,
) -> Direction:
    """Return what each token of advantage 1 would add to the mean entropy of the batch's contexts.

    Args:
        policy: the policy.
        parameters: before the update.
        optimizer: that takes it.
        moments: its state before the update.
        learning_rate: of each repeat.
        rollouts: the batch, with the policy that sampled it.
        updates: optimiser steps a batch, mini-batches times epochs.

    Source: E7 and E8; slopes by differentiating twice.
    """
    contexts = rollouts.contexts
    gradient = contexts.pullback(-contexts.discriminator / contexts.entropy.shape[-1])
    along = optimizer.towards(moments, gradient, learning_rate)

    moved = moved_logits(policy, parameters, along, rollouts)
    slopes = moved - (contexts.probs * moved).sum(-1, keepdim=True)
    tokens = slopes.gather(-1, contexts.by_context(rollouts.tokens)).view(rollouts.tokens.shape)
    carried = optimizer.carried(moments, learning_rate)
    return Direction(
        tokens=updates * tokens,
        bonus=updates * inner(gradient, along),
        carried=inner(carried, gradient) if carried else torch.zeros_like(learning_rate),
    )


@torch.enable_grad()  # also where a caller has turned gradients off
def moved_logits(
    policy: Policy, parameters: Parameters, along: Parameters, rollouts: Rollouts
) -> Float[Tensor, "R C V"]:
    """Return the derivative of the logits along a change of the parameters.

    The pullback of v is linear in v; its derivative in v along the change is the derivative of the logits.
    """
    names = list(parameters)
    leaves = {name: parameters[name].detach().requires_grad_() for name in names}
    logits = policy.logits(leaves, rollouts.prompts, rollouts.tokens)
    v = torch.zeros_like(logits, requires_grad=True)
    pulled = torch.autograd.grad(
        logits, [leaves[name] for name in names], v, create_graph=True, allow_unused=True, materialize_grads=True
    )
    (found,) = torch.autograd.grad(
        pulled, v, [along[name] for name in names], allow_unused=True, materialize_grads=True
    )
    return found


def inner(one: Parameters, other: Parameters) -> Float[Tensor, "R"]:
    """Return the inner product of two sets of parameters, one a repeat.

    >>> inner({"a": torch.tensor([[1.0, 2.0]])}, {"a": torch.tensor([[3.0, 4.0]])})
    tensor([11.])
    """
    return torch.stack([(value * other[name]).flatten(1).sum(-1) for name, value in one.items()]).sum(0)
