"""Which convolutions Winograd's method may compute: which it can, with what blocks, and how accurately for a layer.

Accuracy is measured on the layer's own weights and activations. Transformed weights are kept as long as their network.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Mapping
from functools import lru_cache
from weakref import WeakKeyDictionary

import torch

from kryptondb.executor.kernels.winograd import Block, Winograd, Workspace
from kryptondb.network import Network, Node
from kryptondb.network.cache import cached_on_network
from kryptondb.network.consistency import same_random_numbers_after
from kryptondb.network.differences import before_jumps
from kryptondb.network.node import Ref
from kryptondb.optimizer.cost import LayerShape, shape_of

#: Along an axis whose kernel has more than one tap, the most points: more would not be accurate in float32.
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


#: Root mean square of the error over that of the result, of one layer. Errors of layers add up like random numbers and
#: are relative to what an occlusion changes: ten layers at this bound move a logit that changes by 1 by about 6e-5.
TOLERANCE = 2e-5
#: Blocks with no longer side have transforms of small numbers, and a third of the errors of the largest ones.
SMALL = 4
_SIDE = 12
_CHANNELS = 64

_errors: WeakKeyDictionary[Network, dict[tuple[int, Block], float]] = WeakKeyDictionary()


def is_accurate(network: Network, index: int, block: Block) -> bool:
    """Whether a layer's relative error with blocks of this size is within `TOLERANCE`; the network is on the CPU."""
    return error_of(network, index, block) <= TOLERANCE


def error_of(network: Network, index: int, block: Block) -> float:
    """The relative error of one layer, computed once a network and block.

    What changes is taken to be all of the activations of an image of noise, the largest change an occlusion can make.
    """
    known = _errors.setdefault(network, {})
    if (index, block) not in known:
        known[index, block] = _measured(network, index, block)
    return known[index, block]


def _measured(network: Network, index: int, block: Block) -> float:
    node = network.nodes[index]
    weight = weight_of(network, node)
    weight = weight[:: -(-weight.shape[0] // _CHANNELS)]  # every channel out is a sum of its own
    values = _activations(network)[node.inputs[0]]
    located = values.permute(0, 2, 3, 1)[:, : max(block[0], _SIDE), : max(block[1], _SIDE)].contiguous()
    layer = Winograd.prepare(weight, block)
    _, height, width, _ = located.shape
    target = located.new_zeros(1, layer.reach(height, 0), layer.reach(width, 1), weight.shape[0])
    with torch.inference_mode():
        layer.add(located, torch.zeros_like(located), target, Workspace())
        padding = (weight.shape[2] - 1, weight.shape[3] - 1)
        exact = torch.conv2d(located.permute(0, 3, 1, 2).double(), weight.double(), padding=padding).permute(0, 2, 3, 1)
        error = target[:, : exact.shape[1], : exact.shape[2]].double() - exact
        inside = exact[:, padding[0] : height, padding[1] : width]  # where the whole kernel reads what changed
        inside = inside if inside.numel() else exact
        size = float(inside.square().mean().sqrt())
        found = float(error.square().mean().sqrt())
    if not found < float("inf"):  # not a number either
        return float("inf")
    return found / size if size > 0 else 0.0 if found == 0 else float("inf")


@cached_on_network(1)
def _activations(network: Network) -> Mapping[int, torch.Tensor]:
    """What layers read when the network sees an image of noise, [1, C, H, W] each, a corner of it."""
    wanted = {node.inputs[0] for node in network.nodes if transformable(network, node) is not None}
    like = next(n.constant for n in network.nodes if n.constant is not None and n.constant.is_floating_point())
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(1, *network.input_shape, generator=generator).to(like.device, like.dtype)
    with torch.inference_mode(), same_random_numbers_after():
        _, kept = network.run(image, keep=wanted)
    return {index: value[:, :, : 2 * _SIDE, : 2 * _SIDE].clone() for index, value in kept.items()}


_kept: WeakKeyDictionary[Network, dict[tuple[int, Block], Winograd]] = WeakKeyDictionary()


def prepared_layers(
    network: Network, blocks: Mapping[int, Block], beside: Collection[tuple[int, Block]] = ()
) -> dict[int, Winograd]:
    """The transformed weights of some convolutions, by node.

    Those of a network's last plan are kept, and no others. Where a plan has several operators, they take turns.

    Args:
        beside: what the plan's other operators need, with their blocks; what there is of it stays.
    """
    before = _kept.get(network, {})
    layers = {
        index: before.get((index, block)) or Winograd.prepare(weight_of(network, network.nodes[index]), block)
        for index, block in blocks.items()
    }
    others = {layer: weights for layer, weights in before.items() if layer in beside}
    _kept[network] = others | {(index, blocks[index]): layer for index, layer in layers.items()}
    return layers
