"""Batch norm folded into the convolution before it."""

from __future__ import annotations

import torch


def folded_batch_norm(
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    gamma: torch.Tensor | None,
    beta: torch.Tensor | None,
    mean: torch.Tensor,
    variance: torch.Tensor,
    epsilon: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Weight [out, in, kh, kw] and bias [out] of one convolution equal to convolution and batch norm after each other.

    Computed in float64 and rounded once.
    """
    scale = torch.rsqrt(variance.double() + epsilon)
    if gamma is not None:
        scale = scale * gamma.double()
    shift = (bias.double() - mean.double() if bias is not None else -mean.double()) * scale
    if beta is not None:
        shift = shift + beta.double()
    return (weight.double() * scale[:, None, None, None]).to(weight.dtype), shift.to(weight.dtype)
