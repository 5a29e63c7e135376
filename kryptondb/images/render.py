"""A heat map over its picture, as a figure that stands by itself: title, colour bar, patch drawn to scale."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from kryptondb.images.colours import check_values, colours, emphasis, limits
from kryptondb.images.picture import Picture
from kryptondb.images.preprocess import LUMINANCE, Preprocess
from kryptondb.images.upsample import place

SMALLEST, LARGEST = 560, 1600  # the long side at which a picture is drawn, in pixels
DPI = 100
INK, QUIET = "#1b1b1f", "#5f6368"
_PAPER = (255, 255, 255)
# The photograph under the map: how much of its colour and of its brightness is left, so that the map's colours lead.
_COLOUR_LEFT, _LIGHT_LEFT, _LIGHT_OUTSIDE = 0.3, 0.85, 0.45


def blend(
    picture: Picture,
    preprocess: Preprocess,
    heatmap: NDArray[np.floating],
    *,
    patch: tuple[int, int],
    stride: tuple[int, int],
    values: str = "drop",
    opacity: float = 0.75,
    scale: tuple[float, float] | None = None,
    size: tuple[int, int] | None = None,
) -> NDArray[np.uint8]:
    """The map's colours over the picture, nothing else: [height, width, 3] at `size` (the picture's own by default).

    Args and errors as in `overlay`.
    """
    check_values(values)
    if heatmap.ndim != 2 or 0 in heatmap.shape:
        raise ValueError(f"a heat map is rows x cols, not {' x '.join(map(str, heatmap.shape))}")
    if not 0 <= opacity <= 1:
        raise ValueError(f"opacity is from 0 to 1, not {opacity:g}")
    size = size or (picture.height, picture.width)
    low, high = scale or limits(heatmap, values)
    heat = place(heatmap, preprocess, (picture.height, picture.width), patch=patch, stride=stride, size=size)
    alpha = opacity * emphasis(heat, values, low, high)[:, :, None]
    ground = _ground(picture, preprocess, size)
    blended = ground * (1 - alpha) + colours(heat, values, low, high) * alpha
    drawn: NDArray[np.uint8] = np.rint(blended).clip(0, 255).astype(np.uint8)
    return drawn


def overlay(
    picture: Picture,
    preprocess: Preprocess,
    heatmap: NDArray[np.floating],
    *,
    patch: tuple[int, int],
    stride: tuple[int, int],
    title: str,
    values: str = "drop",
    opacity: float = 0.75,
    label: str | None = None,
    scale: tuple[float, float] | None = None,
) -> Image.Image:
    """The figure of one heat map, an RGB image with a white margin.

    Args:
        heatmap: rows x cols; NaN cells are transparent.
        patch, stride: in model-input pixels, (vertical, horizontal).
        title: the class and its score; further lines are set smaller.
        values: 'drop' (base minus occluded score; colours diverge around 0) or 'score' (the occluded score).
        opacity: of the strongest colour, 0 to 1.
        label: what the colour bar says; "drop" or "score" by default.
        scale: the values at the ends of the colour bar, to draw several maps alike; from the map itself by default.

    Raises:
        ValueError: `values`, `opacity` or the shape of `heatmap` make no sense.
    """
    check_values(values)
    low, high = scale or limits(heatmap, values)
    size = _drawn_size(picture)
    drawn = blend(
        picture, preprocess, heatmap, patch=patch, stride=stride, values=values, opacity=opacity, scale=(low, high),
        size=size,
    )  # fmt: skip
    page = _Page.around(size, title)
    footer = f"patch {patch[0]} × {patch[1]} (outlined), stride {stride[0]} × {stride[1]}"
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")  # a label in a script the font lacks
        figure = _furniture(page, title, footer, label or values, values, opacity, low, high)
    figure.paste(Image.fromarray(drawn), (page.left, page.top))
    _outlines(figure, page, picture, preprocess, patch)
    return figure


@dataclass(frozen=True)
class _Page:
    """Where things stand on the figure, in pixels from its top left corner."""

    width: int
    height: int
    left: int  # of the picture
    top: int
    drawn_height: int
    drawn_width: int
    body_top: int  # of the column of picture and colour bar, which is taller than a very flat picture
    body_height: int
    font: float  # pixels
    margin: int
    bar_left: int
    bar_width: int

    @classmethod
    def around(cls, size: tuple[int, int], title: str) -> _Page:
        height, width = size
        font = max(14.0, 15 * ((height * width) ** 0.5 / SMALLEST) ** 0.6)
        margin = round(1.3 * font)
        lines = title.count("\n") + 1
        header = round(margin + 1.75 * font + 1.35 * font * (lines - 1)) if title else margin
        body_height, body_width = max(height, round(12 * font)), max(width, round(18 * font))
        bar_width = round(1.1 * font)
        bar_left = margin + body_width + round(1.1 * font)
        return cls(
            width=bar_left + bar_width + round(5.6 * font),
            height=header + body_height + round(2.7 * font),
            left=margin + (body_width - width) // 2,
            top=header + (body_height - height) // 2,
            drawn_height=height,
            drawn_width=width,
            body_top=header,
            body_height=body_height,
            font=font,
            margin=margin,
            bar_left=bar_left,
            bar_width=bar_width,
        )

    def points(self, factor: float = 1.0) -> float:
        """The font size in points."""
        return self.font * factor * 72 / DPI


def _drawn_size(picture: Picture) -> tuple[int, int]:
    """(height, width) at which the picture is drawn: small ones are enlarged, large ones made smaller."""
    long = max(picture.height, picture.width)
    factor = min(max(long, SMALLEST), LARGEST) / long
    return max(1, round(picture.height * factor)), max(1, round(picture.width * factor))


def _ground(picture: Picture, preprocess: Preprocess, size: tuple[int, int]) -> NDArray[np.float32]:
    """The photograph in quiet colours, darker where the model does not see it: [height, width, 3] in 0..255."""
    samples = np.rint(picture.pixels * 255).astype(np.uint8)
    image = Image.fromarray(samples[:, :, 0] if picture.channels == 1 else samples).convert("RGB")
    if size != (picture.height, picture.width):
        image = image.resize((size[1], size[0]), Image.Resampling.LANCZOS)
    pixels = np.asarray(image).astype(np.float32)
    grey = (pixels @ np.asarray(LUMINANCE, dtype=np.float32))[:, :, None]
    ground: NDArray[np.float32] = (grey + _COLOUR_LEFT * (pixels - grey)) * np.float32(_LIGHT_LEFT)
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


def _furniture(
    page: _Page, title: str, footer: str, label: str, values: str, opacity: float, low: float, high: float
) -> Image.Image:
    """The page without the picture: title, footer, colour bar."""
    figure = Figure(figsize=(page.width / DPI, page.height / DPI), dpi=DPI, facecolor="white")
    canvas = FigureCanvasAgg(figure)
    room = page.width - 2 * page.margin
    y = page.height - page.margin
    for number, line in enumerate(title.splitlines()):
        size, weight, ink = (1.18, "bold", INK) if number == 0 else (0.92, "normal", QUIET)
        text = _text(figure, page, page.margin, y, line, size, weight, ink, "top")
        _shorten(text, room, canvas)
        y -= round((1.75 if number == 0 else 1.35) * page.font)
    bottom = page.height - page.body_top - page.body_height
    _shorten(
        _text(figure, page, page.margin, bottom - 0.75 * page.font, footer, 0.85, "normal", QUIET, "top"), room, canvas
    )
    _colour_bar(figure, page, label, values, opacity, low, high)
    canvas.draw()  # type: ignore[no-untyped-call]
    page_pixels = np.asarray(canvas.buffer_rgba())  # type: ignore[no-untyped-call]
    return Image.fromarray(page_pixels[:, :, :3].copy())


def _text(
    figure: Figure, page: _Page, x: float, y: float, text: str, size: float, weight: str, ink: str, anchor: str
) -> Text:
    """Text at (x, y) pixels from the bottom left; a dollar sign in a label is a dollar sign, not mathematics."""
    return figure.text(
        x / page.width, y / page.height, text, fontsize=page.points(size), fontweight=weight, color=ink, va=anchor,
        parse_math=False,
    )  # fmt: skip


def _shorten(text: Text, room: float, canvas: FigureCanvasAgg) -> None:
    """Cuts the text with an ellipsis until it fits into `room` pixels; its last word, the score, stays."""
    head, _, tail = text.get_text().rpartition(" ")
    kept = len(head)
    while kept > 1:
        width = text.get_window_extent(canvas.get_renderer()).width  # type: ignore[no-untyped-call]
        if width <= room:
            return
        kept = min(kept - 1, int(kept * room / width))
        text.set_text(f"{head[:kept].rstrip()}… {tail}")


def _colour_bar(figure: Figure, page: _Page, label: str, values: str, opacity: float, low: float, high: float) -> None:
    """The scale, in the colours as they look over a middle grey."""
    bottom = page.height - page.body_top - page.body_height
    axes = figure.add_axes(
        (page.bar_left / page.width, bottom / page.height, page.bar_width / page.width, page.body_height / page.height)
    )
    steps = np.linspace(low, high, 512)
    alpha = opacity * emphasis(steps, values, low, high)[:, None]
    shades = colours(steps, values, low, high) * alpha + 128 * _LIGHT_LEFT * (1 - alpha)
    axes.imshow(
        np.rint(shades).astype(np.uint8)[:, None], extent=(0, 1, low, high), aspect="auto", origin="lower",
        interpolation="bilinear",
    )  # fmt: skip
    axes.set_xticks([])
    axes.yaxis.tick_right()
    axes.yaxis.set_label_position("right")
    axes.yaxis.set_major_locator(MaxNLocator(nbins=7, steps=[1, 2, 2.5, 5, 10]))
    axes.tick_params(
        axis="y", labelsize=page.points(0.82), labelcolor=QUIET, color=QUIET, length=page.points(0.25),
        width=page.points(0.06), pad=page.points(0.25),
    )  # fmt: skip
    axes.set_ylabel(label, fontsize=page.points(0.85), color=INK, labelpad=page.points(0.5), parse_math=False)
    axes.yaxis.get_offset_text().set_fontsize(page.points(0.75))
    for spine in axes.spines.values():
        spine.set_visible(False)


def _outlines(
    figure: Image.Image, page: _Page, picture: Picture, preprocess: Preprocess, patch: tuple[int, int]
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
