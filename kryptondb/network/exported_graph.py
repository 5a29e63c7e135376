"""An exported graph: what its nodes say about themselves, and a call on its way to becoming a node."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import wraps
from typing import Any

import torch
from torch.fx import Node as FxNode

from kryptondb.network.node import Axes, Node, Ref, Rule


class CannotTrace(Exception):
    """The exported graph holds something that this room does not take over; the message says what."""


# Functions of Python numbers, such as the batch size, that an exported graph may call.
NUMBER_FUNCTIONS: set[Callable[..., Any]] = {
    operator.getitem, operator.add, operator.sub, operator.mul, operator.floordiv, operator.mod, operator.neg,
    operator.truediv, operator.eq, operator.ne, operator.lt, operator.le, operator.gt, operator.ge,
    torch.sym_int, torch.sym_float, torch.sym_max, torch.sym_min, torch.sym_not,
}  # fmt: skip

#: Modules of this package that stand around the user's and are no layers of it.
_PACKAGE, _WRAPPERS = "kryptondb.", {"ScoreAdapter", "Images", "_Scores"}


def operator_name(fx: FxNode) -> str:
    """The ATen operator's name without namespace and overload, or the function's."""
    target: Any = fx.target
    if hasattr(target, "_schema"):
        return str(target._schema.name.split("::")[-1])
    return str(getattr(target, "__name__", target))


def module_path(fx: FxNode) -> str:
    """The path of the module that a node comes from, such as `features.0`, or an empty string.

    As the user's module names its parts, whatever it is wrapped in here.
    """
    stack: Mapping[str, tuple[str, Any]] = fx.meta.get("nn_module_stack") or {}
    entries = list(stack.values())
    wrappers = [place for place, (_, kind) in enumerate(entries) if _is_wrapper(kind)]
    own = entries[wrappers[-1] + 1 :] if wrappers else entries
    root = own[0][0] if wrappers and own else ""
    return own[-1][0].removeprefix(root).removeprefix(".") if own else ""


def _is_wrapper(kind: Any) -> bool:
    name = f"{kind.__module__}.{kind.__qualname__}" if isinstance(kind, type) else str(kind)
    return name.startswith(_PACKAGE) and name.rpartition(".")[2] in _WRAPPERS


def value_of(fx: FxNode) -> Any:
    """What the exporter knows of a node's value; of several results, the first."""
    value = fx.meta.get("val")
    return value[0] if isinstance(value, (tuple, list)) and value else value


def shape_for_one(fx: FxNode) -> tuple[int, ...]:
    """The shape for a batch of one; sizes that grow with the batch count as for one image. Empty for numbers."""
    value = value_of(fx)
    return sizes_for_one(value) if isinstance(value, torch.Tensor) else ()


def sizes_for_one(value: torch.Tensor) -> tuple[int, ...]:
    """A tensor's shape for a batch of one."""
    return tuple(_for_batch(size, 1) for size in value.shape)


def _for_batch(size: Any, batch: int) -> int:
    if isinstance(size, int):
        return size
    expression = size.node.expr
    return int(expression.subs(dict.fromkeys(expression.free_symbols, batch)))


def batch_dim(fx: FxNode) -> int | None:
    """The one dimension that is exactly the batch size, None when there is none or the batch is mixed with another."""
    value = value_of(fx)
    if not isinstance(value, torch.Tensor):
        return None
    sizes: list[Any] = list(value.shape)
    symbolic = [place for place, size in enumerate(sizes) if not isinstance(size, int)]
    if len(symbolic) != 1 or not sizes[symbolic[0]].node.expr.is_Symbol:
        return None
    return symbolic[0]


def batch_leads(fx: FxNode) -> bool:
    """Whether the first dimension, and no other, is the batch size or a multiple of it."""
    value = value_of(fx)
    sizes: list[Any] = list(value.shape) if isinstance(value, torch.Tensor) else []
    if [place for place, size in enumerate(sizes) if not isinstance(size, int)] != [0]:
        return False
    expression = sizes[0].node.expr
    symbols = tuple(expression.free_symbols)
    return len(symbols) == 1 and bool((expression / symbols[0]).is_Integer)


def memory_order(fx: FxNode) -> list[int]:
    """The dimensions of a node's value as they lay in memory when it was exported, the outermost first."""
    value = value_of(fx)
    strides = [_for_batch(stride, 3) for stride in value.stride()]
    return sorted(range(len(strides)), key=lambda place: -strides[place])


