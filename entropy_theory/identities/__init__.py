"""Every identity, inequality and order of the package on fresh random inputs: what `entrocraft theory check` runs."""

from collections.abc import Iterator

from entropy_theory.identities import expectations, one_step, whole
from entropy_theory.identities.cases import Case, Identity, Order, Result, check_identity, check_order, random_cases

__all__ = ["Case", "Identity", "Order", "Result", "check_all", "random_cases"]

PARTS = (one_step, expectations, whole)


def check_all(seed: int, device: str = "cpu") -> Iterator[Result]:
    """Yield the result of every check, in the order of the theory, on inputs drawn from this seed.

    Args:
        seed: of the inputs.
        device: a torch device with float64.

    >>> all(result.holds for result in check_all(seed=1))
    True
    """
    cases = random_cases(seed, device)
    for part in PARTS:
        yield from (check_identity(identity, cases) for identity in part.EQUALITIES)
        yield from (check_order(order, cases) for order in part.ORDERS)
