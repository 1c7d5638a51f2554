"""Problems: the reward of every response to every prompt, 0 or 1 by convention."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from simulations.policies import Prompts, of_prompts


@dataclass(frozen=True)
class Problem:
    """A reward for every response.

    Args:
        rewards: `[P, V^T]`, or `[R, P, V^T]` where repeats have their own; responses in lexicographic order, so that a
            bandit's are its arms.
        vocabulary: V.
    """

    rewards: Float[Tensor, "*R P Y"]
    vocabulary: int

    def __post_init__(self) -> None:
        if self.rewards.dim() not in (2, 3) or self.vocabulary**self.length != self.rewards.shape[-1]:
            raise ValueError(
                f"Problem(rewards={list(self.rewards.shape)}, vocabulary={self.vocabulary}) must have a reward for "
                "each of V^T responses, [P, V^T] or [R, P, V^T]. Use bandit(...) or sequences(...)."
            )

    @property
    def prompts(self) -> int:
        """P."""
        return self.rewards.shape[-2]

    @property
    def length(self) -> int:
        """T, tokens of a response."""
        length, count = 1, self.vocabulary
        while count < self.rewards.shape[-1] and self.vocabulary > 1:
            length, count = length + 1, count * self.vocabulary
        return length

    def signed(self) -> "Problem":
        """Return the problem with rewards of 0 and 1 as -1 and 1."""
        return Problem(2 * self.rewards - 1, self.vocabulary)

    def table(self, repeats: int, like: Tensor) -> Float[Tensor, "R P Y"]:
        """Return the rewards `[R, P, V^T]` as numbers like another tensor's."""
        given = self.rewards.to(like)
        return given if given.dim() == 3 else given.expand(repeats, -1, -1)


def response_index(tokens: Int[Tensor, "*B T"], vocabulary: int) -> Int[Tensor, "*B"]:
    """Return the place of each response in lexicographic order.

    >>> response_index(torch.tensor([1, 0, 1]), 2).item()
    5
    """
    index = tokens[..., 0]
    for t in range(1, tokens.shape[-1]):
        index = index * vocabulary + tokens[..., t]
    return index


def score(
    table: Float[Tensor, "R P Y"], prompts: Prompts, tokens: Int[Tensor, "R n G T"], vocabulary: int
) -> Float[Tensor, "R n G"]:
    """Return the reward of each response."""
    return of_prompts(table, prompts).gather(-1, response_index(tokens, vocabulary))


def bandit(
    prompts: int, vocabulary: int, correct: int | tuple[int, int] = 1, *, generator: torch.Generator | None = None
) -> Problem:
    """Return a bandit with some correct arms a prompt.

    Args:
        prompts: P.
        vocabulary: V, the arms.
        correct: how many arms are correct; a pair spreads the difficulty evenly over the prompts, from the first
            number to the second.
        generator: draws which arms they are; without one, the first ones.

    >>> bandit(3, 4, (1, 3)).rewards.sum(-1).tolist()
    [1.0, 2.0, 3.0]
    """
    first, last = (correct, correct) if isinstance(correct, int) else correct
    if not 0 <= min(first, last) <= max(first, last) <= vocabulary:
        raise ValueError(f"bandit(correct={correct}) must be between 0 and {vocabulary} arms.")
    counts = torch.linspace(first, last, prompts).round()
    rank = torch.arange(vocabulary).expand(prompts, -1)
    if generator is not None:
        rank = torch.rand(prompts, vocabulary, generator=generator).argsort(-1)
    return Problem((rank < counts[:, None]).double(), vocabulary)


def sequences(
    prompts: int,
    vocabulary: int,
    length: int,
    correct: float | tuple[float, float] = 0.1,
    *,
    generator: torch.Generator,
) -> Problem:
    """Return a problem in which a share of all sequences, drawn for each prompt, is correct; at least one is.

    Args:
        prompts: P.
        vocabulary: V.
        length: T.
        correct: the share; a pair spreads it evenly over the prompts.
        generator: draws which sequences they are.

    >>> sequences(2, 3, 2, (0.12, 0.4), generator=torch.Generator().manual_seed(0)).rewards.sum(-1).tolist()
    [1.0, 4.0]
    """
    first, last = (correct, correct) if isinstance(correct, float) else correct
    responses = vocabulary**length
    counts = (torch.linspace(first, last, prompts) * responses).round().clamp(min=1)
    rank = torch.rand(prompts, responses, generator=generator).argsort(-1)
    return Problem((rank < counts[:, None]).double(), vocabulary)
