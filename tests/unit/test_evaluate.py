"""Held-out evaluation: pass@k by enumeration, bootstrap coverage, determinism, and what counts as distinct."""

import itertools
import math

import numpy as np
import pytest

from trainer.data import FilePrompts, TaskPrompts
from trainer.evaluate import Estimate, bootstrap, evaluate, judge, pass_at_k
from trainer.sampling import sample
from trainer.streams import TokenUniforms, numpy_stream, stream_seed
from trainer.tasks.countdown import Countdown, verify

PROMPTS = TaskPrompts(Countdown(), seed=0, split="test", held_out_seed=0)


@pytest.mark.parametrize("samples", [1, 2, 5, 7])
def test_pass_at_k_is_the_share_of_subsets_with_a_right_answer(samples):
    for correct, k in itertools.product(range(samples + 1), range(1, samples + 1)):
        answers = [True] * correct + [False] * (samples - correct)
        subsets = list(itertools.combinations(answers, k))
        share = sum(map(any, subsets)) / len(subsets)
        assert pass_at_k(samples, correct, k) == pytest.approx(share, abs=1e-12)


def test_pass_at_k_by_hand():
    assert pass_at_k(8, 2, 1) == pytest.approx(0.25)
    assert pass_at_k(5, 2, 2) == pytest.approx(1 - 3 / 10)
    assert pass_at_k(32, 0, 8) == 0.0
    assert pass_at_k(32, 25, 8) == 1.0  # only 7 wrong ones: 8 must hold a right one


@pytest.mark.parametrize(("samples", "k"), [(4, 5), (1, 8)])
def test_pass_at_k_refuses_more_than_were_drawn(samples, k):
    with pytest.raises(ValueError, match=rf"samples={samples}, k={k}.*k <= samples"):
        pass_at_k(samples, 1, k)


def test_bootstrap_intervals_cover_the_truth_as_often_as_they_say():
    # 300 data sets of 40 prompts with a skewed truth; 95 % less the small-sample loss of the percentile interval.
    # 0.90 and 0.99 are three standard errors, sqrt(0.95 * 0.05 / 300) = 0.0126, and more away from 0.95
    generator, truth = np.random.default_rng(1), 2 / 7
    covered = 0
    for data_set in range(300):
        estimate = bootstrap(generator.beta(2, 5, size=40).tolist(), generator=numpy_stream(0, "bootstrap", data_set))
        covered += estimate.low <= truth <= estimate.high
    assert 0.90 <= covered / 300 <= 0.99


def test_bootstrap_by_hand():
    values = [0.0] * 30 + [1.0] * 70
    estimate = bootstrap(values, generator=numpy_stream(0, "bootstrap"))
    spread = 1.96 * math.sqrt(0.7 * 0.3 / 100)
    assert estimate.value == pytest.approx(0.7, abs=1e-12)
    # quantiles of 2000 resamples, on a grid of 1/100: 0.01 of grid and 0.01 of noise
    assert (estimate.low, estimate.high) == pytest.approx((0.7 - spread, 0.7 + spread), abs=0.02)
    assert estimate == bootstrap(values, generator=numpy_stream(0, "bootstrap"))
    assert bootstrap([0.25] * 9, generator=numpy_stream(0, "other")) == Estimate(0.25, 0.25, 0.25)


def test_judge_counts_right_answers_and_how_many_of_them_differ():
    row = Countdown().as_row([3, 3, 7, 9], 63)
    judged = {
        "7 * 9 63": 1.0,
        "9 * 7 63": 1.0,  # the same
        "3 * 3 9 9 * 7 63": 1.0,
        "3 * 7 21 21 * 3 63": 1.0,
        "3 + 3 6 9 * 7 63": 1.0,  # the same as the first, after a step it does not need
        "7 * 9 62": 0.0,
        "7 + 9 16": 0.0,
    }
    assert [float(verify(row["numbers"], 63, text).correct) for text in judged] == list(judged.values())
    assert judge(PROMPTS, row, list(judged), list(judged.values())) == (5, 3)
    assert judge(PROMPTS, row, ["7 * 9 62"] * 3, [0.0] * 3) == (0, 0)


