"""The tables of studies, by hand, on run directories that were made up."""

import csv
import json
import shutil
from dataclasses import replace
from math import sqrt
from statistics import NormalDist

import numpy as np
import pytest
import yaml

from trainer.estimators import bootstrap_pairs
from trainer.parsing import as_yaml
from trainer.study.columns import TABLES
from trainer.study.comparison import Passes, Point, match
from trainer.study.earlier import read_earlier
from trainer.study.plan import plan
from trainer.study.protocol import load_protocol
from trainer.study.records import read_study, unevaluated
from trainer.study.tables import write_tables
from trainer.study.tracking import noise_level, possible_share, reactions, smoothed_share, tracked

BAND = {"schedule": "constant", "start": [0.4, 0.6], "unit": "nats"}
WAVE = {"schedule": "square", "start": [0.8, 0.9], "end": [0.4, 0.6], "unit": "nats", "options": {"period": 0.5}}
TREE = {
    "base": {
        "settings": {"steps": 12, "evaluation": {"prompts": 2, "samples": 4, "settings": ["t1"], "every": 6}},
    },
    "arms": {"plain": {}, "held": {"config": ["algorithm1"]}},
    "parts": {
        "steady": {"settings": {"band": BAND}, "seeds": {"plain": [0, 1], "held": [0, 1]}},
        "wave": {"settings": {"band": WAVE}, "seeds": {"held": [0]}, "reuse": {"plain": "steady"}},
    },
    "finally": ["paper"],
    "after": 2,
    "reference": "plain",
    "pass_at": [1, 2, 8],
    "every_step": ["plain"],
    "questions": {"holds": {"of": ["steady", "held"], "against": ["steady", "plain"]}},
}
# Entropies of twelve steps, and the held-out evaluations: step -> (entropy, right answers of 4 for two prompts).
PLAIN = [0.9, 0.8, 0.7, 0.6, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.3, 0.3]
PLAIN_EVALUATIONS = {6: (0.6, [0, 2]), 12: (0.4, [4, 2])}


def row(step, entropy, **values):
    # Runs that were made before a column was there do not have it.
    base = dict.fromkeys(TABLES["curves.csv"].keys() - {"part", "arm", "seed", "condition_tokens"})
    base |= {"samples": 16 * (step + 1), "entropy_standard_error": 0.05, "reward_mean": 0.1 * step, "skipped": 0}
    base |= {"entropy_low": 0.4, "entropy_high": 0.6, "accepted_fraction": 1.0, "effective_group_size": 7.0, "info": {}}
    times = {"time_rollout_s": 1.0, "time_update_s": 2.0, "time_theory_s": 0.5}
    return base | times | {"step": step, "entropy": entropy} | values


def evaluation(entropy, correct, setting="t1"):
    estimates = {"entropy": {"value": entropy}, "distinct": {"value": 1.5}}
    return {"key": setting, "setting": setting, "samples": 4, "correct": correct, "estimates": estimates}


