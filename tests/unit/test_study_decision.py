"""What studies decide: windows, plateaus and verdicts by hand, and on made-up runs."""

from dataclasses import replace
from math import inf

import numpy as np
import pytest
import yaml

from trainer.config import TrainConfig
from trainer.study.decision import History, answered, best, decide, difference, history, plateau
from trainer.study.protocol import Rules, load_protocol
from trainer.study.records import Record, Study

RULES = Rules(setting="t1", window=2, margin=0.01, plateau_rise=0.05, plateau_steps=20)


def run(levels, samples=10, prompts=8, extra=(), part="small", arm="plain", seed=0):
    """Return a run whose prompts all have these shares of right answers, at steps 0, 10, 20, ..."""
    rows = [
        {"key": "t1", "step": 10 * place, "samples": samples, "correct": [round(level * samples)] * prompts}
        for place, level in enumerate(levels)
    ]
    return Record(part, part, arm, seed, TrainConfig(), [], rows, list(extra), [], {})


def rows_by(rules, pass_at, own, other):
    found = list(answered(rules, pass_at, "t1", [own, other]))
    return {(row["quantity"], row["comparison"]): row for row in found}


def test_a_later_evaluation_of_more_samples_takes_the_place():
    more = {"key": "t1", "step": 10, "samples": 20, "correct": [5] * 8}
    paper = {"key": "paper", "step": 10, "samples": 40, "correct": [40] * 8}
    found = history(run([0.1, 0.9], extra=[more, paper]), "t1", 1)
    assert found.steps.tolist() == [0, 10]
    assert found.samples.tolist() == [10, 20]
    assert found.values[:, 0].tolist() == pytest.approx([0.1, 0.25])
    assert history(run([0.1, 0.9], extra=[more]), "t1", 16).steps.tolist() == [10]


def test_windows_by_hand():
    """The other arm is best in the middle: its mean there is 0.75, at its end 0.3."""
    own, other = [run([0.1, 0.2, 0.4, 0.6])] * 2, [run([0.1, 0.7, 0.8, 0.3, 0.3])] * 2
    found = rows_by(RULES, [1], own, other)
    assert found["pass@1", "last"]["value"] == pytest.approx(0.5 - 0.3)
    assert found["pass@1", "best"]["value"] == pytest.approx(0.5 - 0.75)
    assert found["pass@1", "end"]["value"] == pytest.approx(0.6 - 0.3)
    assert [found["pass@1", name].get("verdict") for name in ("last", "best", "end")] == [None, "below", None]
    assert "verdict" not in rows_by(Rules(setting="paper", window=2), [1], own, other)["pass@1", "best"]


def test_the_best_window_of_noise_is_not_better():
    """Where all evaluations are the same but for luck, the best one is no better on prompts that did not choose it."""
    generator = np.random.default_rng(0)
    values = generator.random((400, 20, 60))
    chosen = [best(History(np.arange(20), one, np.ones(20)), 3).mean() for one in values]
    naive = [max(one[start : start + 3].mean() for start in range(18)) for one in values]
    assert np.mean(chosen) == pytest.approx(0.5, abs=5 * 0.29 / np.sqrt(400 * 60 * 3))
    assert np.mean(naive) > 0.53


def test_plateaus_by_hand():
    """A moving mean of 2: 0.15 0.3 0.5 0.6 0.61 0.61 0.61 at steps 5, 15, ..., 65; flat for 20 steps from 35 on."""
    levels = [0.1, 0.2, 0.4, 0.6, 0.6, 0.62, 0.6, 0.62]
    steps = np.arange(8) * 10
    assert plateau(steps, np.array(levels), RULES) == 35
    assert plateau(steps[:6], np.array(levels[:6]), RULES) == inf  # too short to see it
    assert plateau(steps, np.linspace(0, 1, 8), RULES) == inf


