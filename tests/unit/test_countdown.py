"""The countdown task: what the verifier accepts and rejects, canonical solutions, splits and demonstrations."""

import math
import random

import pytest

from trainer.data import build_task
from trainer.data.prompts import TaskPrompts
from trainer.streams import python_stream
from trainer.tasks.countdown import (
    LARGEST,
    MAX_ANSWER_TOKENS,
    OPERATORS,
    WORDS,
    Countdown,
    HardCountdown,
    Step,
    apply,
    fewest_steps,
    split_of,
    verify,
)

TASK = Countdown()
STANDARD_ERRORS = 5.0


@pytest.mark.parametrize(
    ("numbers", "target", "answer", "solution"),
    [
        ([3, 7, 2, 9], 63, "7 * 9 63", "(7*9)"),
        ([3, 7, 2, 9], 63, "9 * 7 63", "(7*9)"),
        ([3, 7, 2, 9], 12, "9 - 3 6 6 * 2 12", "((9-3)*2)"),
        ([8, 8, 9, 1], 99, "8 - 1 7 9 * 8 72", None),  # right steps, wrong end
        ([8, 8, 9, 1], 72, "8 + 1 9 9 * 8 72", "((1+8)*8)"),
        ([8, 8, 9, 1], 73, "8 * 9 72 72 + 1 73", "((8*9)+1)"),
        ([8, 8, 9, 1], 81, "8 * 9 72 8 + 1 9 72 + 9 81", "((1+8)+(8*9))"),
        ([5, 5, 5, 5], 5, "5 - 5 0 0 + 5 5", "((5-5)+5)"),  # equal numbers are used one by one; 0 is allowed
        ([9, 9, 9, 9], 99, "9 * 9 81 9 + 9 18 81 + 18 99", "((9*9)+(9+9))"),  # 99 is allowed
    ],
)
def test_right_answers_and_their_canonical_solutions(numbers, target, answer, solution):
    verdict = verify(numbers, target, answer)
    assert verdict.correct == (solution is not None), verdict.error
    assert verdict.solution == solution
    assert (verdict.error == "") == verdict.correct


NUMBERS, TARGET = [3, 7, 2, 9], 63  # right: 7 * 9 63


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        ("", "0 words"),
        ("   ", "0 words"),
        ("7 * 9", "3 words"),
        ("7 * 9 63 :", "5 words"),
        ("7 * 9 63 63", "5 words"),
        ("7 * 9 63 7 * 9 63", "step 2 uses 7, which is not in the pool"),  # numbers used twice
        ("9 * 9 81", "step 1 uses 9, which is not in the pool"),  # one 9, used for both operands
        ("7 - 3 4 4 + 9 13 4 + 2 6", "step 3 uses 4, which is not in the pool"),  # a result used twice
        ("7 * 8 56", "step 1 uses 8, which is not in the pool"),
        ("7 * 9 62", "step 1 is wrong: 7 * 9 is 63"),
        ("7 + 9 63", "step 1 is wrong: 7 + 9 is 16"),
        ("7 - 9 2", "step 1 is wrong: 7 - 9 is -2"),  # negative, written without its sign
        ("7 - 9 -2", "step 1 is not of the form"),
        ("7 * 9 63 63 * 2 126", "step 2 is"),  # beyond 99, and no token of the task
        ("7 * 9 63 63 + 2 65", "ends at 65, not at 63"),
        ("7 + 9 16", "ends at 16, not at 63"),
        ("7 + 2 9 9 + 9 18 18 + 3 21 21 + 0 21", "16 words"),  # four steps
        ("7 x 9 63", "step 1 is not of the form"),
        ("7 / 1 7", "step 1 is not of the form"),
        ("* 7 9 63", "step 1 is not of the form"),
        ("7 * <eos> 63", "step 1 is not of the form"),
        ("7 * 9 <unk>", "step 1 is not of the form"),
        ("<unk> * 9 63", "step 1 is not of the form"),
        ("7 <eos> 9 63", "step 1 is not of the form"),
        ("7.0 * 9 63", "step 1 is not of the form"),
        ("+7 * 9 63", "step 1 is not of the form"),
        ("7² * 9 63", "step 1 is not of the form"),
    ],
)
def test_each_kind_of_wrong_answer_is_rejected_with_its_reason(answer, error):
    verdict = verify(NUMBERS, TARGET, answer)
    assert (verdict.correct, verdict.solution) == (False, None)
    assert error in verdict.error


