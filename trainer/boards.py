"""Where a run's numbers go beside `metrics.jsonl`: TensorBoard and Weights & Biases, imported only when asked for."""

import secrets
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from trainer.config import TrainConfig
from trainer.files import write_text, writing
from trainer.parsing import plain
from trainer.same_run import recorded

WANDB_ID = "wandb_id"


@runtime_checkable
class Board(Protocol):
    """A place for scalars."""

    def log(self, values: Mapping[str, int | float], step: int) -> None:
        """Take the values of a step, by name."""

    def close(self) -> None:
        """Write what is held back."""


class TensorBoard:
    """Writes events into a folder.

    Args:
        folder: where.
        purge_step: a resumed run writes this step and those after it again: their earlier events no longer count.
    """

    def __init__(self, folder: Path, purge_step: int | None) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.folder = folder
        self.writer = SummaryWriter(str(folder), purge_step=purge_step)

    def log(self, values: Mapping[str, int | float], step: int) -> None:
        """Add one event a value."""
        with writing(self.folder):
            for name, value in values.items():
                self.writer.add_scalar(name, value, step)

    def close(self) -> None:
        """Flush and close the file of events."""
        with writing(self.folder):
            self.writer.close()


class WandB:
    """Logs to a Weights & Biases run, which a resumed run continues.

    The steps that a resumed run takes again have the numbers they had, and wandb passes over those it has already.

    Args:
        config: names the project.
    """

    def __init__(self, config: TrainConfig) -> None:
        self.run = import_wandb().init(
            project=config.log.wandb,
            name=config.output.name,
            dir=config.output,
            id=wandb_id(config.output),
            resume="allow",
            config=plain(asdict(recorded(config))),
            # Resuming may change settings that change no result.
            allow_val_change=True,
        )

    def log(self, values: Mapping[str, int | float], step: int) -> None:
        """Log the values at this step."""
        self.run.log(dict(values), step=step)

    def close(self) -> None:
        """Say that the run has ended."""
        self.run.finish()


def open_boards(config: TrainConfig, purge_step: int | None) -> list[Board]:
    """Return the boards that the configuration asks for; `purge_step` is where a resumed run goes on."""
    boards: list[Board] = []
    if config.log.tensorboard:
        boards.append(TensorBoard(config.output / "tensorboard", purge_step))
    if config.log.wandb:
        boards.append(WandB(config))
    return boards


def import_wandb() -> Any:
    """Return the module wandb, or say how to install it."""
    try:
        import wandb
    except ImportError as error:
        raise ImportError(
            "log.wandb needs the package wandb. Install entrocraft[wandb], or leave log.wandb empty."
        ) from error
    return wandb


def wandb_id(output: Path) -> str:
    """Return the run's id at Weights & Biases, drawn once and kept in the run directory."""
    file = output / WANDB_ID
    if not file.is_file():
        write_text(file, secrets.token_hex(8) + "\n")
    return file.read_text().strip()
