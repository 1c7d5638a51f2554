"""The run directory: what a run leaves on disk, the contract with figures and users."""

import json
import math
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import asdict, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from torch.utils.tensorboard import SummaryWriter

from trainer.columns import COLUMNS
from trainer.config import TrainConfig
from trainer.evaluate import Evaluation
from trainer.parsing import as_yaml, load_config, plain

# What tells a run directory from a folder that happens to hold a config.yaml: only such a folder is ever removed.
MARKS = ("config.yaml", "environment.json", "checkpoints")
PACKAGES = ("entrocraft", "torch", "transformers", "tokenizers", "numpy")


class RunDirectory:
    """Writes `config.yaml`, `environment.json`, `metrics.jsonl`, `evaluations.jsonl`, `rollouts/`, `summary.json`.

    `metrics.jsonl` has one row a step with the columns of `trainer.columns`, flushed as it is written.

    Args:
        config: the run's configuration; its `output` is the folder.

    Raises:
        FileExistsError: the folder holds files, and neither `resume` nor `overwrite` was asked for; or `overwrite`
            was asked for a folder that is no run directory.
        FileNotFoundError: `resume` was asked for a folder without a run.
        ValueError: `resume` was asked for a run with another configuration.
    """

    def __init__(self, config: TrainConfig) -> None:
        self.path = config.output
        self.config = config
        if config.log.wandb:
            import_wandb()
        occupied = self.path.exists() and (not self.path.is_dir() or any(self.path.iterdir()))
        is_run = all((self.path / name).exists() for name in MARKS)
        if config.resume:
            self.check_same_run(is_run)
        elif occupied:
            self.clear(is_run)
        for folder in ("checkpoints", "rollouts"):
            (self.path / folder).mkdir(parents=True, exist_ok=True)
        if not config.resume:
            # How to make the run, not how this one was begun: the file serves to resume it.
            (self.path / "config.yaml").write_text(as_yaml(replace(config, overwrite=False)))
            write_json(self.path / "environment.json", environment(config))
        self.board = SummaryWriter(str(self.path / "tensorboard"))
        self.wandb = start_wandb(config) if config.log.wandb else None

    def clear(self, is_run: bool) -> None:
        """Remove an earlier run if that was asked for."""
        if not self.config.overwrite:
            raise FileExistsError(
                f"output={str(self.path)!r} must be a new or empty folder; got one with files. "
                "Choose another, or pass --resume true to go on with the run, or --overwrite true to replace it."
            )
        if not is_run:
            raise FileExistsError(
                f"output={str(self.path)!r} must be a run directory to be overwritten; got a folder with other files. "
                "Remove it yourself if you are sure."
            )
        shutil.rmtree(self.path)

    def check_same_run(self, is_run: bool) -> None:
        """Refuse to resume what is not there, or a run with other settings."""
        if not is_run:
            raise FileNotFoundError(
                f"output={str(self.path)!r} must hold a run to resume; got none there. Start without --resume."
            )
        free = {"resume": False, "overwrite": False, "output": Path()}
        old, new = (asdict(c) | free for c in (load_config("--config", str(self.path / "config.yaml")), self.config))
        changed = sorted(key for key in new if new[key] != old[key])
        if changed:
            raise ValueError(
                f"resume must go on with the run's own settings; got others in {changed}. "
                f"Pass --config {self.path / 'config.yaml'} --resume true."
            )

    def log(self, row: Mapping[str, Any]) -> None:
        """Append a step's row to `metrics.jsonl` and to TensorBoard."""
        unknown = row.keys() - COLUMNS.keys()
        assert not unknown, f"columns without a description: {unknown}"
        append_json(self.path / "metrics.jsonl", {name: finite(row.get(name)) for name in COLUMNS})
        own = {f"info/{name}": value for name, value in row.get("info", {}).items()}
        values = {
            name: value for name, value in row.items() if name not in ("step", "info") and value is not None
        } | own
        for name, value in values.items():
            self.board.add_scalar(name, value, row["step"])
        if self.wandb:
            self.wandb.log(values, step=row["step"])

    def log_evaluation(self, step: int, evaluation: Evaluation) -> None:
        """Append an evaluation, with its per-prompt counts, to `evaluations.jsonl`."""
        append_json(self.path / "evaluations.jsonl", {"step": step, **asdict(evaluation)})
        for name, estimate in evaluation.estimates.items():
            self.board.add_scalar(f"eval_{evaluation.setting}/{name}", estimate.value, step)

    def log_rollouts(self, step: int, rows: Iterable[Mapping[str, Any]]) -> None:
        """Write a sample of a step's rollouts."""
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (self.path / "rollouts" / f"step_{step}.jsonl").write_text(text)

    def forget_after(self, step: int) -> None:
        """Drop the rows that the run writes again when it goes on after `step` steps."""
        # The evaluations of the base and of the finished model are made again; others came before the checkpoint.
        evaluated_again = step in (0, self.config.steps)
        for name, last in (("metrics.jsonl", step - 1), ("evaluations.jsonl", step - evaluated_again)):
            file = self.path / name
            if file.is_file():
                kept = [line for line in complete_lines(file) if json.loads(line)["step"] <= last]
                replace_text(file, "".join(f"{line}\n" for line in kept))
        self.board.close()
        self.board = SummaryWriter(str(self.path / "tensorboard"), purge_step=step)

    def rows(self) -> list[dict[str, Any]]:
        """Return the rows of `metrics.jsonl` written so far."""
        return [json.loads(line) for line in complete_lines(self.path / "metrics.jsonl")]

    def write_summary(self, summary: Mapping[str, Any]) -> None:
        """Write `summary.json`."""
        write_json(self.path / "summary.json", summary)

    def close(self) -> None:
        """Flush what TensorBoard and Weights & Biases hold."""
        self.board.close()
        if self.wandb:
            self.wandb.finish()


