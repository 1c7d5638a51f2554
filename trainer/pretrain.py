"""Supervised pretraining: makes a testbed's base model from noisy, diverse demonstrations."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from tqdm import tqdm

from trainer.data import build_task
from trainer.files import new_folder
from trainer.hashes import write_hashes
from trainer.model import Policy, completion_logits, usable_device
from trainer.new_model import new_qwen3, word_tokenizer
from trainer.streams import python_stream, stream_seed


@dataclass(frozen=True)
class PretrainConfig:
    """How a base model is made. The defaults are those of the shipped model.

    Args:
        output: folder to write (Hugging Face format); must not exist or be empty.
        task: name of the task whose demonstrations are learnt.
        seed: root of all random streams.
        iterations: optimiser steps; the learning rate follows a cosine to zero over all of them.
        batch_size: demonstrations a step, drawn anew each time.
        learning_rate: peak learning rate of AdamW.
        warmup: iterations of linear warm-up.
        wrong_target: share of demonstrations whose prompt asks for another target than the answer reaches.
        slip: share of demonstrations with one wrong result.
        hidden: width of the residual stream.
        layers: decoder layers.
        heads: attention heads.
        feed_forward: width of the gated feed-forward block.
        device: a torch device, or `auto` for the first GPU where there is one; the shipped model was made on the CPU.
        threads: CPU threads; 1 is fastest for a model this small, and needed for bit-equal rebuilding. 0 leaves it to
            torch.
    """

    output: Path = field(default=Path("runs/base"))
    task: str = "countdown"
    seed: int = 0
    iterations: int = 800
    batch_size: int = 256
    learning_rate: float = 2e-3
    warmup: int = 50
    wrong_target: float = 0.15
    slip: float = 0.03
    hidden: int = 64
    layers: int = 3
    heads: int = 4
    feed_forward: int = 256
    device: str = "cpu"
    threads: int = 1


def pretrain(config: PretrainConfig) -> Policy:
    """Train a base model from demonstrations, write it to `config.output` with its hashes, and return it.

    Raises:
        FileExistsError: the output folder holds files.
    """
    if config.output.exists() and (not config.output.is_dir() or any(config.output.iterdir())):
        raise FileExistsError(f"pretrain(output={str(config.output)!r}) must be a new or empty folder; got another.")
    device = usable_device(config.device)
    if config.threads:
        torch.set_num_threads(config.threads)
    task = build_task(config.task)
    tokenizer = word_tokenizer(task.words, context_length=64)
    policy = new_qwen3(
        tokenizer,
        hidden=config.hidden,
        layers=config.layers,
        heads=config.heads,
        feed_forward=config.feed_forward,
        context_length=64,
        seed=stream_seed(config.seed, "init") % 2**32,
    )
    policy.model.to(device)
    optimizer = torch.optim.AdamW(policy.model.parameters(), lr=config.learning_rate, weight_decay=0.01)
    progress = tqdm(demonstration_batches(config, policy), total=config.iterations, desc="pretrain", unit="it")
    for iteration, batch in enumerate(progress):
        tokens, attention, mask = (block.to(device) for block in batch)
        for group in optimizer.param_groups:
            group["lr"] = config.learning_rate * rate(iteration, config)
        logits = completion_logits(policy.model, tokens, attention, mask.shape[1], temperature=1.0)
        loss = cross_entropy(logits[mask], tokens[:, -mask.shape[1] :][mask])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(policy.model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if iteration % 20 == 0:
            progress.set_postfix(loss=f"{loss.item():.3f}")
    with new_folder(config.output) as unfinished:
        policy.save(unfinished)
        write_hashes(unfinished)
    return policy


def rate(iteration: int, config: PretrainConfig) -> float:
    """Return the learning rate's factor: linear warm-up, then a cosine to zero."""
    warm = min(1.0, (iteration + 1) / max(1, config.warmup))
    return warm * 0.5 * (1 + math.cos(math.pi * iteration / config.iterations))


def demonstration_batches(config: PretrainConfig, policy: Policy) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Yield `(tokens [B, L], attention [B, L], answer mask [B, T])`, each batch a function of (seed, iteration)."""
    task = build_task(config.task)
    end, pad = policy.stop_ids[0], policy.tokenizer.pad_token_id
    for iteration in range(config.iterations):
        generator = python_stream(config.seed, "demonstrations", iteration)
        pairs = [
            task.demonstration(wrong_target=config.wrong_target, slip=config.slip, generator=generator)
            for _ in range(config.batch_size)
        ]
        prompts = torch.tensor(policy.encode([prompt for prompt, _ in pairs]))
        answers = [[*ids, end] for ids in policy.encode([answer for _, answer in pairs])]
        mask = torch.zeros(len(pairs), max(map(len, answers)), dtype=torch.bool)
        padded = torch.full(mask.shape, pad)
        for row, ids in enumerate(answers):
            mask[row, : len(ids)] = True
            padded[row, : len(ids)] = torch.tensor(ids)
        tokens = torch.cat([prompts, padded], dim=1)
        yield tokens, torch.cat([torch.ones_like(prompts, dtype=torch.bool), mask], dim=1), mask
