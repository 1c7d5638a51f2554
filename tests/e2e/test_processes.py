"""Two processes are one: the same run, shared out, by torchrun and by accelerate, as copies and as shards."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file

from trainer.parsing import config_from
from trainer.workers import find_workers

STEPS = 3
SETTINGS = {
    "steps": STEPS,
    "model.device": "cpu",
    "model.attention": "sdpa",
    "rollout.prompts": 5,  # which two processes cannot share evenly
    "rollout.group_size": 4,
    "algorithm.mini_batches": 2,
    "algorithm.filter": "algorithm1",
    "algorithm.kl": 0.05,
    "band.unit": "nats",
    "band.start": "[0.2,0.3]",
    "optimizer.learning_rate": 1e-3,
    "optimizer.micro_batch_rows": 3,
    "theory.probe_rows": 19,  # fewer have no rollout with an advantage among them
    "theory.condition": "true",
    "theory.second_order": "true",
    "evaluation.prompts": 3,
    "evaluation.samples": 2,
    "evaluation.settings": "[t1]",
    "checkpoint.every": 2,
    "log.tensorboard": "false",
}
# At the rate above, rewards are gone after a step, and with them all that there is to control.
DIRECTED = {
    "algorithm.filter": "soft",
    "algorithm.filter_options": '{"influence": "directional"}',
    "algorithm.denominator": "zero",
    "optimizer.learning_rate": 2e-4,
    "rollout.group_size": 12,
}
BESIDE = ("time_", "wall_", "log_prob_gap")
EXACT = ("step", "samples", "tokens", "band_indicator", "accepted_fraction", "rows_computed", "skipped_mini_batches")
# Every process reports the rows that it decided on: the reward is called in the order of its own prompts. One beside
# others aborts if it goes through the end of Python, as threads of the connection make it now and then.
PEEK = """
import atexit
import os
from trainer.tasks import Countdown

def reward(prompts, completions, completion_ids, **columns):
    with open(os.environ["PEEK"] + os.environ.get("RANK", "0"), "a") as file:
        file.write("".join(f"{prompt}|{text}\\n" for prompt, text in zip(prompts, completions)))
    return Countdown().reward(prompts, completions, completion_ids, **columns)

if "RANK" in os.environ:
    atexit.register(os.abort)
