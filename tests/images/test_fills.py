"""Every fill agrees with a loop over positions that does it by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import ndimage

from kryptondb.images.fills import BLUR_SIGMA, GAUSSIAN_SIGMA, parse_fill
from kryptondb.options.words import FILLS

HEIGHT, WIDTH, PATCH = 29, 37, (7, 5)
DTYPES = [torch.float32, torch.float64]


def _naive(value: object, pixels: NDArray[np.floating], y: int, x: int) -> NDArray[np.floating]:
    """One patch [C, h, w], as LANGUAGE.md words it."""
    channels = len(pixels)
    covered = pixels[:, y : y + PATCH[0], x : x + PATCH[1]]
    levels = {"black": 0.0, "gray": 0.5, "grey": 0.5, "white": 1.0}
    if value in levels or isinstance(value, float):
        return np.full_like(covered, levels.get(value, value))  # type: ignore[arg-type]
    if isinstance(value, tuple):
        r, g, b = value
        color = [r, g, b] if channels == 3 else [0.299 * r + 0.587 * g + 0.114 * b]
        return np.broadcast_to(np.array(color)[:, None, None], covered.shape)
    if value == "mean":
        return np.stack([np.full(PATCH, channel.mean()) for channel in pixels])
    if value == "patch_mean":
        return np.stack([np.full(PATCH, channel.mean()) for channel in covered])
    if value == "gaussian":
        return covered * (1 - _bump(*PATCH))
    assert value == "blur"
    sigma = BLUR_SIGMA * min(pixels.shape[1:])
    blurred = np.stack([ndimage.gaussian_filter(channel, sigma, mode="nearest") for channel in pixels])
    return blurred[:, y : y + PATCH[0], x : x + PATCH[1]]


def _bump(height: int, width: int) -> np.ndarray:
    """A Gaussian over a patch, each cell its mean over the cell, from 0 where it is least to 1 in the middle."""

    def mass(place: int, side: int) -> float:
        over = [math.erf((place - side // 2 + half) / (GAUSSIAN_SIGMA * side * math.sqrt(2))) for half in (-0.5, 0.5)]
        return (over[1] - over[0]) / 2

    bump = np.array([[mass(y, height) * mass(x, width) for x in range(width)] for y in range(height)])
    return (bump - bump.min()) / (bump.max() - bump.min())


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("value", [*FILLS, "grey", 0.25, (1.0, 0.5, 0.0)])
def test_a_fill_agrees_with_a_loop_over_every_position(value: object, channels: int, dtype: torch.dtype) -> None:
    pixels = torch.rand(channels, HEIGHT, WIDTH, dtype=dtype, generator=torch.Generator().manual_seed(1))
    ys, xs = (grid.ravel() for grid in np.mgrid[0 : HEIGHT - PATCH[0] + 1, 0 : WIDTH - PATCH[1] + 1])
    fill = parse_fill(value)
    patches = fill.prepare(pixels)(ys, xs, *PATCH)
    assert patches.shape == (len(ys), channels, *PATCH)
    assert patches.dtype == dtype
    expected = np.stack([_naive(value, pixels.double().numpy(), y, x) for y, x in zip(ys, xs, strict=True)])
    np.testing.assert_allclose(patches.numpy(), expected, atol=1e-6 if dtype == torch.float32 else 1e-12, rtol=0)


@pytest.mark.parametrize("name", FILLS)
def test_prepared_once_a_fill_serves_many_tiles(name: str) -> None:
    pixels = torch.rand(3, HEIGHT, WIDTH)
    fill = parse_fill(name)
    paint = fill.prepare(pixels)
    for ys, xs in ((np.array([0]), np.array([0])), (np.array([3, 22, 1]), np.array([32, 0, 9], dtype=np.int32))):
        assert torch.equal(paint(ys, xs, *PATCH), fill.prepare(pixels)(ys, xs, *PATCH))
    none = np.array([], dtype=np.int64)
    assert paint(none, none, *PATCH).shape == (0, 3, *PATCH)


@pytest.mark.parametrize("name", FILLS)
def test_a_patch_outside_the_image_is_refused(name: str) -> None:
    paint = parse_fill(name).prepare(torch.rand(3, HEIGHT, WIDTH))
    for y, x in ((-1, 0), (0, -1), (HEIGHT - PATCH[0] + 1, 0), (0, WIDTH - PATCH[1] + 1)):
        with pytest.raises(ValueError, match="outside"):
            paint(np.array([y]), np.array([x]), *PATCH)


@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 2, 50), (1, 5, 3)])
def test_tiny_and_thin_images_can_be_blurred(shape: tuple[int, int, int]) -> None:
    ones = parse_fill("blur").prepare(torch.ones(shape))(np.array([0]), np.array([0]), 1, 1)
    torch.testing.assert_close(ones, torch.ones(1, shape[0], 1, 1))


def test_patch_mean_of_pure_white_stays_in_range() -> None:
    paint = parse_fill("patch_mean").prepare(torch.ones(3, 224, 224))
    patches = paint(np.arange(200), np.arange(200), 16, 16)
    assert patches.max() <= 1
    torch.testing.assert_close(patches, torch.ones_like(patches))


@pytest.mark.parametrize("value", [*FILLS, 0, 1, 0.1, 1e-7, (0, 0.3333333333333333, 1)])
def test_the_text_of_a_fill_reads_back_as_the_same_fill(value: object) -> None:
    fill = parse_fill(value)
    assert parse_fill(str(fill)) == fill
    assert hash(parse_fill(str(fill))) == hash(fill)


def test_names_are_canonical() -> None:
    assert str(parse_fill("GREY")) == "gray"
    assert str(parse_fill(0.5)) == "0.5"
    assert str(parse_fill((1, 0, 0.5))) == "(1, 0, 0.5)"
    assert parse_fill([1, 0, 0]) == parse_fill("(1, 0, 0)") != parse_fill("(1, 0, 0.1)")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("grayish", 'no fill named "grayish"; it is one of black, .*Did you mean "gray"'),
        (128, r"a fill of 128 is outside 0\.\.1: write 128/255 as 0\.502"),
        (-0.5, "outside"),
        (float("nan"), "from 0 to 1"),
        (True, "fill must be"),
        (None, "fill must be"),
        ((1, 0), "three numbers in 0..1, not 2"),
        ((1, 0, "x"), "from 0 to 1"),
        ((0, 0, 300), "outside"),
        ("", "no fill named"),
        ("nan", "from 0 to 1"),
        ("(0.5)(", "no fill named"),
    ],
)
def test_a_wrong_fill_says_what_is_possible(value: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_fill(value)
