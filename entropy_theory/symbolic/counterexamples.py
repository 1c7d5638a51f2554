"""What the paper's statements (arXiv 2604.26326, Theorems 1 and 2) do not imply: policies at which they go wrong.

Probabilities are rationals; logarithms are taken to 60 digits, and each claim of an example is checked when it is made.
"""

import itertools
from fractions import Fraction

import mpmath
from mpmath import mpf

from entropy_theory.symbolic.evaluate import WORKING_DIGITS
from entropy_theory.symbolic.witness import (
    Counterexample,
    Policy,
    at_token,
    claimed_and_true_mass,
    entropy_of,
    require,
)


def reversed_sign(name: str, policy: Policy, token: int, advantage: int, shows: str) -> Counterexample:
    """Return a token whose condition is false and whose update moves entropy with its advantage."""
    rate = Fraction(1, 10)
    found = at_token(policy, token, rate * advantage)
    require(
        name,
        a_false_condition=found.gap < 0,
        A_times_the_first_order_positive=advantage * found.first > 0,
        A_times_the_exact_change_positive=advantage * found.exact > 0,
        the_same_first_order_from_Theorem_1=mpmath.almosteq(found.first, -found.moved * found.gap),
    )
    numbers = {
        "log p_k": found.log_p,
        "b_k": found.baseline,
        "exp(-H)": mpmath.exp(-entropy_of([mpf(q.numerator) / q.denominator for q in policy])),
        "first order of Delta H": found.first,
        "exact Delta H": found.exact,
    }
    reading = "Theorem 1's reading: positive advantages lower entropy, negative ones raise it"
    return Counterexample(name, reading, shows, (policy,), (token,), Fraction(advantage), rate, numbers)


def large_step() -> Counterexample:
    """Return a token whose condition is true and whose exact change has the other sign, at a finite step."""
    policy, rate = (Fraction(13, 25), Fraction(12, 25)), Fraction(1)
    found = at_token(policy, 0, -rate)
    require(
        "C4",
        a_true_condition=found.gap > 0,
        A_times_first_order_negative=-found.first < 0,
        the_exact_one_positive=-found.exact > 0,
    )
    return Counterexample(
        "C4",
        "Theorem 1's conclusion at a finite step: the condition implies A times Delta H is at most 0",
        "The condition is true and the first order obeys it; the exact change has the other sign, as the step carries "
        "p past 1/2 and beyond its mirror image (B.14). Assumption 1 (a small step) is needed, and how small depends "
        "on p.",
        (policy,),
        (0,),
        Fraction(-1),
        rate,
        {
            "log p_k": found.log_p,
            "b_k": found.baseline,
            "first order of Delta H": found.first,
            "exact Delta H": found.exact,
        },
    )


