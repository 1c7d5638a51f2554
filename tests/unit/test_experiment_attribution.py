"""The attribution experiment: the ledger's rows end to end, and a verdict that follows them."""

import pandas as pd
import pytest

from simulations.experiments import attribution
from simulations.experiments.attribution import EXPERIMENT, Options

OPTIONS = Options(repeats=3, steps=3)


@pytest.fixture(scope="module")
def rows():
    return pd.concat([pd.DataFrame(cell.run()) for cell in EXPERIMENT.cells(OPTIONS)], ignore_index=True)


def test_causes_sum_to_the_change_and_the_claim_holds(rows):
    causes = [name for name in rows.columns if name not in ("policy", "trained_by", "repeat", "step", "measured")]
    causes.remove("context_shift")
    assert (rows[causes].sum(axis=1) - rows.measured).abs().max() < 1e-14
    assert len(rows) == len(attribution.POLICIES) * 2 * OPTIONS.repeats * OPTIONS.steps
    found = EXPERIMENT.tables(rows)
    assert "claim holds" in EXPERIMENT.findings(found)[0]
    # contexts of a table share nothing, those of a network do
    shared = found["causes"].set_index(["run", "cause"]).change
    assert abs(shared["table, sgd", "shared"]) < 1e-12 < abs(shared["mlp, sgd", "shared"])
    assert {panel.table for panel in EXPERIMENT.panels} <= found.keys()


def test_a_large_rest_turns_the_verdict(rows):
    worse = rows.assign(unexplained=rows.unexplained + 0.1 * rows.measured)
    assert "does not hold" in EXPERIMENT.findings(EXPERIMENT.tables(worse))[0]
