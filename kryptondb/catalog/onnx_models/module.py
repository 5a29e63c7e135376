"""An ONNX graph as a `torch.nn.Module`: steps in their order, each a module of its own with its constants.

The steps' names are the file's, so that EXPLAIN and `redundancy` speak of the layers as their author does. What runs is
the functions of this room and nothing else; `torch.export` walks through them as through any module.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import nn

from kryptondb.catalog.onnx_models.operation import SMALL, Function, Host, Value, host


class Step(nn.Module):
    """One operator with what it is called with.

    Args:
        kind: the operator's name in the file.
        function: on tensors, constants and computed values in ONNX's order.
        host_function: the same on host values, where the operator is one of shape arithmetic.
        constants: by place; tensors become parameters and buffers.
        arity: how many inputs there are, absent ones included.
    """

    def __init__(
        self,
        kind: str,
        function: Function,
        host_function: Function | None,
        constants: Mapping[int, Value],
        arity: int,
    ) -> None:
        super().__init__()
        self.kind, self.function, self.host_function, self.arity = kind, function, host_function, arity
        self.hosts: dict[int, Host] = {}
        self.shadows: dict[int, Host] = {}  # small constants once more, for shape arithmetic
        self.tensors: dict[int, str] = {}
        for place, value in constants.items():
            if isinstance(value, np.ndarray):
                self.hosts[place] = value
                continue
            self.tensors[place] = f"input_{place}"
            if value.is_floating_point() and value.ndim:
                self.register_parameter(self.tensors[place], nn.Parameter(value, requires_grad=False))
            else:
                self.register_buffer(self.tensors[place], value)
            if host_function is not None and value.numel() <= SMALL:
                self.shadows[place] = host(value.numpy())

    def forward(self, computed: Sequence[Value]) -> Value:
        """The result, or a tuple of several.

        Args:
            computed: for each place the computed value, None where it is constant or absent.
        """
        computed = [*computed, *[None] * (self.arity - len(computed))]
        given = [value for value in computed if value is not None]
        constants = [*self.hosts, *self.tensors]
        on_host = all(isinstance(value, np.ndarray) for value in given) and (bool(given) or not self.tensors)
        known = all(place in self.hosts or place in self.shadows for place in constants)
        if self.host_function is not None and on_host and known:
            result = self.host_function(*self._arguments(computed, {**self.hosts, **self.shadows}))
            if result is not NotImplemented:
                return result
        tensors = {place: getattr(self, name) for place, name in self.tensors.items()}
        return self.function(*self._arguments(computed, {**self.hosts, **tensors}))

    def _arguments(self, computed: Sequence[Value], constants: Mapping[int, Value]) -> list[Value]:
        values = [constants.get(place, computed[place]) for place in range(self.arity)]
        while values and values[-1] is None:
            values.pop()
        return values


class OnnxModule(nn.Module):
    """Takes pictures [N, C, H, W] and gives the file's output as scores [N, classes].

    Attributes:
        steps: names of the steps in their order.
        reads: for each step the values that it reads, None for places that are constant or absent.
        writes: for each step the values that it makes.
        flat: whether the output has sides of 1 beside the classes, which are left out.
    """

    def __init__(
        self,
        steps: Sequence[tuple[str, Step, Sequence[str | None], Sequence[str]]],
        image: str,
        output: str,
        flat: bool = False,
    ) -> None:
        super().__init__()
        self.steps = [name for name, _, _, _ in steps]
        self.reads = [tuple(reads) for _, _, reads, _ in steps]
        self.writes = [tuple(writes) for _, _, _, writes in steps]
        self.image, self.output, self.flat = image, output, flat
        for name, step, _, _ in steps:
            self.add_module(name, step)
        self.frees = last_reads(self.reads, output)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Images as the file takes them -> its outputs."""
        values: dict[str, Value] = {self.image: images}
        for name, reads, writes, frees in zip(self.steps, self.reads, self.writes, self.frees, strict=True):
            step = self.get_submodule(name)
            try:
                results = step([None if read is None else values[read] for read in reads])
            except Exception as error:
                raise RuntimeError(f"{step.kind} ({name}): {first_line(error)}") from error
            values.update(zip(writes, several(results), strict=False))
            for free in frees:
                del values[free]
        result = values[self.output]
        if not isinstance(result, torch.Tensor):
            raise RuntimeError("the output is a shape, not computed from the picture")
        return result.reshape(result.shape[0], -1) if self.flat else result


def last_reads(reads: Sequence[Sequence[str | None]], output: str) -> list[tuple[str, ...]]:
    """For each step the values that nothing reads after it."""
    last = {name: place for place, names in enumerate(reads) for name in names if name is not None}
    return [
        tuple({name for name in names if name is not None and last[name] == place and name != output})
        for place, names in enumerate(reads)
    ]


def several(results: Value) -> tuple[Value, ...]:
    """The results of a step, be it one."""
    return results if isinstance(results, tuple) else (results,)


def first_line(error: BaseException) -> str:
    """What went wrong, in one line."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0][:300]
