"""What the gallery's figures say, on tables small enough to check by hand."""

import numpy as np
import pandas as pd
import pytest

from figures.arms import ARMS, arm_of
from figures.curves import edges
from figures.estimates import estimate, held_out, over_seeds, pass_at_k, smoothed
from figures.own import (
    authority_map,
    comparison,
    controllers,
    ledger_bars,
    positives_negatives,
    prediction,
    regimes,
    saturation,
    sign_rule_map,
    simulated_schedules,
    square_wave,
    table_condition,
    table_control,
    table_decision,
)
from figures.own import decision as decision_figure
from figures.paper import (
    fig2_likelihood,
    fig3_pass_at_k,
    fig4_schedules,
    fig5_long_run,
    fig6_baselines,
    fig7_effective_batch,
    fig8_too_high,
    table1_properties,
    table2_main,
    table3_progress,
    table_arithmetic,
)
from figures.paper.published import line_of_method
from figures.parts import is_too_high, rows_of, schedule_of, sizes_of, sizes_there
from figures.study import COLUMNS, Data, NothingToDrawError, Study


def study(name="", **tables):
    """A study whose tables hold what is given; columns that are not given are missing."""
    return Study(
        name=name,
        **{stem: pd.DataFrame(tables.get(stem, []), columns=list(columns)) for stem, columns in COLUMNS.items()},
    )


def runs(*rows):
    return pd.DataFrame(rows).reindex(columns=COLUMNS["runs"])


def curve(arm, *values, part="constant", seed=0, **columns):
    rows = {"part": part, "arm": arm, "seed": seed, "step": range(0, 5 * len(values), 5), "entropy": values}
    return pd.DataFrame({**rows, **columns}).reindex(columns=COLUMNS["curves"])


def evaluation(counts, step=50, part="constant", arm="grpo", seed=0, setting="t1", samples=4):
    return (part, arm, seed, step, setting, samples, 0.5, 1.0, counts)


def evaluations(*rows):
    return pd.DataFrame(rows, columns=COLUMNS["evaluations"])


def test_pass_at_k_counts_subsets():
    """Of 4 samples with 1 right, 3 of the 6 pairs hold it; with 2 right, 5 of 6."""
    assert pass_at_k(np.array([0, 1, 2, 4]), 4, 2) == pytest.approx([0, 1 / 2, 5 / 6, 1])
    assert pass_at_k(np.array([0, 1, 2, 4]), 4, 1) == pytest.approx([0, 1 / 4, 1 / 2, 1])


def test_an_estimate_is_over_prompts_and_seeds():
    found = estimate(evaluations(evaluation("0 1 2 4"), evaluation("0 1 2 1", seed=1)), 1)
    assert found.seeds == pytest.approx((7 / 16, 4 / 16))
    assert found.value == pytest.approx(11 / 32)
    assert found.low <= found.value <= found.high
    assert 0 <= found.low < 0.2
    assert np.isnan(estimate(evaluations(evaluation("0 1")), 8).value)


def test_held_out_has_a_row_an_evaluation():
    table = held_out(
        evaluations(evaluation("4 4"), evaluation("0 2", step=100), evaluation("2 2", step=100, seed=1)), 1
    )
    assert table[["step", "mean", "seeds"]].to_numpy().tolist() == [[50, 1, 1], [100, 3 / 8, 2]]


def test_curves_are_over_the_seeds_that_have_a_value():
    rows = pd.concat([curve("grpo", 0.6, 0.4, np.nan), curve("grpo", 0.8, 0.5, np.nan, seed=1)])
    table = over_seeds(rows, "entropy")
    assert table.step.tolist() == [0, 5]
    assert table["mean"].tolist() == pytest.approx([0.7, 0.45])
    assert table.low.tolist() == [0.6, 0.4]
    assert table.high.tolist() == [0.8, 0.5]
    assert smoothed(table, 3)["mean"].tolist() == pytest.approx([0.575, 0.575])


def test_no_two_arms_look_the_same():
    looks = [(arm.line.color, str(arm.line.dash), arm.line.marker) for arm in ARMS.values()]
    assert len(set(looks)) == len(looks)
    assert arm_of("mine_too").text == "mine too"
    assert arm_of("solved_bonus_directional_linear").line == ARMS["solved_bonus_directional"].line


def test_the_main_part_is_that_of_most_arms():
    table = pd.concat([curve("grpo", 0.5), curve("grpo", 0.5, part="linear"), curve("soft", 0.4, part="linear")])
    assert study(curves=table).main == "linear"
    assert study(curves=table, runs=runs({"part": "constant", "arm": "soft"})).main == "constant"
    assert study().main == ""
    # Reused runs are in curves of every part that reuses them, and are evaluated under their own.
    held = evaluations(evaluation("4 0", part="long"), evaluation("4 0", part="base", arm="base"))
    assert study(curves=table, evaluations=held).main == "long"


