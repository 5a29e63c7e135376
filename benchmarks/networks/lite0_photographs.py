"""EfficientNet-lite0, trained on ImageNet, on photographs that scikit-image ships.

Each photograph is cut into a grid of squares; no two squares share a pixel. Some photographs are larger or show more
than others and give more squares. A square falls into the one or the other set at random, with a fixed seed, so squares
of one photograph may be in both: they show different things, as the photographs of one camera roll do, and what is
measured on one set holds for the other. Squares that are almost uniform in color are skipped.
"""

from __future__ import annotations

import numpy as np

from benchmarks.networks.photographs import Box, photograph_part, photograph_size
from benchmarks.networks.real_network import TUNING, UNSEEN, Check, RealNetwork, random_split
from kryptondb.catalog.pretrained import efficientnet_lite0
from kryptondb.images.decode import decode
from kryptondb.images.samples import sample_path

NAME = "lite0_photographs"
PHOTOGRAPHS = (
    "astronaut", "brick", "camera", "cat", "cell", "coffee", "coins", "grass", "gravel", "histology", "hubble", "moon",
    "motorcycle", "retina", "rocket",
)  # fmt: skip
SMALLEST_SQUARE = 200  # pixels: little less than the network's input
MOST_A_SIDE = 3  # squares: else the largest photographs would be most of the set
LEAST_CONTRAST = 8.0  # standard deviation of the levels 0..255


def load() -> RealNetwork:
    """Builds the network and draws its pictures. Raises ModelError for a package that is missing."""
    built = efficientnet_lite0()
    preprocess = built.preprocess
    side = preprocess.height
    tuning, unseen = random_split(photograph_squares(), TUNING, UNSEEN, seed=0)
    cat = (preprocess.pixels(decode(sample_path("cat"))) * 255).round().byte().permute(1, 2, 0).numpy()
    return RealNetwork(
        name=NAME,
        module=built.module.eval().requires_grad_(False),
        side=side,
        mean=preprocess.mean[0],
        std=preprocess.std[0],
        scale=preprocess.scale,
        labels=built.labels or (),
        channels=preprocess.channels,
        tuning=[photograph_part(name, box, side) for name, box in tuning],
        unseen=[photograph_part(name, box, side) for name, box in unseen],
        checks=(Check("the whole cat", cat, "Egyptian cat", 0.77),),
    )


def photograph_squares() -> list[tuple[str, Box]]:
    """Every square of every photograph that has something in it."""
    return [
        (name, box)
        for name in PHOTOGRAPHS
        for box in squares(*photograph_size(name))
        if np.std(photograph_part(name, box, SMALLEST_SQUARE)) >= LEAST_CONTRAST
    ]


def squares(height: int, width: int) -> list[Box]:
    """A picture's largest centered grid of equal squares, row by row: at most 3 per side, of 200 pixels or more."""
    rows, cols = (min(MOST_A_SIDE, max(1, length // SMALLEST_SQUARE)) for length in (height, width))
    side = min(height // rows, width // cols)
    top, left = (height - rows * side) // 2, (width - cols * side) // 2
    corners = ((left + col * side, top + row * side) for row in range(rows) for col in range(cols))
    return [(x, y, x + side, y + side) for x, y in corners]
