"""The seconds that tiles and whole images take: convolutions (direct and from differences), overheads, memory traffic.

A tile costs something however small its work: operators are launched, rectangles gathered, weights read. A run on
differences also reads the base, and computes whole values at clamps.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType

import numpy as np

from kryptondb.executor.kernels.choice import blocks_for, transformable, weight_of
from kryptondb.executor.kernels.winograd import Block, blocks_of, reach_of
from kryptondb.executor.tiles.base import tables_of_clamp
from kryptondb.executor.tiles.tilings import Tiling
from kryptondb.network import Network, Node, Rule
from kryptondb.network.aliases import shares_memory
from kryptondb.network.differences import effects_of
from kryptondb.network.fused import Fusion, hands_on
from kryptondb.optimizer.cost import LayerShape, Rates, shape_of
from kryptondb.optimizer.workload import BASE_BYTES

DIRECT = "direct"
#: What CALIBRATE measures of Winograd's method: blocks whose sides are nearest to these numbers of cells.
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
    """Seconds in which a pooling reads the windows of `written` elements; they overlap, and lie in the caches."""
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
        transforms = blocks * transform_elements(shape, block)
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
    """How far a block's sides are from `side` cells, over the axes along which it has several."""
    return sum(abs(cells - side) for cells in block if cells > 1)


def transform_elements(shape: LayerShape, block: Block) -> float:
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


def guessed_elements(network: Network) -> int:
    """Elements alive at once in a full inference of one image by a network that is not traced: a rough guess."""
    channels, height, width = network.input_shape
    return 64 * height * width + channels * height * width


def elements_moved(network: Network, node: Node) -> int:
    """Elements that a node reads and writes for one whole image; weights are not counted."""
    if node.rule in (Rule.CONSTANT, Rule.INPUT, Rule.SIZE) or not network.varying[node.index] or is_free(node):
        return 0
    return value_elements(node) + sum(value_elements(network.nodes[i]) for i in node.inputs if network.varying[i])


def value_elements(node: Node) -> int:
    """Elements of a node's value for one image."""
    return node.channels * node.height * node.width


def is_free(node: Node) -> bool:
    """Whether a node moves nothing: its value looks into its input's memory."""
    return shares_memory(node.function) and not node.fresh


#: Rates are measured in loops that do nothing else. In a query all that surrounds an operator (where its region lies,
#: what it reads, which algorithm takes it) finds other things in the caches. A node costs about so many launches, one
#: that is computed from differences so many, and a read so many gathers: fitted to five networks, in tiles of 1 to 36
#: positions.
_CALLS, _CALLS_OF_DIFFERENCES, _GATHERS = 16, 32, 8
#: How often a tile's weights pass through memory, at the rate of a copy: torch lays them out anew for each convolution
#: on a CPU, while transformed ones are read as they lie. Fitted with the above.
_PASSES, _PASSES_OF_DIFFERENCES = 4.0, 2.0


