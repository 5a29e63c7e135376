"""Quantized networks: numbers of a few bits, and the layers that compute with them.

Quantized values are whole numbers. Here they stay float32, which holds them exactly, so that a quantized network is
pictures and convolutions to the network algebra like any other.

Rounding to steps turns the smallest difference into a whole step, so sums have to come out the same in whatever order
they are made: `in_whole_numbers` has convolutions, matrix products and averages add up the whole numbers, which is
exact below 2^24, and multiplies by the scales afterwards.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import torch
from torch.nn import functional

from kryptondb.catalog.onnx_models import windows
from kryptondb.catalog.onnx_models.host import FLOATING
from kryptondb.catalog.onnx_models.operation import Function, Operation, Operator, Refused, Value, tensor_of
from kryptondb.catalog.onnx_models.reading import Array

#: The smallest and the largest number of each type that networks are quantized to, by TensorProto's number.
RANGES: dict[int, tuple[int, int]] = {
    onnx.TensorProto.UINT8: (0, 255),
    onnx.TensorProto.INT8: (-128, 127),
    onnx.TensorProto.UINT16: (0, 65535),
    onnx.TensorProto.INT16: (-32768, 32767),
    onnx.TensorProto.UINT4: (0, 15),
    onnx.TensorProto.INT4: (-8, 7),
    onnx.TensorProto.UINT2: (0, 3),
    onnx.TensorProto.INT2: (-2, 1),
}


def quantized_type(op: Operation) -> int:
    """TensorProto's number of the type that `QuantizeLinear` gives. Refused where it is not a whole number."""
    if op.kind != "QuantizeLinear":
        kind = op.types[7]
    else:
        kind = op.types[2] if op.has(2) else op.attribute("output_dtype", 0) or onnx.TensorProto.UINT8
    if kind not in RANGES:
        raise Refused(f"it makes numbers of type {kind}")
    return int(kind)


def _along(op: Operation, place: int, ndim: int, axis: int) -> torch.Tensor | None:
    """A constant scale or zero point as it broadcasts: one number, or one for each place along an axis."""
    value = op.constants[place] if op.has(place) else None
    if value is None:
        if op.has(place):
            raise Refused("its scale or zero point is computed from the picture")
        return None
    found = tensor_of(value).float()
    if found.numel() == 1:
        return found.reshape(())
    if found.ndim != 1:
        raise Refused("it has a scale for blocks")
    return found.reshape([-1 if dimension == axis % ndim else 1 for dimension in range(ndim)])


def _scale_and_zero(op: Operation, axis: int) -> bool:
    """Puts the scale and the zero point in place as they broadcast; whether there is a zero point other than 0."""
    shape = op.shapes[0]
    assert shape is not None  # of the first input, which there always is
    scale, zero = (_along(op, place, len(shape), axis) for place in (1, 2))
    op.constants[1] = scale
    if op.has(2):
        op.constants[2] = zero
    return zero is not None and bool((zero != 0).any())


def _dequantize(op: Operation) -> Function:
    if op.attribute("output_dtype", 0) not in (0, *FLOATING):
        raise Refused(f"it makes numbers of type {op.attribute('output_dtype')}")
    shifted = _scale_and_zero(op, op.attribute("axis", 1))

    same = bool((op.constants[1] == 1).all())

    def apply(value: Any, scale: torch.Tensor, zero: Any = None) -> Value:
        value = tensor_of(value).float()
        value = value - zero if shifted else value
        return value if same else value * scale

    return apply


def _quantize(op: Operation) -> Function:
    """Rounds to the nearest even number of steps, and stays in the type's range."""
    low, high = RANGES[quantized_type(op)]
    shifted = _scale_and_zero(op, op.attribute("axis", 1))

    def apply(value: torch.Tensor, scale: torch.Tensor, zero: Any = None) -> Value:
        steps = torch.round(value / scale)
        return torch.clamp(steps + zero if shifted else steps, low, high)

    return apply


