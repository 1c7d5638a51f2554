"""Countdown: reach a target from four numbers by up to three worked steps.

A prompt is `n1 n2 n3 n4 T :`, an answer is up to three steps `a op b c` (c = a op b), the last c being the target.
Every number is one token, so prompts have 6 tokens and answers 5 to 13 with the end token. Many different solutions
exist for a prompt, so a policy can lose diversity without losing accuracy: that is what makes it a testbed for entropy.
"""

import random
import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import permutations
from typing import Any, Literal

Split = Literal["train", "validation", "test"]

LARGEST = 99
OPERATORS = ("+", "-", "*")
# As the tokenizer writes numbers: no leading zeros, no digits of other scripts.
NUMERAL = re.compile("0|[1-9][0-9]{0,3}")
WORDS = tuple(str(value) for value in range(LARGEST + 1)) + OPERATORS + (":",)
MAX_STEPS = 3
# How many steps the plays have that prompts come from, each entry as likely: the longer, the harder.
PLAY_LENGTHS = (1, 2, 2, 3, 3, 3)
MAX_ANSWER_TOKENS = 4 * MAX_STEPS + 1


def apply(a: int, operator: str, b: int) -> int:
    """Return `a operator b`; the operator is one of +, -, *."""
    return a + b if operator == "+" else a - b if operator == "-" else a * b


@dataclass(frozen=True)
class Step:
    """One worked step `a operator b result`, as written (the result may be wrong)."""

    a: int
    operator: str
    b: int
    result: int

    def __str__(self) -> str:
        return f"{self.a} {self.operator} {self.b} {self.result}"


@dataclass(frozen=True)
class Verdict:
    """What the verifier found.

    Args:
        correct: every step and the final value are right.
        solution: the final value's expression with commutative operands sorted and unused steps left out, so that two
            answers that compute the same thing count once; None for a wrong answer.
        error: why the answer is wrong; empty for a right one.
    """

    correct: bool
    solution: str | None
    error: str


def verify(numbers: Sequence[int], target: int, answer: str) -> Verdict:
    """Return whether `answer` reaches `target` from `numbers`, checking every step.

    Each step must be `a op b c` with a and b available in the remaining pool, c = a op b and 0 <= c <= 99; a and b
    leave the pool and c joins it. The last c must be the target.

    Args:
        numbers: the four given numbers; each may be used at most once.
        target: the value to reach.
        answer: the decoded completion, words separated by spaces.

    >>> verify([3, 7, 2, 9], 63, "7 * 9 63").solution
    '(7*9)'
    >>> verify([3, 7, 2, 9], 63, "9 * 9 81").error
    'step 1 uses 9, which is not in the pool'
    """
    words = answer.split()
    if not words or len(words) % 4 or len(words) > 4 * MAX_STEPS:
        return Verdict(False, None, f"{len(words)} words are no sequence of 1 to {MAX_STEPS} steps")
    pool = [(value, str(value)) for value in numbers]
    expression = ""
    for index in range(0, len(words), 4):
        where = f"step {index // 4 + 1}"
        left, operator, right, result = words[index : index + 4]
        if operator not in OPERATORS or not all(map(NUMERAL.fullmatch, (left, right, result))):
            return Verdict(False, None, f"{where} is not of the form a op b c")
        operands = []
        for word in (left, right):
            # The newest of equal values is taken: a step's own result rather than a given number of the same value.
            held = [item for item in pool if item[0] == int(word)]
            if not held:
                return Verdict(False, None, f"{where} uses {word}, which is not in the pool")
            pool.remove(held[-1])
            operands.append(held[-1][1])
        value = apply(int(left), operator, int(right))
        if value != int(result) or not 0 <= value <= LARGEST:
            return Verdict(False, None, f"{where} is wrong: {left} {operator} {right} is {value}, within 0..{LARGEST}")
        if operator != "-":
            operands.sort()
        expression = f"({operands[0]}{operator}{operands[1]})"
        pool.append((value, expression))
    if int(words[-1]) != target:
        return Verdict(False, None, f"ends at {words[-1]}, not at {target}")
    return Verdict(True, expression, "")


def problem_of(numbers: Sequence[int], target: int) -> tuple[int, ...]:
    """Return what prompts have in common that give the same numbers in another order: these, sorted, and the target."""
    return (*sorted(numbers), target)


def split_of(numbers: Sequence[int], target: int) -> Split:
    """Return the split of a prompt: CRC32 of its sorted numbers and target, modulo 10 (0 test, 1 validation).

    Sorting keeps every order of the same numbers in one split. A split must not be a congruence class of the prompt's
    numbers (a polynomial hash with a base that is 1 modulo 10 would be one): `tests/statistical` compares the splits.
    """
    bucket = zlib.crc32(" ".join(map(str, problem_of(numbers, target))).encode()) % 10
    return "test" if bucket == 0 else "validation" if bucket == 1 else "train"


def fewest_steps(numbers: Sequence[int], target: int) -> int | None:
    """Return the length of the shortest right answer; None where there is none.

    >>> fewest_steps([3, 7, 2, 9], 63), fewest_steps([1, 1, 1, 1], 4), fewest_steps([1, 1, 1, 1], 99)
    (1, 3, None)
    """
    return shortest(tuple(sorted(numbers))).get(target)


