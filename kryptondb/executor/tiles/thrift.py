"""Ways to need less memory than the fastest plan does, tried where the memory limit rules plans out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from kryptondb.executor.kernels.winograd import Block
from kryptondb.executor.tiles.layer_costs import Blocks, weight_elements
from kryptondb.network import Network

Accept = Callable[[Network, int, Block], bool]
_HEAD_ROWS = 256  # from here on a head's weights are read seldom enough


@dataclass(frozen=True)
class Thrift:
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
THRIFT = (
    Thrift(),
    Thrift(workers=1),
    Thrift(share=0.5),
    Thrift(share=0.0, workers=1),
    Thrift(head=32, share=0.0, workers=1),
    Thrift(head=0, share=0.0, workers=1),
)