def write_run(run, entropies, evaluations, final=None, **values):
    run.path.mkdir(parents=True)
    (run.path / "config.yaml").write_text(as_yaml(run.config))
    (run.path / "summary.json").write_text("{}")
    packages = {"torch": f"2.{run.seed}"}
    (run.path / "environment.json").write_text(json.dumps({"git_commit": "abc", "packages": packages}))
    rows = [row(step, entropy, **values) for step, entropy in enumerate(entropies)]
    (run.path / "metrics.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    lines = [{"step": step, **evaluation(*found)} for step, found in evaluations.items()]
    (run.path / "evaluations.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    if final:
        file = run.path / "final_evaluations" / "step_12_samples_4.json"
        file.parent.mkdir()
        file.write_text(json.dumps({"evaluations": [evaluation(*final, "paper")]}))


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """A study in which one run is missing, and the base model was evaluated."""
    folder = tmp_path_factory.mktemp("study")
    (folder / "mine.yaml").write_text(yaml.safe_dump(TREE, sort_keys=False))
    protocol = load_protocol(str(folder / "mine.yaml"))
    runs = {run.name: run for run in plan(protocol, folder / "runs")}
    held = {12: (0.5, [2, 3])}
    for seed in (0, 1):
        write_run(runs[f"steady/plain/seed{seed}"], PLAIN, PLAIN_EVALUATIONS, (0.2345678, [3, 1]))
        write_run(
            runs[f"steady/held/seed{seed}"], [0.5] * 12, held, info={"effective_sample_size": 0.5}, time_update_s=3.0
        )
    (folder / "runs" / "base").mkdir()
    base = {"evaluations": [evaluation(0.9, [0, 1]), evaluation(0.7, [1, 1], "paper")]}
    (folder / "runs" / "base" / "evaluation.json").write_text(json.dumps(base))
    return read_study(protocol, folder / "runs")


@pytest.fixture(scope="module")
def tables(study, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tables")
    write_tables(study, folder)
    return folder


def rows_of(folder, name, **wanted):
    with (folder / name).open() as stream:
        rows = list(csv.DictReader(stream))
    return [row for row in rows if all(row[key] == str(value) for key, value in wanted.items())]


def only(folder, name, **wanted):
    (row,) = rows_of(folder, name, **wanted)
    return row


def test_what_is_missing_is_named(study):
    assert study.missing == ["wave/held/seed0"]
    assert unevaluated(study) == [f"steady/held/seed{seed}, 4 samples at step 12" for seed in (0, 1)]


def test_runs_by_hand(tables):
    found = only(tables, "runs.csv", part="steady", arm="plain", seed=0)
    # from step 2 on: 0.7 0.6 0.5 x 6 0.3 0.3, in the band but for the first and the last two
    assert float(found["entropy"]) == pytest.approx((0.7 + 0.6 + 3.0 + 0.6) / 10)
    assert float(found["rmse"]) == pytest.approx(sqrt((0.04 + 0.01 + 2 * 0.04) / 10), rel=1e-5)
    assert float(found["spread"]) == pytest.approx(sqrt(0.253 - 0.49**2), rel=1e-5)
    assert (found["in_band"], found["noise"], found["source"]) == ("0.7", "0.05", "steady")
    assert float(found["rmse_over_noise"]) == pytest.approx(sqrt(0.013) / 0.05, rel=1e-5)
    assert float(found["in_band_possible"]) == pytest.approx(2 * NormalDist().cdf(2) - 1, rel=1e-5)
    assert float(found["entropy_end"]) == pytest.approx(0.49)
    assert float(found["reward_end"]) == pytest.approx(0.65)
    assert (found["effective_sample_size"], found["time_step_s"], found["reaction_up"]) == ("", "3.5", "")
    held = only(tables, "runs.csv", part="steady", arm="held", seed=1)
    assert (held["effective_sample_size"], held["time_update_s"], held["in_band"]) == ("0.5", "3", "1")


def test_reused_runs_are_held_against_the_other_parts_band(tables):
    # 0.8 to 0.9 at steps 0-2 and 6-8, 0.4 to 0.6 at 3-5 and 9-11
    found = only(tables, "runs.csv", part="wave", arm="plain", seed=1)
    assert found["source"] == "steady"
    assert found["in_band"] == "0.4"  # 3, 4, 5 and 9 of steps 2 to 11
    assert [found[f"reaction_{name}"] for name in ("down", "down_available", "up", "up_available")] == [
        *("0", "3", "", "3")
    ]
    curve = only(tables, "curves.csv", part="wave", arm="plain", seed=1, step=5)
    # step 5 in the band, 6 to 8 below it, 9 in it
    assert (curve["band_indicator"], curve["entropy"]) == ("-0.6", "0.5")
    assert (curve["share_below"], curve["share_above"]) == ("0.6", "0")
    assert (curve["effective_group_size_below"], curve["effective_group_size_above"]) == ("7", "")
    assert float(curve["entropy_low"]) == pytest.approx((0.4 + 3 * 0.8 + 0.4) / 5)
    last = only(tables, "curves.csv", part="steady", arm="plain", seed=1, step=10)
    assert (last["entropy"], last["kl"], float(last["reward_mean"])) == ("0.3", "", pytest.approx(1.05))


def test_a_row_of_the_curves_is_of_as_many_steps_as_the_protocol_says(study, tmp_path):
    write_tables(replace(study, protocol=replace(study.protocol, curve_steps=8)), tmp_path)
    rows = rows_of(tmp_path, "curves.csv", part="steady", arm="plain", seed=0)
    assert [row["step"] for row in rows] == ["0", "8"]
    assert [float(row["entropy"]) for row in rows] == pytest.approx([sum(PLAIN[:8]) / 8, sum(PLAIN[8:]) / 4])


def test_steps_are_those_of_the_first_seed_of_some_arms(tables):
    rows = rows_of(tables, "steps.csv")
    assert [(row["part"], row["arm"], row["seed"], row["step"]) for row in rows] == [
        ("steady", "plain", "0", str(step)) for step in range(12)
    ]
    assert [float(row["entropy"]) for row in rows] == PLAIN


def test_evaluations_keep_the_counts(tables):
    found = rows_of(tables, "evaluations.csv")
    assert [(r["part"], r["arm"], r["seed"], r["step"], r["setting"], r["counts"]) for r in found] == [
        ("base", "base", "0", "0", "paper", "1 1"),
        ("base", "base", "0", "0", "t1", "0 1"),
        *(("steady", "held", seed, "12", "t1", "2 3") for seed in "01"),
        *(("steady", "plain", seed, *rest) for seed in "01" for rest in (("6", "t1", "0 2"), ("12", "t1", "4 2"))),
    ]
    final = rows_of(tables, "final.csv")
    assert [(r["arm"], r["seed"], r["step"], r["setting"], r["counts"], r["distinct"]) for r in final] == [
        ("plain", seed, "12", "paper", "3 1", "1.5") for seed in "01"
    ]


def test_comparison_by_hand(tables):
    def found(**wanted):
        row = only(tables, "comparison.csv", part="steady", **wanted)
        return float(row["value"]), row

    level, row = found(arm="held", setting="t1", quantity="pass@1", comparison="level")
    assert (level, row["seeds"], row["prompts"], row["entropy"]) == (0.625, "2", "2", "0.5")
    # 2 and 3 of 4 against 4 and 2 of 4
    same, row = found(arm="held", setting="t1", quantity="pass@1", comparison="same_samples")
    assert (same, row["reference_value"], row["reference_entropy"]) == (-0.125, "0.75", "0.4")
    # the resample of a single prompt twice gives its own difference, 0.25 or -0.5
    assert (row["low"], row["high"]) == ("-0.5", "0.25")
    # entropy 0.5 lies halfway between 0.6 at step 6 and 0.4 at step 12: pass@1 of (0 + 1)/2 and 0.5
    matched, row = found(arm="held", setting="t1", quantity="pass@1", comparison="same_entropy")
    assert (matched, row["matched"], row["seeds_matched"]) == (0.125, "yes", "2")
    assert (row["low"], row["high"], row["reference_entropy"]) == ("0", "0.25", "0.5")
    # of pairs: 1 - C(2,2)/C(4,2) = 5/6 and 1; the reference's 1 and 5/6, before 0 and 5/6
    pairs, _ = found(arm="held", setting="t1", quantity="pass@2", comparison="same_entropy")
    assert pairs == pytest.approx((5 / 6 + 1) / 2 - (0.5 + 5 / 6) / 2, rel=1e-5)
    assert rows_of(tables, "comparison.csv", quantity="pass@8") == []  # of four samples there is none
    assert rows_of(tables, "comparison.csv", part="steady", arm="plain", comparison="same_samples") == []
    level, _ = found(arm="plain", setting="paper", quantity="pass@1", comparison="level")
    assert level == 0.5


def test_the_base_model_is_where_every_run_began(study):
    """Its evaluation comes first, where a run starts at it; another model's runs did not."""
    passes, record = Passes(study, 1), study.records[0]
    assert [point.entropy for point in passes(record, "t1")] == [0.9, 0.6, 0.4]
    assert [point.entropy for point in passes(record, "paper")] == [0.234568]  # as tables hold it
    model = replace(record.config.model, path="another")
    other = replace(record, config=replace(record.config, model=model))
    assert [point.entropy for point in passes(other, "t1")] == [0.6, 0.4]


def test_training_reward_is_compared_over_seeds_alone(tables):
    row = only(tables, "comparison.csv", part="steady", arm="held", quantity="reward", comparison="same_samples")
    assert (row["value"], row["low"], row["high"], row["prompts"], row["setting"]) == ("0", "0", "0", "", "training")


def test_tables_are_the_same_bytes_and_say_what_they_depend_on(study, tables, tmp_path):
    write_tables(study, tmp_path)
    for file in tables.iterdir():
        assert (tmp_path / file.name).read_bytes() == file.read_bytes()
        assert str(tables.parent) not in file.read_text()
    assert {file.name for file in tables.iterdir()} == {*TABLES, "decision.csv", "columns.json", "provenance.json"}
    found = json.loads((tables / "provenance.json").read_text())
    assert (found["runs"], found["git_commits"], found["packages"]) == (4, ["abc"], {"torch": ["2.0", "2.1"]})
    assert len(found["protocol_sha256"]) == 64


def copied(study, tables, folder, *gone):
    """Return another place for the study's runs and tables, without the folders of some runs."""
    shutil.copytree(study.records[0].config.output.parents[2], folder / "runs")
    shutil.copytree(tables, folder / "tables")
    for name in gone:
        shutil.rmtree(folder / "runs" / name)
    return folder / "runs", folder / "tables"


def tabulated_again(protocol, runs, tables):
    earlier = read_earlier(protocol, tables)
    found = read_study(protocol, runs, earlier)
    write_tables(found, tables, earlier)
    return found


@pytest.mark.parametrize(
    "gone",
    [("steady", "base"), ("steady/plain",), ("steady/held", "base"), ("steady/plain/seed1",), ("steady/held/seed0",)],
)
def test_runs_whose_folders_are_gone_are_kept(study, tables, tmp_path, gone):
    """To the byte, and all that is computed of them, beside others or not.

    A training reward at equal entropy is between other means there: between those of the curves.
    """
    runs, again = copied(study, tables, tmp_path, *gone)
    found = tabulated_again(study.protocol, runs, again)
    assert (found.missing, unevaluated(found)) == (study.missing, unevaluated(study))
    for name in {*TABLES, "decision.csv"} - {"comparison.csv"}:
        assert (again / name).read_bytes() == (tables / name).read_bytes(), name
    more = [row for row in rows_of(again, "comparison.csv") if row not in rows_of(tables, "comparison.csv")]
    assert {(row["quantity"], row["comparison"]) for row in more} <= {("reward", "same_entropy")}
    assert len(rows_of(again, "comparison.csv")) == len(rows_of(tables, "comparison.csv")) + len(more)
    before, after = (json.loads((folder / "provenance.json").read_text()) for folder in (tables, again))
    kept = sum(bool(record.kept) for record in found.records if record.part == record.source)
    assert kept == {0: 4, 1: 2, 2: 1}[gone[0].count("/")]
    assert after == before | {"runs_kept": kept}


def test_an_evaluation_in_another_setting_is_not_the_one_that_is_wanted(study, tables, tmp_path):
    runs, again = copied(study, tables, tmp_path, "steady/plain/seed0")
    lines = (again / "final.csv").read_text().splitlines(keepends=True)
    changed = [line.replace(",paper,", ",t1,") if line.startswith("steady,plain,0,") else line for line in lines]
    assert changed != lines
    (again / "final.csv").write_text("".join(changed))
    found = read_study(study.protocol, runs, read_earlier(study.protocol, again))
    assert "steady/plain/seed0, 4 samples at step 12" in unevaluated(found)
    assert "steady/plain/seed0, 4 samples at step 12" not in unevaluated(study)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda p: {"arms": {**p.arms, "held": replace(p.arms["held"], settings={"steps": 13})}}, "steady/held/seed0"),
        (
            lambda p: {"parts": {**p.parts, "wave": replace(p.parts["wave"], settings={"band": BAND})}},
            "wave/plain/seed0",
        ),
        (lambda p: {"after": 3}, "steady/plain/seed0"),
        (lambda p: {"curve_steps": 8}, "steady/plain/seed0"),
    ],
)
def test_rows_of_what_the_protocol_no_longer_says_are_not_kept(study, tables, tmp_path, change, named):
    """Neither of other runs, nor against another band, nor means over other steps."""
    runs, again = copied(study, tables, tmp_path, "steady")
    protocol = replace(study.protocol, **change(study.protocol))
    with pytest.raises(ValueError, match=rf"{named}.* as the protocol has it now; got other settings there"):
        read_study(protocol, runs, read_earlier(protocol, again))


