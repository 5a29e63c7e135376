"""Normalization, matrix products, attention, softmax, and reductions."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional

from kryptondb.catalog.onnx_models import windows
from kryptondb.catalog.onnx_models.operation import Function, Operation, Refused, Value, numbers, tensor_of

Handler = Callable[[Operation], Function]


def _batch_norm(op: Operation) -> Function:
    if op.attribute("training_mode", 0) or op.outputs > 1:
        raise Refused("it normalizes over the batch: the file was exported in training mode")
    if not op.attribute("spatial", 1):
        raise Refused("it normalizes each location by itself (spatial 0)")
    epsilon = op.attribute("epsilon", 1e-5)

    def apply(value: torch.Tensor, scale: Any, shift: Any, mean: torch.Tensor, variance: torch.Tensor) -> torch.Tensor:
        return functional.batch_norm(value, mean, variance, scale, shift, False, 0.0, epsilon)

    return apply


def _layer_norm(op: Operation) -> Function:
    if op.outputs > 1:
        raise Refused("its mean and deviation are used")
    axis, epsilon = op.attribute("axis", -1), op.attribute("epsilon", 1e-5)

    def apply(value: torch.Tensor, scale: Any = None, shift: Any = None) -> torch.Tensor:
        return functional.layer_norm(value, value.shape[axis:], scale, shift, epsilon)

    return apply


def _rms_norm(op: Operation) -> Function:
    axis, epsilon = op.attribute("axis", -1), op.attribute("epsilon", 1e-5)
    return lambda value, scale: functional.rms_norm(value, value.shape[axis:], scale, epsilon)


def _instance_norm(op: Operation) -> Function:
    epsilon = op.attribute("epsilon", 1e-5)
    return lambda value, scale, shift: functional.instance_norm(value, weight=scale, bias=shift, eps=epsilon)


def _group_norm(op: Operation) -> Function:
    groups, epsilon = op.attribute("num_groups"), op.attribute("epsilon", 1e-5)
    if op.opset < 21:  # one number a group, before
        for place in (1, 2):
            given = op.tensor(place)
            if given is None:
                raise Refused("its scale is computed from the picture")
            op.extra[str(place)] = given

        def spread(value: torch.Tensor, scale: torch.Tensor, shift: torch.Tensor) -> torch.Tensor:
            each = value.shape[1] // groups
            return functional.group_norm(
                value, groups, scale.repeat_interleave(each), shift.repeat_interleave(each), epsilon
            )

        return spread
    return lambda value, scale, shift: functional.group_norm(value, groups, scale, shift, epsilon)


def _local_response(op: Operation) -> Function:
    size, alpha = op.attribute("size"), op.attribute("alpha", 1e-4)
    beta, bias = op.attribute("beta", 0.75), op.attribute("bias", 1.0)
    return lambda value: functional.local_response_norm(value, size, alpha, beta, bias)


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


def _attention(op: Operation) -> Function:
    """`Attention` on heads that are a dimension of their own, without a cache."""
    if op.outputs > 1 or any(op.has(place) for place in (4, 5, 6)) or op.attribute("softcap", 0.0):
        raise Refused("it keeps a cache or caps its scores")
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


def _reduction(function: Callable[[torch.Tensor, list[int], bool], torch.Tensor]) -> Handler:
    def handler(op: Operation) -> Function:
        keep = bool(op.attribute("keepdims", 1))

        def apply(value: torch.Tensor, *given: Any) -> torch.Tensor:
            axes = numbers(given[0]) if given else op.attribute("axes")
            if not axes:
                if op.attribute("noop_with_empty_axes", 0):
                    return value
                axes = range(value.ndim)
            return function(value, [int(axis) % value.ndim for axis in axes], keep)

        return apply

    return handler


def _product(value: torch.Tensor, axes: list[int], keep: bool) -> torch.Tensor:
    for axis in sorted(axes, reverse=True):
        value = value.prod(axis, keepdim=keep)
    return value


def _global(function: Callable[[torch.Tensor, list[int], bool], torch.Tensor]) -> Handler:
    return lambda op: lambda value: function(value, list(range(2, value.ndim)), True)


def _mean(value: torch.Tensor, axes: list[int], keep: bool) -> torch.Tensor:
    return value.mean(axes, keepdim=keep)


def _arg(function: Callable[..., torch.Tensor]) -> Handler:
    def handler(op: Operation) -> Function:
        return lambda value: function(value, op.attribute("axis", 0), keepdim=bool(op.attribute("keepdims", 1)))

    return handler


LAYERS: dict[str, Handler] = {
    "ArgMax": _arg(torch.argmax),
    "ArgMin": _arg(torch.argmin),
    "Attention": _attention,
    "AveragePool": windows.average_pool,
    "BatchNormalization": _batch_norm,
    "Conv": windows.convolution,
    "ConvTranspose": windows.transposed_convolution,
    "Einsum": _einsum,
    "Gemm": _gemm,
    "GlobalAveragePool": _global(_mean),
    "GlobalMaxPool": _global(lambda value, axes, keep: value.amax(axes, keepdim=keep)),
    "GroupNormalization": _group_norm,
    "InstanceNormalization": _instance_norm,
    "LayerNormalization": _layer_norm,
    "LogSoftmax": _softmax(torch.log_softmax),
    "LRN": _local_response,
    "MatMul": _matmul,
    "MaxPool": windows.max_pool,
    "ReduceL2": _reduction(lambda value, axes, keep: torch.linalg.vector_norm(value, 2, axes, keep)),
    "ReduceMax": _reduction(lambda value, axes, keep: value.amax(axes, keepdim=keep)),
    "ReduceMean": _reduction(_mean),
    "ReduceMin": _reduction(lambda value, axes, keep: value.amin(axes, keepdim=keep)),
    "ReduceProd": _reduction(_product),
    "ReduceSum": _reduction(lambda value, axes, keep: value.sum(axes, keepdim=keep)),
    "ReduceSumSquare": _reduction(lambda value, axes, keep: value.square().sum(axes, keepdim=keep)),
    "RMSNormalization": _rms_norm,
    "Softmax": _softmax(torch.softmax),
}
