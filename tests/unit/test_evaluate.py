"""Held-out evaluation: what its numbers say of the completions, determinism, and what counts as the same answer."""

import itertools

import pytest

from trainer.data import FilePrompts, TaskPrompts
from trainer.estimators import bootstrap, majority_at_k
from trainer.evaluate import blocks, count_distinct, evaluate, evaluate_settings, vote
from trainer.evaluation_settings import Setting
from trainer.parsing import config_from
from trainer.rewards import Part, Rewards
from trainer.rewards.answers import GSM8K
from trainer.rewards.boxed_math import BoxedMath
from trainer.sampling import Sampling, sample
from trainer.streams import TokenUniforms, numpy_stream, stream_seed
from trainer.tasks.countdown import Countdown, verify

PROMPTS = TaskPrompts(Countdown(), seed=0, split="test", held_out_seed=0)
T1 = Setting("t1", Sampling(), 8, (1, 8))
PAPER = Setting("paper", Sampling(0.6, 0.95, 20), 8, (1, 8))
ROW = Countdown().as_row([3, 3, 7, 9], 63)


def test_distinct_right_answers_are_told_apart_by_the_tasks_canonical_form():
    judged = {
        "7 * 9 63": True,
        "9 * 7 63": True,  # the same
        "3 * 3 9 9 * 7 63": True,
        "3 * 7 21 21 * 3 63": True,
        "3 + 3 6 9 * 7 63": True,  # the same as the first, after a step it does not need
        "7 * 9 62": False,
        "7 + 9 16": False,
    }
    assert [verify(ROW["numbers"], 63, text).correct for text in judged] == list(judged.values())
    assert count_distinct(PROMPTS, ROW, list(judged), list(judged.values())) == 3
    assert count_distinct(PROMPTS, ROW, ["7 * 9 62"] * 3, [False] * 3) == 0


def test_no_distinct_answer_is_one_that_the_reward_calls_wrong():
    # a reward of the user's own may ask for more than the task's verifier
    assert count_distinct(PROMPTS, ROW, ["7 * 9 63", "3 * 7 21 21 * 3 63"], [False, True]) == 1


def test_distinct_answers_to_prompts_from_a_file_go_by_text():
    source = FilePrompts([], {}, seed=0)
    assert count_distinct(source, {}, ["a ", " a", "b", "c", "c"], [True, True, True, False, False]) == 2


class Extracting:
    """A judge that says which answer it read: the last word, if it is a number."""

    def __call__(self, prompts, completions, completion_ids, **columns):
        return [float(text.endswith("4")) for text in completions]

    def answer(self, completion):
        last = completion.split()[-1]
        return last if last.isdigit() else None


def test_votes_go_to_the_canonical_form_then_to_what_the_judge_reads_then_to_the_text():
    plain, source = Countdown().reward, FilePrompts([], {}, seed=0)
    assert vote(PROMPTS, ROW, plain, "9 * 7 63", True) == vote(PROMPTS, ROW, plain, "7 * 9 63", True) == "(7*9)"
    assert vote(PROMPTS, ROW, plain, " 7 * 9 62 ", False) == "7 * 9 62"
    assert vote(PROMPTS, ROW, Extracting(), "7 * 9 62", False) == "62"
    assert vote(source, {}, Extracting(), "two and two is 4", True) == "4"
    assert vote(source, {}, Extracting(), "I do not know", False) is None
    assert vote(source, {}, Extracting(), "so A4 ", True) == "so A4"  # right without an answer: it has a vote
    assert vote(source, {}, plain, " same ", False) == "same"


@pytest.mark.parametrize(
    ("judge", "completion", "expected"),
    [
        (GSM8K(), "so #### $1,000.00 in all", "1000"),
        (GSM8K(), "#### 1e3 or 2.50", "2.5"),
        (GSM8K(), "#### -0", "0"),
        (GSM8K(), "it is 4", None),
        (GSM8K(last_number=True), "it is 4", "4"),
        (BoxedMath(), r"\boxed{1} or \boxed{ \frac{1}{2}  m }", r"\frac{1}{2} m"),
        (BoxedMath(), r"\boxed{ }", None),
        (BoxedMath(), "4", None),
    ],
)
def test_built_in_judges_say_what_they_read(judge, completion, expected):
    assert vote(FilePrompts([], {}, seed=0), {}, judge, completion, False) == expected


