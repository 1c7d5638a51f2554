"""`entrocraft simulate`: what it writes, refuses, keeps through an interrupt and takes up again."""

import json
import multiprocessing
import os
import re
import signal
from dataclasses import fields

import pandas as pd
import pytest
import yaml

from simulations import results
from simulations.experiments import EXPERIMENTS, controllers

TINY = ["--policies=4", "--steps=3", "--repeats=2"]
TABLES = ("curves", "rewards", "summary")
KEYS = list(controllers.NAMES)


def contents(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def simulate(command):
    """A function that runs the controllers, tiny, into a folder."""
    return lambda output, *more: command("simulate", "controllers", f"--output={output}", *TINY, *more, path=output)


@pytest.fixture
def ran(monkeypatch):
    """The names of the cells that run from now on."""
    names, run = [], controllers.run
    monkeypatch.setattr(controllers, "run", lambda name, options: names.append(name) or run(name, options))
    return names


@pytest.fixture
def stops(monkeypatch):
    """A function after which a cell is interrupted, as by Ctrl-C; undone by calling it with no cell."""
    monkeypatch.setattr(controllers, "run", controllers.run)
    run = controllers.run

    def stop(at):
        def interrupted(name, options):
            if name == at:
                os.kill(os.getpid(), signal.SIGINT)
            return run(name, options)

        monkeypatch.setattr(controllers, "run", interrupted if at else run)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield stop
    signal.signal(signal.SIGINT, before)


def test_the_experiments_are_listed(command):
    shown = command("simulate", "--help")
    assert shown.code == 0
    for name, experiment in EXPERIMENTS.items():
        assert re.search(rf"^  {name} +{re.escape(experiment.claim)}$", shown.printed, re.M)
    assert (command("simulate").code, command("simulate").printed) == (2, shown.printed)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_help_has_the_claim_and_describes_every_option(command, monkeypatch, name):
    monkeypatch.setenv("COLUMNS", "400")
    shown = command("simulate", name, "--help")
    assert shown.code == 0
    assert EXPERIMENTS[name].claim in " ".join(shown.printed.split())
    for field in fields(EXPERIMENTS[name].options):
        assert re.search(rf"^ +--{field.name} .*\w+", shown.printed, re.M), field.name


def test_results_are_cells_tables_and_a_page(simulate, tmp_path):
    run = simulate(tmp_path / "new" / "place")
    assert run.code == 0, run.said
    files = contents(run.path)
    assert set(files) == {
        "config.yaml",
        "page.json",
        *(f"cells/{key}.csv" for key in KEYS),
        *(f"{name}.csv" for name in TABLES),
    }
    config = yaml.safe_load(files["config.yaml"])
    assert config | {"policies": 4, "steps": 3, "repeats": 2, "seed": 0} == config
    assert (config["experiment"], config["format"]) == ("controllers", "csv")
    page = json.loads(files["page.json"])
    assert page["tables"] == ["curves.csv", "rewards.csv", "summary.csv"]
    assert page["claim"] == controllers.EXPERIMENT.claim
    assert [panel["table"] for panel in page["panels"]] == ["curves", "rewards", "summary", "summary"]
    assert len(page["findings"]) == len(KEYS)
    for part in (page["claim"], *page["findings"], f"entrocraft figures build simulation {run.path}"):
        assert part in run.printed
    cell = pd.read_csv(run.path / "cells" / "soft.csv")
    assert len(cell) == 3 * 2
    assert set(cell.cell) == {"soft"}
    curves = pd.read_csv(run.path / "curves.csv")
    mean = curves[(curves.controller == "soft") & (curves.step == 2)].entropy.item()
    assert mean == pytest.approx(cell[cell.step == 2].entropy.mean(), rel=1e-15)


def test_without_an_output_results_are_in_runs(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert command("simulate", "controllers", *TINY).code == 0
    assert (tmp_path / "runs" / "simulate_controllers" / "page.json").is_file()


def test_the_same_options_give_the_same_bytes_and_another_seed_others(simulate, tmp_path):
    first, again, other = simulate(tmp_path / "a"), simulate(tmp_path / "b"), simulate(tmp_path / "c", "--seed=1")
    assert contents(first.path) == contents(again.path)
    assert contents(first.path)["summary.csv"] != contents(other.path)["summary.csv"]


def test_only_missing_cells_are_run_again(simulate, ran, tmp_path):
    path = tmp_path / "run"
    assert simulate(path).code == 0
    assert ran == KEYS
    before = contents(path)
    ran.clear()
    assert simulate(path, "--resume=true").code == 0
    assert ran == []
    (path / "cells" / "soft.csv").unlink()
    # Half of a cell, as a kill leaves it.
    (path / "cells" / "grpo.csv").rename(path / "cells" / "grpo.csv.new")
    for name in (*TABLES, "page"):
        next(path.glob(f"{name}.*")).unlink()
    assert simulate(path, "--resume=true").code == 0
    assert ran == ["grpo", "soft"]
    assert contents(path) == before


def test_an_interrupt_keeps_what_is_finished_and_says_how_to_go_on(simulate, stops, command, tmp_path):
    whole = contents(simulate(tmp_path / "whole").path)
    path = tmp_path / "cut"
    stops("released")
    cut = simulate(path)
    assert cut.code == 130
    for word in ("interrupted", "2 of 6 cells", str(path), "--resume", "same options"):
        assert word in cut.said
    assert set(contents(path)) == {"config.yaml", "cells/grpo.csv", "cells/algorithm1.csv"}
    refused = command("figures", "build", "simulation", path, f"--output={tmp_path / 'figures'}")
    assert refused.code == 1
    assert f"entrocraft simulate controllers --output {path} --resume" in refused.said
    stops("solved_bonus")
    assert "5 of 6 cells" in simulate(path, "--resume=true").said
    stops(None)
    assert simulate(path, "--resume=true").code == 0
    assert contents(path) == whole


def test_an_interrupt_of_the_first_cell_leaves_what_was_there(simulate, stops, tmp_path):
    stops("grpo")
    cut = simulate(tmp_path / "new")
    assert cut.code == 130
    assert "No cell was finished" in cut.said
    assert not (tmp_path / "new").exists()
    stops(None)
    old = contents(simulate(tmp_path / "old").path)
    stops("grpo")
    assert simulate(tmp_path / "old", "--overwrite=true", "--seed=1").code == 130
    assert contents(tmp_path / "old") == old


@pytest.mark.parametrize("moment", ["fresh", "overwritten"])
def test_a_directory_that_was_being_begun_can_be_begun_again(simulate, tmp_path, monkeypatch, moment):
    path = tmp_path / "run"
    again = [] if moment == "fresh" else ["--overwrite=true", "--seed=1"]
    if again:
        assert simulate(path).code == 0
    write = results.write_text

    def full(file, text):
        raise OSError(28, "No space left on device", str(file))

    monkeypatch.setattr(results, "write_text", full)
    assert "No space left" in simulate(path, *again).said
    assert path.exists() == (moment == "overwritten")
    assert not (tmp_path / "run.new").exists()
    monkeypatch.setattr(results, "write_text", write)
    assert simulate(path, *again).code == 0
    assert contents(path) == contents(simulate(tmp_path / "whole", *again[1:]).path)


def test_other_options_are_not_resumed(simulate, ran, tmp_path):
    path = simulate(tmp_path / "run").path
    before = contents(path)
    ran.clear()
    run = simulate(path, "--resume=true", "--seed=5", "--target=0.5")
    assert run.code == 1
    for word in ("--resume", str(path / "config.yaml"), "seed: 0 there, 5 given", "target: 1.2 there, 0.5 given"):
        assert word in run.said
    assert "steps:" not in run.said
    assert ran == []
    assert contents(path) == before


def test_results_are_not_replaced_by_accident(simulate, ran, tmp_path):
    path = simulate(tmp_path / "run").path
    before = contents(path)
    ran.clear()
    run = simulate(path)
    assert run.code == 1
    for word in (str(path), "--resume", "--overwrite"):
        assert word in run.said
    assert ran == []
    assert contents(path) == before


def test_overwriting_replaces_results(simulate, tmp_path):
    path = simulate(tmp_path / "run").path
    (path / "cells" / "former.csv").write_text("a\n1\n")
    assert simulate(path, "--overwrite=true", "--seed=1").code == 0
    assert contents(path) == contents(simulate(tmp_path / "fresh", "--seed=1").path)


def test_overwriting_with_what_cannot_run_leaves_the_old_results(simulate, tmp_path):
    path = simulate(tmp_path / "run").path
    before = contents(path)
    run = simulate(path, "--overwrite=true", "--group_size=0")
    assert run.code == 1
    assert "group_size=0" in run.said
    assert contents(path) == before


@pytest.mark.parametrize(
    "files",
    [
        {"thesis.tex": "years of work"},
        {"config.yaml": "steps: 3\n", "checkpoints/step_1": "weights"},  # a training run
        {"config.yaml": "experiment: mine\n", "notes": "of another program"},
        {"config.yaml": "[", "cells/a.csv": "a"},
    ],
    ids=["other", "training run", "other experiment", "not yaml"],
)
def test_other_files_are_never_removed(simulate, ran, tmp_path, files):
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    before = contents(tmp_path)
    for more, words in {
        "--overwrite=true": ["directory of results", "Remove it yourself"],
        "--overwrite=false": ["--overwrite"],
        "--resume=true": ["without --resume"],
    }.items():
        run = simulate(tmp_path, more)
        assert run.code == 1
        assert [word for word in (str(tmp_path), *words) if word not in run.said] == []
    assert contents(tmp_path) == before
    assert ran == []


@pytest.mark.parametrize("place", ["none", "file"])
def test_there_must_be_results_to_resume(simulate, tmp_path, place):
    (tmp_path / "file").write_text("notes")
    run = simulate(tmp_path / place, "--resume=true")
    assert run.code == 1
    assert "Start without --resume" in run.said
    assert (tmp_path / "file").read_text() == "notes"
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("given", "code", "words"),
    [
        (["controlers"], 1, ["controlers", "Did you mean 'controllers'?"]),
        (["qqqq"], 1, ["qqqq", *EXPERIMENTS]),
        (["controllers", "--stepz=3"], 2, ["--stepz", "--steps"]),
        (["controllers", "--steps=many"], 2, ["steps", "many"]),
        (["controllers", "--steps=0"], 1, ["steps=0", "at least 1"]),
        (["controllers", "--threads=0"], 1, ["--threads", "at least 1"]),
        (["controllers", "--format=xml"], 1, ["--format", "csv", "parquet", "xml"]),
        (["controllers", "--resume=true", "--overwrite=true"], 1, ["--resume", "--overwrite", "both"]),
        (["controllers", "--config=none.yaml"], 2, ["none.yaml"]),
    ],
)
def test_wrong_calls_write_nothing(command, tmp_path, monkeypatch, given, code, words):
    monkeypatch.chdir(tmp_path)
    run = command("simulate", *given)
    assert run.code == code
    assert "Traceback" not in run.said
    assert [word for word in words if word not in run.said] == []
    assert not list(tmp_path.iterdir())


def test_parquet_holds_the_same_numbers(simulate, command, tmp_path):
    pytest.importorskip("pyarrow")
    path, other = simulate(tmp_path / "csv").path, simulate(tmp_path / "parquet", "--format=parquet").path
    assert {name.rpartition(".")[2] for name in contents(other)} == {"yaml", "json", "parquet"}
    assert contents(other).keys() == {name.replace(".csv", ".parquet") for name in contents(path)}
    for name in TABLES:
        # pandas before 3 drops digits beyond the 17th after the point, and rounds on the way.
        written = pd.read_csv(path / f"{name}.csv")
        pd.testing.assert_frame_equal(pd.read_parquet(other / f"{name}.parquet"), written, rtol=1e-14, atol=1e-15)
    assert json.loads((other / "page.json").read_text())["tables"][0] == "curves.parquet"
    mixed = simulate(path, "--resume=true", "--format=parquet")
    assert mixed.code == 1
    assert "format: csv there, parquet given" in mixed.said
    drawn = command("figures", "build", "simulation", other, f"--output={tmp_path}")
    assert drawn.code == 0, drawn.said


def test_parquet_without_pyarrow_is_refused_before_anything_runs(simulate, ran, monkeypatch, tmp_path):
    monkeypatch.setattr(results, "find_spec", lambda name: None)
    run = simulate(tmp_path / "run", "--format=parquet")
    assert run.code == 1
    assert "pyarrow" in run.said
    assert ran == []
    assert not (tmp_path / "run").exists()


def test_options_come_from_a_file_and_the_command_line_wins(command, tmp_path):
    (tmp_path / "mine.yaml").write_text("policies: 4\nsteps: 3\nrepeats: 2\nseed: 7\n")
    config = ["--config", tmp_path / "mine.yaml"]
    run = command("simulate", "controllers", *config, f"--output={tmp_path / 'a'}", "--seed=8")
    assert run.code == 0, run.said
    given = yaml.safe_load((tmp_path / "a" / "config.yaml").read_text())
    assert (given["steps"], given["seed"], given["arms"]) == (3, 8, 20)
    again = ["--config", tmp_path / "a" / "config.yaml", f"--output={tmp_path / 'b'}"]
    assert command("simulate", "controllers", *again).code == 0
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    (tmp_path / "other.yaml").write_text("experiment: weather\nsteps: 3\n")
    refused = command("simulate", "controllers", "--config", tmp_path / "other.yaml", f"--output={tmp_path / 'c'}")
    assert refused.code == 1
    assert "weather" in refused.said
    (tmp_path / "wrong.yaml").write_text("stepz: 3\n")
    wrong = command("simulate", "controllers", "--config", tmp_path / "wrong.yaml", f"--output={tmp_path / 'c'}")
    assert wrong.code == 2
    assert "stepz" in wrong.said
    assert not (tmp_path / "c").exists()


def test_cells_in_processes_of_their_own_give_the_same_bytes(simulate, tmp_path):
    assert simulate(tmp_path / "one").code == 0
    assert simulate(tmp_path / "two", "--jobs=2").code == 0
    for name in ("curves.csv", "rewards.csv", "summary.csv", "page.json"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_an_interrupt_ends_the_processes_and_keeps_their_cells(simulate, tmp_path, monkeypatch):
    real = results.Results.save

    def interrupted(self, key, rows):
        real(self, key, rows)
        raise KeyboardInterrupt

    monkeypatch.setattr(results.Results, "save", interrupted)
    stopped = simulate(tmp_path / "run", "--jobs=2")
    assert stopped.code == 130
    assert "1 of 6 cells are kept" in stopped.said
    assert not multiprocessing.active_children()
    monkeypatch.undo()
    assert simulate(tmp_path / "run", "--resume=true").code == 0
