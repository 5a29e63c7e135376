"""One operator of an ONNX graph: what is understood of it, and its way to becoming a function of tensors.

The standard (the package `onnx`) defines which inputs, attributes and results an operator has in an opset; an
`Operator` lists which of them its handler understands. A node that uses anything else is refused by name, so that
nothing in a file is ever ignored.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray

#: A value that is known without looking at a picture, or depends on its shape alone: whole numbers, as Python numbers
#: or torch's symbolic ones, in an array of objects.
Host = NDArray[np.object_]
Value = Any  # torch.Tensor | Host | None
Function = Callable[..., Any]

PICTURES = 7  # how many there are while sizes are tried
MAX_HOST = 1 << 16  # numbers of one host value
MAX_TABLE = 1 << 22  # numbers of a table of places or weights that an operator works with
SMALL = 1024  # numbers of a constant that shape arithmetic may read


class Refused(Exception):
    """An operator, or one of its attributes, that cannot be taken over; the message says what."""


@dataclass
class Operation:
    """An ONNX node with what is known of its inputs before any picture.

    Attributes:
        kind: the operator, such as 'Conv'.
        name: the node's name in the file, may be empty.
        opset: version of the operators.
        attributes: Python numbers, texts, lists, and arrays.
        constants: for each input its value where it is constant, None where it is computed or absent. Handlers may
            put another one in place, for example a transposed weight.
        present: for each input, whether there is one.
        outputs: how many results are asked for.
        shapes: of each input, None where there is none; a picture's batch is counted with torch's symbolic number.
        types: of each input the number type that its constant has in the file, or that torch computes it in.
        batch: the batch that the file is made for, None where it takes any.
    """

    kind: str
    name: str
    opset: int
    attributes: Mapping[str, Any]
    constants: list[Value]
    present: Sequence[bool]
    outputs: int = 1
    shapes: Sequence[tuple[Any, ...] | None] = ()
    types: Sequence[int | None] = ()
    batch: int | None = None

    def attribute(self, name: str, default: Any = None) -> Any:
        """An attribute's value, or the default."""
        return self.attributes.get(name, default)

    def has(self, place: int) -> bool:
        """Whether there is an input at this place."""
        return place < len(self.present) and self.present[place]

    def tensor(self, place: int) -> torch.Tensor | None:
        """The constant tensor at this place, or None."""
        value = self.constants[place] if self.has(place) else None
        return value if isinstance(value, torch.Tensor) else None

    def number(self, place: int, name: str, default: Any = None) -> Any:
        """A number given as a constant input, or as an attribute in older opsets. Refused where it is computed."""
        if not self.has(place):
            return self.attribute(name, default)
        value = self.constants[place]
        if value is None or (value.size if isinstance(value, np.ndarray) else value.numel()) != 1:
            raise Refused(f"{name} is computed from the picture")
        return value.item() if isinstance(value, torch.Tensor) else value.reshape(-1)[0]

    def list(self, place: int, name: str) -> list[Any] | None:
        """Numbers given as a constant input, or as an attribute in older opsets; None where there are none."""
        if not self.has(place):
            found = self.attribute(name)
            return None if found is None else list(found)
        value = self.constants[place]
        if value is None:
            raise Refused(f"{name} is computed from the picture")
        return list(value.reshape(-1).tolist())


def host(values: Any) -> Host:
    """Python numbers as a host value."""
    array = np.asarray(values)
    checked_count(array.size)
    return array.astype(object)


def checked_count(count: int) -> int:
    """The count itself. Refused where a host value would have more numbers than shapes ever have."""
    if count > MAX_HOST:
        raise Refused(f"shape arithmetic on {count:,} numbers")
    return count


def checked_table(count: int) -> int:
    """The count itself. Refused where a table of that many numbers would be made for one operator."""
    if count > MAX_TABLE:
        raise Refused(f"it needs a table of {count:,} numbers")
    return count


def numbers(value: Value) -> list[Any]:
    """The numbers of a host value, in order; symbolic ones stay symbolic."""
    if isinstance(value, torch.Tensor):
        raise Refused("a shape is computed from the picture's pixels")
    return list(value.reshape(-1))


