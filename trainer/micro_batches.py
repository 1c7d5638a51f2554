"""Which rows share a pass: by rows or by tokens, dealt to processes. The gradient does not depend on it."""

import torch
from jaxtyping import Int
from torch import Tensor

from trainer.workers import Workers, shares


def micro_batches(lengths: Int[Tensor, " n"], rows: int, tokens: int = 0) -> list[Int[Tensor, " m"]]:
    """Return the places of n rows split into passes.

    Args:
        lengths: tokens of each row, prompt included.
        rows: most rows of a pass.
        tokens: most tokens of a pass, padding to its longest row included; a longer row has a pass of its own. Rows
            are then taken longest first. 0 keeps their order and counts rows alone.

    >>> [part.tolist() for part in micro_batches(torch.tensor([3, 9, 4, 8]), rows=3, tokens=18)]
    [[1, 3], [2, 0]]
    """
    if not tokens:
        return list(torch.arange(len(lengths), device=lengths.device).split(rows)) if len(lengths) else []
    order = lengths.argsort(descending=True, stable=True)
    parts: list[list[int]] = []
    longest = 0
    for place, length in zip(order.tolist(), lengths[order].tolist(), strict=True):
        if not parts or len(parts[-1]) == rows or (len(parts[-1]) + 1) * longest > tokens:
            parts.append([])
            longest = length
        parts[-1].append(place)
    return [torch.tensor(part, device=lengths.device) for part in parts]


def dealt(lengths: Int[Tensor, " n"], rows: int, tokens: int, workers: Workers) -> list[Int[Tensor, " m"]]:
    """Return this process's passes over n rows; all processes get as many, the last ones empty where rows run out."""
    parts = [
        [places.start + part for part in micro_batches(lengths[places.start : places.stop], rows, tokens)]
        for places in shares(lengths.tolist(), workers.count)
    ]
    most = max(map(len, parts))
    own = parts[workers.rank]
    return own + [torch.empty(0, dtype=torch.long, device=lengths.device)] * (most - len(own))
