"""Reads whose places lie on the device: a pass that makes them runs the same operators for every tile of one shape."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch

from kryptondb.executor.tiles.base import Base
from kryptondb.executor.tiles.overlay import gathered, overlaid
from kryptondb.executor.tiles.reads import window_extent
from kryptondb.executor.tiles.rectangles import Rectangles
from kryptondb.executor.tiles.regions_on_tensors import from_locations, laid_over_cells, to_locations
from kryptondb.executor.tiles.tiles import TileExtents
from kryptondb.executor.tiles.uniform import TileShape
from kryptondb.network import Network, Node, Window

Counts = Mapping[int, tuple[torch.Tensor, torch.Tensor]]


@dataclass(frozen=True, eq=False)
class Places:
    """What differs between tiles of one shape, as two tensors on the device.

    Attributes:
        ys: int64 [2, nodes, tile rows]: where each node's region begins, and the windows that the node reads.
        xs: int64 [2, nodes, tile columns].
    """

    ys: torch.Tensor
    xs: torch.Tensor

    @classmethod
    def of(cls, network: Network, extents: TileExtents, device: torch.device) -> Places:
        """The places of one tile."""
        windows_y = [(node.window.y.stride, node.window.y.before) if node.window else (1, 0) for node in network.nodes]
        windows_x = [(node.window.x.stride, node.window.x.before) if node.window else (1, 0) for node in network.nodes]
        return cls(_on_device(extents.ys, windows_y, device), _on_device(extents.xs, windows_x, device))


def _on_device(starts: np.ndarray, windows: list[tuple[int, int]], device: torch.device) -> torch.Tensor:
    strides, before = np.array(windows, dtype=np.int64).T[:, :, None]
    # Not waited for: else the processor would have nothing for the GPU to do when the tile before is done.
    return torch.from_numpy(np.stack([starts, starts * strides - before])).to(device, non_blocking=True)


def counts_on_device(network: Network, like: torch.Tensor) -> Counts:
    """How many cells each average pooling's outputs count, by node, where a pass can take them from."""
    return {
        node.index: (node.window.counts[0].to(like), node.window.counts[1].to(like))
        for node in network.nodes
        if node.window is not None and node.window.counts is not None
    }


@dataclass(frozen=True, eq=False)
class PlacedReads:
    """Reads for a tile of one shape.

    Attributes:
        extents: of any tile of the shape: its sizes alone are read.
        shape: says what needs no reading.
        places: where this tile's regions lie.
        counts: of average poolings.
    """

    network: Network
    base: Base
    extents: TileExtents
    shape: TileShape
    places: Places
    counts_by_node: Counts

    def window(self, node: Node, source: int, value: torch.Tensor) -> torch.Tensor:
        window, index = node.window, node.index
        assert window is not None
        if (index, source) in self.shape.aligned:
            return value
        if window.repeats:
            return self._read_again(node, window, source, value)
        height = window_extent(window.y.size, window.y.stride, int(self.extents.heights[index]))
        width = window_extent(window.x.size, window.x.stride, int(self.extents.widths[index]))
        read = Rectangles(self.places.ys[1, index], self.places.xs[1, index], height, width)
        return self._read(source, value, read, window.outside)

    def region(self, node: Node, source: int, value: torch.Tensor) -> torch.Tensor:
        if (node.index, source) in self.shape.aligned:
            return value
        return self._read(source, value, self._region(node.index))

    def whole(self, source: int, value: torch.Tensor) -> torch.Tensor:
        node = self.network.nodes[source]
        ys, xs = torch.zeros_like(self.places.ys[0, source]), torch.zeros_like(self.places.xs[0, source])
        return self._read(source, value, Rectangles(ys, xs, node.height, node.width))

    def unoccluded(self, source: int) -> torch.Tensor:
        axes = self.network.nodes[source].axes
        assert axes is not None
        return from_locations(gathered(self.base.tables[source], self._region(source)), axes)

    def counts(self, node: Node, like: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        region, (counts_y, counts_x) = self._region(node.index), self.counts_by_node[node.index]
        return counts_y[region.rows()], counts_x[region.columns()]

    def _region(self, index: int) -> Rectangles:
        height, width = int(self.extents.heights[index]), int(self.extents.widths[index])
        return Rectangles(self.places.ys[0, index], self.places.xs[0, index], height, width)

    def _read_again(self, node: Node, window: Window, source: int, value: torch.Tensor) -> torch.Tensor:
        axes, shown, changed = self.network.nodes[source].axes, self._region(node.index), self._region(source)
        assert axes is not None
        y, x = window.y.cells(shown.rows() - window.y.before), window.x.cells(shown.columns() - window.x.before)
        base = self.base.tables[source].take(y, x, None)
        patches = to_locations(value, axes)
        return from_locations(laid_over_cells(base, patches, y - changed.ys[:, None], x - changed.xs[:, None]), axes)

    def _read(self, source: int, value: torch.Tensor, read: Rectangles, outside: float = 0.0) -> torch.Tensor:
        axes = self.network.nodes[source].axes
        assert axes is not None
        patches = to_locations(value, axes)
        return from_locations(overlaid(self.base.tables[source], read, outside, patches, self._region(source)), axes)
