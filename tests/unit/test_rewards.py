"""Scoring: what the reward function is given, and what it must not return."""

import math
import re

import numpy as np
import pytest
import torch

from trainer.rewards import Part, Rewards, judged, score, signed

ROWS = [{"prompt": "p", "answer": 1, "note": "x"}, {"prompt": "q", "answer": 2, "note": None}]
TEXTS, IDS = ["a", "b", "c", "d", "e", "f"], [[1], [2, 0], [3], [4], [5], [6, 6, 0]]


def score_with(values):
    def by_the_book(**columns):
        return values

    return score(by_the_book, ROWS, TEXTS, IDS)


def test_the_reward_function_gets_every_column_once_a_completion_in_order():
    seen = {}

    def reward(prompts, completions, completion_ids, **columns):
        seen.update(prompts=prompts, completions=completions, completion_ids=completion_ids, **columns)
        return [0.0, 0.5, 1.0, -1.0, 2.0, 0.25]

    scores = score(reward, ROWS, TEXTS, IDS)
    assert scores.total.tolist() == [[0.0, 0.5, 1.0], [-1.0, 2.0, 0.25]]
    assert seen == {
        "prompts": ["p"] * 3 + ["q"] * 3,
        "completions": TEXTS,
        "completion_ids": IDS,
        "answer": [1] * 3 + [2] * 3,
        "note": ["x"] * 3 + [None] * 3,
    }


def test_rewards_are_float32_in_a_run():
    torch.set_default_dtype(torch.float32)
    assert score_with([0, 1, True, False, 0.1, 2]).total.dtype == torch.float32


@pytest.mark.parametrize(
    "values",
    [torch.arange(6), np.arange(6, dtype=np.float32), tuple(range(6)), [np.int64(value) for value in range(6)]],
)
def test_rewards_may_come_in_any_form_that_holds_numbers(values):
    assert score_with(values).total.tolist() == [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]]


@pytest.mark.parametrize("values", [[], [1.0] * 5, [1.0] * 7, [[1.0] * 3] * 2])
def test_one_reward_a_completion_is_asked_for_by_name(values):
    with pytest.raises(ValueError, match=rf"score\(.*by_the_book\).*one reward a completion \(6\); got {len(values)}"):
        score_with(values)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, "right", [1.0]])
@pytest.mark.parametrize("index", [0, 4])
def test_what_is_no_finite_number_is_refused_with_name_and_index(value, index):
    values = [1.0] * 6
    values[index] = value
    message = rf"score\(.*by_the_book\).*got {re.escape(str(value))} for completion {index}, '{TEXTS[index]}'"
    with pytest.raises(ValueError, match=message):
        score_with(values)


class Judge:
    def __call__(self, **columns):
        return [math.nan] * 6


def test_a_callable_object_is_named_by_its_class():
    with pytest.raises(ValueError, match=re.escape("score(Judge)")):
        score(Judge(), ROWS, TEXTS, IDS)


@pytest.mark.parametrize("values", [None, (1.0 for _ in range(6)), 1.0])
def test_what_is_no_list_is_refused_by_name(values):
    with pytest.raises(ValueError, match="by_the_book"):
        score_with(values)


def part(name, values, weight=1.0):
    return Part(name, lambda **columns: values, weight)


def test_the_total_is_the_weighted_sum_of_those_that_answered():
    right = part("right", [1, 0, 1, None, None, 0])
    form = part("form", [1, 1, None, 1, -2, None], 0.25)
    scores = score(Rewards((right, form)), ROWS, TEXTS, IDS)
    assert scores.total.tolist() == [[1.25, 0.25, 1.0], [0.25, -0.5, 0.0]]
    assert list(scores.parts) == ["right", "form"]
    nan = math.nan
    for name, expected in {"right": [[1, 0, 1], [nan, nan, 0]], "form": [[1, 1, nan], [1, -2, nan]]}.items():
        assert torch.equal(scores.parts[name].nan_to_num(7.5), torch.tensor(expected).double().nan_to_num(7.5))
    # Means are over the completions that a function answered for, and not weighted.
    assert scores.info == {"reward/right": 0.5, "reward/form": 0.25}


def test_one_function_of_weight_one_is_the_total_to_the_last_bit_and_logs_no_mean():
    values = [0.1, 1 / 3, -0.7, 1e-30, 1e30, 0.0]
    scores = score_with(values)
    assert scores.total.flatten().tolist() == values
    assert scores.info == {}


@pytest.mark.parametrize("index", [0, 5])
def test_a_completion_that_no_function_answers_for_is_refused_by_name(index):
    values = [1.0] * 6
    values[index] = None
    words = rf"score\(a, b\).*None from every function for completion {index}, '{TEXTS[index]}'.*take the row out"
    with pytest.raises(ValueError, match=words):
        score(Rewards((part("a", values), part("b", values))), ROWS, TEXTS, IDS)


def test_a_total_must_be_finite():
    large = [1e38] * 6
    with pytest.raises(ValueError, match=r"score\(a, b\).*add up to finite.*Lower the weights"):
        score(Rewards((part("a", large, 3.0), part("b", large, 3.0))), ROWS, TEXTS, IDS)


def test_the_judge_is_the_first_function_alone():
    def never(**columns):
        raise AssertionError("called")

    rewards = Rewards((part("judge", [1, None, 0, 0, 1, 1], 0.1), Part("never", never)))
    values = judged(rewards, ROWS, TEXTS, IDS)
    assert (values > 0).tolist() == [[True, False, False], [False, True, True]]
    assert math.isnan(values[0, 1])


class Counting:
    """Fails on a text of its own."""

    failures = 3

    def __call__(self, completions, **columns):
        self.failures += completions.count("c")
        return [0.0] * len(completions)


def test_failures_are_those_of_this_batch():
    counting = Part("counting", Counting())
    for _ in range(2):
        scores = score(Rewards((counting, part("other", [1.0] * 6))), ROWS, TEXTS, IDS)
        assert scores.failures == {"counting": 1}
        assert scores.info == {"reward/counting": 0.0, "reward/other": 1.0, "reward/failures": 1.0}
    assert score(Rewards((counting,)), ROWS, TEXTS, IDS).info == {"reward/failures": 1.0}


def test_signed_maps_0_to_minus_1_and_1_to_1():
    rewards = torch.tensor([[0.0, 1.0, 0.25]])
    assert signed(rewards).tolist() == [[-1.0, 1.0, -0.5]]
    assert rewards.tolist() == [[0.0, 1.0, 0.25]]


@pytest.mark.parametrize("outside", [-1.0, -1e-6, 1.5])
def test_signed_refuses_rewards_outside_0_to_1(outside):
    with pytest.raises(ValueError, match=r"signed\(rewards\).*\[0, 1\].*reward\.convention: as_is"):
        signed(torch.tensor([[0.5, outside]]))
