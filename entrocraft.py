"""The composition root: the `entrocraft` command, and the public API by re-export.

>>> import entrocraft
>>> entrocraft.theory.__name__
'entropy_theory'
"""

import importlib
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trainer.config import TrainConfig
    from trainer.methods.stages import RewardFunction
    from trainer.train import Result

__version__ = "0.1.0"

HOME = Path(__file__).resolve().parent
PACKAGES = ("entropy_theory", "trainer", "simulations", "figures")
EXPORTS = {
    "theory": ("entropy_theory", None),
    "stages": ("trainer.methods.stages", None),
    "methods": ("trainer.methods.table", None),
    "TrainConfig": ("trainer.config", "TrainConfig"),
    "load_config": ("trainer.parsing", "load_config"),
}
# The quickstart's runs: a name, and the recipes on top of `quickstart`.
ARMS = {"grpo": (), "algorithm1": ("algorithm1",), "released": ("released",)}
# Options that may stand without a value, and the values they take.
SWITCHES = ("--resume", "--overwrite")
BOOLEANS = ("true", "false", "yes", "no", "on", "off")


def load(module: str) -> ModuleType:
    """Import a module of ours from beside this file, whatever else on the path has the same name.

    Raises:
        ImportError: another package of that name was imported before, or has overwritten ours.
    """
    for package in PACKAGES:
        origin = getattr(sys.modules.get(package), "__file__", None)
        if package in sys.modules and HOME not in Path(origin or "/").resolve().parents:
            raise ImportError(
                f"entrocraft needs its own package {package!r}, but another one is imported already, from {origin}. "
                "Import entrocraft's part first, or rename the other."
            )
    sys.path.insert(0, str(HOME))
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] not in PACKAGES:
            raise
        raise ImportError(
            f"entrocraft's module {error.name!r} is missing from {HOME}: another distribution with a package of that "
            "name may have overwritten it. Install entrocraft in an environment of its own."
        ) from error
    finally:
        sys.path.remove(str(HOME))


def __getattr__(name: str) -> Any:
    """Return a re-exported object, imported when first asked for, so that `entrocraft --help` answers at once."""
    if name not in EXPORTS:
        raise AttributeError(f"module 'entrocraft' has no attribute {name!r}; it has train, {', '.join(EXPORTS)}")
    module, attribute = EXPORTS[name]
    return getattr(load(module), attribute) if attribute else load(module)


def train(config: "TrainConfig | Mapping[str, Any]", reward: "RewardFunction | None" = None) -> "Result":
    """Run a training run from Python and return its directory and summary.

    Args:
        config: a `TrainConfig`, or a mapping of settings as in a YAML file; what is absent has its default.
        reward: a reward function with TRL's signature; by default what the configuration names.

    Raises:
        ValueError: a setting, a prompt or a reward that cannot be used.
        FileNotFoundError: a model or file that is not there.
        FileExistsError: a run directory that is in use.
    """
    if isinstance(config, Mapping):
        config = load("trainer.parsing").config_from(config)
    return load("trainer.train").train(config, reward)


def quickstart(arguments: Sequence[str]) -> int:
    """Run `entrocraft quickstart`: three runs from one base model, their table and their picture."""
    from jsonargparse import ArgumentParser

    parser = ArgumentParser(
        prog="entrocraft quickstart",
        description="GRPO, GRPO + Algorithm 1 and GRPO + the authors' released variant: same seed, same prompts. "
        "Interrupted, the same command goes on.",
    )
    parser.add_argument("--output", type=Path, default=Path("runs/quickstart"), help="where the runs go")
    parser.add_argument("--seed", type=int, default=0, help="root seed of all three runs")
    parser.add_argument("--jobs", type=int, default=min(len(ARMS), os.cpu_count() or 1), help="runs at a time")
    parser.add_argument(
        "--overwrite", type=bool, default=False, help="replace runs that are there, and do not go on with them"
    )
    parser.add_argument("--set", nargs="*", default=[], help="further settings of all runs, as key=value")
    chosen = parser.parse_args(arguments)
    shared = [f"--seed={chosen.seed}", *(f"--{setting}" for setting in chosen.set)]

    def run_arm(place: int, name: str) -> int:
        command = [sys.executable, "-m", "entrocraft", "train", "--config", "quickstart"]
        command += [part for recipe in ARMS[name] for part in ("--config", recipe)]
        # The base model is the same for all: one run evaluates it.
        output, at_start = chosen.output / name, place == 0
        command += [f"--output={output}", f"--evaluation.at_start={str(at_start).lower()}", *shared]
        if output.exists():
            command.append("--overwrite=true" if chosen.overwrite else "--resume=true")
        # tqdm reads its defaults from the environment: each run draws its bar on a line of its own.
        bar_place = {**os.environ, "TQDM_POSITION": str(place)}
        return subprocess.run(command, env=bar_place, stdout=subprocess.DEVNULL, check=False).returncode

    with ThreadPoolExecutor(max(1, chosen.jobs)) as pool:
        codes = list(pool.map(run_arm, range(len(ARMS)), ARMS))
    if any(codes):
        # A run ended by a signal has a negative code.
        return max(map(abs, codes))
    if sys.stderr.isatty():
        print("\n" * len(ARMS))
    figures = [str(chosen.output / name) for name in ARMS]
    return load("figures.cli").figures_command(["build", "quickstart", *figures, f"--output={chosen.output}"])