@pytest.fixture
def both(tmp_path):
    """A folder with the tables of both studies: of controllers with two sizes of models, of long runs with one."""
    for name, part in (("controllers", "constant"), ("long", "linear")):
        held = [evaluation("4 0", part=part), evaluation("2 2", part=part, arm="algorithm1")]
        sizes = [{"part": part, "arm": "grpo", "seed": 0, "parameters": 200}]
        if name == "controllers":
            held.append(evaluation("4 4", part="twice"))
            sizes.append({"part": "twice", "arm": "grpo", "seed": 0, "parameters": 400})
        (tmp_path / name).mkdir()
        for table, rows in (("evaluations", evaluations(*held)), ("runs", runs(*sizes))):
            rows.to_csv(tmp_path / name / f"{table}.csv", index=False)
    return tmp_path


def test_figures_are_of_the_long_study_where_it_has_what_they_show(both):
    data = Data(both)

    def needs(part):
        def summarise(study):
            if part not in set(study.evaluations.part):
                raise NothingToDrawError(part)
            return study.name

        return data.first(summarise)

    assert (needs("linear"), needs("twice"), data.leading.name) == ("long", "controllers", "long")
    sizes, _, of_sizes = sizes_there(data)
    assert sizes.parameters.tolist() == [200, 400]
    assert of_sizes.name == "controllers"
    drawn = fig3_pass_at_k.summarise(data.long, sizes_there(data), Data().paper())
    assert "Of the study long, part linear." in drawn.notes
    assert "a: Of the study controllers, part constant, twice. Sampled at temperature 1." in drawn.notes
    assert drawn.title == "a  Ours, shorter runs"


def test_the_long_study_leads_once_it_has_the_papers_method(both):
    file = both / "long" / "evaluations.csv"
    file.write_text(file.read_text().replace("algorithm1", "soft"))
    assert Data(both).leading.name == "controllers"


def test_tables_stand_for_one_study_or_for_all(both):
    mine = both / "long"
    assert Data(both, tables=mine).study.main == Data(both, tables=mine).long.main == "linear"
    one = Data(both, tables=mine, instead_of="controllers")
    assert (one.study.main, one.training("long").main) == ("linear", "linear")
    assert Data(both, tables=both / "controllers", instead_of="long").long.main == "constant"
    with pytest.raises(KeyError, match="lnog"):
        one.training("lnog")


def test_grpo_of_the_main_part_stands_in_for_that_of_other_parts():
    table = pd.concat([curve("grpo", 0.5), curve("soft", 0.4), curve("soft", 0.3, part="linear")])
    assert rows_of(table, "linear", ["grpo", "soft"], "constant").entropy.tolist() == [0.3, 0.5]
    assert rows_of(table, "linear", ["soft"], "constant").entropy.tolist() == [0.3]


def test_names_say_schedules_and_targets_that_are_too_high():
    assert [schedule_of(name) for name in ("soft_linear", "linear", "grpo")] == ["linear", "linear", None]
    assert is_too_high("soft_too_high")
    assert not is_too_high("clip_higher")


def test_positives_are_likelier_at_a_share_of_the_steps():
    right = {"log_likelihood_positive": [-1.0, -2.0, -1.0, np.nan], "log_likelihood_negative": [-2.0, -1.0, -3, -1]}
    nothing = pd.DataFrame(columns=fig2_likelihood.CONDITION)
    found = fig2_likelihood.summarise(curve("grpo", 1.0, 1.0, 1.0, 1.0, **right), nothing)
    assert found.above == {"grpo": pytest.approx(2 / 3)}
    assert any("condition/curves.csv" in note for note in found.notes)


def test_the_measured_condition_is_of_the_papers_methods():
    table = pd.DataFrame({"arm": ["nsr", "grpo", "own", "nsr"], "step": [0, 0, 0, 5]})
    table = table.assign(part="constant", seed=0, condition_tokens=0.8, condition_gap_median=[1.0, 2.0, 3.0, np.nan])
    table = table.assign(sign_rule_given_condition=0.5)
    found = fig2_likelihood.summarise(pd.DataFrame(columns=COLUMNS["curves"]), table)
    assert [name for name, _ in fig2_likelihood.by_method(found.condition)] == ["grpo", "nsr"]
    assert found.condition.step.tolist() == [0, 0]
    assert not any("condition" in note for note in found.notes)


