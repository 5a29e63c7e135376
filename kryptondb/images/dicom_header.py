"""What a DICOM file says before its pixels: how they are stored, in numbers that have been checked.

pydicom validates what it converts, and quotes values in warnings and logs. A damaged file may hold the name of a
patient where a number should be, so nothing is converted by pydicom that has text in it: single elements are read
straight from their bytes.
"""

from __future__ import annotations

import io
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

from kryptondb.errors import ImageError
from kryptondb.images.levels import check_size

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
        f"{prefix}{color}PaletteColorLookupTable{what}"
        for color in ("Red", "Green", "Blue", "Alpha")
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
            f"{name}: a DICOM file with {stored.channels} samples per pixel, {stored.bits_stored} of "
            f"{stored.bits_allocated} bits each, is not a picture"
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


def integer(data: Dataset, keyword: str, default: int | None = None, *, signed: bool = False) -> int:
    """A number of 16 bits (or one written in digits, IS); `default` where there is none.

    Raises:
        ValueError: no such element and no default, or a value of another kind.
    """
    found = _bytes(data, keyword)
    if found is None:
        if default is None:
            raise ValueError("an element is missing")
        return default
    value, little = found
    if keyword == "NumberOfFrames":
        return int(_plain(value))
    if len(value) < 2:
        raise ValueError("a number without bytes")
    return int.from_bytes(value[:2], "little" if little else "big", signed=signed)


def decimals(data: Dataset, keyword: str) -> list[float]:
    """The numbers of a decimal string (DS), none where the element is missing or empty. ValueError for other text."""
    found = _bytes(data, keyword)
    return [] if found is None else [float(part) for part in _plain(found[0]).split("\\") if part.strip()]


def text(data: Dataset, keyword: str, default: str) -> str:
    """A code string (CS)."""
    found = _bytes(data, keyword)
    return default if found is None else _plain(found[0]).strip() or default


def _plain(value: bytes) -> str:
    return value.decode("ascii", "replace").rstrip("\0 ")


def _bytes(data: Dataset, keyword: str) -> tuple[bytes, bool] | None:
    """An element's bytes, and whether they are little-endian; None where there is none or it is empty."""
    from pydicom.datadict import tag_for_keyword

    tag = tag_for_keyword(keyword)
    if tag is None or tag not in data:
        return None
    element = data.get_item(tag)
    value = getattr(element, "value", None)
    if not value:
        return None
    if not isinstance(value, bytes):
        raise ValueError("an element that was converted")
    return value, bool(getattr(element, "is_little_endian", True))
