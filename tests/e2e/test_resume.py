"""A run that was interrupted or killed and resumed is the run that was not, bit for bit."""

import json
import os
import shlex
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import entrocraft
from trainer.parsing import load_config
from trainer.tasks import Countdown

STEPS, ROLLOUTS = 6, 16
# The reward function sends the signal itself, at its n-th training batch: no timing is involved.
STOPPING = f"""
import os, signal
from trainer.tasks import Countdown
calls = []

def reward(prompts, completions, completion_ids, **columns):
    if len(completions) == {ROLLOUTS}:
        calls.append(1)
        if str(len(calls)) == os.environ.get("STOP_AT"):
            os.kill(os.getpid(), getattr(signal, os.environ["STOP_BY"]))
    return Countdown().reward(prompts, completions, completion_ids, **columns)
"""


def arguments(output):
    """Settings under which every part of a run has something to lose: evaluations, momentum, a relative band."""
    settings = {
        "output": output,
        "steps": STEPS,
        "rollout.prompts": 4,
        "rollout.group_size": ROLLOUTS // 4,
        "algorithm.mini_batches": 2,
        "algorithm.filter": "algorithm1",
        "optimizer.learning_rate": 1e-3,
        "optimizer.warmup": 5,
        "evaluation.prompts": 4,
        "evaluation.samples": 3,
        "evaluation.settings": "[t1]",
        "evaluation.every": 1,
        "evaluation.at_start": "true",
        "theory.probe_rows": 4,
        "checkpoint.every": 2,
        "reward.function": "stopping:reward",
    }
    return ["train", *(f"--{name}={value}" for name, value in settings.items())]


@pytest.fixture(scope="module")
def stopped(tmp_path_factory, command):
    """Three runs: whole, stopped by SIGINT in step 3 of 6, and killed by SIGKILL in step 6; the last two at a time."""
    folder = tmp_path_factory.mktemp("a folder with spaces")
    (folder / "stopping.py").write_text(STOPPING)

    def start(name, at):
        environment = {**os.environ, "STOP_AT": at, "STOP_BY": name, "OMP_NUM_THREADS": "1"}
        call = [sys.executable, "-m", "entrocraft", *arguments(folder / name)]
        return subprocess.Popen(call, cwd=folder, env=environment, stderr=subprocess.PIPE, text=True)

    processes = {name: start(name, at) for name, at in (("SIGINT", "3"), ("SIGKILL", "6"))}
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        whole = command(*arguments(folder / "whole"), path=folder / "whole")
        said = {name: process.communicate(timeout=120)[1] for name, process in processes.items()}
        codes = {name: process.returncode for name, process in processes.items()}
        yield whole, folder, codes, said


def state_files(checkpoint: Path) -> list[bytes]:
    """The optimiser's moments and the trainer's own state, as they lie on disk."""
    return [(checkpoint / f"trainer_state.{kind}").read_bytes() for kind in ("safetensors", "json")]


def assert_same(resumed, whole):
    assert resumed.code == 0, resumed.said
    assert resumed.timeless == whole.timeless
    assert resumed.evaluations == whole.evaluations
    assert resumed.weights == whole.weights
    assert state_files(resumed.last) == state_files(whole.last)
    summaries = [json.loads((run.path / "summary.json").read_text()) for run in (resumed, whole)]
    first, second = ({k: v for k, v in summary.items() if "_time_" not in k} for summary in summaries)
    assert first == second


def test_the_whole_run_is_worth_comparing(stopped, base_weights):
    whole, *_ = stopped
    assert whole.code == 0
    assert [row["step"] for row in whole.rows] == list(range(STEPS))
    assert [row["step"] for row in whole.evaluations] == list(range(STEPS + 1))
    assert whole.weights != base_weights


