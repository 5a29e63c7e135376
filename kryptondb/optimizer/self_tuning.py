"""Self-tuning: a sample of a batch shows what keeps a promise, and the other images run by that.

A batch without a profile brings its own. Some of its images, chosen by hashing file names and so regardless of what is
on them, run exactly; their rows are part of the answer. They are also measured as ANALYZE does it, and what they admit
(`promise.admit`) runs for the rest. The sample and the other images are exchangeable because of how it is chosen: each
other image keeps the target with the probability asked for, and nothing has to be assumed.

It pays where the batch is large enough. With E the seconds of an exact map, G those of all other maps that are measured
on an image, and A the guess of what an image takes afterwards, measuring n images costs about G (n + 1) / 2 (after the
first, maps that promise nothing are left out: about a half), and each of the others saves E - A.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from kryptondb.optimizer.cost import Rates
from kryptondb.optimizer.promise import samples_for_certainty
from kryptondb.optimizer.recipe import Pass, Recipe, RecipeQuality, worthwhile
from kryptondb.text.units import seconds_text

if TYPE_CHECKING:
    from kryptondb.optimizer.operator import Operator

#: A batch gives at most one image in so many for more than the confidence needs: that makes the promise surer.
_SHARE = 10
#: In a large batch so many of these may fail a recipe: one odd image does not rule out what suits all the others.
_FAILING = 1
#: Maps that wait for their images' turn take no more than this.
_MOST_HELD = 64 * 1024**2


@dataclass(frozen=True)
class MapOperator:
    """What computes one of the maps that recipes are measured by."""

    map: Pass
    operator: Operator


@dataclass(frozen=True)
class SelfTuning:
    """How a batch may tune itself: all that the run needs is planned beforehand.

    Attributes:
        ssim, confidence: the promise.
        needed: the fewest images that can keep it.
        map_bytes: of an exact map, float64, all classes.
        exact_seconds: an exact map takes.
        guide_seconds: all other maps take that are measured on an image.
        later_seconds: an image takes afterwards, a guess.
        images: in the batch; None where only the run finds out.
        hints: of USING, for the operators of all images.
        recipes: that are measured.
        maps: what computes the maps that these need beside the exact one.
        judged: whether a profile's first image has already shown which recipes are worth measuring.
        rates: of the device, with what is known of the network's layers.
    """

    ssim: float
    confidence: float
    needed: int
    map_bytes: int
    exact_seconds: float
    guide_seconds: float
    later_seconds: float
    images: int | None = None
    hints: tuple[tuple[str, float | str], ...] = ()
    recipes: tuple[Recipe, ...] = ()
    maps: tuple[MapOperator, ...] = ()
    judged: bool = False
    rates: Rates = field(default_factory=Rates)

    @property
    def operators(self) -> dict[Pass, Operator]:
        """What computes each map beside the exact one."""
        return {measured.map: measured.operator for measured in self.maps}

    def worth_measuring(self, measured: Mapping[Recipe, RecipeQuality], exact_seconds: float) -> list[Recipe]:
        """The recipes for the images after the first, which was measured with these and took so long exactly.

        They are judged by the first image of the profile that all images become part of: a later one may certify there,
        and must not decide what is tried.
        """
        recipes = [recipe for recipe in self.recipes if recipe in measured]
        return recipes if self.judged else worthwhile(measured, exact_seconds, recipes)

    @property
    def worth_from(self) -> int | None:
        """From how many images on a batch is faster for it; None where none is."""
        saved = self.exact_seconds - self.later_seconds
        if saved <= 0 or self.needed * self.map_bytes > _MOST_HELD:
            return None
        return max(2 * self.needed, self.needed + math.ceil(self._measuring(self.needed) / saved))

    def sample_size(self, images: int) -> int:
        """How many of so many images run exactly and are measured; 0 where the batch is not worth it.

        More than the confidence needs are drawn only where the others save what measuring these costs as well.
        """
        if self.worth_from is None or images < self.worth_from:
            return 0
        most = min(images // _SHARE, _MOST_HELD // self.map_bytes)
        saved = self.exact_seconds - self.later_seconds
        for failing in range(_FAILING, -1, -1):
            count = samples_for_certainty(self.confidence, failing, most)
            if count is not None and self._measuring(count) <= (images - count) * saved:
                return max(count, self.needed)
        return self.needed

    def against(self, images: int | None) -> str:
        """Why so many images do not tune themselves, for readers; empty where they do."""
        least = self.worth_from
        if least is None:
            return "tuning itself is not estimated to make it faster"
        if images is None or images >= least:
            return ""
        return f"{images:,} images are too few to self-tune (worthwhile from {least:,})"

    def seconds(self, images: int) -> float:
        """About how long a batch of so many images takes, if what is guessed comes true."""
        count = self.sample_size(images)
        later = self.later_seconds if count else self.exact_seconds
        return count * self.exact_seconds + self._measuring(count) + (images - count) * later

    def outlook(self) -> str:
        """What is going to happen, for readers."""
        if self.images is None:
            return (
                f"a batch of {self.worth_from:,} images or more tunes itself: {self.needed} of them run exactly first"
            )
        count = self.sample_size(self.images)
        before, after = self.images * self.exact_seconds, self.seconds(self.images)
        return (
            f"{count} of the {self.images:,} images, a sample chosen by hashing file names, run exactly first and are"
            f" measured; the others run by the fastest recipe that the sample certifies for SSIM >= {self.ssim:g}, or"
            f" exactly if there is none; about {seconds_text(after)} instead of {seconds_text(before)}"
        )

    def _measuring(self, count: int) -> float:
        return self.guide_seconds * (count + 1) / 2 if count else 0.0
