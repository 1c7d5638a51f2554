"""The configuration of a run: what every setting means, its unit and where its default comes from."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

# Sampling of held-out evaluation: (temperature, top-p, top-k). `paper` is arXiv 2604.26326, Section 4.
EVALUATION_SETTINGS = {"t1": (1.0, 1.0, 0), "paper": (0.6, 0.95, 20)}


def require(holds: bool, message: str) -> None:
    """Raise a ValueError with this message unless the condition holds."""
    if not holds:
        raise ValueError(message)


@dataclass(frozen=True)
class ModelConfig:
    """The policy to train.

    Args:
        path: a folder in Hugging Face format, a hub id, or the name of a shipped model.
        dtype: type of the computation; `bfloat16` keeps float32 weights, and log-probabilities are float32 at least.
        device: a torch device, or `auto` for the first GPU where there is one.
        attention: an attention implementation of transformers (`sdpa`, `eager`, `flash_attention_2`), `sdpa_float64`
            (to the last bit the same in sampler and trainer, given some 16 rows at once), or `auto`: `sdpa_float64` for
            float32 on the CPU, else `sdpa`.
        lora_rank: train low-rank adapters of this rank on all linear layers instead of the weights (extra `lora`); 0 is
            off. Checkpoints then hold the adapter in peft's format.
        lora_alpha: the adapters' scale times their rank.
        threads: CPU threads; 0 takes one for models below 5 million parameters, where more are slower, and torch's own
            choice for others.
    """

    path: str = "countdown-0.2m"
    dtype: Literal["float32", "bfloat16", "float64"] = "float32"
    device: str = "auto"
    attention: str = "auto"
    lora_rank: int = 0
    lora_alpha: float = 32.0
    threads: int = 0


@dataclass(frozen=True)
class DataConfig:
    """Where prompts come from: a task that draws them, or a file.

    Args:
        task: name of a task, or `module:Class` of your own; ignored when `prompts` is given.
        prompts: a .jsonl file, one prompt a line; or, with the extra `data`, a .parquet or .csv file, or a hub data
            set as owner/name or owner/name:split. Other columns go to the reward function.
        held_out: the same for held-out evaluation; with a task, its test split is used.
        prompt_column: the column that holds the prompt's text.
    """

    task: str = "countdown"
    prompts: str | None = None
    held_out: str | None = None
    prompt_column: str = "prompt"


@dataclass(frozen=True)
class RewardConfig:
    """How completions are scored.

    Args:
        function: `module:function` with TRL's reward signature; null takes the task's own verifier.
        convention: `as_is`, or `signed`, which maps rewards in [0, 1] to 2 r - 1 before advantages are computed.
    """

    function: str | None = None
    convention: Literal["as_is", "signed"] = "as_is"


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
    """

    prompts: int = 32
    group_size: int = 8
    max_new_tokens: int = 0
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0

    def __post_init__(self) -> None:
        require(
            self.prompts >= 1 and self.group_size >= 1 and self.max_new_tokens >= 0,
            f"rollout.prompts={self.prompts}, group_size={self.group_size} must be at least 1 and "
            f"max_new_tokens={self.max_new_tokens} at least 0.",
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
        kl: coefficient of the k3 KL term against the initial policy; 0 is off.
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
class OptimizerConfig:
    """AdamW.

    Args:
        learning_rate: constant after the warm-up.
        warmup: steps of linear warm-up.
        beta1: decay of the gradient's running mean.
        beta2: decay of the squared gradient's running mean.
        eps: added to the root of the second moment.
        weight_decay: decoupled weight decay.
        gradient_clip: largest gradient norm.
        micro_batch_rows: rows of one backward pass; changes memory and speed, not the gradient.
    """

    learning_rate: float = 1e-4
    warmup: int = 0
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8
    weight_decay: float = 0.0
    gradient_clip: float = 1.0
    micro_batch_rows: int = 64

    def __post_init__(self) -> None:
        require(
            self.learning_rate >= 0 and self.warmup >= 0 and self.gradient_clip > 0 and self.micro_batch_rows >= 1,
            f"optimizer.learning_rate={self.learning_rate} and optimizer.warmup={self.warmup} must not be negative, "
            f"gradient_clip={self.gradient_clip} must be above 0, micro_batch_rows={self.micro_batch_rows} at least 1.",
        )
        require(
            0 <= self.beta1 < 1 and 0 <= self.beta2 < 1 and self.eps >= 0 and self.weight_decay >= 0,
            f"optimizer.beta1={self.beta1} and beta2={self.beta2} must be in [0, 1), eps={self.eps} and weight_decay="
            f"{self.weight_decay} not negative.",
        )


@dataclass(frozen=True)
class BandConfig:
    """Where entropy is wanted over the run; also logged for runs without control, so that they can be compared.

    Args:
        schedule: `constant`, `linear`, `cosine` or `square`.
        start: [low, high] at the beginning.
        end: [low, high] at the end. The defaults are the paper's general run, (0.6, 0.7) to (0.4, 0.5) nats, in units
            of its starting centre 0.65.
        unit: `nats`, or `relative`, in units of the base model's entropy (that of the first batch of rollouts).
        options: further hyper-parameters of the schedule, such as `period` of `square`.
    """

    schedule: str = "linear"
    start: tuple[float, float] = (0.92, 1.08)
    end: tuple[float, float] = (0.62, 0.77)
    unit: Literal["nats", "relative"] = "relative"
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class TheoryConfig:
    """Predicted against measured entropy change, every step, on a probe of that step's rollouts.

    Args:
        enabled: turns it all off or on; training is the same either way, to the last bit.
        probe_rows: rollouts in the probe, redrawn each step.
        second_order: also compute the second-order term of the parameter step (two more backward passes).
    """

    enabled: bool = True
    probe_rows: int = 64
    second_order: bool = False

    def __post_init__(self) -> None:
        require(self.probe_rows >= 1, f"theory.probe_rows={self.probe_rows} must be at least 1.")


@dataclass(frozen=True)
class EvaluationConfig:
    """Held-out evaluation.

    Args:
        prompts: held-out prompts; 0 turns evaluation off.
        samples: completions a prompt.
        rows_at_once: completions sampled together; lower it where memory runs out.
        settings: sampling settings, of `t1` (temperature 1) and `paper` (0.6, top-p 0.95, top-k 20).
        every: steps between evaluations on the way; 0 for the end alone.
        at_start: also evaluate the base model.
        split: the task's split to use; keep `test` for final numbers, `validation` for choosing checkpoints.
        seed: draws the held-out prompts; the same prompts for every run that shares it.
    """

    prompts: int = 256
    samples: int = 32
    rows_at_once: int = 1024
    settings: tuple[str, ...] = ("t1", "paper")
    every: int = 0
    at_start: bool = False
    split: Literal["test", "validation"] = "test"
    seed: int = 0

    def __post_init__(self) -> None:
        require(
            self.prompts >= 0 and self.samples >= 1 and self.every >= 0 and self.rows_at_once >= 1,
            f"evaluation.prompts={self.prompts} and every={self.every} must not be negative, evaluation.samples="
            f"{self.samples} and rows_at_once={self.rows_at_once} must be at least 1.",
        )
        unknown = sorted(set(self.settings) - set(EVALUATION_SETTINGS))
        require(not unknown, f"evaluation.settings must be of {sorted(EVALUATION_SETTINGS)}; got {unknown}.")


@dataclass(frozen=True)
class CheckpointConfig:
    """What is saved on the way.

    Args:
        every: steps between checkpoints; 0 for the end alone. An interrupted run saves one as it stops.
        keep: how many of the latest to keep; 0 keeps all.
        rollouts_every: steps between samples of rollouts written to `rollouts/`; 0 for none.
        rollouts: how many rollouts a sample holds.
    """

    every: int = 50
    keep: int = 2
    rollouts_every: int = 25
    rollouts: int = 32

    def __post_init__(self) -> None:
        require(
            min(self.every, self.keep, self.rollouts_every, self.rollouts) >= 0,
            f"checkpoint.every={self.every}, checkpoint.keep={self.keep}, rollouts_every={self.rollouts_every} and "
            f"rollouts={self.rollouts} must not be negative.",
        )


@dataclass(frozen=True)
class TrainConfig:
    """One training run.

    Args:
        output: the run directory.
        steps: rollout batches, each followed by one update.
        seed: root of every random stream.
        resume: go on from the latest checkpoint in the run directory.
        overwrite: replace a run that is already in the run directory.
        wandb: also log to this Weights & Biases project (extra `wandb`).
        model: the policy.
        data: prompts.
        reward: scoring.
        rollout: sampling.
        algorithm: methods.
        optimizer: AdamW.
        band: the entropy schedule.
        theory: predicted against measured entropy change.
        evaluation: held-out evaluation.
        checkpoint: what is saved.
    """

    output: Path = Path("runs/run")
    steps: int = 200
    seed: int = 0
    resume: bool = False
    overwrite: bool = False
    wandb: str | None = None
    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    reward: RewardConfig = field(default_factory=RewardConfig)
    rollout: RolloutConfig = field(default_factory=RolloutConfig)
    algorithm: AlgorithmConfig = field(default_factory=AlgorithmConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    band: BandConfig = field(default_factory=BandConfig)
    theory: TheoryConfig = field(default_factory=TheoryConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)

    def __post_init__(self) -> None:
        require(self.steps >= 1, f"steps={self.steps} must be at least 1.")
        require(not (self.resume and self.overwrite), "resume and overwrite must not both be set; choose one.")
        require(
            self.algorithm.mini_batches <= self.rollout.prompts,
            f"algorithm.mini_batches={self.algorithm.mini_batches} must not exceed rollout.prompts="
            f"{self.rollout.prompts}: each mini-batch takes whole groups.",
        )
