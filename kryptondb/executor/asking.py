"""Opening a picture and asking the network about it: what goes wrong becomes an error that names the picture."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from kryptondb.errors import ExecutionError, ImageError

if TYPE_CHECKING:
    from kryptondb.images import Picture
    from kryptondb.images.sources import ImageSource


def load_picture(source: ImageSource) -> Picture:
    """Opens a picture. Raises ImageError where it cannot be read."""
    try:
        return source.load()
    except OSError as error:
        raise ImageError(f"cannot read {source.name}: {error.strerror or error}") from error


@contextmanager
def asking(image: str) -> Iterator[None]:
    """Turns what the network's own code raises (no memory left, most of all) into an error that names the picture."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ExecutionError(f"{image}: the network failed: {first[:300]}") from error
