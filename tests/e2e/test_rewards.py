"""Several rewards in a run: what is trained on, logged, counted in evaluation and closed at the end."""

import sys

import pytest

import entrocraft

EVALUATION = {"evaluation.prompts": "4", "evaluation.at_start": "true", "evaluation.settings": "[t1]"}


def test_one_reward_of_weight_one_is_the_plain_run(tiny, plugins):
    plain = tiny({"reward.function": f"{plugins}:parity"})
    assert tiny({"reward.function": f"{{{plugins}:parity: 1.0}}"}).timeless == plain.timeless
    assert not any(name.startswith("reward/") for row in plain.rows for name in row["info"])


def test_rewards_are_added_up_and_logged_apart_and_the_first_one_judges(tiny, plugins):
    function = f"{{countdown: 1.0, {plugins}:parity: 0.5}}"
    both, alone = (tiny({"reward.function": name, **EVALUATION}) for name in (function, "countdown"))
    for row in both.rows:
        info = row["info"]
        means = [info["reward/countdown"], info[f"reward/{plugins}:parity"]]
        assert row["reward_mean"] == pytest.approx(means[0] + 0.5 * means[1], abs=1e-6)  # rewards are float32
        assert 0.1 < means[1] < 0.9
    # The same rollouts as a run with the judge alone, until the first update.
    assert both.rows[0]["info"]["reward/countdown"] == alone.rows[0]["reward_mean"]
    assert both.evaluations[0] == alone.evaluations[0]


CLOSING = """
class Closing:
    open = 0

    def __call__(self, prompts, completions, completion_ids, **columns):
        Closing.open = 1
        return [float(len(ids) % 2) for ids in completion_ids]

    def close(self):
        Closing.open -= 1
"""


def test_a_run_closes_what_it_built_and_not_what_it_was_given(tiny, tmp_path, monkeypatch):
    (tmp_path / "closing_reward.py").write_text(CLOSING)
    monkeypatch.syspath_prepend(tmp_path)
    tiny({"reward.function": "closing_reward:Closing"}, output=tmp_path / "built")
    reward = sys.modules["closing_reward"].Closing
    assert reward.open == 0
    settings = {"steps": 1, "rollout": {"prompts": 2, "group_size": 2}, "evaluation": {"prompts": 0}}
    entrocraft.train({**settings, "output": str(tmp_path / "given"), "algorithm": {"mini_batches": 1}}, reward())
    assert reward.open == 1
    sys.modules.pop("closing_reward")
