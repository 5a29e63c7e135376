"""A drawn picture as a DICOM secondary capture, in the study of the DICOM file that it was made from.

What the picture's viewer needs to file it beside its source is kept: the patient, the study, the accession number, and
references to the source's series and instance. The capture opens a series of its own. Sources: DICOM PS3.3, A.8.1
(Secondary Capture Image IOD), C.8.6 (its modules), C.12.2 (Common Instance Reference).
"""

from __future__ import annotations

import datetime
import io
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np

from kryptondb.errors import ExecutionError, ImageError
from kryptondb.version import __version__

if TYPE_CHECKING:
    from PIL import Image
    from pydicom.dataset import Dataset

#: What stays as it is in the source: the Patient, Clinical Trial Subject, General Study and Patient Study modules.
_KEPT = (
    *("PatientName", "PatientID", "IssuerOfPatientID", "PatientBirthDate", "PatientBirthTime", "PatientSex"),
    *("EthnicGroup", "PatientComments", "PatientIdentityRemoved", "DeidentificationMethod"),
    "DeidentificationMethodCodeSequence",
    *("PatientSpeciesDescription", "PatientBreedDescription", "ResponsiblePerson", "ResponsibleOrganization"),
    *("ClinicalTrialSponsorName", "ClinicalTrialProtocolID", "ClinicalTrialProtocolName", "ClinicalTrialSiteID"),
    *("ClinicalTrialSiteName", "ClinicalTrialSubjectID", "ClinicalTrialSubjectReadingID"),
    *("StudyInstanceUID", "StudyDate", "StudyTime", "ReferringPhysicianName", "StudyID", "AccessionNumber"),
    *("StudyDescription", "PhysiciansOfRecord", "NameOfPhysiciansReadingStudy", "InstitutionName"),
    *("AdmittingDiagnosesDescription", "PatientAge", "PatientSize", "PatientWeight", "Occupation"),
    *("AdditionalPatientHistory", "PatientState", "LossyImageCompression", "LossyImageCompressionRatio"),
    *("LossyImageCompressionMethod", "Laterality", "ImageLaterality", "BodyPartExamined"),
)
#: What the pixels show of the patient, which the figure shows too: nothing that is drawn over them adds to it. Where
#: the source does not say, it is not known, and neither YES nor NO is written.
_SHOWN = ("BurnedInAnnotation", "RecognizableVisualFeatures")
_REFERENCES = ("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "SpecificCharacterSet")
#: There even where the source says nothing: attributes of type 2.
_EMPTY = (
    *("PatientName", "PatientID", "PatientBirthDate", "PatientSex"),
    *("StudyDate", "StudyTime", "ReferringPhysicianName", "StudyID", "AccessionNumber"),
)
#: Parts of the body that have no left and right one, by the terms of PS3.16, annex L, that scanners write.
_UNPAIRED = frozenset(
    (
        *("ABDOMEN", "ABDOMENPELVIS", "AORTA", "BLADDER", "BRAIN", "CHEST", "CHESTABDOMEN", "CHESTABDPELVIS"),
        *("COCCYX", "COLON", "CSPINE", "ESOPHAGUS", "FACE", "HEAD", "HEADNECK", "HEART", "LIVER", "LSPINE"),
        *("MEDIASTINUM", "NECK", "PANCREAS", "PELVIS", "PROSTATE", "RECTUM", "SKULL", "SPINE"),
        *("SPLEEN", "SSPINE", "STERNUM", "STOMACH", "TSPINE", "UTERUS", "WHOLEBODY"),
    )
)
#: The longest value that any kept attribute may have in DICOM (LT); a longer one is damage.
_LONGEST = 10_240
_MANUFACTURER = "KryptonDB"
_STORAGE = "1.2.840.10008.5.1.4.1.1."
_SECONDARY_CAPTURE = f"{_STORAGE}7"
#: CR, DX and mammography, CT, MR, ultrasound, secondary capture, PET: whose instances have no frames to refer to, even
#: where a file has several.
_SINGLE_FRAME = frozenset(_STORAGE + end for end in ("1", "1.1", "1.2", "1.3", "2", "4", "6.1", "7", "128"))


@dataclass(frozen=True)
class Origin:
    """What a capture keeps of its source: the source's attributes, without pixels, and the frame if it has several."""

    attributes: Dataset
    frame: int | None


def origin_of(name: str, file: Path | None) -> Origin:
    """Reads the header of the DICOM file that a picture was decoded from.

    Args:
        name: what the picture is called in the `image` column; 'study.dcm#frame=3' names a frame.
        file: where it lies; None for a picture that is in no file of this machine.

    Raises:
        ImageError: it is no DICOM file, or one without a study and a patient to refer to.
        ExecutionError: pydicom is not installed.
    """
    pydicom = _pydicom()
    wanted = [*_KEPT, *_SHOWN, *_REFERENCES]
    try:
        if file is None:
            raise FileNotFoundError
        with _quiet(), file.open("rb") as stream:
            attributes = pydicom.dcmread(stream, stop_before_pixels=True, specific_tags=wanted)
            attributes.decode()  # text in whatever character set it has
        for element in attributes:
            if len(str(element.value)) > _LONGEST:
                raise ImageError(f"{name}: damaged DICOM: {element.keyword} is over {_LONGEST:,} characters")
    except ImageError:
        raise
    except Exception:  # not a file, not DICOM, damaged: pydicom raises anything at all
        raise ImageError(
            f"{name} is not a DICOM file, and a DICOM secondary capture needs the patient and the study of one",
            hint="Name a .png file, or a folder, for pictures of other kinds.",
        ) from None  # what pydicom says may have the patient's data in it
    missing = [key for key in ("StudyInstanceUID", "SOPClassUID", "SOPInstanceUID") if not attributes.get(key)]
    if missing:
        raise ImageError(f"{name}: its DICOM header has no {missing[0]} to refer to")
    frame = re.search(r"#(?:.*&)?frame=(\d{1,9})(?:&| |$)", name)  # a space before a number: `ct.dcm#frame=3 (2)`
    return Origin(attributes, int(frame[1]) if frame else None)


def is_ours(file: Path) -> bool:
    """Whether a file is a DICOM instance that KryptonDB made."""
    try:
        with _quiet(), file.open("rb") as stream:
            header = _pydicom().dcmread(stream, stop_before_pixels=True, specific_tags=["Manufacturer"])
            return str(header.get("Manufacturer", "")) == _MANUFACTURER
    except ExecutionError:
        raise
    except Exception:  # not DICOM, or damaged: pydicom raises anything at all
        return False


def new_series() -> str:
    """An identifier for the series that the captures of one source go into, derived from a random UUID."""
    identifier: str = _pydicom().uid.generate_uid(prefix=None)
    return identifier


def secondary_capture(
    figure: Image.Image, origin: Origin, *, series: str, number: int, description: str, comment: str
) -> bytes:
    """A DICOM file of an RGB figure, uncompressed, explicit VR little endian.

    Args:
        series: the SeriesInstanceUID, from `new_series`.
        number: the instance's number in it, from 1.
        description: the series' description, cut to the 64 characters that it may have.
        comment: how the picture was made, in words.
    """
    pydicom = _pydicom()
    dataset = pydicom.Dataset()
    dataset.SpecificCharacterSet = "ISO_IR 192"
    encoded = io.BytesIO()
    with _quiet():
        _keep(dataset, origin.attributes)
        _identify(dataset, series, number, description, comment)
        _refer(dataset, origin)
        _paint(dataset, figure)
        dataset.file_meta = pydicom.dataset.FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
        pydicom.dcmwrite(encoded, dataset, enforce_file_format=True)
    return encoded.getvalue()


def _keep(dataset: Dataset, source: Dataset) -> None:
    """Patient, study and what else stays as it is; mended where the source breaks a rule that archives insist on."""
    for keyword in _EMPTY:
        setattr(dataset, keyword, None)
    for element in source:
        if element.keyword in _KEPT:
            setattr(dataset, element.keyword, _plain(element.value, str(element.VR)))
    for keyword in _SHOWN:
        said = str(source.get(keyword) or "").strip().upper()
        if said in ("YES", "NO"):
            setattr(dataset, keyword, said)
    if str(dataset.get("BodyPartExamined", "")).strip().upper() in _UNPAIRED:
        dataset.pop("Laterality", None)  # which must not be said of it, even as unknown
    elif "Laterality" not in dataset and "ImageLaterality" not in dataset:
        dataset.Laterality = None  # not known; the part may be one of a pair
    if "DeidentificationMethod" not in dataset and "DeidentificationMethodCodeSequence" not in dataset:
        dataset.pop("PatientIdentityRemoved", None)  # which must not be said without saying how


def _identify(dataset: Dataset, series: str, number: int, description: str, comment: str) -> None:
    """The instance, its series, and who made it."""
    now = datetime.datetime.now()
    dataset.SOPClassUID = _SECONDARY_CAPTURE
    dataset.SOPInstanceUID = new_series()  # an identifier like any other
    dataset.InstanceCreationDate = dataset.ContentDate = now.strftime("%Y%m%d")
    dataset.InstanceCreationTime = dataset.ContentTime = now.strftime("%H%M%S")
    dataset.Modality = "OT"
    dataset.SeriesInstanceUID = series
    dataset.SeriesNumber = None  # the archive's to give
    dataset.SeriesDescription = _cut(description, 64)
    dataset.InstanceNumber = number
    dataset.ConversionType = "WSD"  # made at a workstation
    dataset.Manufacturer = dataset.SecondaryCaptureDeviceManufacturer = _MANUFACTURER
    dataset.SoftwareVersions = __version__
    dataset.SecondaryCaptureDeviceSoftwareVersions = __version__
    dataset.ImageComments = _cut(comment, _LONGEST - 1)  # an odd number of bytes is filled up


def _refer(dataset: Dataset, origin: Origin) -> None:
    """Where the picture comes from: the source's instance, its series, and what was done to it."""
    from pydicom.dataset import Dataset
    from pydicom.sr.codedict import codes

    source = origin.attributes
    instance = Dataset()
    instance.ReferencedSOPClassUID = source.SOPClassUID
    instance.ReferencedSOPInstanceUID = source.SOPInstanceUID
    if source.get("SeriesInstanceUID"):
        in_series = Dataset()
        in_series.ReferencedSOPClassUID = source.SOPClassUID
        in_series.ReferencedSOPInstanceUID = source.SOPInstanceUID
        referenced = Dataset()
        referenced.SeriesInstanceUID = source.SeriesInstanceUID
        referenced.ReferencedInstanceSequence = [in_series]
        dataset.ReferencedSeriesSequence = [referenced]
    if origin.frame is not None and source.SOPClassUID not in _SINGLE_FRAME:
        instance.ReferencedFrameNumber = origin.frame
    purpose = Dataset()
    code = codes.DCM.SourceImageForImageProcessingOperation
    purpose.CodeValue, purpose.CodingSchemeDesignator, purpose.CodeMeaning = code.value, "DCM", code.meaning
    instance.PurposeOfReferenceCodeSequence = [purpose]
    dataset.SourceImageSequence = [instance]
    dataset.ImageType = ["DERIVED", "SECONDARY"]
    dataset.DerivationDescription = "Occlusion heat map drawn over the source image; not for diagnosis by itself"
    dataset.PatientOrientation = None


def _paint(dataset: Dataset, figure: Image.Image) -> None:
    """The Image Pixel module."""
    pixels = np.asarray(figure.convert("RGB"))
    dataset.SamplesPerPixel = 3
    dataset.PhotometricInterpretation = "RGB"
    dataset.PlanarConfiguration = 0
    dataset.Rows, dataset.Columns = pixels.shape[:2]
    dataset.BitsAllocated = dataset.BitsStored = 8
    dataset.HighBit = 7
    dataset.PixelRepresentation = 0
    data = pixels.tobytes()
    dataset.PixelData = data + b"\x00" * (len(data) % 2)
    dataset["PixelData"].VR = "OB"


def _plain(value: object, kind: str) -> object:
    """A value free of the bytes and the character set that it was read from, so that it is written in the new one.

    Dates as 1994.11.05 and times as 10:20:30, which older files have, lose their separators.
    """
    from pydicom.multival import MultiValue
    from pydicom.valuerep import PersonName

    if isinstance(value, MultiValue):
        return [_plain(item, kind) for item in value]
    if kind in ("DA", "TM") and value is not None:
        return re.sub(r"(?<=\d)[.:](?=\d\d(?:[.:]|$))", "", str(value)) if kind == "DA" else str(value).replace(":", "")
    return str(value) if isinstance(value, PersonName) else value


@contextmanager
def _quiet() -> Iterator[None]:
    """Without pydicom's warnings, which repeat the values that they are about: patients' names and dates of birth."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _cut(text: str, most: int) -> str:
    """Text of one value: a backslash would divide it."""
    one_line = text.replace("\\", "/")
    return one_line if len(one_line) <= most else one_line[: most - 1] + "…"


def _pydicom() -> ModuleType:
    try:
        import pydicom
        import pydicom.uid
    except ImportError:
        raise ExecutionError(
            "writing DICOM needs pydicom", hint="Install it: pip install 'kryptondb[medical]'"
        ) from None
    return pydicom