def test_another_reference_and_other_k_are_those_of_kept_runs_too(study, tables, tmp_path):
    protocol = replace(study.protocol, reference="held", pass_at=(1, 4))
    runs, again = copied(study, tables, tmp_path, "steady")
    tabulated_again(protocol, runs, again)
    found = rows_of(again, "comparison.csv", setting="t1", comparison="same_samples")
    assert {(row["arm"], row["quantity"]) for row in found} == {("plain", "pass@1"), ("plain", "pass@4")}


def test_a_part_that_newly_reuses_a_kept_run_lacks_it(study, tables, tmp_path):
    """Its pass@k would be known, its steps against the band are not."""
    protocol = replace(study.protocol, parts={**study.protocol.parts, "third": study.protocol.parts["wave"]})
    runs, again = copied(study, tables, tmp_path, "steady")
    found = tabulated_again(protocol, runs, again)
    assert found.missing == ["wave/held/seed0", "third/held/seed0", "third/plain/seed0", "third/plain/seed1"]
    assert rows_of(again, "runs.csv", part="third") == []


def test_tables_are_not_overwritten_with_less(study, tables, tmp_path):
    runs, again = copied(study, tables, tmp_path, "steady/plain/seed0/final_evaluations", "steady/held/seed0")
    earlier = read_earlier(study.protocol, again)
    with pytest.raises(ValueError, match=r"1 of 6 rows of runs.csv there .* as of steady/held/seed0"):
        write_tables(read_study(study.protocol, runs), again, earlier)
    shutil.copytree(study.records[0].config.output.parents[2] / "steady/held/seed0", runs / "steady/held/seed0")
    with pytest.raises(ValueError, match=r"1 of 2 rows of final.csv there .* as of steady/plain/seed0"):
        write_tables(read_study(study.protocol, runs), again, earlier)
    shutil.rmtree(runs / "base")
    with pytest.raises(ValueError, match=r"2 of 8 rows of evaluations.csv there .* as of base/base/seed0"):
        write_tables(read_study(study.protocol, runs), again, earlier)
    for name in TABLES:
        assert (again / name).read_bytes() == (tables / name).read_bytes()
    # The tables have its evaluation, the folder does not.
    assert [bool(record.kept) for record in tabulated_again(study.protocol, runs, again).records[:2]] == [True, False]


