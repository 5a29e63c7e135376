"""The memory that a plan may hold (what is alive at its peak, and what allocators add), and ways to need less of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from kryptondb.executor.kernels.winograd import Block
from kryptondb.executor.tiles.base import base_bytes, bytes_for_differences, nodes_for_differences, read_nodes
from kryptondb.executor.tiles.costs import Blocks, guessed_elements, weight_elements
from kryptondb.executor.tiles.tile_memory import DifferenceMemory, TileMemory, whole_peak
from kryptondb.executor.tiles.tilings import Tiling
from kryptondb.network import Network
from kryptondb.optimizer.cost import Cost
from kryptondb.optimizer.workload import BASE_BYTES

#: Freed blocks of other sizes lie between those alive; `MemoryGuard` gives them back where they would be more.
_SCATTERED = 0.25
#: Giving gaps back costs touching memory anew: a third of the speed where a small plan has no more room than that.
_ROOM = 256 << 20
#: What freed blocks grow to where nothing is given back, as a part of what is alive, by trial. Glibc seldom puts a
#: tensor where one of the same size was: it looks for a gap that is larger, because tensors are aligned.
_PLENTY = 6
#: What libraries keep for each thread (packed matrices, compiled kernels), measured.
_LIBRARIES = 20 << 20
#: Weights while they are transformed: in twice the precision, turned, multiplied step by step.
_TRANSFORMING = 2.5


@dataclass(frozen=True)
class Footprint:
    """A plan's memory beyond the network's weights.

    Attributes:
        alive: the most bytes of tensors alive at once.
        needed: what each node allocates at most, by node.
        base: the most bytes alive while the unoccluded image runs and its base is made.
    """

    alive: int
    needed: tuple[int, ...]
    base: int = 0

    @property
    def budget(self) -> int:
        """Bytes that the process has to be allowed for it: a run keeps to them, where its plan is not allowed more."""
        return int(self.alive * (1 + _SCATTERED)) + min(self.alive, _ROOM) + _LIBRARIES

    @property
    def room(self) -> int:
        """Bytes beyond the budget with which hardly anything is given back and touched anew, half of the time else."""
        return max(0, _PLENTY * self.alive - self.budget)

    def cost(self, seconds: float, flops: float, device: str) -> Cost:
        """An estimate with this memory; only on a CPU there is use for room."""
        return Cost(seconds, flops, self.budget, self.ahead, self.room if device == "cpu" else 0)

    @property
    def ahead(self) -> int:
        """Bytes for the next image's base, made beside it by a thread of its own."""
        return int(self.base * (1 + _SCATTERED)) + _LIBRARIES


def full_footprint(network: Network, batch: int, element_bytes: int) -> Footprint:
    """Of `batch` images through the whole network, and their patches."""
    if not network.traced:  # a guess; nothing is known of its nodes
        return Footprint(batch * guessed_elements(network) * element_bytes, ())
    alive, needed = whole_peak(network, batch, element_bytes)
    base, _ = whole_peak(network, 1, element_bytes)
    return Footprint(alive, tuple(needed), base)


def incremental_footprint(
    tiling: Tiling,
    blocks: Blocks,
    element_bytes: int,
    together: int,
    head: int | None,
    workers: int,
    rounded: bool = False,
) -> Footprint:
    """Of tiles, as many side by side as there are workers.

    Args:
        together: the most positions that run through the head together.
        head: the node that the head begins behind; None where every tile runs to the end.
        rounded: whether regions are differences of `element_bytes`, beside a base in float32.
    """
    network = tiling.network
    kept = base_bytes(network, element_bytes, blocks)
    read, memory_of, vectors = set(read_nodes(network, blocks)), TileMemory, element_bytes
    if rounded:
        kept = bytes_for_differences(network, BASE_BYTES, element_bytes)
        read, memory_of, vectors = nodes_for_differences(network), DifferenceMemory, BASE_BYTES
    full, _ = whole_peak(network, 1, vectors, read)
    weights = weight_elements(network, blocks) * element_bytes
    largest = max((weight_elements(network, {index: block}) for index, block in blocks.items()), default=0)
    preparing = weights + int(_TRANSFORMING * largest * element_bytes)
    needed = np.zeros(len(network.nodes), dtype=np.int64)
    workspace: dict[str, int] = {}
    tiles = 0
    for tile in tiling.largest():
        memory = memory_of(network, tiling.extents.of(tile), blocks, element_bytes)
        tiles = max(tiles, memory.run(network.output if head is None else head))
        needed = np.maximum(needed, memory.needed)
        for name, size in memory.workspace.items():
            workspace[name] = max(workspace.get(name, 0), size)
    heads = waiting = 0
    if head is not None:
        vector = network.nodes[head].channels * vectors
        behind = (node for node in network.nodes[head + 1 :] if network.varying[node.index])
        heads = together * (2 * vector + sum(node.channels * vectors for node in behind))
        # Vectors of the tiles that are done: of one group, and where workers run ahead of the head, of the next.
        waiting = (together * min(2, workers) - int(tiling.positions.max(initial=0))) * vector
    running = weights + workers * (sum(workspace.values()) + tiles) + max(0, waiting)
    running += heads if workers > 1 else max(0, heads - tiles - max(0, waiting))
    alive = max(full + kept, kept + max(preparing, running))
    return Footprint(
        alive, tuple((workers * needed).tolist()), full + kept
    )  # each may be about to take as much at once


Accept = Callable[[Network, int, Block], bool]
_HEAD_ROWS = 256  # from here on a head's weights are read seldom enough


@dataclass(frozen=True)
class MemorySaving:
    """What a plan goes without.

    Attributes:
        head: the most positions whose heads run together.
        share: how many of the layers that are faster from differences are computed so, those of the smallest
            transformed weights.
        workers: the most tiles side by side.
    """

    head: int = _HEAD_ROWS
    share: float = 1.0
    workers: int = 1 << 10

    def blocks(self, network: Network, blocks: Blocks) -> dict[int, Block]:
        """The layers that still are computed from differences."""
        by_weight = sorted(blocks, key=lambda index: weight_elements(network, {index: blocks[index]}))
        kept = set(by_weight[: round(self.share * len(by_weight))])
        return {index: block for index, block in blocks.items() if index in kept}


#: The first that leaves all settings of tiles possible is the last that is tried.
MEMORY_SAVINGS = (
    MemorySaving(),
    MemorySaving(workers=1),
    MemorySaving(share=0.5),
    MemorySaving(share=0.0, workers=1),
    MemorySaving(head=32, share=0.0, workers=1),
    MemorySaving(head=0, share=0.0, workers=1),
)
