"""The run directory in a process that does not write it."""

from collections.abc import Iterable, Mapping
from typing import Any

from trainer.config import TrainConfig
from trainer.evaluate import Evaluation
from trainer.run_directory import RunDirectory
from trainer.workers import Workers


class Onlooker:
    """Stands where the main process has a `RunDirectory`, on a file system that all processes see; writes nothing.

    Args:
        config: the run's configuration.
    """

    def __init__(self, config: TrainConfig) -> None:
        self.path = config.output

    def begin(self, step: int) -> None:
        """Do nothing."""

    def log(self, row: Mapping[str, Any]) -> None:
        """Do nothing."""

    def log_evaluation(self, step: int, evaluation: Evaluation) -> None:
        """Do nothing."""

    def log_rollouts(self, step: int, rows: Iterable[Mapping[str, Any]]) -> None:
        """Do nothing."""

    def to_disk(self) -> None:
        """Do nothing."""

    def rows(self) -> list[dict[str, Any]]:
        """Return nothing: the main process reads them."""
        return []

    def write_summary(self, summary: Mapping[str, Any]) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""


def open_directory(config: TrainConfig, workers: Workers) -> RunDirectory | Onlooker:
    """Return the run directory: the main process makes it before the others look at it."""
    directory = RunDirectory(config) if workers.main else Onlooker(config)
    workers.wait()
    return directory