def operand(value: Value, device: torch.device | None = None) -> Any:
    """What torch's arithmetic takes: a tensor, or a number for a host value of one."""
    if isinstance(value, np.ndarray):
        if value.size == 1 and value.ndim == 0:
            return value.item()
        return torch.tensor(value.tolist(), device=device)
    return value


def tensor_of(value: Value, device: torch.device | None = None) -> torch.Tensor:
    """A tensor, made from a host value where it is one."""
    return value if isinstance(value, torch.Tensor) else torch.tensor(value.tolist(), device=device)


Handler = Callable[[Operation], Function]
Attributes = Mapping[str, Any]


@dataclass(frozen=True)
class Operator:
    """A handler and what it understands.

    Attributes:
        handler: makes the function on tensors.
        attributes: names of those that it reads, or that change nothing in inference.
        newest: the opset of the operator's newest definition that it follows.
        outputs: how many results it gives; None for as many as the node asks for.
        spare: how many results behind those a node may name, as long as nothing reads them.
        by_torch: whether constants too are computed by it: library code in Python would take minutes.
    """

    handler: Handler
    attributes: str = ""
    newest: int = 1
    outputs: int | None = 1
    spare: int = 0
    by_torch: bool = False


def schema_of(kind: str, opset: int) -> Any:
    """The standard's definition of an operator in an opset. Refused where there is none."""
    try:
        schema = onnx.defs.get_schema(kind, opset, "")
    except onnx.defs.SchemaError:
        raise Refused(f"opset {opset} has no operator {kind[:60]}") from None
    if schema.deprecated:
        raise Refused(f"opset {opset} has no operator {kind[:60]} any more")
    return schema


def check_node(node: Any, schema: Any, attributes: Attributes) -> None:
    """Checks a node against the standard. Refused for inputs or attributes that the operator does not have."""
    inputs = len(node.input)
    while inputs and not node.input[inputs - 1]:
        inputs -= 1
    if not schema.min_input <= inputs <= schema.max_input:
        raise Refused(f"it has {inputs} inputs, where the standard has {schema.min_input} to {schema.max_input}")
    if len(node.output) > schema.max_output:
        raise Refused(f"it has {len(node.output)} results, where the standard has {schema.max_output}")
    if len({attribute.name for attribute in node.attribute}) < len(node.attribute):
        raise Refused("it has an attribute twice")
    for attribute in node.attribute:
        name = attribute.name
        known = schema.attributes.get(name)
        if known is None:
            raise Refused(f"it has no attribute {name[:60]} in opset {schema.since_version}")
        if attribute.type != known.type.value:
            raise Refused(f"its attribute {name[:60]} is of another type than the standard's")
    for name, known in schema.attributes.items():
        if known.required and name not in attributes:
            raise Refused(f"its attribute {name} is missing")


def check_understood(operator: Operator, schema: Any, attributes: Attributes, named: list[bool]) -> None:
    """Checks a node against what its handler declares. Refused for anything else.

    Args:
        named: for each result whether something reads it; those without a name are left out at the end.
    """
    if schema.since_version > operator.newest:
        raise Refused(f"KryptonDB does not know its definition of opset {schema.since_version}")
    known = operator.attributes.split()
    for name, value in attributes.items():
        if name not in known and not _is_default(schema.attributes[name], value):
            raise Refused(f"its attribute {name} is not understood")
    if operator.outputs is None:
        return
    for place, read in enumerate(named):
        if place >= operator.outputs and (read or place >= operator.outputs + operator.spare):
            result = schema.outputs[min(place, len(schema.outputs) - 1)].name
            raise Refused(f"its result {place} ({result}) is not understood")


def _is_default(known: Any, value: Any) -> bool:
    """Whether an attribute is written out, yet says what it says without being written."""
    default = known.default_value
    if default.type == onnx.AttributeProto.UNDEFINED:
        return False
    default = onnx.helper.get_attribute_value(default)
    default = default.decode() if isinstance(default, bytes) else default
    return bool(value == (list(default) if hasattr(default, "extend") else default))