def test_schedules_are_parts_of_their_own_where_no_long_part_has_them():
    table = pd.concat([curve("grpo", 0.5), curve("soft", 0.5), curve("soft", 0.5, part="linear")])
    chosen, notes = fig4_schedules.chosen(study(curves=table))
    assert chosen == {"constant": ("constant", "soft"), "linear": ("linear", "soft")}
    assert notes == ["Controller: soft weights.", "Not there: cosine."]
    table = pd.concat([table, curve("soft_cosine", 0.5, part="long")])
    assert fig4_schedules.chosen(study(curves=table))[0] == chosen
    table = pd.concat([table, curve("soft_linear", 0.5, part="long")])
    chosen, notes = fig4_schedules.chosen(study(curves=table))
    assert chosen == {kind: ("long", f"soft_{kind}") for kind in ("cosine", "linear")}
    assert notes == ["Controller: soft weights.", "Not there: constant."]
    with pytest.raises(NothingToDrawError, match="two schedules"):
        fig4_schedules.summarise(study(curves=curve("soft", 0.5)))


def test_schedules_are_compared_under_one_controller():
    """The one with the most schedules, even where another that comes first has some."""
    arms = ("solved_bonus_linear", "soft_linear", "soft_constant")
    chosen, _ = fig4_schedules.chosen(study(curves=pd.concat([curve(arm, 0.5, part="long") for arm in arms])))
    assert chosen == {kind: ("long", f"soft_{kind}") for kind in ("constant", "linear")}


def test_too_high_a_target_is_shown_beside_grpo_without_one():
    rows = pd.concat([curve("grpo", 0.5, part="long"), curve("grpo", 0.5), curve("soft", 0.5, part="too_high")])
    assert set(map(tuple, fig8_too_high.chosen(rows, "long")[["part", "arm"]].to_numpy())) == {
        ("long", "grpo"),
        ("too_high", "soft"),
    }
    both = pd.concat([curve(arm, 0.5, part="too_high", entropy_low=1.1) for arm in ("soft", "solved_bonus")])
    assert len(fig8_too_high.bands(both)) == 1
    with pytest.raises(NothingToDrawError):
        fig8_too_high.summarise(study(curves=curve("grpo", 0.5, part="long")))


def test_the_long_run_shows_the_linear_schedule_first():
    shown = {"predictive control": ["soft_linear"]}
    assert fig5_long_run.controlled({"grpo", "soft_constant", "soft_linear", "soft_too_high"}) == shown
    assert fig5_long_run.controlled({"grpo", "soft_too_high"}) == {}
    assert fig5_long_run.controlled({"algorithm1", "soft", "rejection", "solved_bonus", "soft_cosine"}) == {
        "Algorithm 1": ["algorithm1"],
        "predictive control": ["solved_bonus", "soft"],
    }
    assert fig5_long_run.controlled({"soft", "soft_cosine"}) == {"predictive control": ["soft"]}
    assert fig5_long_run.controlled({"soft_cosine"}) == {"predictive control": ["soft_cosine"]}


def test_baselines_stand_in_their_families_with_their_ends():
    found = fig6_baselines.summarise(
        pd.concat(
            [curve("nsr", 0.7, 0.9), curve("nsr", 0.7, 1.1, seed=1), curve("grpo", 0.7, 0.4), curve("own", 0.7, 0.2)]
        )
    )
    assert found.families == {"signs reweighted": ["nsr"], "others": ["own"]}
    assert found.ends == pytest.approx({"grpo": 0.4, "nsr": 1.0, "own": 0.2})
    assert "GRPO" not in found.notes[0]
    assert found.notes[1] == "Above the 1 nat shown for some time: NSR."
    with pytest.raises(NothingToDrawError, match="constant part"):
        fig6_baselines.summarise(curve("grpo", 0.5, part="linear"))


def test_group_sizes_are_of_filtered_steps_alone():
    """5 steps above the band with 3 rollouts of a group, one of five with 6, none: (5 x 3 + 1 x 6) / 6 on 6 of 15."""
    above = {"share_above": [1.0, 0.2, 0.0], "effective_group_size_above": [3.0, 6.0, np.nan], "share_below": 0.0}
    rows = curve("algorithm1", 0.7, 0.6, 0.5, **above, effective_group_size=[3.0, 7.6, 8.0])
    rows = pd.concat([rows, curve("grpo", 0.7, share_above=1.0, share_below=0.0, effective_group_size=8.0)])
    found = fig7_effective_batch.summarise(study(curves=rows))
    assert found.sizes.to_dict("records") == [
        {"arm": "algorithm1", "side": "above", "step": 12.5, "size": pytest.approx(3.5), "share": pytest.approx(0.4)}
    ]
    assert found.group_size == 8


def decision(**columns):
    sides = {"question": "pays", "part": "constant", "arm": "soft", "against_part": "constant", "against": "grpo"}
    rows = {**sides, "setting": "t1", "low": -0.1, "high": 0.2, "seeds_low": -0.3, "seeds_high": 0.1, "seeds": 2}
    return pd.DataFrame([{**rows, **columns}]).reindex(columns=COLUMNS["decision"])