def test_tables_are_there_once_what_they_depend_on_is(study, tables, tmp_path):
    (tmp_path / "runs.csv").write_bytes((tables / "runs.csv").read_bytes())
    assert read_earlier(study.protocol, tmp_path) is None
    shutil.copytree(tables, tmp_path / "old")
    text = (tmp_path / "old" / "runs.csv").read_text().replace("settings,", "unknown,")
    (tmp_path / "old" / "runs.csv").write_text(text)
    with pytest.raises(ValueError, match="got tables from before they said what a run is of"):
        read_study(study.protocol, tmp_path / "none", read_earlier(study.protocol, tmp_path / "old"))


@pytest.mark.parametrize(
    ("entropies", "target", "value", "reached"),
    [
        ([0.8, 0.4], 0.5, 0.75, True),
        ([0.8, 0.4, 0.8, 0.2], 0.5, 2.5, True),  # the last of three places
        ([0.8, 0.4], 0.3, 1.0, False),
        ([0.8, 0.4], 0.9, 0.0, False),
        ([0.8, 0.5, 0.5], 0.5, 2.0, True),
        ([0.8, 0.5, 0.6], 0.5, 1.0, True),
    ],
)
def test_matching_by_hand(entropies, target, value, reached):
    """The quantity is the place of the evaluation, so that the match shows where it lies."""
    found = match([Point(e, np.array([float(place)])) for place, e in enumerate(entropies)], target)
    assert found.reached is reached
    assert found.point.values == pytest.approx([value])


