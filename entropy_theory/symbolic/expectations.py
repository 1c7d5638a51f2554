"""Expectations of the entropy change over on-policy samples, as written equalities: X1 to X4.

`y` is a sampled token with advantage a_y, and a group of G samples takes the step eta/G sum a_y (e_y - p). Groups of 1,
2 and 3 are summed over every outcome, so nothing of X1 to X4 is taken for granted.
"""

from collections.abc import Callable

import sympy
from sympy import Abs, Expr, Integer, Max, Rational, Symbol

from entropy_theory.symbolic.notation import (
    M3,
    A,
    D,
    G,
    J,
    K,
    N,
    Partial,
    a,
    centred,
    delta,
    discriminator,
    draws,
    eta,
    first,
    i,
    j,
    log_p,
    m,
    mean,
    mean_a,
    mean_gradient,
    mu,
    n2,
    n3,
    over,
    p,
    r,
    score,
    second,
    y,
    z,
)
from entropy_theory.symbolic.steps import Step

ZERO = Integer(0)


def over_groups(size: int, term: Expr) -> Expr:
    """Return the expectation of a term over all groups of this many on-policy samples y_1, y_2, ..."""
    for token in draws[:size]:
        term = mean(token, term)
    return term


def group_mean(size: int, arm: Expr) -> Expr:
    """Return one component of a group's mean gradient, (1/G) sum a_y ([arm = y] - p_arm)."""
    return sympy.Add(*(a[token] * score(arm, token) for token in draws[:size])) / size


def covariance(one: Callable[[Symbol], Expr], other: Callable[[Symbol], Expr]) -> Expr:
    """Return the covariance under p of two functions of the arm."""
    return mean(m, one(m) * other(m)) - mean(m, one(m)) * mean(m, other(m))


def curvature(step: Callable[[Symbol], Expr]) -> Expr:
    """Return v' (Hessian of H) v by E3.8."""
    return -mean(m, (step(m) - mean(y, step(y))) ** 2 * (1 + centred[m]))


def first_order() -> tuple[Step, ...]:
    """Return X1: the expected first-order change is minus a covariance."""
    with_s = -eta * covariance(lambda n: a[n], lambda n: discriminator[n])
    each = mean(y, first(lambda n: eta * a[y] * score(n, y)))
    pairs = over_groups(2, first(lambda n: eta * group_mean(2, n)))
    natural = mean(y, first(lambda n: eta * a[y] * delta(n, y) / p[y]))
    return (
        Step("X1.1", mean(y, a[y] * score(i, y)), p[i] * (a[i] - mean_a), "the mean gradient, $\\bar g_i$"),
        Step(
            "X1.2", each, -eta * mean(y, a[y] * (discriminator[y] - N)), "E4.4 for each token, weighted by its chance"
        ),
        Step("X1.3", each, with_s, "$N$ is the mean of $S$"),
        Step("X1.4", pairs, with_s, "a group's mean step: first order is linear. All groups of 2", arms=(2, 3, 4)),
        Step("X1.5", first(lambda n: eta * mean_gradient[n]), with_s, "so the mean step moves as much"),
        Step(
            "X1.6",
            with_s,
            -eta * covariance(lambda n: log_p[n], lambda n: p[n] * (a[n] - mean_a)),
            "both are the mean of $a$ times $S$ less its mean; $L$ and $l$ differ by a constant",
        ),
        Step(
            "X1.7",
            natural,
            -eta * covariance(lambda n: log_p[n], lambda n: a[n]),
            "natural gradient: E6.4 for each token; $L$ and $l$ differ by a constant",
        ),
    )


def constant_advantage() -> tuple[Step, ...]:
    """Return X2: a constant advantage moves nothing at first order, under any architecture."""
    gap = discriminator[y] - N
    network = mean(y, Partial(log_p[y], z[i]))
    share = mean(y, Max(gap, 0))
    return (
        Step("X2.1", network, ZERO, "the mean of the score is 0 for each logit"),
        Step(
            "X2.2",
            mean(y, over(m, J[m] * score(m, y))),
            ZERO,
            "and for any parameter with derivatives $J_m$ of the logits: no architecture is assumed",
        ),
        Step("X2.3", mean(y, gap), ZERO, "the mean of $S - N$"),
        Step("X2.4", mean(y, first(lambda n: eta * A * score(n, y))), ZERO, "X2.3 times $-\\eta A$"),
        Step("X2.5", share, mean(y, Abs(gap)) / 2, "so each sign has half of the mean size, at every $p$"),
    )


