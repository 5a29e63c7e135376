"""Operators on each number by itself, and between two tensors."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from typing import Any

import torch
from torch.nn import functional

from kryptondb.catalog.onnx_models.host import BOOLEAN, FLOATING
from kryptondb.catalog.onnx_models.operation import Function, Operation, Refused, Value, operand, tensor_of

Handler = Callable[[Operation], Function]


def _unary(function: Callable[[torch.Tensor], torch.Tensor]) -> Handler:
    return lambda op: lambda value: function(tensor_of(value))


def _binary(function: Callable[[Any, Any], torch.Tensor]) -> Handler:
    def handler(op: Operation) -> Function:
        def apply(*values: Any) -> torch.Tensor:
            device = next((value.device for value in values if isinstance(value, torch.Tensor)), None)
            operands = [operand(value, device) for value in values]
            if not isinstance(operands[0], torch.Tensor) and len(operands) > 1:
                operands[0] = torch.tensor(operands[0], device=device, dtype=_other(operands[1:]))
            result: torch.Tensor = reduce(function, operands)
            return result

        return apply

    return handler


def _other(operands: list[Any]) -> torch.dtype | None:
    return next((value.dtype for value in operands if isinstance(value, torch.Tensor)), None)


def _divided(left: Any, right: Any) -> torch.Tensor:
    whole = not left.is_floating_point() and not (isinstance(right, torch.Tensor) and right.is_floating_point())
    return torch.div(left, right, rounding_mode="trunc" if whole else None)


def _clip(op: Operation) -> Function:
    low = op.number(1, "min") if op.opset >= 11 else op.attribute("min", -3.4028234663852886e38)
    high = op.number(2, "max") if op.opset >= 11 else op.attribute("max", 3.4028234663852886e38)

    def apply(value: torch.Tensor, *_: Any) -> torch.Tensor:
        if low == 0 and high is None:
            return torch.relu(value)
        return torch.clamp(value, low, high) if (low, high) != (None, None) else value

    return apply


def _cast(op: Operation) -> Function:
    """To a number of another kind. All floating point is float32 here: a cast between such types does nothing."""
    kind = op.attribute("to")

    def apply(value: Any, *_: Any) -> Value:
        value = tensor_of(value)
        if kind in FLOATING:
            return value if value.is_floating_point() else value.float()
        if kind == BOOLEAN:
            return value.bool()
        if kind in (6, 7):  # int32, int64
            return value.long()
        raise Refused(f"it makes numbers of type {kind}")

    return apply


def _same(op: Operation) -> Function:
    return lambda value, *_: value


def _dropout(op: Operation) -> Function:
    training = op.constants[2] if op.has(2) else None
    if op.outputs > 1 or (op.has(2) and (training is None or bool(training.reshape(-1)[0]))):
        raise Refused("it drops at random: the file was exported in training mode")
    return _same(op)


def _slope(op: Operation) -> Function:
    """`PRelu`: a slope a channel, or any that broadcasts."""
    slope = op.tensor(1)
    if slope is not None and slope.numel() == slope.shape[0] and slope.ndim == 3:
        op.constants[1] = slope.reshape(-1)  # torch's, for pictures of that many channels
        return functional.prelu
    return lambda value, given: torch.where(value < 0, value * given, value)


def _gelu(op: Operation) -> Function:
    return lambda value: functional.gelu(value, approximate=op.attribute("approximate", "none"))


def _hard_sigmoid(op: Operation) -> Function:
    alpha, beta = op.attribute("alpha", 0.2), op.attribute("beta", 0.5)
    if abs(alpha - 1 / 6) < 1e-6 and beta == 0.5:
        return functional.hardsigmoid
    return lambda value: torch.clamp(value * alpha + beta, 0.0, 1.0)


def _elu(op: Operation) -> Function:
    return lambda value: functional.elu(value, op.attribute("alpha", 1.0))


def _leaky(op: Operation) -> Function:
    return lambda value: functional.leaky_relu(value, op.attribute("alpha", 0.01))


def _celu(op: Operation) -> Function:
    return lambda value: functional.celu(value, op.attribute("alpha", 1.0))


def _selu(op: Operation) -> Function:
    alpha, gamma = op.attribute("alpha", 1.6732632423543772), op.attribute("gamma", 1.0507009873554805)
    return lambda value: gamma * functional.elu(value, alpha)


def _swish(op: Operation) -> Function:
    alpha = op.attribute("alpha", 1.0)
    return lambda value: functional.silu(value) if alpha == 1.0 else value * torch.sigmoid(alpha * value)


def _mod(op: Operation) -> Function:
    function = torch.fmod if op.attribute("fmod", 0) else torch.remainder
    return _binary(function)(op)


def _where(op: Operation) -> Function:
    def apply(condition: Any, left: Any, right: Any) -> torch.Tensor:
        return torch.where(tensor_of(condition).bool(), operand(left), operand(right))

    return apply


def _mean(op: Operation) -> Function:
    return lambda *values: reduce(torch.add, values) / len(values)


ARITHMETIC: dict[str, Handler] = {
    "Abs": _unary(torch.abs),
    "Add": _binary(torch.add),
    "And": _binary(torch.logical_and),
    "Cast": _cast,
    "CastLike": _same,
    "Ceil": _unary(torch.ceil),
    "Celu": _celu,
    "Clip": _clip,
    "Cos": _unary(torch.cos),
    "Div": _binary(_divided),
    "Dropout": _dropout,
    "Elu": _elu,
    "Equal": _binary(torch.eq),
    "Erf": _unary(torch.erf),
    "Exp": _unary(torch.exp),
    "Floor": _unary(torch.floor),
    "Gelu": _gelu,
    "Greater": _binary(torch.gt),
    "GreaterOrEqual": _binary(torch.ge),
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": _unary(functional.hardswish),
    "Identity": _same,
    "LeakyRelu": _leaky,
    "Less": _binary(torch.lt),
    "LessOrEqual": _binary(torch.le),
    "Log": _unary(torch.log),
    "Max": _binary(lambda a, b: torch.maximum(a, tensor_of_number(b, a))),
    "Mean": _mean,
    "Min": _binary(lambda a, b: torch.minimum(a, tensor_of_number(b, a))),
    "Mish": _unary(functional.mish),
    "Mod": _mod,
    "Mul": _binary(torch.mul),
    "Neg": _unary(torch.neg),
    "Not": _unary(torch.logical_not),
    "Or": _binary(torch.logical_or),
    "Pow": _binary(torch.pow),
    "PRelu": _slope,
    "Reciprocal": _unary(torch.reciprocal),
    "Relu": _unary(torch.relu),
    "Round": _unary(torch.round),
    "Selu": _selu,
    "Sigmoid": _unary(torch.sigmoid),
    "Sign": _unary(torch.sign),
    "Sin": _unary(torch.sin),
    "Softplus": _unary(functional.softplus),
    "Softsign": _unary(functional.softsign),
    "Sqrt": _unary(torch.sqrt),
    "Sub": _binary(torch.sub),
    "Sum": _binary(torch.add),
    "Swish": _swish,
    "Tanh": _unary(torch.tanh),
    "Where": _where,
}


def tensor_of_number(value: Any, like: torch.Tensor) -> torch.Tensor:
    """A number as a tensor of the same type as another one."""
    return value if isinstance(value, torch.Tensor) else torch.tensor(value, dtype=like.dtype, device=like.device)
