"""A DICOM secondary capture: filed beside its source, valid, and silent about the patient everywhere else."""

from __future__ import annotations

import io
import shutil
import subprocess
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from kryptondb.errors import ExecutionError, ImageError
from kryptondb.images.secondary_capture import new_series, origin_of, secondary_capture
from tests.patience import PATIENCE

pydicom = pytest.importorskip("pydicom")

FIGURE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (33, 35, 3), dtype=np.uint8))


def source(path: Path, **attributes: Any) -> Path:
    """A small DICOM file, a chest radiograph by its header."""
    dataset = pydicom.Dataset()
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    dataset.SpecificCharacterSet = "ISO_IR 100"
    values = {
        "SOPClassUID": "1.2.840.10008.5.1.4.1.1.1", "SOPInstanceUID": "1.2.3.4.5", "SeriesInstanceUID": "1.2.3.4",
        "StudyInstanceUID": "1.2.3", "Modality": "CR", "PatientName": "Müller^Jörg", "PatientID": "P-17",
        "PatientBirthDate": "19610203", "PatientSex": "M", "AccessionNumber": "A-9", "StudyID": "S-1",
        "StudyDate": "20260102", "StudyTime": "101112", "ReferringPhysicianName": "Meier^Eva",
        "StudyDescription": "Thorax", "BodyPartExamined": "CHEST", **attributes,
    }  # fmt: skip
    dataset.Rows = dataset.Columns = 2
    dataset.BitsAllocated = dataset.BitsStored = 8
    dataset.HighBit, dataset.PixelRepresentation, dataset.SamplesPerPixel = 7, 0, 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.PixelData = bytes(4)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some values are wrong on purpose
        for keyword, value in values.items():
            if value is not None:
                setattr(dataset, keyword, value)
        pydicom.dcmwrite(path, dataset, enforce_file_format=True)
    return path


def capture(path: Path, frame: str = "", **more: Any) -> Any:
    """The capture of a source, read again."""
    details = {"series": new_series(), "number": 1, "description": "Heat map", "comment": "made here", **more}
    return pydicom.dcmread(io.BytesIO(secondary_capture(FIGURE, origin_of(f"{path}{frame}", path), **details)))


@pytest.fixture
def radiograph(tmp_path: Path) -> Path:
    return source(tmp_path / "chest.dcm")


def test_patient_and_study_are_the_sources_and_the_series_is_new(radiograph: Path) -> None:
    made, read = capture(radiograph), pydicom.dcmread(radiograph)
    for keyword in (
        "PatientID", "PatientBirthDate", "PatientSex", "StudyInstanceUID", "StudyID", "StudyDate", "StudyTime",
        "AccessionNumber", "StudyDescription", "BodyPartExamined",
    ):  # fmt: skip
        assert made[keyword].value == read[keyword].value, keyword
    assert made.SpecificCharacterSet == "ISO_IR 192"
    assert str(made.PatientName) == "Müller^Jörg" == str(read.PatientName)
    assert made.SOPClassUID == "1.2.840.10008.5.1.4.1.1.7" == made.file_meta.MediaStorageSOPClassUID
    assert len({made.SOPInstanceUID, made.SeriesInstanceUID, read.SOPInstanceUID, read.SeriesInstanceUID}) == 4
    assert made.file_meta.MediaStorageSOPInstanceUID == made.SOPInstanceUID


def test_the_source_is_referred_to_by_its_series_and_its_instance(radiograph: Path) -> None:
    made = capture(radiograph)
    (image,) = made.SourceImageSequence
    assert (image.ReferencedSOPInstanceUID, image.ReferencedSOPClassUID) == ("1.2.3.4.5", "1.2.840.10008.5.1.4.1.1.1")
    assert image.PurposeOfReferenceCodeSequence[0].CodeValue == "121322"
    (series,) = made.ReferencedSeriesSequence
    assert series.SeriesInstanceUID == "1.2.3.4"
    assert series.ReferencedInstanceSequence[0].ReferencedSOPInstanceUID == "1.2.3.4.5"


@pytest.mark.parametrize(
    ("kind", "name", "expected"),
    [("3.1", "#frame=3", 3), ("3.1", "", None), ("3.1", "#frame=x", None), ("2", "#frame=3", None)],
)
def test_a_frame_is_referred_to_where_instances_have_frames(
    tmp_path: Path, kind: str, name: str, expected: int | None
) -> None:
    """3.1 is ultrasound of many frames, 2 a computed tomography's slice."""
    path = source(tmp_path / "in.dcm", SOPClassUID=f"1.2.840.10008.5.1.4.1.1.{kind}")
    assert capture(path, name).SourceImageSequence[0].get("ReferencedFrameNumber") == expected


def test_the_pixels_are_the_figures(radiograph: Path) -> None:
    made = capture(radiograph)
    assert np.array_equal(made.pixel_array, np.asarray(FIGURE))
    assert list(made.ImageType) == ["DERIVED", "SECONDARY"]


def test_words_are_cut_to_what_an_attribute_may_hold(radiograph: Path) -> None:
    made = capture(radiograph, description="a\\b " * 40, comment="é" * 20_000)
    assert len(made.SeriesDescription) <= 64 and made.SeriesDescription.startswith("a/b")
    assert 10_000 < len(made.ImageComments) <= 10_240


