"""Which picture of a file that holds several: `study.dcm#frame=3`, `scan.tif#page=2`, `mri.nii#slice=60&axis=axial`.

Frames and pages count from 1, as DICOM and readers of documents do; slices and volumes are voxel indices and count from
0, as nibabel and viewers do.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any
from urllib.parse import unquote

from kryptondb.errors import BindError, ImageError
from kryptondb.options.kinds import Whole
from kryptondb.options.option import Table
from kryptondb.options.reader import read
from kryptondb.options.tables import FRAGMENTS

_FRAGMENT = re.compile(r"[A-Za-z_]+=[^=&#]*(?:&[A-Za-z_]+=[^=&#]*)*\Z")


@dataclass(frozen=True)
class Part:
    """What stands behind the `#` of a path.

    Attributes:
        frame: of a DICOM file, from 1.
        page: of a TIFF file, from 1.
        slice: of a NIfTI volume, from 0: right to left is `sagittal`, back to front `coronal`, bottom to top `axial`.
        axis: the plane of the slice, one of `options.words.PLANES`.
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
        return cls(**asked_for(FRAGMENTS, fragment, shown))

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


def asked_for(table: Table, fragment: str, shown: str) -> Mapping[str, Any]:
    """The options that stand behind the `#` of a path.

    Args:
        shown: the path, with which errors begin.

    Raises:
        ImageError: an option that the table does not have, a value that it does not take, or one given twice.
    """
    values: dict[str, int | str] = {}
    for item in fragment.split("&"):
        name, _, text = item.partition("=")
        if name in values:
            raise ImageError(f"{shown}: {name} is given twice")
        counted = name in table and isinstance(table[name].kind, Whole) and re.fullmatch(r"[0-9]{1,15}", text)
        values[name] = int(text) if counted else unquote(text)
    try:
        return read(table, values)
    except BindError as error:
        raise ImageError(f"{shown}: {error.message}", hint=error.hint) from None
