"""Profiles of quality that are made up, for benchmarks that only ask what plans cost.

What a promise admits depends on how close each recipe comes on the sample pictures. To see the planner choose among
many and among few, a benchmark needs profiles of several levels, more than there are trained networks. These follow two
networks that were measured: VGG16 on slices of a brain, whose smooth maps forgive a coarse grid and a small tau, and
EfficientNet-lite0 on photographs, whose rough ones forgive neither.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from kryptondb.executor.profiling import RecipeMeasurement
from kryptondb.optimizer.promise import Profile
from kryptondb.optimizer.recipe import Recipe

IMAGES = 20
_TOGETHER = 1.4  # a guide's errors and those of interpolation add to each other where they meet
_HALVED = 0.1  # this share of further exact cells, where the map is least certain, halves what is missing
_PICTURES, _LUCK = 0.3, 0.1  # standard deviations of the logarithm: between pictures, and of a recipe on each


@dataclass(frozen=True)
class Level:
    """How fast quality falls with what a recipe leaves out.

    A cap of tau leaves `(1 - tau) ** tau_power` of 1 missing in SSIM, cells at every n-th row and column leave
    `(1 - 1 / n) ** step_power`, and a reduced precision leaves `rounding` more.
    """

    name: str
    tau_power: float
    step_power: float
    rounding: float

    def missing(self, recipe: Recipe, further: float) -> float:
        """What a recipe lacks to an SSIM of 1 on a usual picture, where it computes that share of the cells further."""
        gap = 1.0
        if recipe.capped:
            gap *= (1.0 - (recipe.tau + recipe.tau_deep) / 2) ** self.tau_power
        if recipe.step:
            gap *= (1.0 - 1.0 / recipe.step) ** self.step_power
        if recipe.capped and recipe.step:
            gap *= _TOGETHER
        if recipe.precision and gap == 1.0:
            gap = 0.0
        missing: float = gap * 0.5 ** (further / _HALVED) + (self.rounding if recipe.precision else 0.0)
        return missing


LEVELS = (Level("smooth maps", 6.7, 4.5, 0.005), Level("rough maps", 2.5, 2.9, 0.12))


def made_up(level: Level, measured: Sequence[RecipeMeasurement], exact: float, seed: int) -> Profile:
    """A profile of 20 pictures.

    Args:
        measured: what each recipe takes, of seconds and of cells; every picture takes the same.
        exact: seconds of the exact map.
    """
    random = np.random.default_rng(seed)
    recipes = tuple(each.recipe for each in measured)
    missing = np.array([level.missing(each.recipe, each.further) for each in measured])
    pictures = np.exp(_PICTURES * random.standard_normal((IMAGES, 1)))
    luck = np.exp(_LUCK * random.standard_normal((IMAGES, len(recipes))))
    samples = 1.0 - np.minimum(1.0, missing * pictures * luck)
    seconds = np.tile([each.seconds for each in measured], (IMAGES, 1))
    further = np.tile([each.further for each in measured], (IMAGES, 1))
    return Profile(recipes, samples, seconds, np.full(IMAGES, exact), further)
