"""What only shows once rewards are computed: the run stops with exit code 1, and what it has written is kept."""

import json
import sys

import pytest

REWARDS = '''
import math
import torch
calls = []


def at_second(bad):
    """A reward that is right in the first batch and bad in the second."""
    def reward(prompts, completions, completion_ids, **columns):
        calls.append(1)
        good = [float(sum(ids) % 2) for ids in completion_ids]
        return good if len(calls) == 1 else bad(good)
    return reward


nan = at_second(lambda good: [*good[:-1], math.nan])
infinite = at_second(lambda good: [-math.inf, *good[1:]])
nothing = at_second(lambda good: [None, *good[1:]])
text = at_second(lambda good: ["right", *good[1:]])
huge = at_second(lambda good: [1e39, *good[1:]])
short = at_second(lambda good: good[:-1])
long = at_second(lambda good: [*good, 1.0])
one_number = at_second(lambda good: 1.0)
none_at_all = at_second(lambda good: None)
negative = at_second(lambda good: [-1.0, *good[1:]])

def as_tensor(prompts, completions, completion_ids, **columns):
    return torch.tensor([sum(ids) % 2 for ids in completion_ids])

def as_list(prompts, completions, completion_ids, **columns):
    return [sum(ids) % 2 == 1 for ids in completion_ids]
'''


@pytest.fixture
def rewards(tmp_path, monkeypatch):
    """The name of a module with these rewards, freshly imported."""
    (tmp_path / "odd_rewards.py").write_text(REWARDS)
    monkeypatch.syspath_prepend(tmp_path)
    yield "odd_rewards"
    sys.modules.pop("odd_rewards", None)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("nan", ["finite", "nan", "completion 15"]),
        ("infinite", ["finite", "-inf", "completion 0"]),
        ("nothing", ["None", "completion 0", "take the row out"]),
        ("text", ["finite", "right", "completion 0"]),
        ("huge", ["finite", "completion 0"]),
        ("short", ["one reward a completion (16)", "got 15", "same length"]),
        ("long", ["one reward a completion (16)", "got 17", "same length"]),
        ("one_number", ["one reward a completion (16)"]),
        ("none_at_all", ["one reward a completion (16)"]),
    ],
)
def test_a_bad_reward_stops_the_run_and_keeps_it(tiny, tmp_path, rewards, command, name, words):
    settings = {"reward.function": f"{rewards}:{name}", "checkpoint.every": "1"}
    run = tiny(settings, output=tmp_path / "run", expect=1)
    message = run.said.rsplit("\r", 1)[-1]
    assert "Traceback" not in message
    assert [word for word in ["score", *words] if word not in message] == [], message
    assert [row["step"] for row in run.rows] == [0]
    assert run.last.name == "step_1"
    assert not (run.path / "summary.json").exists()
    assert json.loads((run.path / "environment.json").read_text())["seed"] == 0


def test_signed_rewards_must_be_from_0_to_1(tiny, tmp_path, rewards):
    settings = {"reward.function": f"{rewards}:negative", "reward.convention": "signed"}
    run = tiny(settings, output=tmp_path / "run", expect=1)
    assert "in [0, 1]" in run.said
    assert "reward.convention: as_is" in run.said
    assert len(run.rows) == 1


def test_the_released_filter_refuses_rewards_of_0_and_1(tiny, tmp_path, plugins):
    """Its negative branch would be empty."""
    settings = {"algorithm.filter": "released", "reward.function": f"{plugins}:parity"}
    run = tiny(settings, output=tmp_path / "run", expect=1)
    for word in ("released(rewards)", "signed", "Set reward.convention: signed"):
        assert word in run.said
    tiny({**settings, "reward.convention": "signed"})


def test_rewards_may_be_tensors_and_booleans(tiny, rewards, plugins):
    """Whatever holds one number a completion will do."""
    runs = [tiny({"reward.function": name}) for name in (f"{rewards}:as_tensor", f"{rewards}:as_list")]
    assert runs[0].timeless == runs[1].timeless == tiny({"reward.function": f"{plugins}:parity"}).timeless


def test_each_row_brings_its_own_columns(tmp_path, command, monkeypatch):
    """A column that only some rows have is None in the others, whichever row comes first."""
    rows = [{"prompt": f"{n} 2 3 4 7 :", **({"hint": n} if n % 2 else {})} for n in range(1, 9)]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "hinted.py").write_text(
        "seen = []\n"
        "def reward(prompts, completions, completion_ids, **columns):\n"
        "    seen.append((prompts, columns))\n"
        "    return [0.0] * len(completions)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    given = [f"--data.prompts={tmp_path / 'rows.jsonl'}", "--reward.function=hinted:reward", "--evaluation.prompts=0"]
    given += ["--rollout.max_new_tokens=4", "--rollout.prompts=2", "--algorithm.mini_batches=1", "--steps=4"]
    run = command("train", f"--output={tmp_path / 'run'}", *given)
    assert run.code == 0, run.said
    seen = sys.modules["hinted"].seen
    assert len(seen) == 4
    for prompts, columns in seen:
        assert columns == {"hint": [int(p[0]) if int(p[0]) % 2 else None for p in prompts]}


def test_a_line_of_json_may_hold_any_character(tmp_path, command, monkeypatch, plugins):
    """JSON allows U+2028, U+2029 and U+0085 inside a string; only a newline ends a line."""
    rows = [{"prompt": "1 2 3 4 7 :", "note": f"one{c}two"} for c in "\u2028\u2029\u0085"]
    text = "\r\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    (tmp_path / "rows.jsonl").write_bytes(text.encode())
    given = [f"--data.prompts={tmp_path / 'rows.jsonl'}", f"--reward.function={plugins}:parity", "--steps=1"]
    run = command("train", f"--output={tmp_path / 'run'}", *given, "--rollout.max_new_tokens=4")
    assert run.code == 0, run.said
