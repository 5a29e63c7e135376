"""Every supported format comes out upright, with its levels, in its own number of channels."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image, ImageOps

from kryptondb.errors import ImageError
from kryptondb.images import decode
from kryptondb.images.picture import PIXEL_LIMIT
from tests.images.files import write_png

LOSSLESS: dict[str, dict[str, Any]] = {
    "png": {},
    "tif": {},
    "tiff": {"compression": "tiff_lzw"},
    "bmp": {},
    "webp": {"lossless": True},
}


@pytest.mark.parametrize("suffix", LOSSLESS)
def test_an_8_bit_color_picture_keeps_every_sample(suffix: str, rgb: NDArray[np.uint8], tmp_path: Path) -> None:
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(rgb).save(path, **LOSSLESS[suffix])
    picture = decode(path)
    assert picture.name == str(path)
    assert picture.pixels.dtype == np.float32
    assert np.array_equal(picture.pixels, rgb.astype(np.float32) / np.float32(255))


def test_a_jpeg_is_what_pillow_decodes(rgb: NDArray[np.uint8], tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    Image.fromarray(rgb).save(path, quality=95)
    assert np.array_equal(decode(path).pixels, np.asarray(Image.open(path)).astype(np.float32) / np.float32(255))


@pytest.mark.parametrize("suffix", ["png", "tif", "bmp", "jpg"])
def test_a_gray_picture_has_one_channel(suffix: str, rgb: NDArray[np.uint8], tmp_path: Path) -> None:
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(rgb[:, :, 0]).save(path)
    assert decode(path).pixels.shape == (12, 17, 1)


def _ramp() -> NDArray[np.uint16]:
    """256 x 256, each of the 65536 levels once."""
    return np.arange(65536, dtype=np.uint16).reshape(256, 256)


@pytest.mark.parametrize("kind", ["png", "tif", "lzw.tif", "big-endian.tif"])
def test_16_bit_gray_keeps_all_65536_levels(kind: str, tmp_path: Path) -> None:
    path = tmp_path / f"ramp.{kind}"
    if kind == "big-endian.tif":
        tifffile.imwrite(path, _ramp(), byteorder=">")
    else:
        Image.fromarray(_ramp()).save(path, **({"compression": "tiff_lzw"} if kind == "lzw.tif" else {}))
    pixels = decode(path).pixels
    assert np.array_equal(pixels[:, :, 0], _ramp().astype(np.float32) / np.float32(65535))
    assert len(np.unique(pixels)) == 65536


def _wide(channels: int) -> NDArray[np.uint16]:
    return np.random.default_rng(channels).integers(0, 65536, (12, 17, channels), dtype=np.uint16)


def _on_white(samples: NDArray[np.uint16]) -> NDArray[np.float64]:
    values = samples.astype(np.float64) / 65535
    color, alpha = values[:, :, :-1], values[:, :, -1:]
    return color * alpha + 1 - alpha


def test_16_bit_color_png_keeps_both_bytes(tmp_path: Path) -> None:
    pixels = decode(write_png(tmp_path / "a.png", _wide(3))).pixels
    assert np.array_equal(pixels, _wide(3).astype(np.float32) / np.float32(65535))


@pytest.mark.parametrize("channels", [2, 4])
def test_16_bit_png_with_alpha_lies_on_white(channels: int, tmp_path: Path) -> None:
    pixels = decode(write_png(tmp_path / "a.png", _wide(channels))).pixels
    np.testing.assert_allclose(pixels, _on_white(_wide(channels)), atol=1e-6)


@pytest.mark.parametrize("channels", [1, 3])
def test_the_transparent_color_of_a_16_bit_png_becomes_white(channels: int, tmp_path: Path) -> None:
    samples = _wide(channels)
    key = tuple(int(level) for level in samples[5, 6])
    pixels = decode(write_png(tmp_path / "a.png", samples, transparent=key)).pixels
    expected = samples.astype(np.float32) / np.float32(65535)
    expected[5, 6] = 1
    assert np.array_equal(pixels, expected)


@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("layout", [{}, {"rowsperstrip": 4}, {"tile": (16, 16)}])
def test_16_bit_color_tiff_keeps_both_bytes(
    byteorder: Literal["<", ">"], compression: str | None, layout: dict[str, Any], tmp_path: Path
) -> None:
    path = tmp_path / "a.tif"
    samples = np.random.default_rng(0).integers(0, 65536, (40, 37, 3), dtype=np.uint16)
    tifffile.imwrite(path, samples, photometric="rgb", byteorder=byteorder, compression=compression, **layout)
    assert np.array_equal(decode(path).pixels, samples.astype(np.float32) / np.float32(65535))


def test_16_bit_color_tiff_with_a_predictor_keeps_both_bytes(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    samples = _wide(3)
    differences = samples - np.concatenate([np.zeros_like(samples[:, :1]), samples[:, :-1]], axis=1)
    # tifffile writes no predictor of ours: write the entry under the number before it, and correct the number.
    tifffile.imwrite(path, differences, photometric="rgb", compression="zlib", extratags=[(316, "H", 1, 2, True)])
    entry = struct.pack("<HHIH", 316, 3, 1, 2)
    assert path.read_bytes().count(entry) == 1
    path.write_bytes(path.read_bytes().replace(entry, struct.pack("<HHIH", 317, 3, 1, 2)))
    assert np.array_equal(decode(path).pixels, samples.astype(np.float32) / np.float32(65535))


@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_16_bit_tiff_alpha_lies_on_white_straight_or_premultiplied(
    byteorder: Literal["<", ">"], compression: str | None, tmp_path: Path
) -> None:
    straight = _wide(4)
    alpha = straight[:, :, 3:].astype(np.float64) / 65535
    multiplied = np.concatenate([np.rint(straight[:, :, :3] * alpha).astype(np.uint16), straight[:, :, 3:]], axis=2)
    for kind, samples in (("unassalpha", straight), ("assocalpha", multiplied)):
        path = tmp_path / f"{kind}.tif"
        tifffile.imwrite(
            path, samples, photometric="rgb", extrasamples=[kind], byteorder=byteorder, compression=compression
        )
        np.testing.assert_allclose(decode(path).pixels, _on_white(straight), atol=2e-5)


def test_white_is_zero_and_12_bit_tiffs_use_the_whole_range(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, _ramp(), photometric="miniswhite")
    np.testing.assert_allclose(decode(path).pixels[:, :, 0], 1 - _ramp() / 65535, atol=1e-7)
    tifffile.imwrite(path, (_ramp() >> 8).astype(np.uint8), photometric="miniswhite")
    np.testing.assert_allclose(decode(path).pixels[:, :, 0], 1 - (_ramp() >> 8) / 255, atol=1e-7)


def test_floating_point_tiffs_are_read_in_0_to_1_and_refused_elsewhere(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    values = np.linspace(0, 1, 12, dtype=np.float32).reshape(3, 4)
    tifffile.imwrite(path, values)
    assert np.array_equal(decode(path).pixels[:, :, 0], values)
    tifffile.imwrite(path, values * 300)
    with pytest.raises(ImageError, match=r"a\.tif: .*must lie in 0\.\.1, these go from 0 to 300"):
        decode(path)


@pytest.mark.parametrize("dtype", [np.int16, np.uint32, np.int32])
def test_samples_without_a_known_range_are_refused_by_name(dtype: type, tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, np.zeros((3, 4), dtype=dtype))
    with pytest.raises(ImageError, match="no known range"):
        decode(path)


def test_16_bit_color_in_separate_planes_keeps_both_bytes(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    for compression in (None, "zlib"):
        planes = np.moveaxis(_wide(3), 2, 0)
        tifffile.imwrite(path, planes, photometric="rgb", planarconfig="separate", compression=compression)
        assert np.array_equal(decode(path).pixels, _wide(3).astype(np.float32) / np.float32(65535))


def test_a_palette_becomes_its_colors(rgb: NDArray[np.uint8], tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    palette = Image.fromarray(rgb).quantize(16)
    palette.save(path)
    assert np.array_equal(np.rint(decode(path).pixels * 255), np.asarray(palette.convert("RGB")))


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB"])
def test_a_transparent_color_becomes_white(mode: str, tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    image = Image.new(mode, (4, 3), 0)
    image.putpixel((1, 1), (255, 255, 255) if mode == "RGB" else 1)
    image.save(path, transparency=(0, 0, 0) if mode == "RGB" else 0)
    pixels = decode(path).pixels
    assert pixels[0, 0].min() == 1
    assert pixels.shape[2] == (1 if mode in ("1", "L") else 3)


@pytest.mark.parametrize("suffix", ["png", "tif", "webp"])
def test_alpha_lies_on_white(suffix: str, rgb: NDArray[np.uint8], tmp_path: Path) -> None:
    alpha = np.random.default_rng(3).integers(1, 256, (12, 17, 1), dtype=np.uint8)
    rgba = np.concatenate([rgb, alpha], axis=2)
    path = tmp_path / f"a.{suffix}"
    options: dict[str, Any] = {"lossless": True, "exact": True} if suffix == "webp" else {}
    Image.fromarray(rgba).save(path, **options)
    expected = rgb / 255 * (alpha / 255) + 1 - alpha / 255
    np.testing.assert_allclose(decode(path).pixels, expected, atol=1e-6)


def test_a_cmyk_jpeg_becomes_rgb(rgb: NDArray[np.uint8], tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    Image.fromarray(rgb).convert("CMYK").save(path)
    assert decode(path).pixels.shape == (12, 17, 3)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["png", "tif", "webp", "jpg", "lzw.tif"])
def test_exif_orientation_is_undone(suffix: str, orientation: int, rgb: NDArray[np.uint8], tmp_path: Path) -> None:
    path = tmp_path / f"a.{suffix}"
    exif = Image.Exif()
    exif[0x0112] = orientation
    special: dict[str, dict[str, Any]] = {"webp": {"lossless": True}, "lzw.tif": {"compression": "tiff_lzw"}}
    options = special.get(suffix, {})
    Image.fromarray(rgb).save(path, exif=exif, **options)
    with Image.open(path) as image:
        expected = np.asarray(ImageOps.exif_transpose(image))
    assert np.array_equal(np.rint(decode(path).pixels * 255), expected)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_uncompressed_gray_and_16_bit_tiffs_are_turned_upright_too(orientation: int, tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    for channels, dtype in ((1, np.uint16), (3, np.uint16), (1, np.uint8)):
        samples = np.squeeze(_wide(channels)).astype(dtype)
        photometric = "rgb" if channels == 3 else "minisblack"
        tifffile.imwrite(path, samples, photometric=photometric, extratags=[(274, "H", 1, orientation, True)])
        turned = {
            1: samples, 2: samples[:, ::-1], 3: samples[::-1, ::-1], 4: samples[::-1], 5: samples.swapaxes(0, 1),
            6: np.rot90(samples, -1), 7: samples[::-1, ::-1].swapaxes(0, 1), 8: np.rot90(samples),
        }  # fmt: skip
        expected = turned[orientation].astype(np.float32) / np.float32(np.iinfo(dtype).max)
        assert np.array_equal(np.squeeze(decode(path).pixels), expected)


def test_of_several_pages_or_frames_the_first_is_read(rgb: NDArray[np.uint8], tmp_path: Path) -> None:
    first, second = Image.fromarray(rgb), Image.fromarray(255 - rgb)
    options: dict[str, Any] = {"lossless": True}  # WebP's alone
    for name in ("a.tif", "a.png", "a.webp"):
        first.save(tmp_path / name, save_all=True, append_images=[second], **options)
        assert np.array_equal(np.rint(decode(tmp_path / name).pixels * 255), rgb)


def test_the_content_decides_not_the_suffix(rgb: NDArray[np.uint8], tmp_path: Path) -> None:
    path = tmp_path / "really-a-png.jpg"
    Image.fromarray(rgb).save(path, format="PNG")
    assert np.array_equal(np.rint(decode(path).pixels * 255), rgb)


def test_the_pixel_limit_is_checked_on_the_header_alone(tmp_path: Path) -> None:
    side = int(PIXEL_LIMIT**0.5) + 1
    path = tmp_path / "a.png"
    write_png(path, np.zeros((1, 1, 3), dtype=np.uint8))
    data = path.read_bytes()
    for claimed in (side, 20_000, 2**31 - 1):
        header = b"IHDR" + struct.pack(">II", claimed, claimed) + data[24:29]
        path.write_bytes(data[:12] + header + struct.pack(">I", zlib.crc32(header)) + data[33:])
        with pytest.raises(ImageError, match=r"a\.png: .*pixels (are more|that are read)"):
            decode(path)