def simplest_overflow() -> Policy:
    """Return three probabilities, of the least denominator, whose rarest token has a product above 1."""
    for below in itertools.count(3):
        for last in range(1, below // 3 + 1):
            for middle in range(last, (below - last) // 2 + 1):
                policy = tuple(Fraction(part, below) for part in (below - last - middle, middle, last))
                if at_token(policy, 2, Fraction(1)).baseline > 0:
                    return policy
    raise AssertionError("some policy has a product above 1")


def negative_probability(name: str, policy: Policy, shows: str) -> Counterexample:
    """Return a policy for whose third token 1 - product is negative."""
    rate = Fraction(1, 10)
    found = at_token(policy, 2, rate)
    product = mpmath.exp(found.baseline)
    require(
        name, a_product_above_1=product > 1, a_negative_weight=min(found.weights) < 0, a_false_condition=found.gap < 0
    )
    return Counterexample(
        name,
        "the condition holds 'with probability $1 - \\prod p_i^{w_i}$'",
        shows,
        (policy,),
        (2,),
        Fraction(1),
        rate,
        {
            "least weight": min(found.weights),
            "product": product,
            "claimed probability": 1 - product,
            "first order of Delta H": found.first,
        },
    )


def wrong_probability() -> Counterexample:
    """Return a policy where the claimed probability is near 1 and nearly every sampled token breaks the rule."""
    policy = (Fraction(1, 50), *[Fraction(1, 100)] * 98)
    claimed, mass = claimed_and_true_mass(policy)
    rate = Fraction(1, 100)
    rare, likely = at_token(policy, 1, rate), at_token(policy, 0, rate)
    require(
        "C5",
        a_claim_above_98_percent=claimed > 0.98,
        a_true_mass_of_2_percent=mass == Fraction(1, 50),
        entropy_that_rises=rare.exact > 0,
    )
    return Counterexample(
        "C5",
        "the condition holds 'with probability $1 - \\prod p_i^{w_i}$'",
        "Of the tokens that the policy samples, 2 % obey the rule (only the likeliest one does: S takes two values and "
        "N lies between); the claimed probability is near 1, at each token and on average.",
        (policy,),
        (1,),
        Fraction(1),
        rate,
        {
            "claimed, mean over sampled tokens": claimed,
            "true mass of tokens that obey": mpf(mass.numerator) / mass.denominator,
            "claimed at the likeliest token": 1 - mpmath.exp(likely.baseline),
            "claimed at each other token": 1 - mpmath.exp(rare.baseline),
            "first order of Delta H at such a token": rare.first,
            "exact Delta H at such a token": rare.exact,
        },
    )


def sequence(name: str, likely: tuple[Fraction, Fraction], condition: bool, shows: str) -> Counterexample:
    """Return two tokens of two-token contexts at which Theorem 2's condition and the entropy change disagree.

    Args:
        name: its reference.
        likely: the probability of the sampled token at each of the two contexts.
        condition: whether log pi(y) >= sum of b, the theorem's condition, is to hold.
        shows: what is the case.
    """
    policies, rate = tuple((q, 1 - q) for q in likely), Fraction(1, 10)
    steps = [at_token(policy, 0, rate) for policy in policies]
    gap, first, exact = (mpmath.fsum(getattr(t, part) for t in steps) for part in ("gap", "first", "exact"))
    tied = abs(gap) < mpf(10) ** -50
    effective = mpmath.nan if tied else mpmath.fsum(t.moved * t.gap for t in steps) / gap
    require(
        name,
        every_delta_p_positive=all(t.moved > 0 for t in steps),
        the_condition_as_stated=(tied or gap > 0) == condition,
        an_effective_delta_p_not_positive=bool(tied or effective < 0),
        a_change_of_the_other_sign=(first > 0 and exact > 0) == condition,
    )
    numbers = {"delta p of token 1": steps[0].moved, "delta p of token 2": steps[1].moved}
    numbers |= {"log pi(y)": steps[0].log_p + steps[1].log_p, "sum of b": steps[0].baseline + steps[1].baseline}
    numbers |= {"effective delta p_y": effective, "first order, mean of the two tokens": first / 2}
    numbers |= {"exact change, mean of the two tokens": exact / 2}
    claim = "Theorem 2: a response whose log-probability is at least the summed baseline has A times Delta H at most 0"
    return Counterexample(name, claim, shows, policies, (0, 0), Fraction(1), rate, numbers)


def sequences() -> tuple[Counterexample, ...]:
    """Return Theorem 2's counterexamples: the condition met, met with equality, and not met."""
    one, quarter, most = Fraction(1, 100), Fraction(1, 4), Fraction(99, 100)
    return (
        sequence(
            "C6",
            (most, quarter),
            True,
            "The condition is true, both delta p are positive, and entropy rises. The effective delta p_y, a mean with "
            "weights l - b of both signs, is negative: the step that takes it for positive fails.",
        ),
        sequence(
            "C7",
            (1 - quarter, quarter),
            True,
            "The condition holds with equality, so the effective delta p_y is divided by 0; entropy rises.",
        ),
        sequence(
            "C8",
            (1 - quarter, one),
            False,
            "The condition is false, both delta p are positive, and entropy falls: the converse reading fails too, "
            "with a negative effective delta p_y.",
        ),
    )


def counterexamples() -> tuple[Counterexample, ...]:
    """Return every counterexample, each of its claims checked with 60 digits.

    Raises:
        ValueError: a claim of an example is not so; the message names it.
    """
    quarter, second_best = (Fraction(1, 4), Fraction(3, 4)), (Fraction(1, 2), Fraction(2, 5), Fraction(1, 10))
    rare = (Fraction(9, 10), Fraction(98, 1000), Fraction(2, 1000))
    overflow = (
        "A weight is negative, so the product is no weighted mean of probabilities: it exceeds 1 and the claimed "
        "probability is below 0. No smaller common denominator has a policy of three tokens whose rarest does this."
    )
    unlikely = "The token has p = 1/4: the condition is false and entropy {} under a {} advantage."
    with mpmath.workdps(WORKING_DIGITS):
        return (
            reversed_sign("C1", quarter, 0, 1, unlikely.format("rises", "positive")),
            reversed_sign("C1'", quarter, 0, -1, unlikely.format("falls", "negative")),
            reversed_sign(
                "C2",
                second_best,
                1,
                1,
                "The token has p = 0.4, above exp(-H), so it is a likely one; still S_k is below N and entropy rises.",
            ),
            negative_probability("C3", simplest_overflow(), overflow),
            negative_probability("C3'", rare, "The same for a rarer token, grossly: the product grows as exp(N/p_k)."),
            large_step(),
            wrong_probability(),
            *sequences(),
        )


HOLDS = (
    r"At first order, for E4's step, Theorem 1's condition is exactly right: $\delta p_k$ has the sign of $A$ "
    r"(E5.6), so $A \Delta H_1 \le 0$ if and only if $l_k \ge b_k$, if and only if $S_k \ge N$ (E5.12). What fails "
    "is the reading that the condition usually holds.",
    "Where the condition is true, no weight is negative and the product is below $p_k$, so C3 needs a false "
    r"condition. Proof. The product is $\exp(b_k) < \exp(l_k)$. For the weights, let $f(x) = x (\log x + H)$: it "
    r"is convex, and it grows where $x \ge \exp(-H)$, being negative below. $N$ is the mean of $f(p_i)$ and $n_2$ "
    r"the mean of $p_i$ under $p$, so $N \ge f(n_2)$ (Jensen), and $n_2 \ge \exp(-H)$ (Jensen again), so $f(n_2) "
    r"\ge 0$. Now $f(p_k) = S_k > N \ge f(n_2) \ge 0$ gives $p_k > n_2$, and then each $w_i$ of E5.7 is positive.",
)
