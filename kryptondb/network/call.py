"""One operator of an exported graph on its way to become a node."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from kryptondb.network.node import Axes, Node, Ref, Rule


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
