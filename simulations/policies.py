"""Small policies: a frozen description, and parameters `[R, ...]` beside it, one set a repeat.

Letters: R repeats, P prompts, n prompts of a batch, G samples a prompt, T tokens of a response (fixed), V vocabulary,
C contexts. A bandit (T = 1) has one context a prompt, which its G samples share: C = n. A policy over sequences has one
a token: C = n G T. Prompts of a batch are a slice, the same for every repeat, or indices `[R, n]`. Logits are finite.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

Parameters = dict[str, Tensor]
Prompts = slice | Tensor
ALL = slice(None)


@dataclass(frozen=True)
class Forward:
    """Logits, and how a gradient on them becomes one on the parameters.

    Args:
        logits: `[R, C, V]`, without gradient.
        pullback: gradient of a scalar in the logits -> its gradient in the parameters.
    """

    logits: Float[Tensor, "R C V"]
    pullback: Callable[[Float[Tensor, "R C V"]], Parameters]


class Policy(ABC):
    """What every policy offers: first parameters, and logits as a function of them."""

    prompts: int
    vocabulary: int

    @property
    def length(self) -> int:
        """T, tokens of a response."""
        return 1

    @property
    def reads_tokens(self) -> bool:
        """Whether logits depend on the tokens before; a bandit has one context a prompt, shared by its samples."""
        return False

    @abstractmethod
    def start(
        self,
        repeats: int,
        *,
        generator: torch.Generator,
        dtype: torch.dtype = torch.float64,
        device: torch.device | str = "cpu",
    ) -> Parameters:
        """Return first parameters, each repeat with its own draws."""

    @abstractmethod
    def logits(
        self, parameters: Parameters, prompts: Prompts = ALL, tokens: Int[Tensor, "R n G t"] | None = None
    ) -> Float[Tensor, "R C V"]:
        """Return the logits at every context, differentiable in the parameters.

        Args:
            parameters: of R repeats.
            prompts: of the batch.
            tokens: responses, or their first t tokens; the logits at position i depend on tokens before i. Bandits do
                not look at them.
        """

    def forward(self, parameters: Parameters, prompts: Prompts = ALL, tokens: Tensor | None = None) -> Forward:
        """Return the logits and their pullback."""
        leaves = {name: value.detach().requires_grad_() for name, value in parameters.items()}
        with torch.enable_grad():
            logits = self.logits(leaves, prompts, tokens)

        def pullback(gradient: Tensor) -> Parameters:
            found = torch.autograd.grad(
                logits, list(leaves.values()), gradient, retain_graph=True, allow_unused=True, materialize_grads=True
            )
            return dict(zip(leaves, found, strict=True))

        return Forward(logits.detach(), pullback)


@dataclass(frozen=True)
class Table(Policy):
    """A bandit with logits of its own at every prompt: `logits [R, P, V]`.

    Args:
        prompts: P.
        vocabulary: V, the arms.
        scale: standard deviation of the first logits.
        initial: `[P, V]` or `[R, P, V]`, added to them; difficulty can be set here.
    """

    prompts: int
    vocabulary: int
    scale: float = 1.0
    initial: Tensor | None = None

    def start(
        self,
        repeats: int,
        *,
        generator: torch.Generator,
        dtype: torch.dtype = torch.float64,
        device: torch.device | str = "cpu",
    ) -> Parameters:
        """Return normal logits of standard deviation `scale`, plus `initial`."""
        z = normal((repeats, self.prompts, self.vocabulary), self.scale, generator, dtype, device)
        return {"logits": z if self.initial is None else z + self.initial.to(z)}

    def logits(self, parameters: Parameters, prompts: Prompts = ALL, tokens: Tensor | None = None) -> Tensor:
        """Return the prompts' own logits."""
        return of_prompts(parameters["logits"], prompts)

    def forward(self, parameters: Parameters, prompts: Prompts = ALL, tokens: Tensor | None = None) -> Forward:
        """Return the logits; their gradient is the parameters', put in its place."""
        table = parameters["logits"].detach()

        def pullback(gradient: Tensor) -> Parameters:
            if isinstance(prompts, slice):
                if gradient.shape == table.shape:
                    return {"logits": gradient}
                whole = torch.zeros_like(table)
                whole[:, prompts] = gradient
                return {"logits": whole}
            return {"logits": torch.zeros_like(table).scatter_add_(1, wide(prompts, table), gradient)}

        return Forward(of_prompts(table, prompts), pullback)


