"""The derivation of the entropy formulas, step by step, and what the paper's statements do not imply (SymPy).

`import entropy_theory` does not load this part; nothing else of the package needs SymPy.
"""

from collections.abc import Iterable

from entropy_theory.symbolic import binary, expectations, one_step
from entropy_theory.symbolic.counterexamples import counterexamples
from entropy_theory.symbolic.render import as_latex, as_text
from entropy_theory.symbolic.steps import Step, check_all, explicit
from entropy_theory.symbolic.witness import Counterexample

__all__ = [
    "Counterexample",
    "Step",
    "as_latex",
    "as_text",
    "check_derivation",
    "checked_sections",
    "counterexamples",
    "derivation",
    "sections",
    "statements",
]

EXPLICIT_ARMS = (2, 3, 4)


def sections() -> dict[str, tuple[Step, ...]]:
    """Return the equalities by section, not yet checked: for any K, then written out for K = 2, 3, 4."""
    written = {}
    for title, steps in {**one_step.SECTIONS, **expectations.SECTIONS}.items():
        general = steps()
        written[title] = general + tuple(
            one for arms in EXPLICIT_ARMS for step in general for one in explicit(step, arms)
        )
    return written | {title: steps() for title, steps in binary.SECTIONS.items()}


def statements() -> tuple[Step, ...]:
    """Return every equality of the derivation in order, not yet checked."""
    return tuple(step for steps in sections().values() for step in steps)


def check_derivation(steps: Iterable[Step] | None = None) -> tuple[Step, ...]:
    """Return the steps (all of the derivation, unless given) with where each was checked and its worst discrepancy.

    Raises:
        ValueError: a step's sides differ by more than 1e-40; the message names the step and where.

    >>> (step,) = check_derivation(statements()[:1])
    >>> step.name, step.worst < 1e-40
    ('E2.1', True)
    """
    return check_all(statements() if steps is None else steps)


def checked_sections() -> dict[str, tuple[Step, ...]]:
    """Return the derivation by section, every step checked.

    Raises:
        ValueError: a step fails; the message names it.
    """
    return {title: check_all(steps) for title, steps in sections().items()}


def derivation() -> tuple[Step, ...]:
    """Return the derivation of E2 to E6, X1 to X4 and the two-arm case: every step, checked.

    Raises:
        ValueError: a step fails; the message names it.

    Source: the package's notation (`softmax.py`); arXiv 2604.26326 for E5.
    """
    return check_derivation()