def test_an_interrupt_saves_and_says_how_to_go_on(stopped, command):
    whole, folder, codes, said = stopped
    run = folder / "SIGINT"
    assert codes["SIGINT"] == 130
    message = said["SIGINT"].splitlines()[-1]
    assert "interrupted" in message
    assert "after step 3" in message
    assert "Traceback" not in said["SIGINT"]
    assert {path.name for path in (run / "checkpoints").iterdir()} == {"step_2", "step_3"}
    assert not (run / "summary.json").exists()
    program, *rest = shlex.split(message.partition("Go on with: ")[2])
    assert program == "entrocraft"
    assert_same(command(*rest, path=run), whole)


def test_a_killed_run_goes_on_from_its_checkpoint(stopped, command):
    """What it wrote after the checkpoint is forgotten, a half-written last line included."""
    whole, folder, codes, _ = stopped
    run = folder / "SIGKILL"
    assert codes["SIGKILL"] == -signal.SIGKILL
    written = (run / "metrics.jsonl").read_text()
    assert len(written.splitlines()) == 5
    assert max(path.name for path in (run / "checkpoints").iterdir()) == "step_4"
    for file in ("metrics.jsonl", "evaluations.jsonl"):
        with (run / file).open("a") as stream:
            stream.write('{"step": 5, "sam')
    assert_same(command(*arguments(run), "--resume=true", path=run), whole)


def test_a_run_killed_before_its_first_checkpoint_starts_again(stopped, command, copied):
    whole, *_ = stopped
    run = copied(whole)
    for checkpoint in (run / "checkpoints").iterdir():
        for file in checkpoint.iterdir():
            file.unlink()
        checkpoint.rmdir()
    (run / "summary.json").unlink()
    assert_same(command(*arguments(run), "--resume=true", path=run), whole)


def test_resuming_a_finished_run_changes_nothing(stopped, command, copied):
    whole, *_ = stopped
    run = copied(whole)
    before = {path.name: path.read_bytes() for path in run.iterdir() if path.suffix in (".jsonl", ".json")}
    again = command(*arguments(run), "--resume=true", path=run)
    assert_same(again, whole)
    assert {name: (run / name).read_bytes() for name in before} == before
    # The copy's own place is recorded, so that the command of a later message finds it.
    assert load_config("--config", str(run / "config.yaml")).output == run


EVERY_STAGE_REMEMBERS = {
    "shaping": "positive_reweighting",
    "filter": "rejection",
    "denominator": "zero",
    "token_weight": "repo_r",
    "clip": "adapo",
    "terms": {"aec": {"target": 2.0}, "aent": {}},
}


@pytest.mark.parametrize(
    ("number", "methods"),
    [
        (
            signal.SIGINT,
            {
                "algorithm": {"filter": "released", "denominator": "zero"},
                "reward": {"convention": "signed"},
                "band": {"unit": "nats", "warm_start": 0.9},
            },
        ),
        (signal.SIGTERM, {"algorithm": {"kl": 0.1, "entropy_bonus": 0.01, "epochs": 2}}),
        (signal.SIGINT, {"algorithm": {"filter": "users_own:Remembering", "advantage": "reinforce"}}),
        (signal.SIGTERM, {"algorithm": EVERY_STAGE_REMEMBERS}),
        (signal.SIGINT, {"model": {"dtype": "bfloat16"}, "rollout": {"temperature": 0.7, "top_p": 0.9, "top_k": 20}}),
    ],
    ids=["released-warm-start", "kl-bonus-epochs", "controller", "memory-everywhere", "bfloat16-truncation"],
)
def test_every_kind_of_state_survives_an_interrupt(tmp_path, plugins, number, methods):
    """In this process, through Python: a signal during the second step of four."""
    calls = []

    def interrupting(prompts, completions, completion_ids, **columns):
        calls.append(1)
        if len(calls) == 2:
            signal.raise_signal(number)
        return Countdown().reward(prompts, completions, completion_ids, **columns)

    def settings(name, **more):
        small = {"output": str(tmp_path / name), "steps": 4, "evaluation": {"prompts": 0}, **more}
        rollout = {"prompts": 4, "group_size": 4, **methods.get("rollout", {})}
        algorithm = {"mini_batches": 2, **methods.get("algorithm", {})}
        return {**small, **methods, "rollout": rollout, "algorithm": algorithm, "optimizer": {"learning_rate": 1e-3}}

    handler = signal.getsignal(signal.SIGINT)
    entrocraft.train(settings("whole"))
    with pytest.raises(KeyboardInterrupt, match="after step 2, saved"):
        entrocraft.train(settings("stopped"), interrupting)
    entrocraft.train(settings("stopped", resume=True))
    whole, resumed = (tmp_path / name / "checkpoints" / "step_4" for name in ("whole", "stopped"))
    assert (whole / "model.safetensors").read_bytes() == (resumed / "model.safetensors").read_bytes()
    assert state_files(whole) == state_files(resumed)
    assert signal.getsignal(signal.SIGINT) is handler


