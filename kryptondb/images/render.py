"""A heat map over its picture, as a figure that stands by itself: title, colour bar, patch drawn to scale."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from kryptondb.images.colours import colours, emphasis, limits
from kryptondb.images.contours import draw_contours
from kryptondb.images.look import Look
from kryptondb.images.page import LIGHT_LEFT, PLAIN_SIDE, Page, furnished
from kryptondb.images.picture import Picture
from kryptondb.images.preprocess import LUMINANCE, Preprocess
from kryptondb.images.upsample import place

_LONGEST = 1600  # the long side at which a large picture is drawn, in pixels
_PAPER = (255, 255, 255)
# The photograph under the map: how much of its colour, and of its brightness where the model does not see it, is left.
_COLOUR_LEFT, _LIGHT_OUTSIDE = 0.3, 0.45
_PLAIN = Look()


def overlay(
    picture: Picture,
    preprocess: Preprocess,
    heatmap: NDArray[np.floating],
    *,
    patch: tuple[int, int],
    stride: tuple[int, int],
    title: str,
    look: Look = _PLAIN,
    label: str | None = None,
) -> Image.Image:
    """The figure of one heat map, an RGB image with a white margin.

    Args:
        heatmap: rows x cols; NaN cells are transparent.
        patch, stride: in model-input pixels, (vertical, horizontal).
        title: the class and its score; further lines are set smaller.
        label: what the colour bar says; "drop" or "score" by default.

    Raises:
        ValueError: the shape of `heatmap` makes no sense.
    """
    low, high = look.scale or limits(heatmap, look.values)
    size = _drawn_size(picture, look)
    levels = [level.value(look.values, low, high) for level in look.contours]
    page = Page.around(size, title, look)
    footer = f"patch {patch[0]} × {patch[1]} (outlined), stride {stride[0]} × {stride[1]}"
    figure = furnished(page, look, title, footer, label or look.values, (low, high), levels)
    drawn = Image.fromarray(
        blend(picture, preprocess, heatmap, patch=patch, stride=stride, look=look, scale=(low, high), size=size)
    )
    if levels:
        heat = place(heatmap, preprocess, (picture.height, picture.width), patch=patch, stride=stride, size=size)
        draw_contours(drawn, heat, levels, page.font / 9)
    figure.paste(drawn, (page.left, page.top))
    if look.side_by_side:
        figure.paste(photograph(picture, size), (page.lefts[0], page.top))
    if not look.bare:
        _outlines(figure, page, picture, preprocess, patch)
    return figure


def blend(
    picture: Picture,
    preprocess: Preprocess,
    heatmap: NDArray[np.floating],
    *,
    patch: tuple[int, int],
    stride: tuple[int, int],
    look: Look = _PLAIN,
    scale: tuple[float, float] | None = None,
    size: tuple[int, int] | None = None,
) -> NDArray[np.uint8]:
    """The map's colours over the picture, nothing else: [height, width, 3] at `size` (the picture's own by default).

    Args and errors as in `overlay`; `scale` are the values at the ends of the colours, the look's by default.
    """
    size = size or (picture.height, picture.width)
    layer = colour_layer(
        heatmap, preprocess, (picture.height, picture.width), patch=patch, stride=stride, look=look, scale=scale,
        size=size,
    )  # fmt: skip
    alpha = layer[:, :, 3:] * np.float32(look.opacity / 255)
    blended = _ground(picture, preprocess, size) * (1 - alpha) + layer[:, :, :3] * alpha
    drawn: NDArray[np.uint8] = np.rint(blended).clip(0, 255).astype(np.uint8)
    return drawn


def colour_layer(
    heatmap: NDArray[np.floating],
    preprocess: Preprocess,
    picture_size: tuple[int, int],
    *,
    patch: tuple[int, int],
    stride: tuple[int, int],
    look: Look = _PLAIN,
    scale: tuple[float, float] | None = None,
    size: tuple[int, int] | None = None,
) -> NDArray[np.uint8]:
    """The map's colours alone, to be laid over the picture: [height, width, 4] at `size`, not premultiplied.

    The fourth channel is how much each place stands out, as if the opacity were 1.
    """
    if heatmap.ndim != 2 or 0 in heatmap.shape:
        raise ValueError(f"a heat map is rows x cols, not {' x '.join(map(str, heatmap.shape))}")
    low, high = scale or look.scale or limits(heatmap, look.values)
    heat = place(heatmap, preprocess, picture_size, patch=patch, stride=stride, size=size)
    alpha = np.rint(255 * emphasis(heat, look.values, low, high)).astype(np.uint8)
    return np.dstack([colours(heat, look.values, low, high, look.colormap), alpha])


def photograph(picture: Picture, size: tuple[int, int]) -> Image.Image:
    """The picture as it is, RGB in 8 bits, at a (height, width)."""
    samples = np.rint(picture.pixels * 255).astype(np.uint8)
    image = Image.fromarray(samples[:, :, 0] if picture.channels == 1 else samples).convert("RGB")
    if size != (picture.height, picture.width):
        image = image.resize((size[1], size[0]), Image.Resampling.LANCZOS)
    return image


def fitted(picture: Picture, long: int) -> tuple[int, int]:
    """(height, width) of the picture when its long side has `long` pixels."""
    factor = long / max(picture.height, picture.width)
    return max(1, round(picture.height * factor)), max(1, round(picture.width * factor))


def _drawn_size(picture: Picture, look: Look) -> tuple[int, int]:
    """(height, width) at which the picture is drawn: small ones are enlarged, large ones made smaller."""
    long = max(picture.height, picture.width)
    if look.size is not None:
        return fitted(picture, look.size)
    return fitted(picture, min(long if look.bare else max(long, PLAIN_SIDE), _LONGEST))


def _ground(picture: Picture, preprocess: Preprocess, size: tuple[int, int]) -> NDArray[np.float32]:
    """The photograph in quiet colours, darker where the model does not see it: [height, width, 3] in 0..255."""
    pixels = np.asarray(photograph(picture, size)).astype(np.float32)
    grey = (pixels @ np.asarray(LUMINANCE, dtype=np.float32))[:, :, None]
    ground: NDArray[np.float32] = (grey + _COLOUR_LEFT * (pixels - grey)) * np.float32(LIGHT_LEFT)
    top, left, bottom, right = _window(preprocess, picture, size)
    outside = np.ones(size, dtype=bool)
    outside[max(top, 0) : bottom, max(left, 0) : right] = False
    ground[outside] *= np.float32(_LIGHT_OUTSIDE)
    return ground


def _window(preprocess: Preprocess, picture: Picture, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """(top, left, bottom, right) of what the model sees, in drawn pixels; it may lie outside the picture."""
    top, left, height, width = preprocess.window(picture.height, picture.width)
    y, x = size[0] / picture.height, size[1] / picture.width
    return round(top * y), round(left * x), round((top + height) * y), round((left + width) * x)


def _outlines(
    figure: Image.Image, page: Page, picture: Picture, preprocess: Preprocess, patch: tuple[int, int]
) -> None:
    """The border of what the model sees, if that is not everything, and one patch to scale in its lower left corner."""
    draw = ImageDraw.Draw(figure)
    line = max(1, round(page.font / 11))
    size = (page.drawn_height, page.drawn_width)
    top, left, bottom, right = _window(preprocess, picture, size)
    patch_height = (bottom - top) * patch[0] / preprocess.height
    patch_width = (right - left) * patch[1] / preprocess.width
    top, left = max(top, 0), max(left, 0)
    bottom, right = min(bottom, size[0]), min(right, size[1])
    if (top, left, bottom, right) != (0, 0, *size):
        draw.rectangle(
            (page.left + left, page.top + top, page.left + right - 1, page.top + bottom - 1), outline=_PAPER, width=line
        )
    inset = round(0.6 * page.font)
    x0 = page.left + left + min(inset, max(0, right - left - round(patch_width)))
    y1 = page.top + bottom - 1 - min(inset, max(0, bottom - top - round(patch_height)))
    box = (x0, y1 - round(patch_height) + 1, x0 + round(patch_width) - 1, y1)
    around = (box[0] - line, box[1] - line, box[2] + line, box[3] + line)
    draw.rectangle(around, outline=(0, 0, 0), width=line)
    draw.rectangle(box, outline=_PAPER, width=line)
