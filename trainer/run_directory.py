"""The run directory: what a run leaves on disk, the contract with figures and users."""

import json
import math
import shutil
import sys
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from trainer.bad_steps import forget_bad_steps
from trainer.boards import Board, import_wandb, open_boards
from trainer.columns import COLUMNS
from trainer.config import TrainConfig
from trainer.environment import environment
from trainer.evaluate import Evaluation
from trainer.files import append_json, complete_lines, to_disk, tree_to_disk, write_json, write_text, writing
from trainer.parsing import as_yaml, load_config
from trainer.same_run import check_same_run, recorded

# What tells a run directory from a folder that happens to hold a config.yaml: only such a folder is ever removed.
MARKS = ("config.yaml", "environment.json", "checkpoints")
# The name of config.yaml while a run is being removed: it goes last, so that a kill on the way leaves a sign.
REMOVING = "config.yaml.removing"
JSON = ("columns.json", "environment.json")
# What there can be before config.yaml, which is written last: a run that was killed as it began.
BEFORE_CONFIG = {"checkpoints", "rollouts", *JSON, *(f"{name}.new" for name in (*JSON, "config.yaml"))}


class RunDirectory:
    """Writes `config.yaml`, `environment.json`, `metrics.jsonl`, `evaluations.jsonl`, `rollouts/`, `summary.json`.

    `metrics.jsonl` has one row a step with the columns of `trainer.columns`, flushed as it is written;
    `columns.json` says what they are. Whenever the process is killed, what is there is a run to resume, or counts as an
    empty folder.

    Args:
        config: the run's configuration; its `output` is the folder. `resume` with nothing to resume yet begins the run,
            so that one command can be given again and again until the run is done.

    Raises:
        FileExistsError: the folder holds files, and neither `resume` nor `overwrite` was asked for; or `overwrite`
            was asked for a folder that is no run directory.
        FileNotFoundError: `resume` was asked for a folder of other files.
        ValueError: `resume` was asked for a run with another configuration.
    """

    def __init__(self, config: TrainConfig) -> None:
        self.path = config.output
        self.config = config
        self.boards: list[Board] = []
        if config.log.wandb:
            import_wandb()
        if (self.path / REMOVING).is_file():
            remove_contents(self.path)
        is_run = all((self.path / name).exists() for name in MARKS)
        self.resumed = config.resume and is_run
        if self.resumed:
            self.go_on()
        elif not is_unused(self.path):
            self.clear(is_run)
        elif config.resume:
            print(f"nothing to resume in {self.path} yet: starting at step 0", file=sys.stderr)
        for folder in ("checkpoints", "rollouts"):
            (self.path / folder).mkdir(parents=True, exist_ok=True)
        write_json(self.path / "columns.json", {name: column._asdict() for name, column in COLUMNS.items()})
        if not self.resumed:
            write_json(self.path / "environment.json", environment(config))
            write_text(self.path / "config.yaml", as_yaml(recorded(config)))

    def clear(self, is_run: bool) -> None:
        """Remove an earlier run if that was asked for."""
        if self.config.resume:
            raise FileNotFoundError(
                f"output={str(self.path)!r} must hold a run to resume; got other files. Check the path."
            )
        if not self.config.overwrite:
            raise FileExistsError(
                f"output={str(self.path)!r} must be a new or empty folder; got one with files. "
                "Choose another, or pass --resume to go on with the run, or --overwrite to replace it."
            )
        if not is_run:
            raise FileExistsError(
                f"output={str(self.path)!r} must be a run directory to be overwritten; got a folder with other files. "
                "Remove it yourself if you are sure."
            )
        (self.path / "config.yaml").rename(self.path / REMOVING)
        remove_contents(self.path)

    def go_on(self) -> None:
        """Refuse to resume a run with other settings; record those that may differ."""
        file = self.path / "config.yaml"
        changed = check_same_run(load_config("--config", str(file)), self.config)
        if changed:
            settings = ", ".join(f"{name}: {text}" for name, text in changed.items())
            print(f"resumed with {settings}: results may differ by rounding", file=sys.stderr)
        text = as_yaml(recorded(self.config))
        if file.read_text() != text:
            write_text(file, text)

    def begin(self, step: int) -> None:
        """Open the boards for the steps from this one on; drop the rows that a resumed run writes again.

        Raises:
            ValueError: `metrics.jsonl` does not hold the rows before this step.
        """
        if self.resumed:
            if step == 0:
                print(f"no checkpoint in {self.path} yet: starting again at step 0", file=sys.stderr)
            self.forget_after(step)
        self.boards = open_boards(self.config, step if self.resumed else None)

    def forget_after(self, step: int) -> None:
        """Drop what was written of later steps than the first `step`."""
        # It says that the run is finished, which it is not until it is evaluated again.
        (self.path / "summary.json").unlink(missing_ok=True)
        forget_bad_steps(self.path, step)
        # The evaluations of the base and of the finished model are made again; others came before the checkpoint.
        evaluated_again = step in (0, self.config.steps)
        for name, last in (("metrics.jsonl", step - 1), ("evaluations.jsonl", step - evaluated_again)):
            file = self.path / name
            lines = complete_lines(file) if file.is_file() else []
            kept = [line for line in lines if json.loads(line)["step"] <= last]
            if name == "metrics.jsonl" and len(kept) != step:
                raise ValueError(
                    f"{file} must hold a row for each of the {step} steps before the checkpoint; got {len(kept)}. "
                    "Bring it back from a copy, or start the run again with --overwrite."
                )
            if file.is_file():
                write_text(file, "".join(f"{line}\n" for line in kept))

    def log(self, row: Mapping[str, Any]) -> None:
        """Append a step's row to `metrics.jsonl` and to the boards."""
        unknown = row.keys() - COLUMNS.keys()
        assert not unknown, f"columns without a description: {unknown}"
        append_json(self.path / "metrics.jsonl", {name: finite(row.get(name)) for name in COLUMNS})
        own = {f"info/{name}": value for name, value in row.get("info", {}).items()}
        values = {name: value for name, value in row.items() if name not in ("step", "info") and value is not None}
        for board in self.boards:
            board.log(values | own, row["step"])

    def log_evaluation(self, step: int, evaluation: Evaluation) -> None:
        """Append an evaluation, with its values per prompt, to `evaluations.jsonl`."""
        append_json(self.path / "evaluations.jsonl", {"step": step, **asdict(evaluation)})
        values = {f"eval_{evaluation.key}/{name}": item.value for name, item in evaluation.estimates.items()}
        for board in self.boards:
            board.log(values, step)

    def log_rollouts(self, step: int, rows: Iterable[Mapping[str, Any]]) -> None:
        """Write a sample of a step's rollouts."""
        text = "".join(json.dumps(row) + "\n" for row in rows)
        file = self.path / "rollouts" / f"step_{step}.jsonl"
        with writing(file):
            file.write_text(text)

    def to_disk(self) -> None:
        """Return when what was written so far is on the disk: a checkpoint must not outlive the rows before it."""
        for name in ("metrics.jsonl", "evaluations.jsonl"):
            if (self.path / name).is_file():
                to_disk(self.path / name)
        tree_to_disk(self.path / "rollouts")
        to_disk(self.path)

    def rows(self) -> list[dict[str, Any]]:
        """Return the rows of `metrics.jsonl` written so far."""
        return [json.loads(line) for line in complete_lines(self.path / "metrics.jsonl")]

    def write_summary(self, summary: Mapping[str, Any]) -> None:
        """Write `summary.json`."""
        write_json(self.path / "summary.json", summary)

    def close(self) -> None:
        """Flush what the boards hold."""
        for board in self.boards:
            board.close()


def is_unused(path: Path) -> bool:
    """Return whether a run may begin here: no folder, an empty one, or what a run killed as it began left of itself."""
    if not path.exists():
        return True
    if not path.is_dir():
        return False
    names = {entry.name for entry in path.iterdir()}
    begun = "checkpoints" in names and names <= BEFORE_CONFIG
    folders = (path / name for name in ("checkpoints", "rollouts") if name in names)
    return not names or (begun and not any(any(folder.iterdir()) for folder in folders))


def remove_contents(path: Path) -> None:
    """Remove a run, its renamed config.yaml last."""
    for entry in path.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        elif entry.name != REMOVING:
            entry.unlink()
    (path / REMOVING).unlink()


def finite(value: Any) -> Any:
    """Return the value with NaN and infinities as None, which JSON can hold."""
    if isinstance(value, Mapping):
        return {name: finite(item) for name, item in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value
