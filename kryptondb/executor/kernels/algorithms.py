"""Which convolutions can be computed from their differences, and what blocks they may be cut into."""

from __future__ import annotations

import itertools
from functools import lru_cache

import torch

from kryptondb.executor.kernels.winograd import Block
from kryptondb.network import Network, Node
from kryptondb.network.differences import before_jumps
from kryptondb.network.node import Ref
from kryptondb.optimizer.cost import LayerShape, shape_of

#: Along an axis whose kernel has more than one tap, at most so many points: more would not be accurate in float32.
_POINTS_OF_TWO_AXES = 8
_POINTS_OF_ONE_AXIS = 10
_LARGEST_BLOCK = 6


def transformable(network: Network, node: Node) -> LayerShape | None:
    """The shape of a convolution that Winograd's method can compute from its differences, None for every other node.

    Those go from regions to regions, with stride and dilation 1, one group, and a kernel larger than 1 x 1. Nothing may
    round what they give to whole numbers later: the method's own rounding would become steps.
    """
    shape = shape_of(node, network) if network.regional[node.index] else None
    if shape is None or shape.stride != (1, 1) or shape.groups != 1 or not blocks_for(shape.kernel):
        return None
    return None if node.index in before_jumps(network) else shape


def weight_of(network: Network, node: Node) -> torch.Tensor:
    """The weights of a convolution, [out, in, kh, kw]."""
    assert node.window is not None
    reference = node.window.args[1]
    assert isinstance(reference, Ref)
    weight = network.nodes[reference.index].constant
    assert weight is not None
    return weight


@lru_cache(maxsize=64)
def blocks_for(kernel: tuple[int, int]) -> tuple[Block, ...]:
    """Blocks of cells for a kernel; empty for 1 x 1, and where none has few enough points."""
    if kernel == (1, 1):
        return ()
    most = _POINTS_OF_ONE_AXIS if 1 in kernel else _POINTS_OF_TWO_AXES

    def along(taps: int) -> tuple[int, ...]:
        return (1,) if taps == 1 else tuple(n for n in range(2, _LARGEST_BLOCK + 1) if n + taps - 1 <= most)

    return tuple(itertools.product(along(kernel[0]), along(kernel[1])))
