r"""The reward for mathematical answers in `\boxed{...}`, compared by math-verify in a process with a deadline."""

import importlib.util
import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trainer.rewards.answers import MARKER
from trainer.rewards.worker import Worker

SCRIPT = Path(__file__).parent / "math_worker.py"
BOXED = r"\boxed{"


@dataclass(frozen=True)
class BoxedMath:
    r"""1 where the completion's last `\boxed{...}` equals the answer as mathematics, else 0.

    Equal as text, or as math-verify judges: `\frac{1}{2}` is 0.5, `x=5` is 5. The column `answer` holds LaTeX with or
    without `$`, a solution whose last `\boxed{...}` is meant, or one that ends in `#### 42`; where it is null the
    reward is None. A comparison that fails to end in time, or ends its process, scores 0 and counts in `failures`.
    Equal answers to a prompt are compared once a call.

    Args:
        timeout_s: seconds for one comparison; `reward.timeout_s` in a run.

    Raises:
        ImportError: without the package math-verify.
        ChildProcessError: when called, if the process that compares does not start.
    """

    timeout_s: float = 5.0
    worker: Worker = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if importlib.util.find_spec("math_verify") is None:
            raise ImportError("boxed_math needs the package math-verify. Install entrocraft[math].")
        if not 0 < self.timeout_s < math.inf:
            raise ValueError(
                f"boxed_math(timeout_s={self.timeout_s}) must be above 0 and finite, in seconds. Set reward.timeout_s."
            )
        object.__setattr__(self, "worker", Worker(SCRIPT, self.timeout_s))

    def __call__(
        self,
        prompts: list[Any],
        completions: list[str],
        completion_ids: list[list[int]],
        answer: list[Any],
        **columns: Any,
    ) -> list[float | None]:
        """Return the rewards."""
        pairs = [
            None if gold is None else (gold_answer(str(gold)), last_boxed(text))
            for text, gold in zip(completions, answer, strict=True)
        ]
        found = {pair: self.compare(*pair) for pair in dict.fromkeys(pairs) if pair is not None}
        return [None if pair is None else found[pair] for pair in pairs]

    def compare(self, gold: str, given: str | None) -> float:
        """Return 1 for equal answers, else 0."""
        if given is None or not given.strip():
            return 0.0
        if given.split() == gold.split():
            return 1.0
        return float(self.worker.ask(json.dumps([gold, given])) == "1")

    def answer(self, completion: str) -> str | None:
        """Return what a completion votes for in maj@k: the text of its last box; values written differently part."""
        return " ".join((last_boxed(completion) or "").split()) or None

    @property
    def failures(self) -> int:
        """Return how many comparisons have failed so far."""
        return self.worker.failures

    def close(self) -> None:
        """End the process that compares."""
        self.worker.close()


def last_boxed(text: str) -> str | None:
    r"""Return what the last `\boxed{...}` holds; None where there is none, or where its bracket never closes.

    >>> last_boxed(r"\boxed{1}, no: \boxed{\frac{1}{2}}.")
    '\\frac{1}{2}'
    """
    start = text.rfind(BOXED)
    if start < 0:
        return None
    start += len(BOXED)
    depth, place = 1, start
    while place < len(text):
        if text[place] == "\\":
            place += 1
        elif text[place] in "{}":
            depth += 1 if text[place] == "{" else -1
            if depth == 0:
                return text[start:place]
        place += 1
    return None


def gold_answer(gold: str) -> str:
    r"""Return the answer that a column's text holds: in its last `\boxed{...}`, after its last `####`, or the whole."""
    boxed = last_boxed(gold)
    answer = (gold.rpartition(MARKER)[2] if boxed is None else boxed).strip().lstrip("$")
    return (answer if answer.endswith(r"\$") else answer.rstrip("$")).strip()
