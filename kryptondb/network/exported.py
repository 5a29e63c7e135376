"""What the nodes of an exported graph say of themselves: operator, module path, shape, batch dimension."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch.fx import Node as FxNode

from kryptondb.network.node import Ref


class CannotTrace(Exception):
    """The exported graph holds something that this room does not take over; the message says what."""


# Functions of Python numbers, such as the batch size, that an exported graph may call.
NUMBER_FUNCTIONS: set[Callable[..., Any]] = {
    operator.getitem, operator.add, operator.sub, operator.mul, operator.floordiv, operator.mod, operator.neg,
    operator.truediv, operator.eq, operator.ne, operator.lt, operator.le, operator.gt, operator.ge,
    torch.sym_int, torch.sym_float, torch.sym_max, torch.sym_min, torch.sym_not,
}  # fmt: skip


def operator_name(fx: FxNode) -> str:
    """The ATen operator's name without namespace and overload, or the function's."""
    target: Any = fx.target
    if hasattr(target, "_schema"):
        return str(target._schema.name.split("::")[-1])
    return str(getattr(target, "__name__", target))


def module_path(fx: FxNode) -> str:
    """The path of the module that a node comes from, such as `features.0`, or an empty string."""
    stack: Mapping[str, tuple[str, Any]] = fx.meta.get("nn_module_stack") or {}
    paths = [path for path, _ in stack.values()]
    return paths[-1] if paths else ""


def shape_for_one(fx: FxNode) -> tuple[int, ...]:
    """The shape for a batch of one; sizes that grow with the batch count as for one image. Empty for numbers."""
    value = fx.meta.get("val")
    if not isinstance(value, torch.Tensor):
        return ()
    return tuple(_for_one(size) for size in value.shape)


def _for_one(size: Any) -> int:
    if isinstance(size, int):
        return size
    expression = size.node.expr
    return int(expression.subs(dict.fromkeys(expression.free_symbols, 1)))


def batch_dim(fx: FxNode) -> int | None:
    """The one dimension that is exactly the batch size, None when there is none or the batch is mixed with another."""
    value = fx.meta.get("val")
    if not isinstance(value, torch.Tensor):
        return None
    sizes: list[Any] = list(value.shape)
    symbolic = [place for place, size in enumerate(sizes) if not isinstance(size, int)]
    if len(symbolic) != 1 or not sizes[symbolic[0]].node.expr.is_Symbol:
        return None
    return symbolic[0]


def refs_in(value: Any) -> Iterable[int]:
    """The nodes that an argument template refers to."""
    if isinstance(value, Ref):
        yield value.index
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from refs_in(item)


def constant_name(signature: Any, placeholder: str) -> str:
    """The name that the module's author gave a parameter or buffer."""
    for names in (
        signature.inputs_to_parameters,
        signature.inputs_to_buffers,
        signature.inputs_to_lifted_tensor_constants,
    ):
        if placeholder in names:
            return str(names[placeholder])
    return placeholder
