"""The sign rule's frequencies beside those of an implementation that shares no code with this one.

The reference was written in NumPy from the formulas alone, before this package; its rows are carried over as measured.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch

from entropy_theory.audit.policies import dirichlet_logits
from entropy_theory.audit.sign_rule import standard_error, summarised


@dataclass(frozen=True)
class Reference:
    """A row of the reference, Dirichlet policies at first order.

    Args:
        vocabulary: V.
        alpha: of the Dirichlet distribution.
        policies: how many.
        entropy: mean entropy, nats.
        holds: frequency of the sign rule by mass.
        holds_se: its standard error.
        claimed: the paper's probability; None where rounding decided it.
        drift_negative: share of policies with D < 0.
    """

    vocabulary: int
    alpha: float
    policies: int
    entropy: float
    holds: float
    holds_se: float
    claimed: float | None
    drift_negative: float


REFERENCES = (
    Reference(4, 0.02, 20_000, 0.091, 0.962, 0.001, None, 0.28),
    Reference(4, 1.0, 20_000, 1.082, 0.575, 0.001, 0.641, 0.94),
    Reference(20, 0.02, 8000, 0.487, 0.811, 0.002, 0.773, 0.42),
    Reference(20, 0.5, 8000, 2.319, 0.412, 0.001, 0.723, 1.00),
    Reference(200, 0.1, 1500, 3.448, 0.345, 0.002, 0.721, 1.00),
    Reference(2000, 0.02, 400, 4.254, 0.318, 0.003, 0.739, 1.00),
    Reference(2000, 1.0, 400, 7.178, 0.324, 0.001, 0.985, 1.00),
)


@dataclass(frozen=True)
class Reproduction:
    """One number of a reference row beside ours.

    Args:
        vocabulary: V.
        alpha: of the Dirichlet distribution.
        policies: how many, there and here.
        quantity: which column.
        reference: the number there.
        found: the number here.
        standard_error: of the difference: both sampling errors, and the reference's rounding.
        z: (found - reference) / standard_error.
    """

    vocabulary: int
    alpha: float
    policies: int
    quantity: str
    reference: float
    found: float
    standard_error: float
    z: float


# Size of the reference's last digit: a uniform rounding error of that width.
ROUNDING = {"entropy": 1e-3, "holds": 1e-3, "claimed": 1e-3, "drift_negative": 1e-2}


def reproductions(generator: torch.Generator) -> Iterator[Reproduction]:
    """Yield every reference number beside a fresh measurement of the same size."""
    for row in REFERENCES:
        values = summarised(dirichlet_logits(row.vocabulary, row.alpha, row.policies, generator))
        for quantity, digit in ROUNDING.items():
            reference = getattr(row, quantity)
            if reference is None:
                continue
            ours = standard_error(values[quantity])
            theirs = max(row.holds_se, ours) if quantity == "holds" else ours
            error = math.sqrt(ours**2 + theirs**2 + digit**2 / 12)
            found = float(values[quantity].nanmean())
            z = (found - reference) / error
            yield Reproduction(row.vocabulary, row.alpha, row.policies, quantity, reference, found, error, z)