def test_judge_counts_no_distinct_answer_that_the_reward_calls_wrong():
    # a reward of the user's own may ask for more than the task's verifier
    row = Countdown().as_row([3, 3, 7, 9], 63)
    assert judge(PROMPTS, row, ["7 * 9 63", "3 * 7 21 21 * 3 63"], [0.0, 1.0]) == (1, 1)


def test_judge_of_prompts_from_a_file_goes_by_reward_and_text():
    source = FilePrompts([], {}, seed=0)
    texts = ["a ", " a", "b", "c", "c"]
    assert judge(source, {}, texts, [1.0, 0.5, 1.0, 0.0, -1.0]) == (3, 2)


def evaluate_shipped(policy, setting="t1", **options):
    settings = {"count": 10, "samples": 8, "max_new_tokens": 13, "seed": 0, **options}
    return evaluate(policy, PROMPTS, Countdown().reward, setting=setting, **settings)


@pytest.mark.parametrize("setting", ["t1", "paper"])
def test_evaluation_repeats_and_follows_the_seed(shipped, setting):
    first = evaluate_shipped(shipped, setting)
    assert first == evaluate_shipped(shipped, setting)
    assert first.correct != evaluate_shipped(shipped, setting, seed=1).correct
    assert first.setting == setting


def test_evaluation_does_not_depend_on_how_many_rows_are_sampled_at_once(shipped64):
    whole, done = evaluate_shipped(shipped64), []
    parts = evaluate_shipped(shipped64, report=done.append, rows_at_once=25)  # three prompts of eight samples
    assert done == [3, 3, 3, 1]
    assert (parts.correct, parts.distinct, parts.estimates) == (whole.correct, whole.distinct, whole.estimates)
    assert parts.entropy == pytest.approx(whole.entropy, abs=1e-6)  # the model's norms round to float32
    assert parts.response_length == pytest.approx(whole.response_length, abs=1e-12)


def test_evaluation_is_what_its_completions_say(shipped64):
    result = evaluate_shipped(shipped64)
    rows = PROMPTS.held_out_rows("test", 10)
    generator = TokenUniforms(stream_seed(0, "eval", "t1"))
    rollouts = sample(shipped64, shipped64.encode([row["prompt"] for row in rows]), 8, 13, generator=generator)
    texts = shipped64.decode(rollouts.completions())
    solutions = [
        [verify(row["numbers"], row["target"], text).solution for text in texts[8 * place : 8 * place + 8]]
        for place, row in enumerate(rows)
    ]
    right = [sum(solution is not None for solution in found) for found in solutions]
    assert result.correct == tuple(right)
    assert result.distinct == tuple(len(set(found) - {None}) for found in solutions)
    assert sum(right) > sum(result.distinct) > 0
    assert set(result.estimates) == {"pass@1", "pass@8", "distinct"}  # 32 were not drawn
    assert result.estimates["pass@1"].value == pytest.approx(sum(right) / 80, abs=1e-12)
    assert result.estimates["pass@8"].value == pytest.approx(sum(count > 0 for count in right) / 10, abs=1e-12)
    assert result.entropy == pytest.approx(rollouts.mean(rollouts.entropy_t1), abs=1e-6)
    assert result.response_length == pytest.approx(rollouts.lengths.double().mean().item(), abs=1e-12)
    for estimate in result.estimates.values():
        assert estimate.low <= estimate.value <= estimate.high


def test_evaluation_refuses_unknown_settings_and_says_none_without_prompts(shipped):
    with pytest.raises(ValueError, match=r"\['paper', 't1'\]; got 'greedy'"):
        evaluate_shipped(shipped, "greedy")
    nothing = FilePrompts([{"prompt": "1 :"}], {}, seed=0)
    options = {"count": 5, "samples": 2, "max_new_tokens": 5, "setting": "t1", "seed": 0}
    assert evaluate(shipped, nothing, Countdown().reward, **options) is None
