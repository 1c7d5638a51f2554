"""Token statistics over large vocabularies, one block at a time.

One pass keeps, per row, the running maximum m and four sums over y = z - m: sum e^y, sum y e^y, sum e^2y, sum y e^2y.
They give log p_k, H, n_2, S_k and N, so that no row of probabilities is ever held. The gradient of log p_k and H is
recomputed a block at a time: d log p_k / dz = e_k - p, dH / dz = -p L.
"""

from collections.abc import Callable, Iterator
from dataclasses import fields
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from entropy_theory.statistics import TokenStatistics

# exp(LOWEST) is 0 in float64 too, and LOWEST * 0 is 0 where -inf * 0 would be NaN.
LOWEST = -800.0
# Elements of a tile: one that stays in a CPU core's cache; on an accelerator, one that keeps it busy.
TILE = (2**17, 2**24)


class RunningSums:
    """The running maximum and sums of rows of logits, fed block by block.

    Args:
        rows: N, how many rows.
        like: gives the type that is accumulated in (float32, or float64 for float64 logits) and the device.
    """

    def __init__(self, rows: int, like: Tensor) -> None:
        kind = torch.float64 if like.dtype == torch.float64 else torch.float32
        self.maximum = torch.full((rows,), -torch.inf, dtype=kind, device=like.device)
        # A row's mass is 1 plus what the other arms have; near determinism float32 would lose that.
        zeros = torch.zeros(rows, dtype=torch.float64, device=like.device)
        self.mass, self.first, self.square, self.square_first = zeros, zeros.clone(), zeros.clone(), zeros.clone()

    def add(self, block: Float[Tensor, "N block"]) -> None:
        """Take in a block of logits."""
        maximum = torch.maximum(self.maximum, block.amax(-1).to(self.maximum.dtype))
        # Rows whose arms so far are all masked stay at mass 0; a finite stand-in keeps -inf - (-inf) out of them.
        anchor = maximum.where(maximum.isfinite(), 0.0)
        self.rescale((self.maximum - anchor).clamp(min=LOWEST).where(self.maximum.isfinite(), LOWEST).double())
        self.maximum = maximum
        shifted = (block - anchor[:, None]).clamp_(min=LOWEST)
        power = shifted.exp()
        weighted = shifted.mul_(power)
        self.mass += power.sum(-1, dtype=torch.float64)
        self.first += weighted.sum(-1)
        self.square += torch.linalg.vecdot(power, power)
        self.square_first += torch.linalg.vecdot(power, weighted)

    def rescale(self, drop: Float[Tensor, " N"]) -> None:
        """Express the sums relative to a new maximum; `drop` <= 0 is the old one less the new one."""
        factor = drop.exp()
        self.first = factor * (self.first + drop * self.mass)
        self.square_first = factor.square() * (self.square_first + drop * self.square)
        self.mass, self.square = factor * self.mass, factor.square() * self.square

    def statistics(self, chosen: Float[Tensor, " N"]) -> TokenStatistics:
        """Return the statistics of the rows in the accumulation type, given the logit of each row's token."""
        log_mass = self.mass.log()
        entropy = log_mass - self.first / self.mass
        collision = self.square / self.mass.square()
        log_prob = (chosen.to(self.maximum.dtype) - self.maximum) - log_mass
        centred = (log_prob + entropy).where(log_prob.isfinite(), 0.0)
        # E_p[p log p] + n_2 H, with log p = y - log mass.
        mean = self.square_first / self.mass.square() + collision * (entropy - log_mass)
        found = (log_prob, entropy, collision, log_prob.exp() * centred, mean)
        return TokenStatistics(*(value.to(self.maximum.dtype) for value in found))

    def log_normaliser(self) -> Float[Tensor, " N"]:
        """Return log sum exp z of each row."""
        return self.maximum + self.mass.log().to(self.maximum.dtype)


def require_positive(size: int, block: int) -> None:
    """Refuse an empty vocabulary and an empty block."""
    if block < 1 or size < 1:
        raise ValueError(f"token statistics(size={size}, block={block}) must both be at least 1.")


def blocks(size: int, block: int) -> Iterator[slice]:
    """Yield slices that cover range(size)."""
    yield from (slice(start, min(start + block, size)) for start in range(0, size, block))


