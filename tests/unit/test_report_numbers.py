"""What a report says in numbers and words, by hand."""

import math

import numpy as np
import pandas as pd
import pytest

from figures.load import unique_names
from figures.report_checks import CHECKS, findings
from figures.report_ledger import CAUSES, SHIFT, ledger, windows
from figures.report_load import ReportedRun
from figures.report_numbers import (
    column_table,
    differing_settings,
    evaluated,
    evaluation_table,
    headline,
    predicted,
    r_squared,
)

ENTRIES = [*CAUSES, *SHIFT]


def run_of(rows, name="run", **parts):
    return ReportedRun(name, pd.DataFrame({"step": range(len(next(iter(rows.values())))), **rows}), **parts)


def steady(**columns):
    """Twenty steps in which nothing is wrong, with these columns instead."""
    return run_of({"entropy": np.linspace(0.6, 0.5, 20), **columns})


def test_the_ledger_of_a_step_by_hand():
    nan = math.nan
    run = run_of(
        {
            "entropy": [1.0, 0.75, 0.5, 0.625, 0.5],
            "dH_measured": [-0.125, -0.5, nan, 0.25, -1.0],
            "dH_first_order": [-0.25, -0.375, nan, 0.25, -1.0],
            "dH_tabular": [nan, -0.5, nan, 0.125, -1.0],
            "dH_second_order": [0.0625, 0.0, nan, 0.0, 0.0],
        }
    )
    rows = ledger(run)
    expected = {
        "tabular": [0, -0.5, 0, 0.125],
        "network": [0, 0.125, 0, 0.125],
        "first_order": [-0.25, 0, 0, 0],
        "second_order": [0.0625, 0, 0, 0],
        "unexplained": [0.0625, -0.125, 0, 0],
        "context_shift": [-0.125, 0.25, 0, -0.375],
        "not_probed": [0, 0, 0.125, 0],
        "measured": [-0.125, -0.5, 0, 0.25],
        "curve": [-0.25, -0.25, 0.125, -0.125],
    }
    assert rows.step.tolist() == [0, 1, 2, 3]
    for name, values in expected.items():
        assert rows[name].tolist() == values, name


@pytest.mark.parametrize("steps", [2, 13, 14, 241, 999])
def test_the_sums_of_windows_add_up(steps):
    generator = np.random.default_rng(0)
    draw = generator.normal(size=(5, steps))
    draw[1:, generator.random(steps) < 0.2] = math.nan
    draw[3, ::7] = math.nan
    names = ("entropy", "dH_measured", "dH_first_order", "dH_tabular", "dH_second_order")
    run = run_of(dict(zip(names, draw, strict=True)))
    rows = ledger(run)
    for table in (rows, windows(rows)):
        assert np.allclose(table[ENTRIES].sum(axis=1), table.curve, rtol=0, atol=1e-12)
        assert np.allclose(table[list(CAUSES)].sum(axis=1), table.measured, rtol=0, atol=1e-12)
    sums = windows(rows)
    assert len(sums) <= 12
    assert sums.step.tolist() == [0, *(sums["last"][:-1] + 1)]
    assert sums["last"].iloc[-1] == steps - 2
    # The change of the whole curve.
    assert sums.curve.sum() == pytest.approx(draw[0, -1] - draw[0, 0], abs=1e-12)


def test_the_ledger_leaves_out_steps_that_no_other_follows():
    run = ReportedRun("r", pd.DataFrame({"step": [0, 1, 5, 6], "entropy": [1.0, 2.0, 4.0, 8.0]}))
    assert ledger(run)[["step", "curve"]].to_numpy().tolist() == [[0, 1], [5, 4]]
    assert windows(ledger(run_of({"entropy": [1.0]}))).empty


def test_r_squared_by_hand():
    run = run_of(
        {
            "entropy": [1.0] * 4,
            "dH_measured": [0.0, 1.0, 2.0, math.nan],
            "dH_first_order": [0.0, 1.0, 1.0, 9.0],
            "dH_second_order": [0.0, 0.0, 1.0, 9.0],
        }
    )
    assert r_squared(predicted(run, ("dH_first_order",))) == 0.5
    assert r_squared(predicted(run, ("dH_first_order", "dH_second_order"))) == 1.0
    assert r_squared(predicted(run, ("dH_tabular",))) is None


