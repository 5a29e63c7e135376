"""Stored DICOM samples to levels of gray or colors: modality, VOI and palette tables, windows, MONOCHROME1.

Source: DICOM PS3.3, C.11.1 (modality LUT), C.11.2 (VOI LUT), C.7.6.3 (palettes), C.7.6.16 (multi-frame groups).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from kryptondb.images.arrays import Floats
from kryptondb.images.dicom_header import Stored, decimals, integer, text
from kryptondb.images.levels import FUNCTIONS, GRAY_ONLY, Meaningless, Window, between, full_range, over_white, windowed

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

_COLORS = ("Red", "Green", "Blue", "Alpha")
_BAND = 1 << 22  # pixels that are converted at once
_MOST_ENTRIES = 1 << 16
_DISCRETE, _LINEAR, _INDIRECT = 0, 1, 2  # segments of a palette


def levels(
    samples: NDArray[np.generic], photometric: str, header: Dataset, stored: Stored, index: int, window: Window | None
) -> Floats:
    """H x W x C float32 in 0..1, C 1 or 3, from the samples of frame `index`; see `dicom.read`.

    Raises:
        Meaningless: colors in a model that is not supported, or a window that does not apply or shows nothing.
    """
    if photometric in ("MONOCHROME1", "MONOCHROME2") and samples.ndim == 2:
        return _gray(samples, photometric, header, stored, index, window)[:, :, None]
    if window is not None:
        raise Meaningless(GRAY_ONLY)
    if photometric == "PALETTE COLOR" and samples.ndim == 2:
        return _palette(samples, header)
    if photometric in ("RGB", "YBR_FULL", "YBR_FULL_422") and samples.ndim == 3:
        return _colors(samples, photometric, 2**stored.bits_stored - 1)
    raise Meaningless("DICOM pixels in this color model are not supported")


def _colors(samples: NDArray[np.generic], photometric: str, top: int) -> Floats:
    """[H, W, 3] of RGB or YBR, some rows at a time: what lies between takes little memory."""
    from pydicom.pixels.processing import convert_color_space

    height, width, _ = samples.shape
    pixels: Floats = np.empty((height, width, 3), dtype=np.float32)
    step = max(1, _BAND // width)
    for row in range(0, height, step):
        band = samples[row : row + step]
        pixels[row : row + step] = band if photometric == "RGB" else convert_color_space(band, photometric, "RGB")
    pixels /= np.float32(top)
    return np.clip(pixels, 0, 1, out=pixels)


def _gray(
    samples: NDArray[np.generic], photometric: str, header: Dataset, stored: Stored, index: int, window: Window | None
) -> Floats:
    """[H, W] float32 in 0..1, black least."""
    padding = _padding(samples, header, stored)
    values, rescaled = _rescaled(samples, header, stored, index)
    voi = _group(header, index, "FrameVOILUTSequence") or header
    own = window or (_first_window(voi) if "VOILUTSequence" not in voi else None)
    if own is not None:
        function = text(voi, "VOILUTFunction", "LINEAR").upper()
        if function not in FUNCTIONS and window is None:
            raise Meaningless(
                "its window rises as no VOI LUT function of the standard does; give window => (center, width)"
            )
        if function not in FUNCTIONS:
            function = "LINEAR"
        exact = function == "LINEAR" and own[1] < 1
        gray = windowed(values, own, "LINEAR_EXACT" if exact else function)
    elif "VOILUTSequence" in voi:
        entries, bits = _looked_up(values, voi.VOILUTSequence[0], header, bool(values.size) and float(values.min()) < 0)
        gray = np.clip(entries.astype(np.float32) / np.float32(2**bits - 1), 0, 1)
    elif not rescaled and not stored.signed and stored.bits_stored <= 8:
        gray = between(values, 0, 2**stored.bits_stored - 1)
    else:
        gray = full_range(values, None if padding is None else ~padding)
    if photometric == "MONOCHROME1":
        np.subtract(np.float32(1), gray, out=gray)
    if padding is not None:
        gray[padding] = 0
    return gray


def _group(header: Dataset, index: int, keyword: str) -> Dataset | None:
    """What a multi-frame file says for this frame, or for all of them."""
    for sequence, place in (("PerFrameFunctionalGroupsSequence", index), ("SharedFunctionalGroupsSequence", 0)):
        items = header.get(sequence) or ()
        if place < len(items) and (found := items[place].get(keyword)):
            return found[0]  # type: ignore[no-any-return]  # a sequence's item is a data set
    return None


def _rescaled(
    samples: NDArray[np.generic], header: Dataset, stored: Stored, index: int
) -> tuple[NDArray[np.generic], bool]:
    """The samples in the modality's units, and whether that changes them."""
    if header.get("ModalityLUTSequence"):
        return _looked_up(samples, header.ModalityLUTSequence[0], header, stored.signed)[0], True
    source = _group(header, index, "PixelValueTransformationSequence") or header
    slope, intercept = _first(source, "RescaleSlope"), _first(source, "RescaleIntercept") or 0.0
    slope = 1.0 if slope is None else slope
    if slope == 0 or not (np.isfinite(slope) and np.isfinite(intercept)):
        raise Meaningless("its samples are rescaled by zero, or by something that is not a number")
    if (slope, intercept) == (1, 0):
        return samples, False
    values: Floats = samples.astype(np.float32)
    values *= np.float32(slope)
    values += np.float32(intercept)
    return values, True


