"""The experiment `collapse`: the two parts of GRPO's change by hand and by the ledger, and findings that can flip."""

from dataclasses import replace

import pandas as pd
import pytest
import torch

from simulations.experiments import collapse
from simulations.experiments.collapse import EXPERIMENT, Options, parts, setting_of, verdict
from simulations.ledger import ledger
from simulations.loop import Setting, Simulation
from simulations.policies import Table
from simulations.problems import Problem
from trainer.methods.assembly import assemble

TINY = Options(repeats=2, prompts=8, arms=6, vocabulary=3, steps=6, every=3)


def two_arms(right):
    """One prompt with p = (1/4, 3/4) and one right arm."""
    rewards = torch.zeros(1, 2)
    rewards[0, right] = 1
    return Setting(
        policy=Table(1, 2, scale=0.0, initial=torch.tensor([[0.25, 0.75]]).log()),
        problem=Problem(rewards, 2),
        algorithm=assemble({"advantage": "grpo"}, group_size=2),
        steps=1,
        learning_rate=0.1,
        group_size=2,
    )


def parts_of(setting, seed=0, repeats=1):
    simulation = Simulation(setting, repeats, seed=seed, trace=True)
    return parts(setting, simulation.advance().trace)


def test_parts_of_two_arms_by_hand():
    # A right sample's group is mixed with probability 3/4, then A = 1/sqrt(2): alpha = 0.5303, beta = 0.1768.
    # H = 0.5623, S = (-0.2060, 0.2060), grad mu = 3/16 (1, -1): <grad H, grad mu> = 0.07725, and entropy rises.
    found = parts_of(two_arms(right=0))
    assert found["positive"].item() == pytest.approx(0.5303 * 0.07725, rel=1e-3)
    assert found["negative"].item() == pytest.approx(0.1768 * 0.07725, rel=1e-3)
    assert found["odds_error"].item() < 1e-12
    assert found["probability_positive"].item() == pytest.approx(0.25)
    assert found["confidence_names_larger"].item() == 0  # the rarer answer carries more
    assert found["confidence_names_sign"].item() == 1
    # With the likely arm right, both signs turn and the odds are 1 to 3.
    other = parts_of(two_arms(right=1))
    assert other["positive"].item() == pytest.approx(-0.1768 * 0.07725, rel=1e-3)
    assert other["negative"].item() == pytest.approx(-0.5303 * 0.07725, rel=1e-3)


@pytest.mark.parametrize("name", ["competent", "tree", "network"])
def test_parts_are_the_ledgers_expected_change_where_contexts_own_their_logits(name):
    setting = setting_of(name, {}, TINY)
    step = Simulation(setting, 2, seed=0, trace=True).advance()
    found, book = parts(setting, step.trace), ledger(setting, step.trace)
    rate = TINY.learning_rate * collapse.STARTS[name].rate
    together = (found["positive"] + found["negative"]) * rate
    assert found["odds_error"].max() < 1e-9
    if name == "network":  # parameters are shared, which the ledger's covariance leaves out
        assert not torch.allclose(together, book.covariance, rtol=1e-3)
    else:
        torch.testing.assert_close(together, book.covariance)


def test_the_covariance_of_the_tokens_drawn_averages_to_the_exact_one():
    setting = replace(two_arms(right=0), group_size=8, algorithm=assemble({}, group_size=8))
    found = parts_of(setting, repeats=4000)
    drawn = found["covariance_drawn"] - found["covariance"]
    assert drawn.mean().abs() < 4 * drawn.std() / len(drawn) ** 0.5
    assert found["covariance"].abs().mean() > 8 * drawn.std() / len(drawn) ** 0.5  # and 0 would be told apart


def test_runs_from_cells_to_findings():
    rows = pd.concat([pd.DataFrame(list(cell.run())) for cell in EXPERIMENT.cells(TINY)], ignore_index=True)
    found = EXPERIMENT.tables(rows)
    lines = EXPERIMENT.findings(found)
    assert lines[0].startswith("The claim ")
    assert len(found["starts"]) == len(collapse.STARTS)
    assert len(found["sides"]) == len(collapse.STARTS) * len(collapse.VARIANTS)
    for panel in EXPERIMENT.panels:
        assert {panel.x, panel.y} <= {*found[panel.table].columns}


def test_the_parts_of_a_run_add_up_to_its_fall():
    # Small steps: what is left of the fall is curvature, noise and, in tree and network, other contexts.
    options = replace(TINY, repeats=6, prompts=32, learning_rate=0.02, steps=50, every=5)
    for name, within in (("flat", 0.3), ("network", 0.4)):
        rows = pd.DataFrame(list(collapse.run_grpo(name, options)))
        first, last = (rows[rows.step == step].entropy.mean() for step in (0, 45))
        change = 0.02 * 45 * (rows.positive + rows.negative).mean()
        assert last - first == pytest.approx(change, rel=within), name


def test_the_verdict_follows_the_numbers():
    columns = {"fall": 0.5, "positive_run": -0.04, "negative_run": -0.01, "gap_run": 0.2}
    good = pd.DataFrame([{**columns, **{f"{name}_error": 0.001 for name in columns}, "confidence_names_larger": 0.99}])
    assert verdict(good).startswith("The claim holds:")
    assert verdict(good.assign(confidence_names_larger=0.5)).startswith("The claim holds in part")
    swapped = good.assign(positive_run=-0.01, negative_run=-0.04)
    assert verdict(swapped).startswith("The claim does not hold")
    assert verdict(good.assign(gap_run=-0.2)).startswith("The claim does not hold")
