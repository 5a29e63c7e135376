"""Heat maps drawn over their pictures, for every kind of file that shows them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from kryptondb.copy.maps import Map
from kryptondb.executor.run import Execution
from kryptondb.optimizer.physical import Occlude
from kryptondb.options.reader import read
from kryptondb.options.tables import COPY, FORMAT

if TYPE_CHECKING:
    from PIL import Image

    from kryptondb.images import Picture
    from kryptondb.images.preprocess import Preprocess
    from kryptondb.images.render import Look


def look_of(kind: str, options: Mapping[str, object]) -> Look:
    """How a file of this kind is to be drawn.

    Raises:
        BindError: an option that the kind does not have, or a value that it does not take.
    """
    from kryptondb.images.colors import color_map
    from kryptondb.images.render import Level, Look

    table = COPY[kind]
    given = read(table, options, defaults=True)
    place = given.position("colormap")
    look = {name: value for name, value in given.items() if name != FORMAT.name}
    try:
        look["colormap"] = color_map(given["colormap"]) if "colormap" in given else None
    except ValueError as error:
        raise table["colormap"].refusal(given["colormap"], place, str(error)) from None
    return Look(**look | {"contours": tuple(Level(*level) for level in given.get("contours", ()))})


class Drawing:
    """Draws the maps of one query. Opens each picture again, once for all classes that follow each other."""

    def __init__(self, execution: Execution, look: Look) -> None:
        self.execution = execution
        self.look = look
        occlude = execution.plan.occlude
        assert occlude is not None, "a plan with heat maps has an experiment"
        self.occlude: Occlude = occlude
        self._picture: Picture | None = None
        self._of: str | None = None
        self._preprocess: Preprocess | None = None

    def figure(self, heatmap: Map, title: str) -> Image.Image:
        """The figure of one map.

        Raises:
            ImageError: its picture cannot be read any more.
        """
        from kryptondb.images.render import overlay

        return overlay(
            self.picture(heatmap.image),
            self.preprocess,
            self.values(heatmap),
            patch=self.occlude.patch,
            stride=self.occlude.stride,
            title=title,
            look=self.look,
        )

    def values(self, heatmap: Map) -> np.ndarray:
        """What is drawn of a map, float32 [rows, cols]: its drops, or the scores under the patch."""
        return heatmap.drops if self.look.values == "drop" else np.float32(heatmap.base) - heatmap.drops

    def picture(self, name: str) -> Picture:
        """A picture of the query, opened again.

        Raises:
            ImageError: it cannot be read any more.
        """
        if self._picture is None or self._of != name:
            self._picture = None  # before another comes: pictures may be large
            self._picture, self._of = self.execution.picture(name), name
        return self._picture

    @property
    def preprocess(self) -> Preprocess:
        """How the query's model reads a picture."""
        if self._preprocess is None:
            self._preprocess = self.execution.models.get(self.occlude.model).preprocess
        return self._preprocess

    def score_text(self, heatmap: Map) -> str:
        """`Egyptian cat  0.771`: a map's class, and what the network gives it with nothing covered."""
        score = "" if self.occlude.score == "probability" else f"{self.occlude.score.replace('_', ' ')} "
        return f"{heatmap.name}  {score}{heatmap.base:.3f}"