@cache
def shortest(pool: tuple[int, ...]) -> dict[int, int]:
    """Return every value that can be reached from a sorted pool, with the fewest steps that reach it."""
    found: dict[int, int] = {}
    for i, j in permutations(range(len(pool)), 2):
        rest = [value for place, value in enumerate(pool) if place not in (i, j)]
        for operator in OPERATORS:
            value = apply(pool[i], operator, pool[j])
            if 0 <= value <= LARGEST:
                found[value] = 1
                for further, steps in shortest(tuple(sorted([*rest, value]))).items():
                    found[further] = min(found.get(further, steps + 1), steps + 1)
    return found


@dataclass(frozen=True)
class Countdown:
    """The task: how prompts are drawn, demonstrated and judged.

    Args:
        count: how many numbers a prompt gives.
        largest_number: numbers are drawn from 1..largest_number.
        smallest_target: targets are drawn from smallest_target..99.
        least_steps: prompts that a shorter answer solves are left out; demonstrations are the same with any.
    """

    count: int = 4
    largest_number: int = 9
    smallest_target: int = 5
    least_steps: int = 1

    words = WORDS
    max_answer_tokens = MAX_ANSWER_TOKENS

    def play(self, *, generator: random.Random) -> tuple[list[int], list[Step]]:
        """Return numbers and a random forward play whose every result but the last is used.

        Its length is drawn from PLAY_LENGTHS.
        """
        draw = generator.random
        length = PLAY_LENGTHS[int(draw() * len(PLAY_LENGTHS))]
        while True:
            numbers = [1 + int(draw() * self.largest_number) for _ in range(self.count)]
            pool, steps = list(numbers), []
            unused: set[int] = set()
            for _ in range(length):
                i = int(draw() * len(pool))
                j = int(draw() * (len(pool) - 1))
                j += j >= i
                operator = OPERATORS[int(draw() * len(OPERATORS))]
                value = apply(pool[i], operator, pool[j])
                if not 0 <= value <= LARGEST:
                    break
                steps.append(Step(pool[i], operator, pool[j], value))
                # Results sit at the end of the pool; deleting by index keeps track of which were never used.
                unused = {k - (k > i) - (k > j) for k in unused - {i, j}} | {len(pool) - 2}
                pool = [pool[k] for k in range(len(pool)) if k not in (i, j)] + [value]
            else:
                if len(unused) == 1 and value >= self.smallest_target:
                    return numbers, steps

    def row(self, split: Split, *, generator: random.Random) -> dict[str, Any]:
        """Return one prompt of a split: `{"prompt", "numbers", "target"}`; it always has a solution."""
        while True:
            numbers, steps = self.play(generator=generator)
            target = steps[-1].result
            if split_of(numbers, target) == split and (fewest_steps(numbers, target) or 0) >= self.least_steps:
                return self.as_row(numbers, target)

    def as_row(self, numbers: Sequence[int], target: int) -> dict[str, Any]:
        """Return the data row of a prompt."""
        return {"prompt": " ".join(map(str, [*numbers, target, ":"])), "numbers": list(numbers), "target": target}

    def demonstration(self, *, wrong_target: float, slip: float, generator: random.Random) -> tuple[str, str]:
        """Return (prompt, answer) of a noisy demonstration from the training split.

        Args:
            wrong_target: probability that the prompt asks for another target than the answer reaches.
            slip: probability that one step's result is written wrongly.
            generator: where the draws come from.
        """
        while True:
            numbers, steps = self.play(generator=generator)
            target = steps[-1].result
            if generator.random() < wrong_target:
                target = generator.randint(self.smallest_target, LARGEST)
            if split_of(numbers, target) == "train" and split_of(numbers, steps[-1].result) == "train":
                break
        if generator.random() < slip:
            k = int(generator.random() * len(steps))
            step = steps[k]
            steps[k] = Step(step.a, step.operator, step.b, int(generator.random() * (LARGEST + 1)))
        return self.as_row(numbers, target)["prompt"], " ".join(map(str, steps))

    def reward(
        self,
        prompts: list[str],
        completions: list[str],
        completion_ids: list[list[int]],
        *,
        numbers: list[list[int]],
        target: list[int],
        **columns: Any,
    ) -> list[float]:
        """Return 1.0 for each right answer and 0.0 for each wrong one (the shared reward signature)."""
        return [float(verify(n, t, answer).correct) for n, t, answer in zip(numbers, target, completions, strict=True)]

    def solution(self, row: dict[str, Any], completion: str) -> str | None:
        """Return the canonical form of a right answer, None for a wrong one (for counting distinct solutions)."""
        return verify(row["numbers"], row["target"], completion).solution


@dataclass(frozen=True)
class HardCountdown(Countdown):
    """Countdown with prompts alone that take all the steps: a policy has far to go before it has learnt them."""

    least_steps: int = MAX_STEPS

    def problem(self, row: dict[str, Any]) -> tuple[int, ...]:
        """Return which problem a prompt is of.

        There are few, 976 of the test split: of 512 different prompts 151 would be other orders of the rest.
        """
        return problem_of(row["numbers"], row["target"])
