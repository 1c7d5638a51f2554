"""Attention in float64 as decoding computes it: a few rows at a time, heads that share keys side by side."""

import pytest
import torch
import transformers

from trainer import attention
from trainer.attention import sdpa_float64

ROWS, HEADS, COLUMNS, SIZE = 7, 6, 11, 5


class Layer(torch.nn.Module):
    """What transformers' attention asks of its layer."""

    is_causal = True

    def __init__(self, groups):
        super().__init__()
        self.num_key_value_groups = groups


def mask_of(kind):
    """A mask whose rows differ, `[rows, 1 or heads, 1, columns]`."""
    shape = (ROWS, HEADS if kind == "of each head" else 1, 1, COLUMNS)
    seen = torch.rand(shape, generator=torch.Generator().manual_seed(5)) < 0.6
    seen[..., -1] = True
    if kind == "added":
        return torch.zeros(shape).masked_fill(~seen, -1e4)
    return None if kind == "none" else seen


@pytest.mark.parametrize("kind", ["none", "seen", "added", "of each head"])
@pytest.mark.parametrize("groups", [1, 2, 6])
@pytest.mark.parametrize("rows_at_once", [1, 3, 100])
def test_one_query_a_row_gives_what_transformers_gives_in_float64(monkeypatch, kind, groups, rows_at_once):
    generator = torch.Generator().manual_seed(4)
    query = torch.randn(ROWS, HEADS, 1, SIZE, generator=generator)
    key, value = (torch.randn(ROWS, HEADS // groups, COLUMNS, SIZE, generator=generator) for _ in range(2))
    query, key, value, mask = query.float(), key.float(), value.float(), mask_of(kind)
    kept = [held.clone() for held in (query, key, value)]
    monkeypatch.setattr(attention, "CACHED_KEYS", rows_at_once * key[0].numel())
    found, _ = sdpa_float64(Layer(groups), query, key, value, mask, scaling=0.3, dropout=0.0)
    wide = [held.double() for held in kept]
    wide_mask = mask.double() if kind == "added" else mask
    expected, _ = transformers.AttentionInterface()["sdpa"](Layer(groups), *wide, wide_mask, scaling=0.3)
    assert found.dtype == torch.float32
    assert found.shape == expected.shape == (ROWS, 1, HEADS, SIZE)
    assert torch.equal(found, expected.float())
    assert all(torch.equal(now, then) for now, then in zip((query, key, value), kept, strict=True))
