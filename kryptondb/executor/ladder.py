"""What the recipes that ANALYZE measures need, and how long they take.

A profile needs a few maps of every cell of an image: the exact one, the same in reduced precisions, and one guide for
each cap. Every recipe is then told from these without running the network again.
"""

from __future__ import annotations

from dataclasses import dataclass

from kryptondb.network import UNCAPPED, Cap
from kryptondb.optimizer.recipe import Recipe


@dataclass(frozen=True)
class Pass:
    """A map of every cell.

    Attributes:
        cap: of its regions.
        precision: what it is computed in, empty for what the query asks for.
    """

    cap: Cap = UNCAPPED
    precision: str = ""


#: The map that all others are compared with.
EXACT = Pass()


def accurate_pass(recipe: Recipe) -> Pass | None:
    """Where a recipe's better cells come from; None where it has but one kind, and that is capped."""
    return None if recipe.operator == "thresholded" else Pass(precision=recipe.precision)


def guide_pass(recipe: Recipe) -> Pass | None:
    """The map whose cells only guide a recipe, or are all of it; None for one that needs none."""
    return Pass(recipe.cap, recipe.precision) if recipe.capped else None


def passes(recipe: Recipe) -> tuple[Pass, ...]:
    """All that a recipe needs, the better one first."""
    return tuple(each for each in (accurate_pass(recipe), guide_pass(recipe)) if each is not None)


def seconds(recipe: Recipe, grid: tuple[int, int], accurate: float, guide: float) -> float:
    """About how long a recipe takes: its guide, and its better cells at the pace of their whole map.

    Args:
        grid: rows and columns.
        accurate, guide: seconds in which these maps were computed, 0 for one that it does not need.
    """
    if recipe.operator == "incremental":
        return accurate
    rows, cols = grid
    lattice = len(_every(rows, recipe.step)) * len(_every(cols, recipe.step)) if recipe.step else 0
    return guide + accurate * min(1.0, lattice / (rows * cols) + recipe.fraction)


def _every(count: int, step: int) -> set[int]:
    return {*range(0, count, step), count - 1}
