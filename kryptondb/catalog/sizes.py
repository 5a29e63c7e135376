"""The sizes of everything that a module from a file computes, found and bounded before any of it runs.

The module runs on torch's fake tensors, which have shapes and no memory. What would be alive at once is added up from
their storages as they come and go; what does not depend on the pictures counts for good, for it may be kept.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter, tree_map_only

from kryptondb.catalog.settings import free_memory
from kryptondb.errors import ModelError

LEAST_BOUND = 2 << 30  # bytes that a module may always hold beside its weights
BOUND_PER_INPUT = 256  # times the pictures' bytes: a VGG holds 64 of them at once
MOST_OPERATIONS = 2e13  # products for two pictures; the largest published classifiers need 4e12


class TooLarge(Exception):
    """A module would hold or compute more than it may; the message says at which operator."""


class WritesOutside(Exception):
    """A module would write into its weights or its input."""


def check_sizes(module: torch.nn.Module, shape: tuple[int, ...], path: str, hint: str) -> None:
    """Runs a module on sizes alone.

    Args:
        shape: of a batch of pictures, [N, C, H, W].
        path: the file that the module comes from, for messages.

    Raises ModelError where it cannot run on them, would hold more than its bound, or would write into its weights.
    """
    size = " x ".join(str(side) for side in shape)
    images_bytes = 4 * torch.Size(shape).numel()
    bound = max(LEAST_BOUND, min(BOUND_PER_INPUT * images_bytes, free_memory() // 2))
    counted = SizeCounter(bound)
    try:
        with torch.no_grad(), FakeTensorMode(allow_non_fake_inputs=True) as fake:
            images = torch.zeros(shape)
            with counted.of(module, images, fake):
                module(images)
    except (TooLarge, WritesOutside) as error:
        raise ModelError(f"{path} is refused: on {size} {error}", hint=hint) from None
    except Exception as error:  # torch raises whatever it meets in a graph that does not hold together
        if isinstance(error.__cause__, (TooLarge, WritesOutside)):
            raise ModelError(f"{path} is refused: on {size} {error.__cause__}", hint=hint) from None
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ModelError(f"{path} fails on an input of {size}: {first[:300]}", hint=hint) from error


class SizeCounter(TorchDispatchMode):  # type: ignore[no-untyped-call]  # as torch has it
    """Sees every operator on its way to its fake kernel, and what comes out."""

    def __init__(self, bound: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.bound = bound
        self.held = 0
        self.operations = 0.0
        self.known: set[int] = set()  # storages that are counted
        self.given: set[int] = set()  # storages of weights and pictures
        self.kept: list[Any] = []
        self.varying: set[int] = set()  # storages that depend on the pictures
        self.fake: FakeTensorMode | None = None
        self.weights: dict[int, FakeTensor] = {}

    def of(self, module: torch.nn.Module, images: torch.Tensor, fake: FakeTensorMode) -> SizeCounter:
        """Ready for a module: its weights and its pictures are known and not counted."""
        self.fake = fake
        for tensor in _tensors(module):
            self.weights[id(tensor)] = fake.from_tensor(tensor.detach())
        for tensor in (images, *self.weights.values()):
            self.given.add(_storage(tensor))
        self.varying.add(_storage(images))
        return self

    def __torch_dispatch__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        args, kwargs = tree_map_only(torch.Tensor, self._faked, (args, kwargs or {}))
        read = [value for value in tree_iter((args, kwargs)) if isinstance(value, torch.Tensor)]
        self._check_writes(function, args, kwargs)
        # Fake tensors that hold a constant's value would compute with it for real.
        result = function(*args, **kwargs)
        varies = any(_storage(tensor) in self.varying for tensor in read)
        for tensor in tree_iter(result):
            if isinstance(tensor, FakeTensor):
                tensor.constant = None
                self._count(tensor, varies, function)
        self._count_operations(function, args, result)
        return result

    def _faked(self, tensor: torch.Tensor) -> torch.Tensor:
        if isinstance(tensor, FakeTensor):
            return tensor
        known = self.weights.get(id(tensor))
        if known is not None:
            return known
        assert self.fake is not None
        return self.fake.from_tensor(tensor.detach())

    def _check_writes(self, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        schema = getattr(function, "_schema", None)
        if schema is None or not schema.is_mutable or function is torch.ops.aten.detach_.default:
            return
        for place, argument in enumerate(schema.arguments):
            if argument.alias_info is None or not argument.alias_info.is_write:
                continue
            value = args[place] if place < len(args) else kwargs.get(argument.name)
            if isinstance(value, torch.Tensor) and _storage(value) in self.given:
                raise WritesOutside(f"its operator {_name(function)} writes into its weights or its input")

    def _count(self, tensor: FakeTensor, varies: bool, function: Any) -> None:
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self.given or key in self.known:
            return
        self.known.add(key)
        size = int(storage.nbytes())
        self.held += size
        if self.held > self.bound:
            raise TooLarge(
                f"its operator {_name(function)} would raise its memory to {self.held / 2**30:,.1f} GiB,"
                f" more than {self.bound / 2**30:,.1f}"
            )
        if varies:
            self.varying.add(key)
            weakref.finalize(storage, self._freed, key, size)
        else:
            self.kept.append(storage)  # so that no other is found at its address

    def _freed(self, key: int, size: int) -> None:
        self.known.discard(key)
        self.varying.discard(key)
        self.held -= size

    def _count_operations(self, function: Any, args: tuple[Any, ...], result: Any) -> None:
        """Multiplications of what multiplies most; all else is bounded by what is held."""
        packet = getattr(function, "_overloadpacket", None)
        if packet in _PRODUCTS and isinstance(result, torch.Tensor):
            self.operations += float(result.numel()) * _PRODUCTS[packet](args)
            if self.operations > MOST_OPERATIONS:
                raise TooLarge(
                    f"its operator {_name(function)} would bring its work beyond {MOST_OPERATIONS:.0e} products"
                )


_aten = torch.ops.aten
_PRODUCTS = {
    _aten.mm: lambda args: args[0].shape[-1],
    _aten.addmm: lambda args: args[1].shape[-1],
    _aten.bmm: lambda args: args[0].shape[-1],
    _aten.baddbmm: lambda args: args[1].shape[-1],
    _aten.convolution: lambda args: args[1].numel() // max(1, args[1].shape[0]),
}


def _tensors(module: torch.nn.Module) -> Iterator[torch.Tensor]:
    yield from module.parameters()
    yield from module.buffers()
    for part in module.modules():
        yield from (value for value in vars(part).values() if isinstance(value, torch.Tensor))


def _storage(tensor: torch.Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)


def _name(function: Any) -> str:
    return str(getattr(function, "_overloadpacket", function)).removeprefix("aten.")
