"""Small networks over sequences: every prompt and prefix shares their parameters."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from simulations.policies import ALL, Parameters, Policy, Prompts, normal, of_prompts, wide


@dataclass(frozen=True)
class Recurrent(Policy):
    """A recurrent network: the prompt's vector is the first state, and each token moves it.

    Elman: s' = tanh(x + s W). GRU: s' = (1 - z) tanh(x + (r s) W) + z s, with gates z and r from x and s.

    Args:
        prompts: P.
        vocabulary: V.
        tokens: T.
        hidden: units of the state.
        cell: of the two.
        scale: standard deviation of the first logits, about.
    """

    prompts: int
    vocabulary: int
    tokens: int
    hidden: int = 12
    cell: Literal["elman", "gru"] = "elman"
    scale: float = 1.0

    def __post_init__(self) -> None:
        if self.cell not in ("elman", "gru"):
            raise ValueError(f"Recurrent(cell={self.cell!r}) must be 'elman' or 'gru'.")

    @property
    def length(self) -> int:
        """T, tokens of a response."""
        return self.tokens

    @property
    def reads_tokens(self) -> bool:
        """Logits depend on the tokens before."""
        return True

    def start(
        self,
        repeats: int,
        *,
        generator: torch.Generator,
        dtype: torch.dtype = torch.float64,
        device: torch.device | str = "cpu",
    ) -> Parameters:
        """Return normal weights, scaled by one over the root of the inputs."""
        h, v, parts = self.hidden, self.vocabulary, 3 if self.cell == "gru" else 1
        shapes = {
            "prompt": ((self.prompts, h), 1.0),
            "embedding": ((v, parts * h), 1.0),
            "recurrent": ((h, parts * h), h**-0.5),
            "output": ((h, v), self.scale * (2 / h) ** 0.5),
        }
        return drawn(shapes, repeats, generator, dtype, device)

    def logits(self, parameters: Parameters, prompts: Prompts = ALL, tokens: Tensor | None = None) -> Tensor:
        """Return the logits after each prefix."""
        assert tokens is not None
        repeats, n, samples, length = tokens.shape
        first = of_prompts(parameters["prompt"], prompts).tanh()
        state = first[:, :, None].expand(-1, -1, samples, -1).reshape(repeats, n * samples, self.hidden)
        states = [state]
        for t in range(length - 1):
            given = embedded(parameters["embedding"], tokens[..., t].flatten(1))
            state = self.moved(state, given, parameters["recurrent"])
            states.append(state)
        return torch.stack(states, 2).flatten(1, 2) @ parameters["output"]

    def moved(self, state: Tensor, given: Tensor, recurrent: Tensor) -> Tensor:
        """Return the next state."""
        if self.cell == "elman":
            return (given + state @ recurrent).tanh()
        h = self.hidden
        gates = (given[..., : 2 * h] + state @ recurrent[..., : 2 * h]).sigmoid()
        keep, reset = gates[..., :h], gates[..., h:]
        new = (given[..., 2 * h :] + (reset * state) @ recurrent[..., 2 * h :]).tanh()
        return (1 - keep) * new + keep * state


@dataclass(frozen=True)
class Attention(Policy):
    """One causal attention head and one hidden layer, both residual: a transformer in miniature.

    Position 0 reads the prompt's vector, position t the token before it; positions have vectors of their own.

    Args:
        prompts: P.
        vocabulary: V.
        tokens: T.
        hidden: width.
        scale: standard deviation of the first logits, about.
    """

    prompts: int
    vocabulary: int
    tokens: int
    hidden: int = 12
    scale: float = 1.0

    @property
    def length(self) -> int:
        """T, tokens of a response."""
        return self.tokens

    @property
    def reads_tokens(self) -> bool:
        """Logits depend on the tokens before."""
        return True

    def start(
        self,
        repeats: int,
        *,
        generator: torch.Generator,
        dtype: torch.dtype = torch.float64,
        device: torch.device | str = "cpu",
    ) -> Parameters:
        """Return normal weights, scaled by one over the root of the inputs."""
        h, narrow = self.hidden, self.hidden**-0.5
        shapes = {
            "prompt": ((self.prompts, h), 1.0),
            "embedding": ((self.vocabulary, h), 1.0),
            "position": ((self.tokens, h), 0.5),
            "query": ((h, h), narrow),
            "key": ((h, h), narrow),
            "value": ((h, h), narrow),
            "inner": ((h, 2 * h), narrow),
            "outer": ((2 * h, h), (2 * h) ** -0.5),
            "output": ((h, self.vocabulary), self.scale * (3 * h) ** -0.5),
        }
        return drawn(shapes, repeats, generator, dtype, device)

    def logits(self, parameters: Parameters, prompts: Prompts = ALL, tokens: Tensor | None = None) -> Tensor:
        """Return the logits after each prefix."""
        assert tokens is not None
        repeats, n, samples, length = tokens.shape
        first = of_prompts(parameters["prompt"], prompts)[:, :, None, None].expand(-1, -1, samples, -1, -1)
        before = embedded(parameters["embedding"], tokens[..., :-1].flatten(1)).view(
            repeats, n, samples, length - 1, self.hidden
        )
        x = torch.cat([first, before], 3) + parameters["position"][:, None, None, :length]
        # [R, n G, t, h] against weights [R, 1, h, h]
        x = x.flatten(1, 2)
        query, key, value, inner, outer = (
            parameters[name][:, None] for name in ("query", "key", "value", "inner", "outer")
        )
        scores = (x @ query) @ (x @ key).transpose(-1, -2) * self.hidden**-0.5
        later = torch.ones(length, length, dtype=torch.bool, device=x.device).triu(1)
        x = x + scores.masked_fill(later, -torch.inf).softmax(-1) @ (x @ value)
        x = x + (x @ inner).tanh() @ outer
        return x.flatten(1, 2) @ parameters["output"]


def drawn(
    shapes: Mapping[str, tuple[tuple[int, ...], float]],
    repeats: int,
    generator: torch.Generator,
    dtype: torch.dtype,
    device: torch.device | str,
) -> Parameters:
    """Return normal parameters of these shapes and standard deviations, each repeat its own."""
    return {name: normal((repeats, *shape), scale, generator, dtype, device) for name, (shape, scale) in shapes.items()}


def embedded(table: Float[Tensor, "R V h"], tokens: Int[Tensor, "R N"]) -> Float[Tensor, "R N h"]:
    """Return the row of each token."""
    return table.gather(1, wide(tokens, table))
