"""AdamW and its learning-rate schedule."""

import torch

from trainer.config import OptimizerConfig
from trainer.model import Policy


def build_optimizer(policy: Policy, chosen: OptimizerConfig) -> torch.optim.Optimizer:
    """Return AdamW over the trainable parameters."""
    return torch.optim.AdamW(
        [parameter for parameter in policy.model.parameters() if parameter.requires_grad],
        lr=chosen.learning_rate,
        betas=(chosen.beta1, chosen.beta2),
        eps=chosen.eps,
        weight_decay=chosen.weight_decay,
    )


def set_learning_rate(optimizer: torch.optim.Optimizer, chosen: OptimizerConfig, step: int) -> float:
    """Set and return the step's learning rate: a linear warm-up, then constant."""
    warm = min(1.0, (step + 1) / chosen.warmup) if chosen.warmup else 1.0
    for group in optimizer.param_groups:
        group["lr"] = chosen.learning_rate * warm
    return chosen.learning_rate * warm
