"""Single elements of a DICOM data set as numbers and text, straight from their bytes.

pydicom validates what it converts, and quotes values in warnings and logs. A damaged file may hold the name of a
patient where a number should be, so nothing is converted by pydicom that has text in it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydicom.dataset import Dataset


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
