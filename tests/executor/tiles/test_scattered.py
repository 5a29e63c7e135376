"""Tiles of positions without a pattern: what they read is what each position would read alone."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from kryptondb.executor.operators import Full, Incremental, Thresholded
from kryptondb.executor.tiles.regions_on_tensors import Table, lay_over
from kryptondb.executor.tiles.tilings import Tiling
from kryptondb.network import Axes, Cap, Grid
from tests.executor.test_operators import run
from tests.networks import for_families, traced_family

NOISE = np.random.default_rng(0)


def test_scattered_rectangles_are_those_of_their_own_pairs_alone() -> None:
    table = Table.of(torch.randn(1, 2, 5, 6), Axes(0, 2, 3), (0.0, -3.0))
    ys, xs = np.array([-1, 0, 3, 4]), np.array([2, -2, 4, 0])
    crossed = table.gather(ys, 3, xs, 4, -3.0).view(4, 4, 3, 4, 2)
    own = torch.stack([crossed[place, place] for place in range(4)])
    assert torch.equal(table.gather(ys, 3, xs, 4, -3.0, scattered=True), own)
    patches = torch.randn(4, 2, 2, 2)
    shifts_y, shifts_x = np.array([0, 2, 0, -1]), np.array([1, 1, 1, 9])  # the last sticks out altogether
    expected = own.clone()
    for place in range(4):
        one = slice(place, place + 1)
        lay_over(expected[one], patches[one], shifts_y[one], shifts_x[one])
    lay_over(own, patches, shifts_y, shifts_x, scattered=True)
    assert torch.equal(own, expected)


@for_families("vgg11", "googlenet", "densenet121", "shufflenet_v2_x0_5")
def test_architectures_with_pools_merges_and_means_give_the_same_answer(name: str) -> None:
    subject = traced_family(name)
    network, image, size = subject.network, subject.image, subject.size
    grid = Grid(size, size, (size // 6, size // 6), (3, 3))
    mask = NOISE.random((grid.rows, grid.cols)) < 0.15
    tiling = Tiling.of(network, grid, mask, (3, 3))
    assert any(tile.scattered and tile.size > 1 for tile in tiling.tiles)
    full = run(Full(8), network, image, grid, mask)
    np.testing.assert_allclose(run(Incremental((3, 3)), network, image, grid, mask), full, atol=1e-5, rtol=0)
    capped = run(Thresholded((3, 3), cap=Cap(0.5, 0.5)), network, image, grid, mask)
    alone = run(Thresholded((1, 1), cap=Cap(0.5, 0.5)), network, image, grid, mask)
    np.testing.assert_allclose(capped, alone, atol=1e-5, rtol=0)


@given(
    st.lists(st.integers(0, 3), min_size=1, max_size=5), st.lists(st.integers(0, 2), min_size=1, max_size=4), st.data()
)
def test_windows_hold_what_is_gathered_and_evenly_spaced_ones_look_into_the_table(
    rows: list[int], cols: list[int], data: st.DataObject
) -> None:
    table = Table.of(torch.randn(1, 2, 5, 6), Axes(0, 2, 3), (0.0,))
    height, width = data.draw(st.integers(1, 2)), data.draw(st.integers(1, 4))
    ys, xs = np.array(rows), np.array(cols)
    windows = table.windows(ys, height, xs, width)
    assert torch.equal(windows.flatten(0, 1), table.gather(ys, height, xs, width))
    steps = [set(np.diff(places).tolist()) for places in (ys, xs)]
    even = all(len(each) <= 1 and min(each, default=0) >= 0 for each in steps)
    assert (windows.untyped_storage().data_ptr() == table.rows.untyped_storage().data_ptr()) == even
