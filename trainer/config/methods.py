"""Sampling, the methods of a step, the band and the theory that watches."""

from dataclasses import dataclass, field
from typing import Any, Literal

from trainer.config.checks import require


@dataclass(frozen=True)
class RolloutConfig:
    """How completions are sampled.

    Args:
        prompts: P, prompts a step.
        group_size: G, completions a prompt; a step has P x G rollouts.
        max_new_tokens: tokens after which a completion is cut; 0 takes the task's longest answer.
        temperature: sampling temperature; the policy that is trained is softmax(logits / temperature).
        top_p: nucleus truncation; 1 is off.
        top_k: keep the k likeliest tokens; 0 is off.
        stop: texts that end a completion, beside the end token; the text that ends it belongs to the completion.
        slots: completions decoded at once; a finished one's place is taken by the next. 0 decodes all at once.
        engine: what decodes: `cache` (a KV cache in this process), or `module:name` of your own.
    """

    prompts: int = 32
    group_size: int = 8
    max_new_tokens: int = 0
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    stop: tuple[str, ...] = ()
    slots: int = 0
    engine: str = "cache"

    def __post_init__(self) -> None:
        require(
            self.prompts >= 1 and self.group_size >= 1 and self.max_new_tokens >= 0,
            f"rollout.prompts={self.prompts}, group_size={self.group_size} must be at least 1 and "
            f"max_new_tokens={self.max_new_tokens} at least 0.",
        )
        require(
            self.slots >= 0 and "" not in self.stop,
            f"rollout.slots={self.slots} must not be negative, and rollout.stop={list(self.stop)} not hold empty text.",
        )


@dataclass(frozen=True)
class AlgorithmConfig:
    """The methods of each stage, by name or `module:name`, and how the batch is used.

    Args:
        advantage: advantage estimator.
        advantage_options: its hyper-parameters.
        shaping: what reshapes advantages with the recorded tokens; null for none.
        shaping_options: its hyper-parameters.
        filter: rollout filter or controller.
        filter_options: its hyper-parameters.
        token_weight: a weight for each token's objective; null for none.
        token_weight_options: its hyper-parameters.
        clip: clip rule.
        clip_options: its hyper-parameters, such as low and high of `ppo`.
        terms: further loss terms, a mapping from name to hyper-parameters, such as {aec: {target: 0.2}}.
        denominator: `drop` divides by the tokens of accepted rows (the paper), `zero` by those of all rows (its code).
        denominator_options: its hyper-parameters.
        kl: coefficient of the KL term against the initial policy; 0 is off.
        kl_estimator: `k1`, `k2` or `k3` (`entrocraft methods kl` says how their gradients differ).
        entropy_bonus: coefficient of the entropy bonus; 0 is off.
        mini_batches: optimiser steps an epoch; prompts are split among them.
        epochs: passes over a batch of rollouts.
    """

    advantage: str = "grpo"
    advantage_options: dict[str, Any] = field(default_factory=dict)
    shaping: str | None = None
    shaping_options: dict[str, Any] = field(default_factory=dict)
    filter: str = "none"
    filter_options: dict[str, Any] = field(default_factory=dict)
    token_weight: str | None = None
    token_weight_options: dict[str, Any] = field(default_factory=dict)
    clip: str = "ppo"
    clip_options: dict[str, Any] = field(default_factory=dict)
    terms: dict[str, dict[str, Any]] = field(default_factory=dict)
    denominator: str = "drop"
    denominator_options: dict[str, Any] = field(default_factory=dict)
    kl: float = 0.0
    kl_estimator: Literal["k1", "k2", "k3"] = "k3"
    entropy_bonus: float = 0.0
    mini_batches: int = 4
    epochs: int = 1

    def __post_init__(self) -> None:
        require(
            self.mini_batches >= 1 and self.epochs >= 1 and self.kl >= 0,
            f"algorithm.mini_batches={self.mini_batches}, epochs={self.epochs} must be at least 1, kl={self.kl} not "
            "negative.",
        )


@dataclass(frozen=True)
class BandConfig:
    """Where entropy is wanted over the run; also logged for runs without control, so that they can be compared.

    Args:
        schedule: `constant`, `linear`, `cosine`, `square` or `piecewise`, or `module:name` of your own.
        start: [low, high] at the beginning.
        end: [low, high] at the end. The defaults are the paper's general run, (0.6, 0.7) to (0.4, 0.5) nats, in units
            of its starting centre 0.65. `piecewise` takes neither.
        unit: `nats`, or `relative`, in units of the base model's entropy (that of the first batch of rollouts); it
            scales the bands of every schedule, those of a file too.
        options: further hyper-parameters of the schedule: `period` of `square`; of `piecewise`, `points`, a list of
            [share of the run, low, high], or `file`, a CSV file with the columns progress (share of the run) or step,
            and low and high, or centre and half_width.
        warm_start: share of the run in which the band's centre goes straight from the first batch's entropy to the
            schedule; 0 starts on the schedule.
    """

    schedule: str = "linear"
    start: tuple[float, float] = (0.92, 1.08)
    end: tuple[float, float] = (0.62, 0.77)
    unit: Literal["nats", "relative"] = "relative"
    options: dict[str, Any] = field(default_factory=dict)
    warm_start: float = 0.0

    def __post_init__(self) -> None:
        require(
            0 <= self.warm_start <= 1,
            f"band.warm_start={self.warm_start} must be a share of the run in [0, 1]; 0 starts on the schedule.",
        )


@dataclass(frozen=True)
class TheoryConfig:
    """Predicted against measured entropy change, every step, on a probe of that step's rollouts.

    Args:
        enabled: turns it all off or on; training is the same either way, to the last bit, but for controllers, which
            learn from more or fewer rollouts.
        every: steps between probes.
        probe_rows: rollouts in the probe, redrawn each step.
        control_rows: rollouts in it at steps where only a controller asks for what is measured.
        tabular: also record, for every token, what the per-token formula needs (more passes over its logits).
        second_order: also compute the second-order term of the parameter step (two more backward passes).
        condition: also measure the condition of the paper's theorems on the probe's tokens (two more passes, and their
            logits are kept over the update: at most 2^28 numbers, so lower `probe_rows` for large vocabularies).
    """

    enabled: bool = True
    every: int = 1
    probe_rows: int = 64
    control_rows: int = 16
    tabular: bool = True
    second_order: bool = False
    condition: bool = False

    def __post_init__(self) -> None:
        require(
            min(self.probe_rows, self.control_rows, self.every) >= 1,
            f"theory.probe_rows={self.probe_rows}, control_rows={self.control_rows} and every={self.every} must be at "
            "least 1.",
        )
