"""Whether pictures of one batch may change each other's answers, which asking about a few pictures need not show.

`x * (x.max() > 1)` and `if x.mean() > 0.5:` say the same of most batches as of their pictures one by one, and something
else where one picture decides for all. So what is computed is looked at: a value that comes of the pictures and has
lost their number is one of all of them together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch.fx import Node as FxNode
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakIdKeyDictionary

from kryptondb.network.exported import operator_name

#: Operators that take numbers of their first argument alone: of others their type, their shape or where they lie.
_LIKE_OTHERS = {"type_as", "to", "view_as", "reshape_as", "expand_as", "sum_to_size", "_to_copy"}
#: How tensors leave torch: what becomes of their numbers then cannot be seen.
_LEAVING = {torch.Tensor.numpy, torch.Tensor.tolist, torch.Tensor.__array__, torch.Tensor.__dlpack__}


def mixes_in_graph(exported: torch.export.ExportedProgram) -> bool:
    """Whether an exported graph computes a value of all pictures together that its output depends on."""
    nodes = list(exported.graph.nodes)
    pictures: set[FxNode] = {
        fx for fx in nodes if fx.op == "placeholder" and fx.name in exported.graph_signature.user_inputs
    }
    together: set[FxNode] = set()
    for fx in nodes:
        if fx.op == "call_function" and any(source in pictures for source in _read(fx)):
            values = [value for value in tree_leaves(fx.meta.get("val")) if isinstance(value, torch.Tensor)]
            if values and not _makes_new(operator_name(fx)):
                pictures.add(fx)
                if any(_has_lost_number(value) for value in values):
                    together.add(fx)
    needed = {fx for fx in nodes if fx.op == "output"}
    for fx in reversed(nodes):
        if fx in needed:
            needed.update(fx.all_input_nodes)
    return bool(together & needed)


def _read(fx: FxNode) -> Iterable[FxNode]:
    """The nodes whose numbers a node reads."""
    first = fx.args[0] if fx.args else None
    if operator_name(fx) in _LIKE_OTHERS and isinstance(first, FxNode):
        return [first]
    return fx.all_input_nodes


def _makes_new(name: str) -> bool:
    """Whether an operator takes nothing but the type and the place of what it is given."""
    return name.startswith("new_")


def _has_lost_number(value: torch.Tensor) -> bool:
    return all(isinstance(size, int) for size in value.shape) and value.numel() > 0


def mixes_when_run(module: Callable[[torch.Tensor], Any], pictures: torch.Tensor) -> bool:
    """Whether a module that runs as it stands reads numbers of its pictures or computes with all of them together.

    Args:
        module: takes batches of one and of two.
        pictures: two of them, [2, C, H, W].
    """
    alone, both = _run(module, pictures[:1].clone()), _run(module, pictures.clone())
    if alone.leaves or both.leaves:
        return True
    if [name for name, _ in alone.computed] != [name for name, _ in both.computed]:
        return False  # it takes its pictures one by one
    pairs = zip(alone.computed, both.computed, strict=True)
    return any(one == other for (_, one), (_, other) in pairs)


def _run(module: Callable[[torch.Tensor], Any], pictures: torch.Tensor) -> _Followed:
    followed = _Followed(pictures)
    with followed, _Leaving(followed):
        module(pictures)
    return followed


class _Followed(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's __init_subclass__
    """Follows pictures through the operators of one thread.

    Attributes:
        computed: each operator that computed with them, and the shape of each result.
        leaves: whether a number of theirs, or a size that depends on their numbers, was read.
    """

    def __init__(self, pictures: torch.Tensor) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.computed: list[tuple[str, tuple[int, ...]]] = []
        self.leaves = False
        self._known = WeakIdKeyDictionary()
        self._known[pictures] = True

    def knows(self, value: object) -> bool:
        """Whether a tensor comes of the pictures."""
        return isinstance(value, torch.Tensor) and value in self._known

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        name = func._schema.name.split("::")[-1]
        read = args[:1] if name in _LIKE_OTHERS else (args, kwargs)
        if not _makes_new(name) and any(map(self.knows, tree_leaves(read))):
            tags = getattr(func, "tags", ())
            if torch.Tag.data_dependent_output in tags or torch.Tag.dynamic_output_shape in tags:
                self.leaves = True
            for value in _tensors(result):
                self._known[value] = True
                if value.numel():
                    self.computed.append((name, tuple(value.shape)))
        return result


class _Leaving(TorchFunctionMode):
    """Watches for pictures that leave torch."""

    def __init__(self, followed: _Followed) -> None:
        super().__init__()
        self._followed = followed

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func in _LEAVING and args and self._followed.knows(args[0]):
            self._followed.leaves = True
        return func(*args, **(kwargs or {}))


def _tensors(values: object) -> Iterator[torch.Tensor]:
    return (value for value in tree_leaves(values) if isinstance(value, torch.Tensor))
