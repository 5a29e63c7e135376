"""DICOM tables of gray, packed as the standard packs them, and frames of single bits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kryptondb.errors import ImageError
from kryptondb.images.content import Part
from kryptondb.images.decode import decode
from tests.images.dicoms import write_dicom

pydicom = pytest.importorskip("pydicom")


def table(descriptor: list[int], data: Any, kind: str = "OW", descriptor_kind: str = "US") -> Any:
    """A modality or VOI LUT."""
    item = pydicom.Dataset()
    item.add_new("LUTDescriptor", descriptor_kind, descriptor)
    item.add_new("LUTData", kind, data)
    return item


def packed(entries: np.ndarray) -> bytes:
    """Entries of 8 bits, two in a word."""
    return entries.astype(np.uint8).tobytes() + b"\0" * (len(entries) % 2)


def read(path: Path) -> np.ndarray:
    return decode(path).pixels[:, :, 0]


@pytest.mark.parametrize("entries", [256, 255, 4096])
@pytest.mark.parametrize("store", ["packed", "packed words", "a word each", "words"])
def test_a_voi_lut_of_8_bit_entries_is_read_packed_and_not(entries: int, store: str, tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, entries, (8, 12)).astype(np.uint16)
    lut = np.random.default_rng(1).integers(0, 256, entries)
    words = np.frombuffer(packed(lut), "<u2")
    data = {
        "packed": (packed(lut), "OW"),
        "packed words": (words.tolist(), "US"),
        "a word each": (lut.astype("<u2").tobytes(), "OW"),
        "words": (lut.tolist(), "US"),
    }[store]
    path = write_dicom(tmp_path / "a.dcm", values, VOILUTSequence=[table([entries, 0, 8], *data)])
    assert np.abs(read(path) - lut[values] / 255).max() < 1e-6


@pytest.mark.parametrize("bits", [10, 12, 16])
def test_a_voi_lut_of_more_bits_has_a_word_for_each(bits: int, tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 256, (8, 12)).astype(np.uint8)
    lut = np.random.default_rng(1).integers(0, 2**bits, 100)
    path = write_dicom(tmp_path / "a.dcm", values, VOILUTSequence=[table([100, 20, bits], lut.astype("<u2").tobytes())])
    places = np.clip(values.astype(int) - 20, 0, 99)  # what lies outside the table is its first or last entry
    assert np.abs(read(path) - lut[places] / (2**bits - 1)).max() < 1e-6


@pytest.mark.parametrize("kind", ["SS", "US"])
def test_the_first_value_that_is_mapped_may_be_negative(kind: str, tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(-1200, -800, (8, 12)).astype(np.int16)
    lut = np.random.default_rng(1).integers(0, 256, 400)
    first = -1200 if kind == "SS" else -1200 + 65536
    path = write_dicom(
        tmp_path / "a.dcm", values, VOILUTSequence=[table([400, first, 8], packed(lut), descriptor_kind=kind)]
    )
    assert np.abs(read(path) - lut[values + 1200] / 255).max() < 1e-6


def test_a_modality_lut_may_be_packed_too(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 256, (8, 12)).astype(np.uint8)
    lut = np.random.default_rng(1).integers(0, 256, 256)
    path = write_dicom(
        tmp_path / "a.dcm", values, ModalityLUTSequence=[table([256, 0, 8], packed(lut))],
        WindowCenter=128, WindowWidth=256,
    )  # fmt: skip
    seen = (lut[values] - 127.5) / 255 + 0.5
    assert np.abs(read(path) - seen).max() < 1e-5


def test_a_table_that_ends_early_is_damage(tmp_path: Path) -> None:
    path = write_dicom(tmp_path / "a.dcm", np.zeros((4, 4), np.uint8), VOILUTSequence=[table([256, 0, 8], bytes(100))])
    with pytest.raises(ImageError, match="its pixels have no meaning"):
        decode(path)


@pytest.mark.parametrize("shape", [(7, 9), (8, 8), (1, 3), (5, 1)])
def test_frames_of_single_bits_need_not_begin_with_a_byte(shape: tuple[int, int], tmp_path: Path) -> None:
    frames = np.random.default_rng(0).integers(0, 2, (5, *shape)).astype(np.uint8)
    data = np.packbits(frames.reshape(-1), bitorder="little").tobytes()
    path = write_dicom(
        tmp_path / "a.dcm", frames, frames=5, BitsAllocated=1, BitsStored=1, HighBit=0,
    )  # fmt: skip
    dataset = pydicom.dcmread(path)
    dataset.PixelData = data + b"\0" * (len(data) % 2)
    dataset.save_as(path)
    assert (dataset.pixel_array == frames).all()
    for number in range(5):
        assert (decode(path, Part(frame=number + 1)).pixels[:, :, 0] == frames[number]).all()
    path.write_bytes(path.read_bytes()[: -len(data)])
    with pytest.raises(ImageError, match="its pixels cannot be decoded"):
        decode(path, Part(frame=5))
