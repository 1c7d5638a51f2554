"""The symbols of the derivation, their definitions, and the two operators that have no sign of their own in SymPy.

Every defined quantity is an explicit function of the logits z. What is differentiated is that function, by SymPy, so a
left side such as dH/dz_j never uses the formula that it is compared with.
"""

from collections.abc import Callable
from functools import cache

import sympy
from sympy import Basic, Expr, IndexedBase, KroneckerDelta, Rational, Sum, Symbol, exp, log
from sympy.printing.latex import LatexPrinter
from sympy.printing.str import StrPrinter

K = Symbol("K", integer=True, positive=True)
i, j, k, m, y = (Symbol(name, integer=True) for name in "ijkmy")
draws = tuple(Symbol(f"y{number}", integer=True) for number in (1, 2, 3))
z, v, a, r, p, J = (IndexedBase(name) for name in "zvarpJ")
log_p, centred, discriminator, mean_gradient = (IndexedBase(name) for name in ("l", "L", "S", "gbar"))
moved_p, weight, baseline = IndexedBase("deltap"), IndexedBase("w"), IndexedBase("b")
H, N, n2, n3, M3, D = (Symbol(name) for name in ("H", "N", "n_2", "n_3", "M_3", "D"))
odds, moved_half = Symbol("x"), Symbol("p_new")
eta, A, G = Symbol("eta", positive=True), Symbol("A", real=True), Symbol("G", integer=True, positive=True)
mean_v, mean_a, mu = Symbol("vbar"), Symbol("abar"), Symbol("mu")

Template = Callable[..., Expr]


def over(index: Symbol, term: Expr | int) -> Sum:
    """Return the sum of a term over all arms."""
    return Sum(term, (index, 1, K))


def mean(index: Symbol, term: Expr | int) -> Sum:
    """Return E_p of a term."""
    return over(index, p[index] * term)


def delta(one: Expr | int, other: Expr | int) -> Expr:
    """Return 1 where two arms are the same, else 0."""
    return KroneckerDelta(one, other)


def score(arm: Expr | int, token: Expr | int) -> Expr:
    """Return the derivative of l_token in the logit of an arm: [arm = token] - p_arm (proved in E2.2)."""
    return delta(arm, token) - p[arm]


# What each symbol stands for, with the bound index m, at the arm n (and for the sampled token).
DEFINITIONS: dict[IndexedBase | Symbol, Template] = {
    p: lambda m, n: exp(z[n]) / over(m, exp(z[m])),
    log_p: lambda m, n: log(p[n]),
    H: lambda m: -over(m, p[m] * log_p[m]),
    centred: lambda m, n: log_p[n] + H,
    discriminator: lambda m, n: p[n] * centred[n],
    N: lambda m: over(m, p[m] * discriminator[m]),
    n2: lambda m: over(m, p[m] ** 2),
    n3: lambda m: over(m, p[m] ** 3),
    M3: lambda m: over(m, p[m] ** 3 * centred[m]),
    D: lambda m: -n2 - N + 2 * n3 + 3 * M3 - n2**2 - 2 * n2 * N,
    mean_v: lambda m: over(m, p[m] * v[m]),
    mean_a: lambda m: over(m, p[m] * a[m]),
    mu: lambda m: over(m, p[m] * r[m]),
    mean_gradient: lambda m, n: over(m, p[m] * a[m] * score(n, m)),
    moved_p: lambda m, n, token: eta * A * p[n] * (delta(n, token) - p[n] - p[token] + n2),
    weight: lambda m, n, token: -moved_p[n, token] / moved_p[token, token],
    baseline: lambda m, token: over(m, (1 - delta(m, token)) * weight[m, token] * log_p[m]),
    odds: lambda m: log(p[1] / p[2]),
    moved_half: lambda m: 1 / (1 + exp(-odds - 2 * eta * A * p[2])),
}


class Partial(Expr):
    """The partial derivative of a quantity in one or more logits: `Partial(H, z[i], z[j])`."""

    def _latex(self, printer: LatexPrinter) -> str:
        order = f"^{{{len(self.args) - 1}}}" if len(self.args) > 2 else ""
        below = r" \, ".join(rf"\partial {printer._print(logit)}" for logit in self.args[1:])
        return rf"\frac{{\partial{order} {printer._print(self.args[0])}}}{{{below}}}"

    def _plain(self, printer: StrPrinter) -> str:
        order = f"^{len(self.args) - 1}" if len(self.args) > 2 else ""
        below = " ".join(f"d{printer._print(logit)}" for logit in self.args[1:])
        return (
            f"d{order}{printer._print(self.args[0])}/({below})" if order else f"d{printer._print(self.args[0])}/{below}"
        )


class Change(Expr):
    """The entropy change of the step delta z: `Change(order, n, delta z_n)`, with the bound index n.

    Order 0 is the exact change H(z + delta z) - H(z); order 1 and 2 are the coefficients of t and t^2 in the Taylor
    series of H(z + t delta z), so that exact = order 1 + order 2 + O(|delta z|^3).
    """

    def _latex(self, printer: LatexPrinter) -> str:
        order, index, step = self.args
        mark = f"_{{{order}}}" if order else ""
        return rf"\Delta H{mark}\left[\delta z_{{{printer._print(index)}}} = {printer._print(step)}\right]"

    def _plain(self, printer: StrPrinter) -> str:
        order, index, step = self.args
        return f"DeltaH{order or ''}[delta z_{printer._print(index)} = {printer._print(step)}]"


def first(step: Callable[[Symbol], Expr]) -> Change:
    """Return the first-order entropy change of the step with these components."""
    return Change(sympy.Integer(1), m, step(m))


def second(step: Callable[[Symbol], Expr]) -> Change:
    """Return the second-order term of the entropy change of the step with these components."""
    return Change(sympy.Integer(2), m, step(m))


def exact(step: Callable[[Symbol], Expr]) -> Change:
    """Return the exact entropy change of the step with these components."""
    return Change(sympy.Integer(0), m, step(m))


def in_logits(expression: Basic) -> Basic:
    """Return the expression as an explicit function of the logits z, all definitions put in."""
    name = expression.base if isinstance(expression, sympy.Indexed) else expression
    if name in DEFINITIONS:
        arms = expression.indices if isinstance(expression, sympy.Indexed) else ()
        return in_logits(DEFINITIONS[name](sympy.Dummy("m", integer=True), *arms))
    if not expression.args or isinstance(expression, sympy.Indexed):
        return expression
    return expression.func(*(in_logits(part) for part in expression.args))


@cache
def differentiated(derivative: Partial) -> Expr:
    """Return the derivative as an explicit function of the logits, by SymPy's rules, for any number of arms."""
    quantity, *logits = derivative.args
    value = in_logits(quantity)
    for logit in logits:
        value = value.diff(logit)
    return value


@cache
def taylor_coefficient(order: int) -> Expr:
    """Return the coefficient of t^order of H(z + t direction); for order 0, H(z + direction) itself."""
    t, direction = Symbol("t"), IndexedBase("direction")
    along = in_logits(H).replace(
        lambda part: isinstance(part, sympy.Indexed) and part.base == z, lambda at: at + t * direction[at.indices[0]]
    )
    if order == 0:
        return along.xreplace({t: sympy.Integer(1)})
    return along.diff(t, order).xreplace({t: sympy.Integer(0)}) * Rational(1, sympy.factorial(order))
