"""Which picture of a file that holds several: `study.dcm#frame=3`, `scan.tif#page=2`, `mri.nii#slice=60&axis=axial`.

Frames and pages count from 1, as DICOM and readers of documents do; slices and volumes are voxel indices and count from
0, as nibabel and viewers do.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, fields

from kryptondb.errors import ImageError, did_you_mean

AXES = ("axial", "coronal", "sagittal")
_FRAGMENT = re.compile(r"[A-Za-z_]+=[^=&#]*(?:&[A-Za-z_]+=[^=&#]*)*\Z")
_MOST = 10**9


@dataclass(frozen=True)
class Part:
    """What stands behind the `#` of a path.

    Attributes:
        frame: of a DICOM file, from 1.
        page: of a TIFF file, from 1.
        slice: of a NIfTI volume, from 0: right to left is `sagittal`, back to front `coronal`, bottom to top `axial`.
        axis: the plane of the slice, one of AXES.
        volume: of a NIfTI file with several (a time series), from 0.
    """

    frame: int | None = None
    page: int | None = None
    slice: int | None = None
    axis: str | None = None
    volume: int | None = None

    @classmethod
    def parse(cls, fragment: str, shown: str) -> Part:
        """Reads `slice=60&axis=coronal`. Raises ImageError, which begins with `shown`, for anything else."""
        values: dict[str, int | str] = {}
        known = [field.name for field in fields(cls)]
        for item in fragment.split("&"):
            name, _, value = item.partition("=")
            if name not in known:
                near = did_you_mean(name, known)
                raise ImageError(f'{shown}: no part named "{name}"', hint=near or f"The parts are {', '.join(known)}.")
            if name in values:
                raise ImageError(f"{shown}: {name} is given twice")
            values[name] = _axis(value, shown) if name == "axis" else _number(name, value, shown)
        return cls(**values)  # type: ignore[arg-type]  # each is what _axis or _number gave for that name

    def given(self) -> dict[str, int | str]:
        """What is set, in the order in which it is written."""
        return {field.name: value for field in fields(self) if (value := getattr(self, field.name)) is not None}

    def only(self, kind: str, *names: str, shown: str) -> None:
        """Raises ImageError where something is set that files of this kind do not have."""
        for name, value in self.given().items():
            if name not in names:
                has = f"It has {', '.join(names)}." if names else "It holds one picture."
                raise ImageError(f"{shown}: #{name}={value} means nothing for a {kind} file", hint=has)

    def __str__(self) -> str:
        return "&".join(f"{name}={value}" for name, value in self.given().items())


WHOLE = Part()


def split_fragment(text: str) -> tuple[str, str]:
    """A path and what stands behind its last `#`, empty where that is a part of the name: ('a#1.png', '')."""
    path, mark, fragment = text.rpartition("#")
    return (path, fragment) if mark and path and _FRAGMENT.match(fragment) else (text, "")


def _number(name: str, value: str, shown: str) -> int:
    first = 1 if name in ("frame", "page") else 0
    if not re.fullmatch(r"[0-9]{1,9}", value) or not first <= int(value) <= _MOST:
        raise ImageError(f"{shown}: {name} must be a whole number from {first}, not {value!r}")
    return int(value)


def _axis(value: str, shown: str) -> str:
    if value.casefold() not in AXES:
        raise ImageError(f"{shown}: axis must be one of {', '.join(AXES)}, not {value!r}")
    return value.casefold()
