"""`entrocraft study`: a study of two arms that is interrupted, goes on, fails in one arm, and is repeated."""

import csv
import json
import os
import signal
import threading
import time

import pytest
import yaml

from trainer.parsing import load_config

SETTINGS = {
    "steps": 40,
    "rollout": {"prompts": 4, "group_size": 4},
    "algorithm": {"mini_batches": 2},
    "theory": {"probe_rows": 4},
    "evaluation": {"prompts": 2, "samples": 2, "settings": ["t1"], "at_start": False},
    "checkpoint": {"every": 10, "keep": 2, "rollouts_every": 0},
    "log": {"tensorboard": False},
}
# Over a preset, which has an output of its own.
TINY = {"config": "countdown-large", "device": "cpu", "hidden": 16, "layers": 1, "heads": 2, "feed_forward": 16}
TINY |= {"iterations": 2, "batch_size": 4}
PROTOCOL = {
    "base": {"config": ["countdown-small"], "settings": SETTINGS},
    "arms": {"plain": {"config": ["grpo"]}, "broken": {"settings": {"model": {"path": "/no/such/model"}}}},
    "models": {"tiny": TINY},
    "parts": {
        "only": {"seeds": {"plain": [3], "broken": [0]}},
        "grown": {"model": "tiny", "settings": {"steps": 20}, "seeds": {"plain": [0]}},
    },
    "finally": [{"settings": ["paper"]}, {"settings": ["t1"], "samples": 3, "checkpoints": 2}],
    "after": 0,
    "reference": "plain",
}


def interrupt_at_the_first_step(folder):
    def send():
        while not (folder / "metrics.jsonl").is_file() or not (folder / "metrics.jsonl").read_text():
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=send, daemon=True).start()


@pytest.fixture(scope="module")
def study(command, tmp_path_factory):
    """The study's folder, and what three calls of the same command did: interrupted, whole, repeated."""
    folder = tmp_path_factory.mktemp("a study")
    (folder / "mine.yaml").write_text(yaml.safe_dump(PROTOCOL))
    call = ("study", "run", folder / "mine.yaml", "--output", folder / "runs", "--jobs=2")
    interrupt_at_the_first_step(folder / "runs" / "only" / "plain" / "seed3")
    (folder / "runs" / "base").mkdir(parents=True)
    (folder / "runs" / "base" / "evaluation.json").touch()
    interrupted = command(*call, "--arms=plain")
    (folder / "runs" / "base" / "evaluation.json").unlink()
    run = folder / "runs" / "only" / "plain" / "seed3"
    saved = [path.name for path in (run / "checkpoints").iterdir()], (run / "metrics.jsonl").read_text()
    return folder, interrupted, saved, command(*call), command(*call, "--arms", "plain", "--seeds", "3")


def test_an_interrupted_study_saves_its_runs(study):
    _, interrupted, (saved, _), _, _ = study
    assert interrupted.code == 130
    assert " of 10 jobs are done" in interrupted.said
    assert "Go on with the same command" in interrupted.said
    assert "failed" not in interrupted.printed
    assert len(saved) == 1
    assert saved != ["step_40"]


def test_it_goes_on_where_it_was(study):
    folder, _, (_, begun), whole, _ = study
    run = folder / "runs" / "only" / "plain" / "seed3"
    text = (run / "metrics.jsonl").read_text()
    assert [json.loads(line)["step"] for line in text.splitlines()] == list(range(40))
    assert text.startswith(begun)  # resumed, not begun again
    assert begun.count("\n") < 40
    assert load_config("--config", str(run / "config.yaml")).seed == 3
    final = {file.name: json.loads(file.read_text()) for file in (run / "final_evaluations").iterdir()}
    assert {name: read["policy"].rpartition("/")[2] for name, read in final.items()} == {
        "step_40_samples_2.json": "step_40",
        "step_40_samples_3.json": "step_40",
        "step_30_samples_3.json": "step_30",
    }
    for name, setting in (("step_40_samples_2.json", "paper"), ("step_30_samples_3.json", "t1")):
        assert [row["setting"] for row in final[name]["evaluations"]] == [setting]
        assert {row["samples"] for row in final[name]["evaluations"]} == {int(name[-6])}
    base = json.loads((folder / "runs" / "base" / "evaluation.json").read_text())
    assert [row["setting"] for row in base["evaluations"]] == ["t1", "paper"]
    assert base["policy"] == "countdown-0.2m"
    assert "only/plain/seed3: " in whole.printed


def test_a_model_is_made_before_the_runs_that_start_from_it(study):
    folder = study[0]
    model = json.loads((folder / "runs" / "models" / "tiny" / "config.json").read_text())
    assert (model["hidden_size"], model["num_hidden_layers"]) == (16, 1)
    run = folder / "runs" / "grown" / "plain" / "seed0"
    assert load_config("--config", str(run / "config.yaml")).model.path == str(folder / "runs" / "models" / "tiny")
    made, used = (
        file.stat().st_mtime for file in (folder / "runs" / "models" / "tiny" / "SHA256SUMS", run / "config.yaml")
    )
    assert made < used