def figures(arguments: Sequence[str]) -> int:
    """Run `entrocraft figures`: they draw tables, and what makes tables of runs is handed to them from here."""

    def tabulate(study: str, runs: Path, output: Path) -> None:
        load("trainer.study.cli").study_command(
            ["tables", study, f"--runs={runs}", f"--output={output}", "--gone=drop"]
        )

    return load("figures.cli").figures_command(arguments, tabulate)


COMMANDS: dict[str, tuple[str, Callable[[Sequence[str]], int]]] = {
    "quickstart": ("three runs, a table and a picture in minutes", quickstart),
    "train": (
        "train a causal language model with entropy control",
        lambda arguments: load("trainer.cli").train_command(arguments),
    ),
    "evaluate": (
        "evaluate a checkpoint on held-out prompts",
        lambda arguments: load("trainer.evaluate_command").evaluate_command(arguments),
    ),
    "pretrain": (
        "make a testbed's base model from demonstrations",
        lambda arguments: load("trainer.cli").pretrain_command(arguments),
    ),
    "export": (
        "write a checkpoint as a plain Hugging Face model, adapters merged in",
        lambda arguments: load("trainer.cli").export_command(arguments),
    ),
    "presets": (
        "list the named settings for --config",
        lambda arguments: load("trainer.cli").presets_command(arguments),
    ),
    "methods": (
        "list every method of the field, its options, state and source",
        lambda arguments: load("trainer.listing").methods_command(arguments),
    ),
    "study": (
        "compare many training runs by a protocol, and tabulate them",
        lambda arguments: load("trainer.study.cli").study_command(arguments),
    ),
    "simulate": (
        "run an experiment on small policies whose entropy is known exactly",
        lambda arguments: load("simulations.cli").simulate_command(arguments),
    ),
    "theory": (
        "derive the entropy formulas and check every step",
        lambda arguments: load("entropy_theory.cli").theory_command(arguments),
    ),
    "report": (
        "write one page of a run, or of several side by side",
        lambda arguments: load("figures.report_cli").report_command(arguments),
    ),
    "figures": (
        "draw figures and tables from run directories",
        figures,
    ),
}


def usage() -> str:
    """Return the text of `entrocraft --help`."""
    lines = [f"  {name:12}{text}" for name, (text, _) in COMMANDS.items()]
    return "\n".join(
        ["usage: entrocraft COMMAND [--help] ...", "", "Understand and control policy entropy in RL.", "", *lines, ""]
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; return 0, or 1 for what the user can mend, 2 for a wrong call, 130 for an interrupt."""
    try:
        code = dispatch(arguments)
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        # Whoever read the output, such as `head`, has what it wanted; nothing more may be written, at exit either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def with_values(arguments: Sequence[str]) -> list[str]:
    """Return arguments in which switches that stand alone have the value true: `--resume` is `--resume true`.

    >>> with_values(["train", "--resume", "--steps", "3"])
    ['train', '--resume=true', '--steps', '3']
    >>> with_values(["train", "--resume", "false", "--overwrite"])
    ['train', '--resume', 'false', '--overwrite=true']
    """
    following = [*arguments, ""][1:]
    return [
        f"{argument}=true" if argument in SWITCHES and after.lower() not in BOOLEANS else argument
        for argument, after in zip(arguments, following, strict=True)
    ]


def dispatch(arguments: Sequence[str] | None) -> int:
    """Run the command that the arguments name, and turn what goes wrong into a message and a code."""
    given = with_values(sys.argv[1:] if arguments is None else arguments)
    if not given or given[0] in ("-h", "--help"):
        print(usage())
        return 0 if given else 2
    if given[0] == "--version":
        print(__version__)
        return 0
    if given[0] not in COMMANDS:
        print(f"{usage()}\nentrocraft: no command {given[0]!r}", file=sys.stderr)
        return 2
    # A console script does not have the current folder on its path; users name their own functions from there.
    sys.path.append(os.getcwd())
    try:
        return COMMANDS[given[0]][1](given[1:])
    except BrokenPipeError:
        raise
    except (ValueError, OSError, ImportError, MemoryError) as error:
        if os.environ.get("ENTROCRAFT_TRACEBACK"):
            raise
        print(f"\nentrocraft {given[0]}: {error}\n(ENTROCRAFT_TRACEBACK=1 shows where)", file=sys.stderr)
        return 1
    except KeyboardInterrupt as interrupt:
        print(f"\nentrocraft {given[0]}: interrupted. {interrupt}", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
