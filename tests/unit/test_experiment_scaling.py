"""The experiment `scaling`: planted power laws are found, and the context shift is the ledger's."""

from dataclasses import replace

import pandas as pd
import pytest
import torch

from simulations.exact import tree_of
from simulations.experiments.scaling import EXPERIMENT, Options, context_shift, fits, is_law, policy_of, setting_of
from simulations.ledger import ledger
from simulations.loop import Simulation

TINY = Options(
    repeats=2, vocabularies=(5, 8), prompts=4, lengths=(1, 2), tokens=3, sequence_prompts=3, steps=3, sequence_steps=3
)


def falls(exponent, bend=0.0, sizes=(1, 2, 4, 8)):
    """Falls 3 V^exponent, or with a bend in the logarithms, of three repeats that differ by a factor."""
    rows = [
        {"policy": "tree", "repeat": repeat, "size": size, "fall": 3 * factor * size**exponent * (1 - bend * size)}
        for repeat, factor in enumerate((0.98, 1.0, 1.02))
        for size in sizes
    ]
    return fits(pd.DataFrame(rows), ["policy"]).to_dict("records")[0]


def test_a_planted_power_is_found_and_a_bend_is_no_power():
    found = falls(-0.5)
    assert found["exponent"] == pytest.approx(-0.5)
    assert found["exponent_small"] == pytest.approx(found["exponent_large"])
    assert found["fit"] == pytest.approx(1.0)
    assert is_law(found)
    assert not is_law(falls(0.5))  # the fall grows
    bent = falls(-0.5, bend=0.1)
    assert bent["exponent_large"] < bent["exponent_small"]
    assert not is_law(bent)
    risen = falls(-0.5, bend=0.2)  # at size 8 entropy rises
    assert (risen["rising"], risen["fitted"]) == (1, 3)
    assert not is_law(risen)


@pytest.mark.parametrize("name", ["tree", "recurrent"])
@pytest.mark.parametrize("length", [1, 2])
def test_the_context_shift_is_the_ledgers_and_bandits_have_none(name, length):
    policy = policy_of(name, length, TINY)
    setting = setting_of(policy, (1, 2), 1.0, 1, "sampled", replace(TINY, learning_rate=2.0))
    simulation = Simulation(setting, 2, seed=0, trace=True)
    before = tree_of(policy, simulation.state.parameters)
    book = None if length == 1 and name == "recurrent" else ledger(setting, simulation.advance().trace)
    if book is None:
        simulation.advance()
    after = tree_of(policy, simulation.state.parameters)
    shift = context_shift(before.entropy(), after.entropy(before.reach), after.entropy())
    if length == 1:
        torch.testing.assert_close(shift, torch.zeros(2), atol=1e-14, rtol=0)
    if book is not None:
        torch.testing.assert_close(shift, book.context_shift)
        assert length == 1 or (shift.abs() > 1e-6).all()


def test_runs_from_cells_to_findings():
    rows = pd.concat([pd.DataFrame(list(cell.run())) for cell in EXPERIMENT.cells(TINY)], ignore_index=True)
    found = EXPERIMENT.tables(rows)
    assert EXPERIMENT.findings(found)[0].startswith("The claim ")
    bandits = found["vocabulary"]
    assert len(bandits) == 2 * 8
    # The first policy and the problem are the same for both gradients, and entropy is held where it says so.
    assert bandits.groupby(["count", "start", "size"]).entropy.nunique().eq(1).all()
    held = bandits[bandits.start == "entropy"].entropy
    assert held.between(0.9, 1.5).all()
    spread = bandits[bandits.start == "spread"].groupby("size").entropy.mean()
    assert spread.is_monotonic_increasing
    assert found["length"].set_index(["policy", "size"]).shift_share[("tree", 1)] == pytest.approx(0.0, abs=1e-9)
