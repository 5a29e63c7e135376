"""Positions of a patch."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kryptondb.network import Grid


@given(st.integers(1, 60), st.integers(1, 60), st.data())
def test_a_grid_holds_every_position_at_which_the_patch_fits(height: int, width: int, data: st.DataObject) -> None:
    patch = (data.draw(st.integers(1, height)), data.draw(st.integers(1, width)))
    stride = (data.draw(st.integers(1, 70)), data.draw(st.integers(1, 70)))
    grid = Grid(height, width, patch, stride)
    assert grid.ys.tolist() == [y for y in range(0, height, stride[0]) if y + patch[0] <= height]
    assert grid.xs.tolist() == [x for x in range(0, width, stride[1]) if x + patch[1] <= width]
    assert grid.size == len(grid.ys) * len(grid.xs)


def test_the_last_row_and_column_that_the_papers_equations_drop_are_kept() -> None:
    assert Grid(224, 224, (16, 16), (4, 4)).rows == 53
    assert (224 - 16 + 1) // 4 == 52


@pytest.mark.parametrize(("patch", "stride"), [((9, 1), (1, 1)), ((1, 9), (1, 1)), ((0, 1), (1, 1)), ((1, 1), (0, 1))])
def test_a_patch_that_does_not_fit_and_sizes_below_one_are_refused(
    patch: tuple[int, int], stride: tuple[int, int]
) -> None:
    with pytest.raises(ValueError):
        Grid(8, 8, patch, stride)
