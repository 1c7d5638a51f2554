"""The parts of a run, built from its configuration: policy, reference, updater."""

import copy
from pathlib import Path

import torch
from torch import nn

from trainer.config import ModelConfig, TrainConfig
from trainer.data import with_chat
from trainer.methods.pipeline import Algorithm
from trainer.model import Policy, load_policy, with_lora
from trainer.network import Network, Reference
from trainer.step import Updater
from trainer.streams import stream_seed
from trainer.workers import Workers


def load_trained(config: TrainConfig, workers: Workers, checkpoint: Path | None = None) -> Policy:
    """Return the policy that the configuration names, or that of a checkpoint, with the parameters that train."""
    chosen = config.model
    # A checkpoint of adapters holds no weights of the base model.
    path = chosen.path if checkpoint is None or chosen.lora_rank else str(checkpoint)
    policy = with_chat(load_configured(path, chosen, workers.device(chosen.device)), config.data)
    if not chosen.lora_rank:
        return policy
    seed = stream_seed(config.seed, "init")
    return with_lora(policy, rank=chosen.lora_rank, alpha=chosen.lora_alpha, seed=seed, checkpoint=checkpoint)


def load_configured(path: str, chosen: ModelConfig, device: str | None = None) -> Policy:
    """Return the model at a path, loaded as the configuration says, on its device or another."""
    return load_policy(
        path,
        dtype=chosen.dtype,
        weights=weights_type(chosen),
        device=device or chosen.device,
        attention=chosen.attention,
        gradient_checkpointing=chosen.gradient_checkpointing,
        revision=chosen.revision if path == chosen.path else None,
        trust_remote_code=chosen.trust_remote_code,
    )


def weights_type(chosen: ModelConfig) -> str:
    """Return the type of the weights: frozen ones may be kept in that of the computation, for no step is lost there."""
    frozen = bool(chosen.lora_rank) and chosen.dtype == "bfloat16"
    return "bfloat16" if chosen.weights == "auto" and frozen else chosen.weights


def frozen_copy(policy: Policy, workers: Workers, parallel: str) -> Reference:
    """Return the reference of a policy whose own weights train: a copy of it as it is now."""
    return Reference(workers.share_frozen(Network(copy.deepcopy(policy.model).requires_grad_(False)), parallel))


def build_updater(
    config: TrainConfig,
    algorithm: Algorithm,
    network: nn.Module,
    reference: Reference | None,
    optimizer: torch.optim.Optimizer,
    workers: Workers,
) -> Updater:
    """Return the updater with the configuration's sizes."""
    return Updater(
        network=network,
        reference=reference,
        optimizer=optimizer,
        algorithm=algorithm,
        temperature=config.rollout.temperature,
        mini_batches=config.algorithm.mini_batches,
        epochs=config.algorithm.epochs,
        micro_batch_rows=config.optimizer.micro_batch_rows,
        micro_batch_tokens=config.optimizer.micro_batch_tokens,
        gradient_clip=config.optimizer.gradient_clip,
        workers=workers,
    )
