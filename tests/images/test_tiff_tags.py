"""What the tags of a TIFF say of its samples: opacity, white at zero, planes, windows; for every type of sample."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import tifffile

from kryptondb.errors import ImageError
from kryptondb.images.content import BytesContent, Part
from kryptondb.images.decode import decode

HEIGHT, WIDTH = 9, 14
TYPES = ("u1", "u2", "f2", "f4", "f8")
NO_RANGE = ("i1", "i2", "i4", "u4")
LAYOUTS: Mapping[str, Mapping[str, Any]] = {
    "plain": {},
    "big-endian": {"byteorder": ">"},
    "BigTIFF": {"bigtiff": True},
    "deflated tiles": {"tile": (16, 16), "compression": "zlib"},
}


def samples_of(kind: str, channels: int) -> np.ndarray:
    """[H, W] or [H, W, C]."""
    noise = np.random.default_rng(channels)
    shape = (HEIGHT, WIDTH) if channels == 1 else (HEIGHT, WIDTH, channels)
    dtype = np.dtype(kind)
    if dtype.kind == "f":
        return noise.random(shape).astype(dtype)
    low = -100 if dtype.kind == "i" else 0
    return noise.integers(low, 100 if low else 2 ** min(32, 8 * dtype.itemsize), shape).astype(dtype)


def unit(samples: np.ndarray) -> np.ndarray:
    """[H, W, C] in 0..1."""
    levels = samples.astype(np.float64) / (np.iinfo(samples.dtype).max if samples.dtype.kind == "u" else 1)
    return levels[:, :, None] if levels.ndim == 2 else levels


def through(samples: np.ndarray, center: float, width: float) -> np.ndarray:
    return np.clip((samples.astype(np.float64) - center) / width + 0.5, 0, 1)[:, :, None]


def written(samples: np.ndarray, **options: Any) -> bytes:
    stream = io.BytesIO()
    if options.get("planarconfig") == "separate":
        samples = np.moveaxis(samples, 2, 0).copy()
    tifffile.imwrite(stream, samples, **options)
    return stream.getvalue()


def read(data: bytes, window: tuple[float, float] | None = None, page: int | None = None) -> np.ndarray:
    return decode(BytesContent(data, "a.tif", ".tif"), Part(page=page), window).pixels


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("planes", ["contig", "separate"])
@pytest.mark.parametrize("extra", [None, "unspecified", "assocalpha", "unassalpha"])
@pytest.mark.parametrize("photometric", ["miniswhite", "minisblack", "rgb"])
@pytest.mark.parametrize("kind", TYPES)
def test_samples_of_every_type_are_what_their_tags_say(
    kind: str, photometric: str, extra: str | None, planes: str, layout: str
) -> None:
    colors = 3 if photometric == "rgb" else 1
    channels = colors + (extra is not None)
    samples = samples_of(kind, channels)
    if extra == "assocalpha":
        samples[:, :, :colors] = np.minimum(samples[:, :, :colors], samples[:, :, colors:])
    options = dict(LAYOUTS[layout], photometric=photometric)
    if channels > 1:
        options["planarconfig"] = planes
    if extra is not None:
        options["extrasamples"] = [extra]
    levels = unit(samples)
    expected, alpha = levels[:, :, :colors], levels[:, :, colors:]
    if photometric == "miniswhite":
        expected = 1 - expected  # of premultiplied samples too: (1 - gray) times opacity is stored
    if extra == "unassalpha":
        expected = expected * alpha + 1 - alpha
    elif extra == "assocalpha" and photometric != "miniswhite":
        expected = np.minimum(expected + 1 - alpha, 1)
    assert np.abs(read(written(samples, **options)) - expected).max() < 2e-3


@pytest.mark.parametrize("extra", [None, "unspecified"])
@pytest.mark.parametrize("photometric", ["miniswhite", "minisblack"])
@pytest.mark.parametrize("kind", [*TYPES, *NO_RANGE])
def test_a_window_is_in_the_units_of_the_samples_whatever_is_white(
    kind: str, photometric: str, extra: str | None
) -> None:
    samples = samples_of(kind, 1 if extra is None else 2)
    gray = samples if extra is None else samples[:, :, 0]
    low, high = float(gray.min()), float(gray.max())
    window = low + 0.4 * (high - low), (high - low) / 2
    options: dict[str, Any] = {"photometric": photometric}
    if extra is not None:
        options |= {"planarconfig": "contig", "extrasamples": [extra]}
    expected = through(gray, *window)
    expected = 1 - expected if photometric == "miniswhite" else expected
    data = written(samples, **options)
    assert np.abs(read(data, window) - expected).max() < 2e-3
    if kind in NO_RANGE:
        with pytest.raises(ImageError, match="no known range"):
            read(data)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("white_is_zero", [False, True])
@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_gray_of_few_bits_is_seen_through_windows_in_its_own_units(bits: int, white_is_zero: bool, order: str) -> None:
    top = 2**bits - 1
    samples = np.random.default_rng(bits).integers(0, top + 1, (HEIGHT, WIDTH))
    data = raw_tiff(packed(samples, bits), order, bits=bits, photometric=0 if white_is_zero else 1)
    window = 0.4 * top, 0.5 * top
    for seen, expected in (
        (read(data), samples[:, :, None] / top),
        (read(data, window), through(samples, *window)),
    ):
        assert np.abs(seen - (1 - expected if white_is_zero else expected)).max() < 2e-3


def packed(samples: np.ndarray, bits: int) -> bytes:
    """Rows of samples, each beginning with a byte."""
    split = (samples[:, :, None] >> np.arange(bits)[::-1]) & 1
    return np.packbits(split.reshape(len(samples), -1).astype(np.uint8), axis=1).tobytes()


def raw_tiff(strip: bytes, order: str = "<", *, bits: int = 8, photometric: int = 1, more: Any = ()) -> bytes:
    """One strip, with tags (number, type, values) besides the usual ones."""
    channels = 3 if photometric in (2, 6) else 1
    tags: list[tuple[int, int, list[int]]] = [
        (256, 4, [WIDTH]), (257, 4, [HEIGHT]), (258, 3, [bits] * channels), (259, 3, [1]), (262, 3, [photometric]),
        (273, 4, [0]), (277, 3, [channels]), (278, 4, [HEIGHT]), (279, 4, [len(strip)]), *more,
    ]  # fmt: skip
    tags.sort()
    forms = {3: "H", 4: "I"}
    start = 8 + 2 + 12 * len(tags) + 4
    long = {number: struct.pack(f"{order}{len(v)}{forms[kind]}", *v) for number, kind, v in tags}
    long = {number: data for number, data in long.items() if len(data) > 4}
    places, at = {}, start
    for number, data in long.items():
        places[number], at = at, at + len(data)
    directory = struct.pack(order + "H", len(tags))
    for number, kind, values in tags:
        values = [at] if number == 273 else values
        inline = struct.pack(f"{order}{len(values)}{forms[kind]}", *values).ljust(4, b"\0")
        directory += struct.pack(order + "HHI", number, kind, len(values))
        directory += struct.pack(order + "I", places[number]) if number in places else inline
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", 8)
    return head + directory + bytes(4) + b"".join(long.values()) + strip


def test_subsampled_color_without_compression_is_refused_and_not_read_past_its_end() -> None:
    strip = bytes(HEIGHT * WIDTH * 3 // 2)
    data = raw_tiff(strip, photometric=6, more=[(530, 3, [2, 2])]) + bytes(10_000)
    with pytest.raises(ImageError, match="subsampled YCbCr is not supported without compression"):
        read(data)


def test_a_strip_that_holds_less_than_it_should_is_damage_and_not_filled_up() -> None:
    gray = samples_of("u2", 1)
    cut = written(gray, compression="zlib", rowsperstrip=HEIGHT)
    with tifffile.TiffFile(io.BytesIO(cut)) as file:
        offset, length = file.pages[0].dataoffsets[0], file.pages[0].databytecounts[0]  # type: ignore[union-attr]
    short = zlib.compress(gray.tobytes()[: gray.nbytes // 2]).ljust(length, b"\0")
    with pytest.raises(ImageError, match="damaged TIFF: a strip holds less"):
        read(cut[:offset] + short[:length] + cut[offset + length :])
    with pytest.raises(ImageError, match="damaged"):
        read(written(gray)[:-10])


@pytest.mark.parametrize("kind", ["u1", "u2", "f4"])
def test_a_stack_of_imagej_in_one_directory_has_pages(kind: str) -> None:
    stack = np.stack([samples_of(kind, 1)] * 3)
    stack[1:] = stack[1:] // 2 if kind != "f4" else stack[1:] / 2
    description = "ImageJ=1.54f\nimages=3\nslices=3\n"
    data = written(stack[0], description=description, metadata=None, byteorder=">")
    data += stack[1:].astype(stack.dtype.newbyteorder(">")).tobytes()
    for page in (1, 2, 3):
        assert np.abs(read(data, page=page) - unit(stack[page - 1])).max() < 2e-3
    with pytest.raises(ImageError, match="no page 4: it has 3"):
        read(data, page=4)
    with pytest.raises(ImageError, match="page 3 of its stack lies beyond the end of the file"):
        read(data[:-10], page=3)
