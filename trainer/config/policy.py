"""The policy and its optimiser."""

from dataclasses import dataclass
from typing import Literal

from trainer.config.checks import require


@dataclass(frozen=True)
class ModelConfig:
    """The policy to train.

    Args:
        path: a folder in Hugging Face format, a hub id, or the name of a shipped model.
        revision: branch, tag or commit of a hub model; null for its main one.
        dtype: type of the computation; log-probabilities and entropies are float32 at least.
        weights: type in which the weights are kept and stepped: `float32` under a bfloat16 computation are the usual
            master weights, `bfloat16` halves memory but loses steps of a small learning rate. `auto` is float32,
            except float64 for a float64 computation and bfloat16 for the frozen weights under LoRA in bfloat16.
        device: a torch device, or `auto` for the first GPU where there is one (each process's own under a launcher).
        attention: an attention implementation of transformers (`sdpa`, `eager`, `flash_attention_2`), `sdpa_float64`
            (to the last bit the same in sampler and trainer, given some 16 rows at once), or `auto`: `sdpa_float64` for
            float32 on the CPU, else `sdpa`.
        gradient_checkpointing: recompute activations in the backward pass: less memory, about a quarter more time.
        lora_rank: train low-rank adapters of this rank on all linear layers instead of the weights (extra `lora`); 0 is
            off. Checkpoints then hold the adapter in peft's format.
        lora_alpha: the adapters' scale times their rank.
        parallel: how several processes share the model: `ddp`, a copy each, or `fsdp2`, a shard each.
        trust_remote_code: run Python code that comes with the model's files.
        threads: CPU threads; 0 takes one for models below 5 million parameters, where more are slower, and torch's own
            choice for others.
    """

    path: str = "countdown-0.2m"
    revision: str | None = None
    dtype: Literal["float32", "bfloat16", "float64"] = "float32"
    weights: Literal["auto", "float32", "bfloat16"] = "auto"
    device: str = "auto"
    attention: str = "auto"
    gradient_checkpointing: bool = False
    lora_rank: int = 0
    lora_alpha: float = 32.0
    parallel: Literal["ddp", "fsdp2"] = "ddp"
    trust_remote_code: bool = False
    threads: int = 0

    def __post_init__(self) -> None:
        require(
            self.weights == "auto" or self.dtype != "float64",
            f"model.weights={self.weights} must be auto for a float64 computation. Set model.weights: auto.",
        )
        require(
            self.weights != "bfloat16" or self.dtype == "bfloat16",
            f"model.weights=bfloat16 must go with model.dtype=bfloat16; got {self.dtype}. Set model.dtype: bfloat16.",
        )
        require(self.threads >= 0, f"model.threads={self.threads} must not be negative; 0 chooses.")
        require(self.lora_rank >= 0, f"model.lora_rank={self.lora_rank} must not be negative; 0 is off.")


@dataclass(frozen=True)
class OptimizerConfig:
    """AdamW.

    Args:
        learning_rate: its greatest value, after the warm-up.
        warmup: steps of linear warm-up.
        schedule: what follows the warm-up: `constant`, or a `linear` or `cosine` fall that would reach 0 one
            step after the last.
        beta1: decay of the gradient's running mean.
        beta2: decay of the squared gradient's running mean.
        eps: added to the root of the second moment.
        weight_decay: decoupled weight decay.
        gradient_clip: largest gradient norm.
        micro_batch_rows: most rows of one pass; changes memory and speed, not the gradient.
        micro_batch_tokens: most tokens of one pass, prompts and padding included; rows of like length then share a
            pass. 0 leaves it to `micro_batch_rows`.
        bad_steps: stop after this many steps in a row whose loss or gradient was not finite; each is skipped, and its
            batch saved in `bad_steps/`.
    """

    learning_rate: float = 1e-4
    warmup: int = 0
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8
    weight_decay: float = 0.0
    gradient_clip: float = 1.0
    micro_batch_rows: int = 64
    micro_batch_tokens: int = 0
    bad_steps: int = 3

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
        require(
            self.micro_batch_tokens >= 0 and self.bad_steps >= 1,
            f"optimizer.micro_batch_tokens={self.micro_batch_tokens} must not be negative, "
            f"bad_steps={self.bad_steps} at least 1.",
        )
