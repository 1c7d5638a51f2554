"""What a counterexample is made of: a policy with rational probabilities, and E4 and E5 at one of its tokens."""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import mpmath
from mpmath import mpf

Policy = tuple[Fraction, ...]


@dataclass(frozen=True)
class Counterexample:
    """A context (or two), a sampled token in each, and a step, at which a statement fails.

    Args:
        name: its reference, such as "C1".
        claim: the statement that fails.
        shows: what is the case instead, in words.
        policies: the probabilities at each context.
        tokens: the sampled token at each context, counted from 0.
        advantage: A.
        learning_rate: eta.
        numbers: the values that show it, by name.
    """

    name: str
    claim: str
    shows: str
    policies: tuple[Policy, ...]
    tokens: tuple[int, ...]
    advantage: Fraction
    learning_rate: Fraction
    numbers: dict[str, mpf]


@dataclass(frozen=True)
class TokenNumbers:
    """E4 and E5 at one token, to the working precision.

    Args:
        log_p: l_k.
        baseline: b_k = sum over i != k of w_i l_i.
        weights: w_i = -delta p_i / delta p_k, of the other tokens.
        moved: delta p_k.
        first: the first-order change.
        exact: the exact change.
    """

    log_p: mpf
    baseline: mpf
    weights: tuple[mpf, ...]
    moved: mpf
    first: mpf
    exact: mpf

    @property
    def gap(self) -> mpf:
        """l_k - b_k: Theorem 1's condition is that it is positive."""
        return self.log_p - self.baseline


def entropy_of(probabilities: Sequence[mpf]) -> mpf:
    """Return H in nats; every probability is positive."""
    return -mpmath.fsum(q * mpmath.log(q) for q in probabilities)


def at_token(policy: Policy, token: int, step: Fraction) -> TokenNumbers:
    """Return E4 and E5 for one step eta A on one token.

    Theorem 1's weights come from the first-order delta p of the step (E5.4), its baseline from the weights; the
    first-order change from delta p (E5.3) and the exact one from the moved logits.
    """
    p = [mpf(q.numerator) / q.denominator for q in policy]
    size = mpf(step.numerator) / step.denominator
    delta = [size * ((arm == token) - q) for arm, q in enumerate(p)]
    drift = mpmath.fsum(q * d for q, d in zip(p, delta, strict=True))
    moved = [q * (d - drift) for q, d in zip(p, delta, strict=True)]
    others = [arm for arm in range(len(p)) if arm != token]
    weights = tuple(-moved[arm] / moved[token] for arm in others)
    baseline = mpmath.fsum(w * mpmath.log(p[arm]) for w, arm in zip(weights, others, strict=True))
    raised = [q * mpmath.exp(d) for q, d in zip(p, delta, strict=True)]
    after = [q / mpmath.fsum(raised) for q in raised]
    first = -mpmath.fsum(d * mpmath.log(q) for d, q in zip(moved, p, strict=True))
    return TokenNumbers(mpmath.log(p[token]), baseline, weights, moved[token], first, entropy_of(after) - entropy_of(p))


def require(name: str, **claims: bool) -> None:
    """Refuse an example whose claims are not all so.

    Raises:
        ValueError: one is not so; the message names it.
    """
    for claim, holds in claims.items():
        if not holds:
            raise ValueError(f"counterexamples({name}) must have {claim.replace('_', ' ')}; it does not. Mend {name}.")


def claimed_and_true_mass(policy: Policy) -> tuple[mpf, Fraction]:
    """Return the mean over sampled tokens of 1 - min(1, product), and the mass of tokens that obey the rule."""
    tokens = [at_token(policy, token, Fraction(1)) for token in range(len(policy))]
    chances = [mpf(q.numerator) / q.denominator for q in policy]
    claimed = mpmath.fsum(q * (1 - min(mpf(1), mpmath.exp(t.baseline))) for q, t in zip(chances, tokens, strict=True))
    return claimed, sum((q for q, t in zip(policy, tokens, strict=True) if t.gap >= 0), Fraction(0))
