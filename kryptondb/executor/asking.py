"""Opening a picture and asking the network about it: what goes wrong becomes an error that names the picture."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from kryptondb.errors import Error, ExecutionError, ImageError, one_line

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
    """Turns what the network's own code raises (whatever a module's forward may) into an error that names the picture.

    Errors of ours that name no picture pass: they are about the query.
    """
    try:
        yield
    except Error:
        raise
    except Exception as error:
        raise ExecutionError(f"{image}: the network failed: {one_line(error)}") from error
