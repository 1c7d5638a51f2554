"""Numbers for the derivation: an expression at one point, to many digits, summed term by term as it is written."""

import math
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache

import mpmath
import sympy
from mpmath import mpf
from sympy import Expr, IndexedBase, Rational, Sum, Symbol

from entropy_theory.symbolic import notation
from entropy_theory.symbolic.notation import DEFINITIONS, Change, K, Partial

WORKING_DIGITS = 60
FUNCTIONS = {
    sympy.exp: mpmath.exp,
    sympy.log: mpmath.log,
    sympy.Abs: abs,
    sympy.sign: mpmath.sign,
    sympy.Max: max,
}


@dataclass(frozen=True)
class Point:
    """Where an expression is evaluated.

    Args:
        arms: K.
        given: a value for each free symbol, and a row of K values for each family (logits, advantages, ...).
        bound: the arm that each index stands for.
        known: what was computed at this point already.
    """

    arms: int
    given: Mapping[IndexedBase | Symbol, object]
    bound: Mapping[Symbol, int]
    known: dict[object, object] = field(default_factory=dict)

    def where(self, index: Symbol, arm: int) -> "Point":
        """Return the same point, with one index standing for an arm."""
        return Point(self.arms, self.given, {**self.bound, index: arm}, self.known)


@cache
def random_point(arms: int, seed: int) -> Point:
    """Return a point of random rationals: logits, a direction, advantages, rewards of both kinds, sizes.

    Numerators are drawn over fixed powers of two, so that float64 holds every value exactly. The point is made once,
    and remembers what was computed at it.
    """
    draw = random.Random(1000 * arms + seed)

    def row(bound: int, below: int) -> list[Rational]:
        return [Rational(draw.randint(-bound, bound), below) for _ in range(arms)]

    rewards = [sympy.Integer(draw.randint(0, 1)) for _ in range(arms)]
    right, wrong = draw.sample(range(arms), 2)
    rewards[right], rewards[wrong] = sympy.Integer(1), sympy.Integer(0)
    given = {
        notation.z: row(160, 64),
        notation.v: row(160, 64),
        notation.a: row(40, 16),
        notation.J: row(40, 16),
        notation.r: rewards,
        notation.eta: Rational(draw.randint(1, 64), 64),
        notation.A: Rational(draw.choice((-1, 1)) * draw.randint(1, 32), 16),
        notation.G: sympy.Integer(draw.randint(2, 8)),
    }
    return Point(arms, given, {})


def outermost(total: Sum) -> tuple[Expr, tuple[Symbol, Expr, Expr]]:
    """Return what the outermost sum of a (nested) sum adds up, and its index and limits."""
    term, *inner, outer = total.args
    return (Sum(term, *inner) if inner else term), tuple(outer)


@cache
def free_symbols(expression: Expr) -> frozenset[Expr]:
    """Return the expression's free symbols and families."""
    return frozenset(expression.free_symbols)


def value(expression: Expr, at: Point) -> mpf:
    """Return the number that an expression stands for, in mpmath's working precision.

    Raises:
        TypeError: an operation that is not one of the derivation's.
    """
    return +mpf(_compiled(expression)(at))


@cache
def _compiled(expression: Expr) -> Callable[[Point], mpf]:
    """Return the function from points to values of an expression, operation by operation as it is written."""
    if expression.is_Rational:
        above, below = expression.p, expression.q
        return lambda at: mpf(above) / below
    if expression.is_Symbol and expression.is_integer:
        return lambda at: at.bound[expression] if expression in at.bound else _named(expression, at)
    if expression.is_Symbol or expression.is_Indexed:
        family, arms = _family_and_arms(expression)
        return lambda at: (
            at.known[key]
            if (key := (family, *[at.bound.get(arm, arm) for arm in arms])) in at.known
            else _named(expression, at)
        )
    if expression.is_Add or expression.is_Mul:
        parts, joined = [_compiled(part) for part in expression.args], sum if expression.is_Add else math.prod
        return lambda at: joined([part(at) for part in parts])
    if expression.is_Pow:
        base, exponent = _compiled(expression.base), _compiled(expression.exp)
        return lambda at: base(at) ** exponent(at)
    if isinstance(expression, sympy.KroneckerDelta):
        one, other = (_compiled(part) for part in expression.args)
        return lambda at: mpf(one(at) == other(at))
    if expression.func in FUNCTIONS:
        function, parts = FUNCTIONS[expression.func], [_compiled(part) for part in expression.args]
        return lambda at: mpf(function(*(part(at) for part in parts)))
    indices = [symbol for symbol in free_symbols(expression) if symbol.is_Symbol and symbol.is_integer]
    return lambda at: (
        at.known[key]
        if (key := (expression, *[at.bound.get(index) for index in indices])) in at.known
        else _remembered(expression, key, at)
    )


def _number(given: object) -> mpf:
    """Return a rational as a number of the working precision, and a number as it is."""
    return mpf(given.p) / given.q if isinstance(given, Rational) else mpf(given)


def _family_and_arms(name: Symbol | sympy.Indexed) -> tuple[Expr | IndexedBase, tuple[int | Symbol, ...]]:
    """Return what stands under one name, and the arms asked for: numbers or indices."""
    if isinstance(name, sympy.Indexed):
        return name.base, tuple(int(arm) if arm.is_Integer else arm for arm in name.indices)
    return name, ()


def _named(name: Symbol | sympy.Indexed, at: Point) -> mpf:
    """Return the value of a symbol: K, a given number, or what its definition says."""
    if name == K:
        return mpf(at.arms)
    family, arms = _family_and_arms(name)
    key = (family, *(at.bound.get(arm, arm) for arm in arms))
    if key not in at.known:
        if family in DEFINITIONS:
            found = value(DEFINITIONS[family](Symbol("m_", integer=True), *map(sympy.Integer, key[1:])), at)
        else:
            row = at.given[family]
            found = _number(row[key[1] - 1] if isinstance(row, list) else row)
        at.known[key] = found
    return at.known[key]


def _remembered(expression: Expr, key: tuple[object, ...], at: Point) -> mpf:
    """Return the value of a sum, a derivative or a change, and keep it under its setting of indices."""
    if key not in at.known:
        if isinstance(expression, Sum):
            term, (index, low, high) = outermost(expression)
            arms = range(int(value(low, at)), int(value(high, at)) + 1)
            summand = _compiled(term)
            at.known[key] = sum([summand(at.where(index, arm)) for arm in arms], mpf(0))
        elif isinstance(expression, Partial):
            at.known[key] = value(notation.differentiated(expression), at)
        elif isinstance(expression, Change):
            at.known[key] = _change(expression, at)
        else:
            raise TypeError(f"value(expression={expression}) must be made of the derivation's operations.")
    return at.known[key]


def _change(change: Change, at: Point) -> mpf:
    """Return the Taylor coefficient of H along a step, or the exact change (order 0)."""
    order, index, step = change.args
    components = [value(step, at.where(index, arm)) for arm in range(1, at.arms + 1)]
    key = ("change", order, *components)
    if key not in at.known:
        there = Point(at.arms, {notation.z: at.given[notation.z], IndexedBase("direction"): components}, {})
        at.known[key] = value(notation.taylor_coefficient(int(order)), there)
    found: mpf = at.known[key]
    return found - value(notation.H, at) if order == 0 else found
