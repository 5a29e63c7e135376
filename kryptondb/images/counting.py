"""How many pictures a folder or glob holds, as far as that is found out at once."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from kryptondb.errors import ImageError
from kryptondb.files.paths import expanded
from kryptondb.images import remote
from kryptondb.images.folders import Unreadable, is_folder, walk
from kryptondb.images.sources import find_images
from kryptondb.text.plain_text import printable

MOST = 100_000
SECONDS = 1.0
_AT_ONCE = 1_000


@dataclass(frozen=True)
class ImageCount:
    """How many there are; at least so many where counting was not `complete`."""

    count: int
    complete: bool


def count_images(
    spec: object, kept: Callable[[Sequence[str]], int] = len, *, addresses: bool = False
) -> ImageCount | None:
    """Counts the pictures that `find_images(spec)` yields, up to `MOST` of them or for `SECONDS`.

    None for what cannot be found, and for what several addresses stand for.

    Args:
        kept: how many of some names count.
        addresses: whether other machines are asked.
    """
    deadline = time.monotonic() + SECONDS
    count = 0
    held: list[str] = []
    try:
        for name in _names(spec, addresses):
            if len(held) == _AT_ONCE:
                count, held = count + kept(held), []
            if count + len(held) >= MOST or time.monotonic() > deadline:
                return ImageCount(count + kept(held), complete=False)
            held.append(name)
    except (_Uncounted, ImageError):
        return None
    return ImageCount(count + kept(held), complete=True)


class _Uncounted(Exception):
    """Something that is not counted."""


def _names(spec: object, addresses: bool) -> Iterator[str]:
    """The names of pictures, those of a folder in any order: putting a million in order takes longer than a second."""
    if isinstance(spec, (list, tuple)):
        for entry in spec:
            yield from _names(entry, addresses)
        return
    if isinstance(spec, (str, Path)):
        path = expanded(str(spec))
        if is_folder(path):
            for found in walk(path, (), in_order=False):
                yield found.name if isinstance(found, Unreadable) else printable(found)
            return
        if not addresses and remote.is_remote(str(spec)) and remote.is_several(str(spec)):
            raise _Uncounted
    for source in find_images(spec):
        yield source.name
