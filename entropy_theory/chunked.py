"""Token statistics over large vocabularies, one block at a time.

One pass keeps, per row and block, the maximum m and four sums over y = z - m: sum e^y, sum y e^y, sum e^2y, sum y e^2y.
Relative to the row's maximum they add up, and give log p_k, H, n_2, S_k and N, so that no row of probabilities is ever
held. The gradient of log p_k and H is recomputed a block at a time: d log p_k / dz = e_k - p, dH / dz = -p L.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from entropy_theory import validation
from entropy_theory.statistics import TokenStatistics

# exp(LOWEST) is 0 in float64 too, and LOWEST * 0 is 0 where -inf * 0 would be NaN.
LOWEST = -800.0
# Elements of a tile: one that stays in a CPU core's cache; on an accelerator, one that keeps it busy.
TILE = (2**18, 2**24)
# Tiles' worth of logits in a panel, what a matrix product makes at a time: smaller ones would slow the product down.
PANEL = (8, 1)


@dataclass(frozen=True)
class BlockSums:
    """The maximum of a part of each row of logits, and the sums over it relative to that maximum.

    Args:
        maximum: m, in the accumulation type: float32, or float64 for float64 logits.
        mass: sum e^y, in float64: it is 1 plus what the other arms have, and near determinism float32 loses that.
        first: sum y e^y.
        square: sum e^2y.
        square_first: sum y e^2y.
    """

    maximum: Float[Tensor, "*N"]
    mass: Float[Tensor, "*N"]
    first: Float[Tensor, "*N"]
    square: Float[Tensor, "*N"]
    square_first: Float[Tensor, "*N"]

    @classmethod
    def of(cls, block: Float[Tensor, "N block"]) -> "BlockSums":
        """Return the sums over a block of logits."""
        kind = accumulation_type(block)
        wide = block.to(kind)
        maximum = wide.amax(-1)
        anchor = stand_in(maximum)[:, None]
        shifted = (wide - anchor if block.dtype == kind else wide.sub_(anchor)).clamp_(min=LOWEST)
        power = shifted.exp()
        weighted = shifted.mul_(power)
        mass, square = power.sum(-1, dtype=torch.float64), torch.linalg.vector_norm(power, dim=-1).square()
        return cls(maximum, mass, weighted.sum(-1), square, power.mul_(weighted).sum(-1))

    @classmethod
    def empty(cls, blocks: int, rows: int, like: Tensor) -> "BlockSums":
        """Return room for the sums of `[blocks, rows]` blocks and rows."""
        kinds = [accumulation_type(like), torch.float64, *3 * [accumulation_type(like)]]
        return cls(*(like.new_empty(blocks, rows, dtype=kind) for kind in kinds))

    def put(self, block: int, rows: slice, found: "BlockSums") -> None:
        """Write the sums that were found over a block of some rows in their place."""
        for name, values in vars(found).items():
            getattr(self, name)[block, rows] = values

    def merged(self) -> "BlockSums":
        """Return the sums over all blocks, relative to the maximum of them all."""
        maximum = self.maximum.amax(0)
        drop = (self.maximum.double() - stand_in(maximum)).clamp_(min=LOWEST)
        factor = drop.exp()
        square_factor = factor.square()
        return BlockSums(
            maximum,
            (factor * self.mass).sum(0),
            (factor * (self.first + drop * self.mass)).sum(0),
            (square_factor * self.square).sum(0),
            (square_factor * (self.square_first + drop * self.square)).sum(0),
        )

    def statistics(self, chosen: Float[Tensor, " N"]) -> TokenStatistics:
        """Return the statistics of the rows in the accumulation type, given the logit of each row's token."""
        log_mass = self.mass.log()
        entropy = log_mass - self.first / self.mass
        collision = self.square / self.mass.square()
        log_prob = (chosen.to(self.maximum.dtype) - self.maximum) - log_mass
        discriminator = log_prob.exp() * (log_prob.clamp(min=LOWEST) + entropy)
        # E_p[p log p] + n_2 H, with log p = y - log mass.
        mean = self.square_first / self.mass.square() + collision * (entropy - log_mass)
        found = (log_prob, entropy, collision, discriminator, mean)
        return TokenStatistics(*(value.to(self.maximum.dtype) for value in found))

    def log_normaliser(self) -> Float[Tensor, " N"]:
        """Return log sum exp z of each row."""
        return self.maximum + self.mass.log().to(self.maximum.dtype)


def stand_in(maximum: Float[Tensor, " N"]) -> Float[Tensor, " N"]:
    """Return the maximum, or a finite one where all arms are masked: -inf - (-inf) would be NaN, and the sums are 0."""
    return maximum.clamp(min=torch.finfo(maximum.dtype).min)


def accumulation_type(like: Tensor) -> torch.dtype:
    """Return the type that is accumulated in: float32, or float64 for float64 logits."""
    return torch.float64 if like.dtype == torch.float64 else torch.float32


