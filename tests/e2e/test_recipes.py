"""Every recipe trains a real model through the command line, as its name alone asks for."""

import math

import pytest

from trainer.methods.recipes import RECIPES

SMALL = {
    "steps": 2,
    "rollout.prompts": 4,
    "rollout.group_size": 4,
    "optimizer.learning_rate": 1e-3,
    "evaluation.prompts": 0,
    "theory.probe_rows": 4,
    "checkpoint.every": 0,
}


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_trains(name, tmp_path, plugins, command):
    # Two optimiser steps a batch unless the method is strictly on-policy: ratios and clips act on the second.
    settings = SMALL if RECIPES[name].on_policy else {**SMALL, "algorithm.mini_batches": 2}
    given = [f"--{key}={value}" for key, value in settings.items()]
    path = tmp_path / "run"
    given += [f"--reward.function={plugins}:parity", f"--output={path}"]
    run = command("train", "--config", name, *given, path=path)
    assert run.code == 0, run.said
    assert len(run.rows) == 2
    assert any(not row["skipped"] for row in run.rows)
    for row in run.rows:
        for value in (row["loss"], row["grad_norm"], *row["info"].values()):
            assert value is None or math.isfinite(value)
