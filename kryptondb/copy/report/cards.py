"""What a report shows of one image: the photograph, a layer of colors for each class, and the prediction."""

from __future__ import annotations

import base64
import io
from collections.abc import Generator, Iterable
from contextlib import closing
from dataclasses import dataclass
from pathlib import PurePath
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from kryptondb.copy.drawing import Drawing, Map
from kryptondb.errors import ImageError
from kryptondb.images.colors import limits
from kryptondb.images.render import color_layer, fitted, photograph

if TYPE_CHECKING:
    from kryptondb.images import Picture

#: The long side of a picture on the page, in pixels, and how well WebP keeps it.
SIDE = 512
_QUALITY = 88


@dataclass(frozen=True)
class Layer:
    """One class's heat map, as the page draws and reads it."""

    name: str
    base: float
    cells: str  # the drops, float32 little endian, row by row, in base64
    rows: int
    cols: int
    low: float
    high: float
    colors: str  # a WebP picture with transparency, as a data URL
    most: float  # the largest drop; 0 where there is none
    place: str  # what the patch covers there, in pixels of the model's input; empty where there is none


@dataclass(frozen=True)
class Guess:
    """One of the most probable classes."""

    name: str
    probability: float


@dataclass(frozen=True)
class Card:
    """One image, with the layers of the classes that were asked about."""

    number: int
    name: str  # the path as it was found
    short: str  # its last part
    height: int  # of the picture in pixels
    width: int
    window: tuple[float, float, float, float]  # top, left, height, width of what the model sees, in picture pixels
    photograph: str
    layers: tuple[Layer, ...]
    quality: str  # 'exact' or 'approximate'
    guesses: tuple[Guess, ...]

    @property
    def sees_all(self) -> bool:
        """Whether the model sees the picture from border to border."""
        top, left, height, width = self.window
        return top <= 0 and left <= 0 and top + height >= self.height and left + width >= self.width


def cards_of(drawing: Drawing) -> Generator[Card, None, None]:
    """A card for each image: the maps of its classes that follow each other. Holds one image at a time.

    An image that cannot be opened any more is left out, and noted with the run's errors.
    """
    number = 0
    with closing(drawing.maps()) as maps:
        for of_image in _by_image(maps):
            try:
                card = _card(drawing, of_image, number + 1)
            except ImageError as error:
                drawing.execution.run.skip_later(of_image[0].image, error)
                continue
            number += 1
            yield card


def _by_image(maps: Iterable[Map]) -> Generator[list[Map], None, None]:
    """The maps in groups: the classes of one image. The same class again is the same picture, asked about twice."""
    group: list[Map] = []
    for heatmap in maps:
        if group and (group[0].image != heatmap.image or any(other.index == heatmap.index for other in group)):
            yield group
            group = []
        group.append(heatmap)
    if group:
        yield group


def _card(drawing: Drawing, maps: list[Map], number: int) -> Card:
    name = maps[0].image
    picture = drawing.picture(name)
    size = fitted(picture, drawing.look.size or SIDE)
    return Card(
        number=number,
        name=name,
        short=PurePath(name.replace("\\", "/")).name or name,
        height=picture.height,
        width=picture.width,
        window=drawing.preprocess.window(picture.height, picture.width),
        photograph=_data_url(photograph(picture, size)),
        layers=tuple(_layer(drawing, picture, heatmap, size) for heatmap in maps),
        quality=drawing.quality(name),
        guesses=tuple(
            Guess(label if label is not None else f"class {index}", probability)
            for index, label, probability in drawing.prediction(name)
        ),
    )


def _layer(drawing: Drawing, picture: Picture, heatmap: Map, size: tuple[int, int]) -> Layer:
    values = drawing.values(heatmap)
    low, high = drawing.look.scale or limits(values, drawing.look.values)
    layer = color_layer(
        values, drawing.preprocess, (picture.height, picture.width), patch=drawing.occlude.experiment.patch,
        stride=drawing.occlude.experiment.stride, look=drawing.look, scale=(low, high), size=size,
    )  # fmt: skip
    known = heatmap.drops[np.isfinite(heatmap.drops)]
    return Layer(
        name=heatmap.name,
        base=heatmap.base,
        cells=base64.b64encode(np.ascontiguousarray(heatmap.drops, dtype="<f4").tobytes()).decode(),
        rows=heatmap.drops.shape[0],
        cols=heatmap.drops.shape[1],
        low=low,
        high=high,
        colors=_data_url(Image.fromarray(layer)),
        most=float(known.max()) if known.size else 0.0,
        place=_covered(drawing, heatmap.drops) if known.size else "",
    )


def _covered(drawing: Drawing, drops: np.ndarray) -> str:
    """`y 48–63, x 64–79`: the rows and columns under the patch at the largest drop."""
    row, col = np.unravel_index(int(np.nanargmax(drops)), drops.shape)
    (top, bottom), (left, right) = drawing.occlude.experiment.covered((int(row), int(col)), drops.shape)
    down, across = (
        str(first) if first == last else f"{first}–{last}" for first, last in ((top, bottom), (left, right))
    )
    return f"y {down}, x {across}"


def _data_url(image: Image.Image) -> str:
    """The image as WebP, which every browser of the last years reads, and which is small and may be transparent."""
    encoded = io.BytesIO()
    image.save(encoded, format="WEBP", quality=_QUALITY, method=4)
    return f"data:image/webp;base64,{base64.b64encode(encoded.getvalue()).decode()}"
