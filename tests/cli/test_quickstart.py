"""`entrocraft quickstart`: three runs, a table and a picture, from a process of its own."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import entrocraft

SMALL = [
    "steps=2",
    "rollout.prompts=4",
    "rollout.group_size=4",
    "algorithm.mini_batches=2",
    "evaluation.prompts=4",
    "evaluation.samples=2",
    "theory.probe_rows=4",
]


@pytest.fixture(scope="module")
def quickstart(tmp_path_factory):
    """The command, once, in a folder with a space in its name: (finished process, where the runs are)."""
    folder = tmp_path_factory.mktemp("a folder")
    call = [sys.executable, "-m", "entrocraft", "quickstart", "--output", "my runs", "--jobs", "2", "--seed", "3"]
    done = subprocess.run([*call, "--set", *SMALL], cwd=folder, capture_output=True, text=True, timeout=300)
    return done, folder / "my runs"


def test_it_ends_with_a_table_and_a_picture(quickstart):
    done, folder = quickstart
    assert done.returncode == 0, done.stderr[-2000:]
    assert "Traceback" not in done.stderr
    assert str(Path("my runs") / "quickstart.png") in done.stdout
    picture = (folder / "quickstart.png").read_bytes()
    assert picture.startswith(b"\x89PNG")
    assert len(picture) > 20_000
    header = (folder / "quickstart.md").read_text().splitlines()[0]
    assert [cell.strip() for cell in header.strip("|").split("|")] == [
        "",
        "base model",
        "grpo",
        "algorithm1",
        "released",
    ]
    assert "pass@1, temperature 1" in done.stdout


def test_its_runs_differ_in_the_method_alone(quickstart):
    _, folder = quickstart
    load_config = entrocraft.load_config
    configs = {name: load_config("--config", str(folder / name / "config.yaml")) for name in entrocraft.ARMS}
    assert {config.seed for config in configs.values()} == {3}
    assert {config.steps for config in configs.values()} == {2}
    methods = {name: (c.algorithm.filter, c.algorithm.denominator, c.reward.convention) for name, c in configs.items()}
    assert methods == {
        "grpo": ("none", "drop", "as_is"),
        "algorithm1": ("algorithm1", "drop", "as_is"),
        "released": ("released", "zero", "signed"),
    }
    for part in ("model", "data", "rollout", "optimizer", "band", "theory"):
        assert len({str(getattr(config, part)) for config in configs.values()}) == 1
    first = [json.loads((folder / name / "metrics.jsonl").read_text().splitlines()[0]) for name in configs]
    assert len({row["entropy"] for row in first}) == 1
    assert len({row["reward_mean"] for row in first}) == 1


def test_only_the_first_run_evaluates_the_base_model(quickstart):
    _, folder = quickstart
    steps = {
        name: sorted({json.loads(line)["step"] for line in (folder / name / "evaluations.jsonl").open()})
        for name in entrocraft.ARMS
    }
    assert steps == {"grpo": [0, 2], "algorithm1": [2], "released": [2]}


class Done:
    def __init__(self, code):
        self.returncode = code


@pytest.mark.parametrize("codes", [(1, 0, 0), (0, 0, 2), (-9, 0, 0), (0, 130, 0), (-9, -15, -9)])
def test_a_failed_run_fails_the_quickstart(command, tmp_path, monkeypatch, codes):
    """A run that the system killed has a negative code."""
    left = list(codes)
    monkeypatch.setattr(subprocess, "run", lambda *arguments, **options: Done(left.pop(0)))
    assert command("quickstart", f"--output={tmp_path}", "--jobs=1").code not in (0, None)
    assert left == []
    assert not list(tmp_path.iterdir())


def test_settings_are_passed_on(command, tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(subprocess, "run", lambda call, **options: calls.append((call, options)) or Done(1))
    command("quickstart", f"--output={tmp_path / 'x y'}", "--jobs=1", "--seed=4", "--set", "steps=2", "band.unit=nats")
    assert len(calls) == 3
    for place, (call, options) in enumerate(calls):
        assert call[1:4] == ["-m", "entrocraft", "train"]
        config = entrocraft.load_config(*call[4:])
        assert (config.seed, config.steps, config.band.unit) == (4, 2, "nats")
        assert config.output == tmp_path / "x y" / list(entrocraft.ARMS)[place]
        assert options["env"].items() >= {"PATH": os.environ["PATH"]}.items()
        assert (config.resume, config.overwrite) == (False, False)


@pytest.mark.parametrize(("options", "begins"), [([], (True, False)), (["--overwrite"], (False, True))])
def test_runs_that_are_there_go_on_unless_they_are_to_be_replaced(command, tmp_path, monkeypatch, options, begins):
    calls = []
    monkeypatch.setattr(subprocess, "run", lambda call, **options: calls.append(call) or Done(1))
    (tmp_path / "grpo").mkdir()
    command("quickstart", f"--output={tmp_path}", "--jobs=1", *options)
    configs = [entrocraft.load_config(*call[4:]) for call in calls]
    assert [(config.resume, config.overwrite) for config in configs] == [begins, (False, False), (False, False)]


def test_the_same_command_goes_on_and_remakes_the_picture(quickstart, command):
    """Of one arm that was stopped, what is done stays; of those that were finished too."""
    _, folder = quickstart
    rows = {name: (folder / name / "metrics.jsonl").read_bytes() for name in entrocraft.ARMS}
    table = (folder / "quickstart.md").read_text()
    (folder / "algorithm1" / "summary.json").unlink()
    for name in ("quickstart.md", "quickstart.png"):
        (folder / name).unlink()
    again = command("quickstart", f"--output={folder}", "--jobs=2", "--seed=3", "--set", *SMALL)
    assert again.code == 0, again.said
    assert {name: (folder / name / "metrics.jsonl").read_bytes() for name in entrocraft.ARMS} == rows
    assert (folder / "quickstart.md").read_text() == table
    assert (folder / "quickstart.png").exists()
