"""NIfTI volumes (`.nii`, `.nii.gz`): one slice to pixels. nibabel explains the header; the voxels are read here.

Whatever the order in which a file stores its voxels, slices count from the patient's left to the right (`sagittal`),
from back to front (`coronal`) and from the feet up (`axial`), and are drawn so: up is the front of the body in an axial
slice and the head in the others; right is the patient's right in axial and coronal slices, and the front in sagittal
ones. That is how nilearn draws them, mirrored against how most radiologists look at a scan. Voxels are pixels: they are
not stretched where they are longer than wide.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from kryptondb.errors import ImageError
from kryptondb.images.arrays import Floats
from kryptondb.images.content import Content, Part
from kryptondb.images.levels import GRAY_ONLY, Meaningless, Window, between, check_size, windowed
from kryptondb.options.words import PLANES

SUFFIXES = frozenset({".nii", ".nii.gz"})

#: Bytes of one volume, which is read as a whole.
MOST_BYTES = 768 << 20
#: How far into an inflated file a volume may end: inflating goes on until there.
_FARTHEST = 4 << 30
_HEADER_BYTES = 540  # NIfTI-2's; NIfTI-1's is 348
_GZIP = b"\x1f\x8b"
#: Which canonical axis (left to right, back to front, feet to head) runs across the slices.
_ACROSS = {"sagittal": 0, "coronal": 1, "axial": 2}


@dataclass(frozen=True)
class _Volume:
    """The volume that a part names: where it lies, and what its numbers mean."""

    shape: tuple[int, int, int]
    dtype: np.dtype[Any]
    offset: int
    slope: float
    intercept: float
    shown: tuple[float, float]  # the range that the file asks to be shown; (0, 0) for none
    orientation: NDArray[np.floating]  # nibabel's: for each stored axis its canonical one, and 1 or -1

    @property
    def size(self) -> int:
        """Its bytes."""
        return int(np.prod(self.shape, dtype=object)) * self.dtype.itemsize


def is_nifti(start: bytes, suffix: str = "") -> bool:
    """Whether a file that starts so is a NIfTI file, compressed, or the header of one in two files, too."""
    known = _is_whole(start) or _is_pair(start) or _is_gzip(start)
    return known or (bool(start) and suffix in SUFFIXES)


def _is_whole(start: bytes) -> bool:
    """Whether it is uncompressed, with its voxels in it."""
    return start[344:348] == b"n+1\0" or start[4:8] == b"n+2\0"


def _is_pair(start: bytes) -> bool:
    """Whether it is the header of a volume whose voxels are in another file."""
    return start[344:348] == b"ni1\0" or start[4:8] == b"ni2\0"


def _is_gzip(start: bytes) -> bool:
    return start[:2] == _GZIP


def read(content: Content, part: Part, window: Window | None) -> Floats:
    """H x W x C float32 in 0..1 of one slice; C is 3 for volumes of RGB, else 1.

    The levels are those of `window` (in scaled units), or the range that the header asks to be shown, or 0..255 for
    unscaled bytes, or else the whole volume's range, so that slices of one volume stay comparable. NaN is black.

    Raises:
        ImageError: nibabel is missing; no slice is named; the file is damaged or too large.
    """
    part.only("NIfTI", "slice", "axis", "volume", shown=content.name)
    try:
        import nibabel  # noqa: F401
    except ImportError:
        raise ImageError(
            f"{content.name}: reading NIfTI needs the package nibabel", hint='pip install "kryptondb[medical]"'
        ) from None
    try:
        with _inflating(content) as stream:
            volume = _volume(content.name, stream.read(_HEADER_BYTES), part)
            across, number = _slice(content.name, part, volume)
            stored = _voxels(content.name, stream, volume)
            return _levels(_drawn(stored, volume, across, number), stored, volume, window)
    except (ImageError, Meaningless, MemoryError):
        raise
    except OSError as error:
        if error.errno is not None:  # the system's, not gzip's
            raise
    except Exception:  # a damaged header can make nibabel raise anything
        pass
    raise ImageError(f"{content.name}: damaged or truncated NIfTI file")  # out here no other error stands behind it


@contextmanager
def _inflating(content: Content) -> Iterator[BinaryIO]:
    """The file as it was before compression."""
    with content.open() as stream:
        if not _is_gzip(content.start(2)):
            yield stream
            return
        with gzip.GzipFile(fileobj=stream) as inflated:
            yield inflated  # type: ignore[misc]  # it reads and seeks like one


def _volume(name: str, block: bytes, part: Part) -> _Volume:
    """What the header says of the volume that is asked for, checked."""
    header = _header(name, block)
    dimensions = [int(side) for side in header["dim"][1 : 1 + int(header["dim"][0])]]
    while len(dimensions) > 3 and dimensions[-1] == 1:
        dimensions.pop()
    dimensions += [1] * (3 - len(dimensions))
    if not 3 <= len(dimensions) <= 4 or min(dimensions) < 1:
        shape = " x ".join(map(str, dimensions))
        raise ImageError(f"{name}: a NIfTI file of {shape} is neither a volume nor a series of volumes")
    volumes = dimensions[3] if len(dimensions) == 4 else 1
    if (part.volume or 0) >= volumes:
        raise ImageError(f"{name}: no volume {part.volume:,}: it has {volumes:,}, which count from 0")
    dtype = header.get_data_dtype()
    slope, intercept = header.get_slope_inter()
    volume = _Volume(
        shape=(dimensions[0], dimensions[1], dimensions[2]),
        dtype=dtype,
        offset=int(header.get_data_offset()),
        slope=1.0 if slope is None else float(slope),
        intercept=0.0 if intercept is None else float(intercept),
        shown=(float(header["cal_min"]), float(header["cal_max"])),
        orientation=_orientation(header),
    )
    if volume.size > MOST_BYTES:
        raise ImageError(f"{name}: a volume of {volume.size:,} bytes is more than the {MOST_BYTES:,} that are read")
    offset = volume.offset + (part.volume or 0) * volume.size
    if volume.offset < 0 or offset + volume.size > _FARTHEST:
        raise ImageError(f"{name}: the volume begins {offset:,} bytes into the file, farther than is read")
    return replace(volume, offset=offset)


def _header(name: str, block: bytes) -> Any:
    """What nibabel makes of the first bytes, without the extensions behind them."""
    from nibabel.nifti1 import Nifti1Header
    from nibabel.nifti2 import Nifti2Header

    if _is_pair(block):
        raise ImageError(
            f"{name}: the header of a NIfTI volume in two files (.hdr and .img)",
            hint="Store it as one: nibabel.save(nibabel.load('volume.hdr'), 'volume.nii').",
        )
    if not _is_whole(block):
        raise ImageError(f"{name}: not a NIfTI file")
    kind: Any = Nifti2Header if block[4:8] == b"n+2\0" else Nifti1Header
    return kind(block[: kind.sizeof_hdr], check=False)


def _orientation(header: Any) -> NDArray[np.floating]:
    """As nibabel has it; stored order where the header does not say."""
    from nibabel import orientations

    known: Any = orientations  # untyped
    try:
        found: NDArray[np.floating] = known.io_orientation(header.get_best_affine())
    except Exception:  # an affine of anything at all
        found = np.full((3, 2), np.nan)
    if np.isnan(found).any() or sorted(found[:, 0]) != [0, 1, 2]:
        return np.array([[0, 1], [1, 1], [2, 1]], dtype=float)
    return found


def _slice(name: str, part: Part, volume: _Volume) -> tuple[int, int]:
    """The canonical axis across the slices, and the slice's number on it."""
    axis = part.axis or "axial"
    across = _ACROSS[axis]
    count = volume.shape[_stored_axis(volume, across)]
    if part.slice is None and count > 1:
        raise ImageError(
            f"{name}: a volume, and no slice of it is named",
            hint=f"It has {count:,} {axis} slices: '{name}#slice={count // 2}'. The axis may be {', '.join(PLANES)}.",
        )
    if (part.slice or 0) >= count:
        raise ImageError(f"{name}: no {axis} slice {part.slice:,}: it has {count:,}, which count from 0")
    return across, part.slice or 0


