"""Attention whose keys and values fit together: torch's kernels take that on trust, its public function as well."""

from __future__ import annotations

import torch
from torch import Tensor


def attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    *,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """`scaled_dot_product_attention` in inference.

    Args:
        query: [..., tokens, numbers]; `key` and `value` have as many tokens as each other, and the same dimensions
            before them.

    Raises ValueError where they do not fit, not even by repeating what there is one of.
    """
    if not 2 <= query.ndim == key.ndim == value.ndim or key.shape[-2] != value.shape[-2]:
        raise ValueError(f"the values of an attention, {tuple(value.shape)}, do not fit its keys, {tuple(key.shape)}")
    if query.shape[-1] != key.shape[-1] or (enable_gqa and tuple(key.shape[:-2]) != tuple(value.shape[:-2])):
        raise ValueError(f"the queries of an attention, {tuple(query.shape)}, do not fit its keys, {tuple(key.shape)}")
    if not enable_gqa and not tuple(query.shape[:-2]) == tuple(key.shape[:-2]) == tuple(value.shape[:-2]):
        before = torch.broadcast_shapes(*(each.shape[:-2] for each in (query, key, value)))  # type: ignore[no-untyped-call]
        query, key, value = (each.expand(*before, *each.shape[-2:]) for each in (query, key, value))
    found: Tensor = torch.ops.aten.scaled_dot_product_attention.default(
        query, key, value, attn_mask, 0.0, is_causal, scale=scale, enable_gqa=enable_gqa
    )
    return found