"""


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return str(found.getsockname()[1])


LAUNCHERS = {
    "torchrun": lambda: ["torch.distributed.run", "--nproc_per_node=2", f"--master_port={free_port()}"],
    "accelerate": lambda: [
        "accelerate.commands.launch",
        *("--multi_gpu", "--num_processes=2", "--num_machines=1", "--mixed_precision=no", "--dynamo_backend=no"),
        f"--main_process_port={free_port()}",
    ],
}


def started(folder, name, *arguments, launcher=None, **settings):
    """Start a run, by a launcher or alone."""
    chosen = {**SETTINGS, "reward.function": "peeking:reward", **settings}
    given = ["train", f"--output={folder / name}", *(f"--{key}={value}" for key, value in chosen.items()), *arguments]
    command = [sys.executable, "-m", *(LAUNCHERS[launcher]() if launcher else ()), *(["-m"] if launcher else ())]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PEEK": str(folder / f"{name}.rank")}
    environment["PYTHONPATH"] = os.pathsep.join([str(folder), str(Path(__file__).parents[2])])
    call = [*command, "entrocraft", *given]
    return subprocess.Popen(
        call, cwd=folder, env=environment, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def finished(process):
    printed, said = process.communicate(timeout=300)
    assert process.returncode == 0, said[-3000:]
    return printed


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("processes")
    (path / "peeking.py").write_text(PEEK)
    return path


def shared_out(folder, prefix, **settings):
    """Run the same with one process, with two of a copy each, and with two of a shard each, which say where."""
    shards = {"model.parallel": "fsdp2", **settings}
    alone = started(folder, f"{prefix}alone", **settings)
    copies = finished(started(folder, f"{prefix}ddp", launcher="torchrun", **settings))
    printed = {"alone": finished(alone), "ddp": copies}
    printed["fsdp2"] = finished(started(folder, f"{prefix}fsdp2", launcher="accelerate", **shards))
    for name, text in printed.items():
        assert text.count(f"finished: {folder / (prefix + name) / 'summary.json'}") == 1
    return {name: folder / f"{prefix}{name}" for name in printed}


@pytest.fixture(scope="module")
def runs(folder):
    return shared_out(folder, "")


@pytest.fixture(scope="module")
def directed(folder):
    """Runs whose control looks along the gradient of entropy."""
    return shared_out(folder, "directed_", **DIRECTED)


def rows_of(path):
    return [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]


def weights_of(path, step=STEPS):
    return load_file(path / "checkpoints" / f"step_{step}" / "model.safetensors")


def assert_alike(path, other, rate=SETTINGS["optimizer.learning_rate"], rel=2e-3, beside=BESIDE):
    """The same counts and decisions, and the same numbers within what float32 sums in another order differ by."""
    for row, expected in zip(rows_of(path), rows_of(other), strict=True):
        assert expected["condition_tokens"] is not None
        assert [row[name] for name in EXACT] == [expected[name] for name in EXACT]
        row, expected = ({**found, **found["info"]} for found in (row, expected))
        for name, value in expected.items():
            if isinstance(value, float) and not name.startswith(beside):
                assert row[name] == pytest.approx(value, rel=rel, abs=2e-5), (row["step"], name)
    mine, theirs = weights_of(path), weights_of(other)
    assert mine.keys() == theirs.keys()
    for name, value in theirs.items():
        # Adam divides by the root of small second moments, which shows the rounding of the gradient.
        assert float((mine[name] - value).abs().mean()) < 0.02 * rate, name


@pytest.mark.parametrize("name", ["ddp", "fsdp2"])
def test_two_processes_are_one_within_rounding(runs, name):
    assert_alike(runs[name], runs["alone"])


@pytest.mark.parametrize("name", ["ddp", "fsdp2"])
def test_control_decides_the_same_in_two_processes(directed, name):
    # Slopes are differences of float32 log-probabilities; a baseline is carried by tokens that hardly moved.
    loose = {"rel": 1e-2, "beside": (*BESIDE, "condition_baseline")}
    assert_alike(directed[name], directed["alone"], DIRECTED["optimizer.learning_rate"], **loose)
    told = [row["info"] for row in rows_of(directed["alone"])]
    # A first step gives the optimiser its moments, a second one the mean of earlier gradients.
    assert [row["predicted_unit"] != 0 for row in told] == [False, False, True]


@pytest.mark.parametrize("name", ["ddp", "fsdp2"])
def test_they_share_the_prompts_and_agree_on_every_one(runs, folder, name):
    shares = [(folder / f"{name}.rank{rank}").read_text().splitlines() for rank in (0, 1)]
    every = (folder / "alone.rank0").read_text().splitlines()
    # 5 prompts are shared as 2 and 3, then 3 of evaluation as 1 and 2
    assert [len(share) for share in shares] == [3 * 2 * 4 + 1 * 2, 3 * 3 * 4 + 2 * 2]
    assert sorted(shares[0] + shares[1]) == sorted(every)


@pytest.mark.parametrize("name", ["ddp", "fsdp2"])
def test_evaluation_is_shared_and_the_same(runs, name):
    mine, theirs = ((runs[key] / "evaluations.jsonl").read_text() for key in (name, "alone"))
    mine, theirs = json.loads(mine), json.loads(theirs)
    assert (mine["correct"], mine["distinct"]) == (theirs["correct"], theirs["distinct"])
    assert (
        json.loads((runs[name] / "summary.json").read_text())["evaluations"]["t1"]["pass@1"]
        == (theirs["estimates"]["pass@1"])
    )


def test_one_process_goes_on_where_two_with_shards_stopped(runs, folder):
    """A checkpoint is whole whoever wrote it: optimiser moments of shards are gathered."""
    path = runs["fsdp2"]
    (path / "summary.json").unlink()
    last = path / "checkpoints" / f"step_{STEPS}"
    for file in last.iterdir():
        file.unlink()
    last.rmdir()
    finished(started(folder, "fsdp2", "--resume", **{"model.parallel": "fsdp2"}))
    assert_alike(path, runs["alone"])


def test_more_processes_than_prompts_are_refused(folder):
    process = started(folder, "refused", launcher="torchrun", **{"rollout.prompts": 1, "algorithm.mini_batches": 1})
    _, said = process.communicate(timeout=300)
    assert process.returncode != 0
    assert "rollout.prompts=1 must be at least one a process; got 2 processes" in said
    assert not (folder / "refused").exists()


def test_sharding_by_accelerates_own_configuration_is_refused(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.raises(ValueError, match=r"ACCELERATE_USE_FSDP.*model\.parallel"):
        find_workers(config_from({}))
