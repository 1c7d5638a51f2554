"""What every public function refuses, and how it says so.

Wrong types and shapes, tokens out of range, rows without a distribution, and steps that are not finite. Shapes
and types cost nothing to check. Values are checked on results of the size of the batch, so that no second pass over the
vocabulary is made; they are not checked where their truth cannot be asked for (inside `torch.compile`, and inside
`torch.func.vmap`).
"""

import math

import torch
from torch import Tensor

HALF = (torch.bfloat16, torch.float16)


def at_least_single(values: Tensor) -> Tensor:
    """Return half-precision values as float32, others as they are."""
    return values.float() if values.dtype in HALF else values


def positive(where: str, name: str, value: float) -> None:
    """Refuse a value that is not a finite number above 0."""
    if not (value > 0 and math.isfinite(value)):
        raise ValueError(f"{where}({name}={value}) must be a finite number above 0.")


def at_least_one(where: str, name: str, value: int) -> None:
    """Refuse a size below 1."""
    if value < 1:
        raise ValueError(f"{where}({name}={value}) must be at least 1.")


def finite(where: str, name: str, value: float | Tensor) -> None:
    """Refuse a number or tensor that is not finite throughout."""
    if isinstance(value, Tensor):
        refuse(where, name, "be finite", ~value.isfinite())
    elif not math.isfinite(value):
        raise ValueError(f"{where}({name}={value}) must be finite.")


def vocabulary(where: str, logits: Tensor, name: str = "logits") -> None:
    """Refuse logits that are no floating-point tensor with at least one arm."""
    if not logits.is_floating_point():
        raise TypeError(f"{where}({name}) must be floating-point; got {logits.dtype}. Convert with .float().")
    if logits.ndim < 1 or logits.shape[-1] < 1:
        raise ValueError(
            f"{where}({name}) must have a last axis with at least one arm; got shape {list(logits.shape)}. "
            "Pass one logit an arm, [*batch, K]."
        )


def rows_with_a_distribution(where: str, value: Tensor, name: str = "logits") -> None:
    """Refuse rows whose result is not finite: their logits hold NaN or +inf, or no finite logit at all.

    Args:
        where: the public function.
        value: one number a row, `[*batch]`, that is finite for every row with a distribution.
        name: what the function calls the logits.
    """
    rule = "have a finite logit in every row, and neither NaN nor +inf"
    refuse(where, name, rule, ~value.isfinite(), "Mask arms with -inf, and leave out rows that hold nothing.")


def token_index(where: str, token: Tensor, logits: Tensor, name: str = "token", check: bool = True) -> Tensor:
    """Return the tokens as an index into the last axis of the logits, `[*batch, 1]`.

    Args:
        where: the public function.
        token: `[*batch]`.
        logits: `[*batch, K]`.
        name: what the function calls the tokens.
        check: look at their values, for which an accelerator is waited for.

    Raises:
        TypeError: tokens that are no integers.
        ValueError: another shape than the batch's, or a token outside the vocabulary.
    """
    if token.is_floating_point() or token.is_complex() or token.dtype == torch.bool:
        raise TypeError(f"{where}({name}) must be integers; got {token.dtype}. Convert with .long().")
    if token.shape != logits.shape[:-1]:
        raise ValueError(
            f"{where}({name}) must have the shape of the logits without their last axis, {list(logits.shape[:-1])}; "
            f"got {list(token.shape)}. Pass one token a row."
        )
    arms = logits.shape[-1]
    if check:
        outside = (token < 0) | (token >= arms)
        refuse(where, name, f"be in 0..{arms - 1}", outside, "Check the vocabulary and the padding.")
    return token.long()[..., None]


def sampled_index(where: str, token: Tensor, logits: Tensor, name: str = "token") -> Tensor:
    """Return `token_index`, for tokens that were sampled and so are not masked.

    Raises:
        TypeError: tokens that are no integers.
        ValueError: another shape than the batch's, or a token outside the vocabulary or masked.
    """
    index = token_index(where, token, logits, name)
    refuse(where, name, "not be masked (logit -inf)", logits.gather(-1, index)[..., 0].isneginf())
    return index


def step(where: str, delta: Tensor, logits: Tensor, probs: Tensor, name: str = "delta") -> None:
    """Refuse a value an arm of another shape than the logits, or one that is not finite on an arm with mass."""
    like(where, name, delta, logits, "logits")
    refuse(where, name, "be finite on every arm with mass", (~delta.isfinite() & (probs > 0)).any(-1))


def like(where: str, name: str, value: Tensor, other: Tensor, other_name: str) -> None:
    """Refuse a tensor whose shape is not another's."""
    if value.shape != other.shape:
        raise ValueError(
            f"{where}({name}) must have the shape of {other_name}, {list(other.shape)}; got {list(value.shape)}. "
            "Expand it first."
        )


def cannot_be_asked(values: Tensor) -> bool:
    """Return whether the values stand for others: while compiling, and inside `torch.func.vmap`, also within `grad`."""
    if torch.compiler.is_compiling():
        return True
    while torch._C._functorch.is_functorch_wrapped_tensor(values):
        if torch._C._functorch.is_batchedtensor(values):
            return True
        values = torch._C._functorch.get_unwrapped(values)
    return False


def refuse(where: str, name: str, rule: str, wrong: Tensor, remedy: str = "") -> None:
    """Raise a ValueError where any element is marked as wrong; the message says how many and which comes first."""
    if cannot_be_asked(wrong) or not bool(wrong.any()):
        return
    first = tuple(wrong.nonzero()[0].tolist())
    place = f", the first at index {first}" if first else ""
    got = f"got {int(wrong.sum())} of {wrong.numel()} otherwise{place}"
    raise ValueError(f"{where}({name}) must {rule}; {got}. {remedy}".rstrip())
