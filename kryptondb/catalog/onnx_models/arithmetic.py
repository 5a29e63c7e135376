"""Operators on each number by itself, and between two tensors."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from typing import Any

import onnx
import torch
from torch.nn import functional

from kryptondb.catalog.onnx_models.host import FLOATING
from kryptondb.catalog.onnx_models.operation import (
    Function,
    Handler,
    Operation,
    Operator,
    Refused,
    Value,
    operand,
    tensor_of,
)

#: TensorProto's numbers of the whole types that pictures may be cast to.
WHOLE_TYPES: dict[int, torch.dtype] = {
    onnx.TensorProto.BOOL: torch.bool,
    onnx.TensorProto.UINT8: torch.uint8,
    onnx.TensorProto.INT8: torch.int8,
    onnx.TensorProto.INT16: torch.int16,
    onnx.TensorProto.INT32: torch.int32,
    onnx.TensorProto.INT64: torch.int64,
}


def _unary(function: Callable[[torch.Tensor], torch.Tensor], newest: int) -> Operator:
    return Operator(lambda op: lambda value: function(tensor_of(value)), newest=newest)


def _of_all(function: Callable[[Any, Any], torch.Tensor]) -> Handler:
    """An operator on any number of values, with broadcasting."""

    def handler(op: Operation) -> Function:
        def apply(*values: Any) -> Value:
            device = next((value.device for value in values if isinstance(value, torch.Tensor)), None)
            operands = [operand(value, device) for value in values]
            if not isinstance(operands[0], torch.Tensor):
                operands[0] = torch.tensor(operands[0], device=device, dtype=_other(operands[1:]))
            result: torch.Tensor = reduce(function, operands)
            return result

        return apply

    return handler


def _binary(function: Callable[[Any, Any], torch.Tensor], newest: int) -> Operator:
    return Operator(_of_all(function), newest=newest)


def _other(operands: list[Any]) -> torch.dtype | None:
    return next((value.dtype for value in operands if isinstance(value, torch.Tensor)), None)


def _divided(left: Any, right: Any) -> torch.Tensor:
    whole = not left.is_floating_point() and not (isinstance(right, torch.Tensor) and right.is_floating_point())
    return torch.div(left, right, rounding_mode="trunc") if whole else torch.div(left, right)


def _power(left: Any, right: Any) -> torch.Tensor:
    """The result has the type of the base."""
    found: torch.Tensor = torch.pow(left, right)
    return found if found.dtype == left.dtype else found.to(left.dtype)


def _clip(op: Operation) -> Function:
    low = op.number(1, "min") if op.opset >= 11 else op.attribute("min", -3.4028234663852886e38)
    high = op.number(2, "max") if op.opset >= 11 else op.attribute("max", 3.4028234663852886e38)

    def apply(value: torch.Tensor, *_: Any) -> Value:
        if low == 0 and high is None:
            return torch.relu(value)
        return torch.clamp(value, low, high) if (low, high) != (None, None) else value

    return apply


def _cast(op: Operation) -> Function:
    return _to_type(op.attribute("to"))


def _cast_like(op: Operation) -> Function:
    """`CastLike`, except from fractions to whole numbers: where rounding decides, a file has to say so by `Cast`."""
    kind = op.types[1]
    if op.types[0] in FLOATING and kind not in (*FLOATING, onnx.TensorProto.BOOL):
        raise Refused("it cuts off fractions")
    return _to_type(kind)


def _to_type(kind: int | None) -> Function:
    """To numbers of another type. All floating point is float32 here: a cast between such types does nothing."""

    def apply(value: Any, *_: Any) -> Value:
        value = tensor_of(value)
        if kind in FLOATING:
            return value if value.is_floating_point() else value.float()
        if kind not in WHOLE_TYPES:
            raise Refused(f"it makes numbers of type {kind}")
        return value.to(WHOLE_TYPES[kind])

    return apply


def _same(op: Operation) -> Function:
    return lambda value, *_: value


def _dropout(op: Operation) -> Function:
    training = op.constants[2] if op.has(2) else None
    if op.has(2) and (training is None or bool(training.reshape(-1)[0])):
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
    return _of_all(torch.fmod if op.attribute("fmod", 0) else torch.remainder)(op)


def _where(op: Operation) -> Function:
    def apply(condition: Any, left: Any, right: Any) -> Value:
        return torch.where(tensor_of(condition).bool(), operand(left), operand(right))

    return apply


def _mean(op: Operation) -> Function:
    total = _of_all(torch.add)(op)
    return lambda *values: total(*values) / len(values)


def _thresholded(op: Operation) -> Function:
    alpha = op.attribute("alpha", 1.0)
    return lambda value: functional.threshold(value, alpha, 0.0)


def _shrink(op: Operation) -> Function:
    bias, bound = op.attribute("bias", 0.0), op.attribute("lambd", 0.5)

    def apply(value: torch.Tensor) -> Value:
        inner = torch.where(value > bound, value - bias, torch.zeros_like(value))
        return torch.where(value < -bound, value + bias, inner)

    return apply


def _is_infinite(op: Operation) -> Function:
    below, above = op.attribute("detect_negative", 1), op.attribute("detect_positive", 1)

    def apply(value: torch.Tensor) -> Value:
        found = torch.isinf(value)
        if not below:
            found = found & (value > 0)
        return found if above else found & (value < 0)

    return apply


ARITHMETIC: dict[str, Operator] = {
    "Abs": _unary(torch.abs, 13),
    "Acos": _unary(torch.acos, 22),
    "Acosh": _unary(torch.acosh, 22),
    "Add": _binary(torch.add, 14),
    "And": _binary(torch.logical_and, 7),
    "Asin": _unary(torch.asin, 22),
    "Asinh": _unary(torch.asinh, 22),
    "Atan": _unary(torch.atan, 22),
    "Atanh": _unary(torch.atanh, 22),
    "BitwiseAnd": _binary(torch.bitwise_and, 18),
    "BitwiseNot": _unary(torch.bitwise_not, 18),
    "BitwiseOr": _binary(torch.bitwise_or, 18),
    "BitwiseXor": _binary(torch.bitwise_xor, 18),
    "Cast": Operator(_cast, "to saturate", 28),
    "CastLike": Operator(_cast_like, "saturate", 25),
    "Ceil": _unary(torch.ceil, 13),
    "Celu": Operator(_celu, "alpha", 28),
    "Clip": Operator(_clip, "min max", 13),
    "Cos": _unary(torch.cos, 22),
    "Cosh": _unary(torch.cosh, 22),
    "Div": _binary(_divided, 14),
    "Dropout": Operator(_dropout, "ratio seed", 22, spare=1),
    "Elu": Operator(_elu, "alpha", 22),
    "Equal": _binary(torch.eq, 19),
    "Erf": _unary(torch.erf, 13),
    "Exp": _unary(torch.exp, 13),
    "Floor": _unary(torch.floor, 13),
    "Gelu": Operator(_gelu, "approximate", 20),
    "Greater": _binary(torch.gt, 13),
    "GreaterOrEqual": _binary(torch.ge, 16),
    "HardSigmoid": Operator(_hard_sigmoid, "alpha beta", 22),
    "HardSwish": _unary(functional.hardswish, 22),
    "Identity": Operator(_same, newest=25),
    "IsInf": Operator(_is_infinite, "detect_negative detect_positive", 20),
    "IsNaN": _unary(torch.isnan, 20),
    "LeakyRelu": Operator(_leaky, "alpha", 16),
    "Less": _binary(torch.lt, 13),
    "LessOrEqual": _binary(torch.le, 16),
    "Log": _unary(torch.log, 13),
    "Max": _binary(lambda a, b: torch.maximum(a, tensor_of_number(b, a)), 13),
    "Mean": Operator(_mean, newest=13),
    "Min": _binary(lambda a, b: torch.minimum(a, tensor_of_number(b, a)), 13),
    "Mish": _unary(functional.mish, 22),
    "Mod": Operator(_mod, "fmod", 28),
    "Mul": _binary(torch.mul, 14),
    "Neg": _unary(torch.neg, 13),
    "Not": _unary(torch.logical_not, 1),
    "Or": _binary(torch.logical_or, 7),
    "Pow": _binary(_power, 15),
    "PRelu": Operator(_slope, newest=16),
    "Reciprocal": _unary(torch.reciprocal, 13),
    "Relu": _unary(torch.relu, 14),
    "Round": _unary(torch.round, 22),
    "Selu": Operator(_selu, "alpha gamma", 22),
    "Shrink": Operator(_shrink, "bias lambd", 9),
    "Sigmoid": _unary(torch.sigmoid, 13),
    "Sign": _unary(torch.sign, 13),
    "Sin": _unary(torch.sin, 22),
    "Sinh": _unary(torch.sinh, 22),
    "Softplus": _unary(functional.softplus, 22),
    "Softsign": _unary(functional.softsign, 22),
    "Sqrt": _unary(torch.sqrt, 13),
    "Sub": _binary(torch.sub, 14),
    "Sum": _binary(torch.add, 13),
    "Swish": Operator(_swish, "alpha", 24),
    "Tan": _unary(torch.tan, 22),
    "Tanh": _unary(torch.tanh, 13),
    "ThresholdedRelu": Operator(_thresholded, "alpha", 22),
    "Where": Operator(_where, newest=16),
    "Xor": _binary(torch.logical_xor, 7),
}


def tensor_of_number(value: Any, like: torch.Tensor) -> torch.Tensor:
    """A number as a tensor of the same type as another one."""
    return value if isinstance(value, torch.Tensor) else torch.tensor(value, dtype=like.dtype, device=like.device)
