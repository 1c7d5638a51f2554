"""What a run evaluates, saves and logs."""

from dataclasses import dataclass, field
from typing import Literal

from trainer.config.checks import require

# Sampling of held-out evaluation: (temperature, top-p, top-k). `paper` is arXiv 2604.26326, Section 4.
EVALUATION_SETTINGS = {"t1": (1.0, 1.0, 0), "greedy": (1.0, 1.0, 1), "paper": (0.6, 0.95, 20)}


@dataclass(frozen=True)
class EvaluationConfig:
    """Held-out evaluation.

    Args:
        prompts: held-out prompts of each set; 0 turns evaluation off.
        samples: completions a prompt; one where the likeliest token is always taken.
        rows_at_once: most completions sampled together; lower it where memory runs out.
        settings: sampling settings, of `t1` (temperature 1), `paper` (0.6, top-p 0.95, top-k 20), `greedy`, and those
            of `sampling`.
        sampling: settings of your own by name, such as {warm: {temperature: 0.8, top_p: 0.9, top_k: 0}}.
        pass_at: the k of pass@k and maj@k, those up to `samples`; empty for all powers of two. pass@1, the mean over
            samples, is always there; maj@1 would be the same.
        every: steps between evaluations on the way; 0 for the end alone.
        at_start: also evaluate the base model.
        split: the task's split to use; keep `test` for final numbers, `validation` for choosing checkpoints.
        seed: draws the held-out prompts, and resamples them for intervals; the same for every run that shares it.
    """

    prompts: int = 256
    samples: int = 32
    rows_at_once: int = 1024
    settings: tuple[str, ...] = ("t1", "paper")
    sampling: dict[str, dict[str, float]] = field(default_factory=dict)
    pass_at: tuple[int, ...] = (1, 8, 32)
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
        known = EVALUATION_SETTINGS.keys() | self.sampling.keys()
        unknown = sorted(set(self.settings) - known)
        require(not unknown, f"evaluation.settings must be of {sorted(known)}; got {unknown}.")
        require(all(k >= 1 for k in self.pass_at), f"evaluation.pass_at={list(self.pass_at)} must be at least 1.")


@dataclass(frozen=True)
class CheckpointConfig:
    """What is saved on the way.

    Args:
        every: steps between checkpoints; 0 for the end alone. An interrupted run saves one as it stops.
        keep: how many of the latest to keep; 0 keeps all. One that an interrupt saved goes when the next is there.
        rollouts_every: steps between samples of rollouts written to `rollouts/`; 0 for none.
        rollouts: about how many rollouts a sample holds: whole groups of different prompts, at least one. 0 for none.
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
class LogConfig:
    """Where a run's numbers go beside `metrics.jsonl`, which is always written.

    Args:
        tensorboard: also write TensorBoard events.
        wandb: also log to this Weights & Biases project (extra `wandb`).
        text_every: steps between summaries printed as text; 0 for none but the progress bar.
    """

    tensorboard: bool = True
    wandb: str | None = None
    text_every: int = 0

    def __post_init__(self) -> None:
        require(self.text_every >= 0, f"log.text_every={self.text_every} must not be negative.")