ANSWER = {"quantity": "pass@1", "comparison": "best", "value": 0.05, "verdict": "open", "detectable": 0.2}


def test_saturation_shows_the_gap_to_training_and_the_plateaus():
    """20 steps of reward 0.5 and 20 of 0.7, held out 0, 1/2 and 1/4: gaps of 0.25 and 0.325."""
    rows = pd.concat([curve(arm, *[0.5] * 8, reward_mean=[0.5] * 4 + [0.7] * 4) for arm in ("grpo", "soft")])
    held = [evaluation(counts, step=step, arm=arm) for arm in ("grpo", "soft") for step, counts in HELD.items()]
    asked = [decision(quantity="plateau", comparison=side, value=at) for side, at in (("arm", 30), ("against", None))]
    # Another question, of fewer seeds, in which both arms are flat at once.
    fewer = {"question": "too_high_pays", "part": "too_high", "quantity": "plateau", "seeds": 1}
    asked += [decision(comparison=side, value=5, **fewer) for side in ("arm", "against")]
    found = saturation.summarise(study(curves=rows, evaluations=evaluations(*held), decision=pd.concat(asked)))
    assert found.gap["soft"].to_numpy().tolist() == [[10, 0.25], [30, pytest.approx(0.325)]]
    assert found.plateaus == {"grpo": pytest.approx(np.nan, nan_ok=True), "soft": 30}
    assert found.notes[1].endswith("GRPO not seen, soft weights from step 30.")
    assert found.setting == "temperature 1"


def test_regimes_are_the_parts_with_runs_of_both_arms_of_their_own():
    # GRPO of "high" is that of the main part, and has no evaluations there.
    both = ("grpo", "soft")
    there = {"linear": (*both, "algorithm1"), "accurate": both, "high": ("soft",), "twice": ("grpo",)}
    held = [
        evaluation(counts, step=step, part=part, arm=arm, samples=16)
        for part, arms in there.items()
        for arm in arms
        for step, counts in {0: "0 8", 40: "4 16" if arm == "soft" else "4 0"}.items()
    ]
    rows = pd.concat([curve(arm, 0.5, 0.4, part=part) for part, arms in there.items() for arm in arms])
    rows = pd.concat([rows, curve("grpo", 0.5, 0.4, part="high"), curve("grpo", 0.5, part="linear", seed=1)])
    within = {"part": "accurate", "against_part": "accurate", "quantity": "plateau", "question": "accurate_pays"}
    asked = [decision(comparison=side, value=at, **within) for side, at in (("arm", 30), ("against", 20))]
    found = regimes.summarise(study(curves=rows, evaluations=evaluations(*held), decision=pd.concat(asked)))
    assert found.arms == ("grpo", "soft")
    assert list(found.pass_at) == list(found.curves) == ["linear", "accurate"]
    assert found.plateaus == {"linear": {}, "accurate": {"grpo": 20, "soft": 30}}
    assert found.pass_at["accurate"][1]["soft"]["mean"].tolist() == pytest.approx([1 / 4, 5 / 8])
    assert found.pass_at["accurate"][16]["grpo"]["mean"].tolist() == pytest.approx([1 / 2, 1 / 2])
    with pytest.raises(NothingToDrawError):
        regimes.summarise(study(curves=rows, evaluations=evaluations(*held[:2])))


HELD = {0: "0 0", 20: "4 0", 40: "2 0"}


def test_an_answer_is_in_words_with_both_intervals():
    rows = pd.concat(
        [
            decision(**ANSWER),
            decision(quantity="pass@32", comparison="end", value=0.1),
            decision(**ANSWER | {"verdict": "incomplete"}, question="later", part="high", seeds=1),
        ]
    )
    of = study(curves=curve("grpo", 0.5), decision=rows)
    found = decision_figure.summarise(of)
    assert list(found.answers.index) == ["soft weights less GRPO", "soft weights (high) less GRPO"]
    assert found.pass_at["soft"][["k", "low", "high"]].to_numpy().tolist() == [[32, -0.3, 0.2]]
    assert found.notes[-1].endswith("nothing decided: soft weights (high) less GRPO.")
    cells, _ = table_decision.summarise(of)
    assert cells.loc["soft weights less GRPO"].to_dict() == {
        "seeds": "2",
        "last three less best three (points)": "+5.0 [-10.0, +20.0]",
        "t over seeds": "-30.0, +10.0",
        "verdict": "open",
        "could be seen": "+20.0",
        "pass@32 at the end": "+10.0 [-10.0, +20.0]",
        "its plateau (step)": "-",
        "the other's": "-",
        "factor": "-",
    }
    assert found.notes[1] == "b: the arms of the most seeds with all of their runs (soft weights)."
    with pytest.raises(NothingToDrawError):
        decision_figure.summarise(study())


