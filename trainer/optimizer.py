"""AdamW and its learning-rate schedule."""

import math
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from trainer.config import OptimizerConfig
from trainer.workers import like, whole


def build_optimizer(parameters: Iterable[nn.Parameter], chosen: OptimizerConfig) -> torch.optim.Optimizer:
    """Return AdamW over those parameters that train."""
    return torch.optim.AdamW(
        [parameter for parameter in parameters if parameter.requires_grad],
        lr=chosen.learning_rate,
        betas=(chosen.beta1, chosen.beta2),
        eps=chosen.eps,
        weight_decay=chosen.weight_decay,
    )


def set_learning_rate(optimizer: torch.optim.Optimizer, chosen: OptimizerConfig, step: int, steps: int) -> float:
    """Set and return the learning rate of a step of so many."""
    rate = chosen.learning_rate * rate_factor(chosen, step, steps)
    for group in optimizer.param_groups:
        group["lr"] = rate
    return rate


def rate_factor(chosen: OptimizerConfig, step: int, steps: int) -> float:
    """Return the share of the learning rate at a step: a linear warm-up, then constant or a fall to 0 after the last.

    >>> rate_factor(OptimizerConfig(warmup=2, schedule="linear"), 0, 6), rate_factor(OptimizerConfig(), 5, 6)
    (0.5, 1.0)
    >>> rate_factor(OptimizerConfig(warmup=2, schedule="linear"), 4, 6)
    0.5
    """
    if step < chosen.warmup:
        return (step + 1) / chosen.warmup
    done = (step - chosen.warmup) / max(1, steps - chosen.warmup)
    if chosen.schedule == "linear":
        return 1 - done
    return 0.5 * (1 + math.cos(math.pi * done)) if chosen.schedule == "cosine" else 1.0


def whole_state(optimizer: torch.optim.Optimizer) -> dict[str, object]:
    """Return the optimiser's state with every moment in full; all processes must ask for it together."""
    state = optimizer.state_dict()
    return {**state, "state": {place: mapped(moments, whole) for place, moments in state["state"].items()}}


def load_whole_state(optimizer: torch.optim.Optimizer, state: dict[str, object]) -> None:
    """Give the optimiser full moments, of which each process keeps its shards where parameters are shards."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    given = state["state"]
    assert isinstance(given, dict)
    shards = {
        place: mapped(moments, lambda value, place=place: like(value, parameters[place]))
        for place, moments in given.items()
    }
    optimizer.load_state_dict({**state, "state": shards})


def mapped(moments: dict[str, object], change: object) -> dict[str, object]:
    """Return a parameter's moments with this done to each tensor."""
    assert callable(change)
    return {name: change(value) if isinstance(value, Tensor) else value for name, value in moments.items()}


def averaged_gradients(optimizer: torch.optim.Optimizer) -> list[Tensor] | None:
    """Return AdamW's averaged gradients m / (1 - beta1^t) after t steps; None before the first.

    A parameter that never had a gradient has no moments, and does not move: its average is 0.
    """
    found, moved = [], False
    for parameter, state, group in moments_of(optimizer):
        moved |= bool(state)
        decay = group["betas"][0]
        found.append(state["exp_avg"] / (1 - decay ** float(state["step"])) if state else torch.zeros_like(parameter))
    return found if moved else None


def preconditioned(optimizer: torch.optim.Optimizer, values: Iterable[Tensor]) -> list[Tensor]:
    """Return rate * values / (sqrt(v / (1 - beta2^t)) + eps): what AdamW would add for an averaged gradient of -values.

    Valid after the first step; 0 for a parameter that has no moments.
    """
    found = []
    for value, (parameter, state, group) in zip(values, moments_of(optimizer), strict=True):
        if not state:
            found.append(torch.zeros_like(parameter))
            continue
        root = (state["exp_avg_sq"] / (1 - group["betas"][1] ** float(state["step"]))).sqrt()
        found.append(group["lr"] * value / (root + group["eps"]))
    return found


def moments_of(
    optimizer: torch.optim.Optimizer,
) -> Iterator[tuple[nn.Parameter, dict[str, Tensor], dict[str, Any]]]:
    """Yield each parameter, its moments (empty before its first step) and its group."""
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            yield parameter, optimizer.state.get(parameter, {}), group


def momentum_decay(optimizer: torch.optim.Optimizer) -> float:
    """Return beta1."""
    return float(optimizer.param_groups[0]["betas"][0])


def running_mean(
    optimizer: torch.optim.Optimizer, name: str, values: Iterable[Tensor], memory: float
) -> list[Tensor] | None:
    """Return the running mean of earlier values, one tensor a parameter, and take these into it; None at the first.

    It is kept among the optimiser's moments, which are saved, loaded and sharded with the parameters. Valid after the
    optimiser's first step.
    """
    found: list[Tensor | None] = []
    for value, (_, state, _) in zip(values, moments_of(optimizer), strict=True):
        if not state:
            found.append(torch.zeros_like(value))
            continue
        before = state.get(name)
        found.append(before)
        state[name] = value.clone() if before is None else memory * before + (1 - memory) * value
    known = [mean for mean in found if mean is not None]
    return known if len(known) == len(found) else None