def banded(pairs):
    return [row(s, e, entropy_low=low, entropy_high=low + 0.1) for s, (e, low) in enumerate(pairs)]


def test_reaction_times_by_hand():
    rows = banded([(0.5, 0.5), (0.5, 0.2), (0.4, 0.2), (0.25, 0.2), (0.5, 0.2), (0.5, 0.7), (0.6, 0.7), (0.2, 0.2)])
    # down at step 1, in the band at 3; up at step 5, never there; a second way down does not count
    assert reactions(rows) == {"down": (2, 4), "up": (None, 2)}
    assert reactions(banded([(0.5, 0.5), (0.5, 0.42), (0.5, 0.35)])) == {}  # a slope is no jump
    assert reactions(banded([(0.5, 0.5)])) == {}


def test_noise_and_smoothing_by_hand():
    rows = [row(s, e) for s, e in enumerate([0.5, 0.9, 0.5, 0.3, 0.3, 0.5, 0.9])]
    # means of five: 0.5, 0.5, 0.5; alone only two of three would be in the band
    assert smoothed_share(rows, 0) == 1.0
    rising = [row(s, e) for s, e in enumerate([0.5] * 5 + [1.5] * 2)]  # means 0.5, 0.7, 0.9 at steps 2, 3, 4
    assert (smoothed_share(rising, 0), smoothed_share(rising, 3)) == (pytest.approx(1 / 3), 0.0)
    assert smoothed_share(rows[:4], 0) is None
    uneven = [row(0, 0.5, entropy_standard_error=0.03), row(1, 0.5, entropy_standard_error=0.04)]
    assert noise_level(uneven) == pytest.approx(sqrt((0.0009 + 0.0016) / 2))
    assert noise_level([row(0, 0.5, entropy_standard_error=None)]) is None
    # half width 0.1: one and two standard errors, and no noise at all
    wide = [row(s, 0.5, entropy_standard_error=error) for s, error in enumerate((0.1, 0.05, 0.0))]
    assert possible_share(wide) == pytest.approx((0.6826895 + 0.9544997 + 1) / 3, abs=1e-6)