def test_plateaus_that_are_not_reached_are_said():
    rows = decision(quantity="plateau", comparison="arm", value=None, high=None, low=2200)
    assert table_decision.plateau(rows, "arm", ".0f") == "not seen [2200, -]"
    unknown = decision(quantity="plateau", comparison="factor", value=None, low=0.0, high=None)
    assert table_decision.plateau(unknown, "factor", ".2f") == "-"
    assert table_decision.plateau(unknown.assign(high=1.5), "factor", ".2f") == "not seen [0.00, 1.50]"
    assert table_decision.plateau(unknown.assign(low=1.2), "factor", ".2f") == "not seen [1.20, -]"


def test_the_condition_is_ranked_against_what_follows():
    """Entropy falls faster the more the condition holds: ranks agree to the letter, and steps explain all of it.

    Gains rank 4.5, 4.5, 4.5, 1.5, 4.5, 1.5 against shares in the order of their steps: r = -9 / sqrt(17.5 x 12).
    """
    shares = [0.1, 0.2, 0.4, 0.5, 0.7, 0.9]
    columns = {"condition_tokens": np.repeat(shares, 4), "entropy": np.repeat([1, 0.99, 0.97, 0.93, 0.85, 0.7], 4)}
    rows = pd.DataFrame({"part": "constant", "arm": "grpo", "seed": 0, "step": range(0, 120, 5), **columns})
    held = [evaluation(f"{right} 0", step=20 * place) for place, right in enumerate([0, 1, 2, 3, 3, 4, 4])]
    of = study(curves=rows.reindex(columns=COLUMNS["curves"]), evaluations=evaluations(*held))
    arms, _ = table_condition.runs_of(of)
    ((run,),) = arms.values()
    assert run.condition_tokens.tolist() == pytest.approx(shares)
    assert run["to:entropy"].tolist()[:5] == pytest.approx([-0.01, -0.02, -0.04, -0.08, -0.15])
    assert run["to:pass@1"].tolist() == [0.125, 0.125, 0.125, 0.0, 0.125, 0.0]
    assert table_condition.rank_correlation(run.condition_tokens, run["to:entropy"]) == pytest.approx(-1)
    assert np.isnan(table_condition.rank_correlation(run.condition_tokens, run["to:entropy"], run.step))
    found, note = table_condition.summarise(of)
    assert note == "Of the study given, all parts; pass@1 sampled at temperature 1."
    assert found.index[0] == "GRPO: tokens on which Theorem 1's condition holds (mean 0.47)"
    assert found.iloc[0].tolist() == ["-1.00 (1)", "-", "-0.62 (1)", "-"]


def test_steps_are_regressed_out_of_ranks():
    """The partial correlation of three plain ones: (r_xy - r_xs r_ys) / sqrt((1 - r_xs^2) (1 - r_ys^2))."""
    x, y, step = (pd.Series(values) for values in ([2.0, 1.0, 4.0, 3.0, 5.0], [1.0, 3.0, 2.0, 5.0, 4.0], range(5)))
    plain = table_condition.rank_correlation
    of_steps = plain(x, step) * plain(y, step)
    rest = ((1 - plain(x, step) ** 2) * (1 - plain(y, step) ** 2)) ** 0.5
    assert plain(x, y, step) == pytest.approx((plain(x, y) - of_steps) / rest)


def test_reactions_are_over_the_seeds_that_arrived():
    rows = runs(
        {"part": "square", "arm": "soft", "reaction_up": 6, "reaction_down": 3, "rmse": 0.02},
        {"part": "square", "arm": "soft", "reaction_up": None, "reaction_down": 5, "rmse": 0.04},
    )
    found = square_wave.summarise(study(runs=rows, curves=curve("soft", 0.5, part="square")))
    assert found.up["soft"] == square_wave.Reaction(6, 1, 2)
    assert found.down["soft"] == square_wave.Reaction(4, 2, 2)
    assert found.rmse["soft"] == pytest.approx(0.03)


def test_predictions_are_judged_against_the_identity():
    changes = {"dH_measured": [1.0, 2.0, 3.0], "dH_first_order": [1.0, 2.0, 3.0], "dH_tabular": [2.0, 2.0, 2.0]}
    found = prediction.summarise(
        study(
            steps=curve("grpo", 0.5, 0.5, 0.5, **changes),
            runs=runs({"part": "constant", "arm": "grpo", "r2_first_order": 0.9, "r2_tabular": 0.1}),
        )
    )
    assert found.fits == pytest.approx({"dH_first_order": 1, "dH_tabular": 0})
    assert found.r2.loc["grpo"].tolist() == [0.9, 0.1]


