"""Which cells are computed first, of any shape that is asked for."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from kryptondb.executor.approximation import Lattice, lattice_cells
from kryptondb.optimizer.grid_cells import CellsByKind

MASKS = st.builds(
    lambda rows, cols, share, seed: np.random.default_rng(seed).random((rows, cols)) < share,
    st.integers(1, 9), st.integers(1, 9), st.sampled_from([0.2, 0.6, 0.9, 1.0]), st.integers(0, 99),
).filter(lambda mask: bool(mask.any()))  # fmt: skip


def test_the_last_row_and_column_belong_to_it_but_not_right_beside_another() -> None:
    lattice = Lattice(np.ones((8, 12), dtype=bool), 3)
    assert lattice.rows.tolist() == [0, 3, 6]
    assert lattice.cols.tolist() == [0, 3, 6, 9, 11]
    assert lattice.rectangle == (slice(0, 8), slice(0, 12))
    assert lattice.cells.sum() == 3 * 5


def test_it_begins_where_the_cells_asked_for_begin() -> None:
    asked = np.zeros((9, 9), dtype=bool)
    asked[2:9, 3:5] = True
    lattice = Lattice(asked, 4)
    assert lattice.rows.tolist() == [2, 6, 8]
    assert lattice.cols.tolist() == [3, 4]


@given(MASKS, st.integers(1, 5))
def test_only_cells_asked_for_are_computed_and_all_others_have_some_of_them_about_them(
    mask: np.ndarray, step: int
) -> None:
    lattice = Lattice(mask, step)
    assert not (lattice.cells & ~mask).any()
    for row, col in np.argwhere(mask & ~lattice.cells):
        (above, below), (left, right) = _about(lattice.rows, row), _about(lattice.cols, col)
        assert below - above <= step and right - left <= step
        assert row <= below + 1 and col <= right + 1
        assert all(lattice.cells[y, x] for y in (above, below) for x in (left, right))


@given(MASKS, st.integers(1, 5))
def test_its_cells_are_nodes_and_those_without_four_nodes_about_them(mask: np.ndarray, step: int) -> None:
    lattice = Lattice(mask, step)
    expected = lattice.nodes.copy()
    for row, col in np.argwhere(mask):
        about = [mask[y, x] for y in _about(lattice.rows, row) for x in _about(lattice.cols, col)]
        expected[row, col] |= not all(about)
    np.testing.assert_array_equal(lattice.cells, expected)


def test_of_millions_of_cells_a_lattice_has_few_kinds_of_rows_and_columns() -> None:
    cells = lattice_cells(CellsByKind.all_of((70_001, 50_000)), 4)
    assert cells.held.shape == (2, 2) and cells.count == 17_501 * 12_501


def _about(lines: np.ndarray, place: int) -> tuple[int, int]:
    """The nearest lines on both sides; the last one twice beyond it."""
    return int(lines[lines <= place][-1]), int((lines[lines >= place] if place <= lines[-1] else lines[-1:])[0])


@given(MASKS)
def test_with_a_step_of_one_all_cells_are_computed(mask: np.ndarray) -> None:
    np.testing.assert_array_equal(Lattice(mask, 1).cells, mask)
