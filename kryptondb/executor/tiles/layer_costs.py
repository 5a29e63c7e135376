"""What each convolution costs over a tiling, directly and from differences, and which of the two is cheaper."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType

from kryptondb.executor.kernels.algorithms import blocks_for, transformable
from kryptondb.executor.kernels.winograd import Block, blocks_of, reach_of
from kryptondb.executor.tiles.footprint import is_free
from kryptondb.executor.tiles.tilings import Tiling
from kryptondb.network import Network, Node, Rule
from kryptondb.network.fused import Fusion, hands_on
from kryptondb.optimizer.cost import LayerShape, Rates, shape_of

DIRECT = "direct"
#: What CALIBRATE measures of Winograd's method: blocks whose sides are nearest to so many cells.
WINOGRAD = {4: "winograd 4", 6: "winograd 6"}
Blocks = Mapping[int, Block]
#: Rates are measured again and again on the same memory. In a query, other layers have used the caches in between,
#: which the many passes of the transforms feel, beyond what estimates count for moving what goes in and out: by trial.
_COLD = 1.1
#: What is written over where it lies need not be fetched first: about so much of what a copy of it takes.
_IN_PLACE = 0.7


def choose_blocks(
    tiling: Tiling,
    rates: Rates,
    element_bytes: int,
    accept: Callable[[Network, int, Block], bool],
    sharing: int = 1,
    fusions: Mapping[int, Fusion] = MappingProxyType({}),
) -> dict[int, Block]:
    """For each convolution that is cheaper from differences: the blocks of lowest cost among those that are accepted.

    Args:
        sharing: how many tiles run side by side and share the caches.
        fusions: activations that directly computed convolutions take in; those from differences leave them to be done.
    """
    network = tiling.network
    chosen: dict[int, Block] = {}
    for node in network.nodes:
        shape = transformable(network, node)
        if shape is None:
            continue
        direct = direct_seconds(tiling, node, rates, element_bytes, sharing)
        fusion = fusions.get(node.index)
        activation = network.nodes[fusion.activation] if fusion is not None else None
        left = direct_seconds(tiling, activation, rates, element_bytes, sharing) if activation is not None else 0.0
        ranked = sorted(
            (winograd_seconds(tiling, node, shape, block, rates, element_bytes, sharing) + left, block)
            for block in blocks_for(shape.kernel)
        )
        for seconds, block in ranked:
            if seconds >= direct:
                break
            if accept(network, node.index, block):
                chosen[node.index] = block
                break
    return chosen


def node_seconds(
    tiling: Tiling,
    blocks: Blocks,
    rates: Rates,
    element_bytes: int,
    sharing: int = 1,
    fusions: Mapping[int, Fusion] = MappingProxyType({}),
) -> Iterator[tuple[Node, float]]:
    """Every node's seconds over all tiles, without the launching of operators."""
    for node in tiling.network.nodes:
        if node.rule is Rule.CONSTANT:
            continue
        shape = transformable(tiling.network, node) if node.index in blocks else None
        if shape is not None:
            block = blocks[node.index]
            yield node, winograd_seconds(tiling, node, shape, block, rates, element_bytes, sharing)
        elif hands_on(fusions, node, blocks):
            yield node, 0.0
        else:
            yield node, direct_seconds(tiling, node, rates, element_bytes, sharing)


def flops_per_second(network: Network, node: Node, rates: Rates) -> float:
    """How fast torch computes a node: as CALIBRATE measured its shape of layer, else as a convolution in general."""
    shape = shape_of(node, network)
    rate = rates.layer(shape, DIRECT) if shape is not None else None
    return rate or rates.flops_per_second


