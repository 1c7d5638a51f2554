"""The sign rule against predictions: identities of the predictors, and findings that follow the numbers."""

import pandas as pd
import pytest
import torch

from simulations.exact import tree_of
from simulations.experiments import sign_rule
from simulations.experiments.sign_rule import EXPERIMENT, Options, changes_alone, score, share
from simulations.ledger import ledger, slope_and_curvature, token_influence
from simulations.loop import Setting, Simulation
from trainer.methods.assembly import assemble

TINY = Options(
    repeats=2, prompts=3, arms=5, correct=(1, 2), vocabulary=2, length=2, hidden=4, group_sizes=(4,), steps=12, every=3
)  # fmt: skip


@pytest.fixture(scope="module")
def rows():
    cells = EXPERIMENT.cells(TINY)
    assert [cell.key for cell in cells] == ["table_g4", "mlp_g4", "tree_g4", "recurrent_g4"]
    return pd.concat([pd.DataFrame(cell.run()) for cell in cells], ignore_index=True)


@pytest.mark.parametrize("name", sign_rule.POLICIES)
def test_changes_of_tokens_alone_sum_to_the_first_order_of_the_step(name):
    policy, problem, rate = sign_rule.built(name, TINY)
    algorithm = assemble({"denominator": "zero"}, group_size=4)
    setting = Setting(policy, problem, algorithm, steps=1, learning_rate=rate, group_size=4)
    trace = Simulation(setting, 2, seed=1, trace=True).advance().trace
    old = tree_of(policy, trace.before.parameters)
    slope, _ = slope_and_curvature(setting, trace.before.parameters, old, trace.before.parameters)
    alone = changes_alone(setting, trace, slope)
    book = ledger(setting, trace)
    total = book.covariance + book.sampling + book.selection + book.shared
    torch.testing.assert_close(alone.sum((-2, -1)), total, atol=1e-12, rtol=1e-9)
    if name in sign_rule.OWN_LOGITS:
        tokens = trace.rollouts.tokens[0].numel()
        own = rate / tokens * trace.filtered.advantages.flatten(1)[..., None] * token_influence(trace.rollouts, old)
        torch.testing.assert_close(alone, own, atol=1e-12, rtol=1e-9)


def test_share_looks_at_tokens_with_an_advantage():
    a, change = torch.tensor([[[1.0], [-1.0], [0.0], [2.0]]]), torch.tensor([[[-3.0], [-1.0], [-9.0], [-4.0]]])
    assert share(a, change, weighted=False).item() == pytest.approx(2 / 3)
    assert share(a, change, weighted=True).item() == pytest.approx(7 / 8)
    assert share(torch.zeros(1, 2, 1), torch.ones(1, 2, 1), weighted=False).isnan().item()


def test_score_by_hand():
    # Deviations (-1, 0, 1); errors (0, 0, -1): R2 = 1 - 1/2. Correlation 3 / sqrt(2 * 14/3) = 0.98198.
    part = pd.DataFrame({"measured": [1.0, 2.0, 3.0], "tokens": [1.0, 2.0, 4.0], "signs": [3.0, 2.0, 1.0]})
    assert score(part, "tokens") == pytest.approx({"r2": 0.5, "correlation": 0.9819805})
    assert score(part, "signs") == pytest.approx({"r2": 1.0, "correlation": -1.0})


def test_the_covariance_is_the_expected_gradients_change_in_tables_alone(rows):
    close = (rows.covariance - rows.expected).abs() < 1e-12
    assert close[rows.policy.isin(sign_rule.OWN_LOGITS)].all()
    assert not close[~rows.policy.isin(sign_rule.OWN_LOGITS)].any()


def test_findings_follow_the_rows(rows):
    tables = EXPERIMENT.tables(rows)
    for panel in EXPERIMENT.panels:
        columns = {panel.x, panel.y, panel.by, panel.low, panel.high, *panel.reference}
        assert columns <= set(tables[panel.table].columns) | {""}
    good = tables["predictors"].set_index(["policy", "predictor"]).r2
    assert (good.xs("second_order", level="predictor") > 0.99).all()
    assert len(EXPERIMENT.findings(tables)) == 1 + 4 + 6 + 1
    always = rows.assign(holds=0.9, holds_weighted=0.8)
    assert EXPERIMENT.findings(EXPERIMENT.tables(always))[0].startswith("The claim holds,")
    never = rows.assign(holds=0.4, holds_weighted=0.3)
    assert EXPERIMENT.findings(EXPERIMENT.tables(never))[0].startswith("The claim does not hold,")
    counted = rows.assign(holds=0.9, holds_weighted=0.3)
    assert EXPERIMENT.findings(EXPERIMENT.tables(counted))[0].startswith("The claim holds in part,")
    flipped = EXPERIMENT.tables(rows.assign(first_order=-rows.first_order))["predictors"]
    assert (flipped[flipped.predictor == "first_order"].r2 < 0).all()
