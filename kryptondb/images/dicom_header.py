"""What a DICOM file says before its pixels: how they are stored, in numbers that have been checked."""

from __future__ import annotations

import io
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

from kryptondb.errors import ImageError
from kryptondb.images.arrays import check_size
from kryptondb.images.dicom_values import integer, text

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

SIGNATURE_END = 132  # a preamble of 128 bytes, and "DICM"

#: Of one frame, decoded: 80 million pixels of 16-bit RGB.
MOST_BYTES = 512 << 20
#: Of a whole file that is deflated.
_MOST_INFLATED = 512 << 20
#: Elements larger than this stay in the file: none that is needed is.
_LARGE_ELEMENT = 64 << 20

_PIXEL_KEYWORDS = {
    b"\xe0\x7f\x10\x00": "PixelData",
    b"\xe0\x7f\x08\x00": "FloatPixelData",
    b"\xe0\x7f\x09\x00": "DoubleFloatPixelData",
}
_PIXEL_VRS = ("OB", "OW", "OF", "OD", "UN")
_READ = (
    *("Rows", "Columns", "SamplesPerPixel", "PhotometricInterpretation", "PlanarConfiguration", "NumberOfFrames"),
    *("BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "PixelPaddingValue", "PixelPaddingRangeLimit"),
    *("RescaleSlope", "RescaleIntercept", "ModalityLUTSequence"),
    *("WindowCenter", "WindowWidth", "VOILUTFunction", "VOILUTSequence"),
    *("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"),
    *("ExtendedOffsetTable", "ExtendedOffsetTableLengths"),
    *(
        f"{prefix}{colour}PaletteColorLookupTable{what}"
        for colour in ("Red", "Green", "Blue", "Alpha")
        for prefix, what in (("", "Descriptor"), ("", "Data"), ("Segmented", "Data"))
    ),
)


@dataclass(frozen=True)
class Stored:
    """How the pixels of a file are stored: numbers that have been checked.

    `syntax` is the transfer syntax's UID; `keyword` the element that holds them, and `vr` its representation.
    """

    rows: int
    columns: int
    channels: int
    photometric: str
    bits_allocated: int
    bits_stored: int
    signed: bool
    planar: int
    frames: int
    syntax: str
    keyword: str
    vr: str

    @property
    def frame_bytes(self) -> float:
        """Bytes of one decoded frame."""
        return self.rows * self.columns * self.channels * self.bits_allocated / 8


def is_dicom(start: bytes) -> bool:
    """Whether a file that starts so is in DICOM's file format."""
    return start[128:SIGNATURE_END] == b"DICM"


def inflated(name: str, stream: BinaryIO) -> BinaryIO:
    """The stream, or what it holds behind its meta information where that is deflated: pydicom inflates unbounded."""
    from pydicom.filereader import dcmread
    from pydicom.uid import DeflatedExplicitVRLittleEndian

    start = stream.read(4096)
    stream.seek(0)
    if not is_dicom(start) or DeflatedExplicitVRLittleEndian.encode() not in start:
        return stream
    if start[SIGNATURE_END : SIGNATURE_END + 8] != b"\x02\x00\x00\x00UL\x04\x00":
        raise ImageError(f"{name}: damaged DICOM file: the length of its meta information is missing")
    end = SIGNATURE_END + 12 + int.from_bytes(start[SIGNATURE_END + 8 : SIGNATURE_END + 12], "little")
    meta = dcmread(io.BytesIO(stream.read(min(end, 1 << 20)))).file_meta
    if meta.TransferSyntaxUID != DeflatedExplicitVRLittleEndian:
        stream.seek(0)
        return stream
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    contents = io.BytesIO()
    while chunk := stream.read(1 << 20):
        contents.write(inflater.decompress(chunk, _MOST_INFLATED + 1 - contents.tell()))
        if contents.tell() > _MOST_INFLATED or inflater.unconsumed_tail:
            raise ImageError(f"{name}: it holds more than the {_MOST_INFLATED:,} bytes that are inflated")
    contents.seek(0)
    return contents


def read_header(name: str, stream: BinaryIO) -> tuple[Dataset, Stored]:
    """What precedes the pixels, and how they are stored; `stream` then stands at their value."""
    from pydicom.filereader import dcmread
    from pydicom.uid import (
        ExplicitVRBigEndian,
        ExplicitVRLittleEndian,
        ImplicitVRLittleEndian,
        UncompressedTransferSyntaxes,
    )

    header = dcmread(stream, stop_before_pixels=True, force=True, specific_tags=list(_READ), defer_size=_LARGE_ELEMENT)
    implicit, little = header.original_encoding
    tag = stream.read(4)
    keyword = _PIXEL_KEYWORDS.get(tag if little else tag[1::-1] + tag[:1:-1])
    if keyword is None or "Rows" not in header or "Columns" not in header:
        raise ImageError(f"{name}: a DICOM file without a picture")
    vr = stream.read(2).decode("ascii", "replace")
    explicit = vr in _PIXEL_VRS  # some compressed files say it of none of their elements, in spite of their syntax
    stream.seek(6 if explicit else 2, io.SEEK_CUR)
    native = ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian if little else ExplicitVRBigEndian
    stored = Stored(
        rows=integer(header, "Rows"),
        columns=integer(header, "Columns"),
        channels=integer(header, "SamplesPerPixel", 1),
        photometric=text(header, "PhotometricInterpretation", "MONOCHROME2"),
        bits_allocated=integer(header, "BitsAllocated"),
        bits_stored=integer(header, "BitsStored", integer(header, "BitsAllocated")),
        signed=bool(integer(header, "PixelRepresentation", 0)),
        planar=integer(header, "PlanarConfiguration", 0),
        frames=integer(header, "NumberOfFrames", 1) or 1,
        syntax=str(getattr(header, "file_meta", {}).get("TransferSyntaxUID", native)),
        keyword=keyword,
        vr=vr if explicit else "OW",
    )
    check_size(name, stored.rows, stored.columns)
    if stored.channels not in (1, 3) or not 1 <= stored.bits_stored <= stored.bits_allocated <= 64:
        raise ImageError(
            f"{name}: a DICOM file with {stored.channels} samples a pixel, {stored.bits_stored} of "
            f"{stored.bits_allocated} bits each, is no picture"
        )
    high_bit = integer(header, "HighBit", stored.bits_stored - 1)
    plain = stored.syntax in UncompressedTransferSyntaxes  # decoders of others place samples by themselves
    if plain and keyword == "PixelData" and high_bit != stored.bits_stored - 1:
        raise ImageError(
            f"{name}: its samples end at bit {high_bit}, not at bit {stored.bits_stored - 1} as those of "
            f"{stored.bits_stored} bits do: such DICOM files are not read"
        )
    if integer(header, "PixelRepresentation", 0) not in (0, 1):
        raise ImageError(f"{name}: it does not say whether its samples have a sign (PixelRepresentation)")
    if stored.frame_bytes > MOST_BYTES:
        raise ImageError(
            f"{name}: a frame of {stored.frame_bytes:,.0f} bytes is more than the {MOST_BYTES:,} that are read"
        )
    return header, stored
