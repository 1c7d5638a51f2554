"""The built-in rewards on hand-worked cases, and how a configuration names them."""

import importlib.util
import sys

import pytest

from trainer.data import FilePrompts
from trainer.parsing import config_from
from trainer.rewards import BUILTIN, Part, Rewards, build_reward, check_rewards
from trainer.rewards.answers import GSM8K, exact_match
from trainer.rewards.boxed_math import BoxedMath, gold_answer, last_boxed
from trainer.rewards.shape import Format, Overlong


def one(reward, completion, **columns):
    """The reward of one completion."""
    return reward(["p"], [completion], [[1, 2, 0]], **{name: [value] for name, value in columns.items()})[0]


@pytest.mark.parametrize(
    ("completion", "answer", "expected"),
    [("yes", "yes", 1), (" yes\n", "yes", 1), ("Yes", "yes", 0), ("yes.", "yes", 0), ("7", 7, 1), ("", "", 1)],
)
def test_exact_match(completion, answer, expected):
    assert one(exact_match, completion, answer=answer) == expected


GOLD = "She makes 9 * 2 = $<<9*2=18>>18 every day.\n#### 1,234"


@pytest.mark.parametrize(
    ("completion", "answer", "expected"),
    [
        ("#### 1234", GOLD, 1),
        ("so 1,200 + 34\n#### $1,234.00.", GOLD, 1),
        ("####1234 dollars", GOLD, 1),
        ("####\n1234", GOLD, 1),
        ("#### 7\nno:\n#### 1234\nThat took 2 steps.", GOLD, 1),
        ("#### 1,000 + 234 = 1234", GOLD, 1),
        ("#### 1234.5", GOLD, 0),
        ("#### -1234", GOLD, 0),
        ("#### 12,34", GOLD, 0),
        ("#### 1234 of 1235", GOLD, 0),
        ("The answer is 1234", GOLD, 0),
        ("#### none\n1234", GOLD, 0),
        ("", GOLD, 0),
        ("#### 5", 5, 1),
        ("#### 5", 5.0, 1),
        ("#### 5", "5", 1),
        ("#### 0.50", "0.5", 1),
        ("#### .5", "0.5", 1),
        ("#### -$5", "#### -5", 1),
        ("#### $-5", "-5", 1),
        ("#### \u22125", "-5", 1),
        ("#### -\\$5", "-5", 1),
        ("#### 10-5", "5", 1),
        ("#### - 5 apples", "5", 1),
        ("#### 10-5", "-5", 0),
        ("#### 1,000,000", "1000000", 1),
        ("#### 1, 2, 3", "3", 1),
        ("#### 1,2,3", "3", 1),
        ("#### 1,0120", "120", 1),
        ("#### 5%", "5", 1),
    ],
)
def test_gsm8k_takes_the_last_number_on_the_marked_line(completion, answer, expected):
    assert one(GSM8K(), completion, answer=answer) == expected
    assert one(GSM8K(), completion, answer=None) is None


@pytest.mark.parametrize(
    ("completion", "expected"),
    [("2 + 3 is 5.", 1), ("5 is 2 + 3", 0), ("#### 5\n6", 1), ("5\n#### so\n", 1), ("five", 0)],
)
def test_gsm8k_may_fall_back_on_the_last_number(completion, expected):
    assert one(GSM8K(last_number=True), completion, answer="#### 5") == expected


@pytest.mark.parametrize("answer", ["five", "5 apples\n#### none", ""])
def test_gsm8k_refuses_an_answer_without_a_number(answer):
    with pytest.raises(ValueError, match=r"gsm8k\(answer=.*must hold a number.*data\.columns"):
        GSM8K().check([{"answer": None}, {}, {"answer": "#### 5"}, {"answer": answer}])


@pytest.mark.parametrize(
    ("completion", "expected"),
    [
        ("<think>6\n* 7</think>\n<answer>42</answer>\n", 1),
        (" <think>a</think><answer>b</answer>", 1),
        ("so \\boxed{42}.", 1),
        ("\\boxed{}", 0),
        ("<think>a</think> 42", 0),
        ("<answer>b</answer>", 0),
        ("<think>a</think> <answer>b</answer> and more", 0),
        ("", 0),
    ],
)
def test_the_default_format(completion, expected):
    assert one(Format(), completion) == expected


def test_a_format_of_ones_own():
    assert one(Format(r"\A####.5\Z"), "####\n5") == 1
    assert one(Format(r"\A####.5\Z"), "####\n55") == 0
    with pytest.raises(ValueError, match=r"format\(pattern='\('\) must be a regular expression"):
        Format("(")


@pytest.mark.parametrize(("tokens", "expected"), [(0, 0), (16384, 0), (17408, -0.25), (20480, -1), (30000, -1)])
def test_overlong_is_dapos_punishment(tokens, expected):
    """L_max = 20480 and L_cache = 4096, as in the paper."""
    for reward in (Overlong(20480, 4096), Overlong(20480)):
        assert reward([None], [""], [[0] * tokens]) == [expected]