def blocks(size: int, block: int) -> Iterator[slice]:
    """Yield slices that cover range(size)."""
    yield from (slice(start, min(start + block, size)) for start in range(0, size, block))


def tiles(values: Tensor, arms: int, panel: bool = False) -> Iterator[slice]:
    """Yield slices that cover the rows of `values`, of so many that with this many arms they make a tile or a panel."""
    accelerator = values.device.type != "cpu"
    elements = TILE[accelerator] * (PANEL[accelerator] if panel else 1)
    return blocks(len(values), max(1, elements // arms))


def scan(
    rows_of: Tensor,
    chosen: Callable[[slice], Tensor],
    vocabulary: int,
    block: int,
    logits: Callable[[slice, slice], Tensor],
) -> tuple[TokenStatistics, Float[Tensor, " N"]]:
    """Return the statistics and log-normalisers of N rows, a panel of rows and arms at a time.

    Args:
        rows_of: a tensor with N rows; gives the type and the device.
        chosen: rows -> the logit of each one's token.
        vocabulary: arms of a row.
        block: arms taken in at a time.
        logits: (rows, arms) -> that panel of the logits.
    """
    block = min(block, vocabulary)
    normaliser = rows_of.new_empty(len(rows_of), dtype=accumulation_type(rows_of))
    found = TokenStatistics(*(torch.empty_like(normaliser) for _ in fields(TokenStatistics)))
    # As many rows as make a panel, and no more than make one with their blocks: each block leaves five numbers a row.
    for rows in tiles(rows_of, max(block, vocabulary // block), panel=True):
        sums = BlockSums.empty(-(-vocabulary // block), rows.stop - rows.start, rows_of)
        for index, part in enumerate(blocks(vocabulary, block)):
            panel = logits(rows, part)
            for tile in tiles(panel, block):
                sums.put(index, tile, BlockSums.of(panel[tile]))
            del panel  # before the next one is made
        sums = sums.merged()
        for name, values in vars(sums.statistics(chosen(rows))).items():
            getattr(found, name)[rows] = values
        normaliser[rows] = sums.log_normaliser()
    return found, normaliser


class LogitGradient:
    """The gradient in the logits of N rows, a block at a time: g_l (e_k - p) - g_H p L.

    Args:
        token: k.
        log_normaliser: log sum exp z.
        entropy: H.
        log_prob_gradient: g_l.
        entropy_gradient: g_H.
    """

    def __init__(
        self,
        token: Int[Tensor, " N"],
        log_normaliser: Float[Tensor, " N"],
        entropy: Float[Tensor, " N"],
        log_prob_gradient: Float[Tensor, " N"],
        entropy_gradient: Float[Tensor, " N"],
    ) -> None:
        self.token, self.at_token = token[:, None], log_prob_gradient[:, None]
        self.log_normaliser = log_normaliser[:, None]
        # p (intercept + slope log p) is all but g_l e_k.
        self.slope = -entropy_gradient[:, None]
        self.intercept = self.slope * entropy[:, None] - self.at_token

    def of(self, block: Float[Tensor, "rows block"], rows: slice, offset: int) -> Float[Tensor, "rows block"]:
        """Return the gradient in these rows' block of logits that starts at arm `offset`."""
        log_probs = (block - self.log_normaliser[rows]).clamp_(min=LOWEST)
        probs = log_probs.exp()
        gradient = log_probs.mul_(self.slope[rows]).add_(self.intercept[rows]).mul_(probs)
        index, last = self.token[rows] - offset, block.shape[1] - 1
        inside = (index >= 0) & (index <= last)
        return gradient.scatter_add_(1, index.clamp(0, last), self.at_token[rows].where(inside, 0.0))


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

        def chosen(rows: slice) -> Tensor:
            return logits[rows].gather(1, token[rows, None])[:, 0]

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
            gradient_of = LogitGradient(token, normaliser, entropies, log_prob, entropy)
            for rows in tiles(logits, min(ctx.block, logits.shape[1])):
                for part in blocks(logits.shape[1], ctx.block):
                    gradient[rows, part] = gradient_of.of(logits[rows, part], rows, part.start)
        return RefuseSecond.apply(gradient, logits, log_prob, entropy), None, None


class FusedStatistics(torch.autograd.Function):
    """Statistics from hidden states and the output matrix; log_prob and entropy are differentiable, once."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, token: Tensor, block: int) -> tuple[Tensor, ...]:
        """Return the five statistics of rows `[N, d] @ [V, d]'`."""

        def chosen(rows: slice) -> Tensor:
            # As the matrix product does it: sums in the accumulation type, then the type of the logits.
            kind, products = accumulation_type(hidden), []
            for part in tiles(token[rows], hidden.shape[1]):
                arms = weight.index_select(0, token[rows][part]).to(kind)
                products.append(torch.linalg.vecdot(hidden[rows][part].to(kind), arms).to(hidden.dtype))
            return torch.cat(products)

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
            gradient_of = LogitGradient(token, normaliser, entropies, log_prob, entropy)
            for part in blocks(len(weight), ctx.block):
                # The logits, and in their place their gradient.
                gradient = hidden @ weight[part].T
                for rows in tiles(gradient, gradient.shape[1]):
                    gradient[rows] = gradient_of.of(gradient[rows], rows, part.start)
                if hidden_gradient is not None:
                    hidden_gradient += gradient @ weight[part]
                if weight_gradient is not None:
                    torch.mm(gradient.T, hidden, out=weight_gradient[part])
        sources = (hidden, weight, log_prob, entropy)
        return (
            None if hidden_gradient is None else RefuseSecond.apply(hidden_gradient.to(hidden.dtype), *sources),
            None if weight_gradient is None else RefuseSecond.apply(weight_gradient, *sources),
            None,
            None,
        )


def chunked_token_statistics(
    logits: Float[Tensor, "*batch K"], token: Int[Tensor, "*batch"], block: int = 4096, *, check: bool = True
) -> TokenStatistics:
    """Return `token_statistics` while holding a few blocks of the vocabulary beside the logits.

    Sums are accumulated in float32 (float64 for float64 logits), so bf16 logits need no copy. log_prob and entropy are
    differentiable once; the other fields carry no gradient.

    Valid as `token_statistics`. In float32 the error is below 2e-6 on the scales max(H, 1e-2) for H, 1 for S and N.

    Args:
        logits: `[*batch, K]`; -inf masks an arm.
        token: k, `[*batch]`.
        block: arms taken in at a time.
        check: refuse tokens outside the vocabulary and rows without a distribution; otherwise the latter come out as
            NaN, and an accelerator is not waited for.

    Raises:
        TypeError: inputs that are not floating-point, or tokens that are no integers.
        ValueError: a block below 1, an empty vocabulary, a wrong shape, a token outside the vocabulary, or a row
            without a distribution.

    Source: E4's quantities by sums over blocks (online softmax: Milakov and Gimelshein 2018, arXiv 1805.02867).

    >>> found = chunked_token_statistics(torch.zeros(3, 10), torch.tensor([1, 2, 3]), block=4)
    >>> [round(value, 4) for value in found.entropy.tolist()]
    [2.3026, 2.3026, 2.3026]
    """
    validation.vocabulary("chunked_token_statistics", logits)
    validation.at_least_one("chunked_token_statistics", "block", block)
    index = validation.token_index("chunked_token_statistics", token, logits, check=check)
    flat = logits.reshape(-1, logits.shape[-1])
    found = ChunkedStatistics.apply(flat, index.reshape(-1), block)
    return shaped("chunked_token_statistics", found, token.shape, check)


def fused_token_statistics(
    hidden: Float[Tensor, "*batch d"],
    weight: Float[Tensor, "K d"],
    token: Int[Tensor, "*batch"],
    block: int = 4096,
    *,
    check: bool = True,
) -> TokenStatistics:
    """Return `token_statistics` of the logits `hidden @ weight.T` without ever holding more than a block of them.

    log_prob and entropy are differentiable once, in the hidden states and the output matrix.

    Valid as `chunked_token_statistics`, up to the rounding of the matrix product in the type of `hidden`.

    Args:
        hidden: last hidden states, `[*batch, d]`; divide them by the sampling temperature for tempered statistics.
        weight: the output matrix, `[K, d]`.
        token: k, `[*batch]`.
        block: rows of the output matrix taken at a time.
        check: as in `chunked_token_statistics`.

    Raises:
        TypeError: inputs that are not floating-point, or tokens that are no integers.
        ValueError: a block below 1, an empty vocabulary, a wrong shape, a token outside the vocabulary, or a row
            without a distribution.

    Source: as `chunked_token_statistics`.

    >>> found = fused_token_statistics(torch.zeros(2, 3), torch.ones(8, 3), torch.tensor([0, 7]), block=3)
    >>> round(found.collision[0].item(), 4)
    0.125
    """
    where = "fused_token_statistics"
    validation.vocabulary(where, hidden, "hidden")
    if weight.ndim != 2 or len(weight) < 1 or weight.shape[-1] != hidden.shape[-1]:
        raise ValueError(
            f"{where}(weight) must be [K, d] with K >= 1 and d = {hidden.shape[-1]} as in the hidden states; got shape "
            f"{list(weight.shape)}. Pass the output matrix, one row an arm."
        )
    validation.at_least_one(where, "block", block)
    arms = hidden[..., :1].expand(*hidden.shape[:-1], len(weight))
    index = validation.token_index(where, token, arms, check=check)
    flat = hidden.reshape(-1, hidden.shape[-1])
    return shaped(where, FusedStatistics.apply(flat, weight, index.reshape(-1), block), token.shape, check)


def shaped(where: str, values: tuple[Tensor, ...], shape: torch.Size, check: bool) -> TokenStatistics:
    """Return the five flat statistics with the batch's axes, refusing rows without a distribution if asked to."""
    if check:
        validation.rows_with_a_distribution(where, values[1].detach().reshape(shape))
    return TokenStatistics(*(value.reshape(shape) for value in values))
