"""The entropy change of one step on the logits of a context, as written equalities: E2 to E6."""

from sympy import Expr, Integer, Rational

from entropy_theory.symbolic.notation import (
    A,
    H,
    N,
    Partial,
    baseline,
    centred,
    delta,
    discriminator,
    eta,
    first,
    i,
    j,
    k,
    log_p,
    m,
    mean,
    mean_v,
    moved_p,
    n2,
    over,
    p,
    score,
    second,
    v,
    weight,
    y,
    z,
)
from entropy_theory.symbolic.steps import Step

ZERO, ONE, HALF = Integer(0), Integer(1), Rational(1, 2)


def sampled(arm: Expr) -> Expr:
    """Return the step of one policy-gradient update on the sampled token k: eta A ([arm = k] - p_arm)."""
    return eta * A * score(arm, k)


def natural(arm: Expr) -> Expr:
    """Return the step of one natural-gradient update on the sampled token k: eta A [arm = k] / p_k."""
    return eta * A * delta(arm, k) / p[k]


def gradient() -> tuple[Step, ...]:
    """Return E2: the gradient of entropy in the logits is -S."""
    spread = -mean(m, log_p[m] * v[m]) + mean(m, log_p[m]) * mean(m, v[m])
    by_parts = -over(m, Partial(p[m], z[j]) * log_p[m] + p[m] * Partial(log_p[m], z[j]))
    return (
        Step("E2.1", Partial(p[i], z[j]), p[i] * (delta(i, j) - p[j]), "quotient rule on the definition of $p_i$"),
        Step("E2.2", Partial(log_p[i], z[j]), delta(i, j) - p[j], "E2.1 divided by $p_i$"),
        Step("E2.3", Partial(H, z[j]), by_parts, "product rule on $H$, the negative sum of $p_m l_m$"),
        Step("E2.4", mean(m, delta(m, j) - p[j]), ZERO, "second part of E2.3 by E2.2: probabilities sum to one"),
        Step(
            "E2.5",
            -mean(m, (delta(m, j) - p[j]) * log_p[m]),
            -p[j] * (log_p[j] + H),
            "first part of E2.3 by E2.1: the mean of $l_m$ is $-H$",
        ),
        Step("E2.6", Partial(H, z[j]), -discriminator[j], "E2.3 to E2.5 and the definition of $S_j$: the gradient"),
        Step("E2.7", over(m, discriminator[m]), ZERO, "the mean of $L_m$ is 0: shifting all logits moves nothing"),
        Step("E2.8", first(lambda n: v[n]), over(j, Partial(H, z[j]) * v[j]), "chain rule along the step $v$"),
        Step("E2.9", first(lambda n: v[n]), -over(j, discriminator[j] * v[j]), "E2.6 put into E2.8"),
        Step("E2.10", first(lambda n: v[n]), spread, "the minus covariance of $l$ and $v$ under $p$, by $H = -E_p l$"),
    )


def hessian() -> tuple[Step, ...]:
    """Return E3: the Hessian of entropy in the logits and its quadratic form."""
    entry = p[m] * p[y] * (1 + centred[m] + centred[y]) - delta(m, y) * p[m] * (1 + centred[m])
    form = over(m, over(y, v[m] * entry * v[y]))
    squares = mean(m, v[m] ** 2 * (1 + centred[m]))
    about_mean = mean(m, (v[m] - mean_v) ** 2 * (1 + centred[m]))
    moment = over(m, discriminator[m] * v[m])
    closed = p[i] * p[j] * (1 + centred[i] + centred[j]) - delta(i, j) * p[i] * (1 + centred[i])
    return (
        Step(
            "E3.1", Partial(centred[i], z[j]), delta(i, j) - p[j] - discriminator[j], "E2.2 plus E2.6, as $L = l + H$"
        ),
        Step(
            "E3.2",
            Partial(discriminator[i], z[j]),
            p[i] * (delta(i, j) - p[j]) * centred[i] + p[i] * (delta(i, j) - p[j] - discriminator[j]),
            "product rule on $S_i = p_i L_i$ with E2.1 and E3.1",
        ),
        Step("E3.3", Partial(H, z[i], z[j]), -Partial(discriminator[i], z[j]), "derivative of E2.6"),
        Step("E3.4", Partial(H, z[i], z[j]), closed, "E3.2 put into E3.3, with $S_j = p_j L_j$: the Hessian"),
        Step(
            "E3.5",
            over(m, over(y, v[m] * v[y] * p[m] * p[y] * (1 + centred[m] + centred[y]))),
            mean_v**2 + 2 * mean_v * moment,
            "the first part of the form: the double sum factors",
        ),
        Step("E3.6", form, mean_v**2 + 2 * mean_v * moment - squares, "E3.5, and the diagonal part"),
        Step(
            "E3.7",
            about_mean,
            squares - 2 * mean_v * (mean_v + moment) + mean_v**2,
            "the square multiplied out; the mean of $1 + L$ is 1",
        ),
        Step("E3.8", form, -about_mean, "E3.6 is the negative of E3.7: the quadratic form"),
        Step("E3.9", second(lambda n: v[n]), -about_mean / 2, "half the quadratic form: the second-order term"),
        Step("E3.10", second(lambda n: -v[n]), second(lambda n: v[n]), "a step and its opposite share it"),
    )


