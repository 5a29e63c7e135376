"""A recipe: how an approximate heat map is made, apart from all that only its speed depends on.

Quality belongs to recipes: ANALYZE measures it a recipe, profiles remember it a recipe, and a promise is kept by one.
How fast a recipe is depends on the tiles, algorithms and workers that an operator is planned with.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from kryptondb.network import UNCAPPED, Cap
from kryptondb.optimizer.cost import Rates
from kryptondb.optimizer.workload import REDUCED_PRECISIONS

#: What a recipe makes of the cells that it computes: raised with each change, since profiles of another are void.
RECONSTRUCTION = 2
#: The share of cells that a doubt is taken to choose, as long as no image was looked at.
USUAL_SHARE = 0.1


@dataclass(frozen=True, order=True)
class Recipe:
    """What determines an approximate answer.

    Attributes:
        operator: 'thresholded', 'drill-down' or 'refined'; 'incremental' for every cell in a reduced precision.
        tau, tau_deep: the cap of the regions of the cheap map (`network.Cap`), 1 for none.
        step: cells at every so many-th row and column are computed exactly (`lattice_lines`); 0 for none of them.
        fraction: the share of all cells that is computed exactly beside these, where `where` says. With a `doubt` it is
            only the share that is expected, which a plan's cost is told from; 0 where nothing is expected yet.
        where: 'drop' for where the score falls most, 'uncertain' for where the map is least sure.
        precision: what all of it is computed in, 'bfloat16' or 'float16'; empty for what the query asks for. What is
            called exact above is then rounded too.
        doubt: cells about which the map is less sure than this are computed exactly, as many as there are: more of an
            image that is hard to interpolate, fewer of an easy one. On the scale of `Reconstruction.doubt`; 0 leaves
            the number of cells to `fraction`.
    """

    operator: str
    tau: float = 1.0
    tau_deep: float = 1.0
    step: int = 0
    fraction: float = 0.0
    where: str = ""
    precision: str = ""
    doubt: float = 0.0

    @property
    def cap(self) -> Cap:
        """The cap of the regions of the cheap map."""
        return Cap(self.tau, self.tau_deep)

    @property
    def capped(self) -> bool:
        """Whether some of its cells come from regions that are cut off."""
        return self.cap != UNCAPPED

    @property
    def essence(self) -> Recipe:
        """The same without what nothing of its answer depends on: a share that its doubt decides, a place for none."""
        fraction = 0.0 if self.doubt else self.fraction
        return replace(self, fraction=fraction, where=self.where if self.doubt or fraction else "")

    def seconds(self, grid: tuple[int, int], accurate: float, guide: float, further: float | None = None) -> float:
        """About how long it takes: its guide, and its better cells at the pace of their whole map.

        Args:
            grid: rows and columns.
            accurate, guide: seconds in which these maps are computed, 0 for one that it does not need.
            further: the share of cells that is computed beside the lattice; the recipe's fraction where nobody knows.
        """
        if self.operator == "incremental":
            return accurate
        rows, cols = grid
        lattice = len(lattice_lines(rows, self.step)) * len(lattice_lines(cols, self.step)) if self.step else 0
        share = self.fraction if further is None else further
        return guide + accurate * min(1.0, lattice / (rows * cols) + share)

    def __str__(self) -> str:
        parts = [self.operator]
        if self.capped:
            deep = f" to {self.tau_deep:g}" if self.tau_deep != self.tau else ""
            parts.append(f"tau {self.tau:g}{deep}")
        if self.step:
            parts.append(f"every {_ordinal(self.step)} cell{'' if self.precision else ' exact'}")
        if self.doubt:
            parts.append(f"more where doubt exceeds {self.doubt:g}")
        elif self.fraction:
            where = "where the score falls most" if self.where == "drop" else "where least certain"
            parts.append(f"{100 * self.fraction:g}% more {where}")
        if self.precision:
            parts.append(self.precision)
        return ", ".join(parts)


def lattice_lines(count: int, step: int) -> np.ndarray:
    """Which of so many rows or columns are computed: the first, every `step`-th, and the last if it lies farther.

    Returns:
        int64, ascending.
    """
    lines = np.arange(0, count, step)
    farther = len(lines) > 0 and count - 1 > lines[-1] + (len(lines) > 1)
    return np.append(lines, count - 1) if farther else lines


def _ordinal(number: int) -> str:
    ending = {1: "st", 2: "nd", 3: "rd"}.get(number % 10 if number % 100 not in (11, 12, 13) else 0, "th")
    return f"{number}{ending}"


#: By step. On a coarser lattice a smaller doubt costs more cells than a finer lattice would: it would only lengthen the
#: path that a promise has to go down (`promise.admit`).
_DOUBTS = {2: (0.4, 0.3, 0.25, 0.2, 0.15, 0.1), 3: (0.5, 0.4, 0.3, 0.25, 0.2), 4: (0.5,)}
#: What profiles are measured of: from little more than a coarse map to nearly the exact one.
#: Drill-downs go by doubt and not by a fraction, the paper's choice, because what an image needs differs: with a tenth
#: of all cells beside every second one, 9 in 10 of 40 maps of InceptionV3 come to an SSIM of 0.941 where each gets a
#: tenth, and to 0.965 where that is the mean.
RECIPES: tuple[Recipe, ...] = (
    *(Recipe("thresholded", tau, tau) for tau in (0.8, 0.7, 0.6, 0.5, 0.45, 0.4, 0.3)),
    *(
        Recipe("drill-down", step=step, where="uncertain" if doubt else "", doubt=doubt)
        for step, doubts in _DOUBTS.items()
        for doubt in (0.0, *doubts)
    ),
    *(Recipe("refined", tau, tau, step) for tau in (0.3, 0.45, 0.6) for step in (2, 3, 4, 6)),
    *(Recipe("refined", tau, tau, step, 0.1, "uncertain") for tau in (0.3, 0.45) for step in (4, 6)),
    # A cap that rises with depth costs what one between its ends does, and keeps more of what decides.
    *(Recipe("thresholded", tau, tau_deep) for tau, tau_deep in ((0.3, 0.6), (0.4, 0.75))),
    *(Recipe("refined", tau, tau_deep, step) for tau, tau_deep in ((0.3, 0.6), (0.4, 0.75)) for step in (4, 6)),
)
#: How much faster than in its own precision a device must compute in a reduced one, for profiles to measure that.
_FASTER = 1.5


def recipes_on(rates: Rates, precision: str) -> tuple[Recipe, ...]:
    """What a profile is measured of on a device, for queries in a precision: in reduced ones too that it is faster in.

    In these, every cell once serves most recipes; of the guides only those are tried that cost the least more.
    """
    if precision in REDUCED_PRECISIONS:
        return RECIPES
    faster = [name for name, rate in rates.reduced if rate >= _FASTER * rates.flops_per_second]
    return (*RECIPES, *(recipe for name in faster for recipe in _rounded(name)))


def _rounded(precision: str) -> Iterator[Recipe]:
    yield Recipe("incremental", precision=precision)
    for recipe in RECIPES:
        if not recipe.capped or (recipe.tau, recipe.tau_deep) in _GUIDES_ROUNDED:
            yield replace(recipe, precision=precision)


_GUIDES_ROUNDED = ((0.3, 0.3), (0.45, 0.45), (0.6, 0.6))


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


class RecipeQuality(Protocol):
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


def worthwhile(
    measured: Mapping[Recipe, RecipeQuality], exact_seconds: float, recipes: Sequence[Recipe]
) -> list[Recipe]:
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
