"""What a study has to do, as commands: make models, train runs, evaluate their last checkpoints once more."""

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from trainer.config import TrainConfig
from trainer.files import complete_lines, write_text
from trainer.hashes import HASH_FILE
from trainer.parsing import as_yaml
from trainer.same_run import recorded
from trainer.study.plan import Run, layered, model_folder
from trainer.study.protocol import BASE, Protocol

FINAL = "final_evaluations"
BASE_EVALUATION = "evaluation.json"


@dataclass(frozen=True)
class Wanted:
    """An evaluation of a finished run that the protocol asks for: after so many steps, with so many samples."""

    step: int
    samples: int
    settings: tuple[str, ...]


@dataclass(frozen=True)
class Job:
    """A command and what it leaves.

    Args:
        name: for people.
        kind: what takes about as long a unit of work, the most special name last.
        command: the arguments of `entrocraft`.
        settings: the configuration that the command reads, by its file.
        log: where it prints; who holds this file's lock does the job.
        result: the file that is there once the job is done, whole or not at all.
        needs: a file that must be there first.
        work: units of it, such as steps.
    """

    name: str
    kind: tuple[str, ...]
    command: tuple[str, ...]
    settings: tuple[Path, TrainConfig] | None
    log: Path
    result: Path
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
        """Write what the command reads."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        if self.settings is not None:
            file, config = self.settings
            write_text(file, as_yaml(recorded(config)))


def study_jobs(protocol: Protocol, output: Path, runs: Sequence[Run], *, base: bool = True) -> Iterator[Job]:
    """Yield the jobs of these runs, a run's own in a row, and first those of what they start from.

    Without `base` the base model's evaluation is there already.
    """
    models = dict.fromkeys(protocol.parts[run.part].model for run in runs)
    for model in filter(None, models):
        yield model_job(protocol, output, model)
    config = layered(protocol.base)
    if base and evaluates_base(config):
        yield base_job(protocol, config, output / BASE)
    for run in runs:
        yield training_job(protocol, output, run)
        yield from (final_job(run, wanted) for wanted in final_evaluations(protocol, run))


def model_job(protocol: Protocol, output: Path, name: str) -> Job:
    """Return the job that makes a base model."""
    folder = model_folder(output, name)
    return Job(
        name=f"model {name}",
        kind=("pretrain", name),
        command=(
            "pretrain",
            *(f"--{key}={value}" for key, value in protocol.models[name].items()),
            f"--output={folder}",  # last: a preset among them has an output of its own
        ),
        settings=None,
        log=folder.with_name(f"{folder.name}.log"),
        result=folder / HASH_FILE,
    )


def training_job(protocol: Protocol, output: Path, run: Run) -> Job:
    """Return the job that trains a run, or goes on with it."""
    model = protocol.parts[run.part].model
    settings = run.path.with_name(f"{run.path.name}.yaml")
    return Job(
        name=run.name,
        kind=("train", run.arm),
        command=("train", "--config", str(settings), f"--output={run.path}", "--resume=true"),
        settings=(settings, run.config),
        log=log_file(run),
        result=run.path / "summary.json",
        needs=model_folder(output, model) / HASH_FILE if model else None,
        work=run.config.steps - steps_done(run.path),
    )


def evaluates_base(config: TrainConfig) -> bool:
    """Return whether a study evaluates its base model beside its runs: where they do not do it themselves."""
    return config.evaluation.prompts > 0 and not config.evaluation.at_start


def final_evaluations(protocol: Protocol, run: Run) -> Iterator[Wanted]:
    """Yield the evaluations of a run's last checkpoints that the protocol asks for."""
    for final in protocol.finally_ if run.config.evaluation.prompts else ():
        for back in reversed(range(final.checkpoints)):
            step = run.config.steps - back * run.config.checkpoint.every
            yield Wanted(step, final.samples or run.config.evaluation.samples, final.settings)


def final_job(run: Run, wanted: Wanted) -> Job:
    """Return the job that evaluates a checkpoint of a finished run."""
    step, samples = wanted.step, wanted.samples
    result = run.path / FINAL / f"step_{step}_samples_{samples}.json"
    return Job(
        name=name_of(run, wanted),
        kind=("evaluate", f"evaluate {run.config.model.path}"),
        command=(
            *("evaluate", str(run.path / "checkpoints" / f"step_{step}"), *settings_of(wanted.settings)),
            *(f"--evaluation.samples={samples}", f"--output={result}"),
        ),
        settings=None,
        log=log_file(run),
        result=result,
        needs=run.path / "summary.json",
        work=samples * len(wanted.settings),
    )


def name_of(run: Run, wanted: Wanted) -> str:
    """Return what people call an evaluation of a run by."""
    return f"{run.name}, {wanted.samples} samples at step {wanted.step}"


def base_job(protocol: Protocol, config: TrainConfig, folder: Path) -> Job:
    """Return the job that evaluates the base model in every setting that its runs are evaluated in."""
    file, result = folder / "config.yaml", folder / BASE_EVALUATION
    final = (name for chosen in protocol.finally_ for name in chosen.settings)
    wanted = tuple(dict.fromkeys([*config.evaluation.settings, *final]))
    return Job(
        name="base model, evaluation",
        kind=("evaluate",),
        command=(
            *("evaluate", config.model.path, "--config", str(file), *settings_of(wanted)),
            f"--output={result}",
        ),
        settings=(file, replace(config, output=folder)),
        log=folder / "log",
        result=result,
        work=config.evaluation.samples * len(wanted),
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
