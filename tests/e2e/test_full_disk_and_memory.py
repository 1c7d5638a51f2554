"""A run that finds no space or memory says so, keeps what it has, and goes on when there is some."""

import importlib
import resource
from pathlib import Path

import pytest
import torch

from trainer.config import TrainConfig
from trainer.failures import KNOBS, explaining_memory
from trainer.files import writing
from trainer.same_run import CHANGE_ROUNDING, dotted_values

ACTING = """
from trainer.tasks import Countdown

actions = {}
calls = []

def reward(prompts, completions, completion_ids, **columns):
    calls.append(1)
    actions.get(len(calls), lambda: None)()
    return Countdown().reward(prompts, completions, completion_ids, **columns)
"""
SETTINGS = {"steps": "4", "checkpoint.every": "2", "reward.function": "acting:reward"}


@pytest.fixture(scope="module")
def acting(tmp_path_factory):
    """A module whose reward function first does what a test asks for, by the number of the step from 1."""
    folder = tmp_path_factory.mktemp("acting")
    (folder / "acting.py").write_text(ACTING)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        yield importlib.import_module("acting")


@pytest.fixture
def whole(tiny, acting):
    acting.actions.clear()
    run = tiny(SETTINGS)
    acting.calls.clear()
    return run


def assert_goes_on(path, whole, command, *more):
    run = command("train", "--config", path / "config.yaml", "--resume", *more, path=path)
    assert run.code == 0, run.said
    assert run.timeless == whole.timeless
    assert run.weights == whole.weights
    assert [step.read_bytes() for step in sorted((path / "rollouts").iterdir())] == [
        step.read_bytes() for step in sorted((whole.path / "rollouts").iterdir())
    ]
    return run


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs the device that is always full")
def test_a_full_disk_ends_the_run_with_a_message(whole, tiny, acting, command, tmp_path):
    """The kernel itself says so: in the fourth step, `metrics.jsonl` is the device that is always full."""
    metrics, aside = tmp_path / "run" / "metrics.jsonl", tmp_path / "aside"

    def fill():
        metrics.rename(aside)
        metrics.symlink_to("/dev/full")

    acting.actions[4] = fill
    run = tiny(SETTINGS, output=tmp_path / "run", expect=1)
    acting.actions.clear()
    for words in (f"the disk is full, writing {metrics}", "No space left", "Checkpoint step_2 is kept", "--resume"):
        assert words in run.said
    assert "Traceback" not in run.said
    metrics.unlink()
    aside.rename(metrics)
    assert_goes_on(run.path, whole, command)


def test_a_checkpoint_that_finds_no_space_leaves_the_last_one(whole, tiny, acting, command, tmp_path):
    """The kernel refuses to let files grow, and safetensors says it in its own way; half a checkpoint is removed."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    acting.actions[3] = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        run = tiny(SETTINGS, output=tmp_path / "run", expect=1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        acting.actions.clear()
    checkpoints = run.path / "checkpoints"
    for words in (f"the disk is full, writing {checkpoints / 'step_4'}", "too large", "Checkpoint step_2 is kept"):
        assert words in run.said
    assert [path.name for path in checkpoints.iterdir()] == ["step_2"]
    assert_goes_on(run.path, whole, command)


def test_what_cannot_be_written_is_named():
    for error in (OSError(28, "No space left on device"), Exception("I/O error (os error 28)")):
        with pytest.raises(OSError, match=r"No space left on device: 'model'"), writing(Path("model")):
            raise error
    for other in (ValueError("other"), FileNotFoundError(2, "No such file", "theirs")):
        with pytest.raises(type(other)) as raised, writing(Path("model")):
            raise other
        assert raised.value is other


PHASES = {
    "loading": ("trainer.train", "load_trained", 1, "There was no checkpoint yet"),
    "rollout": ("trainer.train:Run", "sample", 1, "There was no checkpoint yet"),
    "theory": ("trainer.watch", "tabular_terms", 1, "There was no checkpoint yet"),
    "update": ("trainer.step:Updater", "__call__", 3, "Checkpoint step_2 is kept"),
    "evaluation": ("trainer.train", "evaluate_settings", 1, "There was no checkpoint yet"),
}


@pytest.mark.parametrize("phase", PHASES)
def test_a_run_says_where_memory_ran_out_and_what_to_change(phase, whole, tiny, command, tmp_path, monkeypatch):
    """The allocator's own error, from a tensor that no machine can hold, at the n-th call of a part of the run."""
    place, name, at, kept = PHASES[phase]
    module, _, attribute = place.partition(":")
    owner = importlib.import_module(module)
    owner = getattr(owner, attribute) if attribute else owner
    part, calls = getattr(owner, name), []

    def greedy(*arguments, **options):
        calls.append(1)
        if len(calls) == at:
            torch.empty(1 << 60, dtype=torch.uint8)
        return part(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(owner, name, greedy)
        run = tiny({**SETTINGS, "evaluation.at_start": "true"}, output=tmp_path / "run", expect=1)
    for words in (f"{phase} ran out of memory", "can't allocate", kept):
        assert words in run.said
    # In order of effect; those that a resumed run may change come first.
    knobs = sorted(KNOBS[phase], key=lambda knob: knob not in CHANGE_ROUNDING)
    places = [run.said.index(f"{knob} (now ") for knob in knobs]
    assert places == sorted(places)
    assert "Traceback" not in run.said
    if phase == "update":
        assert_goes_on(run.path, whole, command, "--checkpoint.keep=1", "--log.tensorboard=false")


def test_a_knob_that_memory_asks_for_can_be_turned_when_the_run_goes_on(tiny, copied, command):
    path = copied(tiny({"steps": "4", "checkpoint.every": "2"}))
    arguments = ["--config", path / "config.yaml", f"--output={path}", "--resume", "--optimizer.micro_batch_rows=2"]
    run = command("train", *arguments)
    assert run.code == 0, run.said
    assert "resumed with optimizer.micro_batch_rows: 64 -> 2: results may differ by rounding" in run.said
    again = command("train", *arguments)
    assert "micro_batch_rows" not in again.said


def test_every_knob_is_a_setting():
    for knobs in KNOBS.values():
        assert set(knobs) <= dotted_values(TrainConfig()).keys()


def test_a_gpu_that_is_full_counts_and_another_error_does_not():
    config = TrainConfig()
    with (
        pytest.raises(MemoryError, match="update ran out of memory: CUDA out of memory"),
        explaining_memory("update", config),
    ):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.")
    with pytest.raises(RuntimeError, match="shapes"), explaining_memory("update", config):
        raise RuntimeError("shapes do not fit")
