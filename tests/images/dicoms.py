"""DICOM files written for a test, and where the packages keep theirs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

pydicom = pytest.importorskip("pydicom")

PATIENT = "DOE^JANE"


def write_dicom(path: Path, samples: NDArray[np.generic], frames: int | None = None, **elements: Any) -> Path:
    """A secondary capture of `samples`, H x W or H x W x 3 of 8 or 16 bits, or with `frames` before those.

    `elements` are added, or replace what follows from the samples.
    """
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid

    shape = samples.shape if frames is None else samples.shape[1:]
    bits = samples.dtype.itemsize * 8
    found: dict[str, Any] = {
        "PatientName": PATIENT,
        "PatientID": "4711",
        "SOPClassUID": SecondaryCaptureImageStorage,
        "SOPInstanceUID": generate_uid(entropy_srcs=[path.name]),
        "Rows": shape[0],
        "Columns": shape[1],
        "SamplesPerPixel": 1 if len(shape) == 2 else 3,
        "PhotometricInterpretation": "MONOCHROME2" if len(shape) == 2 else "RGB",
        "BitsAllocated": bits,
        "BitsStored": bits,
        "HighBit": bits - 1,
        "PixelRepresentation": int(samples.dtype.kind == "i"),
    }
    if len(shape) == 3:
        found["PlanarConfiguration"] = 0
    if frames is not None:
        found["NumberOfFrames"] = frames
    data = Dataset()
    for keyword, value in (found | elements).items():
        setattr(data, keyword, value)
    data.PixelData = samples.tobytes() + bytes(samples.nbytes % 2)
    data["PixelData"].VR = "OW" if bits > 8 else "OB"
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.save_as(path, enforce_file_format=True)
    return path


def item(**elements: Any) -> Any:
    """A sequence's item."""
    from pydicom.dataset import Dataset

    data = Dataset()
    for keyword, value in elements.items():
        setattr(data, keyword, value)
    return data


def bundled(name: str) -> Path:
    """A file that pydicom or pydicom-data ships; skips the test where it is not installed."""
    folders: Mapping[str, str] = {"pydicom": "data/test_files", "data_store": "data"}
    for module, folder in folders.items():
        package = pytest.importorskip(module)
        path = Path(package.__file__).parent / folder / name
        if path.is_file():
            return path
    pytest.skip(f"{name} is in neither package")
