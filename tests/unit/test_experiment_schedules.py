"""The experiment `schedules`: errors and reactions by hand, the fixed bonus's match, and findings that can flip."""

from dataclasses import replace

import pandas as pd
import pytest
import torch

from simulations.experiments import schedules
from simulations.experiments.schedules import (
    EXPERIMENT,
    FIXED,
    HALF_WIDTH,
    Options,
    followed,
    mean_bonus,
    run,
    schedule_of,
    settings_of,
    start,
    verdict,
)

TINY = Options(repeats=2, prompts=4, arms=6, correct=2, hidden=4, warm_up=4, steps=8, every=4)


def test_reactions_and_errors_by_hand():
    centre = torch.tensor([1.0, 1.0, 0.5, 0.5, 0.5, 1.0, 1.0, 1.0, 0.5, 0.5])
    entropy = torch.tensor([[9.0, 1.1, 0.9, 0.54, 0.5, 0.6, 0.8, 0.97, 0.9, 0.8]]).T
    found = {name: value.item() for name, value in followed(entropy, centre).items()}
    assert found["down"] == 1  # jump at 2, in the band at 3; the one at 8 is never reached
    assert found["down_reached"] == 0.5
    assert (found["up"], found["up_reached"]) == (2, 1.0)  # 5 to 7
    gaps = [0.1, 0.4, 0.04, 0.0, 0.4, 0.2, 0.03, 0.4, 0.3]  # the first tenth is left out
    assert found["rmse"] == pytest.approx((sum(gap**2 for gap in gaps) / 9) ** 0.5)
    assert found["inside"] == pytest.approx(3 / 9)
    still = followed(entropy, torch.ones(10))
    assert still["up"].isnan().all()
    assert still["down_reached"].isnan().all()
    never = followed(torch.full((10, 1), 2.0), centre)
    assert never["up"].isnan().all()
    assert never["up_reached"].item() == 0


def test_schedules_start_at_the_common_policys_entropy():
    entropy = start("table", TINY)[3]
    for name in ("constant", "linear", "cosine", "square"):
        assert schedule_of(name, "table", TINY)(0.0).centre == pytest.approx(entropy)
    assert schedule_of("linear", "table", TINY)(1.0).centre == pytest.approx(entropy / 3)
    assert schedule_of("square", "table", TINY)(0.3).centre == pytest.approx(0.7 * entropy)
    rmse = {}
    for name in ("natural", "constant"):
        rmse[name] = max(row["rmse"] for row in run("grpo", "table", name, TINY) if row["part"] == "summary")
    assert rmse["natural"] < rmse["constant"]


def test_the_fixed_bonus_has_the_solved_ones_mean_and_targets_are_the_schedules_mean():
    solved = [row["bonus"] for row in run("solved_bonus", "table", "constant", TINY) if row["part"] == "summary"]
    matched = mean_bonus("table", "constant", TINY)
    assert matched == pytest.approx(sum(solved) / len(solved))
    assert settings_of(FIXED, "table", "constant", TINY)["terms"]["entropy_bonus"]["coefficient"] == matched > 0
    entropy = start("table", TINY)[3]
    for name in schedules.TARGETED:
        assert str(round(0.85 * entropy, 6))[:6] in str(settings_of(name, "table", "square", TINY))


def test_a_given_scale_holds_a_constant_that_grpo_does_not():
    options = replace(TINY, steps=24, warm_up=10, prompts=12)
    rmse = {}
    for name in ("grpo", "clip_higher", "solved_bonus"):
        rmse[name] = [row["rmse"] for row in run(name, "table", "constant", options) if row["part"] == "summary"]
    assert sum(rmse["solved_bonus"]) / 2 < HALF_WIDTH < min(rmse["grpo"])
    assert rmse["clip_higher"] == rmse["grpo"]  # no ratio leaves the range: no effect, and it shows


def test_runs_from_cells_to_findings():
    assert len(EXPERIMENT.cells(TINY)) == 5 * 12 + 2 * 3 + 2 * 15
    options = replace(TINY, steps=4, every=2, warm_up=1, policies=("mlp",), schedules=("constant", "square"))
    rows = pd.concat([pd.DataFrame(list(cell.run())) for cell in EXPERIMENT.cells(options)], ignore_index=True)
    found = EXPERIMENT.tables(rows)
    assert EXPERIMENT.findings(found)[0].startswith("The claim ")
    for panel in EXPERIMENT.panels:
        if "table" not in panel.table.split("_"):
            assert {panel.x, panel.y, *panel.reference} <= {*found[panel.table].columns}
    assert len(found["summary"]) == 2 * 15
    compared = [line for line in EXPERIMENT.findings(found) if "directional against tabular influence" in line]
    assert [line.partition(", RMSE")[0] for line in compared] == ["mlp, constant", "mlp, square"]
    assert len(found["fixed"]) == 2


def test_the_verdict_follows_the_numbers():
    rows = [
        {"cell": cell, "schedule": cell, "controller": name, "follows": name != "grpo"}
        for cell in ("constant", "square")
        for name in (*schedules.PREDICTIVE, "grpo")
    ]
    good = pd.DataFrame(rows)
    assert verdict(good).startswith("The claim holds:")
    soft = (good.controller == "soft") & (good.cell == "square")
    assert verdict(good.assign(follows=good.follows & ~soft)).startswith("The claim holds in part")
    assert verdict(good.assign(follows=True)).startswith("The claim does not hold")
    assert verdict(good.assign(follows=~good.follows)).startswith("The claim does not hold")
    # GRPO may follow the schedule that is near its own pace.
    natural = good.assign(schedule="natural", cell="natural", follows=True)
    assert verdict(pd.concat([good, natural])).startswith("The claim holds:")
