"""The heat map in the terminal keeps to its width, keeps its proportions, and says its range."""

from __future__ import annotations

import numpy as np
import pytest
from rich.text import Text

from kryptondb.images.colors import colors, limits
from kryptondb.images.terminal import halfblocks


def _size(text: Text) -> tuple[int, int]:
    """(lines of the map, its widest line in columns), the legend left out."""
    lines = text.plain.split("\n")[:-1]
    return len(lines), max(map(len, lines))


@pytest.mark.parametrize("shape", [(53, 53), (10, 40), (40, 10), (1, 1), (1, 30), (200, 300)])
@pytest.mark.parametrize(("width", "height"), [(80, None), (80, 24), (20, 10), (7, None), (1, 2), (300, 60)])
def test_it_fits_and_keeps_its_proportions(shape: tuple[int, int], width: int, height: int | None) -> None:
    text = halfblocks(np.random.default_rng(0).random(shape), width=width, height=height)
    lines, columns = _size(text)
    assert all(len(line) <= width for line in text.plain.split("\n"))
    assert height is None or lines + 1 <= height
    # A character is one cell wide and two high; rounding costs at most one cell each way.
    assert abs(2 * lines - columns * shape[0] / shape[1]) <= max(2, 0.6 * shape[0] / shape[1] + 1.5)


def _cell(text: Text, line: int, column: int) -> tuple[str, object, object]:
    """A character of the map with its foreground and background color."""
    row = text.split("\n", allow_blank=True)[line]
    style = next((span.style for span in row.spans if span.start <= column < span.end), None)
    if style is None or isinstance(style, str):
        return row.plain[column], None, None
    triplet = [color and tuple(color.triplet or ()) for color in (style.color, style.bgcolor)]
    return row.plain[column], triplet[0], triplet[1]


@pytest.mark.parametrize("values", ["drop", "score"])
def test_each_half_has_the_color_of_its_cell(values: str) -> None:
    heatmap = np.random.default_rng(0).standard_normal((4, 6))
    text = halfblocks(heatmap, width=6, values=values)
    expected = colors(heatmap, values, *limits(heatmap, values))
    for row in range(0, 4, 2):
        for col in range(6):
            assert _cell(text, row // 2, col) == ("▀", tuple(expected[row, col]), tuple(expected[row + 1, col]))


def test_nan_is_blank_in_either_half() -> None:
    heatmap = np.array([[1.0, np.nan, np.nan], [np.nan, 2.0, np.nan]])
    text = halfblocks(heatmap, width=3)
    assert text.plain.split("\n")[0] == "▀▄ "
    assert _cell(text, 0, 0)[2] is None
    assert _cell(text, 0, 1)[2] is None
    assert halfblocks(np.full((3, 3), np.nan), width=3).plain.split("\n")[-1] == "no "


def test_the_legend_gives_the_true_range_even_where_the_map_is_averaged() -> None:
    heatmap = np.zeros((100, 100))
    heatmap[50, 50] = 0.771
    legend = halfblocks(heatmap, width=30).plain.split("\n")[-1]
    assert legend.startswith("min 0 █")
    assert legend.endswith("█ max 0.771")
    assert halfblocks(heatmap, width=12).plain.split("\n")[-1] == "0 to 0.771"


def test_a_larger_map_is_averaged_not_sampled() -> None:
    heatmap = np.arange(16.0).reshape(4, 4)
    text = halfblocks(heatmap, width=2)
    means = heatmap.reshape(2, 2, 2, 2).mean(axis=(1, 3))
    expected = colors(means, "score", *limits(heatmap, "score"))
    assert _cell(text, 0, 1) == ("▀", tuple(expected[0, 1]), tuple(expected[1, 1]))


def test_sizes_and_shapes_that_make_no_sense_are_refused() -> None:
    for heatmap, width, height in ((np.zeros(3), 5, None), (np.zeros((2, 2)), 0, None), (np.zeros((2, 2)), 5, 1)):
        with pytest.raises(ValueError, match="heat map"):
            halfblocks(heatmap, width=width, height=height)
