"""Rounds: lattices that hold each other, the least certain cells first, and a map at any moment."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from kryptondb.executor.approximation import Lattice, Reconstruction, Round, nearest_known, steps_of
from kryptondb.optimizer.recipe import Recipe

WHOLE = np.ones((33, 40), dtype=bool)


def smooth(classes: int = 2) -> np.ndarray:
    """Maps [classes, 33, 40] with one narrow dent in the first."""
    y, x = np.mgrid[0:33, 0:40]
    waves = np.stack([np.sin(y / (9 + k)) + np.cos(x / (11 - k)) for k in range(classes)])
    waves[0] -= 3 * np.exp(-((y - 10) ** 2 + (x - 26) ** 2) / 12)
    return waves


def drilled(step: int) -> Recipe:
    return Recipe("drill-down", step=step)


@pytest.mark.parametrize(
    ("step", "shape", "steps"),
    [
        (4, (53, 53), (32, 16, 8, 4, 2, 1)),
        (3, (53, 40), (48, 24, 12, 6, 3, 1)),
        (6, (20, 20), (12, 6, 3, 1)),
        (5, (9, 4), (5, 1)),
        (1, (1, 1), (1,)),
        (1, (3, 5), (4, 2, 1)),
    ],
)
def test_steps_go_through_multiples_and_parts_of_the_one_asked_for(step, shape, steps) -> None:
    assert steps_of(step, shape) == steps


@pytest.mark.parametrize("seed", range(5))
def test_every_lattice_but_its_last_lines_is_part_of_the_next_and_the_last_is_everything(seed: int) -> None:
    random = np.random.default_rng(seed)
    asked = np.zeros((30, 25), dtype=bool)
    asked[random.integers(0, 10) :, : random.integers(12, 25)] = True
    lattices = [Lattice(asked, step) for step in steps_of(int(random.integers(1, 8)), asked.shape)]
    for coarse, fine in pairwise(lattices):
        rows, cols = np.nonzero(coarse.nodes & ~fine.nodes)
        last_row, last_col = (side.stop - 1 for side in coarse.rectangle)
        assert ((rows == last_row) | (cols == last_col)).all()
    assert (lattices[-1].nodes == asked).all()


def test_the_cells_about_what_the_map_is_least_sure_of_come_first() -> None:
    exact, known = smooth(), Lattice(WHOLE, 8).cells
    order = Round(drilled(8), 4, WHOLE).order(np.where(known, exact, np.nan), known, None)
    assert sorted(order) == np.flatnonzero(Lattice(WHOLE, 4).cells & ~known).tolist()
    rows, cols = np.divmod(order, 40)
    distances = np.hypot(rows - 10, cols - 26)
    assert distances[:15].mean() < 0.7 * distances.mean()


def test_a_lattice_alone_is_reconstructed_as_drilling_down_does_it() -> None:
    known = Lattice(WHOLE, 8).cells
    values = np.where(known, smooth(), np.nan)
    expected = Reconstruction(drilled(8), WHOLE).completed(values, known, None)
    np.testing.assert_array_equal(Round(drilled(8), 4, WHOLE).completed(values, known, None), expected)


def test_with_a_guide_part_of_the_next_lattice_is_worth_more_than_a_correction_of_the_coarse_one() -> None:
    exact, known = smooth() / 9, Lattice(WHOLE, 8).cells
    guide, recipe = np.ones_like(exact), Recipe("refined", 0.5, 0.5, 8)
    each = Round(recipe, 4, WHOLE, "logit")
    order = each.order(np.where(known, exact, np.nan), known, guide)
    known.flat[order[: len(order) // 2]] = True
    values = np.where(known, exact, np.nan)
    map_now = each.completed(values, known, guide)
    np.testing.assert_array_equal(map_now[:, known], exact[:, known])
    by_correction = Reconstruction(recipe, WHOLE, "logit").completed(values, known, guide)
    assert np.abs(map_now - exact).mean() < 0.8 * np.abs(by_correction - exact).mean()


def test_each_cell_of_the_next_lattice_brings_the_map_nearer() -> None:
    exact, known = smooth(), Lattice(WHOLE, 8).cells
    each = Round(drilled(8), 4, WHOLE)
    order = each.order(np.where(known, exact, np.nan), known, None)
    errors = []
    for part in np.array_split(order, 4):
        known.flat[part] = True
        errors.append(np.abs(each.completed(np.where(known, exact, np.nan), known, None) - exact).mean())
    assert errors == sorted(errors, reverse=True) and errors[-1] < 0.7 * errors[0]


def test_a_lattice_that_is_complete_is_as_good_as_one_that_was_computed_at_once() -> None:
    exact, known = smooth(), Lattice(WHOLE, 8).cells | Lattice(WHOLE, 4).cells
    values = np.where(known, exact, np.nan)
    grown = Round(drilled(8), 4, WHOLE).completed(values, known, None)
    np.testing.assert_allclose(grown, Reconstruction(drilled(4), WHOLE).completed(values, known, None), atol=1e-9)


def test_a_corner_of_the_first_lattice_makes_no_map_that_swings_away_from_it() -> None:
    exact, known = smooth(1), Lattice(WHOLE, 8).cells
    known[:, 12:] = False
    each = Round(drilled(8), 4, WHOLE)
    assert not each.is_ready(known)
    found = each.completed(np.where(known, exact, np.nan), known, None)
    np.testing.assert_array_equal(found[:, known], exact[:, known])
    assert exact[:, known].min() - 0.5 < found.min() and found.max() < exact[:, known].max() + 0.5


def test_with_a_few_cells_each_is_as_the_nearest_known_one() -> None:
    known = np.zeros((4, 6), dtype=bool)
    known[0, 0] = known[3, 5] = True
    values = np.where(known, np.arange(24.0).reshape(1, 4, 6), np.nan)
    filled = nearest_known(values, known)
    assert filled[0, 1, 1] == 0.0 and filled[0, 3, 4] == 23.0 and np.isin(filled, (0.0, 23.0)).all()
