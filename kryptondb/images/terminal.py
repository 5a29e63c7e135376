"""A heat map in the terminal: half block characters, two cells of color in each, and a line that says their range."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from rich.color import Color
from rich.style import Style
from rich.text import Text

from kryptondb.images.colors import colors, limits

UPPER, LOWER, FULL = "▀", "▄", "█"
_GRADIENT = 16  # columns of the legend's colors, where there is room


def halfblocks(heatmap: NDArray[np.floating], *, width: int, height: int | None = None, values: str = "score") -> Text:
    """The heat map as large as fits, with its proportions kept, and a legend below: lines of styled text.

    Each character shows two square cells, one above the other. A map larger than the terminal is averaged, so that no
    cell is skipped; the legend gives the true least and greatest value. NaN is blank.

    Args:
        heatmap: rows x cols.
        width: columns to use at most.
        height: lines to use at most, the legend included; None for as many as the width asks for.
        values: 'drop' or 'score', as in `kryptondb.images.render.overlay`.

    Raises:
        ValueError: a width below 1 or a height below 2, or a heat map that is not rows x cols.
    """
    if heatmap.ndim != 2 or 0 in heatmap.shape:
        raise ValueError(f"a heat map is rows x cols, not {' x '.join(map(str, heatmap.shape))}")
    if width < 1 or (height is not None and height < 2):
        raise ValueError(f"a heat map needs at least 1 column and 2 lines, not {width} and {height}")
    rows, cols = heatmap.shape
    zoom = width / cols
    if height is not None:
        zoom = min(zoom, 2 * (height - 1) / rows)
    shown = _resample(heatmap, max(1, round(rows * zoom)), max(1, round(cols * zoom)))
    low, high = limits(heatmap, values)
    if len(shown) % 2:
        shown = np.vstack([shown, np.full((1, shown.shape[1]), np.nan)])
    shades = colors(shown, values, low, high)
    known = np.isfinite(shown)
    text = Text(no_wrap=True, overflow="crop", end="")
    for row in range(0, len(shown), 2):
        for col in range(shown.shape[1]):
            top = _color(shades[row, col]) if known[row, col] else None
            bottom = _color(shades[row + 1, col]) if known[row + 1, col] else None
            text.append(*_cell(top, bottom))
        text.append("\n")
    text.append_text(_legend(heatmap, width, values, low, high))
    return text


def _cell(top: Color | None, bottom: Color | None) -> tuple[str, Style | None]:
    """One character for two cells; None is blank."""
    if top is None and bottom is None:
        return " ", None
    if top is None:
        return LOWER, Style(color=bottom)
    if bottom is None:
        return UPPER, Style(color=top)
    return UPPER, Style(color=top, bgcolor=bottom)


def _color(shade: NDArray[np.uint8]) -> Color:
    return Color.from_rgb(int(shade[0]), int(shade[1]), int(shade[2]))


def _legend(heatmap: NDArray[np.floating], width: int, values: str, low: float, high: float) -> Text:
    """`min 0.0121 ████████████████ max 0.771`, or less where the line is short: the colors go first."""
    finite = heatmap[np.isfinite(heatmap)]
    if not finite.size:
        return Text("no cells"[:width], style="dim")
    least, most = float(finite.min()), float(finite.max())
    left, right = f"min {least:.3g} ", f" max {most:.3g}"
    room = min(_GRADIENT, width - len(left) - len(right))
    if room < 4:
        return Text(f"{least:.3g} to {most:.3g}"[:width], style="dim")
    legend = Text(left, style="dim")
    for shade in colors(np.linspace(least, most, room), values, low, high):
        legend.append(FULL, Style(color=_color(shade)))
    legend.append(right, style="dim")
    return legend


def _resample(heatmap: NDArray[np.floating], rows: int, cols: int) -> NDArray[np.float64]:
    """The map at rows x cols: each new cell the mean of what it covers; NaN where half of that or more is NaN."""
    known = np.isfinite(heatmap)
    down, across = _coverage(heatmap.shape[0], rows), _coverage(heatmap.shape[1], cols)
    weight = down @ known.astype(np.float64) @ across.T
    total = down @ np.where(known, heatmap, 0.0) @ across.T
    resampled: NDArray[np.float64] = np.full((rows, cols), np.nan)
    np.divide(total, weight, out=resampled, where=weight > 0.5)
    return resampled


def _coverage(size: int, out: int) -> NDArray[np.float64]:
    """[out, size]: which part of new cell i each old cell takes up; rows sum to 1."""
    edges = np.linspace(0, size, out + 1)
    cells = np.arange(size)
    overlap = np.minimum(edges[1:, None], cells + 1) - np.maximum(edges[:-1, None], cells)
    coverage: NDArray[np.float64] = np.clip(overlap, 0, None) / (size / out)
    return coverage
