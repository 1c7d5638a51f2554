"""Attention in float64 for float32 models: the same to the last bit in sampler and trainer."""

from typing import Any

import transformers
from torch import Tensor, nn

SDPA_FLOAT64 = "sdpa_float64"
# Elements of keys that stay in a CPU core's cache in float64.
CACHED_KEYS = 2**16


def sdpa_float64(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **kwargs: Any
) -> tuple[Tensor, Tensor | None]:
    """Scaled-dot-product attention computed in float64 and rounded to the model's type.

    Decoding one token with a cache and scoring a whole sequence sum attention in different orders. Rounded from
    float64 the two agree to the last bit, so that the importance ratios of unchanged weights are exactly 1, as long as
    some 16 rows or more are decoded together: matrix products of fewer rows round differently too, by about 1e-6.
    """
    if attention_mask is not None and attention_mask.is_floating_point():
        attention_mask = attention_mask.double()
    if is_plain_decoding(query, key, attention_mask, **kwargs):
        return decoding_attention(query, key, value, attention_mask, kwargs.get("scaling")), None
    output, weights = transformers.AttentionInterface()["sdpa"](
        module, query.double(), key.double(), value.double(), attention_mask, **kwargs
    )
    return output.to(query.dtype), weights


def is_plain_decoding(query: Tensor, key: Tensor, attention_mask: Tensor | None, **kwargs: Any) -> bool:
    """Return whether each row has one query, and one mask for all heads, with no more than a scale to consider."""
    special = kwargs.get("dropout") or any(kwargs.get(name) is not None for name in ("softcap", "position_bias"))
    one_mask = attention_mask is None or attention_mask.shape[:2] == (len(query), 1)
    return not special and one_mask and query.shape[2] == 1 and query.shape[1] % key.shape[1] == 0


def decoding_attention(
    query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, scaling: float | None
) -> Tensor:
    """Return the attention `[B, 1, heads, size]` of one query a row, computed in float64.

    A few rows at a time, so that their keys and values, in float64, are still in the core's cache when they are used;
    heads that share keys are queries side by side.
    """
    groups, rows_at_once = query.shape[1] // key.shape[1], max(1, CACHED_KEYS // key[0].numel())
    packed = query.reshape(len(query), key.shape[1], groups, query.shape[3])
    output = query.new_empty(*packed.shape[:3], value.shape[3])
    for start in range(0, len(query), rows_at_once):
        rows = slice(start, start + rows_at_once)
        mask = None if attention_mask is None else attention_mask[rows]
        output[rows] = nn.functional.scaled_dot_product_attention(
            packed[rows].double(), key[rows].double(), value[rows].double(), attn_mask=mask, scale=scaling
        )
    return output.reshape(len(query), 1, -1, value.shape[3])


transformers.AttentionInterface.register(SDPA_FLOAT64, sdpa_float64)
transformers.AttentionMaskInterface.register(SDPA_FLOAT64, transformers.AttentionMaskInterface()["sdpa"])