def test_the_factor_of_two_plateaus():
    slow, fast = run([0.1, 0.2, 0.3, 0.4, 0.5, *[0.7] * 5]), run([0.1, 0.6, *[0.6] * 8])
    found = rows_by(RULES, [1], [slow] * 2, [fast] * 2)
    arm, against, factor = (found["plateau", name]["value"] for name in ("arm", "against", "factor"))
    assert (arm, against) == (55, 15)
    assert factor == pytest.approx(55 / 15)
    rising = rows_by(RULES, [1], [run(np.linspace(0, 0.9, 10))] * 2, [fast] * 2)
    assert [rising["plateau", "arm"][name] for name in ("value", "low", "high")] == [None] * 3
    assert rising["plateau", "factor"]["value"] is None
    other = rows_by(RULES, [1], [fast] * 2, [run(np.linspace(0, 0.9, 10))] * 2)["plateau", "factor"]
    assert [other[name] for name in ("value", "low", "high")] == [None, 0, 0]
    neither = rows_by(RULES, [1], *[[run(np.linspace(0, 0.9, 10))] * 2] * 2)["plateau", "factor"]
    assert [neither[name] for name in ("value", "low", "high")] == [None, 0, None]


def test_what_could_have_been_found_covers_the_truth():
    """A true difference of the detectable size is seen in about 80 of 100 studies."""
    generator = np.random.default_rng(1)
    seeds, prompts, spread = 20, 200, 0.4
    noise = generator.normal(0, spread, (300, seeds, prompts))
    zero = list(np.zeros((seeds, prompts)))
    size = np.mean([difference(list(one), zero, 0.0)["detectable"] for one in noise[:50]])
    # resampling seeds and prompts counts the spread of single values twice (Owen 2007)
    assert size == pytest.approx(2.80 * spread / np.sqrt(seeds * prompts) * np.sqrt(3), rel=0.1)
    seen = [difference(list(one + size), zero, 0.0)["verdict"] == "above" for one in noise]
    assert np.mean(seen) > 0.75


def test_few_seeds_that_differ_decide_nothing():
    """Prompts agree and seeds do not: both resampled intervals lie above the margin, the t interval does not."""
    generator = np.random.default_rng(2)
    zero = list(np.zeros((3, 500)))
    found = difference([np.full(500, mean) + generator.normal(0, 0.01, 500) for mean in (0.02, 0.05, 0.08)], zero, 0.01)
    assert found["low"] > 0.01
    assert found["seeds_low"] == pytest.approx(0.05 - 4.303 * 0.03 / np.sqrt(3), abs=2e-3)
    assert found["verdict"] == "open"
    assert found["detectable"] == pytest.approx(0.01 + 1.4294 * 4.303 * 0.03 / np.sqrt(3), abs=3e-3)
    alone = difference([np.full(500, 0.5)], zero[:1], 0.01)
    assert (alone["verdict"], alone["seeds_low"], alone["detectable"]) == ("open", None, None)


def test_five_seeds_cover_the_truth_where_seeds_differ_most():
    generator = np.random.default_rng(3)
    zero, covered, resampled = list(np.zeros((5, 200))), [], []
    for _ in range(300):
        table = 0.03 * generator.normal(size=(5, 1)) + 0.1 * generator.normal(size=(5, 200))
        found = difference(list(table), zero, None)
        resampled.append(found["low"] <= 0 <= found["high"])
        covered.append(min(found["low"], found["seeds_low"]) <= 0 <= max(found["high"], found["seeds_high"]))
    standard_error = np.sqrt(0.95 * 0.05 / 300)
    assert np.mean(covered) > 0.95 - 3 * standard_error
    assert np.mean(resampled) < 0.95 - 3 * standard_error  # why it does not decide alone


def test_evaluations_that_one_run_lacks_are_left_out():
    own, other = run([0.1, 0.2, 0.4, 0.6]), run([0.1, 0.2, 0.4, 0.5])
    shorter = replace(other, evaluations=[row for row in other.evaluations if row["step"] != 20])
    found = rows_by(RULES, [1], [own] * 2, [other, shorter])
    assert found["pass@1", "last"]["value"] == pytest.approx(0.5 - 0.35)


