"""The run directory in a process that does not write it."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager, nullcontext
from typing import Any

from trainer.config import TrainConfig
from trainer.evaluate import Evaluation
from trainer.files import held
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


@contextmanager
def open_directory(config: TrainConfig, workers: Workers) -> Iterator[RunDirectory | Onlooker]:
    """Yield the run directory, which the main process makes before the others look at it, and holds until it ends.

    Raises:
        FileExistsError: another process is writing there, or it cannot be a run directory.
    """
    # What is no folder is refused with all else that cannot be a run directory.
    alone = held(config.output) if workers.main and not config.output.is_file() else nullcontext()
    with alone, closing(RunDirectory(config) if workers.main else Onlooker(config)) as directory:
        workers.wait()
        yield directory