def _layer(op: Operation, axis: int) -> Function:
    """Makes `QLinearConv` and `QLinearMatMul` ready: what is constant is put in place as floating point numbers.

    Their inputs are x, a weight and y, the first two with scale and zero point behind and the last as nothing else.

    Args:
        axis: of the weight, along which it may have several scales.

    Returns:
        From the sums of products of whole numbers, the factor and the zero point of y to the result.
    """
    weight = op.constants[3]
    shape = op.shapes[3]
    if weight is None or shape is None or op.shapes[0] is None:
        raise Refused("its weight is computed from the picture, or its input is not")
    alone = [_along(op, place, 1, 0) for place in (1, 2, 6, 7)]
    if any(array is not None and array.ndim for array in alone):
        raise Refused("its input or result has several scales")
    scale, zero = (_along(op, place, len(shape), axis) for place in (4, 5))
    op.constants[3] = tensor_of(weight).float() - (0 if zero is None else zero)
    of_x, zero_of_x, of_y, zero_of_y = alone
    assert scale is not None and of_x is not None and of_y is not None  # the standard has them
    factor = of_x * scale / of_y
    op.constants[1] = factor if factor.ndim == 0 else factor.reshape(-1, *[1] * (len(shape) - 2 if axis == 0 else 0))
    op.constants[2], op.constants[7] = zero_of_x, zero_of_y
    op.constants[4] = op.constants[5] = op.constants[6] = None
    low, high = RANGES[quantized_type(op)]
    return lambda sums, factor, zero: torch.clamp(torch.round(sums * factor) + zero, low, high)


def _convolution(op: Operation) -> Function:
    stepped, convolved = _layer(op, 0), windows.convolution(op)
    bias = op.constants[8] if op.has(8) else None
    if op.has(8):
        if bias is None:
            raise Refused("its bias is computed from the picture")
        op.constants[8] = tensor_of(bias).float()

    def apply(x: torch.Tensor, factor: Any, zero: Any, weight: Any, *rest: Any) -> Value:
        return stepped(convolved(x - zero, weight, *rest[4:]), factor, rest[3])

    return apply


def _matrix_product(op: Operation) -> Function:
    stepped = _layer(op, -1)
    if len(op.constants[3].shape) != 2:
        raise Refused("its weight is not a matrix")
    op.constants[3] = op.constants[3].T.contiguous()

    def apply(x: torch.Tensor, factor: Any, zero: Any, weight: Any, *rest: Any) -> Value:
        return stepped(functional.linear(x - zero, weight), factor, rest[3])

    return apply


QUANTIZATION: dict[str, Operator] = {
    "DequantizeLinear": Operator(_dequantize, "axis output_dtype", 28),
    "QLinearConv": Operator(_convolution, windows.CONVOLUTION, 10),
    "QLinearMatMul": Operator(_matrix_product, "", 21),
    "QuantizeLinear": Operator(_quantize, "axis output_dtype saturate", 28),
}

#: Operators that take whole numbers of a few bits, and those of them that give such numbers.
TAKING, GIVING = frozenset(QUANTIZATION), frozenset(QUANTIZATION) - {"DequantizeLinear"}


@dataclass(frozen=True)
class Dequantized:
    """A constant that `DequantizeLinear` has made: whole numbers, the zero point that is taken off them, and scales.

    Attributes:
        axis: along which there are several scales.
    """

    numbers: Array
    scale: Array
    zero: Array | None
    axis: int

    def steps(self) -> Array:
        """The whole numbers less the zero point, float32."""
        whole = self.numbers.astype(np.float32)
        return whole if self.zero is None else whole - self._along(self.zero.astype(np.float32))

    def scale_of(self, axis: int) -> Array | None:
        """One scale, [], or those along an axis of the result, [n]; None where there are others."""
        if self.scale.size == 1:
            return self.scale.reshape(()).astype(np.float32)
        if self.scale.ndim != 1 or self.axis % self.numbers.ndim != axis % self.numbers.ndim:
            return None
        return self.scale.astype(np.float32)

    def _along(self, given: Array) -> Array:
        if given.size == 1:
            return given.reshape(())
        ndim = self.numbers.ndim
        return given.reshape([-1 if place == self.axis % ndim else 1 for place in range(ndim)])


