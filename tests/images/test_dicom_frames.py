"""Compressed transfer syntaxes give what the uncompressed file gives, and no frame larger than its file says."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kryptondb.errors import ImageError
from kryptondb.images import decode
from kryptondb.images.content import Part
from kryptondb.images.dicom import codestream_size
from tests.images.dicoms import bundled, pydicom, write_dicom


@pytest.mark.parametrize(
    ("compressed", "plain"),
    [
        ("MR_small_RLE.dcm", "MR_small.dcm"),
        ("MR_small_jp2klossless.dcm", "MR_small.dcm"),
        ("MR_small_jpeg_ls_lossless.dcm", "MR_small.dcm"),
        ("MR_small_bigendian.dcm", "MR_small.dcm"),
        ("MR_small_implicit.dcm", "MR_small.dcm"),
        ("SC_rgb_jpeg_gdcm.dcm", "SC_rgb.dcm"),
        ("SC_rgb_rle_16bit.dcm", "SC_rgb_16bit.dcm"),
        ("US1_J2KR.dcm", "US1_UNCR.dcm"),
    ],
)
def test_a_lossless_transfer_syntax_gives_the_same_picture(compressed: str, plain: str) -> None:
    pytest.importorskip("pylibjpeg")
    assert np.array_equal(decode(bundled(compressed)).pixels, decode(bundled(plain)).pixels)


@pytest.mark.parametrize("name", ["emri_small_RLE.dcm", "emri_small_jpeg_2k_lossless.dcm", "emri_small_big_endian.dcm"])
def test_every_frame_of_a_compressed_file_is_found(name: str) -> None:
    pytest.importorskip("pylibjpeg")
    for frame in (1, 5, 10):
        found, expected = (decode(bundled(each), Part(frame=frame)).pixels for each in (name, "emri_small.dcm"))
        assert np.array_equal(found, expected)


@pytest.mark.parametrize(
    ("lossy", "plain", "most"),
    [("SC_rgb_dcmtk_+eb+cy+np.dcm", "SC_rgb.dcm", 0.2), ("JPEG2000.dcm", "JPEG2000_UNC.dcm", 0.2)],
)
def test_a_lossy_transfer_syntax_gives_nearly_the_same_picture(lossy: str, plain: str, most: float) -> None:
    pytest.importorskip("pylibjpeg")
    assert np.abs(decode(bundled(lossy)).pixels - decode(bundled(plain)).pixels).mean() < most / 10


def test_a_frame_of_another_size_than_the_file_says_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    from pydicom.encaps import encapsulate
    from pydicom.uid import JPEGBaseline8Bit

    stream = io.BytesIO()
    Image.new("L", (300, 200)).save(stream, "JPEG")
    path = write_dicom(tmp_path / "a.dcm", np.zeros((20, 30), dtype=np.uint8))
    data = pydicom.dcmread(path)
    data.PixelData = encapsulate([stream.getvalue()])
    data["PixelData"].is_undefined_length = True
    data.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    data.save_as(path)
    with pytest.raises(ImageError, match="a compressed frame of 200 x 300 in a picture of 20 x 30"):
        decode(path)
    data.Rows, data.Columns = 200, 300
    data.save_as(path)
    assert decode(path).pixels.shape == (200, 300, 1)


@pytest.mark.parametrize(("format", "options"), [("JPEG", {}), ("JPEG", {"progressive": True}), ("JPEG2000", {})])
def test_the_size_of_a_codestream_is_read_from_its_header(format: str, options: dict[str, bool]) -> None:
    stream = io.BytesIO()
    Image.new("RGB", (31, 17)).save(stream, format, **options)
    assert codestream_size(stream.getvalue()) == (17, 31, 3)
    for length in range(0, 60):
        assert codestream_size(stream.getvalue()[:length]) in (None, (17, 31, 3))


def test_a_transfer_syntax_that_nothing_decodes_is_named(tmp_path: Path) -> None:
    path = write_dicom(tmp_path / "a.dcm", np.zeros((20, 30), dtype=np.uint8))
    data = pydicom.dcmread(path)
    data.PixelData = pydicom.encaps.encapsulate([b"not a film"])
    data["PixelData"].is_undefined_length = True
    data.file_meta.TransferSyntaxUID = pydicom.uid.MPEG2MPML
    data.save_as(path)
    with pytest.raises(ImageError, match="compressed as MPEG2 .* are not supported"):
        decode(path)


def test_a_decoder_that_is_not_installed_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    from kryptondb.images import dicom

    monkeypatch.setattr(dicom, "_PLUGINS", ())
    with pytest.raises(ImageError, match="JPEG-LS .* need a decoder that is not installed\npip install"):
        decode(bundled("MR_small_jpeg_ls_lossless.dcm"))
