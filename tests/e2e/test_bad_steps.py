"""Gradients that are not finite, from a user's clip rule: skipped, kept, counted, and the end of the run in a row."""

import json

import pytest
import torch
from safetensors.torch import load_file

import entrocraft
from trainer.bad_steps import save_bad_step
from trainer.methods.stages import Filtered
from trainer.sampling import Sampling, sample
from trainer.streams import TokenUniforms

# Factors of the objective by step and mini-batch: BAD="1.0:nan 2.1:inf" acts in the first of step 1, the second of 2.
FAULTY = """
import os
from dataclasses import replace
import torch
from trainer.methods.clips import PPOClip


class Faulty:
    def start(self):
        return {"step": 0}

    def decide(self, state, tokens):
        # The first mini-batch is at the weights that sampled: its ratios are 1 within rounding.
        first = bool((tokens.log_ratio.abs() < 1e-4)[tokens.mask].all())
        found = PPOClip()(tokens)
        fault = dict(part.split(":") for part in os.environ["BAD"].split()).get(f"{state['step']}.{int(not first)}")
        return found if fault is None else replace(found, objective=found.objective * float(fault))

    def step(self, state, observation):
        return {"step": state["step"] + 1}, {}
"""


@pytest.fixture
def run(tiny, plugins, tmp_path, monkeypatch):
    """A function that makes a run of 4 steps with faults at these places, and returns it."""
    (tmp_path / "faulty.py").write_text(FAULTY)
    monkeypatch.syspath_prepend(tmp_path)

    def made(bad, name="run", *, expect=0, **settings):
        monkeypatch.setenv("BAD", bad)
        chosen = {
            "steps": "4",
            "reward.function": f"{plugins}:parity",
            "algorithm.clip": "faulty:Faulty",
            "optimizer.learning_rate": "1e-3",
            "optimizer.bad_steps": "2",
            "checkpoint.every": "1",
            "checkpoint.keep": "0",
            "theory.enabled": "false",
            "evaluation.prompts": "0",
            "log.tensorboard": "false",
            **settings,
        }
        return tiny(chosen, output=tmp_path / name, expect=expect)

    return made


def moments_of(run, step):
    return load_file(run.path / "checkpoints" / f"step_{step}" / "trainer_state.safetensors")


def model_of(run, step):
    return load_file(run.path / "checkpoints" / f"step_{step}" / "model.safetensors")


def assert_equal(one, other):
    assert one.keys() == other.keys()
    assert all(torch.equal(value, other[name]) for name, value in one.items())


def kept(run):
    return sorted(path.name for path in (run.path / "bad_steps").iterdir())


def test_a_bad_step_leaves_weights_and_moments_alone_and_a_good_one_resets_the_count(run):
    found = run("1.0:nan 3.0:-inf")
    # the second mini-batch of a step whose first was dropped is at the first weights too
    assert [row["bad_mini_batches"] for row in found.rows] == [0, 2, 0, 2]
    assert [row["skipped_mini_batches"] for row in found.rows] == [0] * 4
    assert kept(found) == ["step_1.jsonl", "step_1.safetensors", "step_3.jsonl", "step_3.safetensors"]
    bad = found.rows[1]
    assert (bad["bad_mini_batches"], bad["skipped"], bad["loss"], bad["grad_norm"]) == (2, 1, None, None)
    assert_equal(model_of(found, 1), model_of(found, 2))
    assert_equal(moments_of(found, 1), moments_of(found, 2))
    assert not all(torch.equal(value, model_of(found, 3)[name]) for name, value in model_of(found, 2).items())
    # what was kept is the batch: as many rows and texts as were drawn
    tensors = load_file(found.path / "bad_steps" / "step_1.safetensors")
    rows = [json.loads(line) for line in (found.path / "bad_steps" / "step_1.jsonl").read_text().splitlines()]
    assert len(tensors["tokens"]) == len(rows) == 16
    assert rows == found.rollouts(1)
    torch.testing.assert_close(tensors["advantages"].flatten().tolist(), [row["advantage"] for row in rows])
    assert tensors["mask"].sum() == found.rows[1]["tokens"] - found.rows[0]["tokens"]


def test_the_other_mini_batches_of_a_bad_step_go_on(run):
    found = run("1.1:nan", **{"steps": "2"})
    bad = found.rows[1]
    assert (bad["bad_mini_batches"], bad["skipped"]) == (1, 0)
    assert bad["loss"] is not None
    assert kept(found) == ["step_1.jsonl", "step_1.safetensors"]
    assert not all(torch.equal(value, model_of(found, 2)[name]) for name, value in model_of(found, 1).items())
    assert all(value.isfinite().all() for value in model_of(found, 2).values())


def test_several_in_a_row_stop_the_run_and_it_goes_on_where_the_fault_is_mended(run, command, monkeypatch):
    stopped = run("2.0:nan 3.0:nan", expect=1)
    assert "not finite in 2 steps in a row (optimizer.bad_steps=2)" in stopped.said
    assert "Traceback" not in stopped.said
    assert [row["step"] for row in stopped.rows] == [0, 1, 2, 3]
    state = json.loads((stopped.last / "trainer_state.json").read_text())["state"]
    assert (state["step"], state["bad_in_a_row"]) == (3, 1)
    # resumed as it is, it counts on from the checkpoint and stops at the same step again
    config = ["train", "--config", stopped.path / "config.yaml", "--resume"]
    again = command(*config, path=stopped.path)
    assert again.code == 1
    assert "in 2 steps in a row" in again.said
    assert again.timeless == stopped.timeless
    # a kill while a bad step was kept leaves half a file
    (stopped.path / "bad_steps" / "step_3.jsonl.new").write_text("{")
    # with the user's code mended, the step is taken again, and nothing of it is left among the bad ones
    monkeypatch.setenv("BAD", "2.0:nan")
    mended = command(*config, path=stopped.path)
    assert mended.code == 0, mended.said
    assert kept(mended) == ["step_2.jsonl", "step_2.safetensors"]
    once = run("2.0:nan", "once")
    assert mended.timeless == once.timeless
    assert mended.weights == once.weights


def test_advantages_and_weights_that_are_one_tensor_can_be_kept(tmp_path):
    """A user's filter may return the same tensor twice, or a view of another."""
    policy = entrocraft.load("trainer.model").load_policy("countdown-0.2m", device="cpu")
    rollouts = sample(policy, [[1, 2], [3]], 2, 3, Sampling(), generator=TokenUniforms(0))
    both = torch.tensor([[1.0, 0.5, 9.0], [2.0, 0.0, 9.0]])[:, :2]
    save_bad_step(tmp_path, 7, rollouts, Filtered(weights=both, advantages=both), [])
    tensors = load_file(tmp_path / "bad_steps" / "step_7.safetensors")
    assert tensors["weights"].tolist() == tensors["advantages"].tolist() == both.tolist()