def test_the_first_of_several_rewards_judges(shipped):
    """Its rewards say what is right, None is not; its `answer` gives the wrong ones no vote, so any right one wins."""

    def never(prompts, completions, completion_ids, **columns):
        return [1.0] * len(completions)

    class First:
        failures = 2

        def __call__(self, prompts, completions, completion_ids, **columns):
            self.failures += len(completions)
            return [1.0 if len(ids) % 2 else None for ids in completion_ids]

        def answer(self, completion):
            return None

    rewards = Rewards((Part("first", First()), Part("never", never, 5.0)))
    rows = PROMPTS.held_out_rows("test", 3)
    found = evaluate(shipped, FilePrompts([], {}, 0), rows, rewards, T1, held_out="x", max_new_tokens=6, seed=0)
    assert 0 < sum(found.correct) < 24
    assert found.failures == 24  # those of this evaluation
    assert found.per_prompt["maj@8"] == pytest.approx([float(count > 0) for count in found.correct])


def test_an_answer_that_is_no_text_is_refused():
    class Numbers(Extracting):
        def answer(self, completion):
            return 4

    with pytest.raises(ValueError, match=r"answer\(completion\) must return text or None; got a int for 'so 4'"):
        vote(FilePrompts([], {}, seed=0), {}, Numbers(), "so 4", True)


def evaluate_shipped(policy, setting=T1, count=10, **options):
    settings = {"max_new_tokens": 13, "seed": 0, "held_out": "test", **options}
    return evaluate(policy, PROMPTS, PROMPTS.held_out_rows("test", count), Countdown().reward, setting, **settings)


@pytest.mark.parametrize("setting", [T1, PAPER], ids=["t1", "paper"])
def test_evaluation_repeats_and_follows_the_seed(shipped, setting):
    first = evaluate_shipped(shipped, setting)
    assert first == evaluate_shipped(shipped, setting)
    assert first.correct != evaluate_shipped(shipped, setting, seed=1).correct
    assert (first.key, first.set, first.setting) == (setting.name, "test", setting.name)


def test_sets_of_a_name_have_streams_of_their_own(shipped):
    named = evaluate_shipped(shipped, key="easy/t1")
    assert named.key == "easy/t1"
    assert named.correct != evaluate_shipped(shipped).correct
    assert named.correct != evaluate_shipped(shipped, key="hard/t1").correct


@pytest.mark.parametrize("rows_at_once", [25, 5])  # three prompts of eight samples; a prompt's in parts of 5 and 3
def test_evaluation_does_not_depend_on_how_many_rows_are_sampled_at_once(shipped64, rows_at_once):
    whole, done = evaluate_shipped(shipped64, count=4), []
    parts = evaluate_shipped(shipped64, count=4, report=done.append, rows_at_once=rows_at_once)
    assert done == [1] * 4
    assert (parts.correct, parts.distinct) == (whole.correct, whole.distinct)
    for name, estimate in whole.estimates.items():  # the model's norms round to float32
        assert parts.estimates[name].value == pytest.approx(estimate.value, abs=1e-6)


