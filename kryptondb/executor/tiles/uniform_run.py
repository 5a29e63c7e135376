"""Tiles in few shapes through the network, as they stand or from recorded passes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch

from kryptondb.executor.tiles.base import Base
from kryptondb.executor.tiles.placed_reads import Counts, PlacedReads, Places, counts_on_device
from kryptondb.executor.tiles.replay import Inputs, Replays
from kryptondb.executor.tiles.tile_run import TileRun
from kryptondb.executor.tiles.tiles import Tile
from kryptondb.executor.tiles.uniform import UniformExtents
from kryptondb.network import Network


@dataclass(eq=False)
class UniformRun:
    """Runs tiles of one picture.

    Attributes:
        last: the node whose value is wanted; None for the network's scores.
        tile_run: runs a tile.
        replays: recorded passes; without them every tile launches its operators one by one.
    """

    network: Network
    base: Base
    extents: UniformExtents
    last: int | None
    tile_run: type[TileRun]
    replays: Replays | None = None

    def run(self, tile: Tile, patches: torch.Tensor) -> torch.Tensor:
        """Patches [tile.size, C, h, w] -> the network's scores, or the value of the node `last`; repetitions too."""
        extents, shape = self.extents.of(tile), self.extents.shape(tile)
        places = Places.of(self.network, extents, patches.device)

        def work(inputs: Inputs) -> torch.Tensor:
            patches, ys, xs = inputs
            reads = PlacedReads(self.network, self.base, extents, shape, Places(ys, xs), self._counts)
            return self.tile_run(self.network, self.base, extents, reads=reads).run(patches, self.last)

        inputs = patches, places.ys, places.xs
        return work(inputs) if self.replays is None else self.replays.run(shape, inputs, work)

    @cached_property
    def _counts(self) -> Counts:
        return counts_on_device(self.network, self.base.output)
