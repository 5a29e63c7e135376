"""A heat map over its picture, as a figure that stands by itself: title, color bar, patch drawn to scale."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patheffects import Normal, Stroke
from matplotlib.text import Text
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from kryptondb.images.colors import colors, emphasis, limits
from kryptondb.images.picture import Picture
from kryptondb.images.preprocess import LUMINANCE, Preprocess
from kryptondb.images.upsample import place
from kryptondb.options.tables import COPY

_LONGEST = 1600  # the long side at which a large picture is drawn, in pixels
_PAPER = (255, 255, 255)
# The photograph under the map: how much of its color, and of its brightness where the model does not see it, is left.
_COLOR_LEFT, _LIGHT_OUTSIDE = 0.3, 0.45


#: What COPY draws where nothing is said.
_DEFAULTS: dict[str, Any] = {option.name: option.default for option in COPY["png"].rows}


@dataclass(frozen=True)
class Level:
    """Where a contour runs: at a value, or at so many percent of the color scale.

    Percents go the way that the eye is led: of a drop from 0 to the upper end of the scale, of a score from the upper
    end down to the lower one.
    """

    number: float
    percent: bool = False

    def value(self, values: str, low: float, high: float) -> float:
        """The level on a scale from `low` to `high`."""
        if not self.percent:
            return self.number
        share = self.number / 100
        return share * high if values == "drop" else high - share * (high - low)


@dataclass(frozen=True)
class Look:
    """How `kryptondb.images.render.overlay` draws a heat map.

    Args:
        values: 'drop' (base minus occluded score; colors diverge around 0) or 'score' (the occluded score).
        opacity: of the strongest color, 0 to 1.
        scale: the values at the ends of the color bar, to draw several maps alike; from the map itself by default.
        colormap: the name of a matplotlib color map; one made for `values` by default.
        size: the long side of the drawn picture in pixels. By default small pictures are enlarged and large ones made
            smaller; where nothing stands around it, a picture keeps its own size.
        colorbar, title: whether these stand beside the picture. With neither, the picture fills the figure.
        contours: where lines are drawn around what lies above (for a score, below) a level.
        side_by_side: whether the picture as it is stands to the left.
    """

    values: str = _DEFAULTS["values"]
    opacity: float = _DEFAULTS["opacity"]
    scale: tuple[float, float] | None = None
    colormap: str | None = None
    size: int | None = None
    colorbar: bool = _DEFAULTS["colorbar"]
    title: bool = _DEFAULTS["title"]
    contours: tuple[Level, ...] = ()
    side_by_side: bool = _DEFAULTS["side_by_side"]

    @property
    def bare(self) -> bool:
        """Whether nothing stands around the picture."""
        return not (self.colorbar or self.title)


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
        label: what the color bar says; "drop" or "score" by default.

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
    """The map's colors over the picture, nothing else: [height, width, 3] at `size` (the picture's own by default).

    Args and errors as in `overlay`; `scale` are the values at the ends of the colors, the look's by default.
    """
    size = size or (picture.height, picture.width)
    layer = color_layer(
        heatmap, preprocess, (picture.height, picture.width), patch=patch, stride=stride, look=look, scale=scale,
        size=size,
    )  # fmt: skip
    alpha = layer[:, :, 3:] * np.float32(look.opacity / 255)
    blended = _ground(picture, preprocess, size) * (1 - alpha) + layer[:, :, :3] * alpha
    drawn: NDArray[np.uint8] = np.rint(blended).clip(0, 255).astype(np.uint8)
    return drawn


def color_layer(
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
    """The map's colors alone, to be laid over the picture: [height, width, 4] at `size`, not premultiplied.

    The fourth channel is how much each place stands out, as if the opacity were 1.
    """
    if heatmap.ndim != 2 or 0 in heatmap.shape:
        raise ValueError(f"a heat map is rows x cols, not {' x '.join(map(str, heatmap.shape))}")
    low, high = scale or look.scale or limits(heatmap, look.values)
    heat = place(heatmap, preprocess, picture_size, patch=patch, stride=stride, size=size)
    alpha = np.rint(255 * emphasis(heat, look.values, low, high)).astype(np.uint8)
    return np.dstack([colors(heat, look.values, low, high, look.colormap), alpha])


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
    """The photograph in quiet colors, darker where the model does not see it: [height, width, 3] in 0..255."""
    pixels = np.asarray(photograph(picture, size)).astype(np.float32)
    gray = (pixels @ np.asarray(LUMINANCE, dtype=np.float32))[:, :, None]
    ground: NDArray[np.float32] = (gray + _COLOR_LEFT * (pixels - gray)) * np.float32(LIGHT_LEFT)
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


#: The side of a square picture, in pixels, at which text is set in its smallest size.
PLAIN_SIDE = 560
#: How much of the photograph's brightness is left under a map.
LIGHT_LEFT = 0.85
_DPI = 100
_INK, _QUIET = "#1b1b1f", "#5f6368"


@dataclass(frozen=True)
class Page:
    """Where things stand on the figure, in pixels from its top left corner."""

    width: int
    height: int
    lefts: tuple[int, ...]  # of each picture: the map's is the last
    top: int
    drawn_height: int
    drawn_width: int
    body_top: int  # of the row of pictures and color bar, which is taller than a very flat picture
    body_height: int
    font: float  # pixels
    margin: int
    bar_left: int
    bar_width: int

    @classmethod
    def around(cls, size: tuple[int, int], title: str, look: Look) -> Page:
        """The page of a picture drawn at `size`, (height, width), with what `look` asks for."""
        height, width = size
        font = max(14.0, 15 * ((height * width) ** 0.5 / PLAIN_SIDE) ** 0.6)
        margin = 0 if look.bare else round(1.3 * font)
        gap = max(4, round(0.8 * font))
        count = 2 if look.side_by_side else 1
        row = count * width + (count - 1) * gap
        lines = title.count("\n") + 1
        header = round(margin + 1.75 * font + 1.35 * font * (lines - 1)) if look.title and title else margin
        body_height = height if look.bare else max(height, round(12 * font))
        body_width = row if look.bare else max(row, round(18 * font))
        bar_width = round(1.1 * font)
        bar_left = margin + body_width + round(1.1 * font)
        first = margin + (body_width - row) // 2
        return cls(
            width=bar_left + bar_width + round(5.6 * font) if look.colorbar else body_width + 2 * margin,
            height=header + body_height + (0 if look.bare else round(2.7 * font)),
            lefts=tuple(first + index * (width + gap) for index in range(count)),
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

    @property
    def left(self) -> int:
        """Of the picture with the map over it."""
        return self.lefts[-1]

    def points(self, factor: float = 1.0) -> float:
        """The font size in points."""
        return self.font * factor * 72 / _DPI


def furnished(
    page: Page, look: Look, title: str, footer: str, label: str, scale: tuple[float, float], levels: list[float]
) -> Image.Image:
    """The page without its pictures, an RGB image; `levels` are marked on the color bar, which goes over `scale`."""
    if look.bare:
        return Image.new("RGB", (page.width, page.height), "white")
    figure = Figure(figsize=(page.width / _DPI, page.height / _DPI), dpi=_DPI, facecolor="white")
    canvas = FigureCanvasAgg(figure)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")  # a label in a script the font lacks
        _words(figure, canvas, page, title if look.title else "", footer)
        if look.colorbar:
            _color_bar(figure, page, look, label, scale, levels)
        canvas.draw()  # type: ignore[no-untyped-call]
    pixels = np.asarray(canvas.buffer_rgba())  # type: ignore[no-untyped-call]
    return Image.fromarray(pixels[:, :, :3].copy())


def _words(figure: Figure, canvas: FigureCanvasAgg, page: Page, title: str, footer: str) -> None:
    room = page.width - 2 * page.margin
    y = page.height - page.margin
    for number, line in enumerate(title.splitlines()):
        size, weight, ink = (1.18, "bold", _INK) if number == 0 else (0.92, "normal", _QUIET)
        _shorten(_text(figure, page, y, line, size, weight, ink), room, canvas)
        y -= round((1.75 if number == 0 else 1.35) * page.font)
    bottom = page.height - page.body_top - page.body_height
    _shorten(_text(figure, page, bottom - 0.75 * page.font, footer, 0.85, "normal", _QUIET), room, canvas)


def _text(figure: Figure, page: Page, y: float, text: str, size: float, weight: str, ink: str) -> Text:
    """A line whose top is `y` pixels from the bottom; a dollar sign in a label is a dollar sign, not mathematics."""
    return figure.text(
        page.margin / page.width, y / page.height, text, fontsize=page.points(size), fontweight=weight, color=ink,
        va="top", parse_math=False,
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


def _color_bar(
    figure: Figure, page: Page, look: Look, label: str, scale: tuple[float, float], levels: list[float]
) -> None:
    """The scale, in the colors as they look over a middle gray, with the contours' levels on it."""
    low, high = scale
    bottom = page.height - page.body_top - page.body_height
    axes = figure.add_axes(
        (page.bar_left / page.width, bottom / page.height, page.bar_width / page.width, page.body_height / page.height)
    )
    steps = np.linspace(low, high, 512)
    alpha = look.opacity * emphasis(steps, look.values, low, high)[:, None]
    shades = colors(steps, look.values, low, high, look.colormap) * alpha + 128 * LIGHT_LEFT * (1 - alpha)
    axes.imshow(
        np.rint(shades).astype(np.uint8)[:, None], extent=(0, 1, low, high), aspect="auto", origin="lower",
        interpolation="bilinear",
    )  # fmt: skip
    line = page.points(0.09)
    for level in levels:
        if low < level < high:
            axes.axhline(level, color="#101014", linewidth=line * 2.2)
            axes.axhline(level, color="white", linewidth=line)
    axes.set_xticks([])
    axes.yaxis.tick_right()
    axes.yaxis.set_label_position("right")
    axes.yaxis.set_major_locator(MaxNLocator(nbins=7, steps=[1, 2, 2.5, 5, 10]))
    axes.tick_params(
        axis="y", labelsize=page.points(0.82), labelcolor=_QUIET, color=_QUIET, length=page.points(0.25),
        width=page.points(0.06), pad=page.points(0.25),
    )  # fmt: skip
    axes.set_ylabel(label, fontsize=page.points(0.85), color=_INK, labelpad=page.points(0.5), parse_math=False)
    axes.yaxis.get_offset_text().set_fontsize(page.points(0.75))
    for spine in axes.spines.values():
        spine.set_visible(False)