def direct_seconds(tiling: Tiling, node: Node, rates: Rates, element_bytes: int, sharing: int = 1) -> float:
    """Seconds of a node as it stands: its operations, and what it gathers, reads and writes."""
    network = tiling.network
    computing = node.flops * tiling.total(tiling.locations(node.index)) / flops_per_second(network, node, rates)
    if node.rule is Rule.INPUT or not network.varying[node.index] or is_free(node):
        return computing
    written = node.channels * tiling.locations(node.index)
    gathered = tiling.gathered(node.index) * tiling.positions
    read = sum(network.nodes[i].channels * tiling.locations(i) for i in node.inputs if network.varying[i])
    if node.in_place is not None and network.may_write(node):
        moved = _IN_PLACE * (read + written)
    elif gathered.any():
        # Rectangles are written and read, and the regions that are laid over them are read and written. Their base is
        # in the caches, for every position reads it.
        moved = written + 2 * gathered + 2 * read
    else:
        moved = written + read
    seconds = computing + tiling.total(rates.moving(element_bytes * moved, sharing))
    return seconds + pooling_seconds(node, tiling.total(written), rates, element_bytes)


def pooling_seconds(node: Node, written: float, rates: Rates, element_bytes: int) -> float:
    """Seconds in which a pooling reads the windows of so many elements; they overlap, and lie in the caches."""
    if node.window is None or node.flops:
        return 0.0
    return element_bytes * node.window.y.size * node.window.x.size * written / rates.cached_bytes_per_second


def winograd_seconds(
    tiling: Tiling, node: Node, shape: LayerShape, block: Block, rates: Rates, element_bytes: int, sharing: int = 1
) -> float:
    """Seconds of a convolution from differences: products, and the elements that its transforms move.

    Where CALIBRATE has measured the layer, its rate covers products and transforms.
    """
    heights, widths = tiling.region(node.inputs[0])
    points = [cells + taps - 1 for cells, taps in zip(block, shape.kernel, strict=True)]
    blocks = blocks_of(heights, block[0]) * blocks_of(widths, block[1]) * tiling.positions
    products = tiling.total(blocks) * points[0] * points[1] * 2.0 * shape.in_channels * shape.out_channels
    reached = reach_of(heights, block[0], points[0]) * reach_of(widths, block[1], points[1])
    moved = 2 * (shape.in_channels * heights * widths + shape.out_channels * reached) * tiling.positions
    seconds = tiling.total(rates.moving(element_bytes * moved, sharing))
    rate = _measured(rates, shape, block)
    if rate is None:
        transforms = blocks * elements_moved(shape, block)
        weights = 2.0 * points[0] * points[1] * shape.in_channels * shape.out_channels
        seconds += tiling.total(rates.moving(element_bytes * (transforms + weights), sharing))
    return _COLD * (products / (rate or rates.flops_per_second) + seconds)


def _measured(rates: Rates, shape: LayerShape, block: Block) -> float | None:
    """Operations a second of the blocks that were measured and come nearest."""
    for side in sorted(WINOGRAD, key=lambda side: distance(block, side)):
        rate = rates.layer(shape, WINOGRAD[side])
        if rate is not None:
            return rate
    return None


def distance(block: Block, side: int) -> int:
    """How far a block is from one of so many cells along each axis that it has several along."""
    return sum(abs(cells - side) for cells in block if cells > 1)


def elements_moved(shape: LayerShape, block: Block) -> float:
    """Elements that one block's transforms read and write."""
    cells = block[0] * block[1]
    points = (block[0] + shape.kernel[0] - 1) * (block[1] + shape.kernel[1] - 1)
    return float(shape.in_channels * (4 * cells + 2 * points) + shape.out_channels * 6 * points)


def weight_elements(network: Network, blocks: Blocks) -> int:
    """Elements of all transformed weights."""
    total = 0
    for index, block in blocks.items():
        shape = transformable(network, network.nodes[index])
        assert shape is not None
        points_y, points_x = (cells + taps - 1 for cells, taps in zip(block, shape.kernel, strict=True))
        total += points_y * points_x * shape.in_channels * shape.out_channels
    return total
