"""Sampling settings of evaluation: built-in ones, the user's own, and what is refused."""

from dataclasses import replace

import pytest

from trainer.config import EvaluationConfig
from trainer.evaluation_settings import Setting, build_settings, evaluation_keys
from trainer.parsing import load_config
from trainer.sampling import Sampling

WARM = {"warm": {"temperature": 0.8, "top_p": 0.9, "top_k": 40.0}}


def test_the_default_settings_are_temperature_1_and_the_papers():
    assert build_settings(EvaluationConfig()) == (
        Setting("t1", Sampling(1.0, 1.0, 0), 32, (1, 8, 32)),
        Setting("paper", Sampling(0.6, 0.95, 20), 32, (1, 8, 32)),
    )


def test_settings_of_ones_own_are_sampled_as_they_say():
    config = EvaluationConfig(settings=("warm", "cold"), sampling={**WARM, "cold": {"temperature": 0.5}}, samples=16)
    warm, cold = build_settings(config)
    assert warm == Setting("warm", Sampling(0.8, 0.9, 40), 16, (1, 8))
    assert cold.sampling == Sampling(0.5, 1.0, 0)


def test_evaluations_are_called_by_their_set_where_it_has_a_name():
    config = load_config("--evaluation.settings=[t1,greedy]")
    assert evaluation_keys(config) == ["t1", "greedy"]
    two = replace(config, data=replace(config.data, prompts="a.jsonl", held_out={"x": "b.jsonl", "y": "c.jsonl"}))
    assert evaluation_keys(two) == ["x/t1", "x/greedy", "y/t1", "y/greedy"]


def test_greedy_draws_one_sample():
    config = EvaluationConfig(settings=("greedy", "best"), sampling={"best": {"top_k": 1.0}})
    assert [(found.samples, found.pass_at) for found in build_settings(config)] == [(1, (1,))] * 2


@pytest.mark.parametrize(
    ("samples", "pass_at", "expected"),
    [(32, (), (1, 2, 4, 8, 16, 32)), (12, (), (1, 2, 4, 8)), (1, (), (1,)), (8, (5, 3, 3), (1, 3, 5)), (2, (8,), (1,))],
)
def test_pass_at(samples, pass_at, expected):
    config = EvaluationConfig(samples=samples, pass_at=pass_at, settings=("t1",))
    assert build_settings(config)[0].pass_at == expected


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"temperature": 0.0}, r"evaluation\.sampling\.mine.*temperature > 0"),
        ({"top_p": 1.5}, r"evaluation\.sampling\.mine.*top_p <= 1"),
        ({"top_k": -1.0}, r"evaluation\.sampling\.mine.*top_k >= 0"),
        ({"top_k": 2.5}, r"evaluation\.sampling\.mine\.top_k=2\.5 must be a whole number"),
        ({"top_k": float("nan")}, r"evaluation\.sampling\.mine\.top_k=nan"),
        ({"topp": 0.9}, r"evaluation\.sampling\.mine must be of .*got 'topp'. Did you mean 'top_p'"),
    ],
)
def test_values_outside_their_range_are_refused_by_name_though_not_chosen(values, message):
    with pytest.raises(ValueError, match=message):
        build_settings(EvaluationConfig(sampling={"mine": values}))


def test_a_built_in_name_is_not_given_another_meaning():
    with pytest.raises(ValueError, match=r"names of its own; got \['paper'\]"):
        build_settings(EvaluationConfig(sampling={"paper": {"temperature": 1.0}}))


def test_the_papers_preset():
    chosen = load_config("--config", "paper-evaluation").evaluation
    assert chosen.every == 5
    assert build_settings(chosen) == (Setting("paper", Sampling(0.6, 0.95, 20), 32, (1, 8, 32)),)
