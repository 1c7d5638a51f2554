"""How often the sign rule A Delta H <= 0 holds, against what the paper claims, and the size of the sampling drift."""

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from entropy_theory.audit.policies import FAMILIES, VOCABULARIES, targets
from entropy_theory.every_token import EveryToken, every_token, sampled_changes
from entropy_theory.expectation import drift_coefficient
from entropy_theory.softmax import Softmax, policy_of

EDGES = (0.0, 1e-4, 1e-3, 1e-2, 0.1, 0.3, 0.5, 0.9, 1.0)
SHARPER = 1 / 0.6  # a sampler at temperature 0.6, the paper's evaluation setting
ROWS_AT_ONCE = 2**21  # elements of a block of policies
DECIDED = 1e-12  # nats; the sign of an exact change below this is rounding's


@dataclass(frozen=True)
class SignRule:
    """One family at one vocabulary and entropy. Frequencies are by probability mass of the sampled token.

    Args:
        family: how policies were drawn.
        vocabulary: V.
        parameter: the family's parameter.
        policies: how many.
        entropy: their mean entropy, nats.
        holds: frequency of A Delta H <= 0 at first order.
        holds_se: its standard error over policies; 0 for a family of one policy.
        claimed: mean of 1 - min(1, prod p_i^w_i), the paper's probability of its condition.
        claimed_se: its standard error.
        holds_top: share of policies where the rule holds for the likeliest token.
        holds_up: frequency with the exact change of a step of size 1, A = 1, among tokens whose change is above 1e-12.
        holds_down: the same, A = -1.
        weighted: frequency weighted by |Delta H|; one half on-policy, as an identity.
        weighted_sharp: the same for tokens sampled at temperature 0.6.
        weighted_confident: the same weighted by |A Delta H|, A = [likeliest token] less its mean.
        drift: mean of D, the sampling noise's second-order change being eta^2 D / 2G, nats.
        drift_se: its standard error.
        drift_negative: share of policies with D < 0.
    """

    family: str
    vocabulary: int
    parameter: float
    policies: int
    entropy: float
    holds: float
    holds_se: float
    claimed: float
    claimed_se: float
    holds_top: float
    holds_up: float
    holds_down: float
    weighted: float
    weighted_sharp: float
    weighted_confident: float
    drift: float
    drift_se: float
    drift_negative: float


@dataclass(frozen=True)
class Confidence:
    """How often the rule holds for tokens of a range of probabilities.

    Args:
        family: how policies were drawn.
        vocabulary: V.
        entropy: mean entropy, nats.
        above: lower edge of p_k.
        to: upper edge of p_k, included.
        mass: probability of sampling such a token.
        holds: frequency of the rule among them, by mass; NaN where there are none.
    """

    family: str
    vocabulary: int
    entropy: float
    above: float
    to: float
    mass: float
    holds: float


def weighted_share(weights: Float[Tensor, "N V"], influence: Float[Tensor, "N V"]) -> Float[Tensor, " N"]:
    """Return the share of sum weights |S - N| where S - N >= 0, `[N]`; NaN where nothing moves."""
    sizes = weights * influence.abs()
    return (sizes * (influence >= 0)).sum(-1) / sizes.sum(-1)


def finite_step(logits: Float[Tensor, "N V"], policy: Softmax, step: float) -> tuple[Tensor, Tensor]:
    """Return the mass of tokens whose exact change is decided, and of those among them for which the rule holds."""
    change = sampled_changes(logits, step)
    decided = change.abs() > DECIDED
    return policy.mean(decided.double()), policy.mean((decided & (step * change <= 0)).double())


def measures(logits: Float[Tensor, "N V"]) -> dict[str, Float[Tensor, " N"]]:
    """Return what the columns of `SignRule` are means of, one value a policy."""
    policy, found = policy_of(logits), every_token(logits)
    top = policy.probs.argmax(-1, keepdim=True)
    right = torch.zeros_like(logits).scatter(-1, top, 1.0)
    advantage = right - policy.probs.gather(-1, top)
    drift = drift_coefficient(logits)
    up, down = (finite_step(logits, policy, step) for step in (1.0, -1.0))
    return {
        "entropy": policy.entropy,
        "holds": policy.mean((found.influence >= 0).double()),
        "claimed": policy.mean(found.claimed_probability),
        "holds_top": (found.influence.gather(-1, top)[:, 0] >= 0).double(),
        "decided_up": up[0],
        "holds_up": up[1],
        "decided_down": down[0],
        "holds_down": down[1],
        "weighted": weighted_share(policy.probs, found.influence),
        "weighted_sharp": weighted_share((SHARPER * logits).softmax(-1), found.influence),
        "weighted_confident": weighted_share(policy.probs * advantage.abs(), found.influence),
        "drift": drift,
        "drift_negative": (drift < 0).double(),
    }


def by_confidence(policy: Softmax, found: EveryToken) -> Float[Tensor, "N bins 2"]:
    """Return the mass of each range of probabilities, and the mass there for which the rule holds."""
    parts = []
    for above, to in itertools.pairwise(EDGES):
        mass = policy.probs * ((policy.probs > above) & (policy.probs <= to))
        parts.append(torch.stack([mass.sum(-1), (mass * (found.influence >= 0)).sum(-1)], -1))
    return torch.stack(parts, 1)


def standard_error(values: Float[Tensor, " N"]) -> float:
    """Return the standard error of the mean of these values, 0 for one of them."""
    return float(values.std() / math.sqrt(len(values))) if len(values) > 1 else 0.0


def summarised(logits: Float[Tensor, "N V"]) -> dict[str, Float[Tensor, " N"]]:
    """Return `measures`, a block of policies at a time."""
    parts = [measures(block) for block in logits.split(max(1, ROWS_AT_ONCE // logits.shape[-1]))]
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def sign_rule_map(generator: torch.Generator) -> Iterator[tuple[SignRule, list[Confidence]]]:
    """Yield the map, cell by cell: family x vocabulary x entropy, with its split by confidence."""
    for vocabulary, rows in VOCABULARIES.items():
        for family, draw in FAMILIES.items():
            for target in targets(vocabulary):
                policies = draw(vocabulary, target, rows, generator)
                yield cell(family, policies.logits, policies.parameter)


def cell(family: str, logits: Float[Tensor, "N V"], parameter: float) -> tuple[SignRule, list[Confidence]]:
    """Return one cell of the map."""
    values = summarised(logits)
    mean = {name: float(value.nanmean()) for name, value in values.items()}
    for way in ("up", "down"):
        mean[f"holds_{way}"] /= mean.pop(f"decided_{way}") or math.nan
    errors = {f"{name}_se": standard_error(values[name]) for name in ("holds", "claimed", "drift")}
    vocabulary = logits.shape[-1]
    row = SignRule(family, vocabulary, parameter, len(logits), **mean, **errors)
    blocks = logits.split(max(1, ROWS_AT_ONCE // vocabulary))
    split = torch.cat([by_confidence(policy_of(block), every_token(block)) for block in blocks]).mean(0)
    parts = [
        Confidence(family, vocabulary, mean["entropy"], above, to, mass, held / mass if mass > 0 else math.nan)
        for (above, to), (mass, held) in zip(itertools.pairwise(EDGES), split.tolist(), strict=True)
    ]
    return row, parts
