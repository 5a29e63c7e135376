"""What the recipes that ANALYZE measures need, and which are worth measuring.

A profile needs a few maps of every cell of an image: the exact one, the same in reduced precisions, and one guide for
each cap. Every recipe is then told from these without running the network again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

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

    @property
    def recipe(self) -> Recipe:
        """Whose answer this map is, all of it."""
        operator = "incremental" if self.cap == UNCAPPED else "thresholded"
        return Recipe(operator, self.cap.tau, self.cap.tau_deep, precision=self.precision)


#: The map that all others are compared with.
EXACT = Pass()
#: A recipe below this on the first image is taken for one that keeps no target anybody asks for.
_HOPELESS = 0.5
#: A recipe is also out of the question where another that is no slower leaves less than this share of its distance: it
#: can be on no path that the first image alone chooses, and hardly on one that a few choose (`promise.safest_path`).
_SURPASSED = 0.8
#: It is so too where it takes more than this share of the exact map's time: a map more of every image buys little then.
_HARDLY_FASTER = 0.75


class Judged(Protocol):
    """A recipe on one image: how near it came to the exact map, and how long it took."""

    @property
    def ssim(self) -> float:
        """SSIM to the exact map."""

    @property
    def seconds(self) -> float:
        """What the map took."""

    @property
    def further(self) -> float:
        """The share of all cells that was computed because of what the first ones looked like."""


def accurate_pass(recipe: Recipe) -> Pass | None:
    """Where a recipe's better cells come from; None where it has but one kind, and that is capped."""
    return None if recipe.operator == "thresholded" else Pass(precision=recipe.precision)


def guide_pass(recipe: Recipe) -> Pass | None:
    """The map whose cells only guide a recipe, or are all of it; None for one that needs none."""
    return Pass(recipe.cap, recipe.precision) if recipe.capped else None


def passes(recipe: Recipe) -> tuple[Pass, ...]:
    """All that a recipe needs, the better one first."""
    return tuple(each for each in (accurate_pass(recipe), guide_pass(recipe)) if each is not None)


def maps_beside(recipes: Iterable[Recipe]) -> tuple[Pass, ...]:
    """The maps that recipes need beside the exact one, each once."""
    return tuple(dict.fromkeys(each for recipe in recipes for each in passes(recipe) if each != EXACT))


def worthwhile(measured: Mapping[Recipe, Judged], exact_seconds: float, recipes: Sequence[Recipe]) -> list[Recipe]:
    """The recipes without those of maps that nothing good comes of, judged by the first image of a profile.

    A recipe is out of the question when it takes nearly as long as the exact map, comes far too short, or when another
    that is no slower comes clearly nearer. A map beside the exact one is left out when all recipes that need it are.

    Args:
        measured: the recipes on that image; where some are missing, none is left out.
        exact_seconds: of its exact map.
    """
    if not set(recipes) <= set(measured):
        return list(recipes)

    def promising(recipe: Recipe) -> bool:
        mine = measured[recipe]
        surpassed = any(
            other.seconds <= mine.seconds and 1 - other.ssim < _SURPASSED * (1 - mine.ssim)
            for other in measured.values()
        )
        faster = mine.seconds < _HARDLY_FASTER * exact_seconds
        return faster and mine.ssim >= _HOPELESS and not surpassed

    wanted = {EXACT, *(each for recipe in recipes if promising(recipe) for each in passes(recipe))}
    return [recipe for recipe in recipes if wanted.issuperset(passes(recipe))]
