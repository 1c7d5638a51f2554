"""What must hold for every play, order of numbers and answer of the countdown task."""

import random
from collections import Counter

import hypothesis.strategies as st
from hypothesis import assume, given

from trainer.tasks.countdown import LARGEST, OPERATORS, WORDS, Countdown, Step, apply, split_of, verify

TASK = Countdown()
SEEDS = st.integers(0, 2**32)


def play_of(seed):
    """Numbers and steps of a random play."""
    return TASK.play(generator=random.Random(seed))


def written(steps):
    return " ".join(map(str, steps))


def is_right(numbers, target, answer):
    """The rules once more, with a multiset for a pool and a look-up table for numerals."""
    words = answer.split()
    steps = [words[start : start + 4] for start in range(0, len(words), 4)]
    if not 1 <= len(steps) <= 3 or len(steps[-1]) != 4:
        return False
    value_of = {str(value): value for value in range(LARGEST + 1)}
    pool = Counter(numbers)
    for left, operator, right, result in steps:
        if operator not in OPERATORS or not {left, right, result} <= value_of.keys():
            return False
        a, b, c = value_of[left], value_of[right], value_of[result]
        needed = Counter([a, b])
        if needed - pool or c != {"+": a + b, "-": a - b, "*": a * b}[operator]:
            return False
        pool = pool - needed + Counter([c])
    return c == target


@given(SEEDS)
def test_every_play_is_a_right_answer_whose_every_step_is_needed(seed):
    numbers, steps = play_of(seed)
    target = steps[-1].result
    verdict = verify(numbers, target, written(steps))
    assert verdict.correct, verdict.error
    assert is_right(numbers, target, written(steps))
    assert sum(verdict.solution.count(operator) for operator in OPERATORS) == len(steps)
    assert len(numbers) == 4
    assert all(1 <= number <= 9 for number in numbers)
    assert all(0 <= step.result <= LARGEST for step in steps)
    assert 1 <= len(steps) <= 3
    assert target >= 5


@given(SEEDS, st.randoms(use_true_random=False))
def test_the_order_of_the_numbers_does_not_matter(seed, shuffler):
    numbers, steps = play_of(seed)
    target = steps[-1].result
    shuffled = shuffler.sample(numbers, len(numbers))
    assert verify(shuffled, target, written(steps)) == verify(numbers, target, written(steps))
    assert split_of(shuffled, target) == split_of(numbers, target)


@given(SEEDS, st.lists(st.booleans(), min_size=3, max_size=3))
def test_swapping_the_operands_of_sums_and_products_is_the_same_solution(seed, swaps):
    numbers, steps = play_of(seed)
    target = steps[-1].result
    swapped = [
        Step(step.b, step.operator, step.a, step.result) if swap and step.operator != "-" else step
        for step, swap in zip(steps, swaps, strict=False)
    ]
    assert verify(numbers, target, written(swapped)) == verify(numbers, target, written(steps))


@given(st.permutations(range(1, 10)), st.lists(st.sampled_from(OPERATORS), min_size=3, max_size=3))
def test_independent_steps_may_be_taken_in_either_order(order, operators):
    a, b, c, d = order[:4]
    first, second = (apply(x, op, y) for x, y, op in ((a, b, operators[0]), (c, d, operators[1])))
    assume(len({a, b, c, d, first, second}) == 6)  # no word can mean two values
    one, other = Step(a, operators[0], b, first), Step(c, operators[1], d, second)
    last = Step(first, operators[2], second, apply(first, operators[2], second))
    assume(all(0 <= step.result <= LARGEST for step in (one, other, last)))
    verdict = verify([a, b, c, d], last.result, written([one, other, last]))
    assert verdict.correct
    assert verify([a, b, c, d], last.result, written([other, one, last])) == verdict


@given(SEEDS, st.integers(0, LARGEST), st.integers(0, 2))
def test_a_slip_in_any_step_is_wrong(seed, result, place):
    numbers, steps = play_of(seed)
    place %= len(steps)
    right = steps[place]
    assume(result != right.result)
    steps[place] = Step(right.a, right.operator, right.b, result)
    assert not verify(numbers, steps[-1].result, written(steps)).correct


@given(SEEDS, st.integers(0, LARGEST))
def test_another_target_is_wrong(seed, target):
    numbers, steps = play_of(seed)
    assume(target != steps[-1].result)
    assert not verify(numbers, target, written(steps)).correct


@given(SEEDS, st.data())
def test_the_verifier_agrees_with_the_rules_on_answers_with_changed_words(seed, data):
    numbers, steps = play_of(seed)
    words = written(steps).split()
    for _ in range(data.draw(st.integers(0, 3))):
        place = data.draw(st.integers(0, len(words) - 1))
        likely = st.sampled_from([str(number) for number in numbers] + list(OPERATORS))
        words[place] = data.draw(likely | st.sampled_from([*WORDS, "<unk>", "<eos>", ""]))
    target = data.draw(st.sampled_from([steps[-1].result, *numbers]))
    answer = " ".join(words)
    verdict = verify(numbers, target, answer)
    assert verdict.correct == is_right(numbers, target, answer), verdict.error
    assert (verdict.solution is None) == (not verdict.correct)


@given(st.lists(st.integers(1, 9), min_size=4, max_size=4), st.data())
def test_the_verifier_agrees_with_the_rules_on_plausible_random_steps(numbers, data):
    pool, words = list(numbers), []
    for _ in range(data.draw(st.integers(1, 3))):
        a, b = (data.draw(st.sampled_from(pool)) for _ in range(2))  # the same place twice is often not in the pool
        operator = data.draw(st.sampled_from(OPERATORS))
        words += [str(a), operator, str(b), str(apply(a, operator, b))]
        pool.append(apply(a, operator, b))
    target = int(words[-1])
    answer = " ".join(words)
    assert verify(numbers, target, answer).correct == is_right(numbers, target, answer)


@given(SEEDS, st.sampled_from(["train", "validation", "test"]))
def test_rows_are_solvable_prompts_of_their_split(seed, split):
    row, again = (TASK.row(split, generator=random.Random(seed)) for _ in range(2))
    assert row == again
    assert split_of(row["numbers"], row["target"]) == split
    assert row["prompt"].split() == [*map(str, row["numbers"]), str(row["target"]), ":"]