def import_wandb() -> Any:
    """Return the module wandb, or say how to install it."""
    try:
        import wandb
    except ImportError as error:
        raise ImportError(
            "log.wandb needs the package wandb. Install entrocraft[wandb], or leave log.wandb empty."
        ) from error
    return wandb


def start_wandb(config: TrainConfig) -> Any:
    """Return a Weights & Biases run in the configured project.

    Raises:
        ImportError: without the extra `wandb`.
    """
    return import_wandb().init(
        project=config.log.wandb, name=config.output.name, dir=config.output, config=plain(asdict(config))
    )


def environment(config: TrainConfig) -> dict[str, Any]:
    """Return what a run depended on: versions, commit, device, seed."""
    cuda = torch.cuda.is_available()
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: installed_version(name) for name in PACKAGES},
        "git_commit": git_commit(),
        "device": torch.cuda.get_device_name() if cuda and config.model.device != "cpu" else "cpu",
        "cpu_count": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "seed": config.seed,
        "command": sys.argv,
    }


def installed_version(name: str) -> str | None:
    """Return the version of an installed distribution, None where there is none."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def git_commit() -> str | None:
    """Return the commit of the source tree this runs from, -dirty with local changes; None for an installed copy."""
    home = Path(__file__).parent.parent
    if not (home / ".git").exists():
        return None
    try:
        described = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],
            cwd=home,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return described.stdout.strip()


def finite(value: Any) -> Any:
    """Return the value with NaN and infinities as None, which JSON can hold."""
    if isinstance(value, Mapping):
        return {name: finite(item) for name, item in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


def complete_lines(file: Path) -> list[str]:
    """Return the lines of a file that end in a newline: a kill can leave half a line behind."""
    return [line[:-1] for line in file.read_text().splitlines(keepends=True) if line.endswith("\n")]


def append_json(file: Path, row: Mapping[str, Any]) -> None:
    """Append one JSON line."""
    with file.open("a") as stream:
        stream.write(json.dumps(row, allow_nan=False) + "\n")


def write_json(file: Path, value: Any) -> None:
    """Write JSON, all of it or nothing."""
    replace_text(file, json.dumps(value, indent=2, allow_nan=False) + "\n")


def replace_text(file: Path, text: str) -> None:
    """Write a file under a temporary name and rename it, so that a kill leaves the old one."""
    temporary = file.with_name(file.name + ".new")
    temporary.write_text(text)
    temporary.replace(file)
