"""The command `entrocraft study`: list protocols, run one, make its tables."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from jsonargparse import ArgumentParser, Namespace
from jsonargparse.typing import PositiveInt

from trainer.methods.lookup import nearest
from trainer.parsing import described_presets
from trainer.study.earlier import Earlier, read_earlier
from trainer.study.jobs import Job, study_jobs
from trainer.study.pace import Pace, in_words
from trainer.study.plan import Choice, Run, check_runs, layered, plan
from trainer.study.protocol import STUDIES, Protocol, load_protocol
from trainer.study.records import kept_run, read_study, unevaluated
from trainer.study.scheduler import Scheduler
from trainer.study.tables import write_tables


@dataclass(frozen=True)
class Action:
    """What `entrocraft study NAME` does, and its options."""

    about: str
    parser: Callable[[], ArgumentParser]
    run: Callable[[Namespace], int]


def study_command(arguments: Sequence[str]) -> int:
    """Run `entrocraft study`."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print(usage())
        return 0 if arguments else 2
    action, own = action_of(arguments)
    return action.run(action.parser().parse_args(own))


def action_of(arguments: Sequence[str]) -> tuple[Action, list[str]]:
    """Return what the arguments ask for, and the action's own ones; a protocol's name alone asks to run it.

    Raises:
        ValueError: neither an action nor a protocol.
    """
    name, *own = arguments
    protocols = described_presets(STUDIES)
    if name in ACTIONS:
        return ACTIONS[name], own
    if name in protocols:
        return ACTIONS["run"], list(arguments)
    known = [*ACTIONS, *protocols]
    raise ValueError(f"study {name} must be one of {known}. {nearest(name, known)}".rstrip())


def usage() -> str:
    """Return the text of `entrocraft study --help`."""
    lines = [f"  {name:8}{action.about}" for name, action in ACTIONS.items()]
    return "\n".join(
        [
            "usage: entrocraft study COMMAND [--help] ...",
            "",
            "Compare many training runs by a protocol. A protocol's name alone runs it.",
            "",
            *lines,
        ]
    )


def list_parser() -> ArgumentParser:
    """Return the parser of `entrocraft study list`."""
    return ArgumentParser(prog="entrocraft study list", description="List the protocols that are shipped.")


def list_studies(chosen: Namespace) -> int:
    """Run `entrocraft study list`."""
    for name, about in described_presets(STUDIES).items():
        print(f"  {name:18} {about}")
    return 0


def run_parser() -> ArgumentParser:
    """Return the parser of `entrocraft study run`."""
    parser = ArgumentParser(
        prog="entrocraft study run",
        description="Run what of a protocol is not there yet: finished runs are skipped, interrupted ones go on. "
        "Ctrl-C saves and stops; the same command goes on.",
    )
    parser.add_argument("study", help="a protocol of `entrocraft study list`, or a YAML file")
    parser.add_argument("--output", type=Path | None, default=None, help="where the runs go; runs/STUDY")
    parser.add_argument("--jobs", type=PositiveInt, default=1, help="runs at a time")
    parser.add_argument("--threads", type=PositiveInt, default=1, help="CPU threads of a run")
    parser.add_argument(
        "--gpus", type=str | None, default=None, help="share the runs out over these GPUs, as 0,1; --jobs counts all"
    )
    parser.add_argument(
        "--tables",
        type=Path | None,
        default=None,
        help="tables of this study: runs that are whole in them are not run again, whether their folders are there or "
        "not",
    )
    add_choice(parser)
    parser.add_argument("--dry-run", action="store_true", help="list what would run and how long, and start nothing")
    return parser


def add_choice(parser: ArgumentParser) -> None:
    """Add the options that choose a part of a study."""
    for option, what in (("parts", "parts"), ("arms", "arms"), ("seeds", "seeds")):
        parser.add_argument(f"--{option}", type=str | None, default=None, help=f"only these {what}, as A,B")


