"""What held-out samples say of a policy: pass@k, maj@k, and bootstrap intervals over prompts.

Those of k samples take the n of one prompt and are averages over all its subsets of k: unbiased for k new samples.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import comb

import numpy as np

RESAMPLES = 2000


@dataclass(frozen=True)
class Estimate:
    """A mean over prompts with its 95 % bootstrap interval."""

    value: float
    low: float
    high: float


def pass_at_k(samples: int, correct: int, k: int) -> float:
    """Return the unbiased estimate of the probability that one of k completions is right: 1 - C(n - c, k) / C(n, k).

    Args:
        samples: n, completions drawn.
        correct: c, how many of them are right.
        k: at most n.

    Raises:
        ValueError: k > n.

    Source: Chen et al. 2021, arXiv 2107.03374, Equation 1.

    >>> pass_at_k(4, 1, 2)
    0.5
    """
    if k > samples:
        raise ValueError(f"pass_at_k(samples={samples}, k={k}) must have k <= samples. Draw more samples.")
    return 1 - comb(samples - correct, k) / comb(samples, k)


def majority_at_k(answers: Sequence[str | None], right: Sequence[bool], k: int) -> float:
    """Return the unbiased estimate of the probability that the commonest answer of k completions is right.

    The average over all subsets of k of the n completions; of answers tied for the most votes each is as likely to be
    taken. An answer of which only some completions are right counts by their share. Where every completion votes,
    maj@1 and maj@2 are the share right.

    Args:
        answers: what each completion votes for; None is no vote, and k completions without any are wrong.
        right: whether each completion is right.
        k: 1 to n.

    Raises:
        ValueError: k outside 1 to n.

    Source: majority voting is Wang et al. 2022, arXiv 2203.11171 (self-consistency); Lewkowycz et al. 2022, arXiv
    2206.14858, name it maj1@k. The average over subsets is the U-statistic of Hoeffding 1948 ("A class of
    statistics with asymptotically normal distribution"), as pass@k is.

    >>> round(majority_at_k(["4", "4", "5", "6"], [True, True, False, False], 3), 12)  # "4" twice: 2 of 4 subsets
    0.666666666667
    """
    if not 1 <= k <= len(answers):
        raise ValueError(f"majority_at_k(k={k}) must have k from 1 to the {len(answers)} samples. Draw more samples.")
    votes = Counter(answers)
    silent = votes.pop(None, 0)
    good = Counter(answer for answer, is_right in zip(answers, right, strict=True) if is_right)
    return plurality(tuple(sorted((count, good[answer]) for answer, count in votes.items())), silent, k)


@lru_cache(maxsize=1 << 16)
def plurality(groups: tuple[tuple[int, int], ...], silent: int, k: int) -> float:
    """Return the expected share right of the plurality answer of k of the completions, drawn without replacement.

    Keep each completion with probability k / n, independently: given that k are kept, all subsets are as likely. So
    answers are added one after the other, with binomial numbers of votes, and the total is set to k at the end.

    Args:
        groups: of each answer (completions, how many of them are right).
        silent: completions without a vote.
        k: completions that vote.
    """
    everyone = silent + sum(count for count, _ in groups)
    kept = k / everyone
    expected = 0.0
    largest = max((count for count, _ in groups), default=0)
    # Of the commonest answer at most as many completions are left out as are left out of all.
    for most in range(max(1, largest - (everyone - k)), min(k, largest) + 1):
        # [t, z]: t answers have `most` votes, none has more, z completions are kept; `worth` is the sum of the tied
        # answers' shares right, times that probability.
        tied = min(k // most, sum(count >= most for count, _ in groups))
        chance = np.zeros((tied + 1, k + 1))
        chance[0] = binomial(silent + sum(count for count, _ in groups if count < most), kept, k)
        worth = np.zeros_like(chance)
        for count, good in groups:
            if count >= most:
                chance, worth = with_answer(chance, worth, binomial(count, kept, k), most, good / count)
        expected += float((worth[1:, k] / np.arange(1, len(worth))).sum())
    return min(1.0, expected / float(binomial(everyone, kept, k)[k]))


def with_answer(
    chance: np.ndarray, worth: np.ndarray, votes: np.ndarray, most: int, share: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return `chance` and `worth` `[ties, kept]` with one more answer, which gets fewer than `most` votes or ties.

    Args:
        chance: of each (answers with `most` votes, completions kept).
        worth: the same times the sum of the tied answers' shares.
        votes: `[k + 1]`, the probability that the answer gets 0..k votes.
        most: the most votes any answer may have.
        share: how many of the answer's completions are right.
    """
    tied = votes[most] * chance[:-1, :-most]
    tied_worth = votes[most] * worth[:-1, :-most] + share * tied
    chance, worth = (
        np.stack([np.convolve(row, votes[:most])[: len(votes)] for row in table]) for table in (chance, worth)
    )
    chance[1:, most:] += tied
    worth[1:, most:] += tied_worth
    return chance, worth


@lru_cache(maxsize=1 << 12)
def binomial(count: int, probability: float, most: int) -> np.ndarray:
    """Return the probabilities `[most + 1]` of 0..most successes in `count` trials; a sum of positive terms, stable."""
    mass = np.ones(1)
    for _ in range(count):
        mass = np.convolve(mass, (1 - probability, probability))[: most + 1]
    return np.pad(mass, (0, most + 1 - len(mass)))


def bootstrap(
    values: Sequence[float], *, generator: np.random.Generator, weights: Sequence[float] | None = None
) -> Estimate:
    """Return the mean of per-prompt values with its 95 % percentile interval over resampled prompts.

    Equal generators resample the same prompts, so that an interval for the difference of two metrics, settings or
    policies on the same prompts is that of their per-prompt differences.

    Args:
        values: one a prompt.
        generator: draws the resamples.
        weights: one a prompt, such as its tokens; the mean is then sum(w v) / sum(w), in each resample too.

    Source: Efron 1979, "Bootstrap methods: another look at the jackknife"; 2000 resamples.
    """
    array = np.asarray(values, dtype=float)
    weight = np.ones_like(array) if weights is None else np.asarray(weights, dtype=float)
    drawn = generator.integers(len(array), size=(RESAMPLES, len(array)))
    means = (weight * array)[drawn].sum(1) / weight[drawn].sum(1)
    low, high = np.quantile(means, [0.025, 0.975])
    return Estimate(float((weight * array).sum() / weight.sum()), float(low), float(high))


def bootstrap_pairs(values: np.ndarray, *, generator: np.random.Generator) -> Estimate:
    """Return the mean of values per seed and prompt with its 95 % percentile interval.

    Seeds and prompts are resampled, each with replacement, and every drawn seed meets every drawn prompt: both are
    samples of what could have been. Of differences of two policies, paired by seed and prompt, it is the interval of
    their mean difference. Equal generators draw the same resamples of equally many seeds and prompts.

    Valid when: seeds are several; with two the spread over seeds is hardly seen, and the interval is too narrow.

    Args:
        values: `[S, N]`, of S seeds on the same N prompts.
        generator: draws the resamples.

    Source: Owen 2007, "The pigeonhole bootstrap", arXiv 0711.0693; 2000 resamples.
    """
    seeds, prompts = values.shape
    drawn_seeds = generator.multinomial(seeds, np.full(seeds, 1 / seeds), size=RESAMPLES)
    drawn_prompts = generator.multinomial(prompts, np.full(prompts, 1 / prompts), size=RESAMPLES)
    means = ((drawn_seeds @ values) * drawn_prompts).sum(1) / values.size
    low, high = np.quantile(means, [0.025, 0.975])
    return Estimate(float(values.mean()), float(low), float(high))
