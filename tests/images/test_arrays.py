"""Arrays and PIL images become pictures; what has no meaning is refused with the remedy."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from kryptondb.errors import ImageError
from kryptondb.images import from_array


@pytest.mark.filterwarnings("ignore:the matrix subclass")
def test_uint8_uint16_bool_and_unit_floats_are_the_same_picture(rgb: NDArray[np.uint8]) -> None:
    expected = rgb / 255
    wide = rgb.astype(np.uint16) * 257
    gray = from_array(np.asmatrix(rgb[:, :, 0]), "a").pixels
    np.testing.assert_array_equal(gray, from_array(rgb[:, :, 0], "a").pixels)
    for array in (rgb, wide, wide.astype(">u2"), expected, expected.astype(np.float32)):
        picture = from_array(array, "a")
        assert picture.name == "a"
        assert picture.pixels.dtype == np.float32
        np.testing.assert_allclose(picture.pixels, expected, atol=1e-7)
    assert np.array_equal(np.unique(from_array(rgb[:, :, 0] > 99, "a").pixels), [0, 1])


def test_channels_may_be_missing_one_two_three_or_four(rgb: NDArray[np.uint8]) -> None:
    gray = rgb[:, :, :1]
    opaque = np.full_like(gray, 255)
    for array, channels in (
        (gray[:, :, 0], 1), (gray, 1), (np.dstack([gray, opaque]), 1), (rgb, 3), (np.dstack([rgb, opaque]), 3),
    ):  # fmt: skip
        picture = from_array(array, "a")
        assert (picture.height, picture.width, picture.channels) == (12, 17, channels)
        np.testing.assert_array_equal(picture.pixels, array.reshape(12, 17, -1)[:, :, :channels] / np.float32(255))


def test_the_picture_does_not_share_memory_with_the_array() -> None:
    array = np.zeros((4, 4, 3), dtype=np.float32)
    picture = from_array(array, "a")
    array += 1
    assert picture.pixels.max() == 0


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "HSV"])
def test_pil_images_of_any_mode_are_taken(mode: str, rgb: NDArray[np.uint8]) -> None:
    picture = from_array(Image.fromarray(rgb).convert(mode), "a")
    assert picture.pixels.shape == (12, 17, 1 if mode in ("1", "L", "LA") else 3)


def test_a_16_bit_pil_image_keeps_its_range() -> None:
    ramp = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    pixels = from_array(Image.fromarray(ramp), "a").pixels
    assert np.array_equal(pixels[:, :, 0], ramp.astype(np.float32) / np.float32(65535))


def test_a_pil_image_with_an_orientation_is_turned_upright(rgb: NDArray[np.uint8]) -> None:
    image = Image.fromarray(rgb)
    image.getexif()[0x0112] = 6
    assert np.array_equal(from_array(image, "a").pixels, np.rot90(rgb, -1).astype(np.float32) / np.float32(255))


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (
            np.zeros((3, 224, 200), dtype=np.uint8),
            r"a: .*3 x 224 x 200 looks like channels first; say which: axes => 'CHW'",
        ),
        (np.zeros((10, 10, 65), dtype=np.uint8), "C is 1 to 64"),
        (np.zeros((2, 10, 10, 3), dtype=np.uint8), r"batch; give a list of pictures: list\(array\)"),
        (np.zeros(10, dtype=np.uint8), "H x W"),
        (np.array(3), "a single number"),
        (np.zeros((0, 10, 3), dtype=np.uint8), "no pixels"),
        (np.zeros((10, 10), dtype=np.int64), "int64 samples have no known range"),
        (np.full((10, 10), 200.0), r"must lie in 0\.\.1, these go from 200 to 200"),
        (np.full((10, 10), np.nan), "NaN"),
        (np.array([["a"]]), "no known range"),
        (np.zeros((4, 4), dtype=np.complex64), "complex64"),
        (np.broadcast_to(np.uint8(0), (10**5, 10**5)), "more than the 80,000,000"),
        (Image.new("I", (3, 3)), "no known range"),
        (Image.new("LAB", (3, 3)), "CIELAB"),
        (Image.new("L", (0, 3)), "no pixels"),
        ("a.png", "not str"),
        (None, "not NoneType"),
    ],
)
def test_what_is_no_picture_is_refused_with_the_remedy(source: object, message: str) -> None:
    with pytest.raises(ImageError, match=message) as caught:
        from_array(source, "a")
    assert str(caught.value).startswith("a: ")
