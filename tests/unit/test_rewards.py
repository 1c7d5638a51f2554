"""Scoring: what the reward function is given, and what it must not return."""

import math
import re

import numpy as np
import pytest
import torch

from trainer.rewards import score, signed

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

    rewards = score(reward, ROWS, TEXTS, IDS)
    assert rewards.tolist() == [[0.0, 0.5, 1.0], [-1.0, 2.0, 0.25]]
    assert seen == {
        "prompts": ["p"] * 3 + ["q"] * 3,
        "completions": TEXTS,
        "completion_ids": IDS,
        "answer": [1] * 3 + [2] * 3,
        "note": ["x"] * 3 + [None] * 3,
    }


def test_rewards_are_float32_in_a_run():
    torch.set_default_dtype(torch.float32)
    assert score_with([0, 1, True, False, 0.1, 2]).dtype == torch.float32


@pytest.mark.parametrize(
    "values",
    [torch.arange(6), np.arange(6, dtype=np.float32), tuple(range(6)), [np.int64(value) for value in range(6)]],
)
def test_rewards_may_come_in_any_form_that_holds_numbers(values):
    assert score_with(values).tolist() == [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]]


@pytest.mark.parametrize("values", [[], [1.0] * 5, [1.0] * 7, [[1.0] * 3] * 2])
def test_one_reward_a_completion_is_asked_for_by_name(values):
    with pytest.raises(ValueError, match=rf"score\(.*by_the_book\).*one reward a completion \(6\); got {len(values)}"):
        score_with(values)


@pytest.mark.parametrize("value", [None, math.nan, math.inf, -math.inf, "right", [1.0]])
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


def test_signed_maps_0_to_minus_1_and_1_to_1():
    rewards = torch.tensor([[0.0, 1.0, 0.25]])
    assert signed(rewards).tolist() == [[-1.0, 1.0, -0.5]]
    assert rewards.tolist() == [[0.0, 1.0, 0.25]]


@pytest.mark.parametrize("outside", [-1.0, -1e-6, 1.5])
def test_signed_refuses_rewards_outside_0_to_1(outside):
    with pytest.raises(ValueError, match=r"signed\(rewards\).*\[0, 1\].*reward\.convention: as_is"):
        signed(torch.tensor([[0.5, outside]]))
