"""The experiment `slopes`: every recipe runs from one start, what it touches is counted, and findings can flip."""

from dataclasses import replace

import pandas as pd
import pytest
import torch

from simulations.exact import tree_of
from simulations.experiments import slopes
from simulations.experiments.slopes import EXPERIMENT, Options, ours, plain_grpo, run, setting_of, start, touched
from simulations.loop import Simulation
from trainer.methods.assembly import assemble
from trainer.methods.recipes import RECIPES

TINY = Options(repeats=3, prompts=4, arms=6, vocabulary=3, tokens=2, group_size=4, warm_up=2, steps=2, run=20)
FEW = ("clip_v", "nsr", "entropy_bonus", "opefo", "released")


@pytest.fixture(scope="module")
def rows():
    options = replace(TINY, recipes=FEW, policies=("tree",))
    return pd.concat([pd.DataFrame(list(cell.run())) for cell in EXPERIMENT.cells(options)], ignore_index=True)


@pytest.mark.parametrize("name", [name for name in RECIPES if name != "grpo"])
def test_every_recipe_runs_from_the_same_start(name):
    options = replace(TINY, repeats=2, steps=1)
    first = pd.Series(next(iter(run(name, "tree", "adam", options))))
    _, _, parameters, _ = start("tree", options)
    assert first.entropy == tree_of(start("tree", options)[0], parameters).entropy()[0].item()
    assert first[["slope", "touched", "push", "reward_gain"]].notna().all()


def test_grpo_touches_nothing_and_a_scaled_loss_touches_all_that_grpo_pulls():
    setting = setting_of("grpo", "tree", "sgd", replace(TINY, learning_rate=0.01))  # nothing is clipped
    simulation = Simulation(setting, 3, seed=0, trace=True)
    trace = simulation.advance().trace
    share, sizes = touched(setting, trace, plain_grpo(setting, TINY))
    assert share.max() == sizes[0].max() == 0
    assert (sizes[1] > 0).all()
    # Twice the longest response halves every pull: the difference is half of GRPO's own.
    settings = {"denominator": "max_length", "denominator_options": {"length": 2 * TINY.tokens}}
    halved = replace(setting, algorithm=assemble(settings, group_size=4, updates=4))
    share, sizes = touched(halved, trace, plain_grpo(setting, TINY))
    torch.testing.assert_close(sizes[0] / sizes[1], torch.full((3,), 0.5))
    pulled = (trace.groups.advantages != 0).double().mean((-2, -1))
    torch.testing.assert_close(share, pulled)


def test_pairs_with_the_grpo_of_as_many_updates_and_flags_options_of_ours(rows):
    found = EXPERIMENT.tables(rows)["slopes"].set_index(["cell", "recipe"])
    for cell in ("tree, sgd", "tree, adam"):
        part = found.loc[cell]
        assert part.baseline["opefo"] == "grpo_on_policy"
        assert part.difference["grpo"] == part.difference["grpo_on_policy"] == 0
        # At these sizes no token is that extreme: no effect, and it shows.
        assert (part.touched["clip_v"], part.push["clip_v"], part.z["clip_v"]) == (0, 0, 0)
        assert part.ours["clip_v"]
        assert pd.isna(part["rank"]["clip_v"])
        assert not part.ours["nsr"]
        assert pd.notna(part["rank"]["nsr"])
        assert part.touched["entropy_bonus"] == 1
        assert part.difference["entropy_bonus"] > 0
    assert "clip_v (touches 0.00% of tokens" in " ".join(EXPERIMENT.findings(EXPERIMENT.tables(rows)))
    assert ours("dapo")
    assert not ours("grpo")


def test_findings_flip_with_the_data(rows):
    # Planted: every recipe goes as said by 1 +- 0.01, or the other way.
    unit = rows.repeat.map({0: 0.99, 1: 1.0, 2: 1.01})
    said = rows.assign(slope=rows.says * unit)
    counts = EXPERIMENT.tables(said)["said"]
    assert counts.as_said.eq(3).all()  # nsr, entropy_bonus and released
    assert EXPERIMENT.findings(EXPERIMENT.tables(said))[0].startswith("The claim holds:")
    against = EXPERIMENT.tables(rows.assign(slope=-rows.says * unit))
    assert against["said"].opposite.eq(counts.as_said).all()
    assert "does not hold" in EXPERIMENT.findings(against)[0]
    lost = EXPERIMENT.tables(rows.assign(slope=rows.says * unit * 1e-3 + rows.repeat.map({0: -1.0, 1: 0.0, 2: 1.0})))
    assert lost["said"].as_said.eq(counts.as_said).all()  # noise that GRPO shares cancels


def test_the_start_is_the_warm_policy_and_names_are_checked():
    policy, _, parameters, entropy = start("table", TINY)
    first = policy.start(3, generator=torch.Generator().manual_seed(0))
    assert parameters["logits"].shape == first["logits"].shape
    assert 0 < entropy < 1.8
    with pytest.raises(ValueError, match="grop"):
        EXPERIMENT.cells(replace(TINY, recipes=("grop",)))
    assert set(slopes.SAYS) <= set(RECIPES)
