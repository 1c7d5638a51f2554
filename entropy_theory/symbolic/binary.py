"""Two arms in closed form: where a step on the sampled token moves entropy with its advantage, not against it.

Arm 1 is the sampled token, p = p_1 its probability, and x = log(p_1/p_2) the only coordinate that matters.
"""

import sympy
from sympy import Expr, Integer, Rational, exp, log, sign

from entropy_theory.symbolic.notation import (
    A,
    Change,
    H,
    N,
    centred,
    delta,
    discriminator,
    eta,
    exact,
    first,
    moved_half,
    odds,
    p,
    score,
    second,
)
from entropy_theory.symbolic.steps import Step

TWO = (2,)


def sampled(arm: Expr) -> Expr:
    """Return E4's step on arm 1."""
    return eta * A * score(arm, Integer(1))


def binary_entropy(probability: Expr) -> Expr:
    """Return the entropy of two arms, the first with this probability."""
    return -probability * log(probability) - (1 - probability) * log(1 - probability)


def first_order() -> tuple[Step, ...]:
    """Return the first-order change for two arms and its sign."""
    change = first(sampled)
    return (
        Step("B.1", centred[1], p[2] * odds, "$L_1 = l_1 + H$, $p_1 + p_2 = 1$ and $x = \\log(p_1/p_2)$", TWO),
        Step("B.2", centred[2], -p[1] * odds, "the same for the other arm", TWO),
        Step("B.3", N, p[1] * p[2] * (p[1] - p[2]) * odds, "B.1 and B.2 in the mean of $S$", TWO),
        Step("B.4", discriminator[1] - N, 2 * p[1] * p[2] ** 2 * odds, "B.1 times $p_1$, less B.3", TWO),
        Step("B.5", change, -2 * eta * A * p[1] * p[2] ** 2 * odds, "E4.4 with B.4", TWO),
        Step(
            "B.6", A * change, -2 * eta * A**2 * p[1] * p[2] ** 2 * odds, "B.5 times $A$: a square times minus $x$", TWO
        ),
        Step("B.7", sign(A * change), sign(Rational(1, 2) - p[1]), "so its sign is that of $1/2 - p$", TWO),
    )


def finite_step() -> tuple[Step, ...]:
    """Return the exact change for two arms, in closed form."""
    change = exact(sampled)
    tilt = Change(Integer(1), sympy.Symbol("m", integer=True), delta(sympy.Symbol("m", integer=True), 1))
    return (
        Step("B.8", sampled(Integer(1)) - sampled(Integer(2)), 2 * eta * A * p[2], "what the step adds to $x$", TWO),
        Step("B.9", H, log(1 + exp(odds)) - p[1] * odds, "$H$ as a function of $x$ alone", TWO),
        Step("B.10", tilt, -p[1] * p[2] * odds, "its slope in $x$: $H$ falls as $x$ moves away from 0", TWO),
        Step("B.11", binary_entropy(p[1]), binary_entropy(p[2]), "$H$ is even in $x$: swap the arms", TWO),
        Step(
            "B.12",
            change,
            binary_entropy(moved_half) - binary_entropy(p[1]),
            "exact: $p'$ has log odds $x + 2 \\eta A p_2$",
            TWO,
        ),
    )


def finite_sign() -> tuple[Step, ...]:
    """Return the sign of the exact change for two arms, and what happens on the boundary and at p = 1/2."""
    change, half = exact(sampled), Rational(1, 2)
    curved = -2 * eta**2 * A**2 * p[1] * p[2] ** 3 * (1 + (p[2] - p[1]) * odds)
    zero_step = -odds / p[2]
    return (
        Step(
            "B.13",
            sign(change),
            sign(sympy.Abs(p[1] - half) - sympy.Abs(moved_half - half)),
            "B.10 and B.11: $H$ grows exactly when $p'$ is nearer to 1/2 than $p$",
            TWO,
        ),
        Step(
            "B.14",
            sign(A * change),
            -sign(odds + eta * A * p[2]),
            "$x'^2 - x^2 = 4 \\eta A p_2 (x + \\eta A p_2)$, and $H$ falls with $x^2$",
            TWO,
        ),
        Step(
            "B.15",
            sign(A * change),
            sign(1 - p[1] - moved_half),
            "the same: $x + x'$ is negative where $p + p'$ is below 1",
            TWO,
        ),
        Step(
            "B.16",
            exact(lambda n: zero_step * score(n, Integer(1))),
            Integer(0),
            "on the boundary curve $\\eta A = \\log(p_2/p_1)/p_2$ the step swaps the arms",
            TWO,
        ),
        Step("B.17", second(sampled), curved, "E3.9 for two arms; at $p = 1/2$ it is $-\\eta^2 A^2/8$", TWO),
    )


SECTIONS = {
    "B. Two arms, first order": first_order,
    "B. Two arms, finite step": finite_step,
    "B. Two arms, its sign": finite_sign,
}

REGION = (
    r"First order. $A \Delta H_1 > 0$ exactly on the region $0 < p < 1/2$, $A \ne 0$ (B.6: the factor in front of "
    r"$-x$ is positive, and $x = \log(p/(1-p))$ is negative exactly there). The size of the advantage plays no "
    r"part. The rule $A \Delta H_1 \le 0$ therefore holds exactly for $p \ge 1/2$.",
    r"At $p = 1/2$ the first order is 0 and the second is $-\eta^2 A^2/8$ (B.17): entropy falls for both signs of "
    "$A$, so the rule holds for $A > 0$ and fails for $A < 0$. As $p$ goes to 0 or to 1 the change itself goes to "
    "0.",
    r"Finite step. $A \Delta H > 0$ exactly where $\log(p/(1-p)) + \eta A (1-p) < 0$ (B.14), the same as $p + p' < "
    r"1$ (B.15), for every $A \ne 0$ and every $\eta > 0$. Proof: the step adds $2 \eta A (1-p)$ to $x$ (B.8); $H$ "
    r"is even in $x$ and falls with its size (B.10, B.11), so $\Delta H > 0$ exactly where $x'^2 < x^2$, that is "
    r"where $A (x + \eta A (1-p)) < 0$; times $A$, which is not 0, gives the condition.",
    r"For each $\eta A$ there is one boundary $p^*$. For $c = \eta A \le 0$ the left side $f(p) = x + c (1-p)$ "
    r"grows strictly, as $f'(p) = 1/(p(1-p)) - c > 0$, from $-\infty$ to $+\infty$. For $c > 0$: $f > 0$ for $p "
    r"\ge 1/2$; $f'$ can vanish only at the two $p$ with $p(1-p) = 1/c$, so on $(0, 1/2)$ $f$ grows, and may then "
    "fall towards $f(1/2) = c/2 > 0$: it crosses 0 once. So the region is $0 < p < p^*$, with $p^* < 1/2$ for $A "
    r"> 0$, $p^* > 1/2$ for $A < 0$, and $p^*$ goes to $1/2$ as $\eta A$ goes to 0.",
)
