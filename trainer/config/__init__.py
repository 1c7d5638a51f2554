"""The configuration of a run: what every setting means, its unit and where its default comes from."""

from dataclasses import dataclass, field
from pathlib import Path

from trainer.config.checks import require
from trainer.config.data import DataConfig, HeldOutConfig, RewardConfig
from trainer.config.methods import AlgorithmConfig, BandConfig, RolloutConfig, TheoryConfig
from trainer.config.policy import ModelConfig, OptimizerConfig
from trainer.config.run import EVALUATION_SETTINGS, CheckpointConfig, EvaluationConfig, LogConfig

__all__ = [
    "EVALUATION_SETTINGS",
    "AlgorithmConfig",
    "BandConfig",
    "CheckpointConfig",
    "DataConfig",
    "EvaluationConfig",
    "HeldOutConfig",
    "LogConfig",
    "ModelConfig",
    "OptimizerConfig",
    "RewardConfig",
    "RolloutConfig",
    "TheoryConfig",
    "TrainConfig",
]


@dataclass(frozen=True)
class TrainConfig:
    """One training run.

    Args:
        output: the run directory.
        steps: rollout batches, each followed by one update.
        seed: root of every random stream.
        resume: go on from the latest whole checkpoint in the run directory; begin there where nothing was begun yet.
            `--resume` alone is true.
        overwrite: replace a run that is already in the run directory. `--overwrite` alone is true.
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
        log: where numbers go.
    """

    output: Path = Path("runs/run")
    steps: int = 200
    seed: int = 0
    resume: bool = False
    overwrite: bool = False
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
    log: LogConfig = field(default_factory=LogConfig)

    def __post_init__(self) -> None:
        require(self.steps >= 1, f"steps={self.steps} must be at least 1.")
        require(not (self.resume and self.overwrite), "resume and overwrite must not both be set; choose one.")
        require(
            self.algorithm.mini_batches <= self.rollout.prompts,
            f"algorithm.mini_batches={self.algorithm.mini_batches} must not exceed rollout.prompts="
            f"{self.rollout.prompts}: each mini-batch takes whole groups.",
        )