def test_the_command_that_is_named_also_resumes_a_run_that_replaced_another(tmp_path, command):
    """`config.yaml` says how to make the run, not that it once replaced another."""
    small = {"output": str(tmp_path / "run"), "steps": 2, "rollout": {"prompts": 4}, "evaluation": {"prompts": 0}}
    entrocraft.train(small)

    def interrupting(prompts, completions, completion_ids, **columns):
        signal.raise_signal(signal.SIGINT)
        return Countdown().reward(prompts, completions, completion_ids, **columns)

    with pytest.raises(KeyboardInterrupt) as stopped:
        entrocraft.train({**small, "overwrite": True}, interrupting)
    _, *rest = shlex.split(str(stopped.value).partition("Go on with: ")[2])
    resumed = command(*rest, path=tmp_path / "run")
    assert resumed.code == 0, resumed.said
    assert len(resumed.rows) == 2


def test_a_run_in_another_thread_leaves_signals_alone(tmp_path):
    """Python lets the main thread alone handle signals, and servers train in others."""
    settings = {"output": str(tmp_path / "run"), "steps": 1, "rollout": {"prompts": 4}, "evaluation": {"prompts": 0}}
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(entrocraft.train, settings).result().summary["steps"] == 1


def test_a_second_interrupt_stops_at_once(tmp_path):
    def impatient(prompts, completions, completion_ids, **columns):
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        raise AssertionError("went on after the second signal")

    with pytest.raises(KeyboardInterrupt):
        entrocraft.train({"output": str(tmp_path / "run"), "steps": 2, "rollout": {"prompts": 4}}, impatient)
    assert not list((tmp_path / "run" / "checkpoints").iterdir())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_of_the_final_evaluation_stops_at_once(number, tmp_path, command):
    """Everything is saved by then; the run that goes on evaluates and summarises."""
    small = {"output": str(tmp_path / "run"), "steps": 1, "rollout": {"prompts": 4, "group_size": 4}}
    evaluation = {"prompts": 2, "samples": 2, "settings": ["t1"]}

    def interrupting(prompts, completions, completion_ids, **columns):
        if len(completions) != 16:
            signal.raise_signal(number)
        return Countdown().reward(prompts, completions, completion_ids, **columns)

    with pytest.raises(KeyboardInterrupt, match="Go on with: entrocraft train") as stopped:
        entrocraft.train({**small, "evaluation": evaluation}, interrupting)
    assert (tmp_path / "run" / "checkpoints" / "step_1").is_dir()
    assert not (tmp_path / "run" / "summary.json").exists()
    _, *rest = shlex.split(str(stopped.value).partition("Go on with: ")[2])
    assert command(*rest, path=tmp_path / "run").code == 0
    assert (tmp_path / "run" / "summary.json").exists()
    # One that is evaluated anew is not finished until it is done again.
    with pytest.raises(KeyboardInterrupt):
        entrocraft.train({**small, "evaluation": evaluation, "resume": True}, interrupting)
    assert not (tmp_path / "run" / "summary.json").exists()
