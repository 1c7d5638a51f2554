"""First policies of a wanted entropy, and problems whose right answers the first policy likes more or less."""

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from simulations.exact import tree_of
from simulations.loop import generators
from simulations.policies import Policy
from simulations.problems import Problem


@lru_cache(maxsize=64)
def logit_scale(entropy: float, vocabulary: int, draws: int = 4000) -> float:
    """Return the standard deviation of normal logits whose mean entropy is the wanted one, nats.

    Args:
        entropy: wanted, above 0 and below log V.
        vocabulary: V.
        draws: rows of logits over which the mean is taken; fewer for a large vocabulary.

    Raises:
        ValueError: an entropy that no such policy has.

    >>> round(logit_scale(1.24, 20), 1)
    3.0
    """
    if not 0.01 < entropy < 0.999 * np.log(vocabulary):
        raise ValueError(
            f"logit_scale(entropy={entropy}, vocabulary={vocabulary}) must be between 0.01 and "
            f"{0.999 * np.log(vocabulary):.3f} nats. Choose another."
        )
    rows = max(100, draws * 20 // max(vocabulary, 20))
    z = torch.randn(rows, vocabulary, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def mean_entropy(scale: float) -> float:
        log_probs = (z * scale).log_softmax(-1)
        return float(-(log_probs.exp() * log_probs).sum(-1).mean())

    low, high = -6.0, 6.0  # of log scale; entropy falls as it grows
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if mean_entropy(float(np.exp(middle))) > entropy else (low, middle)
    return float(np.exp(low))


def liked_problem(
    policy: Policy, repeats: int, seed: int, correct: tuple[int, int], liking: float, *, dtype: torch.dtype
) -> Problem:
    """Return a problem whose right answers depend on what the first policy of each repeat finds likely.

    Right are the n responses y of largest liking * log p(y) + Gumbel noise: with liking 0 any n, with liking 1 n drawn
    without replacement by the policy's own probabilities.

    Args:
        policy: whose first parameters count.
        repeats: R.
        seed: of the simulation, whose first parameters these are.
        correct: n of the first and of the last prompt; spread evenly between them.
        liking: how much likelier answers are favoured.
        dtype: of the simulation.

    Raises:
        ValueError: fewer than 0 or more right answers than responses.
    """
    start = policy.start(repeats, generator=generators(seed)[0], dtype=dtype)
    with torch.no_grad():
        log_prob = tree_of(policy, start).probabilities.clamp(min=torch.finfo(dtype).tiny).log()
    responses = log_prob.shape[-1]
    if not 0 <= min(correct) <= max(correct) <= responses:
        raise ValueError(f"liked_problem(correct={correct}) must be between 0 and {responses} responses.")
    noise = torch.Generator().manual_seed(int(np.random.SeedSequence([seed, 1]).generate_state(1)[0]))
    score = liking * log_prob + gumbel(log_prob.shape, noise).to(dtype)
    counts = torch.linspace(*correct, policy.prompts).round()
    rank = score.argsort(dim=-1, descending=True).argsort(dim=-1)
    return Problem((rank < counts[:, None]).to(dtype), policy.vocabulary)


def gumbel(shape: torch.Size, generator: torch.Generator) -> Tensor:
    """Return standard Gumbel draws."""
    return -torch.empty(shape, dtype=torch.float64).exponential_(generator=generator).log()