def writes(fx: FxNode) -> bool:
    """Whether a node writes into one of its arguments."""
    schema = getattr(fx.target, "_schema", None)
    return schema is not None and bool(schema.is_mutable)


def arguments_of(fx: FxNode) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """A node's arguments: by position where the operator takes them so, by name only what has no position.

    Keywords that only repeat a default of None are left out; what has no default stays, None or not.
    """
    schema = getattr(fx.target, "_schema", None)
    args, kwargs = list(fx.args), dict(fx.kwargs)
    if schema is None:
        return tuple(args), kwargs
    plain = [argument for argument in schema.arguments if not argument.kwarg_only]
    named = [place for place, argument in enumerate(plain) if argument.name in kwargs]
    for argument in plain[len(args) : max(named, default=-1) + 1]:
        args.append(kwargs.pop(argument.name, argument.default_value))
    optional = {argument.name for argument in schema.arguments if argument.has_default_value()}
    return tuple(args), {name: value for name, value in kwargs.items() if value is not None or name not in optional}


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


@dataclass
class Call:
    """One operator of the exported graph, its arguments as templates.

    Attributes:
        index, name, operator: as the node's.
        function: the ATen overload.
        args, kwargs: with `Ref` where a node's value goes.
        shape: of the result for a batch of one (empty for numbers).
        batch_dim: which dimension of the result is the batch, None when none or not alone.
        batch_leads: whether the first dimension, and no other, is the batch or begins with it.
        nodes: everything before it.
        dtype: of the result, None for what is not a tensor.
        keeps_type: whether its first argument has that type too.
        in_place: the operator's form that writes over its first argument, if there is one.
    """

    index: int
    name: str
    operator: str
    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    shape: tuple[int, ...]
    batch_dim: int | None
    nodes: Sequence[Node]
    input_refs: tuple[int, ...] = field(default=())
    dtype: torch.dtype | None = None
    keeps_type: bool = True
    in_place: Callable[..., Any] | None = None
    batch_leads: bool = False

    def node(self, rule: Rule, **more: Any) -> Node:
        """A node for this call with everything that is the same for all rules."""
        fields: dict[str, Any] = {
            "name": self.name,
            "operator": self.operator,
            "inputs": self.input_refs,
            "shape": self.shape,
            "function": self.function,
            "args": self.args,
            "kwargs": self.kwargs,
        }
        fields.update(more)
        return Node(self.index, rule=rule, **fields)

    def arg(self, place: int, default: Any = None, name: str | None = None) -> Any:
        """A positional or named argument, or its default."""
        if place < len(self.args):
            return self.args[place]
        return self.kwargs.get(name, default) if name else default

    def named(self, name: str, default: Any = None) -> Any:
        """An argument by the name that the operator's schema gives it, or its default."""
        schema = getattr(self.function, "_schema", None)
        places = [argument.name for argument in schema.arguments] if schema is not None else []
        if name in places and places.index(name) < len(self.args):
            return self.args[places.index(name)]
        return self.kwargs.get(name, default)

    def source(self, place: int = 0) -> Node | None:
        """The node behind an argument, or None when the argument is a plain value."""
        value = self.arg(place)
        return self.nodes[value.index] if isinstance(value, Ref) else None


def dense(call: Call, reason: str) -> Node:
    """A node that needs the whole picture."""
    return call.node(Rule.DENSE, reason=reason)


def picture(call: Call, place: int = 0) -> Node | None:
    """The input as a picture in batch, channels, height, width order, or None."""
    source = call.source(place)
    if source is None or source.axes != Axes(0, 2, 3) or len(source.shape) != 4:
        return None
    return source


_NO_PICTURE = "its input is not a picture any more"


def of_picture(rule: Callable[[Call, Node, Axes], Node]) -> Callable[[Call], Node]:
    """A rule for calls whose first argument is a picture, given with its axes; all other calls are dense."""

    @wraps(rule)
    def checked(call: Call) -> Node:
        source = call.source()
        if source is None or source.axes is None:
            return dense(call, _NO_PICTURE)
        return rule(call, source, source.axes)

    return checked


def of_batch(rule: Callable[[Call, Node], Node]) -> Callable[[Call], Node]:
    """A rule for calls whose first argument is a picture [N, C, H, W]; all other calls are dense."""

    @wraps(rule)
    def checked(call: Call) -> Node:
        source = picture(call)
        return dense(call, _NO_PICTURE) if source is None else rule(call, source)

    return checked