@dataclass(frozen=True)
class Scaled:
    """A computed value that is whole numbers times one scale.

    Attributes:
        steps: the name of the whole numbers.
        scale: the number that they are multiplied by.
    """

    steps: str
    scale: np.float32


Parts = tuple[list[Any], dict[str, Array]]  # nodes, and the constants that they read


def in_whole_numbers(
    node: Any,
    attributes: Mapping[str, Any],
    known: Mapping[str, Array],
    scaled: Mapping[str, Scaled],
    weights: Mapping[str, Dequantized],
) -> Parts | None:
    """Nodes that add up whole numbers and then multiply by the scales, where one node does both; None for others.

    Args:
        known: arrays by name.
        scaled, weights: what is known of the node's inputs, by name.
    """
    name, output = node.input[0], node.output[0]
    if node.op_type == "DequantizeLinear":
        scale = known.get(node.input[1])
        if scale is None or scale.size != 1:
            return None
        one: dict[str, Array] = {f"{output}\0one": np.ones((), np.float32)}
        first = _renamed(node, {1: next(iter(one))}, f"{output}\0steps")
        nodes, constants = _times(node, f"{output}\0steps", scale.reshape(()).astype(np.float32))
        return [first, *nodes], {**one, **constants}
    found = scaled.get(name)
    if found is None:
        return None
    if node.op_type in ("AveragePool", "GlobalAveragePool", "ReduceMean"):
        nodes, constants = _times(node, f"{output}\0steps", np.asarray(found.scale))
        return [_renamed(node, {0: found.steps}, f"{output}\0steps"), *nodes], constants
    layer = _LAYERS.get(node.op_type)
    weight = weights.get(node.input[1]) if layer is not None else None
    if layer is None or weight is None or weight.numbers.ndim < 2:
        return None
    if any(attributes.get(key, value) != value for key, value in (("alpha", 1.0), ("beta", 1.0), ("transA", 0))):
        return None
    scale = weight.scale_of(-2 if attributes.get("transB", 0) else layer)
    if scale is None:
        return None
    factor = np.asarray(found.scale * scale, dtype=np.float32)
    if factor.ndim and node.op_type == "Conv":
        factor = factor.reshape(-1, *[1] * (weight.numbers.ndim - 2))
    sums, plain = f"{output}\0sums", f"{output}\0scaled"
    constants = {f"{node.input[1]}\0steps": weight.steps()}
    inner = _renamed(node, {0: found.steps, 1: f"{node.input[1]}\0steps"}, sums)
    biased = len(node.input) > 2 and bool(node.input[2])
    del inner.input[2:]
    nodes, more = _times(node, sums, factor, plain if biased else output)
    constants.update(more)
    if biased:
        bias = node.input[2]
        if node.op_type == "Conv":
            if bias not in known:
                return None
            bias = f"{output}\0bias"
            constants[bias] = known[node.input[2]].reshape(-1, *[1] * (weight.numbers.ndim - 2))
        nodes.append(onnx.helper.make_node("Add", [plain, bias], [output], name=f"{node.name or output}/bias"))
    return [inner, *nodes], constants


#: The axis of a layer's weight that belongs to its result.
_LAYERS = {"Conv": 0, "Gemm": -1, "MatMul": -1}


def _renamed(node: Any, inputs: Mapping[int, str], output: str) -> Any:
    renamed = onnx.NodeProto()
    renamed.CopyFrom(node)
    for place, name in inputs.items():
        renamed.input[place] = name
    renamed.output[0] = output
    return renamed


def _times(node: Any, source: str, factor: Array, output: str = "") -> Parts:
    """A multiplication of a value by constants, which gives the node's output."""
    output = output or node.output[0]
    name = f"{output}\0factor"
    times = onnx.helper.make_node("Mul", [source, name], [output], name=f"{node.name or node.output[0]}/scale")
    return [times], {name: factor}
