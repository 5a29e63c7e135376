"""Normalization, matrix products, attention, softmax, and reductions."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional

from kryptondb.catalog.onnx_models import windows
from kryptondb.catalog.onnx_models.operation import (
    Function,
    Handler,
    Operation,
    Operator,
    Refused,
    Value,
    numbers,
    tensor_of,
)


def _batch_norm(op: Operation) -> Function:
    if op.attribute("training_mode", 0):
        raise Refused("it normalizes over the batch: the file was exported in training mode")
    if not op.attribute("spatial", 1):
        raise Refused("it normalizes each location by itself (spatial 0)")
    epsilon = op.attribute("epsilon", 1e-5)

    def apply(value: torch.Tensor, scale: Any, shift: Any, mean: torch.Tensor, variance: torch.Tensor) -> torch.Tensor:
        return functional.batch_norm(value, mean, variance, scale, shift, False, 0.0, epsilon)

    return apply


def _spread(op: Operation, axis: int) -> None:
    """Has a constant scale and shift the shape of what is normalized, to which the standard broadcasts them."""
    sides = (op.shapes[0] or ())[axis:]
    if not all(isinstance(side, int) for side in sides):
        raise Refused("it normalizes over the batch")
    for place in (1, 2):
        given = op.tensor(place)
        if given is not None and given.shape != sides:
            op.constants[place] = given.expand(sides).contiguous()


def _layer_norm(op: Operation) -> Function:
    axis, epsilon = op.attribute("axis", -1), op.attribute("epsilon", 1e-5)
    _spread(op, axis)

    def apply(value: torch.Tensor, scale: Any = None, shift: Any = None) -> torch.Tensor:
        return functional.layer_norm(value, value.shape[axis:], scale, shift, epsilon)

    return apply


def _rms_norm(op: Operation) -> Function:
    axis, epsilon = op.attribute("axis", -1), op.attribute("epsilon", 1e-5)
    _spread(op, axis)
    return lambda value, scale: functional.rms_norm(value, value.shape[axis:], scale, epsilon)


def _instance_norm(op: Operation) -> Function:
    epsilon = op.attribute("epsilon", 1e-5)
    return lambda value, scale, shift: functional.instance_norm(value, weight=scale, bias=shift, eps=epsilon)


def _group_norm(op: Operation) -> Function:
    groups, epsilon = op.attribute("num_groups"), op.attribute("epsilon", 1e-5)
    if op.opset < 21:  # a number for each group, before

        def spread(value: torch.Tensor, scale: Any, shift: Any) -> torch.Tensor:
            each = value.shape[1] // groups
            scale, shift = (tensor_of(given, value.device).repeat_interleave(each) for given in (scale, shift))
            return functional.group_norm(value, groups, scale, shift, epsilon)

        return spread
    return lambda value, scale, shift: functional.group_norm(value, groups, scale, shift, epsilon)


def _gemm(op: Operation) -> Function:
    """`alpha * A @ B + beta * C`; a constant B and C become the weight and bias of a linear layer."""
    alpha, beta = op.attribute("alpha", 1.0), op.attribute("beta", 1.0)
    left, right = op.attribute("transA", 0), op.attribute("transB", 0)
    weight, bias = op.tensor(1), op.tensor(2)
    if weight is not None and not left and (not op.has(2) or bias is not None):
        op.constants[1] = ((weight if right else weight.T) * alpha).contiguous()
        if bias is not None:
            op.constants[2] = (bias * beta).expand(1, weight.shape[0 if right else 1]).reshape(-1).contiguous()
        return functional.linear

    def apply(a: torch.Tensor, b: torch.Tensor, c: Any = None) -> Value:
        product = alpha * torch.matmul(a.T if left else a, b.T if right else b)
        return product if c is None else product + beta * c

    return apply


def _matmul(op: Operation) -> Function:
    weight = op.tensor(1)
    if weight is not None and weight.ndim == 2:
        op.constants[1] = weight.T.contiguous()
        return lambda value, transposed: functional.linear(value, transposed)
    return lambda left, right: torch.matmul(tensor_of(left), tensor_of(right))


def _einsum(op: Operation) -> Function:
    return lambda *values: torch.einsum(op.attribute("equation"), *values)


def _softmax(function: Callable[..., torch.Tensor]) -> Handler:
    """Before opset 13 all dimensions from the axis on were taken together."""

    def handler(op: Operation) -> Function:
        axis = op.attribute("axis", -1 if op.opset >= 13 else 1)

        def apply(value: torch.Tensor) -> torch.Tensor:
            at = axis % value.ndim
            if op.opset >= 13 or math.prod(value.shape[at + 1 :]) == 1:
                return function(value, at)
            return function(value.flatten(at), at).reshape(value.shape)

        return apply

    return handler


def _hardmax(value: torch.Tensor, axis: int) -> torch.Tensor:
    """1 at the first of the largest numbers, else 0."""
    places = torch.arange(int(value.shape[axis]), device=value.device)
    places = places.reshape([-1 if place == axis else 1 for place in range(value.ndim)])
    return (places == value.argmax(axis, keepdim=True)).to(value.dtype)


def _attention(op: Operation) -> Function:
    """`Attention` on heads that are a dimension of their own, without a cache."""
    if any(op.has(place) for place in (4, 5, 6)):
        raise Refused("it keeps a cache")
    heads, key_heads = op.attribute("q_num_heads"), op.attribute("kv_num_heads")
    causal, scale = bool(op.attribute("is_causal", 0)), op.attribute("scale")

    def split(value: torch.Tensor, count: int | None) -> torch.Tensor:
        if value.ndim == 4 or count is None:
            return value
        return value.reshape(value.shape[0], value.shape[1], count, -1).transpose(1, 2)

    def apply(query: Any, key: Any, value: Any, mask: Any = None) -> Value:
        many = query.ndim == 3
        q, k, v = split(query, heads), split(key, key_heads), split(value, key_heads)
        found = functional.scaled_dot_product_attention(
            q, k, v, attn_mask=mask, is_causal=causal, scale=scale, enable_gqa=q.shape[1] != k.shape[1]
        )
        return found.transpose(1, 2).flatten(2) if many else found

    return apply


def _lp_norm(op: Operation) -> Function:
    """`LpNormalization`; what is zero throughout stays zero."""
    axis, power = op.attribute("axis", -1), op.attribute("p", 2)

    def apply(value: torch.Tensor) -> torch.Tensor:
        length = torch.linalg.vector_norm(value, power, axis, True)
        return torch.where(length == 0, torch.zeros_like(value), value / length)

    return apply


def _mean_variance(op: Operation) -> Function:
    """`MeanVarianceNormalization`. In a file of one picture, the batch among its axes makes no difference."""
    given = op.attribute("axes", [0, 2, 3])

    def apply(value: torch.Tensor) -> torch.Tensor:
        axes = [axis % value.ndim for axis in given]
        if 0 in axes:
            if op.batch != 1:
                raise Refused("it normalizes over the batch")
            axes.remove(0)
        centered = value - value.mean(axes, keepdim=True)
        return centered / (centered.square().mean(axes, keepdim=True).sqrt() + 1e-9)

    return apply


def _grid_sample(op: Operation) -> Function:
    modes = {
        "linear": "bilinear",
        "bilinear": "bilinear",
        "nearest": "nearest",
        "cubic": "bicubic",
        "bicubic": "bicubic",
    }
    mode, padding = (
        op.attribute("mode", "bilinear" if op.opset < 20 else "linear"),
        op.attribute("padding_mode", "zeros"),
    )
    if mode not in modes or padding not in ("zeros", "border", "reflection"):
        raise Refused(f"it samples in mode {mode} with padding {padding}")
    align = bool(op.attribute("align_corners", 0))

    def apply(value: torch.Tensor, grid: Any) -> torch.Tensor:
        grid = tensor_of(grid)
        if op.batch == 1 and isinstance(grid.shape[0], int) and grid.shape[0] == 1:  # for each picture the same
            grid = grid.expand(value.shape[0], *grid.shape[1:])
        return functional.grid_sample(value, grid, modes[mode], padding, align)

    return apply


def _affine_grid(op: Operation) -> Function:
    align = bool(op.attribute("align_corners", 0))
    return lambda theta, size: functional.affine_grid(tensor_of(theta), numbers(size), align)


LAYERS: dict[str, Operator] = {
    "AffineGrid": Operator(_affine_grid, "align_corners", 20),
    "Attention": Operator(_attention, "is_causal kv_num_heads q_num_heads scale", 25),
    "AveragePool": Operator(windows.average_pool, windows.AVERAGE_POOL, 22, by_torch=True),
    "BatchNormalization": Operator(_batch_norm, "epsilon momentum spatial training_mode", 15),
    "Conv": Operator(windows.convolution, windows.CONVOLUTION, 22, by_torch=True),
    "ConvTranspose": Operator(windows.transposed_convolution, windows.TRANSPOSED, 22, by_torch=True),
    "Det": Operator(lambda op: torch.linalg.det, newest=22),
    "Einsum": Operator(_einsum, "equation", 28, by_torch=True),
    "Gemm": Operator(_gemm, "alpha beta transA transB", 13, by_torch=True),
    "GridSample": Operator(_grid_sample, "align_corners mode padding_mode", 22, by_torch=True),
    "GroupNormalization": Operator(_group_norm, "epsilon num_groups stash_type", 21),
    "Hardmax": Operator(_softmax(_hardmax), "axis", 13),
    "InstanceNormalization": Operator(_instance_norm, "epsilon", 22),
    "LayerNormalization": Operator(_layer_norm, "axis epsilon stash_type", 17, spare=2),
    "LogSoftmax": Operator(_softmax(torch.log_softmax), "axis", 13),
    "LpNormalization": Operator(_lp_norm, "axis p", 22),
    "LpPool": Operator(windows.lp_pool, windows.LP_POOL, 22, by_torch=True),
    "LRN": Operator(windows.local_response, "alpha beta bias size", 13, by_torch=True),
    "MatMul": Operator(_matmul, newest=13, by_torch=True),
    "MaxPool": Operator(windows.max_pool, windows.MAX_POOL, 22, spare=1, by_torch=True),
    "MeanVarianceNormalization": Operator(_mean_variance, "axes", 13),
    "RMSNormalization": Operator(_rms_norm, "axis epsilon stash_type", 23),
    "Softmax": Operator(_softmax(torch.softmax), "axis", 13),
}
