"""What the recipes that ANALYZE measures need, and how long they take.

A profile needs two kinds of maps of an image: the exact one, and one guide for each cap. Every recipe is then told from
these without running the network again.
"""

from __future__ import annotations

from kryptondb.network import Cap
from kryptondb.optimizer.recipe import Recipe


def cap_of(recipe: Recipe) -> Cap | None:
    """The cap of the guide that a recipe needs; None for one that needs none."""
    return recipe.cap if recipe.capped else None


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