def draw_contours(image: Image.Image, heat: NDArray[np.floating], levels: Sequence[float], width: float) -> None:
    """Draws the lines of `heat` at each level into `image`, of the same size: white with a dark edge.

    Args:
        heat: [height, width] of the image; NaN where there is no value, and no line goes there.
        width: of a line in pixels.
    """
    crossed = sorted({level for level in levels if np.nanmin(heat) < level < np.nanmax(heat)}) if _known(heat) else []
    if not crossed:
        return
    figure = Figure(figsize=(image.width / _DPI, image.height / _DPI), dpi=_DPI)
    figure.patch.set_alpha(0)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    axes.set_xlim(0, image.width)
    axes.set_ylim(image.height, 0)
    points = width * 72 / _DPI
    columns, rows = np.arange(image.width) + 0.5, np.arange(image.height) + 0.5
    lines = axes.contour(columns, rows, heat, levels=crossed, colors="white", linewidths=points, linestyles="solid")
    lines.set_path_effects([Stroke(linewidth=points * 2.2, foreground="#101014"), Normal()])
    canvas = FigureCanvasAgg(figure)
    canvas.draw()  # type: ignore[no-untyped-call]
    drawn = Image.fromarray(np.asarray(canvas.buffer_rgba()))  # type: ignore[no-untyped-call]
    image.paste(drawn, (0, 0), drawn)


def _known(heat: NDArray[np.floating]) -> bool:
    """Whether there are values on both sides of a line: a map of one cell across has no line."""
    return min(heat.shape) > 1 and bool(np.isfinite(heat).any())
