"""What is known of each operator, and the one place where the rest is refused.

The standard (the package `onnx`) says which inputs, attributes and results an operator has in an opset; an `Operator`
says which of them its handler understands. A node that asks for anything else is refused by name, so that nothing in a
file is ever ignored.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import onnx

from kryptondb.catalog.onnx_models.operation import Function, Operation, Refused

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
