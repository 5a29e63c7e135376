"""The level or color of a PNG, or of an image of PIL, that stands for transparent becomes white."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from kryptondb.errors import ImageError
from kryptondb.images.arrays import from_array
from kryptondb.images.content import BytesContent
from kryptondb.images.decode import decode

GRAY, RGB, PALETTE = 0, 2, 3


def png(depth: int, kind: int, samples: np.ndarray, transparent: bytes, palette: bytes = b"") -> bytes:
    """A PNG of any depth, with a tRNS chunk."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    flat = samples.reshape(len(samples), -1)
    bits = (flat[:, :, None] >> np.arange(depth)[::-1]) & 1
    rows = np.packbits(bits.reshape(len(samples), -1).astype(np.uint8), axis=1)
    header = struct.pack(">IIBBBBB", samples.shape[1], len(samples), depth, kind, 0, 0, 0)
    parts = [chunk(b"IHDR", header)]
    parts += [chunk(b"PLTE", palette)] if palette else []
    parts += [chunk(b"tRNS", transparent), chunk(b"IDAT", zlib.compress(b"".join(b"\0" + r.tobytes() for r in rows)))]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts) + chunk(b"IEND", b"")


def both(data: bytes) -> tuple[np.ndarray, np.ndarray]:
    """The picture in a file, and in an image that PIL has opened from it."""
    return decode(BytesContent(data, "a.png", ".png")).pixels, from_array(Image.open(io.BytesIO(data)), "image").pixels


@pytest.mark.parametrize("depth", [1, 2, 4, 8, 16])
def test_the_transparent_level_of_a_gray_png_of_any_depth(depth: int) -> None:
    top = 2**depth - 1
    samples = np.random.default_rng(depth).integers(0, top + 1, (5, 17))
    for key in {0, 1, top // 2, top - 1, top}:
        samples[0] = key
        expected = np.where(samples == key, 1, samples / top)[:, :, None]
        for seen in both(png(depth, GRAY, samples, struct.pack(">H", key))):
            assert np.abs(seen - expected).max() < 1e-6, key


@pytest.mark.parametrize("depth", [8, 16])
def test_the_transparent_color_of_an_rgb_png(depth: int) -> None:
    top = 2**depth - 1
    samples = np.random.default_rng(depth).integers(0, top + 1, (5, 17, 3))
    samples[0], samples[1] = (7, 200, 31), (7, 200, 32)  # one of which is not it
    expected = np.where((samples == (7, 200, 31)).all(axis=2, keepdims=True), 1, samples / top)
    seen, _ = both(png(depth, RGB, samples, struct.pack(">HHH", 7, 200, 31)))
    assert np.abs(seen - expected).max() < 1e-6


@pytest.mark.parametrize("depth", [1, 2, 4, 8])
@pytest.mark.parametrize("known", ["all", "some", "one"])
def test_the_opacities_of_a_palette(depth: int, known: str) -> None:
    noise, count = np.random.default_rng(depth), 2**depth
    samples, palette = noise.integers(0, count, (5, 17)), noise.integers(0, 256, (count, 3))
    given = {"all": noise.integers(0, 256, count), "some": noise.integers(0, 256, 1), "one": np.array([255, 0])}[known]
    opacities = np.concatenate([given, np.full(count - len(given), 255)])
    colors, alpha = palette[samples] / 255, (opacities[samples] / 255)[:, :, None]
    data = png(depth, PALETTE, samples, bytes(given.tolist()), bytes(palette.reshape(-1).tolist()))
    for seen in both(data):
        assert np.abs(seen - (colors * alpha + 1 - alpha)).max() < 1e-6


@pytest.mark.parametrize(
    ("mode", "value"),
    [
        *(("L", value) for value in ("x", (1, 2), 1.5, True)),
        *(("RGB", value) for value in (5, (1, 2), (1, 2, "x"), b"ab")),
        *(("P", value) for value in ((1, 2, 3), -1, 3000, "x", bytes(1000))),
        ("1", "q"),
        ("I;16", (1,)),
    ],
)
def test_a_transparency_that_an_image_of_its_mode_cannot_have_is_an_image_error(mode: str, value: object) -> None:
    image = Image.new(mode, (4, 4))
    image.info["transparency"] = value
    with pytest.raises(ImageError, match="^image: "):
        from_array(image, "image")


@pytest.mark.parametrize("mode", ["LA", "RGBA", "CMYK", "F", "YCbCr", "HSV"])
def test_modes_without_a_transparent_level_are_read_whatever_is_said_of_one(mode: str) -> None:
    image = Image.new(mode, (4, 4))
    image.info["transparency"] = "x"
    assert from_array(image, "image").pixels.shape[:2] == (4, 4)


@pytest.mark.parametrize("depth", [1, 2, 4, 8])
def test_a_png_of_colors_without_a_palette_is_damaged(depth: int) -> None:
    samples = np.array([[0, 1]])
    palette = bytes(range(6))
    assert decode(BytesContent(png(depth, PALETTE, samples, b"\xff", palette), "a.png", ".png")).pixels[0, 1, 2] > 0
    with pytest.raises(ImageError, match=r"a\.png: damaged PNG: its palette is missing"):
        decode(BytesContent(png(depth, PALETTE, samples, b"\xff"), "a.png", ".png"))
