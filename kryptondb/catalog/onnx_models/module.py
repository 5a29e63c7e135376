"""An ONNX graph as a `torch.nn.Module`: steps in their order, each a module of its own with its constants.

The steps' names are the file's, so that EXPLAIN and `redundancy` speak of the layers as their author does. What runs is
the functions of this room and nothing else; `torch.export` walks through them as through any module.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import nn

from kryptondb.catalog.onnx_models.operation import SMALL, Function, Host, Refused, Value, host

MAX_VALUES = 1 << 31  # numbers of one value: 8 GB


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
        given = [value for value in computed if value is not None]
        constants = [*self.hosts, *self.tensors]
        on_host = all(isinstance(value, np.ndarray) for value in given) and (bool(given) or not self.tensors)
        known = all(place in self.hosts or place in self.shadows for place in constants)
        if self.host_function is not None and on_host and known:
            return self.host_function(*self._arguments(computed, {**self.hosts, **self.shadows}))
        tensors = {place: getattr(self, name) for place, name in self.tensors.items()}
        return self.function(*self._arguments(computed, {**self.hosts, **tensors}))

    def _arguments(self, computed: Sequence[Value], constants: Mapping[int, Value]) -> list[Value]:
        values = [constants.get(place, computed[place]) for place in range(self.arity)]
        while values and values[-1] is None:
            values.pop()
        return values


class OnnxModule(nn.Module):
    """Takes pictures [N, C, H, W] and gives what the file's output is.

    Attributes:
        steps: names of the steps in their order.
        reads: for each step the values that it reads, None for places that are constant or absent.
        writes: for each step the values that it makes.
    """

    def __init__(
        self,
        steps: Sequence[tuple[str, Step, Sequence[str | None], Sequence[str]]],
        image: str,
        output: str,
    ) -> None:
        super().__init__()
        self.steps = [name for name, _, _, _ in steps]
        self.reads = [tuple(reads) for _, _, reads, _ in steps]
        self.writes = [tuple(writes) for _, _, _, writes in steps]
        self.image, self.output = image, output
        for name, step, _, _ in steps:
            self.add_module(name, step)
        last = {name: place for place, reads in enumerate(self.reads) for name in reads if name is not None}
        self.frees = [
            tuple({name for name in reads if name is not None and last[name] == place and name != output})
            for place, reads in enumerate(self.reads)
        ]

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Images as the file takes them -> its outputs."""
        values: dict[str, Value] = {self.image: images}
        for name, reads, writes, frees in zip(self.steps, self.reads, self.writes, self.frees, strict=True):
            step = self.get_submodule(name)
            try:
                results = step([None if read is None else values[read] for read in reads])
            except Exception as error:
                raise RuntimeError(f"{step.kind} ({name}): {_first_line(error)}") from error
            for written, result in zip(writes, results if isinstance(results, tuple) else (results,), strict=False):
                if isinstance(result, torch.Tensor) and result.numel() > MAX_VALUES:
                    raise Refused(f"{step.kind} ({name}) would make {tuple(result.shape)} numbers")
                values[written] = result
            for free in frees:
                del values[free]
        result = values[self.output]
        if not isinstance(result, torch.Tensor):
            raise RuntimeError("the output is a shape, not computed from the picture")
        return result


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0][:300]