@pytest.mark.parametrize(
    "answer",
    ["\uff17 * 9 63", "7 * \u0669 63", "7 * 9 \U0001d7e8\U0001d7e5", "07 * 9 63", "7 * 9 063", f"7 * 9 {'9' * 5000}"],
    ids=["fullwidth", "arabic-indic", "mathematical", "leading zero", "leading zero in result", "5000 digits"],
)
def test_only_the_tasks_own_numerals_count_as_numbers(answer):
    assert not verify(NUMBERS, TARGET, answer).correct


@pytest.mark.parametrize(
    "answers",
    [
        ["1 + 2 3 3 * 3 9 9 + 4 13", "2 + 1 3 3 * 3 9 4 + 9 13"],  # operands swapped
        ["3 * 4 12 2 - 1 1 12 + 1 13", "2 - 1 1 4 * 3 12 1 + 12 13", "2 - 1 1 3 * 4 12 12 + 1 13"],  # steps swapped
    ],
)
def test_commuted_and_reordered_answers_are_one_solution(answers):
    verdicts = [verify([1, 2, 3, 4], 13, answer) for answer in answers]
    assert [verdict.error for verdict in verdicts] == [""] * len(answers)
    assert len({verdict.solution for verdict in verdicts}) == 1


def test_steps_that_the_result_does_not_need_are_left_out():
    with_dead_step = verify([1, 2, 3, 4], 12, "1 + 2 3 3 * 4 12")  # the newest 3 is the step's: not dead
    dead_first = verify([1, 2, 3, 4], 12, "2 - 1 1 3 * 4 12")
    bare = verify([1, 2, 3, 4], 12, "4 * 3 12")
    assert dead_first.solution == bare.solution == "(3*4)"
    assert with_dead_step.solution == "((1+2)*4)"


def test_different_solutions_differ():
    answers = ["3 * 4 12", "1 + 2 3 3 * 4 12", "4 + 2 6 3 - 1 2 6 * 2 12", "4 * 2 8 8 + 3 11 11 + 1 12"]
    found = [verify([1, 2, 3, 4], 12, answer) for answer in answers]
    assert all(verdict.correct for verdict in found)
    assert len({verdict.solution for verdict in found}) == len(answers)
    # subtraction does not commute
    assert verify([9, 4, 1, 1], 5, "9 - 4 5").solution != verify([9, 4, 1, 1], 4, "5 - 9 4").solution


def test_reward_is_1_for_right_and_0_for_wrong_and_solution_agrees():
    row = TASK.as_row(NUMBERS, TARGET)
    answers = ["7 * 9 63", "7 * 9 62", "9 * 7 63"]
    rewards = TASK.reward(["p"] * 3, answers, [[0]] * 3, numbers=[NUMBERS] * 3, target=[TARGET] * 3, other=[None] * 3)
    assert rewards == [1.0, 0.0, 1.0]
    assert [TASK.solution(row, answer) for answer in answers] == ["(7*9)", None, "(7*9)"]
    with pytest.raises(ValueError, match="zip"):
        TASK.reward(["p"] * 2, answers[:2], [[0]] * 2, numbers=[NUMBERS] * 3, target=[TARGET] * 3)


def test_rows_read_as_documented():
    assert TASK.as_row(NUMBERS, TARGET) == {"prompt": "3 7 2 9 63 :", "numbers": NUMBERS, "target": 63}
    assert str(Step(7, "*", 9, 62)) == "7 * 9 62"
    assert (len(WORDS), len(set(WORDS)), MAX_ANSWER_TOKENS) == (104, 104, 13)


def test_split_ignores_the_order_of_the_numbers_and_nothing_else():
    assert {split_of(order, 63) for order in ([3, 7, 2, 9], [9, 7, 3, 2], [2, 3, 7, 9])} == {split_of([2, 3, 7, 9], 63)}
    by_target = {split_of([2, 3, 7, 9], target) for target in range(5, 100)}
    assert by_target == {"train", "validation", "test"}
    assert split_of([1, 23, 4, 5], 6) == split_of([1, 4, 5, 23], 6)
    # pinned, for a split must never move: the CRC32 of "2 3 7 9 T" ends in 0, 1, 2 and 9 for these T
    assert [split_of([3, 7, 2, 9], target) for target in (10, 14, 11, 5)] == ["test", "validation", "train", "train"]


