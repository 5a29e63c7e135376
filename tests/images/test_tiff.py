"""TIFF samples of every type, and its pages."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from kryptondb.errors import ImageError
from kryptondb.images import decode
from kryptondb.images.content import Part

UNIT = np.random.default_rng(0).random((12, 17, 3))


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("options", [{}, {"compression": "zlib"}, {"tile": (16, 16)}, {"byteorder": ">"}])
@pytest.mark.parametrize("channels", [1, 3])
def test_floats_in_0_to_1_keep_their_values(dtype: str, options: dict[str, Any], channels: int, tmp_path: Path) -> None:
    samples = UNIT[:, :, :channels].astype(dtype)
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, np.squeeze(samples), photometric="rgb" if channels == 3 else "minisblack", **options)
    assert np.array_equal(decode(path).pixels, samples.astype(np.float32))


@pytest.mark.parametrize("dtype", ["int8", "int16", "int32", "uint32", "float32"])
def test_samples_without_a_known_range_need_a_window_and_get_one(dtype: str, tmp_path: Path) -> None:
    samples = np.linspace(-100 if dtype != "uint32" else 3, 120, 204).astype(dtype).reshape(12, 17)
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, samples)
    with pytest.raises(ImageError, match=r"a\.tif: .*window"):
        decode(path)
    expected = np.clip((samples.astype(np.float64) - 20) / 80 + 0.5, 0, 1)
    np.testing.assert_allclose(decode(path, window=(20, 80)).pixels[:, :, 0], expected, atol=1e-6)


@pytest.mark.parametrize(
    ("suffix", "dtype"), [("png", "uint8"), ("png", "uint16"), ("tif", "uint16"), ("tif", "uint8")]
)
def test_a_window_is_in_the_samples_of_the_file(suffix: str, dtype: str, tmp_path: Path) -> None:
    samples = np.linspace(0, np.iinfo(dtype).max, 204).astype(dtype).reshape(12, 17)
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(samples).save(path)
    expected = np.clip((samples.astype(np.float64) - 100) / 90 + 0.5, 0, 1)
    np.testing.assert_allclose(decode(path, window=(100, 90)).pixels[:, :, 0], expected, atol=1e-6)
    Image.fromarray((UNIT * 255).astype(np.uint8)).save(path)
    with pytest.raises(ImageError, match="a window applies to gray samples"):
        decode(path, window=(100, 90))


def test_a_page_is_named_from_1_whoever_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    pages = [(UNIT * 255).astype(np.uint8), (UNIT * 65535).astype(np.uint16), UNIT[:, :, 0].astype(np.float64)]
    with tifffile.TiffWriter(path) as writer:
        for page in pages:
            writer.write(page, photometric="rgb" if page.ndim == 3 else "minisblack", metadata=None)
    for number, page in enumerate(pages, start=1):
        top = np.iinfo(page.dtype).max if page.dtype.kind == "u" else 1
        picture = decode(path, Part(page=number))
        assert picture.name == f"{path}#page={number}"
        np.testing.assert_allclose(np.squeeze(picture.pixels), page / top, atol=1e-6)
    with pytest.raises(ImageError, match=r"a\.tif: no page 4: it has 3"):
        decode(path, Part(page=4))


@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp"])
def test_a_file_of_one_picture_has_no_page(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"a.{suffix}"
    Image.new("L", (3, 2)).save(path)
    with pytest.raises(ImageError, match="#page=1 means nothing for a .* file\nIt holds one picture"):
        decode(path, Part(page=1))


def test_a_strip_that_would_inflate_to_more_than_it_should_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, np.zeros((400, 400)), compression="zlib")
    data = bytearray(path.read_bytes())
    with tifffile.TiffFile(path) as file:
        for tag in ("ImageWidth", "ImageLength", "RowsPerStrip"):
            at = file.pages[0].tags[tag].valueoffset
            data[at : at + 4] = (20).to_bytes(4, "little")
    path.write_bytes(data)
    with pytest.raises(ImageError, match="damaged TIFF: a strip holds more than its 3,200 bytes"):
        decode(path)


def test_a_compression_that_is_not_read_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, UNIT[:, :, 0], compression="lzma")
    with pytest.raises(ImageError, match="compressed as LZMA are not supported; store them uncompressed or deflated"):
        decode(path)
