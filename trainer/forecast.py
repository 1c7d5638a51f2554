"""What a run will need, before it starts: sizes from its configuration, and the settings that lower them."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from entropy_theory.chunked import PANEL, TILE
from trainer.algorithm import build_algorithm
from trainer.condition import check_size
from trainer.config import ModelConfig, TrainConfig
from trainer.data import FilePrompts, build_prompts, encode_prompts, fit_prompts, max_new_tokens, with_chat
from trainer.estimate import Bytes, ModelShape, Sizes, memory, model_shape, peak
from trainer.new_model import meta_policy
from trainer.schedule_file import with_points


@dataclass(frozen=True)
class Forecast:
    """A configuration's sizes and what they cost.

    Args:
        config: the configuration.
        shape: the network.
        sizes: the step.
        items: bytes of each item on one process.
        rows: prompts in the data; None where they are without limit, or not read.
    """

    config: TrainConfig
    shape: ModelShape
    sizes: Sizes
    items: Mapping[str, Bytes]
    rows: int | None


def forecast(config: TrainConfig, *, processes: int = 1, accelerator: bool = False) -> Forecast:
    """Return what a run would need; of the model, its configuration alone is read.

    Prompts are read and encoded where `data.max_prompt_tokens` does not say how long they are.

    Args:
        config: the run.
        processes: how many it would have.
        accelerator: whether it would run on a GPU.

    Raises:
        ValueError: a setting or a prompt that the run would refuse.
        FileNotFoundError: a model or file that is not there.
    """
    config = with_points(config)
    needs = build_algorithm(config).needs
    new_tokens = max_new_tokens(config)
    longest, model = config.data.max_prompt_tokens, config.model
    policy = meta_policy(
        model.path,
        revision=model.revision,
        trust_remote_code=model.trust_remote_code,
        with_tokenizer=not longest,
    )
    rows = None
    if not longest:
        policy = with_chat(policy, config.data)
        prompts = fit_prompts(policy, build_prompts(config), config)
        rows = len(prompts.rows) if isinstance(prompts, FilePrompts) else None
        known = prompts.rows if isinstance(prompts, FilePrompts) else prompts.train_rows(0, config.rollout.prompts)
        longest = max(map(len, encode_prompts(policy, known, new_tokens)))
    if longest + new_tokens > policy.context_length:
        raise ValueError(
            f"data.max_prompt_tokens={longest} and rollout.max_new_tokens={new_tokens} must fit the model's context; "
            f"got one of {policy.context_length} tokens. Lower one of them."
        )
    shape = model_shape(policy.model)
    check_size(config, new_tokens, shape.vocabulary)
    sizes = sizes_of(config, needs, longest, new_tokens, processes, accelerator)
    return Forecast(config, shape, sizes, memory(shape, sizes), rows)


def sizes_of(
    config: TrainConfig, needs: frozenset[str] | set[str], prompt: int, new: int, processes: int, accelerator: bool
) -> Sizes:
    """Return what a configuration makes of a step; prompts of `prompt` tokens, completions of `new`."""
    rollout, model, theory = config.rollout, config.model, config.theory
    rows = rollout.prompts * rollout.group_size
    return Sizes(
        prompts=rollout.prompts,
        group_size=rollout.group_size,
        prompt_tokens=prompt,
        new_tokens=new,
        decoded_rows=max(sampled_at_once(config, processes), evaluated_at_once(config)),
        micro_rows=micro_rows(config, prompt + new, -(-rows // (config.algorithm.mini_batches * processes))),
        probe_rows=min(theory.probe_rows, rows) if theory.enabled else 0,
        epochs=config.algorithm.epochs,
        compute=model.dtype,
        weights=kept_type(model),
        lora_rank=model.lora_rank,
        checkpointing=model.gradient_checkpointing,
        reference="reference" in needs,
        full_logits="logits" in needs,
        float64_attention=model.attention == "sdpa_float64"
        or (model.attention == "auto" and model.dtype == "float32" and not accelerator),
        second_order=theory.enabled and theory.second_order,
        condition=theory.enabled and theory.condition,
        processes=processes,
        sharded=processes > 1 and model.parallel == "fsdp2",
        block=TILE[accelerator] * PANEL[accelerator],
    )


def kept_type(model: ModelConfig) -> str:
    """Return the type in which the weights are kept.

    >>> kept_type(ModelConfig(dtype="bfloat16")), kept_type(ModelConfig(dtype="bfloat16", lora_rank=8))
    ('float32', 'bfloat16')
    """
    if model.weights != "auto":
        return model.weights
    if model.dtype == "bfloat16":
        return "bfloat16" if model.lora_rank else "float32"
    return model.dtype


def micro_rows(config: TrainConfig, length: int, available: int) -> int:
    """Return the rows of an update's largest pass, all of them `length` tokens long."""
    rows = min(config.optimizer.micro_batch_rows, available)
    if config.optimizer.micro_batch_tokens:
        rows = min(rows, config.optimizer.micro_batch_tokens // length)
    return max(1, rows)


def sampled_at_once(config: TrainConfig, processes: int) -> int:
    """Return the completions of a step that a process decodes at once."""
    rollout = config.rollout
    share = -(-rollout.prompts * rollout.group_size // processes)
    return min(rollout.slots, share) if rollout.slots else share


def evaluated_at_once(config: TrainConfig) -> int:
    """Return the completions of an evaluation that are decoded at once."""
    chosen = config.evaluation
    return min(chosen.rows_at_once, chosen.prompts * chosen.samples) if evaluates(config) else 0


def evaluates(config: TrainConfig) -> bool:
    """Return whether there are held-out prompts, of a file or a task, and settings to evaluate them in."""
    chosen, data = config.evaluation, config.data
    return bool(chosen.prompts and chosen.settings and (data.prompts is None or data.held_out))


@dataclass(frozen=True)
class Knob:
    """A setting to turn.

    Args:
        name: the setting.
        value: what to set it to.
        free: whether it leaves the run's results as they are, and costs time or records alone.
        peak: bytes when it is turned too, after all knobs before it.
    """

    name: str
    value: Any
    free: bool
    peak: int


def knobs(found: Forecast, room: float) -> list[Knob]:
    """Return settings that bring a run into so many bytes, or as near as they can, to be turned together.

    At each turn the one that takes most from what is too much in both phases comes next; those that change the run come
    after all others.
    """
    turned: dict[str, Knob] = {}
    now = found
    while excess(now.items, room) > 0:
        choices = []
        for name, value, free in offered(now):
            config = with_setting(now.config, name, value)
            sizes = resized(now, config)
            after = replace(now, config=config, sizes=sizes, items=memory(now.shape, sizes))
            choices.append((not free, excess(after.items, room), name, value, after))
        better = [choice for choice in choices if choice[1] < excess(now.items, room)]
        if not better:
            break
        changes, _, name, value, now = min(better, key=lambda choice: choice[:2])
        turned[name] = Knob(name, value, not changes, peak(now.items))
    return list(turned.values())


def excess(items: Mapping[str, Bytes], room: float) -> float:
    """Return by how many bytes sampling and updating are too large, added up."""
    return sum(
        max(0.0, sum(getattr(item, phase) for item in items.values()) - room) for phase in ("sampling", "update")
    )


def offered(found: Forecast) -> list[tuple[str, Any, bool]]:
    """Return the settings that can be turned further: (name, next value, whether it is free)."""
    config, model, sizes = found.config, found.config.model, found.sizes
    now, evaluated = sampled_at_once(config, sizes.processes), config.evaluation.rows_at_once
    rows: list[tuple[str, Any, bool]] = [
        (name, value // 2, True)
        for name, value in (
            ("optimizer.micro_batch_rows", sizes.micro_rows),
            ("rollout.slots", now),
            ("evaluation.rows_at_once", evaluated),
        )
        if value > 1
    ]
    if not model.gradient_checkpointing:
        rows.append(("model.gradient_checkpointing", True, True))
    if config.theory.enabled:
        rows.append(("theory.enabled", False, True))
    if sizes.processes > 1 and model.parallel == "ddp":
        rows.append(("model.parallel", "fsdp2", True))
    if model.dtype == "float32":
        rows.append(("model.dtype", "bfloat16", False))
    if not model.lora_rank:
        rows.append(("model.lora_rank", 16, False))
    if sizes.new_tokens > 1:
        rows.append(("rollout.max_new_tokens", sizes.new_tokens // 2, False))
    return rows


def with_setting(config: TrainConfig, name: str, value: Any) -> TrainConfig:
    """Return the configuration with one setting changed, such as `rollout.slots`."""
    group, _, key = name.partition(".")
    return replace(config, **{group: replace(getattr(config, group), **{key: value})})


def resized(found: Forecast, config: TrainConfig) -> Sizes:
    """Return the sizes of another configuration of the same model and prompts."""
    old = found.sizes
    new = config.rollout.max_new_tokens or old.new_tokens
    accelerator = old.block == TILE[True] * PANEL[True]
    return sizes_of(config, build_algorithm(config).needs, old.prompt_tokens, new, old.processes, accelerator)