def prompt_key(prompt):
    *numbers, target, colon = prompt.split()
    assert colon == ":"
    return [int(number) for number in numbers], int(target)


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_rows_are_of_their_split_and_a_function_of_the_stream(split):
    rows = [[TASK.row(split, generator=generator) for _ in range(50)] for generator in map(python_stream, [1, 1, 2])]
    assert rows[0] == rows[1]
    assert rows[0] != rows[2]
    for row in rows[0]:
        assert split_of(row["numbers"], row["target"]) == split
        assert prompt_key(row["prompt"]) == (row["numbers"], row["target"])


def demonstrations(count, *, wrong_target=0.0, slip=0.0, seed=0):
    generator = random.Random(seed)
    return [TASK.demonstration(wrong_target=wrong_target, slip=slip, generator=generator) for _ in range(count)]


def right(pairs):
    return sum(verify(*prompt_key(prompt), answer).correct for prompt, answer in pairs)


def test_demonstrations_without_noise_are_all_right():
    assert right(demonstrations(400)) == 400


@pytest.mark.parametrize("noise", [{"wrong_target": 1.0}, {"slip": 1.0}])
def test_demonstrations_with_full_noise_are_nearly_all_wrong(noise):
    # a redrawn target or result is the right one by chance, about once in 95 * 0.8 or 100 draws: at most once in 70
    by_chance, count = 1 / 70, 400
    assert right(demonstrations(count, **noise)) <= count * by_chance + STANDARD_ERRORS * math.sqrt(count * by_chance)


def test_demonstrations_with_some_noise_are_wrong_as_often_as_asked():
    # wrong: a third, less the redrawn targets that are right by chance or fall outside the split (80 % do not)
    count, asked = 1000, 1 / 3
    share = asked * 0.8 / (asked * 0.8 + 1 - asked) * (1 - 1 / 76)
    wrong = count - right(demonstrations(count, wrong_target=asked))
    assert abs(wrong - count * share) < STANDARD_ERRORS * math.sqrt(count * share * (1 - share))


@pytest.mark.parametrize("noise", [{}, {"wrong_target": 1.0}, {"wrong_target": 0.5, "slip": 0.5}])
def test_no_demonstration_shows_a_held_out_prompt_nor_solves_one(noise):
    for prompt, answer in demonstrations(400, **noise, seed=1):
        numbers, target = prompt_key(prompt)
        assert split_of(numbers, target) == "train"
        reached = int(answer.split()[-1])
        if verify(numbers, reached, answer).correct:
            assert split_of(numbers, reached) == "train"


@pytest.mark.parametrize("numbers", [[3, 7, 2, 9], [5, 5, 1, 5]])
def test_the_shortest_answers_are_those_that_the_verifier_accepts(numbers):
    """Every answer of one and of two steps over these numbers and all results, written out."""
    steps = [
        f"{a} {operator} {b} {apply(a, operator, b)}"
        for a in range(LARGEST + 1)
        for b in range(LARGEST + 1)
        for operator in OPERATORS
        if (a in numbers or b in numbers) and 0 <= apply(a, operator, b) <= LARGEST
    ]
    result = {step: int(step.rpartition(" ")[2]) for step in steps}
    first = [step for step in steps if verify(numbers, result[step], step).correct]
    one = {result[step] for step in first}
    # A second step may also combine the two numbers that the first one left.
    second = {
        result[step] for start in first for step in steps if verify(numbers, result[step], f"{start} {step}").correct
    }
    for target in range(LARGEST + 1):
        found = fewest_steps(numbers, target)
        assert (found == 1) == (target in one)
        assert (found == 2) == (target in second - one)


def test_hard_prompts_have_no_short_answer_and_the_same_splits():
    generator = random.Random(0)
    hard = build_task("countdown_hard")
    for split in ("train", "validation", "test"):
        for _ in range(50):
            row = hard.row(split, generator=generator)
            assert fewest_steps(row["numbers"], row["target"]) == 3
            assert split_of(row["numbers"], row["target"]) == split


def test_held_out_prompts_are_of_different_problems():
    """Orders of the same numbers are one problem, of which a policy knows all or none."""
    prompts = TaskPrompts(HardCountdown(), 0, "test", 0)
    rows = prompts.held_out_rows("test", 400)
    assert len({(*sorted(row["numbers"]), row["target"]) for row in rows}) == len(rows) == 400
    assert rows[:7] == prompts.held_out_rows("test", 7)
