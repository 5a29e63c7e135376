"""Which cells are computed first, of any shape that is asked for."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from kryptondb.executor.approximation import Lattice

MASKS = st.builds(
    lambda rows, cols, share, seed: np.random.default_rng(seed).random((rows, cols)) < share,
    st.integers(1, 9), st.integers(1, 9), st.sampled_from([0.2, 0.6, 0.9, 1.0]), st.integers(0, 99),
).filter(lambda mask: bool(mask.any()))  # fmt: skip


def test_the_last_row_and_column_belong_to_it() -> None:
    lattice = Lattice(np.ones((8, 11), dtype=bool), 3)
    assert lattice.rows.tolist() == [0, 3, 6, 7]
    assert lattice.cols.tolist() == [0, 3, 6, 9, 10]
    assert lattice.cells.sum() == 4 * 5


def test_it_begins_where_the_cells_asked_for_begin() -> None:
    asked = np.zeros((9, 9), dtype=bool)
    asked[2:8, 3:5] = True
    lattice = Lattice(asked, 4)
    assert lattice.rows.tolist() == [2, 6, 7]
    assert lattice.cols.tolist() == [3, 4]


@given(MASKS, st.integers(1, 5))
def test_only_cells_asked_for_are_computed_and_all_others_lie_between_four_of_them(mask: np.ndarray, step: int) -> None:
    lattice = Lattice(mask, step)
    assert not (lattice.cells & ~mask).any()
    for row, col in np.argwhere(mask & ~lattice.cells):
        above, below = lattice.rows[lattice.rows <= row][-1], lattice.rows[lattice.rows >= row][0]
        left, right = lattice.cols[lattice.cols <= col][-1], lattice.cols[lattice.cols >= col][0]
        assert below - above <= step and right - left <= step
        assert all(lattice.cells[y, x] for y in (above, below) for x in (left, right))


@given(MASKS)
def test_with_a_step_of_one_all_cells_are_computed(mask: np.ndarray) -> None:
    np.testing.assert_array_equal(Lattice(mask, 1).cells, mask)