@pytest.mark.parametrize(("prompts", "samples", "rows"), [(5, 2, 4), (5, 8, 3), (1, 1, 1), (3, 4, 100), (2, 6, 6)])
def test_blocks_cover_every_row_once_and_hold_no_more_than_asked(prompts, samples, rows):
    found = list(blocks(prompts, samples, rows))
    assert all(len(places) * len(drawn) <= rows for places, drawn in found)
    covered = [pair for places, drawn in found for pair in itertools.product(places, drawn)]
    assert sorted(covered) == list(itertools.product(range(prompts), range(samples)))
    # a prompt's samples come in order, and no other prompt's between them
    assert [place for place, _ in covered] == sorted(place for place, _ in covered)


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
    names = ["pass@1", "pass@8", "maj@8", "distinct", "response_length", "finished", "entropy"]
    assert list(result.estimates) == names
    assert {*result.per_prompt, "distinct"} == set(names)
    value = {name: estimate.value for name, estimate in result.estimates.items()}
    assert value["pass@1"] == pytest.approx(sum(right) / 80, abs=1e-12)
    assert value["pass@8"] == pytest.approx(sum(count > 0 for count in right) / 10, abs=1e-12)
    majorities = [
        majority_at_k(
            [solution or text for solution, text in zip(found, texts[8 * place :], strict=False)],
            [solution is not None for solution in found],
            8,
        )
        for place, found in enumerate(solutions)
    ]
    assert value["maj@8"] == pytest.approx(sum(majorities) / 10, abs=1e-12)
    assert value["pass@1"] != value["maj@8"] != value["pass@8"]
    assert value["entropy"] == pytest.approx(rollouts.mean(rollouts.entropy_t1), abs=1e-6)
    assert value["response_length"] == pytest.approx(rollouts.lengths.double().mean().item(), abs=1e-12)
    assert value["finished"] == pytest.approx(rollouts.finished.double().mean().item(), abs=1e-12)
    assert 0 < value["finished"] < 1
    for estimate in result.estimates.values():
        assert estimate.low <= estimate.value <= estimate.high


def test_all_intervals_of_a_set_come_from_the_same_resampled_prompts(shipped):
    """So that the interval of a difference is that of the differences per prompt."""
    first, second = evaluate_shipped(shipped), evaluate_shipped(shipped, PAPER, seed=1)
    for result in (first, second):
        for name in ("pass@8", "maj@8", "finished"):
            again = bootstrap(result.per_prompt[name], generator=numpy_stream(0, "bootstrap", "test"))
            assert result.estimates[name] == again
    other = evaluate_shipped(shipped, resample_seed=1)
    assert other.correct == first.correct
    assert other.estimates["pass@1"] != first.estimates["pass@1"]


def test_greedy_takes_the_likeliest_token(shipped):
    found = [evaluate_shipped(shipped, Setting("greedy", Sampling(top_k=1), 1, (1,)), seed=seed) for seed in (0, 1)]
    assert found[0].per_prompt == found[1].per_prompt
    assert list(found[0].estimates) == ["pass@1", "distinct", "response_length", "finished", "entropy"]


SETS = {"easy": [{"prompt": "1 1 2 2 3 :"}], "hard": [{"prompt": "9 8 7 6 90 :"}, {"prompt": "1 2 3 4 50 :"}]}


def odd(prompts, completions, completion_ids, **columns):
    return [float(len(ids) % 2) for ids in completion_ids]


def test_every_set_is_evaluated_in_every_setting_as_it_comes(shipped):
    settings = {
        "data": {"prompts": "p.jsonl", "held_out": {"easy": "e.jsonl", "hard": "h.jsonl"}},
        "rollout": {"max_new_tokens": 5},
        "evaluation": {"samples": 4, "settings": ["t1", "warm"], "sampling": {"warm": {"temperature": 0.8}}},
    }
    scored = []

    def counting(prompts, completions, completion_ids, **columns):
        scored.append(len(completions))
        return odd(prompts, completions, completion_ids)

    results = evaluate_settings(shipped, FilePrompts([], SETS, seed=0), counting, config_from(settings))
    assert scored == []
    first = next(results)
    assert scored == [4]  # the others wait until they are asked for
    every = [first, *results]
    assert [result.key for result in every] == ["easy/t1", "easy/warm", "hard/t1", "hard/warm"]
    assert [result.set for result in every] == ["easy", "easy", "hard", "hard"]
    assert [len(result.correct) for result in every] == [1, 1, 2, 2]
    settings["evaluation"]["prompts"] = 0
    assert not list(evaluate_settings(shipped, FilePrompts([], SETS, seed=0), odd, config_from(settings)))


def test_a_set_without_a_name_goes_by_the_setting(shipped):
    settings = {"data": {"prompts": "p", "held_out": "h.jsonl"}, "rollout": {"max_new_tokens": 5}}
    settings["evaluation"] = {"samples": 2, "settings": ["t1"]}
    source = FilePrompts([], {"held_out": SETS["hard"]}, seed=0)
    assert [found.key for found in evaluate_settings(shipped, source, odd, config_from(settings))] == ["t1"]