def test_headline_of_an_unequal_pair():
    times = {"time_rollout_s": [1.0, 1.0], "time_update_s": [2.0, 2.0], "time_theory_s": [1.0, 1.0]}
    band = {"entropy_low": [0.5, 0.5], "entropy_high": [0.7, 0.7]}
    full = {"tokens": [100, 200], "reward_mean": [0.0, 1.0], "skipped": [0, 1]}
    runs = [run_of({"entropy": [0.6, 0.9], **band, **times, **full}), run_of({"entropy": [0.4, 0.4]}, "bare")]
    table = headline(runs)
    assert table["run"]["steps in the band"] == "50.0%"
    assert table["run"]["distance to the band's centre, RMSE (nats/token)"] == f"{math.sqrt(0.045):.3f}"
    assert table["run"]["entropy, mean of the last 2 steps"] == "0.750"
    assert table["run"]["tokens a second"] == "25"
    assert table["run"]["share of it in update"] == "50.0%"
    assert table["run"]["skipped steps"] == "1"
    assert table["bare"]["tokens a second"] == "-"
    assert table["bare"]["entropy, first step (nats/token)"] == "0.400"
    assert "rollouts accepted" not in table.index


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"band_indicator": [-1, -1, -1, 0] * 5}, "below the band in 15 of the last 20 steps"),
        ({"band_indicator": [1] * 20}, "above the band in 20 of the last 20 steps"),
        ({"entropy": [0.6] * 10 + [0.03] * 10}, "0.030 nats/token, 5% of the start"),
        ({"mixed_groups": [0.5] * 10 + [0.2] * 10, "reward_mean": [0.9] * 20}, "80% of groups had all-equal rewards"),
        ({"accepted_fraction": [0.05] * 20}, "accepted 5.0% of rollouts"),
        ({"finished_fraction": [1.0] * 10 + [0.5] * 10}, "50% of completions did not end"),
        ({"log_prob_gap": [0.0] * 19 + [0.2]}, "up to 0.200 nats"),
        ({"clip_low_fraction": [0.2] * 20, "clip_high_fraction": [0.1] * 20}, "gradient of 30% of tokens"),
        ({"skipped": [0, 1] * 10}, "10 of 20 steps updated nothing"),
        ({"loss": [math.nan] * 2 + [1.0] * 18, "skipped": [1] + [0] * 19}, "the loss of 1 steps was not finite"),
        ({"dH_measured": range(20), "dH_first_order": [0] * 20}, "only: steps are long"),
    ],
)
def test_each_check_finds_what_it_is_for_and_no_other_does(columns, words):
    found = findings(steady(**columns))
    assert len(found) == 1
    assert words in found[0]


def test_checks_are_silent_about_a_steady_run():
    columns = {
        "band_indicator": [-1] * 14 + [1] * 6,
        "mixed_groups": [0.1] * 10 + [0.3] * 10,
        "accepted_fraction": [0.2] * 20,
        "finished_fraction": [0.95] * 20,
        "log_prob_gap": [0.01] * 20,
        "clip_low_fraction": [0.1] * 20,
        "clip_high_fraction": [math.nan] * 20,
        "skipped": [1] + [0] * 19,
        "loss": [math.nan] + [1.0] * 19,
        "dH_measured": range(20),
        "dH_first_order": range(20),
    }
    assert findings(steady(**columns)) == []
    assert findings(steady()) == []
    assert len(CHECKS) == 11


def evaluation(step, value, *, setting="t1", **more):
    estimates = {"pass@1": {"value": value, "low": value - 0.1, "high": value + 0.1}}
    return {"step": step, "setting": setting, "samples": 8, "estimates": estimates, **more}


def test_evaluations_by_set_and_setting():
    one = steady()
    rows = [evaluation(0, 0.5, set="easy"), evaluation(10, 0.4, set="easy"), evaluation(20, 0.2, set="easy")]
    # Fell too, but within the intervals; the later of two of one step counts.
    rows += [evaluation(0, 0.9), evaluation(20, 0.2), evaluation(20, 0.8)]
    run = ReportedRun("a", one.metrics, evaluations=rows, bad_steps=2)
    assert evaluated([run, one]) == [("easy", "t1"), ("", "t1")]
    table = evaluation_table([run], ("easy", "t1"))
    assert table.to_dict() == {
        "step 0": {"pass@1": "0.500 [0.400, 0.600]"},
        "step 20": {"pass@1": "0.200 [0.100, 0.300]"},
    }
    assert list(evaluation_table([run, one], ("", "t1"))) == ["a, step 0", "a, step 20"]
    assert findings(run) == [
        "2 batches were set aside in bad_steps/",
        "held-out estimates fell, intervals apart: pass@1 (easy t1) from 0.500 to 0.200",
    ]


def test_settings_that_differ():
    first = ReportedRun("a", steady().metrics, config={"output": "a", "seed": 0, "x": {"y": [1, 2], "z": None}})
    second = ReportedRun("b", steady().metrics, config={"output": "b", "seed": 0, "x": {"y": [1, 3]}})
    table = differing_settings([first, second])
    assert table.to_dict("index") == {"x.y": {"a": "[1, 2]", "b": "[1, 3]"}, "x.z": {"a": "None", "b": "-"}}


def test_columns_are_described_by_the_run():
    run = run_of({"entropy": [0.5, 0.25], "kl": [math.nan] * 2}, columns={"entropy": {"unit": "nats/token"}})
    table = column_table([run])
    assert table.loc["entropy"].tolist() == ["nats/token", "", "0.5, 0.25, 0.375"]
    assert "kl" not in table.index


def test_names_take_as_many_parents_as_it_takes(tmp_path):
    paths = [tmp_path / name for name in ("x/a/run", "y/a/run", "y/b/run")]
    assert unique_names(paths) == ["x/a/run", "y/a/run", "y/b/run"]
    assert unique_names(paths[1:]) == ["a/run", "b/run"]
    assert unique_names([paths[0], paths[0]]) == ["run", "run"]
