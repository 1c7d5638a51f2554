"""A run's summary, by hand."""

import math

import pytest

from trainer.summary import agreement, average, band_error, largest, r_squared, summarise


@pytest.mark.parametrize(
    ("predicted", "measured", "expected"),
    [
        ([1.0, 2.0, 4.0], [1.0, 2.0, 4.0], 1.0),
        ([2.0, 2.0, 2.0], [1.0, 2.0, 3.0], 0.0),  # the mean itself
        # measured: mean 2, spread 1 + 0 + 1 = 2; misses 0, 0.5, 0.5: 1 - 0.5/2
        ([1.0, 2.5, 2.5], [1.0, 2.0, 3.0], 0.75),
        ([2.0, 4.0, 6.0], [1.0, 2.0, 3.0], 1 - 14 / 2),  # twice too much is not forgiven: nothing is fitted
        ([3.0, 2.0, 1.0], [1.0, 2.0, 3.0], -3.0),
        ([1.0], [1.0], None),
        ([], [], None),
        ([1.0, 3.0], [2.0, 2.0], None),
    ],
)
def test_r_squared_by_hand(predicted, measured, expected):
    found = r_squared(predicted, measured)
    assert found == (expected if expected is None else pytest.approx(expected, abs=1e-12))


def test_r_squared_of_equal_measurements_is_none_whatever_their_rounding():
    assert r_squared([0.1, 0.2, 0.3], [0.1, 0.1, 0.1]) is None


def test_band_error_by_hand():
    # centres 0.5, 0.5, 0.3, 0.3: misses 0.1, -0.2, -0.1, 0.3; the first and third lie on a bound, which is inside
    rmse, inside = band_error([0.6, 0.3, 0.2, 0.6], [0.4, 0.4, 0.2, 0.2], [0.6, 0.6, 0.4, 0.4])
    assert rmse == pytest.approx(math.sqrt((0.01 + 0.04 + 0.01 + 0.09) / 4), abs=1e-12)
    assert inside == 0.5


def row(step, **values):
    base = {
        "samples": 8 * (step + 1),
        "skipped": 0,
        "entropy": 0.5,
        "entropy_low": 0.4,
        "entropy_high": 0.6,
        "accepted_fraction": 1.0,
        "reward_mean": 0.0,
        "log_prob_gap": None,
        "dH_measured": None,
        "dH_first_order": None,
        "dH_second_order": None,
        "dH_tabular": None,
        "sign_rule_agreement": None,
        "sign_rule_step": None,
        "time_rollout_s": 1.0,
        "time_update_s": 1.0,
        "time_theory_s": 1.0,
    }
    return base | values


def test_summary_by_hand():
    rows = [row(step, entropy=0.1 * step, reward_mean=float(step)) for step in range(12)]
    rows[3] |= {"skipped": 1, "accepted_fraction": 0.4, "log_prob_gap": 0.3, "time_update_s": 50.0}
    rows[4] |= {
        "dH_measured": 1.0,
        "dH_first_order": 1.0,
        "dH_second_order": 0.0,
        "dH_tabular": 0.0,
        "sign_rule_step": 1,
    }
    rows[5] |= {"dH_measured": 2.0, "dH_first_order": 2.5, "dH_second_order": -0.5, "sign_rule_step": 0}
    rows[6] |= {"dH_measured": 3.0, "dH_first_order": 2.5, "dH_second_order": 0.5, "dH_tabular": 3.0}
    rows[7] |= {"dH_measured": 9.0, "dH_tabular": None, "log_prob_gap": 0.1}
    found = summarise(rows)
    assert (found["steps"], found["samples"], found["skipped_steps"]) == (12, 96, 1)
    assert (found["entropy_start"], found["entropy_end_steps"]) == (0.0, 10)
    assert found["entropy_end"] == pytest.approx(0.65, abs=1e-12)  # steps 2 to 11
    assert found["reward_end"] == pytest.approx(6.5, abs=1e-12)
    assert found["accepted_fraction"] == pytest.approx((11 + 0.4) / 12, abs=1e-12)
    assert found["log_prob_gap_max"] == 0.3
    assert found["r2_first_order"] == pytest.approx(0.75, abs=1e-12)
    assert found["r2_tabular"] == pytest.approx(1 - 1 / 2, abs=1e-12)  # over the two steps that have it
    assert found["r2_second_order"] == pytest.approx(1.0, abs=1e-12)  # of first and second together
    assert (found["sign_rule_step"], found["sign_rule_agreement"]) == (0.5, None)
    assert found["median_time_update_s"] == 1.0


def test_second_order_is_judged_together_with_the_first():
    rows = [row(0, dH_measured=m, dH_first_order=f, dH_second_order=m - f) for m, f in ((1.0, 0.2), (2.0, 5.0))]
    assert agreement(rows, ("dH_first_order", "dH_second_order")) == 1.0
    assert agreement(rows, ("dH_first_order",)) < 0
    assert average(rows, "log_prob_gap") is largest(rows, "log_prob_gap") is None
