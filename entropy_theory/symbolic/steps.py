"""What a derivation is made of: an equality with its reason, and the check that it holds at random rationals."""

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import mpmath
import sympy
from mpmath import mpf
from sympy import Basic, Expr, Integer, Sum, Symbol

from entropy_theory.symbolic import notation
from entropy_theory.symbolic.evaluate import WORKING_DIGITS, Point, free_symbols, outermost, random_point, value

DIGITS = 40
POINTS = 3  # random points for each number of arms
UNCHECKED = mpf("inf")
INDICES = (notation.k, notation.i, notation.j)  # k first: explicit steps then show k = 1
LONGEST = 400  # nodes of one side of an explicit step; a longer sum stays a sum


@dataclass(frozen=True)
class Step:
    """One equality of the derivation.

    Args:
        name: its reference, such as "E4.2" or "E4.2 [K = 3, k = 1]".
        left: the left side; K is the symbol K, or a number in an explicit step.
        right: the right side.
        reason: why they are equal, in words.
        arms: the numbers of arms K at which it is to be checked, with every setting of its indices.
        distinct: indices that must stand for different arms.
        checked_at: where it was checked; empty before.
        worst: the largest |left - right| / max(|left|, |right|) found there (|left - right| where a side is 0 itself);
            infinite before.
    """

    name: str
    left: Expr
    right: Expr
    reason: str
    arms: tuple[int, ...] = (2, 3, 4, 5)
    distinct: tuple[Symbol, ...] = ()
    checked_at: str = ""
    worst: mpf = UNCHECKED


def settings(step: Step, arms: int) -> Iterator[dict[Symbol, int]]:
    """Yield every setting of the step's free indices among this many arms."""
    free = [index for index in INDICES if index in indices_of(step)]
    for chosen in itertools.product(range(1, arms + 1), repeat=len(free)):
        setting = dict(zip(free, chosen, strict=True))
        kept = [setting[index] for index in step.distinct if index in setting]
        if len(set(kept)) == len(kept):
            yield setting


def indices_of(step: Step) -> frozenset[Expr]:
    """Return the free indices of a step."""
    return (free_symbols(step.left) | free_symbols(step.right)) & set(INDICES)


def discrepancy(step: Step, at: Point) -> mpf:
    """Return |left - right| at a point, relative to the larger side; absolute where one side is written as 0."""
    left, right = value(step.left, at), value(step.right, at)
    zero = step.left == 0 or step.right == 0 or left == right
    return abs(left - right) / (1 if zero else max(abs(left), abs(right)))


def check_step(step: Step) -> Step:
    """Return the step with what its check found: at random rationals, K as it says, every setting of its indices.

    Both sides are summed term by term with 60 digits; they must agree to 40. Nothing is simplified.

    Raises:
        ValueError: the two sides differ; the message names the step and where.
    """
    worst, count = mpf(0), 0
    with mpmath.workdps(WORKING_DIGITS):
        for arms, seed in itertools.product(step.arms, range(POINTS)):
            at = random_point(arms, seed)
            for setting in settings(step, arms):
                found = discrepancy(step, Point(arms, at.given, setting, at.known))
                count += 1
                worst = max(worst, found)
                if not found <= mpf(10) ** -DIGITS:
                    where = ", ".join([f"K = {arms}", f"seed {seed}", *(f"{n} = {arm}" for n, arm in setting.items())])
                    raise ValueError(
                        f"check_step(step={step.name!r}) must have equal sides to {DIGITS} digits; they differ by "
                        f"{mpmath.nstr(found, 5)} at {where}. Mend {step.name}: {step.left} = {step.right}."
                    )
    tried = ", ".join(map(str, step.arms))
    return replace(step, checked_at=f"K = {tried}: {count} evaluations at {POINTS} points each", worst=worst)


def unrolled(expression: Expr, arms: int) -> Expr:
    """Return the expression for a number of arms, with its sums written out, unless that is too long to read."""
    shorter = _replaced(expression, arms, write_out=True)
    return (
        shorter
        if sum(1 for _ in sympy.preorder_traversal(shorter)) <= LONGEST
        else _replaced(expression, arms, write_out=False)
    )


def _replaced(part: Basic, arms: int, write_out: bool) -> Basic:
    """Return an expression with K put in, and its sums expanded where asked for."""
    if part == notation.K:
        return Integer(arms)
    if isinstance(part, Sum) and write_out:
        term, (index, _, _) = outermost(part)
        terms = (term.xreplace({index: Integer(arm)}) for arm in range(1, arms + 1))
        return sympy.Add(*(_replaced(one, arms, write_out) for one in terms))
    if not part.args or isinstance(part, sympy.Indexed):
        return part
    return part.func(*(_replaced(below, arms, write_out) for below in part.args))


def explicit(step: Step, arms: int) -> tuple[Step, ...]:
    """Return the step written out for a number of arms, once for each pattern of its indices (the rest is symmetry)."""
    found, seen = [], set()
    for setting in settings(step, arms):
        pattern = tuple(list(setting.values()).index(arm) for arm in setting.values())
        if pattern in seen:
            continue
        seen.add(pattern)
        put = {index: Integer(arm) for index, arm in setting.items()}
        label = ", ".join([f"K = {arms}", *(f"{index} = {arm}" for index, arm in setting.items())])
        left, right = (unrolled(side.xreplace(put), arms) for side in (step.left, step.right))
        # Nothing is left to say where writing out makes both sides one expression.
        if left != right:
            found.append(replace(step, name=f"{step.name} [{label}]", left=left, right=right, arms=(arms,)))
    return tuple(found)


def check_all(steps: Iterable[Step]) -> tuple[Step, ...]:
    """Return the steps, each checked.

    Raises:
        ValueError: one of them fails; the message names it.
    """
    return tuple(check_step(step) for step in steps)