@pytest.mark.parametrize(("limit", "buffer"), [(0, 0), (10, -1), (10, 11)])
def test_overlong_refuses_sizes_that_cannot_be(limit, buffer):
    with pytest.raises(ValueError, match=rf"overlong\(limit={limit}, buffer={buffer}\).*reward\.options\.overlong"):
        Overlong(limit, buffer)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (r"\boxed{5}", "5"),
        (r"\boxed{1} then \boxed{\frac{1}{2}}.", r"\frac{1}{2}"),
        (r"\boxed{\{1, 2\}}", r"\{1, 2\}"),
        (r"\boxed{1} then \boxed{2", None),
        (r"\boxed{\}", None),
        ("5", None),
    ],
)
def test_the_last_box(text, expected):
    assert last_boxed(text) == expected


@pytest.mark.parametrize(
    ("gold", "expected"),
    [
        ("5", "5"),
        ("$\\frac12$", "\\frac12"),
        ("$18", "18"),
        ("5\\$", "5\\$"),
        ("so\n#### 5", "5"),
        ("\\boxed{4}, so \\boxed{5}.", "5"),
    ],
)
def test_what_a_gold_answer_says(gold, expected):
    assert gold_answer(gold) == expected


def built(function, **settings):
    return build_reward(config_from({"reward": {"function": function, **settings}}))


def test_a_name_is_one_reward_of_weight_one_and_null_the_tasks_own():
    rewards = built("gsm8k")
    assert rewards == Rewards((Part("gsm8k", GSM8K(), 1.0),))
    (own,) = built(None).parts
    assert one(own.function, "7 * 9 63", numbers=[3, 7, 2, 9], target=63) == 1
    assert own.name == "countdown"


def test_several_rewards_keep_their_order_weights_and_options():
    rewards = built({"format": 0.2, "overlong": -1}, options={"overlong": {"limit": 10, "buffer": 5}})
    assert rewards == Rewards((Part("format", Format(), 0.2), Part("overlong", Overlong(10, 5), -1.0)))


def test_the_deadline_is_a_setting_of_the_run():
    assert built("boxed_math", timeout_s=0.5).judge.function == BoxedMath(0.5)


@pytest.mark.parametrize("name", BUILTIN)
def test_every_built_in_has_the_shared_signature_and_says_what_it_needs(name):
    options = {"overlong": {"limit": 10}}.get(name)
    rewards = built({"exact_match": 1, name: 1}, options={name: options} if options else {})
    check_rewards(rewards, prompts(answer="#### 5", numbers=[1], target=5))
    if name not in ("format", "overlong"):
        with pytest.raises(ValueError, match=f"reward {name} needs column .*the prompts have \\['note'\\]"):
            check_rewards(Rewards(rewards.parts[-1:]), prompts(note="x"))


def prompts(held_out=None, **columns):
    return FilePrompts([{"prompt": "p", **columns}], {} if held_out is None else {"test": [held_out]}, seed=0)


def test_what_a_functions_signature_says_of_columns_is_checked():
    def takes_all(prompts, completions, completion_ids, answer, note=None, **columns): ...

    def takes_two(prompts, completions, completion_ids, answer): ...

    check_rewards(Rewards.of(takes_all), prompts(answer=1, other=2))
    check_rewards(Rewards.of(takes_two), prompts(answer=1))
    with pytest.raises(ValueError, match=r"takes_all needs column 'answer'; the prompts have \['other'\]"):
        check_rewards(Rewards.of(takes_all), prompts(other=2))
    with pytest.raises(ValueError, match=r"takes_two must take every column.*'other'.*\*\*columns"):
        check_rewards(Rewards.of(takes_two), prompts(answer=1, other=2))
    # A callable that does not tell its signature is taken at its word.
    check_rewards(Rewards.of(type), prompts(answer=1))


def test_held_out_prompts_need_the_judges_columns_alone():
    rewards = built({"gsm8k": 1, "exact_match": 1})
    check_rewards(rewards, prompts(answer="5", held_out={"prompt": "q", "answer": "6"}))
    with pytest.raises(ValueError, match="reward gsm8k needs column 'answer'"):
        check_rewards(rewards, prompts(answer="5", held_out={"prompt": "q"}))
    with pytest.raises(ValueError, match=r"gsm8k\(answer='six'\)"):
        check_rewards(rewards, prompts(answer="5", held_out={"prompt": "q", "answer": "six"}))
    rewards = built({"format": 1, "gsm8k": 1})
    check_rewards(rewards, prompts(answer="5", held_out={"prompt": "q"}))


def test_without_math_verify_the_extra_is_named(monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "math_verify" else find(name))
    with pytest.raises(ImportError, match=r"math-verify.*entrocraft\[math\]"):
        built("boxed_math")


def test_a_class_of_ones_own_takes_options(tmp_path, monkeypatch):
    (tmp_path / "own_reward.py").write_text(
        "class Share:\n"
        "    def __init__(self, word='a'):\n"
        "        self.word = word\n"
        "    def __call__(self, prompts, completions, completion_ids, **columns):\n"
        "        return [text.split().count(self.word) / len(text.split()) for text in completions]\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    name = "own_reward:Share"
    assert one(built(name).judge.function, "a b b b") == 0.25
    assert one(built(name, options={name: {"word": "b"}}).judge.function, "a b b b") == 0.75
    with pytest.raises(ValueError, match=r"reward\.options\.own_reward:Share=.*\['word'\]; got 'wort'"):
        built(name, options={name: {"wort": "b"}})
    sys.modules.pop("own_reward")
