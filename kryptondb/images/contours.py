"""Lines around what lies beyond a threshold, drawn so that they show on light and on dark ground."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patheffects import Normal, Stroke
from numpy.typing import NDArray
from PIL import Image

_DPI = 100


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
