"""Heat maps drawn over their pictures, for every kind of file that shows them.

| option | default | meaning |
|---|---|---|
| `values` | 'drop' | or 'score': what is drawn, base minus occluded score or the occluded score |
| `opacity` | 0.6 | of the strongest colour, 0 to 1 |
| `scale` | by each map | (low, high): the values at the ends of the colour bar, to draw all maps alike |
| `colormap` | by `values` | the name of a matplotlib colour map |
| `size` | 560 to 1600 | the long side of the drawn picture, in pixels |
| `colorbar`, `title` | TRUE | whether they stand beside the picture; with neither, the picture is all there is |
| `contours` | none | where lines are drawn: a value, '50%' of the scale, or a list of these |
| `side_by_side` | FALSE | whether the picture as it is stands to the left |
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from kryptondb.errors import BindError
from kryptondb.executor.copy_options import choice, number, pair, refuse_unknown, truth, whole_number
from kryptondb.executor.maps import Map
from kryptondb.executor.run import Execution
from kryptondb.optimizer.physical import Occlude

if TYPE_CHECKING:
    from PIL import Image

    from kryptondb.images import Picture
    from kryptondb.images.look import Level, Look
    from kryptondb.images.preprocess import Preprocess


def look_of(kind: str, options: Mapping[str, object]) -> Look:
    """How a file of this kind is to be drawn.

    Raises:
        BindError: an option that the kind does not have, or a value that it does not take.
    """
    from kryptondb.images.look import LARGEST_SIDE, MOST_CONTOURS, SMALLEST_SIDE, Look

    refuse_unknown(kind, options)
    get = options.get
    contours = get("contours", ())
    levels = [_level(value) for value in (contours if isinstance(contours, (list, tuple)) else (contours,))]
    if len(levels) > MOST_CONTOURS:
        raise BindError(f"contours may be at most {MOST_CONTOURS} levels, not {len(levels)}")
    return Look(
        values=choice("values", get("values", "drop"), ("drop", "score")),
        opacity=number("opacity", get("opacity", 0.6), 0, 1),
        scale=pair("scale", options["scale"]) if "scale" in options else None,
        colormap=_colormap(options["colormap"]) if "colormap" in options else None,
        size=whole_number("size", options["size"], SMALLEST_SIDE, LARGEST_SIDE) if "size" in options else None,
        colorbar=truth("colorbar", get("colorbar", True)),
        title=truth("title", get("title", True)),
        contours=tuple(levels),
        side_by_side=truth("side_by_side", get("side_by_side", False)),
    )


def _colormap(value: object) -> str:
    from kryptondb.images.colours import colour_map

    if not isinstance(value, str):
        raise BindError(f"colormap must be the name of a matplotlib colour map, not {value!r}")
    try:
        return colour_map(value)
    except ValueError as error:
        raise BindError(f"colormap: {error}") from None


def _level(value: object) -> Level:
    from kryptondb.images.look import Level

    if isinstance(value, (int, float)) and not isinstance(value, bool) and np.isfinite(value):
        return Level(float(value))
    if isinstance(value, str) and (found := re.fullmatch(r"\s*(\d{1,3}(?:\.\d{1,9})?)\s*%\s*", value)):
        percent = float(found[1])
        if percent <= 100:
            return Level(percent, percent=True)
    raise BindError(f"contours must be numbers, or percentages such as '50%', not {value!r}")


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
