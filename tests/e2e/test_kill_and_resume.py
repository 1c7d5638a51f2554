"""Runs killed at random moments and resumed are the run that was left alone; and a difference would be seen."""

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from trainer.hashes import write_hashes

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "kill_and_resume.py"


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("kill_and_resume", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_five_kills():
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    call = [sys.executable, str(SCRIPT), "--kills", "5", "--seed", "2"]
    done = subprocess.run(call, env=environment, capture_output=True, text=True, cwd=SCRIPT.parents[1])
    assert done.stdout.splitlines()[-1:] == ["5 kills, 0 differences"], done.stdout + done.stderr
    assert done.returncode == 0
    assert done.stdout.count("; resumed: same") == 5


def flip(file):
    """Change one weight by its last bit."""
    tensors = load_file(file)
    tensors[next(iter(tensors))].view(-1)[:1].nextafter_(tensors[next(iter(tensors))].view(-1)[:1] + 1)
    save_file(tensors, file)


CHANGES = {
    "metrics.jsonl": lambda file: file.write_text(file.read_text().replace('"reward_mean": 0', '"reward_mean": 1', 1)),
    "evaluations.jsonl": lambda file: file.write_text(file.read_text() + file.read_text()),
    "rollouts/step_1.jsonl": lambda file: file.write_text(""),
    "checkpoints/step_6/model.safetensors": flip,
    "checkpoints/step_6/trainer_state.safetensors": flip,
    "left behind": lambda file: (file.parent / "checkpoints" / "step_9.new").mkdir(),
    "damage": lambda file: (file.parent / "checkpoints" / "step_6" / "config.json").unlink(),
}


def test_every_difference_would_be_seen(script, tiny, copied):
    settings = {**script.SETTINGS, "log.tensorboard": "false"}
    whole = tiny(settings)
    assert script.differences(copied(whole), whole.path) == []
    for name, change in CHANGES.items():
        other = copied(whole)
        change(other / name)
        if name.endswith("safetensors"):
            write_hashes(other / "checkpoints" / "step_6")
        assert name in script.differences(other, whole.path)
        shutil.rmtree(other)
    slower = copied(whole)
    rows = (slower / "metrics.jsonl").read_text()
    (slower / "metrics.jsonl").write_text(rows.replace('"time_update_s": 0', '"time_update_s": 1'))
    assert script.differences(slower, whole.path) == []


def test_kills_are_as_many_as_asked_and_drawn_by_the_seed(script):
    plans = list(script.random_kills(30, 0))
    assert sum(map(len, plans)) == 30
    assert max(map(len, plans)) > 1
    kills = [kill for plan in plans for kill in plan]
    assert {kill.number for kill in kills} == set(script.SIGNALS)
    assert plans == list(script.random_kills(30, 0)) != list(script.random_kills(30, 1))
