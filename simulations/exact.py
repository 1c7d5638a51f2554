"""Exact quantities by enumeration: probabilities, entropies, expected rewards and gradients of small policies.

Level t holds the contexts after t tokens: V^t prefixes a prompt, in lexicographic order. A bandit has level 0 alone.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import torch
from jaxtyping import Float, Int
from torch import Tensor

from entropy_theory.sequence import all_sequences
from simulations.policies import ALL, Forward, Parameters, Policy
from trainer.methods.stages import AdvantageEstimator


@dataclass(frozen=True)
class Tree:
    """A policy at every context that it can reach.

    Args:
        log_probs: of the next token, a level `[R, P, V^t, V]`.
        reach: the probability of each prefix, a level `[R, P, V^t]`.
    """

    log_probs: tuple[Float[Tensor, "R P _ V"], ...]
    reach: tuple[Float[Tensor, "R P _"], ...]

    @property
    def length(self) -> int:
        """T, tokens of a response."""
        return len(self.log_probs)

    @property
    def probabilities(self) -> Float[Tensor, "R P Y"]:
        """Of every response, in lexicographic order."""
        return (self.reach[-1][..., None] * self.log_probs[-1].exp()).flatten(-2)

    def entropy(self, reach: tuple[Float[Tensor, "R P _"], ...] | None = None) -> Float[Tensor, "R"]:
        """Return the expected entropy of a token, nats: the mean over prompts and positions.

        Args:
            reach: of the prefixes; another policy's for the entropy on its contexts. Own by default.
        """
        total: Tensor | float = 0.0
        for log_probs, weight in zip(self.log_probs, reach or self.reach, strict=True):
            total = total - (weight * (log_probs.exp() * log_probs).sum(-1)).sum(-1).mean(-1)
        assert isinstance(total, Tensor)
        return total / self.length

    def expected(self, values: Float[Tensor, "R P Y"]) -> Float[Tensor, "R"]:
        """Return the expectation of a value of responses, mean over prompts."""
        return (self.probabilities * values).sum(-1).mean(-1)

    def action_values(self, values: Float[Tensor, "R P Y"]) -> list[Float[Tensor, "R P _ V"]]:
        """Return, a level, the expectation of a value of responses given the prefix and its next token."""
        found = []
        for log_probs in reversed(self.log_probs):
            values = values.reshape(log_probs.shape)
            found.append(values)
            values = (log_probs.exp() * values).sum(-1)
        return found[::-1]

    def discriminators(self) -> list[Float[Tensor, "R P _ V"]]:
        """Return S = p (log p + H), a level."""
        found = []
        for log_probs in self.log_probs:
            probs = log_probs.exp()
            found.append(probs * (log_probs - (probs * log_probs).sum(-1, keepdim=True)))
        return found


@lru_cache(maxsize=64)
def prefixes(vocabulary: int, length: int) -> Int[Tensor, "N t"]:
    """Return every prefix of a length, with a further token 0 for the position that it predicts."""
    if length == 0:
        return torch.zeros(1, 1, dtype=torch.long)
    return torch.nn.functional.pad(all_sequences(vocabulary, length), (0, 1))


def level_tokens(policy: Policy, repeats: int, level: int, device: torch.device) -> Int[Tensor, "R P N t"]:
    """Return the tokens whose last position is the level's contexts."""
    return prefixes(policy.vocabulary, level).to(device).expand(repeats, policy.prompts, -1, -1)


def tree_of(policy: Policy, parameters: Parameters) -> Tree:
    """Return the policy at every context, differentiable in the parameters.

    >>> from simulations.policies import Table
    >>> z = torch.tensor([[[0.0, 0.0]]])
    >>> tree_of(Table(1, 2), {"logits": z}).entropy().round(decimals=4)
    tensor([0.6931])
    """
    some = next(iter(parameters.values()))
    log_probs, reach = [], [some.new_ones(some.shape[0], policy.prompts, 1)]
    for level in range(policy.length):
        tokens = level_tokens(policy, some.shape[0], level, some.device)
        logits = policy.logits(parameters, ALL, tokens)
        here = last_position(logits, tokens, policy).log_softmax(-1)
        log_probs.append(here)
        if level + 1 < policy.length:
            reach.append((reach[-1][..., None] * here.exp()).flatten(-2))
    return Tree(tuple(log_probs), tuple(reach))