def _stored_axis(volume: _Volume, canonical: int) -> int:
    return int(np.flatnonzero(volume.orientation[:, 0] == canonical)[0])


def _voxels(name: str, stream: BinaryIO, volume: _Volume) -> NDArray[np.generic]:
    """The whole volume as it is stored, in the order of its axes."""
    if volume.dtype.kind not in "buif" and volume.dtype.names not in (("R", "G", "B"), ("R", "G", "B", "A")):
        raise Meaningless(f"voxels of type {volume.dtype} are neither levels of gray nor colors")
    if volume.dtype.itemsize > 8 and volume.dtype.names is None:
        raise Meaningless(f"voxels of type {volume.dtype} are not supported")
    stream.seek(volume.offset)
    data = stream.read(volume.size)
    if len(data) < volume.size:
        raise ImageError(f"{name}: damaged or truncated NIfTI file: {len(data):,} bytes of a volume of {volume.size:,}")
    return np.frombuffer(data, dtype=volume.dtype).reshape(volume.shape, order="F")


def _drawn(stored: NDArray[np.generic], volume: _Volume, across: int, number: int) -> NDArray[np.generic]:
    """[H, W] voxels of one slice, upright."""
    order = [_stored_axis(volume, canonical) for canonical in range(3)]
    canonical = stored.transpose(order)
    flips = [volume.orientation[axis, 1] < 0 for axis in order]
    canonical = canonical[tuple(slice(None, None, -1) if flip else slice(None) for flip in flips)]
    return np.rot90(canonical.take(number, across))


def _levels(drawn: NDArray[np.generic], stored: NDArray[np.generic], volume: _Volume, window: Window | None) -> Floats:
    """H x W x C float32 in 0..1."""
    check_size("the slice", *drawn.shape)
    if volume.dtype.names is not None:
        if window is not None:
            raise Meaningless(GRAY_ONLY)
        colors: Any = drawn
        return np.stack([np.asarray(colors[color]) for color in "RGB"], axis=-1).astype(np.float32) / np.float32(255)
    scaled = (volume.slope, volume.intercept) != (1, 0)
    values = drawn.astype(np.float64) * volume.slope + volume.intercept if scaled else drawn
    low, high = volume.shown
    if window is not None:
        levels = windowed(values, window)
    elif np.isfinite(high - low) and high > low:
        levels = between(values, low, high)
    elif not scaled and volume.dtype == np.uint8:
        levels = drawn.astype(np.float32) / np.float32(255)
    else:
        levels = between(values, *_range(stored, volume))
    return levels[:, :, None]


def _range(stored: NDArray[np.generic], volume: _Volume) -> tuple[float, float]:
    """The least and the largest finite value of a volume, slice by slice."""
    low, high = np.inf, -np.inf
    for index in range(volume.shape[2]):
        plane = stored[:, :, index]
        if plane.dtype.kind == "f":
            plane = plane[np.isfinite(plane)]
        if plane.size:
            low, high = min(low, float(plane.min())), max(high, float(plane.max()))
    if high < low:
        return 0.0, 0.0
    ends = sorted((low * volume.slope + volume.intercept, high * volume.slope + volume.intercept))
    return ends[0], ends[1]
