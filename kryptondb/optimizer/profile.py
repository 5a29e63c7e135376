"""A quality profile as the planner reads it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from kryptondb.optimizer.ladder import Judged
from kryptondb.optimizer.physical import ClassChoice, Occlude
from kryptondb.optimizer.promise import Admission, admit
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
    """

    recipes: tuple[Recipe, ...]
    samples: np.ndarray
    seconds: np.ndarray
    exact_seconds: np.ndarray

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
        shape = len(measured), len(recipes)
        return cls(
            tuple(recipes),
            np.array([[each[recipe].ssim for recipe in recipes] for each in measured]).reshape(shape),
            np.array([[each[recipe].seconds for recipe in recipes] for each in measured]).reshape(shape),
            np.array(exact_seconds),
        )

    @property
    def images(self) -> int:
        """How many images were analyzed."""
        return len(self.samples)

    def admit(self, target: float, confidence: float) -> Admission:
        """What `promise.admit` says of the recipes that are faster than the exact map, in columns of this profile."""
        costs = np.median(self.seconds, axis=0)
        faster = np.flatnonzero(costs < np.median(self.exact_seconds))
        found = admit(self.samples[:, faster], costs[faster], target, confidence)
        return replace(
            found,
            recipe=None if found.recipe is None else int(faster[found.recipe]),
            certified=tuple(faster[list(found.certified)].tolist()),
            path=tuple(faster[list(found.path)].tolist()),
        )


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
    }
