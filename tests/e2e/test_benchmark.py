"""The benchmark against TRL does the work it says; its own half alone, for TRL is no dependency."""

import importlib.util
from pathlib import Path

import pytest
import torch

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "trainer_vs_trl.py"


@pytest.fixture(scope="module")
def trl_benchmark():
    spec = importlib.util.spec_from_file_location("trainer_vs_trl", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def inputs(trl_benchmark, tmp_path):
    torch.set_default_dtype(torch.float32)
    trl_benchmark.make_inputs(tmp_path, steps=2, seed=0)
    return tmp_path


@pytest.mark.parametrize("rows", [128, 64])
def test_a_step_computes_the_rows_that_have_an_advantage(trl_benchmark, inputs, rows):
    found = trl_benchmark.ours(inputs, 2, 0, rows=rows)  # checks the rows and tokens of each step
    assert len(found["seconds"]) == 2


def test_every_group_is_mixed_or_wholly_right(trl_benchmark):
    completions = [[row % 64, row // 64] for row in range(128)]
    rewards = trl_benchmark.reward_for(64)(prompts=None, completions=None, completion_ids=completions)
    groups = [sum(rewards[start : start + 8]) for start in range(0, 128, 8)]
    assert groups == [8] * 8 + [4] * 8
