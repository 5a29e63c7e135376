"""The plate that is bent least, against its definition: a least squares problem, solved as one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kryptondb.executor.approximation.interpolation import least_bent


def second_differences(shape: tuple[int, int]) -> np.ndarray:
    """All that is squared and summed, as rows of a matrix: [differences, cells]."""
    rows, cols = shape
    down, across = (np.diff(np.eye(count), 2, axis=0) for count in shape)
    twist = np.kron(np.diff(np.eye(rows), 1, axis=0), np.diff(np.eye(cols), 1, axis=0))
    return np.concatenate([np.kron(down, np.eye(cols)), np.kron(np.eye(rows), across), np.sqrt(2) * twist])


@given(st.integers(1, 9), st.integers(1, 9), st.sampled_from([0.3, 0.6, 0.9]), st.integers(0, 999))
@settings(max_examples=60, deadline=None)
def test_no_plate_through_the_known_values_is_bent_less(rows: int, cols: int, share: float, seed: int) -> None:
    random = np.random.default_rng(seed)
    known, maps = random.random((rows, cols)) < share, random.normal(size=(2, rows, cols))
    found = least_bent(maps, known)
    np.testing.assert_array_equal(found[:, known], maps[:, known])
    if not known.any():
        return
    differences = second_differences((rows, cols))
    for given_map, plate in zip(maps, found, strict=True):
        fixed = differences[:, known.ravel()] @ given_map[known]
        free = np.linalg.lstsq(differences[:, ~known.ravel()], -fixed, rcond=None)[0]
        least = ((differences[:, ~known.ravel()] @ free + fixed) ** 2).sum()
        bent = ((differences @ plate.ravel()) ** 2).sum()
        assert bent <= least * (1 + 1e-6) + 1e-8


def test_it_runs_on_straight_where_nothing_holds_it() -> None:
    plane = np.add.outer(np.arange(9.0), 2 * np.arange(12.0))
    known = np.zeros(plane.shape, dtype=bool)
    known[:4, :5] = True
    np.testing.assert_allclose(least_bent(np.where(known, plane, 0.0)[None], known)[0], plane, atol=1e-6)


@pytest.mark.parametrize("known", [np.ones((4, 5), dtype=bool), np.zeros((4, 5), dtype=bool)])
def test_without_anything_to_find_or_to_hold_it_the_map_stays(known: np.ndarray) -> None:
    maps = np.random.default_rng(0).random((3, 4, 5))
    np.testing.assert_array_equal(least_bent(maps, known), maps)
