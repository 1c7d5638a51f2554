"""What a study has to do, as commands: train each run, evaluate its last checkpoint once more, evaluate the base."""

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from trainer.config import TrainConfig
from trainer.files import complete_lines, write_text
from trainer.parsing import as_yaml
from trainer.same_run import recorded
from trainer.study.plan import Run, layered
from trainer.study.protocol import BASE, Protocol

FINAL = "final_evaluation.json"
BASE_EVALUATION = "evaluation.json"


@dataclass(frozen=True)
class Job:
    """A command and what it leaves.

    Args:
        name: for people.
        kind: what takes about as long a unit of work, the most special name last.
        command: the arguments of `entrocraft`.
        settings: the configuration that the command reads, by its file.
        log: where it prints; who holds this file's lock does the job.
        result: the file that is there once the job is done.
        writes: the name under which the command writes the result, which is moved when it has ended well; by default
            the result itself.
        needs: a file that must be there first.
        work: units of it, such as steps.
    """

    name: str
    kind: tuple[str, ...]
    command: tuple[str, ...]
    settings: tuple[Path, TrainConfig] | None
    log: Path
    result: Path
    writes: Path | None = None
    needs: Path | None = None
    work: int = 1

    @property
    def done(self) -> bool:
        """Whether its result is there."""
        return self.result.is_file()

    @property
    def ready(self) -> bool:
        """Whether what it needs is there."""
        return self.needs is None or self.needs.is_file()

    @property
    def process(self) -> list[str]:
        """The command as a process is started with it."""
        return [sys.executable, "-m", "entrocraft", *self.command]

    def prepare(self) -> None:
        """Write what the command reads, and remove what one that did not end left half done."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        if self.settings is not None:
            file, config = self.settings
            write_text(file, as_yaml(recorded(config)))
        if self.writes is not None:
            self.writes.unlink(missing_ok=True)

    def finish(self) -> None:
        """Name the result of a command that ended well."""
        if self.writes is not None and self.writes.is_file():
            self.writes.replace(self.result)


def study_jobs(protocol: Protocol, output: Path, runs: Sequence[Run]) -> Iterator[Job]:
    """Yield the jobs of these runs, a run's own in a row, and first that of the base model where runs lack it."""
    config = layered(protocol.base)
    if config.evaluation.prompts and not config.evaluation.at_start:
        yield base_job(protocol, config, output / BASE)
    for run in runs:
        yield training_job(run)
        if protocol.finally_ and run.config.evaluation.prompts:
            yield final_job(protocol, run)


def training_job(run: Run) -> Job:
    """Return the job that trains a run, or goes on with it."""
    settings = run.path.with_name(f"{run.path.name}.yaml")
    return Job(
        name=run.name,
        kind=("train", run.arm),
        command=("train", "--config", str(settings), f"--output={run.path}", "--resume=true"),
        settings=(settings, run.config),
        log=log_file(run),
        result=run.path / "summary.json",
        work=run.config.steps - steps_done(run.path),
    )


def final_job(protocol: Protocol, run: Run) -> Job:
    """Return the job that evaluates a finished run's last checkpoint in the protocol's final settings."""
    partial = run.path / f"{FINAL}.partial"
    return Job(
        name=f"{run.name}, final evaluation",
        kind=("evaluate",),
        command=("evaluate", str(run.path), *settings_of(protocol.finally_), f"--output={partial}"),
        settings=None,
        log=log_file(run),
        result=run.path / FINAL,
        writes=partial,
        needs=run.path / "summary.json",
    )


def base_job(protocol: Protocol, config: TrainConfig, folder: Path) -> Job:
    """Return the job that evaluates the base model in every setting that its runs are evaluated in."""
    file, partial = folder / "config.yaml", folder / f"{BASE_EVALUATION}.partial"
    wanted = tuple(dict.fromkeys([*config.evaluation.settings, *protocol.finally_]))
    return Job(
        name="base model, evaluation",
        kind=("evaluate",),
        command=(
            *("evaluate", config.model.path, "--config", str(file), *settings_of(wanted)),
            f"--output={partial}",
        ),
        settings=(file, replace(config, output=folder)),
        log=folder / "log",
        result=folder / BASE_EVALUATION,
        writes=partial,
    )


def settings_of(names: Sequence[str]) -> tuple[str, ...]:
    """Return the option that evaluates in these sampling settings."""
    return (f"--evaluation.settings={json.dumps(list(names))}",)


def log_file(run: Run) -> Path:
    """Return where the commands of a run print: beside its directory."""
    return run.path.with_name(f"{run.path.name}.log")


def steps_done(path: Path) -> int:
    """Return how many steps of a run are on disk."""
    file = path / "metrics.jsonl"
    return len(complete_lines(file)) if file.is_file() else 0