def scan(
    rows_of: Tensor, chosen: Float[Tensor, " N"], vocabulary: int, block: int, logits: Callable[[slice, slice], Tensor]
) -> tuple[TokenStatistics, Float[Tensor, " N"]]:
    """Return the statistics and log-normalisers of N rows, a tile of rows and arms at a time.

    Args:
        rows_of: a tensor with N rows; gives the type and the device.
        chosen: the logit of each row's token.
        vocabulary: arms of a row.
        block: arms taken in at a time.
        logits: (rows, arms) -> that tile of the logits.
    """
    found, normalisers = [], []
    for rows in blocks(max(len(rows_of), 1), max(1, TILE[rows_of.device.type != "cpu"] // min(block, vocabulary))):
        sums = RunningSums(len(rows_of[rows]), rows_of)
        for part in blocks(vocabulary, block):
            sums.add(logits(rows, part))
        found.append(sums.statistics(chosen[rows]))
        normalisers.append(sums.log_normaliser())
    joined = (torch.cat([getattr(part, item.name) for part in found]) for item in fields(TokenStatistics))
    return TokenStatistics(*joined), torch.cat(normalisers)


def logit_gradient(
    block: Float[Tensor, "N block"],
    token: Int[Tensor, " N"],
    offset: int,
    log_normaliser: Float[Tensor, " N"],
    entropy: Float[Tensor, " N"],
    log_prob_gradient: Float[Tensor, " N"],
    entropy_gradient: Float[Tensor, " N"],
) -> Float[Tensor, "N block"]:
    """Return the gradient in a block of logits: g_l (e_k - p) - g_H p L."""
    log_probs = (block.to(log_normaliser.dtype) - log_normaliser[:, None]).clamp_(min=LOWEST)
    probs = log_probs.exp()
    centred = log_probs.add_(entropy[:, None]).mul_(entropy_gradient[:, None]).add_(log_prob_gradient[:, None])
    gradient = centred.mul_(probs).neg_()
    inside = (token >= offset) & (token < offset + block.shape[1])
    rows = inside.nonzero()[:, 0]
    gradient[rows, token[rows] - offset] += log_prob_gradient[rows]
    return gradient


class RefuseSecond(torch.autograd.Function):
    """Pass a gradient on, tied to what it depends on, so that differentiating it again fails instead of giving 0."""

    @staticmethod
    def forward(ctx: Any, gradient: Tensor, *sources: Tensor) -> Tensor:
        """Return the gradient."""
        return gradient.view_as(gradient)

    @staticmethod
    def backward(ctx: Any, *unused: Tensor) -> tuple[None, ...]:
        """Refuse."""
        raise RuntimeError("RefuseSecond: chunked and fused token statistics are differentiable once.")


class ChunkedStatistics(torch.autograd.Function):
    """Statistics of rows of logits; log_prob and entropy are differentiable, once."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, token: Tensor, block: int) -> tuple[Tensor, ...]:
        """Return the five statistics of rows `[N, V]`."""
        chosen = logits.gather(1, token[:, None])[:, 0]
        found, normaliser = scan(logits, chosen, logits.shape[1], block, lambda rows, part: logits[rows, part])
        ctx.save_for_backward(logits, token, normaliser, found.entropy)
        ctx.block = block
        ctx.mark_non_differentiable(found.collision, found.discriminator, found.mean_discriminator)
        return found.log_prob, found.entropy, found.collision, found.discriminator, found.mean_discriminator

    @staticmethod
    def backward(ctx: Any, log_prob: Tensor, entropy: Tensor, *unused: Tensor) -> tuple[Tensor, None, None]:
        """Return the gradient in the logits, made block by block."""
        logits, token, normaliser, entropies = ctx.saved_tensors
        gradient = torch.empty_like(logits)
        with torch.no_grad():
            for part in blocks(logits.shape[1], ctx.block):
                gradient[:, part] = logit_gradient(
                    logits[:, part], token, part.start, normaliser, entropies, log_prob, entropy
                )
        return RefuseSecond.apply(gradient, logits, log_prob, entropy), None, None


class FusedStatistics(torch.autograd.Function):
    """Statistics from hidden states and the output matrix; log_prob and entropy are differentiable, once."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, token: Tensor, block: int) -> tuple[Tensor, ...]:
        """Return the five statistics of rows `[N, d] @ [V, d]'`."""
        # As the matrix product does it: sums in the accumulation type, then the type of the logits.
        kind = torch.float64 if hidden.dtype == torch.float64 else torch.float32
        chosen = torch.linalg.vecdot(hidden.to(kind), weight.index_select(0, token).to(kind)).to(hidden.dtype)
        found, normaliser = scan(hidden, chosen, len(weight), block, lambda rows, part: hidden[rows] @ weight[part].T)
        ctx.save_for_backward(hidden, weight, token, normaliser, found.entropy)
        ctx.block = block
        ctx.mark_non_differentiable(found.collision, found.discriminator, found.mean_discriminator)
        return found.log_prob, found.entropy, found.collision, found.discriminator, found.mean_discriminator

    @staticmethod
    def backward(
        ctx: Any, log_prob: Tensor, entropy: Tensor, *unused: Tensor
    ) -> tuple[Tensor | None, Tensor | None, None, None]:
        """Return the gradients in the hidden states and the output matrix, made block by block."""
        hidden, weight, token, normaliser, entropies = ctx.saved_tensors
        needs_hidden, needs_weight = ctx.needs_input_grad[:2]
        # Blocks add up in the accumulation type: bf16 would lose what the later ones have.
        hidden_gradient = torch.zeros_like(hidden, dtype=normaliser.dtype) if needs_hidden else None
        weight_gradient = torch.empty_like(weight) if needs_weight else None
        with torch.no_grad():
            for part in blocks(len(weight), ctx.block):
                logits = hidden @ weight[part].T
                gradient = logit_gradient(logits, token, part.start, normaliser, entropies, log_prob, entropy)
                gradient = gradient.to(hidden.dtype)
                if hidden_gradient is not None:
                    hidden_gradient += gradient @ weight[part]
                if weight_gradient is not None:
                    weight_gradient[part] = gradient.T @ hidden
        sources = (hidden, weight, log_prob, entropy)
        return (
            None if hidden_gradient is None else RefuseSecond.apply(hidden_gradient.to(hidden.dtype), *sources),
            None if weight_gradient is None else RefuseSecond.apply(weight_gradient, *sources),
            None,
            None,
        )


def chunked_token_statistics(
    logits: Float[Tensor, "*batch K"], token: Int[Tensor, "*batch"], block: int = 4096
) -> TokenStatistics:
    """Return `token_statistics` while holding a few blocks of the vocabulary beside the logits.

    Sums are accumulated in float32 (float64 for float64 logits), so bf16 logits need no copy. log_prob and entropy are
    differentiable once; the other fields carry no gradient.

    Valid as `token_statistics`. In float32 the error is below 2e-6 on the scales max(H, 1e-2) for H, 1 for S and N.

    Args:
        logits: `[*batch, K]`; -inf masks an arm.
        token: k, `[*batch]`.
        block: arms taken in at a time.

    Raises:
        ValueError: a block below 1, or an empty vocabulary.

    Source: E4's quantities by running sums (the online softmax of Milakov and Gimelshein 2018, arXiv 1805.02867).

    >>> found = chunked_token_statistics(torch.zeros(3, 10), torch.tensor([1, 2, 3]), block=4)
    >>> [round(value, 4) for value in found.entropy.tolist()]
    [2.3026, 2.3026, 2.3026]
    """
    require_positive(logits.shape[-1], block)
    flat = logits.reshape(-1, logits.shape[-1])
    return shaped(ChunkedStatistics.apply(flat, token.reshape(-1).long(), block), token.shape)


def fused_token_statistics(
    hidden: Float[Tensor, "*batch d"],
    weight: Float[Tensor, "K d"],
    token: Int[Tensor, "*batch"],
    block: int = 4096,
) -> TokenStatistics:
    """Return `token_statistics` of the logits `hidden @ weight.T` without ever holding more than a block of them.

    log_prob and entropy are differentiable once, in the hidden states and the output matrix.

    Valid as `chunked_token_statistics`, up to the rounding of the matrix product in the type of `hidden`.

    Args:
        hidden: last hidden states, `[*batch, d]`; divide them by the sampling temperature for tempered statistics.
        weight: the output matrix, `[K, d]`.
        token: k, `[*batch]`.
        block: rows of the output matrix taken at a time.

    Raises:
        ValueError: a block below 1, or an empty vocabulary.

    Source: as `chunked_token_statistics`.

    >>> found = fused_token_statistics(torch.zeros(2, 3), torch.ones(8, 3), torch.tensor([0, 7]), block=3)
    >>> round(found.collision[0].item(), 4)
    0.125
    """
    require_positive(len(weight), block)
    flat = hidden.reshape(-1, hidden.shape[-1])
    return shaped(FusedStatistics.apply(flat, weight, token.reshape(-1).long(), block), token.shape)


def shaped(values: tuple[Tensor, ...], shape: torch.Size) -> TokenStatistics:
    """Return the five flat statistics with the batch's axes."""
    return TokenStatistics(*(value.reshape(shape) for value in values))
