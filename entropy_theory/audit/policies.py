"""Families of random policies, each brought to a wanted entropy: what the audit's maps are drawn over."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from entropy_theory.softmax import entropy

HALVINGS = 45


@dataclass(frozen=True)
class Policies:
    """Policies of one family at one entropy.

    Args:
        logits: `[N, V]`, float64.
        parameter: what brings the family to the entropy; its mean where each policy has its own.
    """

    logits: Float[Tensor, "N V"]
    parameter: float


def bisect(value: Callable[[Tensor], Tensor], target: float, low: Tensor, high: Tensor) -> Tensor:
    """Return where a rising function reaches a target, elementwise, by bisection between two bounds."""
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        below = value(middle) < target
        low, high = middle.where(below, low), high.where(below, middle)
    return (low + high) / 2


def dirichlet_logits(arms: int, concentration: float, rows: int, generator: torch.Generator) -> Float[Tensor, "N V"]:
    """Return log p, up to a constant, of p ~ Dirichlet(alpha, ..., alpha).

    Gamma(alpha) is drawn as Gamma(alpha + 1) U^(1/alpha) and kept as a logarithm: for small alpha most p are below the
    float type, and their logarithms still count in the baselines.
    """
    shape = torch.full((rows, arms), concentration + 1, dtype=torch.float64)
    uniform = torch.rand(rows, arms, generator=generator, dtype=torch.float64).clamp(min=1e-300)
    return torch._standard_gamma(shape, generator=generator).log() + uniform.log() / concentration


def dirichlet(arms: int, target: float, rows: int, generator: torch.Generator) -> Policies:
    """Return Dirichlet policies with this mean entropy: E[H] = digamma(V alpha + 1) - digamma(alpha + 1)."""

    def mean_entropy(log_alpha: Tensor) -> Tensor:
        alpha = log_alpha.exp()
        return torch.digamma(arms * alpha + 1) - torch.digamma(alpha + 1)

    bounds = torch.tensor([-20.0, 10.0], dtype=torch.float64)
    alpha = float(bisect(mean_entropy, target, bounds[0], bounds[1]).exp())
    return Policies(dirichlet_logits(arms, alpha, rows, generator), alpha)


def tempered(scores: Float[Tensor, "N V"], target: float) -> Policies:
    """Return softmax(beta scores) with beta such that each policy has this entropy."""
    # Two nearly equal largest scores need a very low temperature.
    bounds = torch.tensor([-16.0, 8.0], dtype=torch.float64)

    def value(log_temperature: Tensor) -> Tensor:
        return entropy(scores / log_temperature.exp()[:, None])

    low, high = (bound.expand(len(scores)) for bound in bounds)
    beta = 1 / bisect(value, target, low, high).exp()
    return Policies(beta[:, None] * scores, float(beta.mean()))


def gaussian(arms: int, target: float, rows: int, generator: torch.Generator) -> Policies:
    """Return softmax of Gaussian logits; the parameter is their mean standard deviation."""
    return tempered(torch.randn(rows, arms, generator=generator, dtype=torch.float64), target)


def zipf(arms: int, target: float, rows: int, generator: torch.Generator) -> Policies:
    """Return p_i proportional to i^-s; one policy, the parameter is s."""
    return tempered(-torch.arange(1, arms + 1, dtype=torch.float64).log()[None], target)


def peaked(arms: int, target: float, rows: int, generator: torch.Generator) -> Policies:
    """Return one arm with 1 - epsilon, the rest spread as Dirichlet(1) over the others; the parameter is epsilon.

    With T the entropy of the spread: H = h(epsilon) + epsilon T, h the binary entropy. Of the two epsilons with that
    entropy, the one on the rising side.
    """
    uniform = torch.rand(rows, arms - 1, generator=generator, dtype=torch.float64).clamp(min=1e-300)
    tail = (-uniform.log()).log().log_softmax(-1)
    spread = entropy(tail)

    def value(share: Tensor) -> Tensor:
        return -torch.xlogy(share, share) - torch.xlogy(1 - share, 1 - share) + share * spread

    # h(e) + e T rises up to e = 1 / (1 + exp(-T)).
    low, high = torch.zeros_like(spread), torch.sigmoid(spread)
    share = bisect(value, target, low, high)
    logits = torch.cat([torch.log1p(-share)[:, None], tail + share.log()[:, None]], -1)
    return Policies(logits, float(share.mean()))


FAMILIES: dict[str, Callable[[int, float, int, torch.Generator], Policies]] = {
    "dirichlet": dirichlet,
    "zipf": zipf,
    "peaked": peaked,
    "gaussian": gaussian,
}
TARGETS = (0.05, 0.1, 0.3, 0.6, 1.0, 2.0, 4.0, 8.0)
# Policies of a vocabulary: enough for a standard error of a percent or two, few enough for two minutes in all.
VOCABULARIES = {4: 2000, 20: 2000, 200: 600, 2000: 150, 32_000: 24, 151_936: 8}


def targets(arms: int) -> list[float]:
    """Return the wanted entropies that a vocabulary can have with room to spare, nats."""
    return [target for target in TARGETS if target <= 0.9 * math.log(arms)]