@dataclass(frozen=True)
class Tree(Policy):
    """A policy over sequences with logits of its own after every prefix: `logits [R, P, N, V]`.

    N = 1 + V + ... + V^(T - 1) prefixes, shorter ones first, each length in lexicographic order.

    Args:
        prompts: P.
        vocabulary: V.
        tokens: T.
        scale: standard deviation of the first logits.
    """

    prompts: int
    vocabulary: int
    tokens: int
    scale: float = 1.0

    @property
    def length(self) -> int:
        """T, tokens of a response."""
        return self.tokens

    @property
    def prefixes(self) -> int:
        """N, the number of prefixes shorter than a response."""
        return sum(self.vocabulary**t for t in range(self.tokens))

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
        """Return normal logits of standard deviation `scale`."""
        shape = (repeats, self.prompts, self.prefixes, self.vocabulary)
        return {"logits": normal(shape, self.scale, generator, dtype, device)}

    def rows(self, parameters: Parameters, prompts: Prompts, tokens: Tensor) -> Int[Tensor, "R C"]:
        """Return the row of the table, prompts and prefixes flattened, at every context."""
        repeats = parameters["logits"].shape[0]
        prompt = prompt_indices(prompts, self.prompts, repeats, tokens.device)
        node = torch.zeros_like(tokens[..., 0])
        nodes = [node]
        for t in range(tokens.shape[-1] - 1):
            # The first prefix of the next length follows the last one of this length: node -> node * V + 1 + token.
            node = node * self.vocabulary + 1 + tokens[..., t]
            nodes.append(node)
        within = torch.stack(nodes, -1)
        return (prompt[..., None, None] * self.prefixes + within).flatten(1)

    def logits(self, parameters: Parameters, prompts: Prompts = ALL, tokens: Tensor | None = None) -> Tensor:
        """Return the logits after each prefix."""
        assert tokens is not None
        table = parameters["logits"].flatten(1, 2)
        return table.gather(1, wide(self.rows(parameters, prompts, tokens), table))

    def forward(self, parameters: Parameters, prompts: Prompts = ALL, tokens: Tensor | None = None) -> Forward:
        """Return the logits; their gradient is added up at its rows of the table."""
        assert tokens is not None
        shape = parameters["logits"].shape
        table = parameters["logits"].detach().flatten(1, 2)
        index = wide(self.rows(parameters, prompts, tokens), table)

        def pullback(gradient: Tensor) -> Parameters:
            return {"logits": torch.zeros_like(table).scatter_add_(1, index, gradient).view(shape)}

        return Forward(table.gather(1, index), pullback)


@dataclass(frozen=True)
class Linear(Policy):
    """A contextual bandit whose prompts share one matrix: `features @ weight`.

    Args:
        features: `[P, d]`, of the prompts.
        vocabulary: V, the arms.
        scale: standard deviation of the first logits at features of norm 1.
    """

    features: Float[Tensor, "P d"]
    vocabulary: int
    scale: float = 1.0

    @property
    def prompts(self) -> int:  # type: ignore[override]
        """P."""
        return self.features.shape[0]

    def start(
        self,
        repeats: int,
        *,
        generator: torch.Generator,
        dtype: torch.dtype = torch.float64,
        device: torch.device | str = "cpu",
    ) -> Parameters:
        """Return a normal matrix of standard deviation `scale`."""
        shape = (repeats, self.features.shape[1], self.vocabulary)
        return {"weight": normal(shape, self.scale, generator, dtype, device)}

    def logits(self, parameters: Parameters, prompts: Prompts = ALL, tokens: Tensor | None = None) -> Tensor:
        """Return features @ weight."""
        return features_of(self.features, prompts, parameters["weight"]) @ parameters["weight"]


@dataclass(frozen=True)
class MLP(Policy):
    """A contextual bandit with one hidden layer: `tanh(features @ first + bias) @ second`.

    Args:
        features: `[P, d]`, of the prompts.
        vocabulary: V, the arms.
        hidden: units.
        scale: standard deviation of the first logits, about.
    """

    features: Float[Tensor, "P d"]
    vocabulary: int
    hidden: int = 16
    scale: float = 1.0

    @property
    def prompts(self) -> int:  # type: ignore[override]
        """P."""
        return self.features.shape[0]

    def start(
        self,
        repeats: int,
        *,
        generator: torch.Generator,
        dtype: torch.dtype = torch.float64,
        device: torch.device | str = "cpu",
    ) -> Parameters:
        """Return normal weights, scaled by one over the root of the inputs, and biases of 0."""
        d, h = self.features.shape[1], self.hidden
        return {
            "first": normal((repeats, d, h), 1.0, generator, dtype, device),
            "bias": torch.zeros(repeats, 1, h, dtype=dtype, device=device),
            "second": normal((repeats, h, self.vocabulary), self.scale * (2 / h) ** 0.5, generator, dtype, device),
        }

    def logits(self, parameters: Parameters, prompts: Prompts = ALL, tokens: Tensor | None = None) -> Tensor:
        """Return the second layer's output."""
        given = features_of(self.features, prompts, parameters["first"])
        return (given @ parameters["first"] + parameters["bias"]).tanh() @ parameters["second"]


def normal(
    shape: tuple[int, ...],
    scale: float,
    generator: torch.Generator,
    dtype: torch.dtype,
    device: torch.device | str,
) -> Tensor:
    """Return normal draws of standard deviation `scale`."""
    return torch.randn(shape, generator=generator, dtype=dtype, device=generator.device).to(device) * scale


def wide(index: Int[Tensor, "R n"], values: Float[Tensor, "R N k"]) -> Int[Tensor, "R n k"]:
    """Return row indices as `gather` wants them."""
    return index[..., None].expand(-1, -1, values.shape[-1])


def of_prompts(values: Float[Tensor, "R P k"], prompts: Prompts) -> Float[Tensor, "R n k"]:
    """Return the rows of the prompts of a batch.

    >>> of_prompts(torch.tensor([[[1.0], [2.0]]]), torch.tensor([[1, 1, 0]]))[0, :, 0].tolist()
    [2.0, 2.0, 1.0]
    """
    return values[:, prompts] if isinstance(prompts, slice) else values.gather(1, wide(prompts, values))


def features_of(features: Tensor, prompts: Prompts, like: Tensor) -> Tensor:
    """Return the features of the prompts of a batch: `[n, d]`, or `[R, n, d]` where repeats have their own."""
    return features.to(like)[prompts]


def prompt_indices(prompts: Prompts, count: int, repeats: int, device: torch.device | str) -> Int[Tensor, "R n"]:
    """Return the prompts of a batch as indices."""
    if isinstance(prompts, slice):
        return torch.arange(count, device=device)[prompts].expand(repeats, -1)
    return prompts
