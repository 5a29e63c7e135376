"""Writes in place in an exported graph: which of them reach a tensor through a view of it."""

from __future__ import annotations

import operator
from functools import partial

import torch
from torch.fx import Node as FxNode

from kryptondb.network.exported import CannotTrace, operator_name

# Dropout and its like do nothing in eval mode.
IDENTITIES = {"dropout", "dropout_", "feature_dropout", "feature_dropout_", "alpha_dropout", "feature_alpha_dropout"}
# Operators whose result may share memory with their first argument.
VIEWS = {
    *(
        "view",
        "reshape",
        "_unsafe_view",
        "flatten",
        "unflatten",
        "slice",
        "select",
        "transpose",
        "permute",
        "unsqueeze",
    ),
    *(
        "squeeze",
        "expand",
        "expand_as",
        "contiguous",
        "to",
        "alias",
        "detach",
        "getitem",
        "chunk",
        "split",
        "unbind",
        "t",
    ),
    *("split_with_sizes", "tensor_split", "hsplit", "vsplit", "narrow", "unfold", "diagonal", "view_as", "movedim"),
    *("moveaxis", "swapaxes", "swapdims", "dropout", "numpy_T", "matrix_H", "mT", "mH", "adjoint", "ravel"),
    *("broadcast_to", "unsafe_chunk", "unsafe_split", "unsafe_split_with_sizes", "real", "view_as_real"),
}


def aliased_writes(graph: torch.fx.Graph) -> set[FxNode]:
    """All nodes that share memory with one written in place through a view.

    These run literally, on whole pictures and in their order. A write into a tensor that has no views and is no view
    needs no such care: its result simply takes its name over. So does one into a view that nobody else is left to see,
    as in `relu_(x.flatten(1))`.
    """
    return {member for family in _written(graph) for member in family}


def lay_out_for_writes(graph: torch.fx.Graph) -> None:
    """Has every tensor that is written through a view lie as the exported network had it, its channels first.

    Networks run with their channels last, where a flattened tensor is a copy: a write into that would reach nobody.
    """
    for root, *_ in _written(graph):
        if not isinstance(root.meta.get("val"), torch.Tensor):
            continue
        with graph.inserting_after(root):
            moved = graph.call_function(torch.ops.aten.contiguous.default, (root,))
        moved.meta = dict(root.meta)
        root.replace_all_uses_with(moved, delete_user_cb=partial(operator.is_not, moved))


def _written(graph: torch.fx.Graph) -> list[list[FxNode]]:
    """Nodes that share memory written in place through a view, by the tensor that they are views of, which is first."""
    place = {fx: number for number, fx in enumerate(graph.nodes)}
    root: dict[FxNode, FxNode] = {}
    families: dict[FxNode, list[FxNode]] = {}
    written: set[FxNode] = set()
    for fx in graph.nodes:
        source = fx.args[0] if fx.args and isinstance(fx.args[0], FxNode) else None
        name = operator_name(fx) if fx.op == "call_function" else ""
        writes = writes_in_place(name) and name not in IDENTITIES
        if source is not None and (name in VIEWS or writes or name in IDENTITIES):
            root[fx] = root[source]
        else:
            root[fx] = fx
        families.setdefault(root[fx], []).append(fx)
        if writes and source is not None:
            others = families[root[fx]][:-1]
            plain = all(member is root[fx] or _is_plain_write(member) for member in others)
            alone = all(place[user] <= place[fx] for member in others if member is not source for user in member.users)
            if not (plain or alone):
                written.add(root[fx])
            if root[fx].op == "placeholder":
                raise CannotTrace("the network writes into its input or its weights")
    return [families[fx] for fx in graph.nodes if fx in written]


def _is_plain_write(fx: FxNode) -> bool:
    name = operator_name(fx) if fx.op == "call_function" else ""
    return name.endswith("_") or name in IDENTITIES


def writes_in_place(name: str) -> bool:
    """Whether an ATen operator of this name writes into its first argument."""
    return name.endswith("_") and not name.endswith("__")