def _first_window(voi: Dataset) -> Window | None:
    """The first of the file's windows, where it is one."""
    center, width = (_first(voi, keyword) for keyword in ("WindowCenter", "WindowWidth"))
    if center is None or width is None or not np.isfinite(center) or not 0 < width < np.inf:
        return None
    return center, width


def _first(data: Dataset, keyword: str) -> float | None:
    """The first of one or several decimal strings, None where there is none."""
    return next(iter(decimals(data, keyword)), None)


def _looked_up(
    values: NDArray[np.generic], item: Dataset, header: Dataset, signed: bool
) -> tuple[NDArray[np.uint16], int]:
    """Values through a modality or VOI LUT, and the bits of its entries. Source: DICOM PS3.3, C.11.1.1 and C.11.2.1.1.

    The standard packs entries of 8 bits two in a word; some files give each a word of its own, and both are read.

    Args:
        signed: whether the first value that is mapped may be negative, where the file does not say.

    Raises:
        ValueError: a table that is shorter than it says.
    """
    count, first, bits = (int(number) for number in item.LUTDescriptor)
    count = count or _MOST_ENTRIES
    if not 1 <= count <= _MOST_ENTRIES or not 1 <= bits <= 16:
        raise ValueError("a table of no size or depth")
    if signed and first >= 1 << 15:
        first -= 1 << 16
    little = header.original_encoding[1]
    data = item.LUTData
    if not isinstance(data, bytes):
        words = np.atleast_1d(np.asarray(data)).astype("u2")
        data = words.astype("<u2" if little else ">u2").tobytes()
    if len(data) >= 2 * count:
        table = np.frombuffer(data[: 2 * count], "<u2" if little else ">u2").astype(np.uint16)
    elif bits <= 8 and len(data) >= count:
        packed = np.frombuffer(data[: len(data) // 2 * 2], "<u2" if little else ">u2").astype("<u2").view(np.uint8)
        odd = np.frombuffer(data[len(data) // 2 * 2 :], np.uint8)
        table = np.concatenate([packed, odd])[:count].astype(np.uint16)
    else:
        raise ValueError("a table that ends early")
    whole = np.rint(values) if values.dtype.kind == "f" else values.astype(np.int64)
    places = np.clip(np.nan_to_num(whole - first), 0, count - 1).astype(np.int64)
    return table[places], bits


def _padding(samples: NDArray[np.generic], header: Dataset, stored: Stored) -> NDArray[np.bool_] | None:
    """Where the picture has none, in stored values; None for a file without padding."""
    if "PixelPaddingValue" not in header:
        return None
    value = integer(header, "PixelPaddingValue", 0, signed=stored.signed)
    low, high = sorted((value, integer(header, "PixelPaddingRangeLimit", value, signed=stored.signed)))
    found: NDArray[np.bool_] = np.greater_equal(samples, low) & np.less_equal(samples, high)
    return found


def _palette(samples: NDArray[np.generic], header: Dataset) -> Floats:
    """[H, W] indices as [H, W, 3]."""
    from pydicom.pixels.processing import apply_color_lut

    for color in _COLORS:
        keyword = f"Segmented{color}PaletteColorLookupTableData"
        if keyword in header:
            _replace_segments(header, color, keyword)
        elif not header.original_encoding[1]:
            _swap_bytes(header, f"{color}PaletteColorLookupTableData")
    found = apply_color_lut(samples, header)
    pixels: Floats = found.astype(np.float32)
    pixels /= np.float32(np.iinfo(found.dtype).max)
    return pixels if pixels.shape[2] == 3 else over_white(pixels[:, :, :3], pixels[:, :, 3])


def _swap_bytes(header: Dataset, keyword: str) -> None:
    """A big-endian palette of 16 bits as this machine has them: pydicom reads it as if it were."""
    entries = int(header.RedPaletteColorLookupTableDescriptor[0]) or _MOST_ENTRIES
    if keyword in header and len(data := header[keyword].value) >= 2 * entries:
        setattr(header, keyword, np.frombuffer(data[: 2 * entries], ">u2").astype("=u2").tobytes())


def _replace_segments(header: Dataset, color: str, keyword: str) -> None:
    """A segmented palette as a plain one: pydicom would expand segments without an end."""
    entries, _, bits = (int(number) for number in header.RedPaletteColorLookupTableDescriptor)
    little = header.original_encoding[1]
    depth = np.dtype("u1" if bits == 8 else "<u2" if little else ">u2")
    data = header[keyword].value
    segments = np.frombuffer(data[: len(data) // depth.itemsize * depth.itemsize], depth)
    plain = _expanded([int(value) for value in segments], entries or _MOST_ENTRIES, wide=bits != 8)
    setattr(header, f"{color}PaletteColorLookupTableData", np.asarray(plain, depth.newbyteorder("=")).tobytes())
    del header[keyword]


def _expanded(data: list[int], entries: int, *, wide: bool) -> list[int]:
    """The entries of a segmented palette. Source: DICOM PS3.3, C.7.9.2. ValueError where there are too few.

    Indirect segments, which repeat earlier ones, are not followed into others of their kind.
    """
    table: list[int] = []
    at = 0
    pending: list[tuple[int, int | None]] = []  # where to go on, and how many segments to read there
    left: int | None = None
    while len(table) < entries:
        while left == 0 and pending:
            at, left = pending.pop()
        if at + 2 >= len(data):
            raise ValueError("a palette ends early")
        kind, length = data[at], data[at + 1]
        at += 2
        if kind == _DISCRETE:
            table.extend(data[at : at + length])
            at += length
        elif kind == _LINEAR and table:
            steps = np.linspace(table[-1], data[at], length + 1)[1:]
            table.extend(int(value) for value in np.rint(steps))
            at += 1
        elif kind == _INDIRECT and not pending:
            width = 2 if wide else 4
            offset = sum(part << ((16 if wide else 8) * place) for place, part in enumerate(data[at : at + width]))
            pending.append((at + width, left))
            at, left = (offset // 2 if wide else offset), length  # given in bytes
            continue
        else:
            raise ValueError("a palette with an invalid segment")
        left = None if left is None else left - 1
    return table[:entries]