def test_a_run_without_steps_to_tabulate_is_refused():
    with pytest.raises(ValueError, match="after=3"):
        tracked([row(0, 0.5)], 3)


def test_runs_that_the_settings_of_a_part_change_are_not_reused(tmp_path):
    tree = {**TREE, "parts": {**TREE["parts"], "wave": {**TREE["parts"]["wave"], "settings": {"steps": 13}}}}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(tree, sort_keys=False))
    protocol = load_protocol(str(tmp_path / "mine.yaml"))
    write_run(plan(protocol, tmp_path)[0], PLAIN, {})
    with pytest.raises(ValueError, match=r"wave.reuse.plain .* \['steps'\]"):
        read_study(protocol, tmp_path)


def test_a_reused_runs_band_begins_where_its_part_says(tmp_path):
    """With a warm start over half the run the centre goes from the run's own 0.9 to the 0.5 of step 6."""
    wave = {"settings": {"band": {**BAND, "warm_start": 0.5}}, "seeds": {"held": [0]}, "reuse": {"plain": "steady"}}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump({**TREE, "parts": {**TREE["parts"], "wave": wave}}))
    protocol = load_protocol(str(tmp_path / "mine.yaml"))
    write_run(next(run for run in plan(protocol, tmp_path) if run.name == "steady/plain/seed0"), PLAIN, {})
    _, reused = read_study(protocol, tmp_path).records
    bands = [(row["entropy_low"] + row["entropy_high"]) / 2 for row in reused.rows]
    assert bands == pytest.approx([0.9 - 0.4 * min(step / 6, 1) for step in range(12)])
    assert [row["band_indicator"] for row in reused.rows[:3]] == [0, 0, 0]


def test_intervals_over_seeds_and_prompts():
    """Of additive effects, the mean's variance is that of the seeds' mean plus that of the prompts'."""
    draw = np.random.default_rng(0)
    seeds, prompts = draw.normal(0, 1, 12), draw.normal(0, 2, 100)
    spread = sqrt(seeds.var() / 12 + prompts.var() / 100)
    found = bootstrap_pairs(seeds[:, None] + prompts, generator=np.random.default_rng(1))
    assert found.value == pytest.approx(seeds.mean() + prompts.mean())
    # the width of a 95 % interval from 2000 resamples is known to about 3 %
    assert (found.high - found.low) / (2 * 1.96 * spread) == pytest.approx(1, abs=0.12)
    paired = bootstrap_pairs(np.zeros((2, 5)), generator=np.random.default_rng(1))
    assert (paired.low, paired.high) == (0.0, 0.0)
    again = bootstrap_pairs(np.ones((3, 4)), generator=np.random.default_rng(1))
    assert (again.value, again.low, again.high) == (1.0, 1.0, 1.0)