def test_controllers_are_means_over_seeds():
    rows = runs(
        {"part": "constant", "arm": "soft", "rmse_over_noise": 1.0, "reward_end": 0.3},
        {"part": "constant", "arm": "soft", "rmse_over_noise": 2.0, "reward_end": 0.5},
        {"part": "linear", "arm": "soft", "rmse_over_noise": 9.0, "reward_end": 0.9},
    )
    found = controllers.summarise(study(runs=rows))
    assert found.means.loc["soft", ["rmse_over_noise", "reward_end"]].tolist() == pytest.approx([1.5, 0.4])


def test_the_map_averages_tokens_by_their_mass():
    class Audit:
        sign_rule = pd.DataFrame(
            {"family": "zipf", "vocabulary": [4, 4, 20], "entropy": [0.05, 0.06, 0.5], "holds": [0.8, 1, 0.4]}
        )
        confidence = pd.DataFrame(
            {
                "family": "zipf",
                "vocabulary": 20,
                "entropy": [0.5, 0.6],
                "to": 1.0,
                "mass": [0.3, 0.1],
                "holds": [1.0, 0.0],
            }
        )

    found = sign_rule_map.summarise(Audit)
    assert found.vocabulary["zipf"].loc[0, 4] == pytest.approx(0.9)
    assert found.vocabulary["zipf"].loc[3, 20] == pytest.approx(0.4)
    assert found.confidence["zipf"].loc[3, 1.0] == pytest.approx(0.75)


def test_positives_and_negatives_are_compared_where_they_were_sampled():
    rows = [("positives, zero", 0, 2.5), ("positives, zero", 1, 0.7), ("negatives, zero", 1, 0.4)]
    rows += [("positives, drop", 1, 0.5), ("negatives, drop", 1, 0.9), ("exact_negatives, zero", 1, 9.0)]
    tables = dict.fromkeys(positives_negatives.PANELS, pd.DataFrame(rows, columns=["run", "time", "entropy"]))
    found = positives_negatives.summarise(tables)
    assert found.ends["curves_grpo", "zero"] == pytest.approx(0.3)
    assert found.ends["curves_grpo", "drop"] == pytest.approx(-0.4)


def test_the_authority_map_counts_settings():
    cells = pd.DataFrame({"row": ["a", "a", "b", "b"], "column": ["x", "y", "x", "y"], "code": [2, 1, -1, 1]})
    found = authority_map.summarise({"map_sgd": cells, "map_adam": cells.assign(code=0)})
    assert found.maps["SGD"].to_numpy().tolist() == [[2, 1], [-1, 1]]
    assert [found.shares["SGD", code] for code in (2, 1, 0, -1)] == [0.25, 0.5, 0, 0.25]
    assert found.shares["Adam", 0] == 1


def test_the_ledger_keeps_the_order_of_its_causes():
    shares = pd.DataFrame({"run": ["b", "b", "a"], "cause": ["unexplained", "covariance", "covariance"]})
    unexplained = pd.DataFrame({"run": ["a", "b"], "share": [0.1, 0.2]})
    found = ledger_bars.summarise(shares.assign(share=[0.25, 0.75, 1.0]), unexplained)
    assert found.shares.to_dict("list") == {"covariance": [0.75, 1.0], "unexplained": [0.25, 0.0]}
    assert found.unexplained.tolist() == [0.2, 0.1]


def test_controllers_that_learn_a_scale_stand_in_where_the_plain_one_was_not_run():
    assert simulated_schedules.chosen(["soft", "soft_learnt", "solved_bonus_learnt", "aec"]) == {
        "soft": "soft",
        "solved_bonus_learnt": "solved_bonus",
    }


def test_properties_are_ticked_by_the_worst_seed():
    rows = runs(
        {"part": "constant", "arm": "soft", "seed": 0, "in_band_smooth": 0.96},
        {"part": "constant", "arm": "soft", "seed": 1, "in_band_smooth": 0.92},
        {"part": "constant", "arm": "nsr", "seed": 0, "in_band_smooth": 1.0},
        {"part": "constant", "arm": "nsr", "seed": 1, "in_band_smooth": 0.5},
        {"part": "square", "arm": "soft", "seed": 0, "reaction_up": 7, "reaction_down": None},
        {"part": "estimators", "arm": "soft_gspo", "seed": 0, "in_band_smooth": 0.95},
        {"part": "estimators", "arm": "soft_gspo", "seed": 1, "in_band_smooth": 0.85},
        {"part": "estimators", "arm": "soft_rloo", "seed": 0, "in_band_smooth": 0.98},
        {"part": "long", "arm": "soft_linear", "seed": 0, "in_band_smooth": 0.98},
    )
    found, notes = table1_properties.summarise(rows)
    assert found["reaches a constant target"].to_dict() == {"NSR": "no (75 %)", "soft weights": "yes (94 %)"}
    assert found.loc["soft weights", "follows a jump up"] == "7 steps (1 of 1 seeds)"
    assert found.loc["soft weights", "follows a jump down"] == "never (0 of 1 seeds)"
    assert found.loc["NSR", "run with the estimator"] == "NSR"
    assert found["reaches it over"].to_dict() == {"NSR": "-", "soft weights": "RLOO 98 %; not over GSPO 90 %"}
    assert notes == ("Not there: the parts linear.",)


