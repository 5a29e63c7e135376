"""Handwritten digits on photographs: pictures whose class rests on what is in one place of them.

The digits are the 1,797 real ones that scikit-learn ships, 8 x 8 pixels of 17 levels, in the order in which the writers
wrote them; the photographs are scikit-image's. A scene is one digit, written large and a little tilted somewhere on a
part of a photograph that is toned down, in a light or a dark ink, whichever stands out there. What a network learns
from has neither a digit nor a photograph in common with what it is judged on: the last writers' digits and three
photographs are held out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks.networks.photographs import Box, Pixels, photograph_part, photograph_size
from kryptondb.errors import ModelError

LABELS = tuple("0123456789")
WRITTEN = 1797
TRAINING_DIGITS = range(1400)
HELD_OUT_DIGITS = range(1400, WRITTEN)
TRAINING_PHOTOGRAPHS = (
    "astronaut", "brick", "cat", "cell", "coins", "grass", "gravel", "histology", "hubble", "moon", "retina", "rocket",
)  # fmt: skip
HELD_OUT_PHOTOGRAPHS = ("camera", "coffee", "motorcycle")

SMALLEST_PART = 160  # pixels of a photograph: less, enlarged to a network's input, is a blur
DIGIT_SIDES = (0.26, 0.4)  # of the picture's side
MOST_TILT = 12.0  # degrees, either way
CONTRAST = 0.5  # how much of its own a photograph keeps: few pictures teach, and strokes must not drown in it
LUMINANCE = np.array((0.299, 0.587, 0.114))


@dataclass(frozen=True)
class Scene:
    """One picture, at no size in particular.

    Attributes:
        photograph, part: the background.
        digit: which of scikit-learn's digits.
        side, top, left: of the digit's square, in shares of the picture's side.
        tilt: degrees that the digit is turned by, counterclockwise.
        ink: how far the ink goes from black or white towards a color, and that color.
    """

    photograph: str
    part: Box
    digit: int
    side: float
    top: float
    left: float
    tilt: float
    ink: tuple[float, float, float]


def draw_scene(
    random: np.random.Generator, digits: Sequence[int], photographs: Sequence[str], closer: float = 1.0
) -> Scene:
    """A scene with one of these digits on one of these photographs.

    Args:
        closer: how many times the digit and its background are enlarged; at most 1 / 0.4, so that the digit fits.
    """
    photograph = photographs[int(random.integers(len(photographs)))]
    height, width = photograph_size(photograph)
    part = round(random.integers(SMALLEST_PART, min(height, width) + 1) / closer)
    x, y = int(random.integers(width - part + 1)), int(random.integers(height - part + 1))
    side = float(random.uniform(*DIGIT_SIDES)) * closer
    top, left = (float(place) for place in random.uniform(0, 1 - side, 2))
    tilt = float(random.uniform(-MOST_TILT, MOST_TILT))
    red, green, blue = (float(share) for share in random.uniform(0, 0.35, 3))
    digit = digits[int(random.integers(len(digits)))]
    return Scene(photograph, (x, y, x + part, y + part), digit, side, top, left, tilt, (red, green, blue))


def render(scene: Scene, side: int) -> Pixels:
    """The scene as a picture: uint8 [side, side, 3]."""
    picture = background(scene, side)
    height = max(1, round(scene.side * side))
    top, left = (min(round(place * side), side - height) for place in (scene.top, scene.left))
    square = picture[top : top + height, left : left + height]
    ink = np.array(scene.ink)
    if (square @ LUMINANCE).mean() < 0.5:
        ink = 1 - ink
    strokes = _strokes(scene.digit, scene.tilt, height)[:, :, None]
    picture[top : top + height, left : left + height] = square * (1 - strokes) + ink * strokes
    return np.asarray(np.rint(picture * 255), dtype=np.uint8)


def background(scene: Scene, side: int) -> NDArray[np.float64]:
    """The part of the photograph, toned down towards its mean color: [side, side, 3] of 0..1."""
    photograph = photograph_part(scene.photograph, scene.part, side).astype(np.float64) / 255
    mean = photograph.mean(axis=(0, 1))
    return np.asarray(mean + CONTRAST * (photograph - mean))


def label_of(scene: Scene) -> int:
    """The class of a scene: 0 to 9."""
    return int(_digits()[1][scene.digit])


def _strokes(digit: int, tilt: float, height: int) -> NDArray[np.float64]:
    """How much ink lies where, 0 to 1: [height, height]. Enlarged strokes are blurred; their edges are made firm."""
    small = Image.fromarray(np.pad(_digits()[0][digit], 1).astype(np.float32) / 16)
    upright = small.resize((height, height), Image.Resampling.BICUBIC)
    large = np.asarray(upright.rotate(tilt, Image.Resampling.BILINEAR), dtype=np.float64)
    return np.clip((large - 0.35) / 0.4, 0, 1)


@cache
def _digits() -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """All digits, [1797, 8, 8] of 0..16, and what they are."""
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise ModelError(
            "the networks that read digits need the package scikit-learn", hint='pip install "kryptondb[bench]"'
        ) from None
    loaded = load_digits()
    return loaded.images, loaded.target