def sampled_token() -> tuple[Step, ...]:
    """Return E4: the first-order change of a policy-gradient step on one sampled token."""
    terms = p[k] * (log_p[k] + H) - over(m, p[m] ** 2 * (log_p[m] + H))
    return (
        Step("E4.1", eta * A * Partial(log_p[k], z[i]), sampled(i), "the step: $\\eta A$ times E2.2"),
        Step("E4.2", over(m, sampled(m)), ZERO, "the step has mean zero over the arms"),
        Step(
            "E4.3",
            -over(m, discriminator[m] * sampled(m)),
            -eta * A * (discriminator[k] - mean(m, discriminator[m])),
            "E2.9 with this step; the delta picks $S_k$",
        ),
        Step("E4.4", first(sampled), -eta * A * (discriminator[k] - N), "E4.3 and the definition of $N$"),
        Step("E4.5", first(sampled), -eta * A * terms, "the same, written out"),
    )


def theorem_one() -> tuple[Step, ...]:
    """Return E5: Theorem 1's form, its weights and the effective change of p_k for E4's step."""
    others, room, gap = 1 - delta(m, k), 1 - 2 * p[k] + n2, log_p[k] - baseline[k]
    return (
        Step("E5.1", over(m, Partial(p[i], z[m]) * v[m]), p[i] * (v[i] - mean_v), "E2.1: what a step does to $p_i$"),
        Step("E5.2", over(m, p[i] * (v[i] - mean_v)).xreplace({i: m}), ZERO, "probability is conserved"),
        Step(
            "E5.3",
            first(lambda n: v[n]),
            -over(m, p[m] * (v[m] - mean_v) * log_p[m]),
            "E2.10: minus $\\delta p$ on $l$",
        ),
        Step("E5.4", over(m, Partial(p[i], z[m]) * sampled(m)), moved_p[i, k], "E5.1 for E4's step: $\\delta p_i$"),
        Step("E5.5", moved_p[k, k], eta * A * p[k] * room, "E5.4 at the sampled token: the effective $\\delta p_k$"),
        Step(
            "E5.6",
            room,
            (1 - p[k]) ** 2 + over(m, others * p[m] ** 2),
            "a sum of squares: $\\delta p_k$ has the sign of $A$",
        ),
        Step(
            "E5.7",
            weight[i, k],
            p[i] * (p[i] + p[k] - n2) / (p[k] * room),
            "$-\\delta p_i / \\delta p_k$; negative where $p_i + p_k$ is below $n_2$",
            distinct=(i, k),
        ),
        Step("E5.8", over(m, others * weight[m, k]), ONE, "the weights sum to one, by conservation"),
        Step(
            "E5.9",
            -over(m, moved_p[m, k] * log_p[m]),
            -moved_p[k, k] * gap,
            "$\\delta p_k$ taken out: Theorem 1's form",
        ),
        Step("E5.10", first(sampled), -moved_p[k, k] * gap, "E5.3 and E5.9"),
        Step("E5.11", -moved_p[k, k] * gap, -eta * A * (discriminator[k] - N), "Theorem 1 and E4 are the same number"),
        Step("E5.12", gap, (discriminator[k] - N) / (p[k] * room), "so $l_k$ is above $b_k$ where $S_k$ is above $N$"),
    )


def natural_gradient() -> tuple[Step, ...]:
    """Return E6: the natural-gradient step of one sample, and its first-order change."""
    return (
        Step(
            "E6.1", mean(y, score(i, y) * score(j, y)), p[i] * (delta(i, j) - p[j]), "the Fisher matrix in the logits"
        ),
        Step(
            "E6.2",
            over(m, p[i] * (delta(i, m) - p[m]) * natural(m)),
            sampled(i),
            "the natural step solves Fisher times step = gradient step",
        ),
        Step("E6.3", first(natural), -eta * A * discriminator[k] / p[k], "E2.9 with the natural step"),
        Step("E6.4", first(natural), -eta * A * centred[k], "$S_k = p_k L_k$"),
        Step("E6.5", mean(y, centred[y]), ZERO, "so a constant advantage moves nothing on average"),
    )


SECTIONS = {
    "E2. Gradient": gradient,
    "E3. Hessian": hessian,
    "E4. Sampled token, policy gradient": sampled_token,
    "E5. Theorem 1's form": theorem_one,
    "E6. Natural gradient, one sample": natural_gradient,
}