def test_sizes_are_of_arms_that_ran_with_both_models():
    rows = runs(
        {"part": "constant", "arm": "grpo", "seed": 0, "parameters": 200},
        {"part": "constant", "arm": "soft", "seed": 0, "parameters": 200},
        {"part": "square", "arm": "soft", "seed": 0, "parameters": 200},
        {"part": "twice", "arm": "grpo", "seed": 0, "parameters": 400},
    )
    held = [evaluation("4 0"), evaluation("2 0", arm="soft"), evaluation("4 4", part="twice")]
    found, setting = sizes_of(study(runs=rows, evaluations=held))
    assert setting == "temperature 1"
    assert found[["part", "parameters", "arm", "value"]].to_numpy().tolist() == [
        ["constant", 200, "grpo", 0.5],
        ["twice", 400, "grpo", 1.0],
    ]
    assert sizes_of(study(runs=rows[:3], evaluations=held[:2]))[0].empty


def test_the_end_of_a_run_is_its_last_step_by_the_most_samples():
    found = study(
        evaluations=[evaluation("1 1", step=40), evaluation("2 2")],
        final=[evaluation("9 9", step=40, samples=16), evaluation("8 8", samples=16)],
    ).last
    assert found.counts.tolist() == ["8 8"]


def test_all_methods_are_in_one_table():
    rows = runs(
        {"part": "constant", "arm": "soft", "seed": 0, "rmse_over_noise": 1.0, "in_band": 0.8, "in_band_smooth": 1.0},
        {"part": "constant", "arm": "soft", "seed": 1, "rmse_over_noise": 1.2, "in_band": 0.9, "in_band_smooth": 0.9},
        {"part": "square", "arm": "nsr", "seed": 0, "reaction_up": 7, "reaction_down": None},
        {"part": "long", "arm": "soft_linear", "seed": 0, "rmse_over_noise": 1.0},
    )
    keys = {"part": "constant", "arm": "soft", "setting": "t1", "quantity": "pass@1", "comparison": "same_entropy"}
    values = {"value": -0.012, "low": -0.034, "high": 0.01, "seeds": 2, "matched": "no"}
    found = table_control.summarise(study(runs=rows, comparison=pd.DataFrame([keys | values])))
    assert found.index.tolist() == ["NSR", "soft weights"]
    assert found.loc["soft weights"].to_dict() == {
        "seeds": "2/0/0",
        "constant: RMSE / noise": "1.10 (1.00 to 1.20)",
        "in band (%)": "85 (80 to 90)",
        "in band, 5-step mean (%)": "95 (90 to 100)",
        "square: steps up": "-",
        "steps down": "-",
        "constant: pass@1 less GRPO's, same entropy": "-1.2 [-3.4, +1.0]*",
    }
    assert found.loc["NSR", ["square: steps up", "steps down"]].tolist() == ["7", "never"]


def test_the_benchmark_has_ours_and_the_papers_side_by_side():
    final = evaluations(evaluation("4 0"), evaluation("4 2", arm="clip_cov", setting="paper"))
    shorter = evaluations(evaluation("0 0"), evaluation("4 4", arm="nsr"))
    of = [study(evaluations=final), study(evaluations=shorter, name="short")]
    found, notes = table2_main.summarise(of, Data().paper())
    assert found.loc["NSR (study short)", "ours, temperature 1: pass@1 (%)"].startswith("100.0 [")
    assert notes == ("Of the study given, part constant.", "Of the study short, part constant.")
    assert found.loc["GRPO", "ours, temperature 1: pass@1 (%)"].startswith("50.0 [")
    assert found.loc["GRPO", "paper: Avg pass@32"] == "74.0"
    assert found.loc["Clip-Cov", "ours, 0.6 / 0.95 / 20: pass@1 (%)"].startswith("75.0 [")
    assert found.loc["(GSPO)", "paper: AIME-25 mean@32"] == "8.9"
    assert "(GRPO)" not in found.index
    assert not found.columns.str.contains("pass@32 ").any()