def choice_of(chosen: Namespace) -> Choice:
    """Return the part of a study that the options choose.

    Raises:
        ValueError: seeds that are no whole numbers.
    """
    parts, arms, seeds = (
        None if text is None else [name for name in str(text).split(",") if name]
        for text in (chosen.parts, chosen.arms, chosen.seeds)
    )
    if seeds is not None and not all(seed.isdecimal() for seed in seeds):
        raise ValueError(f"--seeds must be whole numbers, as 0,1; got {chosen.seeds!r}. Correct them.")
    return Choice(parts, arms, None if seeds is None else [int(seed) for seed in seeds])


def run_study(chosen: Namespace) -> int:
    """Run `entrocraft study run`."""
    protocol = load_protocol(chosen.study)
    output = chosen.output or Path("runs") / protocol.name
    runs = plan(protocol, output, choice_of(chosen))
    base = True
    if chosen.tables:
        earlier = read_earlier(protocol, chosen.tables)
        if earlier is None:
            raise ValueError(f"--tables must be a folder of tables; got {chosen.tables}, without any. Name another.")
        planned, runs = len(runs), [run for run in runs if not whole_in(earlier, protocol, run)]
        base = not earlier.base(layered(protocol.base).seed)
        print(f"{planned - len(runs)} of {planned} runs are whole in {chosen.tables}")
    check_runs(runs)
    jobs = list(study_jobs(protocol, output, runs, base=base))
    pace = Pace()
    pace.learn_from_disk(output)
    if chosen.dry_run:
        print("\n".join(overview(jobs, pace, chosen.jobs)))
        return 0
    scheduler = Scheduler(
        jobs,
        chosen.jobs,
        {"OMP_NUM_THREADS": str(chosen.threads), "TQDM_MININTERVAL": "10"},
        pace,
        say=lambda line: print(line, flush=True),
        gpus=tuple(str(chosen.gpus).split(",")) if chosen.gpus else (),
    )
    return 0 if scheduler.run() else 1


def whole_in(earlier: Earlier, protocol: Protocol, run: Run) -> bool:
    """Return whether a run is in tables, and evaluated as the protocol asks."""
    record = kept_run(protocol, run, earlier)
    return record is not None and not record.unevaluated


def tables_parser() -> ArgumentParser:
    """Return the parser of `entrocraft study tables`."""
    parser = ArgumentParser(
        prog="entrocraft study tables",
        description="Write the tables of what is finished: runs, curves, steps, evaluations, comparison with the "
        "reference. columns.json says what the columns are.",
    )
    parser.add_argument("study", help="a protocol of `entrocraft study list`, or a YAML file")
    parser.add_argument("--runs", type=Path | None, default=None, help="where the runs are; runs/STUDY")
    parser.add_argument("--output", type=Path | None, default=None, help="where the tables go; figures/data/STUDY")
    parser.add_argument(
        "--gone",
        type=Literal["keep", "drop"] | None,
        default=None,
        help="what becomes of runs that the tables hold and whose folders are gone; unless it says, none is lost",
    )
    return parser


def make_tables(chosen: Namespace) -> int:
    """Run `entrocraft study tables`."""
    protocol = load_protocol(chosen.study)
    folder = chosen.runs or Path("runs") / protocol.name
    output = chosen.output or Path("figures") / "data" / protocol.name
    earlier = None if chosen.gone == "drop" else read_earlier(protocol, output)
    study = read_study(protocol, folder, earlier if chosen.gone == "keep" else None)
    write_tables(study, output, earlier)
    print("".join(f"missing: {name}\n" for name in [*study.missing, *unevaluated(study)]), end="")
    print(f"tables of {len(study.records)} runs, {len(study.missing)} missing: {output}")
    return 0


def overview(jobs: Sequence[Job], pace: Pace, at_once: int) -> list[str]:
    """Return what a dry run prints."""
    waiting = [job for job in jobs if not job.done]
    lines = [f"{job.name}: {in_words(pace.seconds(job))}" for job in waiting]
    left = in_words(pace.left(waiting, [], at_once))
    return [*lines, f"{len(waiting)} of {len(jobs)} jobs to do, {at_once} at a time: {left}"]


ACTIONS = {
    "list": Action("list the protocols that are shipped", list_parser, list_studies),
    "run": Action("run what of a protocol is not there yet", run_parser, run_study),
    "tables": Action("write the tables of what is finished", tables_parser, make_tables),
}
