"""The recipes that ANALYZE measures, and what each makes of maps that are computed already.

A profile needs two kinds of maps of an image: the exact one, and one guide for each cap. Every recipe is then told from
these without running the network again.
"""

from __future__ import annotations

import numpy as np

from kryptondb.executor.operators.thresholded import TAUS
from kryptondb.network import Cap
from kryptondb.optimizer.recipe import Recipe

#: What is measured of every image.
RECIPES: tuple[Recipe, ...] = tuple(Recipe("thresholded", tau, tau) for tau in TAUS)


def approximate(
    recipe: Recipe, exact: np.ndarray, guide: np.ndarray | None, *, score: str = "probability"
) -> np.ndarray:
    """The maps that a recipe answers.

    Args:
        exact, guide: scores of all cells, float64 [k, rows, cols]; the guide is None for recipes without a cap.
        score: what the scores are, as in `occlude(..., score => )`.
    """
    assert recipe.operator == "thresholded" and guide is not None
    return guide


def cap_of(recipe: Recipe) -> Cap | None:
    """The cap of the guide that a recipe needs; None for one that needs none."""
    cap = Cap(recipe.tau, recipe.tau_deep)
    return None if cap == Cap(1.0, 1.0) else cap


def seconds(recipe: Recipe, grid: tuple[int, int], exact: float, guide: float) -> float:
    """About how long a recipe takes: its guide, and its exact cells at the pace of the exact map.

    Args:
        grid: rows and columns.
        exact, guide: seconds in which these maps were computed.
    """
    rows, cols = grid
    lattice = len(_every(rows, recipe.step)) * len(_every(cols, recipe.step)) if recipe.step else 0
    return guide + exact * min(1.0, lattice / (rows * cols) + recipe.fraction)


def _every(count: int, step: int) -> set[int]:
    return {*range(0, count, step), count - 1}
