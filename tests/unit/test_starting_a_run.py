"""Where a run may begin or go on, whatever a kill has left there, and where its numbers go."""

import ast
import re
import shutil
import sys
from pathlib import Path
from types import ModuleType

import pytest

from trainer import run_directory
from trainer.config import LogConfig, OptimizerConfig, TrainConfig
from trainer.run_directory import REMOVING, RunDirectory
from trainer.same_run import CHANGE_NOTHING, CHANGE_ROUNDING, among, changes, check_same_run, dotted_values

# What there is at each moment while a run begins; folders end in a slash.
HALF_MADE = [
    [],
    ["checkpoints/"],
    ["checkpoints/", "rollouts/"],
    ["checkpoints/", "rollouts/", "columns.json", "environment.json.new"],
    ["checkpoints/", "rollouts/", "columns.json", "environment.json"],
    ["checkpoints/", "rollouts/", "columns.json", "environment.json", "config.yaml.new"],
]
BEGUN = {"checkpoints", "rollouts", "columns.json", "environment.json", "config.yaml"}
OTHERS = [
    ["config.yaml"],
    ["environment.json"],
    ["checkpoints/step_2/"],
    ["checkpoints/", "rollouts/", "notes.txt"],
    ["rollouts/"],
]


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Asking git for the commit takes a process each time."""
    monkeypatch.setattr(run_directory, "environment", lambda config: {})


def make(folder, names):
    for name in names:
        if name.endswith("/"):
            (folder / name).mkdir(parents=True)
        else:
            folder.mkdir(exist_ok=True)
            (folder / name).write_text("{}")


def config(folder, **more):
    return TrainConfig(output=folder, log=LogConfig(tensorboard=False), **more)


@pytest.mark.parametrize("flag", ["", "resume", "overwrite"])
@pytest.mark.parametrize("names", HALF_MADE, ids=len)
def test_a_run_killed_as_it_began_is_begun_anew(names, flag, tmp_path, capsys):
    make(tmp_path / "run", names)
    begun = RunDirectory(config(tmp_path / "run", **({flag: True} if flag else {})))
    begun.begin(0)
    left = {path.name for path in begun.path.iterdir()}
    assert left == BEGUN
    assert ("nothing to resume" in capsys.readouterr().err) == (flag == "resume")
    # From here on it is a run.
    assert RunDirectory(config(tmp_path / "run", resume=True)).resumed
    with pytest.raises(FileExistsError, match="--resume to go on"):
        RunDirectory(config(tmp_path / "run"))


@pytest.mark.parametrize("flag", ["", "resume", "overwrite"])
@pytest.mark.parametrize("names", OTHERS, ids=" ".join)
def test_other_files_are_left_alone(names, flag, tmp_path):
    make(tmp_path, names)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(FileNotFoundError if flag == "resume" else FileExistsError):
        RunDirectory(config(tmp_path, **({flag: True} if flag else {})))
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("flag", ["", "resume", "overwrite"])
def test_a_kill_while_an_old_run_is_removed_leaves_nothing_of_it_to_go_on_from(flag, tmp_path, monkeypatch):
    old = RunDirectory(config(tmp_path / "run", seed=1)).path
    make(old, ["checkpoints/step_2/", "rollouts/step_0.jsonl", "metrics.jsonl"])

    def die(path):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", die)
        with pytest.raises(KeyboardInterrupt):
            RunDirectory(config(old, overwrite=True))
    assert (old / REMOVING).exists()
    begun = RunDirectory(config(old, **({flag: True} if flag else {})))
    assert not begun.resumed
    files = {path.name for path in old.rglob("*")}
    assert files == BEGUN


def test_what_may_differ_when_a_run_goes_on_is_a_setting():
    values = dotted_values(TrainConfig())
    for name in (*CHANGE_NOTHING, *CHANGE_ROUNDING):
        assert any(among(setting, (name,)) for setting in values), name


def test_changed_settings_are_shown_key_by_key():
    old = TrainConfig()
    assert changes(old, old) == {}
    other = TrainConfig(seed=3, optimizer=OptimizerConfig(learning_rate=0.01, micro_batch_rows=8))
    with pytest.raises(ValueError, match=r"got seed: 0 -> 3, optimizer.learning_rate: 0.0001 -> 0.01\. Pass"):
        check_same_run(old, other)
    slower = TrainConfig(optimizer=OptimizerConfig(micro_batch_rows=8), log=LogConfig(tensorboard=False))
    assert check_same_run(old, slower) == {"optimizer.micro_batch_rows": "64 -> 8"}


class StandIn(ModuleType):
    """What the trainer uses of wandb."""

    def __init__(self):
        super().__init__("wandb")
        self.began, self.logged, self.finished = [], [], 0

    def init(self, **settings):
        self.began.append(settings)
        return self

    def log(self, values, step):
        self.logged.append((step, values))

    def finish(self):
        self.finished += 1


def test_weights_and_biases_continues_the_run(tmp_path, monkeypatch):
    wandb = StandIn()
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    logged = {"output": tmp_path / "run", "log": LogConfig(tensorboard=False, wandb="project")}
    for step, flags in ((0, {}), (1, {"resume": True}), (0, {"overwrite": True})):
        directory = RunDirectory(TrainConfig(**logged, **flags))
        directory.begin(step)
        directory.log({"step": step, "entropy": 0.5, "kl": None, "info": {"gain": 2.0}})
        directory.close()
    first, resumed, replaced = wandb.began
    assert first["project"] == "project"
    assert first["dir"] == tmp_path / "run"
    assert first["id"] == resumed["id"] != replaced["id"]
    assert {settings["resume"] for settings in wandb.began} == {"allow"}
    assert first["config"] == resumed["config"]
    assert first["config"]["optimizer"]["learning_rate"] == 1e-4
    assert wandb.logged == [(step, {"entropy": 0.5, "info/gain": 2.0}) for step in (0, 1, 0)]
    assert wandb.finished == 3


def test_weights_and_biases_is_asked_for_before_anything_is_written(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(ImportError, match=r"Install entrocraft\[wandb\]"):
        RunDirectory(TrainConfig(output=tmp_path / "run", log=LogConfig(wandb="project")))
    assert not (tmp_path / "run").exists()


def test_boards_that_nobody_asked_for_are_not_imported(tmp_path, monkeypatch):
    for name in ("tensorboard", "torch.utils.tensorboard", "wandb"):
        monkeypatch.setitem(sys.modules, name, None)
    directory = RunDirectory(config(tmp_path / "run"))
    directory.begin(0)
    directory.log({"step": 0})
    directory.close()
    assert not (tmp_path / "run" / "tensorboard").exists()
    with pytest.raises(ImportError):
        RunDirectory(TrainConfig(output=tmp_path / "other")).begin(0)
    # Nor when the trainer is imported.
    for file in Path(run_directory.__file__).parent.glob("*.py"):
        top = ast.parse(file.read_text()).body
        imports = [ast.unparse(node) for node in top if isinstance(node, ast.Import | ast.ImportFrom)]
        assert not any(re.search(r"(import|from) \S*(tensorboard|wandb)\b", text) for text in imports), file
