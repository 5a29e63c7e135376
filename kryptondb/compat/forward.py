"""What is behind a forward function: the modules it calls, and whether they are still as they were."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from inspect import getclosurevars, isfunction, ismethod
from itertools import islice
from typing import Any

import torch
from torch import nn

#: How far modules are looked for behind functions and objects that hold them.
_DEEPEST = 3
_DEEPEST_IN_OBJECTS = 1  # a list or a mapping of modules, and not all that an object hangs on
_MOST_PARTS = 1_000


def modules_of(forward: object) -> list[nn.Module]:
    """The modules that a function may call: itself, what it closes over, what its object holds. Each once."""
    return list(dict.fromkeys(_found(forward, _DEEPEST)))


def _found(value: object, deepest: int) -> Iterator[nn.Module]:
    if isinstance(value, nn.Module):
        yield value
    elif deepest == 0:
        return
    elif isinstance(value, partial):
        for part in (value.func, *value.args, *value.keywords.values()):
            yield from _found(part, deepest - 1)
    elif ismethod(value):
        yield from _found(value.__self__, deepest - 1)
    elif isfunction(value):
        try:
            variables = getclosurevars(value)
        except ValueError:  # it closes over what has no value yet
            return
        for part in (*variables.nonlocals.values(), *variables.globals.values()):
            yield from _found(part, deepest - 1)
    elif isinstance(value, Mapping):
        for part in islice(value.values(), _MOST_PARTS):
            yield from _found(part, deepest - 1)
    elif isinstance(value, Sequence) and not isinstance(value, (str, bytes)):
        for part in islice(value, _MOST_PARTS):
            yield from _found(part, deepest - 1)
    elif hasattr(value, "__dict__") and not isinstance(value, type) and type(value).__module__ != "builtins":
        for part in vars(value).values():
            yield from _found(part, min(deepest - 1, _DEEPEST_IN_OBJECTS))


def state_of(modules: Sequence[nn.Module]) -> tuple[object, ...]:
    """What changes when the weights of modules do, or their mode. Compared, never kept as weights."""
    tensors = (tensor for module in modules for tensor in (*module.parameters(), *module.buffers()))
    modes = tuple(part.training for module in modules for part in module.modules())
    return (modes, tuple((id(tensor), tensor.data_ptr(), _version(tensor)) for tensor in tensors))


def _version(tensor: torch.Tensor) -> int:
    return -1 if tensor.is_inference() else tensor._version  # those have none, and cannot be trained


class Images(nn.Module):
    """A forward function as a module of images [N, C, H, W] that gives [N, numbers], whatever shape they had."""

    def __init__(self, forward: Callable[..., Any], modules: Sequence[nn.Module]) -> None:
        super().__init__()
        self.parts = nn.ModuleList(modules)  # their weights say where it runs, and in which precision
        self._call = (forward,)  # in a tuple, for a module may be registered once only

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """[N, C, H, W] -> [N, numbers]."""
        output: torch.Tensor = self._call[0](images)
        return output[:, None] if output.ndim == 1 else output.flatten(1)
