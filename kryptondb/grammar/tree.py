"""Walking a statement: the nodes inside a node."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from kryptondb.grammar.statements import Node


def children(node: Node) -> Iterator[Node]:
    """The nodes directly inside a node, in the order of its fields."""
    for field in dataclasses.fields(node):
        value = getattr(node, field.name)
        for part in value if isinstance(value, tuple) else (value,):
            if isinstance(part, Node):
                yield part


def walk(node: Node) -> Iterator[Node]:
    """The node and everything inside it, outer before inner, left to right, without recursion."""
    stack = [node]
    while stack:
        current = stack.pop()
        yield current
        stack.extend(reversed(list(children(current))))


def too_deep(node: Node, most: int) -> Node | None:
    """A node that lies more than `most` levels below the given one, or None."""
    level = [node]
    for _ in range(most + 1):
        level = [child for parent in level for child in children(parent)]
        if not level:
            return None
    return level[0]
