"""DICOM samples come out as a viewer shows them: rescaled, windowed, the right way up in gray."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from kryptondb.errors import ImageError
from kryptondb.images import decode
from kryptondb.images.content import Part
from kryptondb.images.levels import Meaningless
from tests.images.dicoms import PATIENT, bundled, item, pydicom, write_dicom

RAMP = np.arange(256, dtype=np.uint16).reshape(16, 16) * 16  # 12 bits


def gray(path: Path, part: Part | None = None, window: tuple[float, float] | None = None) -> NDArray[np.float32]:
    picture = decode(path, part or Part(), window)
    assert picture.channels == 1
    return picture.pixels[:, :, 0]


def seen(values: NDArray[np.generic], center: float, width: float) -> NDArray[np.float64]:
    """PS3.3, C.11.2.1.2.1, for y from 0 to 1, written down from the standard's pseudocode."""
    x = values.astype(np.float64)
    inside = (x - (center - 0.5)) / (width - 1) + 0.5
    return np.where(x <= center - 0.5 - (width - 1) / 2, 0, np.where(x > center - 0.5 + (width - 1) / 2, 1, inside))


@pytest.mark.parametrize("bits", [8, 10, 12, 15, 16])
def test_without_a_window_8_bits_are_taken_as_they_are_and_more_are_spread(bits: int, tmp_path: Path) -> None:
    samples = np.linspace(3, 2 ** (bits - 1), 256).reshape(16, 16)
    stored = samples.astype(np.uint8 if bits == 8 else np.uint16)
    pixels = gray(write_dicom(tmp_path / "a.dcm", stored, BitsStored=bits, HighBit=bits - 1))
    low, high = (0, 255) if bits == 8 else (stored.min(), stored.max())
    np.testing.assert_allclose(pixels, (stored - low) / (high - low), atol=1e-6)


def test_monochrome1_turns_the_levels_around(tmp_path: Path) -> None:
    options = {"BitsStored": 12, "HighBit": 11, "WindowCenter": 2000, "WindowWidth": 3000}
    plain = gray(write_dicom(tmp_path / "2.dcm", RAMP, **options))
    turned = gray(write_dicom(tmp_path / "1.dcm", RAMP, PhotometricInterpretation="MONOCHROME1", **options))
    assert plain[0, 0] == 0 and turned[0, 0] == 1
    np.testing.assert_allclose(turned, 1 - plain, atol=1e-6)


def test_signed_samples_are_rescaled_and_seen_through_the_files_first_window(tmp_path: Path) -> None:
    stored = np.linspace(-1000, 1000, 256).astype(np.int16).reshape(16, 16)
    path = write_dicom(
        tmp_path / "ct.dcm", stored, RescaleSlope=2, RescaleIntercept=-24, WindowCenter=[40, -600], WindowWidth=[400, 9]
    )
    np.testing.assert_allclose(gray(path), seen(stored * 2.0 - 24, 40, 400), atol=1e-6)
    assert decode(path, window=(-600, 1500)).name == str(path)
    np.testing.assert_allclose(gray(path, window=(-600, 1500)), seen(stored * 2.0 - 24, -600, 1500), atol=1e-6)


@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID"])
def test_voi_lut_functions_are_those_of_pydicom(function: str, tmp_path: Path) -> None:
    options = {"WindowCenter": 2000, "WindowWidth": 700, "VOILUTFunction": function}
    path = write_dicom(tmp_path / "a.dcm", RAMP, BitsStored=12, HighBit=11, **options)
    expected = pydicom.pixels.apply_windowing(RAMP, pydicom.dcmread(path)) / 4095
    np.testing.assert_allclose(gray(path), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        ({"RescaleSlope": "0"}, "rescaled by zero, or by something that is not a number"),
        ({"RescaleSlope": "0", "RescaleIntercept": "-1024"}, "rescaled by zero, or by something that is not a number"),
        ({"RescaleSlope": "nan"}, "rescaled by zero, or by something that is not a number"),
        ({"RescaleIntercept": "1e400"}, "rescaled by zero, or by something that is not a number"),
        ({"VOILUTFunction": "CUBIC"}, "no VOI LUT function of the standard"),
    ],
)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_what_is_said_of_gray_is_followed_or_refused(damage: dict[str, str], reason: str, tmp_path: Path) -> None:
    options = {"BitsStored": 12, "HighBit": 11, "WindowCenter": 2000, "WindowWidth": 3000}
    path = write_dicom(tmp_path / "a.dcm", RAMP, **options)
    data = pydicom.dcmread(path)
    for keyword, value in damage.items():
        setattr(data, keyword, value)
    data.save_as(path)
    with pytest.raises(ImageError, match=reason):
        decode(path)