def positives_and_negatives() -> tuple[Step, ...]:
    """Return X3: keeping only correct and keeping only wrong samples have the same expected gradient."""
    first_token, second_token = draws[:2]
    kept = r[first_token] + r[second_token]
    none = (1 - r[first_token]) * (1 - r[second_token])
    sum_kept = r[first_token] * score(i, first_token) + r[second_token] * score(i, second_token)
    direction = p[i] * (r[i] - mu)
    positives = mean(y, first(lambda n: eta * r[y] * score(n, y)))
    negatives = mean(y, first(lambda n: eta * (r[y] - 1) * score(n, y)))
    return (
        Step("X3.1", mean(y, (r[y] - (r[y] - 1)) * score(i, y)), ZERO, "the two rewards differ by 1: X2.1"),
        Step("X3.2", mean(y, r[y] * score(i, y)), mean(y, (r[y] - 1) * score(i, y)), "X3.1 rearranged"),
        Step("X3.3", mean(y, r[y] * score(i, y)), direction, "X1.1 with $a = r$; $\\mu$ is the mean reward"),
        Step("X3.4", positives, negatives, "X3.2 and E2.9: the same expected first-order change"),
        Step(
            "X3.5",
            mean(y, r[y] * score(i, y)) / mean(y, r[y]),
            direction / mu,
            "a mean over kept positives: the direction times $1/\\mu$",
        ),
        Step(
            "X3.6",
            mean(y, (r[y] - 1) * score(i, y)) / mean(y, 1 - r[y]),
            direction / (1 - mu),
            "a mean over kept negatives: the same direction times $1/(1-\\mu)$",
        ),
        Step(
            "X3.7",
            over_groups(2, sum_kept / (kept + none)),
            (1 - (1 - mu) ** 2) / mu * direction,
            "groups of 2, divided by the number kept: exactly $(1-(1-\\mu)^G)/\\mu$, as a group may keep none",
            arms=(2, 3, 4),
        ),
    )


def pair_moments() -> tuple[Step, ...]:
    """Return the first part of X4: the second moments of a group's mean gradient."""
    noise = mean(y, a[y] ** 2 * score(i, y) * score(j, y))

    def moments(size: int) -> Expr:
        return over_groups(size, group_mean(size, i) * group_mean(size, j))

    def split(size: Expr) -> Expr:
        return (1 - 1 / size) * mean_gradient[i] * mean_gradient[j] + noise / size

    counted = (G * noise + G * (G - 1) * mean_gradient[i] * mean_gradient[j]) / G**2
    reason = "all groups of {} samples, each outcome with its chance"
    return (
        Step("X4.1", counted, split(G), "$G$ equal pairs and $G(G-1)$ independent ones, of $G^2$"),
        Step("X4.2", moments(1), split(Integer(1)), reason.format("1")),
        Step("X4.3", moments(2), split(Integer(2)), reason.format("2"), arms=(2, 3, 4)),
        Step("X4.4", moments(3), split(Integer(3)), reason.format("3"), arms=(2, 3, 4)),
    )


def drift() -> tuple[Step, ...]:
    """Return X4: the expected second-order change, and its noise part in closed form."""
    centre = p[i] - n2
    form = curvature(lambda n: score(n, i))
    inner = p[i] * (1 + centred[i]) * (1 - 4 * p[i] + 2 * n2) + n3 + M3 + 2 * centre * (n2 + N) + centre**2

    def expected(size: int) -> tuple[Expr, Expr]:
        left = over_groups(size, second(lambda n: eta * group_mean(size, n)))
        noise = mean(y, a[y] ** 2 * second(lambda n: score(n, y)))
        share = Rational(size - 1, size)
        return left, eta**2 * (share * second(lambda n: mean_gradient[n]) + noise / size)

    drift_reason = "X4.{} in the quadratic form; second order is half of it. All groups of {}"
    pure_noise = mean(y, second(lambda n: eta * A * score(n, y)))
    at_uniform = -over(m, K**-2) + 2 * over(m, K**-3) - over(m, K**-2) ** 2
    return (
        *pair_moments(),
        Step("X4.5", *expected(1), drift_reason.format(2, 1)),
        Step("X4.6", *expected(2), drift_reason.format(3, 2), arms=(2, 3, 4)),
        Step("X4.7", *expected(3), drift_reason.format(4, 3), arms=(2, 3, 4)),
        Step("X4.8", mean(m, score(m, i)), centre, "the mean of $e_i - p$ under $p$"),
        Step("X4.9", 2 * second(lambda n: score(n, i)), form, "E3.8 with the step $e_i - p$"),
        Step("X4.10", form, -inner, "the square multiplied out, with X4.8; $M_3$ is the sum of $p^3 L$"),
        Step("X4.11", mean(y, inner.xreplace({i: y})), -D, "its mean, term by term, with the definition of $D$"),
        Step("X4.12", pure_noise, eta**2 * A**2 * D / 2, "X4.9 to X4.11: pure noise, one sample a step"),
        Step(
            "X4.13",
            over_groups(2, second(lambda n: eta * A * (score(n, draws[0]) - score(n, draws[1])) / 2)),
            eta**2 * A**2 * D / 4,
            "one sample up and one down: $a^2 = A^2$, the mean gradient is 0, so the noise part alone, with $G = 2$",
            arms=(2, 3, 4),
        ),
        Step(
            "X4.14",
            at_uniform,
            -(K - 1) / K**2,
            "$D$ at the uniform policy, where $L = 0$: negative for every $K$ above 1",
        ),
    )


SECTIONS = {
    "X1. Expected first order": first_order,
    "X2. Constant advantage": constant_advantage,
    "X3. Positives only and negatives only": positives_and_negatives,
    "X4. Sampling drift": drift,
}
