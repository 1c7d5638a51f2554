"""Policies that start out knowing some answers: constant logits in favour of right tokens, added to trained ones."""

from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Float
from torch import Tensor

from simulations.exact import tree_of
from simulations.policies import ALL, Forward, Parameters, Policy, Prompts, Table, Tree
from simulations.problems import Problem


@dataclass(frozen=True)
class Favouring(Policy):
    """A policy with constant logits added, which no update changes: a base model that knows some answers.

    Args:
        policy: whose parameters are trained.
        offset: `[P, N, V]`, over all prefixes, shorter ones first, as a `Tree`'s.
    """

    policy: Policy
    offset: Tensor = field(repr=False)

    @property
    def prompts(self) -> int:  # type: ignore[override]
        """P."""
        return self.policy.prompts

    @property
    def vocabulary(self) -> int:  # type: ignore[override]
        """V."""
        return self.policy.vocabulary

    @property
    def length(self) -> int:
        """T, tokens of a response."""
        return self.policy.length

    @property
    def reads_tokens(self) -> bool:
        """Whether the policy's logits do."""
        return self.policy.reads_tokens

    def start(
        self,
        repeats: int,
        *,
        generator: torch.Generator,
        dtype: torch.dtype = torch.float64,
        device: torch.device | str = "cpu",
    ) -> Parameters:
        """Return the first parameters of the policy."""
        return self.policy.start(repeats, generator=generator, dtype=dtype, device=device)

    def added(self, parameters: Parameters, prompts: Prompts, tokens: Tensor | None) -> Float[Tensor, "R C V"]:
        """Return the constant logits at every context."""
        some = next(iter(parameters.values()))
        table = {"logits": self.offset.to(some).expand(some.shape[0], *self.offset.shape)}
        if not self.reads_tokens:
            return Table(self.prompts, self.vocabulary).logits({"logits": table["logits"][:, :, 0]}, prompts)
        return Tree(self.prompts, self.vocabulary, self.length).logits(table, prompts, tokens)

    def logits(self, parameters: Parameters, prompts: Prompts = ALL, tokens: Tensor | None = None) -> Tensor:
        """Return the sum of both logits."""
        return self.policy.logits(parameters, prompts, tokens) + self.added(parameters, prompts, tokens)

    def forward(self, parameters: Parameters, prompts: Prompts = ALL, tokens: Tensor | None = None) -> Forward:
        """Return the sum of both; a constant leaves the pullback as it is."""
        found = self.policy.forward(parameters, prompts, tokens)
        return replace(found, logits=found.logits + self.added(parameters, prompts, tokens))


def right_tokens(problem: Problem) -> Float[Tensor, "P N V"]:
    """Return 1 for each token after which a right answer can still follow, over all prefixes, else 0."""
    levels = []
    reachable = problem.rewards
    for _ in range(problem.length):
        reachable = reachable.unflatten(-1, (-1, problem.vocabulary))
        levels.append(reachable)
        reachable = reachable.amax(-1)
    return torch.cat(levels[::-1], -2)


def at_accuracy(policy: Policy, problem: Problem, parameters: Parameters, accuracy: float) -> Favouring:
    """Return the policy in favour of right tokens, or against them, by as much as makes it right that often.

    Args:
        policy: to add to.
        problem: whose rewards are 0 and 1.
        parameters: at which the accuracy, the expected reward over prompts and repeats, is reached.
        accuracy: between 0 and 1.

    Raises:
        ValueError: an accuracy that no strength up to 30 nats reaches.
    """
    right = right_tokens(problem)
    rewards = problem.table(next(iter(parameters.values())).shape[0], right)

    def reached(strength: float) -> float:
        return float(tree_of(Favouring(policy, strength * right), parameters).expected(rewards).mean())

    low, high = -30.0, 30.0
    if not reached(low) <= accuracy <= reached(high):
        raise ValueError(
            f"at_accuracy(accuracy={accuracy}) must be between {reached(low):.3g} and {reached(high):.3g}, what logits "
            "of -30 and 30 reach. Give another accuracy, or a problem with more or fewer right answers."
        )
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if reached(middle) < accuracy else (low, middle)
    return Favouring(policy, low * right)
