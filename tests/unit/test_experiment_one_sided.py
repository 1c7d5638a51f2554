"""Positives-only against negatives-only: expected gradients by hand, and findings that follow the numbers."""

import pandas as pd
import pytest
import torch

from simulations.experiments import one_sided
from simulations.experiments.one_sided import EXPERIMENT, Options, crossing, expectation
from simulations.loop import Simulation

TINY = Options(
    repeats=3, prompts=4, arms=4, correct=1, spread=(1, 3), group_size=2, time=4.0, rates=(0.5,), grpo_rates=(1.0,),
    records=2,
)  # fmt: skip


@pytest.fixture(scope="module")
def rows():
    cells = EXPERIMENT.cells(TINY)
    assert len({cell.key for cell in cells}) == 6
    return pd.concat([pd.DataFrame(cell.run()) for cell in cells], ignore_index=True)


def test_the_expected_gradients_of_r_and_r_minus_1_move_alike_and_draws_differ(rows):
    plain = rows[(rows.advantages == "rewards") & (rows.denominator == "zero")]
    assert (plain.exact_positives - plain.exact_negatives).abs().max() < 1e-12
    later = plain[plain.time > 0]
    assert (later.positives - later.negatives).abs().min() > 1e-6
    start = rows[rows.time == 0]
    assert (start.positives == start.negatives).all()  # the same first parameters
    dropped = rows[(rows.advantages == "rewards") & (rows.denominator == "drop") & (rows.time > 0)]
    assert (dropped.exact_positives - dropped.exact_negatives).abs().min() > 1e-6


def test_expected_advantages_by_hand():
    # G = 2, P(right) = 1/4. A mixed pair has A = +-1/2 / sqrt(1/2) = +-0.70711 (less the estimator's eps).
    rewards, probabilities = torch.tensor([[[1.0, 0.0]]]), torch.tensor([[[0.25, 0.75]]])
    up = expectation("grpo", "positives", "zero", 2)(rewards, probabilities)
    down = expectation("grpo", "negatives", "zero", 2)(rewards, probabilities)
    torch.testing.assert_close(up[0, 0], torch.tensor([0.75 * 0.70711, 0.0]), atol=1e-5, rtol=0)
    torch.testing.assert_close(down[0, 0], torch.tensor([0.0, -0.25 * 0.70711]), atol=1e-5, rtol=0)
    # Kept: every right sample, and wrong ones beside a wrong one, 1/4 + 3/4 3/4 = 13/16; below: 3/4 + 1/4 1/4 = 13/16.
    kept = expectation("grpo", "positives", "drop", 2)(rewards, probabilities)
    torch.testing.assert_close(kept, up / 0.8125)
    # With r and r - 1: over P(right) and over P(wrong).
    right, wrong = (expectation("rewards", side, "drop", 2)(rewards, probabilities) for side in one_sided.SIDES)
    torch.testing.assert_close(right[0, 0], torch.tensor([4.0, 0.0]))
    torch.testing.assert_close(wrong[0, 0], torch.tensor([0.0, -4 / 3]))


def test_findings_follow_the_rows(rows):
    tables = EXPERIMENT.tables(rows)
    for panel in EXPERIMENT.panels:
        assert {panel.x, panel.y, panel.by, panel.low, panel.high} <= set(tables[panel.table].columns) | {""}
    assert len(EXPERIMENT.findings(tables)) == 1 + 6 + 1 + 1
    alike = EXPERIMENT.findings(EXPERIMENT.tables(rows.assign(negatives=rows.positives)))
    assert alike[0].startswith("The claim holds:")
    assert "in 0 of 4 settings" in alike[-1]
    later = rows.assign(negatives=rows.positives + (rows.time == 2.0) * (0.5 + 1e-3 * rows.repeat))
    crossed = EXPERIMENT.findings(EXPERIMENT.tables(later))  # alike at the end, apart on the way
    assert crossed[0].startswith("The claim does not hold:")
    apart = rows.assign(negatives=rows.positives - 0.5 - 1e-3 * rows.repeat)
    apart = EXPERIMENT.findings(EXPERIMENT.tables(apart))
    assert apart[0].startswith("The claim does not hold:")
    assert "in 4 of 4 settings, and is nowhere on the way the higher one in 4 of these" in apart[-1]
    swapped = rows.assign(negatives=rows.positives + 0.5 + 1e-3 * rows.repeat)
    assert "in 0 of 4 settings" in EXPERIMENT.findings(EXPERIMENT.tables(swapped))[-1]


def test_crossing_is_linear_between_records_and_missing_where_there_is_none():
    curve = pd.DataFrame({"time": [0.0, 2.0, 4.0], "entropy": [3.0, 2.0, 1.5]})
    assert crossing(curve, 2.75) == 0.5
    assert crossing(curve, 1.75) == 3.0
    assert pd.isna(crossing(curve, 1.0))


def test_options_refuse_rates_without_a_step_a_record():
    with pytest.raises(ValueError, match=r"at most time / records = 2, .*; got 3"):
        Options(time=4.0, records=2, rates=(3.0,))


@pytest.mark.parametrize("kind", ["rewards", "grpo"])
@pytest.mark.parametrize(("side", "sign"), [("positives", 1), ("negatives", -1)])
def test_each_side_trains_on_its_own_samples(kind, side, sign):
    runs = Simulation(one_sided.setting(kind, side, "drop", 0.5, TINY), 3, seed=0, trace=True)
    filtered = runs.advance().trace.filtered
    used = (filtered.weights * filtered.advantages).sign()
    assert set(used[used != 0].tolist()) == {sign}
