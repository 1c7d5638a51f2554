"""The rollout engine as a run's settings choose it: slots, stop texts, and an engine of the user's own."""

import sys

import pytest

ENGINE = '''
"""A user's own engine: the built-in one, that remembers what it was asked for."""

from trainer.sampling import sample

asked = []


class Remembering:
    def __call__(self, policy, prompts, *arguments, **options):
        asked.append((len(prompts), options.get("stop"), options.get("slots")))
        return sample(policy, prompts, *arguments, **options)
'''
SMALL = {"steps": "1", "evaluation.prompts": "3", "evaluation.settings": '["t1"]'}


@pytest.fixture(scope="module")
def own_engine(tmp_path_factory):
    folder = tmp_path_factory.mktemp("engine")
    (folder / "users_engine.py").write_text(ENGINE)
    sys.path.append(str(folder))
    yield "users_engine"
    sys.path.remove(str(folder))


def test_slots_change_nothing_but_rounding(tiny):
    whole, some = tiny(SMALL), tiny({**SMALL, "rollout.slots": "6"})
    assert [row["completion"] for row in some.rollouts(0)] == [row["completion"] for row in whole.rollouts(0)]
    for name in ("entropy", "reward_mean", "response_length", "finished_fraction"):
        assert some.rows[0][name] == pytest.approx(whole.rows[0][name], abs=1e-6)


def test_stop_texts_end_completions_in_training_and_evaluation(tiny):
    whole, stopped = tiny(SMALL), tiny({**SMALL, "rollout.stop": '["+"]'})
    before, after = ([row["completion"] for row in run.rollouts(0)] for run in (whole, stopped))
    ends = [text.find("+") for text in before]
    assert after == [text[: end + 1] if end >= 0 else text for text, end in zip(before, ends, strict=True)]
    assert any(0 <= end < len(text) - 1 for text, end in zip(before, ends, strict=True))
    lengths = [run.evaluations[-1]["estimates"]["response_length"]["value"] for run in (whole, stopped)]
    assert lengths[1] < lengths[0]


def test_an_engine_of_ones_own_samples_in_training_and_evaluation(tiny, own_engine):
    chosen = {"rollout.engine": f"{own_engine}:Remembering", "rollout.slots": "7", "rollout.stop": '["+"]'}
    run, plain = tiny({**SMALL, **chosen}), tiny({**SMALL, "rollout.stop": '["+"]'})
    assert [row["completion"] for row in run.rollouts(0)] == [row["completion"] for row in plain.rollouts(0)]
    asked = sys.modules[own_engine].asked
    assert asked[0] == (4, ("+",), 7)
    assert asked[1:] == [(3, ("+",), None)]


def test_an_unknown_engine_is_refused_before_the_run_directory_is_made(tiny, tmp_path):
    run = tiny({**SMALL, "rollout.engine": "vlm"}, output=tmp_path / "run", expect=1)
    assert "rollout.engine='vlm' must be one of ['cache'], or module:name of your own" in run.said
    assert not run.path.exists()
