"""DICOM files through pydicom: one frame of one file to pixels.

Only what says how pixels are stored and shown is looked at. What a file says of a patient is never converted, and no
message repeats what stands in a file or what a library says about it: an error names the file and a reason of ours.
"""

from __future__ import annotations

from kryptondb.errors import ImageError
from kryptondb.images import dicom_frames, dicom_levels
from kryptondb.images.arrays import Floats, Meaningless
from kryptondb.images.content import Content
from kryptondb.images.dicom_header import Stored, inflated, read_header
from kryptondb.images.levels import Window
from kryptondb.images.part import Part

SUFFIXES = frozenset({".dcm", ".dicom", ".dic", ".ima"})


def read(content: Content, part: Part, window: Window | None) -> Floats:
    """H x W x C float32 in 0..1 of one frame, the first where none is named; C 1 or 3.

    Grey is what a viewer shows at first: rescaled, through `window` (in rescaled units: Hounsfield for a CT) or the
    file's own VOI LUT or first window, MONOCHROME1 turned to black-is-least. Without any window, unsigned samples of up
    to 8 bits are taken as they are and all others spread from the least to the largest. Padding is black.

    Raises:
        ImageError: pydicom is missing; the file is damaged, holds no picture, no such frame, or is too large.
    """
    part.only("DICOM", "frame", shown=content.name)
    try:
        import pydicom  # noqa: F401
    except ImportError:
        raise ImageError(
            f"{content.name}: reading DICOM needs the package pydicom", hint='pip install "kryptondb[medical]"'
        ) from None
    problem = "damaged DICOM file: its header cannot be read"
    try:
        with content.open() as stream:
            stream = inflated(content.name, stream)
            header, stored = read_header(content.name, stream)
            index = _frame(content.name, part, stored)
            problem = "damaged DICOM file: its pixels cannot be decoded"
            samples, photometric = dicom_frames.samples(content.name, stream, header, stored, index)
            problem = "damaged DICOM file: its pixels have no meaning"
            return dicom_levels.levels(samples, photometric, header, stored, index, window)
    except (ImageError, Meaningless, MemoryError):
        raise
    except OSError as error:
        if error.errno is not None:  # the system's, not pydicom's
            raise
    except Exception:
        pass
    # Out here no other error stands behind it: that could quote the file.
    raise ImageError(f"{content.name}: {problem}")


def _frame(name: str, part: Part, stored: Stored) -> int:
    """The index of the frame that is asked for, from 0."""
    if stored.frames < 1:
        raise ImageError(f"{name}: a DICOM file without a frame")
    frame = part.frame or 1
    if frame > stored.frames:
        raise ImageError(f"{name}: no frame {frame:,}: it has {stored.frames:,}")
    return frame - 1