def test_a_rescaling_without_numbers_is_none(tmp_path: Path) -> None:
    plain = gray(write_dicom(tmp_path / "a.dcm", RAMP))
    empty = gray(write_dicom(tmp_path / "b.dcm", RAMP, RescaleSlope="", RescaleIntercept=""))
    assert np.array_equal(plain, empty)


def test_padding_is_black_and_does_not_spread_the_levels(tmp_path: Path) -> None:
    stored = np.linspace(100, 200, 256).astype(np.int16).reshape(16, 16)
    stored[:4] = -2000
    for photometric in ("MONOCHROME1", "MONOCHROME2"):
        path = write_dicom(tmp_path / "a.dcm", stored, PhotometricInterpretation=photometric, PixelPaddingValue=-2000)
        pixels = gray(path)
        assert (pixels[:4] == 0).all()
        assert (pixels[4:].min(), pixels[4:].max()) == (0, 1)


def test_unused_high_bits_are_no_part_of_a_sample(tmp_path: Path) -> None:
    plain = gray(write_dicom(tmp_path / "a.dcm", RAMP, BitsStored=12, HighBit=11))
    overlaid = gray(write_dicom(tmp_path / "b.dcm", RAMP | np.uint16(0x8000), BitsStored=12, HighBit=11))
    assert np.array_equal(plain, overlaid)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"BitsStored": 12, "HighBit": 15}, "end at bit 15, not at bit 11"),
        ({"BitsStored": 12, "HighBit": 11, "PixelRepresentation": 5}, "have a sign"),
    ],
)
def test_samples_that_lie_elsewhere_than_the_standard_has_them_are_refused(
    options: dict[str, int], reason: str, tmp_path: Path
) -> None:
    path = write_dicom(tmp_path / "a.dcm", RAMP, **options)
    with pytest.raises(ImageError, match=reason):
        gray(path)


def test_a_modality_lut_and_a_voi_lut_are_looked_up() -> None:
    for name in ("mlut_18.dcm", "vlut_04.dcm"):
        path = bundled(name)
        data = pydicom.dcmread(path)
        values = pydicom.pixels.apply_modality_lut(data.pixel_array, data)
        shown = pydicom.pixels.apply_voi_lut(values, data)
        if name == "vlut_04.dcm":
            expected = shown / (2.0 ** data.VOILUTSequence[0].LUTDescriptor[2] - 1)
        else:
            expected = (shown - float(shown.min())) / np.ptp(shown)
        np.testing.assert_allclose(gray(path), expected, atol=1e-6)


def test_a_frame_is_named_from_1_and_the_first_is_the_default(tmp_path: Path) -> None:
    frames = np.stack([np.full((4, 5), level, dtype=np.uint8) for level in (10, 20, 30)])
    path = write_dicom(tmp_path / "study.dcm", frames, frames=3)
    assert [float(gray(path, Part(frame=frame))[0, 0] * 255) for frame in (1, 2, 3)] == [10, 20, 30]
    assert gray(path)[0, 0] * 255 == 10
    assert decode(path, Part(frame=3)).name == f"{path}#frame=3"
    with pytest.raises(ImageError, match=r"study\.dcm: no frame 4: it has 3"):
        decode(path, Part(frame=4))
    with pytest.raises(ImageError, match="#page=2 means nothing for a DICOM file\nIt has frame"):
        decode(path, Part(page=2))


def test_each_frame_of_an_enhanced_file_has_its_own_window_and_rescaling(tmp_path: Path) -> None:
    frames = np.stack([RAMP, RAMP])
    groups = [
        item(
            FrameVOILUTSequence=[item(WindowCenter=center, WindowWidth=1000)],
            PixelValueTransformationSequence=[item(RescaleSlope=slope, RescaleIntercept=-7)],
        )
        for center, slope in ((900, 1), (3000, 2))
    ]
    path = write_dicom(tmp_path / "a.dcm", frames, frames=2, PerFrameFunctionalGroupsSequence=groups)
    np.testing.assert_allclose(gray(path), seen(RAMP - 7.0, 900, 1000), atol=1e-6)
    np.testing.assert_allclose(gray(path, Part(frame=2)), seen(RAMP * 2.0 - 7, 3000, 1000), atol=1e-6)


@pytest.mark.parametrize("bits", [8, 16])
def test_colors_are_divided_by_what_their_bits_hold(bits: int, tmp_path: Path) -> None:
    stored = np.random.default_rng(0).integers(0, 2**bits, (7, 5, 3)).astype(f"u{bits // 8}")
    pixels = decode(write_dicom(tmp_path / "a.dcm", stored)).pixels
    np.testing.assert_allclose(pixels, stored / (2**bits - 1), atol=1e-6)


