"""A quality profile as the planner reads it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from kryptondb.optimizer.ladder import Judged
from kryptondb.optimizer.physical import ClassChoice, Occlude
from kryptondb.optimizer.promise import Admission, admit, choosing_images
from kryptondb.optimizer.recipe import Recipe

if TYPE_CHECKING:
    from kryptondb.optimizer.logical import Occlusion


@dataclass(frozen=True, eq=False)
class Profile:
    """What was measured of one model and shape of query.

    Attributes:
        recipes: those that were measured on every image.
        samples: SSIM of each image with each of them, float64 [images, recipes], in the order of analysis.
        seconds: of the same, float64 [images, recipes].
        exact_seconds: of the exact maps, float64 [images].
        further: the share of its cells that each image needed beside the first, float64 [images, recipes].
    """

    recipes: tuple[Recipe, ...]
    samples: np.ndarray
    seconds: np.ndarray
    exact_seconds: np.ndarray
    further: np.ndarray

    @classmethod
    def of(
        cls, recipes: Sequence[Recipe], measured: Sequence[Mapping[Recipe, Judged]], exact_seconds: Sequence[float]
    ) -> Profile:
        """Measurements as arrays.

        Args:
            recipes: all of them were measured on every image.
            measured: of each image, the recipes.
            exact_seconds: of each image.
        """

        def table(value: Callable[[Judged], float]) -> np.ndarray:
            rows = [[value(each[recipe]) for recipe in recipes] for each in measured]
            return np.array(rows).reshape(len(measured), len(recipes))

        return cls(
            tuple(recipes),
            table(lambda each: each.ssim),
            table(lambda each: each.seconds),
            np.array(exact_seconds),
            table(lambda each: each.further),
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


def query_shape(experiment: Occlude | Occlusion, precision: str) -> dict[str, Any]:
    """What a query must have in common with a profile beside its model, as JSON values."""
    classes = experiment.classes
    assert isinstance(classes, ClassChoice)
    return {
        "patch": list(experiment.patch),
        "stride": list(experiment.stride),
        "fill": experiment.fill,
        "score": experiment.score,
        "classes": {"kind": classes.kind, "k": classes.k, "indices": list(classes.indices)},
        "precision": precision,
        **({} if experiment.edges == "fit" else {"edges": experiment.edges}),
        **({} if experiment.input.window is None else {"window": list(experiment.input.window)}),
    }