def test_a_failed_run_is_reported_and_fails_the_study(study):
    _, _, _, whole, _ = study
    assert whole.code == 1
    assert "only/broken/seed0 failed after " in whole.printed
    assert "    entrocraft train: " in whole.printed  # the end of its log
    assert "/no/such/model" in whole.printed
    assert "Traceback" not in whole.said


def test_what_is_finished_is_not_run_again(study):
    *_, again = study
    assert (again.code, again.printed) == (0, "")


def test_a_dry_run_starts_nothing(study, command):
    folder = study[0]
    before = sorted(folder.rglob("*"))
    shown = command("study", "run", folder / "mine.yaml", "--output", folder / "runs", "--dry-run")
    assert shown.code == 0, shown.said
    assert "only/broken/seed0: " in shown.printed
    assert shown.printed.splitlines()[-1].startswith("4 of 14 jobs to do, 1 at a time: ")
    assert sorted(folder.rglob("*")) == before


def test_another_protocol_for_the_same_folder_is_refused(study, command, tmp_path):
    folder = study[0]
    changed = {**PROTOCOL, "base": {**PROTOCOL["base"], "settings": {**SETTINGS, "steps": 50}}}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(changed))
    refused = command("study", "run", tmp_path / "mine.yaml", "--output", folder / "runs")
    assert refused.code == 1
    assert "steps: 40 -> 50" in refused.said
    assert refused.printed == ""


def test_tables_are_of_what_is_finished(study, command, tmp_path):
    folder = study[0]
    made = command("study", "tables", folder / "mine.yaml", "--runs", folder / "runs", "--output", tmp_path / "tables")
    assert made.code == 0, made.said
    assert made.printed.splitlines() == [
        "missing: only/broken/seed0",
        f"tables of 2 runs, 1 missing: {tmp_path}/tables",
    ]
    with (tmp_path / "tables" / "evaluations.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [(row["arm"], row["step"], row["setting"]) for row in rows] == [
        *(("base", "0", "paper"), ("base", "0", "t1"), ("plain", "20", "t1"), ("plain", "40", "t1"))
    ]
    with (tmp_path / "tables" / "curves.csv").open() as stream:
        assert len(list(csv.DictReader(stream))) == 4 + 8
    assert (
        "missing: only/plain/seed3"
        in command(
            "study", "tables", folder / "mine.yaml", "--runs", tmp_path / "none", "--output", tmp_path / "empty"
        ).printed
    )


def test_tables_outlive_the_folders(study, command, tmp_path):
    """Of runs that tables hold, nothing is run again, and no later call loses them unasked."""
    folder, tables = study[0], tmp_path / "tables"
    call = ("study", "tables", folder / "mine.yaml", "--output", tables, "--runs")
    assert command(*call, folder / "runs").code == 0
    before = (tables / "final.csv").read_bytes()
    refused = command(*call, tmp_path / "none")
    assert refused.code == 1
    assert "must lose nothing; got 2 of 2 rows of runs.csv there that would be gone" in refused.said
    assert "as of grown/plain/seed0. --gone=keep keeps" in refused.said
    kept = command(*call, tmp_path / "none", "--gone=keep")
    assert kept.code == 0, kept.said
    assert kept.printed.splitlines()[-1] == f"tables of 2 runs, 1 missing: {tables}"
    assert (tables / "final.csv").read_bytes() == before
    again = ("study", "run", folder / "mine.yaml", "--output", tmp_path / "none", "--dry-run")
    shown = command(*again, "--tables", tables).printed.splitlines()
    assert shown[0] == f"2 of 3 runs are whole in {tables}"
    assert shown[-1].startswith("4 of 4 jobs to do")  # the run that failed, not the base model
    (tables / "final.csv").write_text(before.decode().splitlines()[0] + "\n")
    assert command(*again, "--tables", tables).printed.startswith("0 of 3 runs are whole")  # none is evaluated
    other = command("study", "run", "controllers", "--dry-run", "--output=none", "--tables", tables)
    assert other.code == 1
    assert "must hold tables of study controllers; got those of mine" in other.said
    assert "--tables must be a folder of tables" in command(*again, "--tables", tmp_path / "none").said
    assert command(*call, tmp_path / "none", "--gone=drop").printed.endswith(f"tables of 0 runs, 3 missing: {tables}\n")


def test_the_command_says_what_there_is(command):
    assert "usage: entrocraft study" in command("study", "--help").printed
    assert "controllers " in command("study", "list").printed
    assert "Did you mean 'run'" in command("study", "rum").said
    assert "jobs to do, 1 at a time" in command("study", "controllers", "--output=none", "--dry-run").printed
    assert "--seeds must be whole numbers" in command("study", "run", "controllers", "--seeds=a").said
    assert "Did you mean 'controllers'" in command("study", "run", "controlers").said
