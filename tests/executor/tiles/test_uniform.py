"""Tiles in few shapes: what they hold, what their regions cover, and how many shapes there are."""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from kryptondb.executor.tiles.tiles import Tile
from kryptondb.executor.tiles.tilings import Tiling, extents_of
from kryptondb.executor.tiles.uniform import MOST_KINDS, PaddedTile, UniformExtents, rounded_up
from kryptondb.network import Grid, Network, trace
from tests.networks import family


@cache
def resnet() -> Network:
    """Windows with padding and strides, and a merge."""
    return trace(family("resnet18").eval(), (3, 48, 48))


GRIDS = st.builds(
    lambda patch, stride: Grid(48, 48, (patch, patch), (stride, stride)), st.integers(2, 16), st.integers(2, 9)
)


@given(GRIDS, st.integers(0, 2**32 - 1), st.floats(0.05, 1.0), st.integers(1, 7), st.integers(1, 7))
@settings(max_examples=40, deadline=None)
def test_every_cell_asked_for_is_answered_once_and_no_other(
    grid: Grid, seed: int, share: float, tall: int, wide: int
) -> None:
    network = resnet()
    mask = np.random.default_rng(seed).random((grid.rows, grid.cols)) < share
    counts = np.zeros(mask.shape, dtype=int)
    for tile in Tiling.of(network, grid, mask, (tall, wide), uniform=True).tiles:
        assert isinstance(tile, PaddedTile)
        places = torch.as_tensor(np.stack(tile.positions(), axis=1))
        answered = tile.answers(places).numpy()
        np.testing.assert_array_equal(answered, np.stack(tile.asked.positions(), axis=1))
        np.add.at(counts, tuple(answered.T), 1)
        assert len(tile.rows) <= tall and len(tile.cols) <= wide
    assert (counts == mask).all()


@given(GRIDS, st.integers(1, 7), st.integers(1, 7))
@settings(max_examples=40, deadline=None)
def test_regions_cover_the_exact_ones_and_lie_in_the_picture(grid: Grid, tall: int, wide: int) -> None:
    network = resnet()
    exact = extents_of(network, grid)
    tiling = Tiling.of(network, grid, np.ones((grid.rows, grid.cols), dtype=bool), (tall, wide), uniform=True)
    for tile in tiling.tiles:
        rounded = tiling.extents.of(tile)
        for axis, (starts, sizes, extents, indices) in enumerate(
            (
                (rounded.ys, rounded.heights, exact.heights, tile.rows),
                (rounded.xs, rounded.widths, exact.widths, tile.cols),
            )
        ):
            first = exact.position_firsts[axis][:, indices]
            end = first + exact.position_sizes[axis][:, indices]
            assert (starts <= first).all() and (end <= starts + sizes[:, None]).all()
            assert (starts >= 0).all() and (starts + sizes[:, None] <= extents[:, None]).all()


@given(GRIDS, st.integers(1, 7), st.integers(1, 7))
@settings(max_examples=40, deadline=None)
def test_a_whole_grid_has_few_shapes_and_each_stands_for_the_sizes_of_all_regions(
    grid: Grid, tall: int, wide: int
) -> None:
    network = resnet()
    tiling = Tiling.of(network, grid, np.ones((grid.rows, grid.cols), dtype=bool), (tall, wide), uniform=True)
    assert isinstance(tiling.extents, UniformExtents)
    sizes = {}
    for tile in tiling.tiles:
        signature = b"".join(each.tobytes() for each in tiling.extents.sizes(tile))
        shape = tiling.extents.shape(tile)
        assert sizes.setdefault(shape, signature) == signature
        assert (shape.rows, shape.cols) == (len(tile.rows), len(tile.cols))
    assert len(sizes) <= MOST_KINDS**2
    assert len({(shape.rows, shape.cols) for shape in sizes}) == 1


def test_the_border_stays_cheaper_than_the_middle() -> None:
    network = resnet()
    grid = Grid(48, 48, (4, 4), (2, 2))
    mask = np.ones((grid.rows, grid.cols), dtype=bool)
    tiling = Tiling.of(network, grid, mask, (4, 4), uniform=True)
    corner, middle = (
        tiling.extents.of(tiling.tiles[number]).locations.astype(float) for number in (0, len(tiling.tiles) // 2)
    )
    assert corner.sum() < middle.sum()
    assert (
        Tiling.of(network, grid, mask, (4, 4)).flops
        <= tiling.flops
        < 1.3 * Tiling.of(network, grid, mask, (4, 4)).flops
    )


def test_what_a_node_reads_is_its_sources_region_where_a_window_of_one_cell_reads_it() -> None:
    layers = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    network = trace(layers.eval(), (3, 16, 16))
    grid = Grid(16, 16, (4, 4), (4, 4))
    tiling = Tiling.of(network, grid, np.ones((4, 4), dtype=bool), (2, 2), uniform=True)
    assert isinstance(tiling.extents, UniformExtents)
    three, one = [node for node in network.nodes if node.operator == "conv2d"]
    for tile in tiling.tiles:
        aligned = tiling.extents.shape(tile).aligned
        assert (one.index, three.index) in aligned
        assert (three.index, three.inputs[0]) not in aligned


def test_short_tiles_are_padded_to_few_lengths() -> None:
    lengths = {len(PaddedTile.of(Tile(np.arange(n), np.arange(1)), (7, 1)).rows) for n in range(1, 8)}
    assert lengths == {1, 2, 4, 7}
    assert len(PaddedTile.of(Tile(np.arange(1), np.arange(1)), (2, 1)).rows) == 2  # a run of even ones


def test_half_a_padded_tile_holds_half_of_what_was_asked() -> None:
    tile = PaddedTile.of(Tile(np.arange(7), np.arange(3)), (8, 4))
    halves = tile.halves()
    assert [half.asked.size for half in halves] == [12, 9]
    assert [half.size for half in halves] == [12, 12]
    cells = {cell for half in halves for cell in zip(*half.asked.positions(), strict=True)}
    assert cells == set(zip(*tile.asked.positions(), strict=True))
    one = PaddedTile.of(Tile(np.arange(1), np.arange(1)), (8, 4))
    assert one.size == 1 and one.halves() == [one]


@given(st.integers(0, 2**32 - 1), st.integers(1, 12), st.integers(1, 4))
def test_sizes_are_rounded_up_and_to_no_more_kinds_than_asked_for(seed: int, count: int, most: int) -> None:
    generator = np.random.default_rng(seed)
    sizes = generator.integers(1, 6, (count, 3))
    kinds, rounded = rounded_up(sizes.copy(), np.ones(count, dtype=int), np.ones(3), most)
    assert len(rounded) == min(most, len(np.unique(sizes, axis=0)))
    assert (rounded[kinds] >= sizes).all()
    for kind, size in enumerate(rounded):  # no larger than the largest of its kind
        assert (size == sizes[kinds == kind].max(axis=0)).all()


def test_those_are_joined_that_add_the_least_work() -> None:
    sizes = np.array([[2, 9], [9, 2], [8, 2]])
    kinds, rounded = rounded_up(sizes, np.array([1, 5, 1]), np.ones(2), 2)
    assert kinds[1] == kinds[2] != kinds[0]
    assert sorted(rounded.tolist()) == [[2, 9], [9, 2]]