def overhead_seconds(
    tiling: Tiling,
    blocks: Blocks,
    rates: Rates,
    sharing: int,
    fusions: Mapping[int, Fusion],
) -> float:
    """Seconds that all tiles take beside their work.

    Args:
        sharing: how many tiles run side by side. Most of it is spent outside of Python, which runs one line at a time.
        fusions: activations that directly computed convolutions take in.
    """
    network = tiling.network
    steps = cell_steps(network)
    grid = tiling.extents.regions.grid
    examples = [tiling.tiles[number] for number in tiling.examples.tolist()]
    rows = np.array([len(tile.rows) for tile in examples])
    cols = np.array([len(tile.cols) for tile in examples])
    calls = np.zeros(len(examples))
    gathers, overlays = calls.copy(), calls.copy()
    for node in network.nodes:
        if node.rule is Rule.CONSTANT or not network.varying[node.index] or hands_on(fusions, node, blocks):
            continue
        calls += _CALLS_OF_DIFFERENCES if node.index in blocks else _CALLS
        reads = _reads(tiling, node, blocks)
        gathers += _GATHERS * reads
        if node.rule is not Rule.AVERAGE and node.index not in blocks:
            kinds = [step // math.gcd(step, along) for step, along in zip(steps[node.index], grid.stride, strict=True)]
            groups = np.minimum(rows, kinds[0]) * np.minimum(cols, kinds[1])
            overlays += reads * np.minimum(groups, tiling.positions)
    totals = (tiling.total(of_kinds) for of_kinds in (calls, gathers, overlays))
    costs = (rates.seconds_per_call, rates.seconds_per_gather, rates.seconds_per_overlay)
    return sum(total * cost for total, cost in zip(totals, costs, strict=True)) / sharing


def weights_seconds(
    tiling: Tiling, blocks: Blocks, rates: Rates, element_bytes: int, head: int | None, heads: int, device: str
) -> float:
    """Seconds in which weights are read: once a tile, the head's `heads` times.

    Args:
        element_bytes: of a transformed weight.
        head: the node that several tiles' head begins with, if they share one.
        device: a torch device string.
    """
    network = tiling.network
    of_head = _constant_bytes(network, head)
    transformed = sum(weight_of(network, network.nodes[index]).nbytes for index in blocks)
    passes = _PASSES if device == "cpu" else 1.0
    of_tile = passes * max(0, network.parameter_bytes - of_head - transformed)  # layers may share a weight
    of_tile += _PASSES_OF_DIFFERENCES * weight_elements(network, blocks) * element_bytes
    return rates.seconds(0.0, tiling.count * of_tile + heads * passes * of_head, 0)


def _constant_bytes(network: Network, head: int | None) -> int:
    """Bytes of the constants that a head reads; of none without one."""
    if head is None:
        return 0
    read = {i for node in network.nodes[head + 1 :] for i in node.inputs}
    constants = (network.nodes[i].constant for i in read)
    return sum(constant.nbytes for constant in constants if constant is not None)


def _reads(tiling: Tiling, node: Node, blocks: Blocks) -> np.ndarray:
    """How often a tile of each kind gathers rectangles for a node, int64 [kinds]."""
    network = tiling.network
    if node.rule is Rule.MERGE and network.regional[node.index]:
        branches = [i for i in node.inputs if network.regional[i]]
        reads: np.ndarray = np.sum([tiling.completes(i, node.index) for i in branches], axis=0)
        return reads
    gathers = node.index in blocks or node.rule is Rule.AVERAGE or bool(tiling.gathered(node.index).any())
    return np.full(len(tiling.counts), int(gathers))


def cell_steps(network: Network) -> list[tuple[int, int]]:
    """For each node, how many pixels lie between neighboring cells, down and across; 1 where there are none."""
    steps: list[tuple[int, int]] = []
    for node in network.nodes:
        before = [steps[i] for i in node.inputs if network.regional[i]]
        y, x = max((step[0] for step in before), default=1), max((step[1] for step in before), default=1)
        if node.window is not None and network.regional[node.index]:
            y, x = y * node.window.y.stride, x * node.window.x.stride
        steps.append((y, x))
    return steps


#: Tensors in the base's precision that are read or written for each input that is made whole (its base is gathered and
#: added to), and for each output (computed, its base gathered and taken away, rounded).
_FOR_INPUT, _FOR_OUTPUT = 4, 6


def difference_seconds(tiling: Tiling, rates: Rates, element_bytes: int, sharing: int = 1) -> float:
    """Seconds over all tiles.

    Args:
        element_bytes: of one difference.
        sharing: how many tiles run side by side and share the caches.
    """
    network = tiling.network
    effects, steps = effects_of(network), cell_steps(network)
    stride = tiling.extents.regions.grid.stride
    seconds = 0.0
    for node in network.nodes:
        index = node.index
        if index in effects.clamps:
            tables = tables_of_clamp(effects.clamps[index])
            even = all(along % step == 0 for along, step in zip(stride, steps[index], strict=True))
            height, width = tiling.region(index)
            gathered = ((height != node.height) | (width != node.width)) & (not even)
            # Each table is read beside the value; where regions do not lie evenly spaced it is gathered first.
            moved = element_bytes * node.channels * tiling.locations(index) * tables * (1.0 + 2.0 * gathered)
            calls = tables * tiling.count
            seconds += tiling.total(rates.moving(moved, sharing)) + calls * rates.seconds_per_call
            seconds += tables * tiling.total(gathered) * rates.seconds_per_gather
        elif index in effects.whole:
            elements = _FOR_OUTPUT * node.channels * tiling.locations(index)
            regions = [network.nodes[source] for source in node.inputs if network.regional[source]]
            for source in regions:
                elements = elements + _FOR_INPUT * source.channels * tiling.locations(source.index)
            seconds += tiling.total(rates.moving(BASE_BYTES * elements.astype(float), sharing))
            launched = (1 + len(regions)) * tiling.count
            seconds += launched * (rates.seconds_per_call + rates.seconds_per_gather)
    return seconds


def whole_seconds(
    network: Network,
    batch: int,
    rates: Rates,
    element_bytes: int,
    fusions: Mapping[int, Fusion] = MappingProxyType({}),
) -> float:
    """Seconds of one inference of `batch` images together; what is in `fusions` runs inside its convolution."""
    if not network.traced:  # a guess; nothing is known of its nodes
        moved = 2.0 * guessed_elements(network) * element_bytes
        return rates.seconds(batch * network.flops, batch * moved + network.parameter_bytes, 1)
    computing = sum(node.total_flops / flops_per_second(network, node, rates) for node in network.nodes if node.flops)
    computing += sum(pooling_seconds(node, value_elements(node), rates, element_bytes) for node in network.nodes)
    moved_by = [0 if hands_on(fusions, node) else elements_moved(network, node) for node in network.nodes]
    elements = np.array(moved_by, dtype=np.float64)
    moving = float(rates.moving(batch * element_bytes * elements).sum())
    return batch * computing + moving + rates.seconds(0.0, network.parameter_bytes, len(network.nodes))
