"""What the nodes of a tile read: rectangles of a value's base, with each position's own region laid over.

The places of `HostReads` are numbers of Python. Those of `PlacedReads` lie on the device: a pass with them runs the
same operators for every tile of one shape, so that it can be recorded.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch

from kryptondb.executor.tiles.base import Base
from kryptondb.executor.tiles.overlay import Rectangles, gathered, overlaid
from kryptondb.executor.tiles.regions_on_tensors import from_locations, laid_over_cells, lay_over, to_locations
from kryptondb.executor.tiles.tiles import TileExtents, window_extent
from kryptondb.executor.tiles.uniform import TileShape
from kryptondb.network import Network, Node, Window

#: Where rectangles of one size begin and how large they are: rows, height, columns, width.
Place = tuple[np.ndarray, int, np.ndarray, int]


class Reads(Protocol):
    """Makes what nodes read. Values are in the network's own order of dimensions, one position after the other."""

    def window(self, node: Node, source: int, value: torch.Tensor) -> torch.Tensor:
        """The read windows of a window operator: `value` is the region of its source."""

    def region(self, node: Node, source: int, value: torch.Tensor) -> torch.Tensor:
        """A branch on the region of the node that merges it."""

    def whole(self, source: int, value: torch.Tensor) -> torch.Tensor:
        """A value filled up to the whole picture."""

    def unoccluded(self, source: int) -> torch.Tensor:
        """The base in each position's region."""

    def counts(self, node: Node, like: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """How many cells an average pooling counts along each axis: [tile rows, height] and [tile columns, width]."""


@dataclass(frozen=True, eq=False)
class HostReads:
    """Reads whose places the processor knows, so that it can leave out what is not needed and copy by slices."""

    network: Network
    base: Base
    extents: TileExtents

    def window(self, node: Node, source: int, value: torch.Tensor) -> torch.Tensor:
        window, index, extents = node.window, node.index, self.extents
        assert window is not None
        if window.repeats:
            return self._read_again(node, window, source, value)
        return self._read(
            source,
            value,
            extents.ys[index] * window.y.stride - window.y.before,
            window_extent(window.y.size, window.y.stride, int(extents.heights[index])),
            extents.xs[index] * window.x.stride - window.x.before,
            window_extent(window.x.size, window.x.stride, int(extents.widths[index])),
            window.outside,
        )

    def region(self, node: Node, source: int, value: torch.Tensor) -> torch.Tensor:
        index, extents = node.index, self.extents
        height, width = int(extents.heights[index]), int(extents.widths[index])
        return self._read(source, value, extents.ys[index], height, extents.xs[index], width)

    def whole(self, source: int, value: torch.Tensor) -> torch.Tensor:
        node = self.network.nodes[source]
        ys, xs = np.zeros_like(self.extents.ys[source]), np.zeros_like(self.extents.xs[source])
        return self._read(source, value, ys, node.height, xs, node.width)

    def unoccluded(self, source: int) -> torch.Tensor:
        axes, extents = self.network.nodes[source].axes, self.extents
        assert axes is not None
        height, width = int(extents.heights[source]), int(extents.widths[source])
        table = self.base.tables[source]
        old = table.gather(extents.ys[source], height, extents.xs[source], width, scattered=extents.scattered)
        return from_locations(old, axes)

    def counts(self, node: Node, like: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        assert node.window is not None and node.window.counts is not None
        index, extents = node.index, self.extents
        counts_y, counts_x = node.window.counts
        rows = torch.as_tensor(extents.ys[index])[:, None] + torch.arange(int(extents.heights[index]))
        cols = torch.as_tensor(extents.xs[index])[:, None] + torch.arange(int(extents.widths[index]))
        return counts_y[rows].to(like.device, like.dtype), counts_x[cols].to(like.device, like.dtype)

    def _read(
        self,
        source: int,
        patch: torch.Tensor,
        ys: np.ndarray,
        height: int,
        xs: np.ndarray,
        width: int,
        outside: float = 0.0,
    ) -> torch.Tensor:
        """Rectangles of a node's value for each position: its base, with the position's own region laid over."""
        axes, extents = self.network.nodes[source].axes, self.extents
        assert axes is not None
        patch_height, patch_width = int(extents.heights[source]), int(extents.widths[source])
        shifts_y, shifts_x = extents.ys[source] - ys, extents.xs[source] - xs
        if height == patch_height and width == patch_width and not shifts_y.any() and not shifts_x.any():
            return patch
        located = to_locations(patch, axes)
        rectangles = self._unchanged(source, located, (ys, height, xs, width), outside)
        lay_over(rectangles, located, shifts_y, shifts_x, extents.scattered)
        return from_locations(rectangles, axes)

    def _read_again(self, node: Node, window: Window, source: int, patch: torch.Tensor) -> torch.Tensor:
        """What a pad shows that repeats cells beyond the ends, for each position."""
        axes, extents = self.network.nodes[source].axes, self.extents
        assert axes is not None
        ys = extents.ys[node.index][:, None] + np.arange(int(extents.heights[node.index])) - window.y.before
        xs = extents.xs[node.index][:, None] + np.arange(int(extents.widths[node.index])) - window.x.before
        located = to_locations(patch, axes)
        y, x = (torch.as_tensor(cells, device=patch.device) for cells in (window.y.cells(ys), window.x.cells(xs)))
        base = self._unchanged_cells(source, located, y, x)
        from_y, from_x = (torch.as_tensor(starts[source], device=patch.device) for starts in (extents.ys, extents.xs))
        read = laid_over_cells(base, located, y - from_y[:, None], x - from_x[:, None], extents.scattered)
        return from_locations(read, axes)

    def _unchanged_cells(self, source: int, located: torch.Tensor, y: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        """The base at cells [R, height] and [C, width], as `Table.take` has it."""
        return self.base.tables[source].take(y, x, None, self.extents.scattered)

    def _unchanged(self, source: int, located: torch.Tensor, place: Place, outside: float) -> torch.Tensor:
        """What rectangles hold where no region is, [n, height, width, *channels]; `located` are the regions."""
        return self.base.tables[source].gather(*place, outside, self.extents.scattered)


class DifferenceReads(HostReads):
    """Reads of differences: where an occlusion reaches no cell, nothing changes."""

    def _unchanged(self, source: int, located: torch.Tensor, place: Place, outside: float) -> torch.Tensor:
        _, height, _, width = place
        return located.new_zeros((located.shape[0], height, width, *located.shape[3:]))

    def _unchanged_cells(self, source: int, located: torch.Tensor, y: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        return located.new_zeros((located.shape[0], y.shape[1], x.shape[1], *located.shape[3:]))


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