def last_position(logits: Float[Tensor, "R C V"], tokens: Tensor, policy: Policy) -> Float[Tensor, "R P N V"]:
    """Return the logits after the prefixes, of logits at all positions."""
    repeats, prompts, count, length = tokens.shape
    return logits.view(repeats, prompts, count, length, policy.vocabulary)[..., -1, :]


def policy_gradient(policy: Policy, parameters: Parameters, values: Float[Tensor, "R P Y"]) -> tuple[Tree, Parameters]:
    """Return the tree, and the exact policy gradient: the mean over prompts of sum_y pi(y) a(y) grad log pi(y) / T.

    The expectation of the gradient of a sampled batch whose loss is a mean over its tokens.

    Args:
        policy: any.
        parameters: of R repeats.
        values: a, one a response; held fixed.
    """
    parameters = {name: value.detach() for name, value in parameters.items()}
    with torch.no_grad():
        tree = tree_of(policy, parameters)
        action_values = tree.action_values(values)
    total: Parameters = {}
    for level, (log_probs, reach, q) in enumerate(zip(tree.log_probs, tree.reach, action_values, strict=True)):
        tokens = level_tokens(policy, values.shape[0], level, values.device)
        forward: Forward = policy.forward(parameters, ALL, tokens)
        probs = log_probs.exp()
        on_logits = reach[..., None] * probs * (q - (probs * q).sum(-1, keepdim=True))
        whole = torch.zeros_like(forward.logits)
        last_position(whole, tokens, policy).copy_(on_logits / (policy.prompts * policy.length))
        for name, found in forward.pullback(whole).items():
            total[name] = total[name] + found if name in total else found
    return tree, total


def expected_advantages(
    advantage: AdvantageEstimator,
    rewards: Float[Tensor, "R P Y"],
    probabilities: Float[Tensor, "R P Y"],
    group_size: int,
) -> Float[Tensor, "R P Y"]:
    """Return E[A | y]: what a response's advantage is on average over the other G - 1 samples of its group.

    sum_k Binomial(k; G - 1, mu) A(own reward, k others correct), mu = P(correct).

    Valid for estimators that look at a group's rewards alone, and rewards of at most two values.

    Args:
        advantage: the estimator.
        rewards: of every response.
        probabilities: of every response.
        group_size: G.

    Raises:
        ValueError: rewards of three values or more.

    >>> from trainer.methods.advantages import reinforce
    >>> expected_advantages(reinforce, torch.tensor([[[1.0, 0.0]]]), torch.tensor([[[0.5, 0.5]]]), 4)
    tensor([[[1., 0.]]])
    """
    low, high = rewards.min(), rewards.max()
    won = rewards == high
    if not bool((won | (rewards == low)).all()):
        raise ValueError(
            f"expected_advantages(rewards) must have at most two values; got {len(rewards.unique())}. "
            "Give values of your own, one a response."
        )
    others = torch.arange(group_size, device=rewards.device)
    # Group k has k wins first: its sample 0 won with k - 1 other wins, its last one lost with k others.
    wins = torch.arange(group_size + 1, device=rewards.device)[:, None] > torch.arange(
        group_size, device=rewards.device
    )
    found = advantage(torch.where(wins, high, low).to(rewards))
    by_outcome = torch.stack([found[:-1, -1], found[1:, 0]])  # [lost or won, k others]
    mu = (probabilities * won).sum(-1, keepdim=True).clamp(0, 1)
    chances = binomial(others, group_size - 1, mu)
    lost, gained = (chances * by_outcome[0]).sum(-1, keepdim=True), (chances * by_outcome[1]).sum(-1, keepdim=True)
    return torch.where(won, gained, lost)


def binomial(k: Int[Tensor, " K"], n: int, mu: Float[Tensor, "R P 1"]) -> Float[Tensor, "R P K"]:
    """Return the binomial probabilities of k out of n."""
    k = k.to(mu)
    log_choose = torch.lgamma(torch.tensor(n + 1.0).to(mu)) - torch.lgamma(k + 1) - torch.lgamma(n - k + 1)
    return log_choose.exp() * mu**k * (1 - mu) ** (n - k)


ExactAdvantages = Callable[[Float[Tensor, "R P Y"], Float[Tensor, "R P Y"]], Float[Tensor, "R P Y"]]
