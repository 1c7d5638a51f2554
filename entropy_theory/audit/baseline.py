"""The output-space baseline of the paper's Fig. 2a, and Theorem 2's condition on whole responses.

Theorem 2 compares log p_k with sum_{i != k} w_i log p_i, w_i = -delta p_i / delta p_k, whose weights sum to 1. The code
released with the paper puts the constant 1e-4 in place of every w_i: at a vocabulary of 151 936 they sum to 15.2, the
"baseline" lies hundreds of nats below any log-probability, and the condition holds whatever the policy does.

With the correct weights the baseline of a rare token is about N / p_k: unbounded, and so heavy-tailed over sampled
tokens that its mean, about V N, is carried by tokens that are never drawn. Medians are the numbers to read.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from entropy_theory.audit.policies import FAMILIES
from entropy_theory.every_token import EveryToken, every_token
from entropy_theory.softmax import Softmax, policy_of

PLACEHOLDER = 1e-4
VOCABULARIES = {106: 200, 2000: 100, 32_000: 16, 151_936: 6}
TARGETS = (0.05, 0.1, 0.3, 0.6, 2.0)
LENGTHS = (8, 64, 512)
SAMPLED = 2**17  # tokens of a cell


@dataclass(frozen=True)
class Baseline:
    """Both baselines on the policies of one family, means over sampled tokens, nats per token.

    Args:
        family: how policies were drawn.
        vocabulary: V.
        policies: how many.
        entropy: their mean entropy.
        log_prob: mean log p_k.
        baseline: mean of the correct baseline, exact; see the module's docstring.
        median_baseline: its median by mass.
        holds: frequency of log p_k > correct baseline, by mass.
        placeholder: mean of sum_{i != k} 1e-4 log p_i.
        placeholder_weight: sum of the placeholder's weights, where 1 is due.
        placeholder_holds: frequency of log p_k > placeholder, by mass.
    """

    family: str
    vocabulary: int
    policies: int
    entropy: float
    log_prob: float
    baseline: float
    median_baseline: float
    holds: float
    placeholder: float
    placeholder_weight: float
    placeholder_holds: float


@dataclass(frozen=True)
class Responses:
    """Theorem 2 on responses whose tokens are sampled from policies of one family.

    Args:
        family: how policies were drawn.
        vocabulary: V.
        entropy: their mean entropy, nats per token.
        tokens: T, length of a response.
        responses: how many.
        token_condition: share of tokens whose own condition holds.
        condition: share of responses with log P >= sum of the correct baselines.
        rule: share of responses with A Delta H <= 0 at first order: sum of S_k - N at least 0.
        agree: share of responses where condition and rule say the same, as Theorem 2 has it.
    """

    family: str
    vocabulary: int
    entropy: float
    tokens: int
    responses: int
    token_condition: float
    condition: float
    rule: float
    agree: float


def baselines(generator: torch.Generator) -> Iterator[tuple[Baseline, list[Responses]]]:
    """Yield both baselines for every family, vocabulary and entropy, and what they make of whole responses."""
    for vocabulary, rows in VOCABULARIES.items():
        for family, draw in FAMILIES.items():
            for target in TARGETS:
                logits = draw(vocabulary, target, rows, generator).logits
                policy, found = policy_of(logits), every_token(logits)
                yield compared(family, policy, found), list(sampled_responses(family, policy, found, generator))


def compared(family: str, policy: Softmax, found: EveryToken) -> Baseline:
    """Return both baselines of these policies."""
    log_p, vocabulary = policy.log_probs, policy.probs.shape[-1]
    placeholder = PLACEHOLDER * (log_p.sum(-1, keepdim=True) - log_p)

    def mean(values: Float[Tensor, "N V"]) -> float:
        return float(policy.mean(values).mean())

    return Baseline(
        family=family,
        vocabulary=vocabulary,
        policies=len(log_p),
        entropy=float(policy.entropy.mean()),
        log_prob=mean(log_p),
        baseline=mean_baseline(policy, found),
        median_baseline=median(found.baseline, policy.probs),
        holds=mean((log_p > found.baseline).double()),
        placeholder=mean(placeholder),
        placeholder_weight=PLACEHOLDER * (vocabulary - 1),
        placeholder_holds=mean((log_p > placeholder).double()),
    )


def mean_baseline(policy: Softmax, found: EveryToken) -> float:
    """Return E[baseline] = -H - sum_k (S_k - N) / (1 - 2 p_k + n_2); tokens of vanishing p_k contribute too."""
    p = policy.probs
    terms = found.influence / (1 - 2 * p + policy.mean(p)[..., None])
    top = p.argmax(-1, keepdim=True)
    own = (p * (policy.log_probs - found.baseline)).gather(-1, top)
    return float((-policy.entropy - terms.scatter(-1, top, own).sum(-1)).mean())


def median(values: Float[Tensor, "N V"], weights: Float[Tensor, "N V"]) -> float:
    """Return the median of the values by weight."""
    order = values.nan_to_num(nan=-math.inf).flatten().argsort()
    reached = weights.flatten()[order].cumsum(0)
    return float(values.flatten()[order[torch.searchsorted(reached, reached[-1] / 2)]])


def sampled_responses(
    family: str, policy: Softmax, found: EveryToken, generator: torch.Generator
) -> Iterator[Responses]:
    """Yield Theorem 2's condition and conclusion on sampled responses of each length, a policy drawn for each token."""
    rows, vocabulary = policy.probs.shape
    drawn = torch.multinomial(policy.probs, -(-SAMPLED // rows), replacement=True, generator=generator)
    order = torch.randperm(drawn.numel(), generator=generator)[:SAMPLED]
    gap = (policy.log_probs - found.baseline).gather(-1, drawn).flatten()[order]
    influence = found.influence.gather(-1, drawn).flatten()[order]
    for tokens in LENGTHS:
        condition = gap.view(-1, tokens).sum(-1) >= 0
        rule = influence.view(-1, tokens).sum(-1) >= 0
        yield Responses(
            family=family,
            vocabulary=vocabulary,
            entropy=float(policy.entropy.mean()),
            tokens=tokens,
            responses=len(rule),
            token_condition=float((gap > 0).double().mean()),
            condition=float(condition.double().mean()),
            rule=float(rule.double().mean()),
            agree=float((condition == rule).double().mean()),
        )