def test_ybr_becomes_rgb_and_a_window_does_not_apply_to_colors() -> None:
    rgb = decode(bundled("SC_rgb.dcm")).pixels
    for name in ("SC_ybr_full_uncompressed.dcm", "SC_ybr_full_422_uncompressed.dcm"):
        assert np.abs(decode(bundled(name)).pixels - rgb).max() < 0.03
    with pytest.raises(ImageError, match="a window applies to gray samples"):
        decode(bundled("SC_rgb.dcm"), window=(40, 400))


@pytest.mark.parametrize(
    ("name", "like"),
    [
        ("OBXXXX1A_expb.dcm", "OBXXXX1A.dcm"),
        ("OBXXXX1A_rle.dcm", "OBXXXX1A.dcm"),
        ("gdcm-US-ALOKA-16_big.dcm", "gdcm-US-ALOKA-16.dcm"),
    ],
)
def test_palettes_are_looked_up_whatever_their_byte_order_and_segments(name: str, like: str) -> None:
    data = pydicom.dcmread(bundled(like))
    colors = pydicom.pixels.apply_color_lut(data.pixel_array, data)
    expected = colors / np.iinfo(colors.dtype).max
    for each in (like, name):
        np.testing.assert_allclose(decode(bundled(each)).pixels, expected, atol=1e-6)


def test_the_chest_radiograph_has_dark_lungs_and_air_and_a_bright_spine() -> None:
    pixels = gray(bundled("RG1_UNCI.dcm"))
    assert pixels.shape == (1955, 1841)
    spine, lung, air = pixels[900:1000, 900:1000].mean(), pixels[500:600, 500:600].mean(), pixels[60:100, 20:80].mean()
    assert spine > lung + 0.2 > air + 0.2


@pytest.mark.parametrize("name", ["OT-PAL-8-face.dcm", "SC_rgb_jpeg.dcm", "image_dfl.dcm", "liver_expb_1frame.dcm"])
def test_files_that_break_a_rule_or_are_deflated_are_read(name: str) -> None:
    assert decode(bundled(name)).pixels.max() > 0.9


@pytest.mark.parametrize("name", ["rtplan.dcm", "test-SR.dcm", "waveform_ecg.dcm"])
def test_dicom_files_without_pixels_say_so(name: str) -> None:
    with pytest.raises(ImageError, match="a DICOM file without a picture"):
        decode(bundled(name))


def test_a_deflated_file_that_holds_too_much_is_not_inflated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from kryptondb.images import dicom_header

    monkeypatch.setattr(dicom_header, "_MOST_INFLATED", 100_000)
    with pytest.raises(ImageError, match="more than the 100,000 bytes that are inflated"):
        decode(bundled("image_dfl.dcm"))


@pytest.mark.parametrize(
    "damage",
    [
        {"Rows": 0},
        {"Rows": 60000, "Columns": 60000},
        {"BitsStored": 99},
        {"PhotometricInterpretation": PATIENT},
        {"WindowCenter": 1, "WindowWidth": 1, "RescaleSlope": "1e400"},
        {"NumberOfFrames": 2, "Columns": 900},
    ],
)
def test_what_a_file_says_of_a_patient_is_in_no_message_and_behind_none(
    damage: dict[str, object], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = write_dicom(tmp_path / "a.dcm", RAMP)
    data = pydicom.dcmread(path)
    for keyword, value in damage.items():
        setattr(data, keyword, value)
    data.save_as(path)
    caplog.clear()  # pydicom has spoken while the file was written
    with caplog.at_level("DEBUG"):
        try:
            named = decode(path).name
        except ImageError as error:
            named = str(error)
            assert error.__cause__ is None and isinstance(error.__context__, (Meaningless, type(None)))
            named += str(error.__context__)
    for text in (named, caplog.text):
        assert "DOE" not in text and "4711" not in text


def test_a_file_without_a_patient_is_a_picture_like_any_other(tmp_path: Path) -> None:
    path = write_dicom(tmp_path / "a.dcm", RAMP)
    data = pydicom.dcmread(path)
    del data.PatientName, data.PatientID
    data.save_as(path)
    assert gray(path).max() == 1


def test_a_message_names_pydicom_where_it_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    path = write_dicom(tmp_path / "a.dcm", RAMP)
    monkeypatch.setitem(sys.modules, "pydicom", None)
    with pytest.raises(ImageError, match=r'needs the package pydicom\npip install "kryptondb\[medical\]"'):
        decode(path)
