"""What may change a run's numbers, and what may not: seed, theory, a filter that keeps everything."""

import pytest

from trainer.columns import COLUMNS
from trainer.data import build_prompts
from trainer.parsing import load_config

THEORY = {name for name in COLUMNS if name.startswith(("dH_", "sign_rule", "condition_", "delta_p", "effective_delta"))}


def without_theory(rows):
    return [{name: value for name, value in row.items() if name not in THEORY} for row in rows]


@pytest.fixture(scope="module")
def learning(plugins):
    """Settings under which every step has mixed groups and the filter bites."""
    learn = {"reward.function": f"{plugins}:parity", "optimizer.learning_rate": "1e-3"}
    return {**learn, "evaluation.prompts": "4", "evaluation.at_start": "true"}


def test_one_seed_gives_one_run(tiny, learning, tmp_path, base_weights):
    first, second = tiny(learning), tiny(learning, output=tmp_path / "again")
    assert first.path != second.path
    assert first.timeless == second.timeless
    assert first.evaluations == second.evaluations
    assert [row["step"] for row in first.evaluations] == [0, 0, 3, 3]
    assert first.weights == second.weights
    assert first.weights != base_weights
    assert [first.rollouts(step) for step in range(3)] == [second.rollouts(step) for step in range(3)]


def test_another_seed_gives_another_run(tiny, learning):
    first, other = tiny(learning), tiny({**learning, "seed": "1"})
    assert [row["entropy"] for row in first.rows] != [row["entropy"] for row in other.rows]
    assert first.weights != other.weights
    assert first.rollouts(0)[0]["prompt"] != other.rollouts(0)[0]["prompt"]
    assert first.evaluations[0]["per_prompt"] != other.evaluations[0]["per_prompt"]


def test_the_held_out_prompts_do_not_depend_on_the_runs_seed():
    """Runs are compared on the same prompts: the evaluation has a seed of its own."""
    first, other = (build_prompts(load_config("--seed", seed)).held_out_rows("test", 4) for seed in "01")
    assert first == other
    assert first != build_prompts(load_config("--evaluation.seed", "1")).held_out_rows("test", 4)


@pytest.mark.parametrize(
    "changed", [{"theory.enabled": "false"}, {"theory.second_order": "true", "theory.condition": "true"}]
)
def test_theory_leaves_the_training_alone_to_the_last_bit(tiny, learning, changed):
    plain, other = tiny(learning), tiny({**learning, **changed})
    assert plain.weights == other.weights
    assert without_theory(plain.timeless) == without_theory(other.timeless)
    assert plain.evaluations == other.evaluations
    off = "theory.enabled" in changed
    assert all((row["dH_measured"] is None) == off for row in other.rows)
    assert all((row["dH_second_order"] is None) == off for row in other.rows)
    assert all(row["dH_second_order"] is None for row in plain.rows)
    assert all((row["condition_tokens"] is None) == off for row in other.rows)
    assert all(row["condition_tokens"] is None for row in plain.rows)


@pytest.mark.parametrize("changed", ["filter", "token_weight"])
def test_a_method_that_changes_nothing_changes_nothing(tiny, learning, plugins, changed):
    own = {"filter": f"{plugins}:keep_all", "token_weight": f"{plugins}:ones"}[changed]
    plain, other = tiny(learning), tiny({**learning, f"algorithm.{changed}": own})
    assert plain.timeless == other.timeless
    assert plain.weights == other.weights


def test_filtered_and_unfiltered_runs_share_prompts_and_first_rollouts(tiny, learning):
    """Baseline and control are compared from the same start."""
    above = {"band.schedule": "constant", "band.unit": "nats", "band.start": "[0.01,0.02]"}
    plain, filtered = tiny(learning), tiny({**learning, **above, "algorithm.filter": "algorithm1"})
    assert [row["completion"] for row in plain.rollouts(0)] == [row["completion"] for row in filtered.rollouts(0)]
    assert [row["weight"] for row in plain.rollouts(0)] != [row["weight"] for row in filtered.rollouts(0)]
    assert [row["prompt"] for row in plain.rollouts(2)] == [row["prompt"] for row in filtered.rollouts(2)]
    assert plain.weights != filtered.weights
