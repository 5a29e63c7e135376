"""Whatever is in a file, decoding gives a Picture or an ImageError that names the file: nothing else."""

from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from kryptondb.errors import ImageError
from kryptondb.images import Picture, decode
from tests.images.files import png_bytes, write_png

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL")  # remarks on oddities are the program's to show


def _saved(mode: str, **options: object) -> bytes:
    samples = np.random.default_rng(0).integers(0, 256, (23, 31, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(samples).convert(mode).save(buffer, **options)  # type: ignore[arg-type]
    return buffer.getvalue()


def _tiff(**options: object) -> bytes:
    buffer = io.BytesIO()
    samples = np.random.default_rng(0).integers(0, 65536, (23, 31, 3), dtype=np.uint16)
    tifffile.imwrite(buffer, samples, photometric="rgb", **options)  # type: ignore[arg-type]
    return buffer.getvalue()


def _exif() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif.tobytes()


FILES = {
    "plain.png": lambda: _saved("RGB", format="PNG"),
    "palette.png": lambda: _saved("P", format="PNG", transparency=3),
    "deep.png": lambda: png_bytes(np.random.default_rng(0).integers(0, 65536, (23, 31, 4), dtype=np.uint16)),
    "photo.jpg": lambda: _saved("RGB", format="JPEG", exif=_exif()),
    "progressive.jpg": lambda: _saved("L", format="JPEG", progressive=True),
    "plain.tif": lambda: _saved("RGB", format="TIFF"),
    "lzw.tif": lambda: _saved("RGB", format="TIFF", compression="tiff_lzw"),
    "jpeg.tif": lambda: _saved("RGB", format="TIFF", compression="jpeg"),
    "deep.tif": lambda: _tiff(compression="zlib"),
    "tiled.tif": lambda: _tiff(tile=(16, 16)),
    "plain.bmp": lambda: _saved("RGB", format="BMP"),
    "palette.bmp": lambda: _saved("P", format="BMP"),
    "lossy.webp": lambda: _saved("RGB", format="WEBP"),
    "lossless.webp": lambda: _saved("RGBA", format="WEBP", lossless=True),
}


def _decodes_or_says_why(path: Path) -> bool:
    try:
        picture = decode(path)
    except ImageError as error:
        assert str(error).startswith(f"{path}: ")  # noqa: PT017
        assert len(str(error)) > len(f"{path}: ")  # noqa: PT017
        return False
    assert isinstance(picture, Picture)
    assert np.isfinite(picture.pixels).all()
    return True


def _nothing_on_stderr(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    # libtiff writes to the process's stderr itself, out of Python's reach.
    assert capfd.readouterr().err == "" or name.endswith(".tif")


@pytest.mark.parametrize("name", FILES)
def test_a_file_cut_off_anywhere_is_an_image_error_or_a_picture(
    name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    whole = FILES[name]()
    path = tmp_path / name
    path.write_bytes(whole)
    assert _decodes_or_says_why(path)
    lengths = sorted(
        {0, 1, 2, 3, 4, 8, 12, 16, len(whole) - 1, *np.linspace(0, len(whole) - 1, 30, dtype=int).tolist()}
    )
    decoded = 0
    for length in lengths:
        path.write_bytes(whole[:length])
        decoded += _decodes_or_says_why(path)
    assert decoded < len(lengths) / 2
    _nothing_on_stderr(name, capfd)


@pytest.mark.parametrize("name", FILES)
def test_flipped_bytes_are_an_image_error_or_a_picture(
    name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    whole = np.frombuffer(FILES[name](), dtype=np.uint8)
    random = np.random.default_rng(len(whole))
    path = tmp_path / name
    for case in range(60):
        damaged = whole.copy()
        # Headers are short and matter most: every second case damages the first or last 200 bytes.
        ends = np.r_[0 : min(200, len(whole)), max(0, len(whole) - 200) : len(whole)]
        candidates = ends if case % 2 else np.arange(len(whole))
        where = random.choice(candidates, size=random.integers(1, 6))
        damaged[where] = random.integers(0, 256, len(where))
        path.write_bytes(damaged.tobytes())
        _decodes_or_says_why(path)
    _nothing_on_stderr(name, capfd)


def test_random_bytes_behind_every_signature_are_an_image_error(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    signatures = [
        b"",
        b"\x89PNG\r\n\x1a\n",
        b"\xff\xd8\xff\xe0",
        b"II*\0",
        b"MM\0*",
        b"II+\0",
        b"BM",
        b"RIFFxxxxWEBPVP8 ",
    ]
    for number, signature in enumerate(signatures * 6):
        path = tmp_path / f"{number}.png"
        path.write_bytes(signature + random.bytes(int(random.integers(1, 400))))
        assert not _decodes_or_says_why(path)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "the file is empty"),
        (b"hello, world", "not a PNG, JPEG, TIFF, BMP, WebP, DICOM or NIfTI picture"),
        (b"GIF89a" + bytes(50), "a GIF, not a PNG"),
        (b"%PDF-1.7", "a PDF document"),
        (bytes(128) + b"DICM" + bytes(50), "DICOM file"),
        (bytes(344) + b"n+1\0" + bytes(4), "voxels of type"),
        (b"PAR1" + bytes(50), "a Parquet table, not a PNG"),
        (b"\x89PNG\r\n\x1a\n" + bytes(9), "damaged or unsupported PNG"),
    ],
)
def test_what_is_no_picture_is_named(content: bytes, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(content)
    with pytest.raises(ImageError, match=reason):
        decode(path)


def test_a_truncated_picture_says_so(tmp_path: Path) -> None:
    path = write_png(tmp_path / "a.png", np.random.default_rng(0).integers(0, 256, (50, 50, 3), dtype=np.uint8))
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(ImageError, match=r"a\.png: damaged or truncated PNG: .*truncated"):
        decode(path)


def test_missing_files_folders_and_pipes_are_image_errors(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"nothing\.png: no such file"):
        decode(tmp_path / "nothing.png")
    with pytest.raises(ImageError, match="is a folder"):
        decode(tmp_path)
    with pytest.raises(ImageError):
        decode("a\0b.png")
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe.png")  # opening it would wait forever
        with pytest.raises(ImageError, match="not a regular file"):
            decode(tmp_path / "pipe.png")


def test_a_tiff_that_claims_enormous_tiles_is_refused_before_they_are_allocated(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    data = _tiff(tile=(16, 16), compression="zlib")
    # TileWidth and TileLength, each an entry: tag, type SHORT or LONG, count 1, value.
    for tag in (322, 323):
        at = data.index(tag.to_bytes(2, "little"), 8)
        data = data[: at + 2] + (4).to_bytes(2, "little") + data[at + 4 : at + 8] + (65536).to_bytes(4, "little") + data[at + 12 :]  # fmt: skip # noqa: E501
    path.write_bytes(data)
    with pytest.raises(ImageError, match="tiles of 65536 x 65536"):
        decode(path)


def test_a_file_whose_name_is_not_utf_8_can_be_named_in_a_message(tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"caf\xe9.png")
    try:
        path.write_bytes(b"no picture")
    except OSError:
        pytest.skip("this file system takes only UTF-8 names")
    with pytest.raises(ImageError) as caught:
        decode(path)
    str(caught.value).encode("utf-8")
