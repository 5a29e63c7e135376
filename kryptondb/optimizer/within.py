"""A time that is asked for, and which plans are sure enough to keep it."""

from __future__ import annotations

import math
from dataclasses import dataclass

from kryptondb.text.units import seconds_text

#: Plans that cannot stop run only where they are estimated to be done so many times sooner: of 20 plans 19 take less
#: than so many times their estimate (`python -m benchmarks.cost_model`).
MARGIN = 2.0
#: One that can stop computes every cell in one go where it is estimated to be done so many times sooner.
ENOUGH = 1.25


@dataclass(frozen=True)
class Within:
    """`WITH TIME <= seconds SECONDS`.

    Attributes:
        seconds: for all images together.
        images: how many there are; None where only the run finds out.
    """

    seconds: float
    images: int | None

    def __str__(self) -> str:
        return f"TIME <= {self.seconds:g} SECONDS"

    @property
    def an_image(self) -> float:
        """Seconds for each image, of one where their number is unknown."""
        return self.seconds / max(1, self.images or 1)

    def holds(self, an_image: float) -> bool:
        """Whether a plan that is estimated to take so many seconds an image, and cannot stop, runs."""
        return self.images is not None and MARGIN * an_image <= self.an_image

    def is_enough(self, an_image: float) -> bool:
        """Whether a plan that is estimated to take so many seconds an image, and can stop, is expected to be done."""
        return self.images is not None and ENOUGH * an_image <= self.an_image

    def told(self, an_image: float) -> str:
        """What such a plan is estimated to take, for readers."""
        each = "" if self.images in (None, 1) else " an image"
        return f"{seconds_text(an_image)}{each}"

    def enough(self, an_image: float) -> str:
        """The promise that such a plan could keep."""
        seconds = MARGIN * an_image * max(1, self.images or 1)
        digits = 0 if seconds >= 10 else 1 if seconds >= 1 else 2
        return f"TIME <= {math.ceil(seconds * 10**digits) / 10**digits:g} SECONDS"
