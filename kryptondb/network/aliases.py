"""Memory in an exported graph: which values share it, which are written in place, and what depends on how they lie."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import torch
from torch.fx import Node as FxNode

from kryptondb.network.exported_graph import CannotTrace, memory_order, operator_name, value_of, writes
from kryptondb.network.operators import OPERATORS, row_named

#: Functions without a schema whose result may share memory with their first argument.
_HANDING_ON = {"getitem", "same"}


def is_idle(name: str) -> bool:
    """Whether an operator does nothing in inference, such as dropout."""
    row = row_named(name)
    return row is not None and row.idle


@cache
def shares_memory(function: Callable[..., Any] | None) -> bool:
    """Whether a function's result may lie in the memory of its first argument, and is not written there."""
    schema = getattr(function, "_schema", None)
    if schema is None:
        return getattr(function, "__name__", "") in _HANDING_ON
    row = OPERATORS.get(schema.name.split("::")[-1])
    if row is not None and row.view:
        return True
    first = schema.arguments[0].alias_info if schema.arguments else None
    return first is not None and not first.is_write and any(result.alias_info is not None for result in schema.returns)


def literal_nodes(graph: torch.fx.Graph) -> dict[FxNode, str]:
    """All nodes that run literally, on whole pictures and in their order, with the reason.

    Those that share memory written in place through a view are. A write into a tensor that has no views and is no view
    needs no such care: its result simply takes its name over. So does one into a view that nothing else is left to see,
    as in `relu_(x.flatten(1))`. Those between a tensor and an operator that reads its strides are literal, too.
    """
    families = Families(graph)
    found = {member: "writes into part of a tensor in place" for family in families.written for member in family}
    for reader in families.of_strides:
        for member in families.way_to(reader):
            found.setdefault(member, "depends on how its input lies in memory")
    return found


def lay_out(graph: torch.fx.Graph) -> None:
    """Has every tensor that is written through a view, or whose strides are read, lie as the exported network had it.

    Networks run with their channels last, where a flattened tensor is a copy: a write into that would be lost.
    """
    families = Families(graph)
    roots = dict.fromkeys(family[0] for family in families.written)
    roots.update(dict.fromkeys(root for reader in families.of_strides for root in families.roots_of(reader)))
    for root in roots:
        if isinstance(root.meta.get("val"), torch.Tensor):
            _laid_out(graph, root)


def _laid_out(graph: torch.fx.Graph, root: FxNode) -> None:
    aten = torch.ops.aten
    order = memory_order(root)
    steps: list[tuple[Any, tuple[Any, ...]]] = [(aten.contiguous.default, ())]
    if order != sorted(order):
        inverse = sorted(order, key=order.__getitem__)
        steps = [(aten.permute.default, (order,)), *steps, (aten.permute.default, (inverse,))]
    moved, added = root, []
    for function, args in steps:
        with graph.inserting_after(moved):
            value = function(value_of(moved), *args)
            moved = graph.call_function(function, (moved, *args))
        moved.meta = {**root.meta, "val": value}
        added.append(moved)
    root.replace_all_uses_with(moved, delete_user_cb=lambda user: user not in added)


class Families:
    """The values of a graph by the memory that they share: each family begins with what all others are views of.

    Attributes:
        written: families that are written in place through a view.
        of_strides: nodes that read the strides of an argument.
    """

    def __init__(self, graph: torch.fx.Graph) -> None:
        place = {fx: number for number, fx in enumerate(graph.nodes)}
        self._root: dict[FxNode, FxNode] = {}
        families: dict[FxNode, list[FxNode]] = {}
        written: dict[FxNode, None] = {}
        self.of_strides: list[FxNode] = []
        for fx in graph.nodes:
            source = fx.args[0] if fx.args and isinstance(fx.args[0], FxNode) else None
            name = operator_name(fx) if fx.op == "call_function" else ""
            into_first = writes(fx) and writes_in_place(name) and not is_idle(name)
            if writes(fx) and not writes_in_place(name):
                raise CannotTrace(f"the network writes into an argument of {name}")
            shares = source is not None and (shares_memory(_target(fx)) or into_first or is_idle(name))
            if name == "getitem":  # one of several views; of other results, each has its own memory
                shares = source is not None and self._root[source] is not source
            self._root[fx] = self._root[source] if source is not None and shares else fx
            root = self._root[fx]
            families.setdefault(root, []).append(fx)
            if fx.op == "call_function" and _reads_strides(fx, name):
                self.of_strides.append(fx)
            if into_first and source is not None:
                others = families[root][:-1]
                plain = all(member is root or _is_plain_write(member) for member in others)
                alone = all(
                    place[user] <= place[fx] for member in others if member is not source for user in member.users
                )
                if not (plain or alone):
                    written[root] = None
                if root.op == "placeholder":
                    raise CannotTrace("the network writes into its input or its weights")
        self.written = [families[fx] for fx in graph.nodes if fx in written]

    def roots_of(self, reader: FxNode) -> list[FxNode]:
        """What a node's arguments are views of."""
        return [self._root[source] for source in reader.all_input_nodes]

    def way_to(self, reader: FxNode) -> Iterator[FxNode]:
        """A node that reads strides, and the views between it and what they look into."""
        yield reader
        for source in reader.all_input_nodes:
            while source.op == "call_function" and self._root[source] is not source:
                yield source
                source = source.args[0]  # type: ignore[assignment]  # a view looks into its first argument


def _target(fx: FxNode) -> Callable[..., Any] | None:
    return fx.target if fx.op == "call_function" and callable(fx.target) else None


def _reads_strides(fx: FxNode, name: str) -> bool:
    """Whether a node's result depends on strides: operators of other libraries may expect those of the export."""
    target: Any = fx.target
    if name == "view" and getattr(target, "_overloadname", "") == "dtype":
        source, value = value_of(fx.args[0]), value_of(fx)  # type: ignore[arg-type]  # its first argument is a node
        return bool(source.element_size() != value.element_size())
    namespace = getattr(target, "namespace", "aten")
    row = row_named(name)
    reads = name in ("sym_stride", "sym_storage_offset") or (row is not None and row.strides)
    return reads or (hasattr(target, "_schema") and namespace not in ("aten", "prims", "prim"))


def _is_plain_write(fx: FxNode) -> bool:
    name = operator_name(fx) if fx.op == "call_function" else ""
    return name.endswith("_") or is_idle(name)


def writes_in_place(name: str) -> bool:
    """Whether an ATen operator of this name writes into its first argument."""
    return name.endswith("_") and not name.endswith("__")
