"""DICOM files through pydicom: one frame of one file to pixels, whatever its transfer syntax.

Only what says how pixels are stored and shown is looked at. What a file says of a patient is never converted, and no
message repeats what stands in a file or what a library says about it: an error names the file and a reason of ours.

A compressed frame has a size of its own. It is compared with the file's before anything is decoded: decoders allocate
what the frame says.

Two of the decoders that pydicom knows are left out, even where they are installed. gdcm ends the process over one in a
hundred damaged frames (SIGABRT, SIGSEGV), which no handler catches. pylibjpeg-rle panics in Rust over some, which is no
Exception and writes to standard error; pydicom's own decoder of run lengths takes 0.4 s for a chest radiograph.
"""

from __future__ import annotations

import io
import struct
from itertools import pairwise
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from kryptondb.errors import ImageError
from kryptondb.images import dicom_levels
from kryptondb.images.arrays import Floats
from kryptondb.images.content import Content, Part
from kryptondb.images.dicom_header import MOST_BYTES, Stored, inflated, read_header
from kryptondb.images.levels import Meaningless, Window

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

SUFFIXES = frozenset({".dcm", ".dicom", ".dic", ".ima"})


def read(content: Content, part: Part, window: Window | None) -> Floats:
    """H x W x C float32 in 0..1 of one frame, the first where none is named; C 1 or 3.

    Gray is what a viewer shows at first: rescaled, through `window` (in rescaled units: Hounsfield for a CT) or the
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
            samples, photometric = frame_samples(content.name, stream, header, stored, index)
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


_BIG_ENDIAN = "1.2.840.10008.1.2.2"
_RLE = "1.2.840.10008.1.2.5"
#: In the order in which they are tried.
_PLUGINS = ("pylibjpeg", "pillow", "pyjpegls")
_RLE_PLUGINS = ("pydicom",)
_START_OF_FRAME = {*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC}  # JPEG's, and that of JPEG-LS
_RLE_SEGMENTS = 15


def frame_samples(
    name: str, stream: BinaryIO, header: Dataset, stored: Stored, index: int
) -> tuple[NDArray[np.generic], str]:
    """[H, W] or [H, W, 3] and the photometric interpretation that they have.

    Args:
        stream: at the value of the element that holds the pixels.
        index: of the frame, from 0.

    Raises:
        ImageError: a transfer syntax that cannot be decoded here, or a frame of another size than the file says.
        Exception: whatever a decoder raises over damaged data.
    """
    from pydicom.pixels.decoders.base import get_decoder
    from pydicom.uid import UID

    syntax = UID(stored.syntax)
    try:
        decoder: Any = get_decoder(syntax)
    except NotImplementedError:
        decoder = None
    if decoder is None:
        raise ImageError(f"{name}: DICOM pixels compressed as {_named(syntax)} are not supported")
    options: dict[str, Any] = {
        "rows": stored.rows,
        "columns": stored.columns,
        "samples_per_pixel": stored.channels,
        "photometric_interpretation": stored.photometric,
        "bits_allocated": stored.bits_allocated,
        "bits_stored": stored.bits_stored,
        "pixel_representation": int(stored.signed),
        "planar_configuration": stored.planar,
        "pixel_keyword": stored.keyword,
        "pixel_vr": stored.vr,
        "number_of_frames": stored.frames,
    }
    if stored.bits_allocated == 1 and stored.channels == 1 and not syntax.is_encapsulated:
        return _bits(stream, stored, index), stored.photometric
    if not syntax.is_encapsulated:
        found, properties = decoder.as_array(stream, index=index, raw=True, **options)
        return found, str(properties["photometric_interpretation"])
    frame = _encoded(name, stream, header, stored, index)
    _check(name, frame, stored, rle=syntax == _RLE)
    return _decoded(name, decoder, frame, {**options, "number_of_frames": 1}, _named(syntax))


def _bits(stream: BinaryIO, stored: Stored, index: int) -> NDArray[np.uint8]:
    """[H, W] of a frame of single bits: frames follow each other without a gap, and need not begin with a byte.

    Source: DICOM PS3.5, 8.1.1 and D.2: the first pixel is the lowest bit. pydicom reads such frames only where they do.

    Raises:
        ValueError: the file ends in the frame.
    """
    pixels = stored.rows * stored.columns
    first = index * pixels
    start, end = first // 8, -(-(first + pixels) // 8)
    swapped = stored.vr == "OW" and stored.syntax == _BIG_ENDIAN  # then each two bytes change places
    if swapped:
        start, end = start // 2 * 2, -(-end // 2) * 2
    stream.seek(start, io.SEEK_CUR)
    data = np.frombuffer(stream.read(end - start), np.uint8)
    if len(data) < end - start:
        raise ValueError("the pixels end early")
    if swapped:
        data = data.reshape(-1, 2)[:, ::-1].reshape(-1)
    bits = np.unpackbits(data, bitorder="little")
    return bits[first - 8 * start :][:pixels].reshape(stored.rows, stored.columns)


def _encoded(name: str, stream: BinaryIO, header: Dataset, stored: Stored, index: int) -> bytes:
    """One frame as it is compressed."""
    from pydicom.encaps import get_frame

    offsets = None
    if "ExtendedOffsetTable" in header and "ExtendedOffsetTableLengths" in header:
        offsets = (header.ExtendedOffsetTable, header.ExtendedOffsetTableLengths)
    frame: bytes = get_frame(stream, index, number_of_frames=stored.frames, extended_offsets=offsets)
    if len(frame) > MOST_BYTES:
        raise ImageError(
            f"{name}: a compressed frame of {len(frame):,} bytes is more than the {MOST_BYTES:,} that are read"
        )
    return frame


def _decoded(
    name: str, decoder: Any, frame: bytes, options: dict[str, Any], syntax: str
) -> tuple[NDArray[np.generic], str]:
    """The frame through the first decoder that takes it."""
    from pydicom.encaps import encapsulate

    wanted = _RLE_PLUGINS if decoder.UID == _RLE else _PLUGINS
    plugins = [plugin for plugin in wanted if plugin in decoder.available_plugins]
    if not plugins:
        raise ImageError(
            f"{name}: DICOM pixels compressed as {syntax} need a decoder that is not installed",
            hint='pip install "kryptondb[medical]"',
        )
    encapsulated = encapsulate([frame])
    for plugin in plugins[:-1]:
        try:
            found, properties = decoder.as_array(encapsulated, index=0, raw=True, decoding_plugin=plugin, **options)
            return found, str(properties["photometric_interpretation"])
        except Exception:
            continue  # some take what others refuse; the last one's failure is what counts
    found, properties = decoder.as_array(encapsulated, index=0, raw=True, decoding_plugin=plugins[-1], **options)
    return found, str(properties["photometric_interpretation"])


def _named(syntax: Any) -> str:
    """A transfer syntax in words where the standard has some: a private one says nothing to a reader."""
    return str(syntax.name) if str(syntax.name) != str(syntax) else "an unknown transfer syntax"


def _check(name: str, frame: bytes, stored: Stored, *, rle: bool) -> None:
    """What a frame says of itself against what the file says."""
    if rle:
        _check_rle(name, frame, stored)
        return
    size = codestream_size(frame)
    if size is None:
        raise ImageError(f"{name}: damaged DICOM file: a compressed frame without a size")
    height, width, components = size
    if (height, width) != (stored.rows, stored.columns) or components not in (1, 3):
        raise ImageError(
            f"{name}: damaged DICOM file: a compressed frame of {height:,} x {width:,} in a picture of "
            f"{stored.rows:,} x {stored.columns:,}"
        )


def _check_rle(name: str, frame: bytes, stored: Stored) -> None:
    """Run lengths make up to 64 bytes of one: no segment may be longer than its plane and what runs add at worst."""
    count = struct.unpack_from("<L", frame)[0] if len(frame) >= 64 else 0
    if not 1 <= count <= _RLE_SEGMENTS:
        raise ImageError(f"{name}: damaged DICOM file: a frame of {count:,} RLE segments")
    offsets = [*struct.unpack_from(f"<{count}L", frame, 4), len(frame)]
    plane = stored.rows * stored.columns
    if any(later - earlier > plane * 1.02 + 4096 for earlier, later in pairwise(offsets)):
        raise ImageError(f"{name}: damaged DICOM file: an RLE segment that is longer than its plane")


def codestream_size(frame: bytes) -> tuple[int, int, int] | None:
    """(height, width, components) that a JPEG, JPEG-LS or JPEG 2000 codestream declares; None where it does not.

    Source: ITU-T T.81 B.2.2, T.87 C.2.2, T.800 A.5.1.
    """
    if frame[:4] == b"\x00\x00\x00\x0c":  # JP2: the codestream stands in a box
        at = frame.find(b"\xff\x4f\xff\x51", 0, 1 << 16)
        frame = frame[at:] if at >= 0 else b""
    try:
        if frame[:4] == b"\xff\x4f\xff\x51":
            right, bottom, left, top = struct.unpack_from(">4L", frame, 8)
            return bottom - top, right - left, int(struct.unpack_from(">H", frame, 40)[0])
        return _jpeg_size(frame)
    except struct.error:
        return None


def _jpeg_size(frame: bytes) -> tuple[int, int, int] | None:
    if frame[:2] != b"\xff\xd8":
        return None
    stream = io.BytesIO(frame)
    stream.seek(2)
    while (first := stream.read(1)) == b"\xff":
        while (marker := stream.read(1)) == b"\xff":
            pass
        if not marker:
            return None
        if marker[0] in (0x01, *range(0xD0, 0xD9)):  # these stand alone
            continue
        length = struct.unpack(">H", stream.read(2))[0]
        if marker[0] in _START_OF_FRAME:
            _, height, width, components = struct.unpack(">BHHB", stream.read(6))
            return height, width, components
        if length < 2:
            return None
        stream.seek(length - 2, io.SEEK_CUR)
    del first
    return None
