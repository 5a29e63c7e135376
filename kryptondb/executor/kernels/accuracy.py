"""Whether Winograd's method is accurate enough for a layer: tried on its own weights and activations."""

from __future__ import annotations

from collections.abc import Mapping
from weakref import WeakKeyDictionary

import torch

from kryptondb.executor.kernels.algorithms import transformable, weight_of
from kryptondb.executor.kernels.winograd import Block, Winograd
from kryptondb.executor.kernels.workspace import Workspace
from kryptondb.network import Network
from kryptondb.network.cache import cached_on_network
from kryptondb.network.consistency import same_random_numbers_after

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
