"""The windows that slide over one input, of any number of dimensions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any

import numpy as np

from kryptondb.errors import ArgumentError, UnsupportedError
from kryptondb.executor.attribution import coverage


@dataclass(frozen=True)
class Windows:
    """Where a window stands on an input, its batch dimension left out: from corner 0 on, until everything is covered.

    Attributes:
        sizes: of the input; shape: of the window; strides: steps between windows. One number a dimension each.
    """

    sizes: tuple[int, ...]
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    @property
    def counts(self) -> tuple[int, ...]:
        """How many windows there are along each dimension."""
        return tuple(
            -(-(size - extent) // step) + 1
            for size, extent, step in zip(self.sizes, self.shape, self.strides, strict=True)
        )

    @property
    def total(self) -> int:
        """How many windows there are."""
        return int(np.prod(self.counts, dtype=np.int64))

    def place(self, number: int) -> tuple[slice, ...]:
        """The part of the input that a window covers; the first dimension counts fastest."""
        slices = []
        for count, extent, step in zip(self.counts, self.shape, self.strides, strict=True):
            number, at = divmod(number, count)
            slices.append(slice(at * step, at * step + extent))
        return tuple(slices)

    def coverages(self) -> list[np.ndarray]:
        """For each dimension, which cells each window covers: float64 [size, count]."""
        parts = zip(self.sizes, self.counts, self.shape, self.strides, strict=True)
        return [coverage(size, np.arange(count) * step, extent) for size, count, extent, step in parts]


def windows_of(shapes: Sequence[Sequence[int]], sliding_window_shapes: Any, strides: Any) -> list[Windows]:
    """The windows of each input, in Captum's ways to give them.

    Args:
        shapes: of the inputs, batch dimension included.
        sliding_window_shapes: a tuple of integers for one input, or a tuple of such tuples.
        strides: None (1 everywhere), an integer, a tuple of integers for one input, or a tuple with one of these for
            each input.

    Raises:
        ArgumentError: the numbers do not fit the inputs, or a stride leaves gaps between windows.
    """
    extents = sliding_window_shapes
    if not isinstance(extents, tuple):
        raise UnsupportedError(f"sliding_window_shapes must be a tuple, not {extents!r}")
    if any(isinstance(extent, float) for extent in extents):
        raise UnsupportedError(f"sliding_window_shapes must hold whole numbers, not {extents!r}")
    if len(shapes) == 1 and all(isinstance(extent, Integral) for extent in extents):
        extents = (extents,)
    steps: Any = 1 if strides is None else strides
    if len(shapes) == 1 and not (isinstance(steps, tuple) and len(steps) == 1):
        steps = (steps,)
    elif strides is None:
        steps = (1,) * len(shapes)
    for name, given in (("sliding_window_shapes", extents), ("strides", steps)):
        if not isinstance(given, tuple) or len(given) != len(shapes):
            raise ArgumentError(f"{name} must have one entry for each of {len(shapes)} inputs, not {given!r}")
    return [_windows(number, tuple(shape[1:]), extents[number], steps[number]) for number, shape in enumerate(shapes)]


def _windows(number: int, sizes: tuple[int, ...], shape: Any, strides: Any) -> Windows:
    given_steps = (strides,) * len(sizes) if isinstance(strides, Integral) else strides
    for name, given in (("sliding window", shape), ("stride", given_steps)):
        if not isinstance(given, tuple) or len(given) != len(sizes) or not all(isinstance(n, Integral) for n in given):
            raise ArgumentError(
                f"the {name} of input {number} is {given!r}: it must have {len(sizes)} integers, one for each "
                f"dimension of {sizes} behind the batch"
            )
        if any(n < 1 for n in given) and 0 not in sizes:
            raise ArgumentError(f"the {name} of input {number} is {given!r}: all its numbers must be at least 1")
    extents, steps = tuple(int(n) for n in shape), tuple(int(n) for n in given_steps)
    for size, extent, step in zip(sizes, extents, steps, strict=True):
        if extent > size:
            raise ArgumentError(f"the sliding window {shape} of input {number} is larger than the input, {sizes}")
        if extent < size and step > extent:
            raise ArgumentError(
                f"the stride {steps} of input {number} leaves gaps between windows of {shape}",
                hint="A stride may be at most as large as the window, where that is smaller than the input.",
            )
    return Windows(sizes, extents, steps)
