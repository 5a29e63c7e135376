"""Cells of a grid by the kinds of its rows and columns are the same cells."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from kryptondb.network import Grid
from kryptondb.optimizer.grid_cells import CellsByKind, GridCells
from kryptondb.optimizer.workload import cells_of, mask_of_runs, runs_of_mask

SEEDS = st.integers(0, 999)


def drawn(seed: int) -> np.ndarray:
    """A mask with and without a pattern, of up to 12 x 12 cells, full and empty ones among them."""
    random = np.random.default_rng(seed)
    rows, cols = random.integers(1, 13, 2)
    mask = random.random((rows, cols)) < random.choice([0.0, 0.3, 0.8, 1.0])
    if seed % 2:
        mask = mask[np.ix_(random.integers(0, min(rows, 2), rows), random.integers(0, min(cols, 3), cols))]
    return np.asarray(mask)


def check(cells: GridCells, mask: np.ndarray) -> None:
    np.testing.assert_array_equal(cells.mask, mask)
    assert cells.shape == mask.shape and cells.count == mask.sum()
    rows, cols = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    np.testing.assert_array_equal(cells.lines[0], rows)
    np.testing.assert_array_equal(cells.lines[1], cols)
    assert cells.is_block == bool(mask[np.ix_(rows, cols)].all())
    np.testing.assert_array_equal(cells.at(rows[::2], cols[1:]), mask[np.ix_(rows[::2], cols[1:])])


@given(SEEDS)
def test_a_mask_its_runs_and_its_kinds_hold_the_same_cells(seed: int) -> None:
    mask = drawn(seed)
    runs = runs_of_mask(mask)
    assert all(first == 0 or not mask[row, first - 1] for row, first, _ in runs)
    np.testing.assert_array_equal(mask_of_runs(runs, *mask.shape), mask)
    grid = Grid(*mask.shape, (1, 1), (1, 1))
    check(CellsByKind.of_mask(mask), mask)
    check(cells_of(runs, grid), mask)
    check(cells_of(tuple(reversed(runs)), grid), mask)
    check(cells_of(None, grid), np.ones_like(mask))


def test_runs_that_lie_right_beside_each_other_are_all_held() -> None:
    runs = ((0, 0, 1), (0, 2, 2), (2, 1, 3))
    expected = np.array([[1, 1, 1, 0], [0, 0, 0, 0], [0, 1, 1, 1]], dtype=bool)
    np.testing.assert_array_equal(mask_of_runs(runs, 3, 4), expected)
    check(cells_of(runs, Grid(3, 4, (1, 1), (1, 1))), expected)


@given(SEEDS, SEEDS)
def test_cells_are_joined_and_taken_away(seed: int, other: int) -> None:
    one = drawn(seed)
    two = np.resize(drawn(other), one.shape)
    cells, more = CellsByKind.of_mask(one), CellsByKind.of_mask(two)
    check(cells - more, one & ~two)
    check(cells | more, one | two)


@given(SEEDS)
def test_equal_cells_are_one_key(seed: int) -> None:
    mask = drawn(seed)
    assert {CellsByKind.of_mask(mask): 1}[CellsByKind.of_mask(mask.copy())] == 1
    if mask.any():
        assert CellsByKind.of_mask(mask) != CellsByKind.of_mask(~mask)


def test_scattered_cells_are_as_many_as_are_wanted_and_the_same_every_time() -> None:
    cells = CellsByKind.of_mask(np.add.outer(np.arange(30), np.arange(20)) % 3 > 0)
    some = cells.scattered(57)
    assert some.count == some.mask.sum() == 57 and not (some.mask & ~cells.mask).any()
    assert some == cells.scattered(57) and cells.scattered(cells.count) is cells and cells.scattered(0).count == 0


def test_of_millions_of_cells_about_as_many_are_scattered_evenly_wherever_one_looks() -> None:
    cells = CellsByKind.all_of((100_000, 90_000)) - CellsByKind.told_by(
        (np.arange(100_000) % 2, np.zeros(100_000, dtype=np.int64)), (np.arange(90_000) % 2,) * 2,
        lambda rows, cols: (rows % 2 == 0)[:, None] & (cols % 2 == 0),
    )  # fmt: skip
    assert cells.count == 100_000 * 90_000 // 4 * 3
    some = cells.scattered(cells.count // 10)
    assert some.count == cells.count // 10 and hash(some) == hash(cells.scattered(cells.count // 10))
    for row, col in ((0, 0), (70_000, 100), (99_700, 89_700)):
        part = some.at(np.arange(row, row + 300), np.arange(col, col + 300))
        assert not part[row % 2 :: 2, col % 2 :: 2].any()
        assert abs(part.sum() / (90_000 * 3 // 4) - 0.1) < 0.01
        assert (part.sum(axis=0)[1 - col % 2 :: 2] > 10).all()