def test_progress_is_by_quarters():
    steps = range(100, 900, 100)
    rows = evaluations(*(evaluation("4 0", step=step, part="long") for step in steps), evaluation("4 4"))
    shorter = evaluations(evaluation("2 0", part="long"), evaluation("3 0", arm="clip_cov", part="long", step=300))
    found, notes = table3_progress.summarise(
        [study(evaluations=rows), study(evaluations=shorter, name="short")], Data().paper()
    )
    assert found.loc["GRPO, pass@1"].str[:4].tolist() == ["50.0"] * 4
    assert found.loc["the paper's GRPO+Entrocraft, AIME-25 mean@32"].tolist() == ["13.1", "14.2", "14.8", "16.2"]
    assert found.loc["Clip-Cov, pass@1 (study short)"].tolist()[:3] == [""] * 3
    assert found.index.str.startswith("GRPO, pass@1").sum() == 1
    ends = "200 (quarter 1), 400 (quarter 2), 600 (quarter 3), 800 (quarter 4)"
    assert notes[0] == f"Of the study given, part long. Steps {ends}, sampled at temperature 1."
    assert notes[1] == "Of the study short, part long. Steps 300 (quarter 4), sampled at temperature 1."


def test_the_papers_arithmetic_disagrees_in_three_places():
    """Where it does is worked out by hand: (79.0 + 65.0 + 15.1) / 3 = 53.03, with 16.5 it is 53.5; 46.7 / 40 = 1.17."""
    averages = table_arithmetic.averages(Data().paper())
    assert len(averages) == 36
    wrong = averages[~averages.agrees]
    assert wrong[["table", "method", "metric", "printed"]].to_numpy().tolist() == [
        [2, "GRPO+Entrocraft", "mean@32", 53.5]
    ]
    assert wrong.recomputed.item() == pytest.approx(53.0333, abs=1e-3)
    assert list(table_arithmetic.twice(Data().paper())) == [("GRPO+Entrocraft", "mean@32", 15.1, 16.5)]
    found = table_arithmetic.summarise(Data().paper())
    assert found.loc["Table 2, GRPO+Entrocraft, Avg mean@32 with Table 5's AIME-25", "agrees"] == "yes"
    assert found.loc["pass@K on AIME-25 against GRPO", "found"].startswith("+17 %")
    assert found.loc["pass@K on AIME-25 against the lowest baseline", "found"].startswith("+40 %")


def test_methods_of_the_paper_look_as_our_arms_do():
    assert line_of_method("GRPO+Clip-Cov") == ARMS["clip_cov"].line
    assert line_of_method("GRPO+Entrocraft") == ARMS["algorithm1"].line


def test_the_end_of_a_run_is_its_last_evaluation_and_the_final_ones():
    on_the_way = evaluations(evaluation("1"), evaluation("2", step=100), evaluation("3", step=60, arm="nsr"))
    final = evaluations(evaluation("4", step=100, setting="paper"))
    found = study(evaluations=on_the_way, final=final).last
    assert {(row.arm, row.setting): row.counts for row in found.itertuples()} == {
        ("grpo", "paper"): "4",
        ("grpo", "t1"): "2",
        ("nsr", "t1"): "3",
    }


def test_differences_are_of_the_constant_part_at_temperature_1():
    keys = ["part", "arm", "setting", "quantity", "comparison", "seeds"]
    rows = [("constant", "soft", "t1", "pass@1", way, 2) for way in ("level", "same_samples", "same_entropy")]
    rows += [
        ("linear", "aec", "t1", "pass@1", "same_samples", 5),
        ("constant", "aec", "paper", "pass@1", "same_samples", 5),
    ]
    rows += [
        ("constant", "nsr", "t1", "pass@8", "same_samples", 5),
        ("constant", "aec", "t1", "reward", "same_samples", 5),
    ]
    found = comparison.summarise(pd.DataFrame(rows, columns=keys))
    assert found.arms == ["nsr", "soft"]
    assert found.rows.comparison.tolist() == ["same_samples", "same_entropy", "same_samples"]
    assert found.notes[-1] == "Of fewer than three seeds, whose spread the intervals hardly see: soft weights."


def test_a_bin_over_both_sides_of_a_jump_is_no_part_of_the_band():
    band = {"entropy_low": [0.5, 0.5, 0.42, 0.3, 0.3], "entropy_high": [0.6, 0.6, 0.52, 0.4, 0.4]}
    assert edges(curve("soft", 1, 1, 1, 1, 1, **band)).step.tolist() == [0, 5, 15, 20]
    falling = {"entropy_low": [0.5, 0.49, 0.48], "entropy_high": [0.6, 0.59, 0.58]}
    assert edges(curve("soft", 1, 1, 1, **falling)).step.tolist() == [0, 5, 10]