MENDED = {
    "as it should be": {},
    "an old date and time": {"PatientBirthDate": "1961.02.03", "StudyTime": "10:11:12"},
    "hardly anything": dict.fromkeys(
        ("PatientName", "PatientID", "PatientSex", "StudyDate", "StudyTime", "AccessionNumber", "BodyPartExamined")
    ),
    "no word on how it was made anonymous": {"PatientIdentityRemoved": "YES"},
    "a head whose side is said to be unknown": {"BodyPartExamined": "HEAD", "Laterality": ""},
    "a part in words of its own": {"BodyPartExamined": "THORAX PA"},
    "a leg": {"BodyPartExamined": "LEG", "ImageLaterality": "L"},
    "compressed with losses": {
        "LossyImageCompression": "01", "LossyImageCompressionRatio": "12", "LossyImageCompressionMethod": "ISO_10918_1",
    },
}  # fmt: skip


@pytest.mark.parametrize("attributes", MENDED.values(), ids=MENDED.keys())
def test_the_file_passes_a_validator(tmp_path: Path, attributes: dict[str, Any]) -> None:
    if shutil.which("dciodvfy") is None:
        pytest.skip("no dciodvfy on this machine (Debian: apt-get install dicom3tools)")
    capture(source(tmp_path / "in.dcm", **attributes)).save_as(tmp_path / "out.dcm")
    checked = subprocess.run(["dciodvfy", str(tmp_path / "out.dcm")], capture_output=True, text=True, timeout=PATIENCE)
    assert "SCImage" in checked.stdout + checked.stderr
    assert [line for line in checked.stderr.splitlines() if line.startswith("Error")] == []
    assert checked.returncode == 0


def test_what_every_secondary_capture_must_have_is_there(tmp_path: Path) -> None:
    """The attributes of type 1 (with a value) and of type 2 (perhaps empty): PS3.3, A.8.1.3."""
    made = capture(source(tmp_path / "in.dcm", **MENDED["hardly anything"]))
    for keyword in (
        "SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "Modality", "ConversionType",
        "SamplesPerPixel", "PhotometricInterpretation", "PlanarConfiguration", "Rows", "Columns", "BitsAllocated",
        "BitsStored", "HighBit", "PixelRepresentation", "PixelData",
    ):  # fmt: skip
        assert made[keyword].value not in (None, ""), keyword
    for keyword in (
        "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "AccessionNumber",
        "ReferringPhysicianName", "StudyID", "SeriesNumber", "InstanceNumber", "PatientOrientation",
    ):  # fmt: skip
        assert keyword in made, keyword


@pytest.mark.parametrize("keyword", ["BurnedInAnnotation", "RecognizableVisualFeatures"])
@pytest.mark.parametrize(
    ("said", "expected"), [("YES", "YES"), ("NO", "NO"), ("yes ", "YES"), (None, None), ("", None), ("MAYBE", None)]
)
def test_what_the_pixels_show_of_the_patient_is_said_as_the_source_says_it(
    keyword: str, said: str | None, expected: str | None, tmp_path: Path
) -> None:
    made = capture(source(tmp_path / "in.dcm", **{keyword: said}))
    assert made.get(keyword) == expected
    other = ({"BurnedInAnnotation", "RecognizableVisualFeatures"} - {keyword}).pop()
    assert other not in made


@pytest.mark.parametrize("attributes", [{"PatientBirthDate": "sixty-one"}, {"PatientName": "Secret^" * 20}])
def test_no_warning_tells_what_the_file_says_of_the_patient(tmp_path: Path, attributes: dict[str, str]) -> None:
    path = source(tmp_path / "in.dcm", **attributes)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        secondary_capture(FIGURE, origin_of("in.dcm", path), series="1.2", number=1, description="", comment="")


def test_what_is_no_dicom_file_is_refused_with_the_remedy(tmp_path: Path) -> None:
    FIGURE.save(tmp_path / "cat.png")
    for file in (tmp_path / "cat.png", tmp_path / "nothing.dcm", tmp_path, None):
        with pytest.raises(ImageError, match="^cat is not a DICOM file.*needs the patient and the study") as caught:
            origin_of("cat", file)
        assert "Name a .png file" in str(caught.value)


@pytest.mark.parametrize("missing", ["StudyInstanceUID", "SOPInstanceUID"])
def test_a_source_without_a_study_cannot_be_referred_to(tmp_path: Path, missing: str) -> None:
    path = source(tmp_path / "in.dcm")
    dataset = pydicom.dcmread(path)
    del dataset[missing]
    pydicom.dcmwrite(path, dataset)
    with pytest.raises(ImageError, match=f"no {missing} to refer to"):
        origin_of("in.dcm", path)


def test_a_value_of_absurd_length_is_damage_and_is_not_repeated(tmp_path: Path) -> None:
    path = source(tmp_path / "in.dcm", PatientComments="secret" * 5000)
    with pytest.raises(ImageError, match="PatientComments is over 10,240 characters") as caught:
        origin_of("in.dcm", path)
    assert "secret" not in str(caught.value)


def test_without_pydicom_the_error_names_the_extra(radiograph: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pydicom", None)
    with pytest.raises(ExecutionError, match=r"kryptondb\[medical\]"):
        origin_of("in.dcm", radiograph)