def test_the_end_may_have_more_samples_than_the_way():
    more = [{"key": "t1", "step": 30, "samples": 64, "correct": [right] * 8} for right in (32, 16)]
    found = rows_by(
        RULES, [1, 32], [run([0.1, 0.2, 0.4, 0.6], extra=more[:1])], [run([0.1, 0.2, 0.4, 0.6], extra=more[1:])]
    )
    assert {name for k, name in found if k == "pass@32"} == {"end"}
    row = found["pass@1", "best"]
    assert (row["samples"], row["samples_against"], found["pass@32", "end"]["samples_against"]) == (10, 10, 64)


def test_the_best_of_a_run_is_not_the_best_of_its_end():
    """Where the last evaluations alone have 32 samples, nothing is said of the best ones at 32."""
    more = [{"key": "t1", "step": step, "samples": 32, "correct": [8] * 8} for step in (20, 30)]
    plain = run([0.1, 0.2, 0.4, 0.6], extra=more)
    found = rows_by(RULES, [1, 32], [plain] * 2, [plain] * 2)
    assert {name for k, name in found if k == "pass@32"} == {"last", "end"}
    assert {name for k, name in found if k == "pass@1"} == {"last", "best", "end"}


def test_too_few_evaluations_answer_nothing():
    assert {name for _, name in rows_by(RULES, [1], [run([0.1])], [run([0.1, 0.2])])} == {"end"}
    assert rows_by(RULES, [32], [run([0.1, 0.2])], [run([0.1, 0.2])]) == {}


def test_questions_are_asked_of_the_seeds_that_both_have(tmp_path):
    tree = {
        "base": {"config": ["countdown-small"]},
        "arms": {"plain": {}, "held": {"config": ["algorithm1"]}},
        "parts": {"small": {"seeds": {"plain": [0, 1], "held": [0, 1]}}, "large": {"seeds": {"plain": [0, 1]}}},
        "questions": {"beats": {"of": ["small", "held"], "against": ["large", "plain"]}},
        "rules": {"setting": "t1", "window": 2},
    }
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(tree))
    protocol = load_protocol(str(tmp_path / "mine.yaml"))
    levels = {
        ("small", "held", 0): 0.5,
        ("small", "held", 1): 0.9,
        ("large", "plain", 0): 0.4,
        ("small", "plain", 1): 0.0,
    }
    records = [run([0.1, level, level], part=part, arm=arm, seed=seed) for (part, arm, seed), level in levels.items()]
    rows = list(decide(Study(protocol, records, [], [], TrainConfig())))
    found = next(row for row in rows if row["comparison"] == "last")
    assert (found["question"], found["against_part"], found["against"]) == ("beats", "large", "plain")
    assert found["seeds"] == 1
    assert found["value"] == pytest.approx(0.1)
    assert list(decide(Study(protocol, records[:2], [], [], TrainConfig()))) == []
    # The second seed of the other arm is not there yet.
    assert {row["verdict"] for row in rows if "verdict" in row} == {"incomplete"}
    records.append(run([0.1, 0.2, 0.2], part="large", arm="plain", seed=1))
    decided = {row["verdict"] for row in decide(Study(protocol, records, [], [], TrainConfig())) if "verdict" in row}
    assert decided == {"open"}
    shorter = [replace(records[0], evaluations=records[0].evaluations[1:]), *records[1:]]
    rows = decide(Study(protocol, shorter, [], [], TrainConfig()))
    assert {row["verdict"] for row in rows if "verdict" in row} == {"incomplete"}
    lacking = [replace(record, unevaluated=["more samples"]) for record in records]
    rows = decide(Study(protocol, lacking, [], [], TrainConfig()))
    assert {row["verdict"] for row in rows if "verdict" in row} == {"incomplete"}


def test_a_part_has_the_seeds_of_the_runs_that_it_reuses(tmp_path):
    tree = {
        "base": {"config": ["countdown-small"]},
        "arms": {"plain": {}, "held": {"config": ["algorithm1"]}},
        "parts": {"one": {"seeds": {"plain": [0, 3]}}, "two": {"seeds": {"held": [1]}, "reuse": {"plain": "one"}}},
    }
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(tree))
    protocol = load_protocol(str(tmp_path / "mine.yaml"))
    assert (protocol.seeds_of("two", "plain"), protocol.seeds_of("two", "held")) == ((0, 3), (1,))
