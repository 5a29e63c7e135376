"""What samples of SSIM promise of the next image: bounds for one recipe, and the cheapest of many that keeps a target.

Everything here assumes one thing: the next image is exchangeable with the samples, as likely to be any one of them. No
distribution is assumed, neither of images nor of SSIM, and nothing of how recipes depend on each other.

**One recipe.** With k <= (n + 1)(1 - c), the k-th smallest of n samples is a bound that the next one keeps with
probability at least c.

**Luck with the samples.** That probability is over the samples too. Once they are drawn, the share of all images that
keeps the bound is what it is: with 19 samples and k = 2 it is below 0.9 in four of ten draws. Where samples are drawn
independently, it is at least c with probability P(Bin(n, 1 - c) >= k) (order statistics). So k is the largest for which
that is at least 19 in 20, beside the condition above (a tolerance limit, as statisticians say; Wilks, 1941); 1 where
none is, for nothing more can be had of so few samples.

**The cheapest of many.** The k-th smallest of whichever recipe looks best on the same samples is no such bound: luck
was chosen along. So recipes are tried along a path, from the dearest to the cheapest, that is fixed before the
certifying samples are looked at. Let T_i be how many recipes of the path image i keeps the target with before it first
fails one. The chosen recipe is the k-th smallest T_i along the path. Proof:

1. By exchangeability, T of the next image is below the k-th smallest of the n others with probability at most
   k / (n + 1): then at most k of all n + 1 are no larger than it, itself included.
2. k / (n + 1) <= 1 - c by the choice of k. What was said of luck holds of T as of one recipe's SSIM.
3. If it is not below, the next image keeps the target with every recipe of the path up to the chosen one, which is
   therefore kept too. (Conformal risk control: the sets of images kept along a path are nested.)

**The path** is chosen on images that certify nothing: those recipes that no cheaper one comes as near as to the exact
maps. A path that is badly chosen costs speed and never the promise. One image is enough to rank recipes well, because
what is hard about an image is hard for all of them; what counts is that the certifying ones are one short of a multiple
of ten, where (n + 1)(1 - c) wastes nothing at the usual confidences. Of 20 images one therefore chooses and 19 certify.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from kryptondb.optimizer.recipe import Recipe, RecipeQuality

_LEAST_GAP = 1e-9  # from 1: what is nearer than that is equal
_CERTAINTY = 0.95  # that the samples were no lucky ones


@dataclass(frozen=True)
class Admission:
    """What the samples say of a target.

    Attributes:
        recipe: the column of the recipe that keeps the promise at the least cost; None where none does.
        certified: columns along the path from the dearest on, the admitted one last: with all of these the next image
            keeps the target.
        path: columns of the recipes that were tried, from the dearest on.
        images: how many samples certified.
        needed: how many samples the confidence needs, choosing ones included; where there are fewer, none was tried.
    """

    recipe: int | None
    certified: tuple[int, ...]
    path: tuple[int, ...]
    images: int
    needed: int


def admit(samples: np.ndarray, costs: Sequence[float] | np.ndarray, target: float, confidence: float) -> Admission:
    """The cheapest recipe with which the next image keeps the target, with probability at least `confidence`.

    A higher target or confidence never admits a cheaper recipe.

    Args:
        samples: SSIM of each image with each recipe, float64 [images, recipes], in an order that has nothing to do with
            how well images go: the first choose the path.
        costs: of each recipe, estimated without looking at the samples.
    """
    needed = samples_needed(confidence)
    if len(samples) < needed:
        return Admission(None, (), (), 0, needed)
    choosing = choosing_images(len(samples))
    path = safest_path(samples[:choosing], np.asarray(costs, dtype=np.float64))
    certifying = samples[choosing:]
    kept = np.logical_and.accumulate(certifying[:, path] >= target, axis=1).sum(axis=1)
    count = int(np.sort(kept)[_rank(len(certifying), confidence) - 1])
    certified = tuple(path[:count])
    return Admission(certified[-1] if certified else None, certified, tuple(path), len(certifying), needed)


def lower_bound(samples: Sequence[float] | np.ndarray, confidence: float) -> float | None:
    """What the next image keeps with probability at least `confidence`, of one recipe that was not chosen by these
    samples [images]; None where they are too few.
    """
    rank = _rank(len(samples), confidence)
    return float(np.sort(np.asarray(samples, dtype=np.float64))[rank - 1]) if rank else None


def samples_needed(confidence: float) -> int:
    """How many images a promise needs: one that chooses the path, and as many as let the worst of them certify."""
    least = max(1, math.floor(1 / (1 - confidence)) - 1)
    while not _rank(least, confidence):
        least += 1
    return _images_that_certify(least)


def samples_for_certainty(confidence: float, failing: int, most: int) -> int | None:
    """The fewest images of which so many may fail what they certify with the usual certainty; None for over `most`."""
    from scipy.special import bdtr

    certifying = failing + 1
    while certifying < most and bdtr(failing, certifying, 1.0 - confidence) > 1.0 - _CERTAINTY:
        certifying += 1
    total = _images_that_certify(certifying)
    return total if total <= most else None


def _images_that_certify(count: int) -> int:
    """The fewest images of which so many certify, beside those that choose the path."""
    total = count + 1
    while total - choosing_images(total) < count:
        total += 1
    return total


def choosing_images(images: int) -> int:
    """How many of so many images choose the path: one, and those beyond a multiple of ten."""
    certifying = 10 * (images // 10) - 1 if images >= 10 else images - 1
    return images - certifying


def safest_path(samples: np.ndarray, costs: np.ndarray) -> list[int]:
    """Columns from the dearest to the cheapest recipe but those that a cheaper one surpasses in mean log(1 - SSIM).

    Args:
        samples: of the choosing images, float64 [images, recipes].
        costs: float64 [recipes].
    """
    gaps = np.log(np.maximum(1.0 - samples, _LEAST_GAP)).mean(axis=0)
    path: list[int] = []
    nearest = np.inf
    for column in np.lexsort((gaps, costs)):
        if gaps[column] <= nearest:
            nearest = float(gaps[column])
            path.append(int(column))
    return path[::-1]


def _rank(images: int, confidence: float) -> int:
    """Which of so many samples, from the smallest on, is the bound; 0 where they are too few for any."""
    most = math.floor(round((images + 1) * (1.0 - confidence), 9))  # as decimals write it: 20 times 1 - 0.9 is 2
    if most < 2:
        return most
    from scipy.special import bdtr  # takes a while to import: only where there is a choice

    fewer = bdtr(np.arange(most), images, 1.0 - confidence)  # P(Bin(n, 1 - c) < k) for each k from 1 on
    return max(1, int(np.count_nonzero(fewer <= 1.0 - _CERTAINTY)))


@dataclass(frozen=True, eq=False)
class Profile:
    """What was measured of one model and shape of query.

    Attributes:
        recipes: those that were measured on every image.
        samples: SSIM of each image with each of them, float64 [images, recipes], in the order of analysis.
        seconds: of the same, float64 [images, recipes].
        exact_seconds: of the exact maps, float64 [images].
        further: the share of its cells that each image needed beside the first, float64 [images, recipes].
        first: all recipes that were measured on the first image.
    """

    recipes: tuple[Recipe, ...]
    samples: np.ndarray
    seconds: np.ndarray
    exact_seconds: np.ndarray
    further: np.ndarray
    first: Mapping[Recipe, RecipeQuality] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        recipes: Sequence[Recipe],
        measured: Sequence[Mapping[Recipe, RecipeQuality]],
        exact_seconds: Sequence[float],
    ) -> Profile:
        """Measurements as arrays.

        Args:
            recipes: all of them were measured on every image.
            measured: of each image, the recipes.
            exact_seconds: of each image.
        """

        def table(value: Callable[[RecipeQuality], float]) -> np.ndarray:
            rows = [[value(each[recipe]) for recipe in recipes] for each in measured]
            return np.array(rows).reshape(len(measured), len(recipes))

        return cls(
            tuple(recipes),
            table(lambda each: each.ssim),
            table(lambda each: each.seconds),
            np.array(exact_seconds),
            table(lambda each: each.further),
            measured[0] if measured else {},
        )

    @property
    def images(self) -> int:
        """How many images were analyzed."""
        return len(self.samples)

    def admit(self, target: float, confidence: float) -> Admission:
        """What `promise.admit` says of the recipes that are faster than the exact map, in columns of this profile.

        What recipes cost is told from the images that choose the path alone: how many cells an image needs goes with
        how near it comes, and nothing of that may be known of those that certify.
        """
        choosing = slice(choosing_images(self.images))
        costs = np.median(self.seconds[choosing], axis=0)
        faster = np.flatnonzero(costs < np.median(self.exact_seconds[choosing]))
        found = admit(self.samples[:, faster], costs[faster], target, confidence)
        return replace(
            found,
            recipe=None if found.recipe is None else int(faster[found.recipe]),
            certified=tuple(faster[list(found.certified)].tolist()),
            path=tuple(faster[list(found.path)].tolist()),
        )

    def planned(self, column: int) -> Recipe:
        """A recipe as plans are costed: where doubt decides how many cells it computes, with the mean share of them."""
        recipe = self.recipes[column]
        return replace(recipe, fraction=float(self.further[:, column].mean())) if recipe.doubt else recipe
