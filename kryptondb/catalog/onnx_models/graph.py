"""Nodes of a graph: which of them a value needs, and the branch of an `If` put in its place."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import onnx


def needed(nodes: Iterable[Any], output: str) -> list[Any]:
    """The nodes that a value depends on, in their order. What other outputs need is not looked at."""
    wanted, found = {output}, []
    for node in reversed(list(nodes)):
        if wanted.intersection(filter(None, node.output)):
            found.append(node)
            wanted.update(reads_of(node))
    return found[::-1]


def reads_of(node: Any) -> set[str]:
    """Names of the values that a node reads, those of the graphs in its attributes included."""
    names = {name for name in node.input if name}
    for graph in _graphs(node):
        own = {tensor.name for tensor in graph.initializer} | {value.name for value in graph.input}
        own |= {name for inner in graph.node for name in inner.output}
        names |= {name for inner in graph.node for name in reads_of(inner)} - own
        names |= {value.name for value in graph.output} - own
    return names


def branch(node: Any, taken: bool, prefix: str) -> tuple[list[Any], list[Any], list[str]]:
    """The branch of an `If` as nodes of the graph around it.

    Args:
        prefix: goes before every name that the branch defines, so that none is defined twice.

    Returns:
        Its initializers, renamed; its nodes, renamed; the names of its results.
    """
    wanted = "then_branch" if taken else "else_branch"
    graph = next(attribute.g for attribute in node.attribute if attribute.name == wanted)
    defined = [tensor.name for tensor in graph.initializer]
    defined += [name for inner in graph.node for name in inner.output if name]
    names = {name: prefix + name for name in defined}
    tensors = []
    for tensor in graph.initializer:
        renamed = onnx.TensorProto()
        renamed.CopyFrom(tensor)
        renamed.name = names[tensor.name]
        tensors.append(renamed)
    return tensors, [_renamed(inner, names) for inner in graph.node], [names.get(v.name, v.name) for v in graph.output]


def _renamed(node: Any, names: Mapping[str, str]) -> Any:
    renamed = onnx.NodeProto()
    renamed.CopyFrom(node)
    for values in (renamed.input, renamed.output):
        values[:] = [names.get(name, name) for name in values]
    for graph in _graphs(renamed):
        own = {tensor.name for tensor in graph.initializer} | {name for inner in graph.node for name in inner.output}
        outer = {name: new for name, new in names.items() if name not in own}
        for place, inner in enumerate(graph.node):
            graph.node[place].CopyFrom(_renamed(inner, outer))
        for value in graph.output:
            value.name = outer.get(value.name, value.name)
    return renamed


def _graphs(node: Any) -> list[Any]:
    graphs = [attribute.g for attribute in node.attribute if attribute.HasField("g")]
    return graphs + [graph for attribute in node.attribute for graph in attribute.graphs]
