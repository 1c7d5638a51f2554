"""Rewards that compare a completion's text or final number with the column `answer`: 1 for a right one, 0 for a wrong.

A row whose `answer` is null has no right answer: these rewards answer None for it.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

# A number as people write it: thousands in groups of three, or no separators.
NUMBER = re.compile(r"(?:[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])|[0-9]+)(?:\.[0-9]+)?|(?<!\w)\.[0-9]+")
# What makes the number that follows negative: a minus right before it, or before its `$`. A minus after a digit, a
# letter or a closing bracket, or with a space after it, is an operator, a dash or a bullet.
SIGN = re.compile(r"(?<![\w)\]])[-\u2212](?:\\?\$)?\Z")
MARKER = "####"


def exact_match(
    prompts: list[Any], completions: list[str], completion_ids: list[list[int]], answer: list[Any], **columns: Any
) -> list[float | None]:
    r"""Return 1 where the completion is the answer, white space around either left out, else 0.

    >>> exact_match([], [" yes\n", "no"], [], ["yes", "yes"])
    [1.0, 0.0]
    """
    return [
        None if gold is None else float(text.strip() == str(gold).strip())
        for text, gold in zip(completions, answer, strict=True)
    ]


@dataclass(frozen=True)
class GSM8K:
    r"""1 where the completion's final number equals the answer's, else 0.

    The final number is the last one on the line that follows the last `####`. Numbers are compared by value:
    `$1,000.00` is 1000, `-.5` is -0.5, and a full stop or a unit after a number does not matter. The column `answer`
    holds GSM8K's worked solution, which ends in `#### 42`, or the number alone.

    Args:
        last_number: where a completion has no number after `####`, take the last number in it.

    Source: Cobbe et al. 2021, arXiv 2110.14168 (the data set and its format).

    >>> GSM8K()([], ["6 * 7 = 42\n#### 42.", "It is 42."], [], ["... #### 42", 42])
    [1.0, 0.0]
    """

    last_number: bool = False

    def __call__(
        self,
        prompts: list[Any],
        completions: list[str],
        completion_ids: list[list[int]],
        answer: list[Any],
        **columns: Any,
    ) -> list[float | None]:
        """Return the rewards."""
        return [
            None if gold is None else float(self.final(text) == gold_number(gold))
            for text, gold in zip(completions, answer, strict=True)
        ]

    def final(self, completion: str) -> Decimal | None:
        """Return a completion's final number; None where it has none."""
        value = marked_number(completion)
        return last_number(completion) if value is None and self.last_number else value

    def answer(self, completion: str) -> str | None:
        """Return what a completion votes for in maj@k: its final number, written so that equal ones are equal text.

        >>> GSM8K().answer("#### $1,000.00"), GSM8K().answer("a thousand")
        ('1000', None)
        """
        value = self.final(completion)
        return None if value is None else f"{(value + 0).normalize():f}"

    def check(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Refuse rows whose answer holds no number, before a run starts.

        Raises:
            ValueError: such a row.
        """
        for row in rows:
            if row.get("answer") is not None:
                gold_number(row["answer"])


def gold_number(gold: Any) -> Decimal:
    """Return the number of an `answer`: that after `####` where it has one, else the last one in it.

    Raises:
        ValueError: no number.
    """
    text = str(gold)
    value = marked_number(text) if MARKER in text else last_number(text)
    if value is None:
        raise ValueError(
            f"gsm8k(answer={text[-60:]!r}) must hold a number, after {MARKER} if there is one; got none. "
            "Mend the row, or name the right column in data.columns."
        )
    return value


def marked_number(text: str) -> Decimal | None:
    """Return the last number on the line that follows the last `####`; None where there is none."""
    _, marker, after = text.rpartition(MARKER)
    return last_number(after.strip().partition("\n")[0]) if marker else None


def last_number(text: str) -> Decimal | None:
    """Return the last number in a text; None where there is none.

    >>> last_number("from -3 to $1,250.50."), last_number("10-4"), last_number("-$5"), last_number("none")
    (Decimal('1250.50'), Decimal('4'), Decimal('-5'), None)
    """
    found = list(NUMBER.finditer(text))[-1:]
    if not found:
        return None
    value, start = Decimal(found[0][0].replace(",", "")), found[0].start()
    # Four characters hold the longest sign and what stands before it.
    return -value if SIGN.search(text[max(0, start - 4) : start]) else value
