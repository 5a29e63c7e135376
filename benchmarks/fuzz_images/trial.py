"""One case tried: the file is written, found and decoded as a query does it, and what came of it is named."""

from __future__ import annotations

import traceback
from pathlib import Path

import numpy as np

from benchmarks.fuzz_images.damage import Case
from kryptondb.errors import ImageError
from kryptondb.images import find_images

PICTURE, REFUSED = "picture", "ImageError"
_MOST_SOURCES = 8  # of a table


def attempt(case: Case, folder: Path) -> str:
    """PICTURE, REFUSED, or what went wrong in a few lines."""
    path = folder / f"case.{case.original.name}"
    path.write_bytes(case.data)
    spec = f"{path}#{case.fragment}" if case.fragment else str(path)
    outcome = REFUSED
    try:
        for number, source in enumerate(find_images(spec, case.window)):
            if number == _MOST_SOURCES:
                break
            try:
                pixels = source.load().pixels
            except ImageError as error:
                if not str(error):
                    return "an ImageError that says nothing"
                continue
            if not (np.isfinite(pixels).all() and pixels.min() >= 0 and pixels.max() <= 1):
                return f"levels from {pixels.min()} to {pixels.max()}"
            outcome = PICTURE
    except ImageError:
        return outcome
    except BaseException as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        return f"{type(error).__name__}: {error} ({Path(where.filename).name}, line {where.lineno})"
    finally:
        path.unlink(missing_ok=True)
    return outcome
