"""Whether a module gives the same answer for the same picture: each time, and in every batch.

Only an answer that is the same each time can be called exact. That pictures of one batch change each other's answers
need not show in the answers for a few pictures: `x * (x.max() > 1)` and `if x.mean() > 0.5:` give for most batches what
they give for each picture alone, and something else where one picture decides for all. So the computation itself is
examined: a value that is computed from the pictures and has lost their number belongs to all of them together.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch
from torch.fx import Node as FxNode
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakIdKeyDictionary

from kryptondb.network.exported_graph import operator_name
from kryptondb.network.operators import OPERATORS

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
    if _reads_first_only(operator_name(fx)) and isinstance(first, FxNode):
        return [first]
    return fx.all_input_nodes


def _reads_first_only(name: str) -> bool:
    row = OPERATORS.get(name)
    return row is not None and row.first_only


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


def _run(module: Callable[[torch.Tensor], Any], pictures: torch.Tensor) -> _PictureTrace:
    followed = _PictureTrace(pictures)
    with followed, _ExitWatch(followed):
        module(pictures)
    return followed


class _PictureTrace(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's __init_subclass__
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
        read = args[:1] if _reads_first_only(name) else (args, kwargs)
        if not _makes_new(name) and any(map(self.knows, tree_leaves(read))):
            tags = getattr(func, "tags", ())
            if torch.Tag.data_dependent_output in tags or torch.Tag.dynamic_output_shape in tags:
                self.leaves = True
            for value in _tensors(result):
                self._known[value] = True
                if value.numel():
                    self.computed.append((name, tuple(value.shape)))
        return result


class _ExitWatch(TorchFunctionMode):
    """Watches for pictures that leave torch."""

    def __init__(self, followed: _PictureTrace) -> None:
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


#: Two answers are the same where they differ by less than this part of the largest number.
SAME = 1e-5
#: How often a picture is asked about once more where running the module changes something that it could depend on.
_MORE = 6

#: Arguments without which operators that may draw random numbers draw none.
_DRAW_IF = ("train", "training", "dropout_p")


def draws_random_numbers(function: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
    """Whether a call of an ATen operator draws random numbers."""
    if torch.Tag.nondeterministic_seeded not in getattr(function, "tags", ()):
        return False
    for place, argument in enumerate(function._schema.arguments):
        if argument.name in _DRAW_IF:
            return bool(args[place] if place < len(args) else kwargs.get(argument.name, argument.default_value))
    return True


def asked_twice(module: Callable[[torch.Tensor], torch.Tensor], image: torch.Tensor) -> tuple[torch.Tensor, str | None]:
    """A module's answer for an image, and why it cannot be called exact: None where it is the same each time.

    Random numbers of the caller are left as they were. A module whose buffers, counters or random numbers change while
    it runs is asked several times: it may answer differently now and then.

    Args:
        image: a batch that the module takes, with numbers in it.
    """
    with same_random_numbers_after():
        before, watch = _changing(module), _RandomWatch()
        with watch:
            first = module(image.clone())  # it may write into what it is given
        if watch.operator:
            return first, f"it draws random numbers ({watch.operator})"
        answers = [module(image.clone())]
        if _changing(module) != before:
            answers += [module(image.clone()) for _ in range(_MORE)]
    return first, next(filter(None, (why_differs(first, answer) for answer in answers)), None)


def why_differs(one: torch.Tensor, other: torch.Tensor) -> str | None:
    """Why two answers about one picture are not the same, None where they are."""
    differ = _difference(one, other)
    if differ <= SAME:
        return None
    much = f"scores that differ by {differ:.2g} of the largest" if differ < float("inf") else "something else"
    return f"run twice on one picture, it gives {much}"


def _difference(one: torch.Tensor, other: torch.Tensor) -> float:
    """The largest difference of two outputs as a part of the largest number; infinite where shapes or NaN differ."""
    if one.shape != other.shape:
        return float("inf")
    one, other = one.double(), other.double()
    if torch.equal(one, other):
        return 0.0
    finite = one.isfinite()
    # NaN and infinities must stand in the same places.
    if not torch.allclose(one.masked_fill(finite, 0.0), other.masked_fill(finite, 0.0), equal_nan=True):
        return float("inf")
    largest = float(one[finite].abs().max()) if finite.any() else 0.0
    apart = (one - other)[finite].abs()
    farthest = float(apart.max()) if len(apart) else 0.0
    return farthest / largest if largest else (float("inf") if farthest else 0.0)


class _RandomWatch(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's __init_subclass__
    """Watches one thread's operators: the first that draws random numbers."""

    operator: str

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.operator = ""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if not self.operator and draws_random_numbers(func, args, kwargs or {}):
            self.operator = str(func)
        return func(*args, **(kwargs or {}))


def _changing(module: object) -> tuple[Any, ...]:
    """What a run of a module may change: versions of its tensors, numbers it keeps, random numbers outside torch."""
    parts = list(module.modules()) if isinstance(module, torch.nn.Module) else []
    tensors = [tensor for part in parts for tensor in (*part.buffers(False), *part.parameters(False))]
    versions = tuple((id(tensor), 0 if tensor.is_inference() else tensor._version) for tensor in tensors)
    kept = tuple(
        (name, value)
        for part in parts
        for name, value in vars(part).items()
        if isinstance(value, (bool, int, float, str))
    )
    # What modules draw outside torch shows here; torch's own is watched operator by operator.
    numbers: Any = np.random.get_state()
    return versions, kept, (numbers[1].tobytes(), numbers[2]), random.getstate()


@contextmanager
def same_random_numbers_after() -> Iterator[None]:
    """The random numbers of torch, numpy and Python go on where they were, once it is left."""
    states = list(_random_states())
    try:
        yield
    finally:
        for get, put, before in states:
            if _differ(get(), before):
                put(before)


def _random_states() -> Iterator[tuple[Callable[[], Any], Callable[[Any], object], Any]]:
    """How to read and to set the state of each generator that modules share, and the state itself."""
    shared: list[tuple[Callable[[], Any], Callable[[Any], object]]] = [
        (torch.get_rng_state, torch.set_rng_state),
        (np.random.get_state, np.random.set_state),
        (random.getstate, random.setstate),
    ]
    cuda: Any = torch.cuda
    for device in range(cuda.device_count() if cuda.is_initialized() else 0):
        shared.append((partial(cuda.get_rng_state, device), partial(cuda.set_rng_state, device=device)))
    return ((get, put, get()) for get, put in shared)


def _differ(one: Any, other: Any) -> bool:
    if isinstance(one, torch.Tensor):
        return not torch.equal(one, other)
    if isinstance(one, np.ndarray):
        return not np.array_equal(one, other)
    if isinstance(one, tuple) and one and isinstance(one[0], str):  # numpy's
        return any(_differ(*pair) for pair in zip(one, other, strict=True))
    return bool(one != other)
