"""Drawings of regions and tiles: what an occlusion changes in each layer, computed by the engine's own geometry."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache

import numpy as np
import torch

from kryptondb.executor.tiles.tiles import Extents, Tile, even
from kryptondb.network import Grid, Network, Node, trace
from kryptondb.network.regions import Regions, regions

#: The example of every drawing: an input of 32 x 32, a patch of 6 x 6, a stride of 2.
SIDE, PATCH, STRIDE = 32, 6, 2
#: Where the patch stands in the first drawings: its place in the grid.
_ROW, _COL = 5, 7
_BOX = 150  # pixels of a map's side on the page

Box = tuple[int, int, int, int]  # y, x, height, width, in cells


@lru_cache(maxsize=1)
def example() -> tuple[Network, Grid]:
    """A small VGG: three convolutions of 3 x 3, each with a pooling behind it but the last."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = torch.nn.Sequential(
            torch.nn.Conv2d(3, 4, 3, padding=1), torch.nn.MaxPool2d(2),
            torch.nn.Conv2d(4, 4, 3, padding=1), torch.nn.MaxPool2d(2),
            torch.nn.Conv2d(4, 4, 3, padding=1), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(),
            torch.nn.Linear(4, 2),
        ).eval()  # fmt: skip
    return trace(module, (3, SIDE, SIDE)), Grid(SIDE, SIDE, (PATCH, PATCH), (STRIDE, STRIDE))


def region_growth() -> str:
    """The region of one position in every layer."""
    network, grid = example()
    found = regions(network, grid)
    drawings = [_map(node, [(_region(found, node, _ROW, _COL), "region")], _share(found, node)) for node in _maps()]
    return _row(drawings, "three")


def read_window() -> str:
    """The second convolution's region, and what it reads of the layer before to compute it."""
    network, grid = example()
    found = regions(network, grid)
    node = _maps()[3]
    source = network.nodes[node.inputs[0]]
    region = _region(found, node, _ROW, _COL)
    return _row(
        [
            _map(
                source,
                [(_region(found, source, _ROW, _COL), "region"), (_read(node, source, region), "read")],
                "solid: what changed; dashed: what is read",
            ),
            _map(node, [(region, "region")], "what is computed anew"),
        ],
        "three",
    )


def tile() -> str:
    """A tile of 4 x 4 positions: where they stand in the grid, their patches, and their regions in two layers."""
    network, grid = example()
    found = regions(network, grid)
    extents = Extents(found)
    rows, cols = even(np.arange(grid.rows), 4)[1], even(np.arange(grid.cols), 4)[1]
    chosen = Tile(rows, cols)
    sizes_y, sizes_x = extents.sizes(chosen)
    layers = _maps()
    first, second = layers[2], layers[4]
    drawings = [_grid_of_tiles(grid, chosen)]
    for node in (layers[0], first, second):
        boxes = [(_region(found, node, int(row), int(col)), "one") for row in rows for col in cols]
        common = f"{sizes_y[node.index]} × {sizes_x[node.index]} for all {chosen.size}"
        drawings.append(_map(node, boxes, "their patches" if node is layers[0] else common))
    return _row(drawings)


def shares() -> str:
    """A table of the example: each layer's share that one position changes, in the mean and at most."""
    network, grid = example()
    found = regions(network, grid)
    lines = ["| layer | output | computed anew, mean over the grid | at most |", "|---|---|---|---|"]
    for node in _maps()[1:]:
        heights, widths = found.sizes(node)
        cells = np.outer(heights, widths) / (node.height * node.width)
        size = f"{node.height} × {node.width}"
        lines.append(f"| {_title(node)} | {size} | {cells.mean():.0%} | {cells.max():.0%} |")
    return "\n".join(lines)


def _maps() -> Sequence[Node]:
    """The input, and every layer that is a map."""
    network, _ = example()
    return [node for node in network.nodes if node.axes is not None and node.height > 1]


def _region(found: Regions, node: Node, row: int, col: int) -> Box:
    y, x = found.y[node.index], found.x[node.index]
    assert y is not None and x is not None
    return int(y.first[row]), int(x.first[col]), int(y.sizes[row]), int(x.sizes[col])


def _read(node: Node, source: Node, region: Box) -> Box:
    """The read window of a region, its part inside the picture."""
    assert node.window is not None
    y, x, height, width = region
    spans = []
    for first, size, window, most in (
        (y, height, node.window.y, source.height),
        (x, width, node.window.x, source.width),
    ):
        begin = first * window.stride - window.before
        end = begin + (size - 1) * window.stride + window.size
        spans.append((max(0, begin), min(most, end)))
    (top, bottom), (left, right) = spans
    return top, left, bottom - top, right - left


def _title(node: Node) -> str:
    if node.window is None:
        return "input"
    kind = "pooling" if "pool" in node.operator else "convolution"
    return f"{kind} {node.window.y.size} × {node.window.x.size}"


def _share(found: Regions, node: Node) -> str:
    _, _, height, width = _region(found, node, _ROW, _COL)
    return f"{height} × {width} change, {height * width / (node.height * node.width):.0%}"


def _map(node: Node, boxes: Iterable[tuple[Box, str]], caption: str) -> str:
    cell = _BOX / node.height
    title = f"{_title(node)}, {node.height} × {node.width}"
    marks = [
        f'<rect class="{kind}" x="{x * cell:.1f}" y="{y * cell:.1f}" width="{w * cell:.1f}" height="{h * cell:.1f}"/>'
        for (y, x, h, w), kind in boxes
    ]
    return _drawing(title, [*_lines(node.height, node.width), *marks], caption)


def _grid_of_tiles(grid: Grid, chosen: Tile) -> str:
    step = _BOX / grid.rows
    marks = [
        f'<circle class="{kind}" cx="{(col + 0.5) * step:.1f}" cy="{(row + 0.5) * step:.1f}" r="{step * 0.32:.1f}"/>'
        for row in range(grid.rows)
        for col in range(grid.cols)
        for kind in ["chosen" if row in chosen.rows and col in chosen.cols else "position"]
    ]
    return _drawing(f"grid {grid.rows} × {grid.cols}", marks, f"each dot a position, {chosen.size} in the tile")


def _lines(rows: int, cols: int) -> Iterator[str]:
    yield f'<rect class="map" x="0" y="0" width="{_BOX}" height="{_BOX}"/>'
    path = "".join(f"M0 {_BOX * k / rows:.2f}h{_BOX}" for k in range(1, rows))
    path += "".join(f"M{_BOX * k / cols:.2f} 0v{_BOX}" for k in range(1, cols))
    yield f'<path class="cells" d="{path}"/>'


def _drawing(title: str, marks: Sequence[str], caption: str) -> str:
    return (
        f"<figure><figcaption>{title}</figcaption>"
        f'<svg viewBox="-2 -2 {_BOX + 4} {_BOX + 4}" role="img">'
        f"<title>{title}</title>{''.join(marks)}</svg><figcaption>{caption}</figcaption></figure>"
    )


def _row(drawings: Iterable[str], size: str = "four") -> str:
    return f'<div class="drawn maps {size}">{"".join(drawings)}</div>'
