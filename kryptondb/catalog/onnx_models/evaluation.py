"""What depends on constants alone, computed by the library of the standard: `onnx.reference`.

The size of every result is known before it is made (the standard's own shape inference says it), and all results
together have one bound, which grows with what the file really holds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from kryptondb.catalog.onnx_models.operation import Refused
from kryptondb.catalog.onnx_models.reading import Array

LEAST = 256 << 20  # bytes of results that any file may make
GROWTH = 8  # times what the file's arrays take: weights are unpacked, transposed and scaled
READ_BY_INFERENCE = 1 << 16  # numbers of an input that a result's size may follow from
VIEWS = frozenset(["Flatten", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze"])
#: Results whose size follows from the numbers, and is at most that of the input (times its dimensions).
SELECTING = frozenset(["Compress", "NonZero", "Unique"])
#: What is drawn at random, runs a graph of its own or works on text is not a constant.
_NO_CONSTANT = """Bernoulli If Loop Multinomial RandomNormal RandomNormalLike RandomUniform RandomUniformLike Scan
    SequenceMap ImageDecoder RegexFullMatch StringConcat StringNormalizer StringSplit TfIdfVectorizer"""
NO_CONSTANT = frozenset(_NO_CONSTANT.split())


class Budget:
    """How many bytes constants may still take that are computed from others."""

    def __init__(self) -> None:
        self.spent = 0

    def take(self, size: int, held: int) -> None:
        """Takes bytes. Refused where more would be taken together than the file's arrays account for.

        Args:
            held: bytes of those arrays, as far as they were read.
        """
        limit = LEAST + GROWTH * held
        if self.spent + size > limit:
            raise Refused(f"constants that are computed from others would take more than {limit >> 20:,} MiB")
        self.spent += size


def evaluate(
    node: Any, schema: Any, opset: int, values: Sequence[Array | None], take: Callable[[int], None]
) -> list[Array]:
    """The results of one operator on constants.

    Args:
        node: the `NodeProto`, its arrays inside.
        values: for each input its array, None where there is none.
        take: takes bytes from the budget before they are allocated.

    Raises Refused where the operator is not one of constants, its results have no known size, or are too large.
    """
    if node.op_type in NO_CONSTANT:
        raise Refused(f"it is not arithmetic on constants: {node.op_type}")
    given = {name: value for name, value in zip(node.input, values, strict=True) if value is not None}
    size = sum(_sizes(node, schema, opset, given))
    if node.op_type not in VIEWS:
        take(size)
    outputs = [name for name in node.output if name]
    graph = helper.make_graph(
        [node],
        "constants",
        [helper.make_tensor_value_info(name, _type_of(value), value.shape) for name, value in given.items()],
        [onnx.ValueInfoProto(name=name) for name in outputs],
    )
    from onnx.reference import ReferenceEvaluator

    with np.errstate(all="ignore"):
        results = ReferenceEvaluator(graph, opsets={"": opset}).run(None, given)
    if not all(isinstance(result, (np.ndarray, np.generic)) for result in results):
        raise Refused("its result is not an array")
    return [np.asarray(result) for result in results]


def _sizes(node: Any, schema: Any, opset: int, given: dict[str, Array]) -> list[int]:
    """Bytes of each result, before any is made."""
    types = {name: helper.make_tensor_type_proto(_type_of(value), value.shape) for name, value in given.items()}
    read = {name: value for name, value in given.items() if value.size <= READ_BY_INFERENCE}
    inferred = onnx.shape_inference.infer_node_outputs(
        schema,
        node,
        types,
        {name: numpy_helper.from_array(np.asarray(value), name) for name, value in read.items()},
        opset_imports=[helper.make_opsetid("", opset)],
    )
    largest = max((value.size * max(1, value.ndim) for value in given.values()), default=0)
    sizes = []
    for name in filter(None, node.output):
        kind = inferred[name].tensor_type if name in inferred else None
        dims = list(kind.shape.dim) if kind is not None and kind.HasField("shape") else None
        if dims is not None and all(dim.HasField("dim_value") for dim in dims):
            count = math.prod(dim.dim_value for dim in dims)
        elif node.op_type in SELECTING:
            count = largest
        else:
            raise Refused("the size of its result is not known beforehand")
        sizes.append(max(0, count) * 8)
    return sizes


def _type_of(value: Array) -> int:
    return int(helper.np_dtype_to_tensor_dtype(value.dtype))
