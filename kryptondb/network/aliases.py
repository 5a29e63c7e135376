"""Writes in place in an exported graph: which of them reach a tensor through a view of it."""

from __future__ import annotations

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
    *("split_with_sizes", "narrow", "unfold", "diagonal", "view_as", "movedim", "swapaxes", "dropout", "numpy_T", "mT"),
}


def aliased_writes(graph: torch.fx.Graph) -> set[FxNode]:
    """All nodes that share memory with one written in place through a view.

    These run literally, on whole pictures and in their order. A write into a tensor that has no views and is no view
    needs no such care: its result simply takes its name over.
    """
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
            plain = all(
                member is source or _is_plain_write(member) or member is root[fx] for member in families[root[fx]][:-1]
            )
            if not plain:
                written.add(root[fx])
            if root[fx].op == "placeholder":
                raise CannotTrace("the network writes into its input or its weights")
    return {member for family in written for member in families[family]}


def _is_plain_write(fx: FxNode) -> bool:
    name = operator_name(fx) if fx.op == "call_function" else ""
    return name.endswith("_") or name in IDENTITIES


def writes_in_place(name: str) -> bool:
    """Whether an ATen operator of this name writes into its first argument."""
    return name.endswith("_") and not name.endswith("__")
