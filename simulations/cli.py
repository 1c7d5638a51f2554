"""The command `entrocraft simulate EXPERIMENT`."""

import multiprocessing
import signal
import sys
from collections.abc import Generator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import closing
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from jsonargparse import SUPPRESS, ArgumentParser
from tqdm import tqdm

from simulations.experiment import Cell, Experiment, Rows
from simulations.experiments import EXPERIMENTS
from simulations.results import Results
from trainer.methods.lookup import nearest


def simulate_command(arguments: Sequence[str]) -> int:
    """Run `entrocraft simulate`."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print(listing())
        return 0 if arguments else 2
    name = arguments[0]
    if name not in EXPERIMENTS:
        raise ValueError(
            f"simulate {name} must name one of the experiments {list(EXPERIMENTS)}. {nearest(name, EXPERIMENTS)}"
        )
    experiment = EXPERIMENTS[name]
    parser = simulate_parser(experiment)
    values = parser.instantiate(parser.parse_args(list(arguments[1:])))
    if values["experiment"] != name:
        raise ValueError(
            f"simulate {name} --config must hold options of {name}; got those of {values['experiment']}. Name that one."
        )
    options = experiment.options(**{field.name: values[field.name] for field in fields(experiment.options)})
    output = values["output"] or Path("runs") / f"simulate_{name}"
    findings = simulate(
        experiment,
        options,
        output,
        resume=values["resume"],
        overwrite=values["overwrite"],
        format=values["format"],
        threads=values["threads"],
        jobs=values["jobs"],
    )
    print(f"{experiment.claim}\n")
    print("\n".join(f"- {finding}" for finding in findings))
    print(f"\ntables: {output}; draw them with: entrocraft figures build simulation {output}")
    return 0


def listing() -> str:
    """Return the text of `entrocraft simulate --help`."""
    width = max(map(len, EXPERIMENTS))
    lines = [f"  {experiment.name:{width}}  {experiment.claim}" for experiment in EXPERIMENTS.values()]
    return "\n".join(["usage: entrocraft simulate EXPERIMENT [--key value] [--help]", "", *lines])


def simulate_parser(experiment: Experiment) -> ArgumentParser:
    """Return the parser of one experiment's options."""
    parser = ArgumentParser(prog=f"entrocraft simulate {experiment.name}", description=experiment.claim)
    parser.add_argument("--config", action="config", help="a YAML file of options, such as config.yaml of results")
    parser.add_argument("--experiment", type=str, default=experiment.name, help=SUPPRESS)  # in config.yaml of results
    parser.add_argument("--output", type=Path | None, default=None, help="where results go; runs/simulate_NAME")
    parser.add_argument("--resume", type=bool, default=False, help="go on with the cells that are not there yet")
    parser.add_argument("--overwrite", type=bool, default=False, help="replace the results that are there")
    parser.add_argument("--format", type=str, default="csv", help="csv, or parquet (needs pyarrow)")
    parser.add_argument("--jobs", type=int, default=1, help="cells at a time, each in a process of its own")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of a cell; one is fastest at most sizes")
    parser.add_class_arguments(experiment.options, as_group=False)
    return parser


def simulate(
    experiment: Experiment,
    options: Any,
    output: Path,
    *,
    resume: bool = False,
    overwrite: bool = False,
    format: str = "csv",
    threads: int = 1,
    jobs: int = 1,
) -> list[str]:
    """Run the cells that are not there yet, write tables and page, and return the findings.

    Args:
        experiment: what runs.
        options: its options.
        output: directory of results.
        resume: keep the cells that are there.
        overwrite: replace what is there.
        format: of tables.
        threads: CPU threads of a cell.
        jobs: cells at a time, each in a process of its own; results do not depend on it.

    Raises:
        FileExistsError: files in the directory, and neither resume nor overwrite, or no results to overwrite.
        FileNotFoundError: no results to resume.
        ImportError: parquet without pyarrow.
        ValueError: options that cannot be used, or differ from those of the results that are resumed.
        KeyboardInterrupt: with how to go on; finished cells are kept.
    """
    for name, value in (("threads", threads), ("jobs", jobs)):
        if value < 1:
            raise ValueError(f"--{name} must be at least 1; got {value}.")
    cells = experiment.cells(options)
    keys = [cell.key for cell in cells]
    assert len(set(keys)) == len(keys), f"cells of one name: {keys}"
    results = Results(output, experiment, options, resume=resume, overwrite=overwrite, format=format)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    slow = 0.2 if sys.stderr.isatty() else 10
    missing = [cell for cell in cells if not results.has(cell.key)]
    done = len(cells) - len(missing)
    progress = tqdm(desc=experiment.name, unit="cell", mininterval=slow, total=len(cells), initial=done)
    try:
        with closing(finished_cells(missing, jobs, threads)) as finished, progress:
            for key, rows in finished:
                results.save(key, rows)
                progress.update()
        return results.finish(keys)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(how_to_go_on(output, sum(map(results.has, keys)), len(keys))) from None
    finally:
        torch.set_num_threads(before)


def finished_cells(cells: Sequence[Cell], jobs: int, threads: int) -> Generator[tuple[str, Rows], None, None]:
    """Yield the key and rows of each cell as it is finished; closing it early stops the others."""
    if jobs == 1 or len(cells) < 2:
        for cell in cells:
            yield cell.key, cell.run()
        return
    # A worker starts with this module path, and must find this package first, whatever else is on it.
    home = str(Path(__file__).resolve().parents[1])
    sys.path.insert(0, home)
    # torch's threads do not survive a fork.
    context = multiprocessing.get_context("spawn")
    others = multiprocessing.active_children()
    pool = ProcessPoolExecutor(min(jobs, len(cells)), context, start_worker, (threads,))
    try:
        keys = {pool.submit(cell.run): cell.key for cell in cells}
        for future in as_completed(keys):
            yield keys[future], future.result()
    finally:
        for worker in multiprocessing.active_children():
            if worker not in others:
                worker.terminate()
        pool.shutdown(cancel_futures=True)
        sys.path.remove(home)


def start_worker(threads: int) -> None:
    """Prepare a process that runs cells: Ctrl-C is its parent's to handle."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(threads)


def how_to_go_on(output: Path, finished: int, cells: int) -> str:
    """Return what is left of an interrupted experiment."""
    if not finished:
        return "No cell was finished."
    return f"{finished} of {cells} cells are kept in {output}. Go on with the same options and --resume."
