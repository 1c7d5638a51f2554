"""Fresh random inputs for the identities, and what an identity is."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

ROWS = 32
SHAPES = [(2, 1.0), (3, 0.3), (5, 3.0), (20, 1.0), (20, 10.0), (200, 2.0)]


@dataclass(frozen=True)
class Case:
    """Random policies with everything that the identities need beside them, in float64.

    Args:
        logits: `[N, K]`; some cases have masked arms (-inf).
        delta: a logit step, `[N, K]`, of size one.
        token: `[N]`, not masked.
        advantages: `[N, K]`, one an arm.
    """

    logits: Float[Tensor, "N K"]
    delta: Float[Tensor, "N K"]
    token: Int[Tensor, " N"]
    advantages: Float[Tensor, "N K"]

    @property
    def arms(self) -> int:
        """K."""
        return self.logits.shape[-1]

    def every_token(self) -> tuple[Float[Tensor, "N K K"], Int[Tensor, "N K"]]:
        """Return the logits once for each token, `[N, K, K]`, and the tokens, `[N, K]`."""
        rows, arms = self.logits.shape
        tokens = torch.arange(arms, device=self.logits.device).expand(rows, arms)
        return self.logits[:, None].expand(rows, arms, arms), tokens


def random_cases(seed: int, device: str = "cpu", rows: int = ROWS) -> list[Case]:
    """Return cases of 2 to 200 arms, from nearly uniform to nearly sure, each with and without masked arms."""
    generator = torch.Generator().manual_seed(seed)

    def normal(arms: int) -> Tensor:
        return torch.randn(rows, arms, generator=generator, dtype=torch.float64)

    cases = []
    for arms, scale in SHAPES:
        for masked in (False, True) if arms > 2 else (False,):
            logits, token = scale * normal(arms), torch.randint(arms, (rows,), generator=generator)
            if masked:
                hidden = torch.rand(rows, arms, generator=generator) < 0.3
                hidden[torch.arange(rows), token] = False
                hidden[torch.arange(rows), (token + 1) % arms] = False
                logits = logits.masked_fill(hidden, -math.inf)
            drawn = (logits, normal(arms), token, normal(arms))
            cases.append(Case(*(value.to(device) for value in drawn)))
    return cases


@dataclass(frozen=True)
class Identity:
    """An equality or inequality, with how far it may be off by rounding.

    Args:
        name: the statement's name in the theory (E2, X1, ...).
        says: the statement in a line.
        error: case -> how far off it is at each row, on the scale that the tolerance is meant for.
        tolerance: the largest error that rounding explains.
    """

    name: str
    says: str
    error: Callable[[Case], Tensor]
    tolerance: float = 1e-10


@dataclass(frozen=True)
class Order:
    """An approximation with the order at which its error must vanish with the step.

    Args:
        name: the statement's name in the theory.
        says: the statement in a line.
        residual: (case, step size) -> error at each row.
        slope: the order.
        tolerance: how far the measured slope may be off.
        steps: step sizes, each half the one before, small enough for the leading term and large enough for rounding.
    """

    name: str
    says: str
    residual: Callable[[Case, float], Tensor]
    slope: int
    tolerance: float = 0.1
    steps: Sequence[float] = tuple(2.0**-n for n in range(6, 10))


@dataclass(frozen=True)
class Result:
    """What a check found.

    Args:
        name: the statement's name.
        says: the statement in a line.
        worst: the worst error over all cases; of an order: how far the slope is off.
        tolerance: what it may be.
        slope: the measured order, where there is one.
    """

    name: str
    says: str
    worst: float
    tolerance: float
    slope: float | None

    @property
    def holds(self) -> bool:
        """Whether the statement held; an error that is no number does not."""
        return self.worst <= self.tolerance


def check_identity(identity: Identity, cases: Iterable[Case]) -> Result:
    """Return the worst error of an identity over the cases."""
    worst = torch.stack([identity.error(case).double().max() for case in cases]).max()
    return Result(identity.name, identity.says, float(worst), identity.tolerance, None)


def check_order(order: Order, cases: Iterable[Case]) -> Result:
    """Return the measured slope of an approximation's error on the step: the median over the cases.

    A case's slope is the least-squares slope of log error on log step, the error being the root mean square over its
    rows: one row's error may cross zero, that of all of them cannot.
    """
    x = torch.tensor(order.steps, dtype=torch.float64).log()
    x = x - x.mean()
    slopes = []
    for case in cases:
        sizes = torch.stack([order.residual(case, step).double().square().mean().sqrt() for step in order.steps]).cpu()
        slopes.append((x * sizes.log()).sum() / x.square().sum())
    slope = float(torch.stack(slopes).median())
    return Result(order.name, order.says, abs(slope - order.slope), order.tolerance, slope)
