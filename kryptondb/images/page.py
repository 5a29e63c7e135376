"""What stands around a picture on a figure: title, colour bar, footer, and where each of them has its place."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import MaxNLocator
from PIL import Image

from kryptondb.images.colours import colours, emphasis
from kryptondb.images.look import Look

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
    body_top: int  # of the row of pictures and colour bar, which is taller than a very flat picture
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
    """The page without its pictures, an RGB image; `levels` are marked on the colour bar, which goes over `scale`."""
    if look.bare:
        return Image.new("RGB", (page.width, page.height), "white")
    figure = Figure(figsize=(page.width / _DPI, page.height / _DPI), dpi=_DPI, facecolor="white")
    canvas = FigureCanvasAgg(figure)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")  # a label in a script the font lacks
        _words(figure, canvas, page, title if look.title else "", footer)
        if look.colorbar:
            _colour_bar(figure, page, look, label, scale, levels)
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


def _colour_bar(
    figure: Figure, page: Page, look: Look, label: str, scale: tuple[float, float], levels: list[float]
) -> None:
    """The scale, in the colours as they look over a middle grey, with the contours' levels on it."""
    low, high = scale
    bottom = page.height - page.body_top - page.body_height
    axes = figure.add_axes(
        (page.bar_left / page.width, bottom / page.height, page.bar_width / page.width, page.body_height / page.height)
    )
    steps = np.linspace(low, high, 512)
    alpha = look.opacity * emphasis(steps, look.values, low, high)[:, None]
    shades = colours(steps, look.values, low, high, look.colormap) * alpha + 128 * LIGHT_LEFT * (1 - alpha)
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
