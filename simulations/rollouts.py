"""Rollouts: tokens drawn by inversion from explicit uniforms, their rewards, and what is recorded of them."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from simulations.policies import Forward, Parameters, Policy, Prompts
from trainer.methods.records import TokenRecord


@dataclass(frozen=True)
class Contexts:
    """The policy at every context of a batch.

    Args:
        logits: `[R, C, V]`.
        log_probs: l.
        probs: p.
        entropy: H, `[R, C]`, nats.
        pullback: of `policies.Forward`.
    """

    logits: Float[Tensor, "R C V"]
    log_probs: Float[Tensor, "R C V"]
    probs: Float[Tensor, "R C V"]
    entropy: Float[Tensor, "R C"]
    pullback: Callable[[Tensor], Parameters]

    @classmethod
    def of(cls, forward: Forward) -> "Contexts":
        """Return probabilities and entropies of these logits."""
        log_probs = forward.logits.log_softmax(-1)
        probs = log_probs.exp()
        return cls(forward.logits, log_probs, probs, -(probs * log_probs).sum(-1), forward.pullback)

    @property
    def discriminator(self) -> Float[Tensor, "R C V"]:
        """S = p (log p + H): minus the gradient of H in the logits."""
        return self.probs * (self.log_probs + self.entropy[..., None])

    def chosen(self, tokens: Int[Tensor, "R n G T"]) -> Float[Tensor, "R n G T"]:
        """Return the log-probability of sampled tokens."""
        return self.log_probs.gather(-1, self.by_context(tokens)).view(tokens.shape)

    def by_context(self, values: Tensor) -> Tensor:
        """Return values of tokens, `[R, n, G, T]` or `[R, B, T]`, as `[R, C, samples of the context]`."""
        return values.reshape(*self.entropy.shape, -1)

    def per_token(self, values: Float[Tensor, "R C"], shape: torch.Size) -> Tensor:
        """Return values of contexts for each of their tokens."""
        samples = shape.numel() // values.numel()
        return values[..., None].expand(-1, -1, samples).reshape(shape)


@dataclass(frozen=True)
class Rollouts:
    """A batch of rollouts.

    Args:
        prompts: of the batch.
        tokens: `[R, n, G, T]`.
        rewards: `[R, n, G]`.
        record: what was recorded of the tokens.
        contexts: the policy at their contexts.
        at_sampler: that policy is the one that sampled.
    """

    prompts: Prompts
    tokens: Int[Tensor, "R n G T"]
    rewards: Float[Tensor, "R n G"]
    record: TokenRecord
    contexts: Contexts
    at_sampler: bool = True


def draw(probs: Float[Tensor, "R C V"], uniforms: Float[Tensor, "R C S"]) -> Int[Tensor, "R C S"]:
    """Return S arms a context by inversion: the first whose cumulative probability exceeds the uniform.

    >>> draw(torch.tensor([[[0.5, 0.0, 0.5]]]), torch.tensor([[[0.0, 0.49, 0.5, 0.99]]])).tolist()
    [[[0, 0, 2, 2]]]
    """
    cumulative, left = probs.cumsum(-1), probs.shape[-1] - 1
    # Rounding leaves the last cumulative a little off 1.
    targets = uniforms * cumulative[..., -1:]
    # Bisection of all draws together: `searchsorted` walks them one by one, and its branches cannot be predicted.
    found = torch.zeros(targets.shape, dtype=torch.long, device=targets.device)
    while left:
        half = (left + 1) // 2
        found.add_(cumulative.gather(-1, found + (half - 1)) <= targets, alpha=half)
        left -= half
    return found


def sample(
    policy: Policy, parameters: Parameters, prompts: Prompts, uniforms: Float[Tensor, "R n G T"]
) -> tuple[Int[Tensor, "R n G T"], Contexts]:
    """Return responses, one uniform a token, and the policy at their contexts."""
    if not policy.reads_tokens:
        contexts = Contexts.of(policy.forward(parameters, prompts))
        return draw(contexts.probs, contexts.by_context(uniforms)).view(uniforms.shape), contexts
    tokens = torch.zeros(uniforms.shape, dtype=torch.long, device=uniforms.device)
    for t in range(policy.length):
        with torch.no_grad():
            logits = policy.logits(parameters, prompts, tokens[..., : t + 1])
        last = logits.view(*uniforms.shape[:-1], t + 1, -1)[..., t, :].flatten(1, 2)
        tokens[..., t] = draw(last.softmax(-1), uniforms[..., t].flatten(1)[..., None]).view(uniforms.shape[:-1])
    return tokens, Contexts.of(policy.forward(parameters, prompts, tokens))


def recorded(
    contexts: Contexts,
    tokens: Int[Tensor, "R n G T"],
    needs: frozenset[str] = frozenset(),
    temperatures: tuple[float, ...] = (),
) -> TokenRecord:
    """Return what the methods need to know of the sampled tokens."""
    influence = responsiveness = None
    if needs & {"influence", "responsiveness"}:
        s = contexts.discriminator
        if "influence" in needs:
            centred = (contexts.probs * s).sum(-1, keepdim=True) - s
            influence = centred.gather(-1, contexts.by_context(tokens)).view(tokens.shape)
        if "responsiveness" in needs:
            responsiveness = contexts.per_token(s.square().sum(-1), tokens.shape)
    tempered = {
        value: (contexts.logits / value).log_softmax(-1).gather(-1, contexts.by_context(tokens)).view(tokens.shape)
        for value in temperatures
    }
    return TokenRecord(
        mask=torch.ones_like(tokens, dtype=torch.bool),
        log_prob=contexts.chosen(tokens),
        entropy=contexts.per_token(contexts.entropy, tokens.shape),
        influence=influence,
        responsiveness=responsiveness,
        tempered=tempered,
    )
