"""Checks two rewards on every row of a GSM8K file, and prints how many rows a second they score.

    python benchmarks/gsm8k_reward.py test.jsonl

A row holds `question` and `answer`, as in github.com/openai/grade-school-math. Each reward must give 1 for the right
answer, in every form tried, and 0 for the answer less or more by one; the exit code is 1 where one does not.
`boxed_math` passes equal texts without asking math-verify: the form `N.0` and the wrong answers are the ones that it
judges. Starting its process is timed apart.
"""

import argparse
import sys
import time
from collections.abc import Callable
from contextlib import closing
from decimal import Decimal
from typing import Any

from trainer.data.rows import Layout, read_rows
from trainer.methods.stages import RewardFunction
from trainer.rewards import score
from trainer.rewards.answers import GSM8K, gold_number
from trainer.rewards.boxed_math import BoxedMath

FORMS: dict[str, Callable[[Decimal], str]] = {"N": "{}".format, "N,NNN": "{:,}".format, "N.0": "{}.0".format}


def check(reward: RewardFunction, rows: list[dict[str, Any]], texts: list[str], name: str, expected: float) -> int:
    """Score a completion a row, print the rate, and return how many rewards are not what is expected."""
    began = time.perf_counter()
    scores = score(reward, rows, texts, [[0]] * len(texts))
    seconds = time.perf_counter() - began
    wrong = (scores.total.flatten() != expected).nonzero().flatten().tolist()
    failures = sum(scores.failures.values())
    print(f"{name:44} {len(rows):6} rows  {len(rows) / seconds:10.0f} rows/s   wrong {len(wrong)}  failures {failures}")
    for index in wrong[:5]:
        print(f"    row {index + 1}: answer ends in {rows[index]['answer'][-20:]!r}, completion {texts[index][-40:]!r}")
    return len(wrong) + failures


def main() -> int:
    """Run every check and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", help="GSM8K as .jsonl")
    rows = read_rows(parser.parse_args().file, Layout("question"))
    gold = [gold_number(row["answer"]) for row in rows]
    wrong = check(GSM8K(), rows, [row["answer"] for row in rows], "gsm8k, the data set's own solution", 1)
    with closing(BoxedMath()) as boxed:
        began = time.perf_counter()
        boxed.compare("1/2", "0.5")
        print(f"boxed_math starts in {time.perf_counter() - began:.1f} s")
        for name, reward, frame in (("gsm8k", GSM8K(), "#### {}"), ("boxed_math", boxed, "so $\\boxed{{{}}}$.")):
            for form, write in FORMS.items():
                texts = [frame.format(write(value)) for value in gold]
                wrong += check(reward, rows, texts, f"{name}, right, as {form}", 1)
            for shift in (1, -1):
                texts = [frame.format(value + shift) for value in gold]
                wrong += check(reward, rows, texts, f"{name}, wrong by {shift:+d}", 0)
    print("passed" if not wrong else f"{wrong} rewards are not what they must be")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
