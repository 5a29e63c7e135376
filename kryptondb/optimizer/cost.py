"""What a plan costs, and the device's rates that turn work into seconds."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from kryptondb.network import Network, Node, Rule
from kryptondb.network.node import Ref

#: Phases that most plans have: the unoccluded image, and the cells of a map that is computed in one go.
BASE, POSITIONS = "base", "positions"


@dataclass(frozen=True)
class Phase:
    """A part of a plan that is estimated and measured by itself.

    Attributes:
        seconds: wall-clock time that it is estimated to take.
    """

    name: str
    seconds: float


@dataclass(frozen=True)
class Cost:
    """An estimate.

    Attributes:
        seconds: wall-clock time.
        flops: floating point operations, two a multiply-add (the paper's equations 16 to 19 count one).
        memory: the most bytes of memory held at once beyond the network's weights, what allocators and libraries hold
            for it included.
        ahead: bytes that the next image's base takes where it is made meanwhile; a part of `memory` only in a plan that
            does so.
        room: bytes beyond `memory` that save time where they may be held too.
        phases: what `seconds` comes of, in the order of the run; empty where nobody tells.
    """

    seconds: float
    flops: float
    memory: int
    ahead: int = 0
    room: int = 0
    phases: tuple[Phase, ...] = ()

    def within(self, limit: int) -> Cost:
        """What it comes to where so many bytes may be held: as much of the room as they leave is memory."""
        return replace(self, memory=max(self.memory, min(self.memory + self.room, limit)), room=0)


def base_and_positions(cost: Cost, base: float) -> Cost:
    """The cost of a plan that computes the unoccluded image in so many seconds, and then all positions alike."""
    return replace(cost, phases=(Phase(BASE, base), Phase(POSITIONS, cost.seconds - base)))


@dataclass(frozen=True)
class LayerShape:
    """What a convolution's speed depends on beside how much of it is computed."""

    in_channels: int
    out_channels: int
    kernel: tuple[int, int] = (3, 3)
    stride: tuple[int, int] = (1, 1)
    groups: int = 1

    def __str__(self) -> str:
        parts = [f"{self.kernel[0]} x {self.kernel[1]}", f"{self.in_channels} -> {self.out_channels}"]
        if self.stride != (1, 1):
            y, x = self.stride
            parts.append(f"stride {y}" if y == x else f"stride {y} x {x}")
        if self.groups != 1:
            parts.append(f"{self.groups} groups")
        return ", ".join(parts)

    @property
    def flops(self) -> float:
        """Operations of one location of the output, two a multiply-add, as the sums are written down."""
        return 2.0 * (self.in_channels // self.groups) * self.out_channels * self.kernel[0] * self.kernel[1]


@dataclass(frozen=True)
class LayerRate:
    """How fast one algorithm computes one shape of layer.

    Attributes:
        algorithm: its name, such as 'direct'.
        flops_per_second: counts the operations that the algorithm itself does (for Winograd, of its products).
    """

    shape: LayerShape
    algorithm: str
    flops_per_second: float


@dataclass(frozen=True)
class Rates:
    """How fast a device is, measured once by `kryptondb.executor.calibrate` and remembered in the catalog.

    Attributes:
        flops_per_second: of a 3x3 convolution at a size that networks have.
        bytes_per_second: of a large copy between places that other work has displaced from the caches; reads and writes
            counted.
        cached_bytes_per_second: of gathering rows that are in the caches.
        cache_bytes: how much the caches keep for an operator, of what it reads and writes.
        seconds_per_call: what launching one operator costs however small its work.
        seconds_per_gather: the same for reading rectangles of the base.
        seconds_per_overlay: what one group of positions costs, whose own regions are laid over these alike.
        reduced: the same as `flops_per_second` in other precisions, by name, where the device has them.
        layers: what CALIBRATE measured of single layers; a later one of the same shape and algorithm counts.
    """

    flops_per_second: float = 1.5e11
    bytes_per_second: float = 8e9
    cached_bytes_per_second: float = 3e10
    cache_bytes: float = 2e6
    seconds_per_call: float = 1.5e-5
    seconds_per_gather: float = 6e-5
    seconds_per_overlay: float = 4e-6
    reduced: tuple[tuple[str, float], ...] = ()
    layers: tuple[LayerRate, ...] = ()

    def in_precision(self, precision: str) -> Rates:
        """The rates of work in a precision: those of float32, unless it was measured by itself."""
        general = dict(self.reduced).get(precision)
        if general is None:
            return self
        ending = f" {precision}"
        layers = tuple(
            replace(layer, algorithm=layer.algorithm.removesuffix(ending))
            for layer in self.layers
            if layer.algorithm.endswith(ending)
        )
        return replace(self, flops_per_second=general, reduced=(), layers=layers)

    def seconds(self, flops: float, moved: float, calls: float) -> float:
        """Seconds for so many operations, bytes moved and operator launches."""
        return flops / self.flops_per_second + moved / self.bytes_per_second + calls * self.seconds_per_call

    def moving(self, moved: np.ndarray, sharing: int = 1) -> np.ndarray:
        """Seconds in which operators move so many bytes each, float64 of the same shape.

        Args:
            sharing: how many such operators run side by side, and share the caches; all of them together take as long.
        """
        cached = np.minimum(moved, self.cache_bytes / sharing)
        seconds: np.ndarray = cached / self.cached_bytes_per_second + (moved - cached) / self.bytes_per_second
        return seconds

    def layer(self, shape: LayerShape, algorithm: str) -> float | None:
        """Operations a second of one algorithm on one shape of layer, or None where that was not measured."""
        return self._by_layer.get((shape, algorithm))

    @cached_property
    def _by_layer(self) -> Mapping[tuple[LayerShape, str], float]:
        return {(rate.shape, rate.algorithm): rate.flops_per_second for rate in self.layers}


#: The arguments of `aten.conv2d`, those that may be left out with what they then are.
_DEFAULTS: tuple[Any, ...] = (None, None, None, (1, 1), (0, 0), (1, 1), 1)


def shape_of(node: Node, network: Network) -> LayerShape | None:
    """The shape of a convolution, or None for every other node.

    A dilated convolution has none either: its taps lie apart, so what holds for its kernel's size does not hold for it.
    """
    if node.operator not in ("conv2d", "convolution"):
        return None
    if node.window is not None:
        _, weight, _, stride, _, dilation, groups = node.window.args
    elif node.rule is Rule.DENSE and len(node.args) > 1 and math.prod(node.shape[2:]) > 1:  # no gate's, on one place
        _, weight, _, stride, _, dilation, groups = (*node.args, *_DEFAULTS[len(node.args) :])
    else:
        return None
    constant = network.nodes[weight.index].constant if isinstance(weight, Ref) else None
    if constant is None or constant.ndim != 4 or any(step != 1 for step in dilation):
        return None
    out_channels, per_group, height, width = constant.shape
    return LayerShape(per_group * groups, out_channels, (height, width), (stride[0], stride[1]), groups)


def layer_shapes(network: Network) -> tuple[LayerShape, ...]:
    """The distinct shapes of a network's convolutions, in the order in which they run; none if it is not traced."""
    shapes = (shape_of(node, network) for node in network.nodes)
    return tuple(dict.fromkeys(shape for shape in shapes if shape is not None))
