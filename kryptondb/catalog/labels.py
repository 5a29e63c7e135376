"""Class labels: from a file, a list, ImageNet's names, or 'class 0', 'class 1', ... where nothing is known."""

from __future__ import annotations

from kryptondb.errors import ModelError
from kryptondb.files.regular import read_regular
from kryptondb.options.words import MAX_CLASSES

MAX_LABEL_BYTES = 8 << 20  # of a labels file: 100,000 labels of 80 letters


def imagenet_labels() -> tuple[str, ...]:
    """ImageNet's 1,000 class names, in the order that every torchvision classifier uses."""
    from kryptondb.images.torchvision_guard import declare_missing_operators

    declare_missing_operators()  # before torchvision, everywhere
    from torchvision.models._meta import _IMAGENET_CATEGORIES

    return tuple(_IMAGENET_CATEGORIES)


def read_labels(path: str) -> tuple[str, ...]:
    """One label a line, UTF-8; spaces around a label and empty lines at the end are dropped.

    Raises ModelError when the file is not there, too large, not text, or has an empty line between labels.
    """
    try:
        data = read_regular(path, MAX_LABEL_BYTES, empty=True)
    except OSError as error:
        raise ModelError(
            f"the labels file {path} cannot be read: {error.strerror or error}",
            hint="Give a text file with one label a line.",
        ) from error
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ModelError(f"the labels file {path} is not UTF-8 text", hint="Give one label a line.") from None
    lines = [line.strip() for line in text.rstrip().splitlines()]
    if not lines or "\0" in text:
        raise ModelError(f"the labels file {path} holds no labels", hint="Give one label a line.")
    if "" in lines:
        raise ModelError(
            f"the labels file {path} has an empty line {lines.index('') + 1}", hint="Give one label a line."
        )
    if len(lines) > MAX_CLASSES:
        raise ModelError(f"the labels file {path} has {len(lines):,} labels, more than {MAX_CLASSES:,}")
    return tuple(lines)


def resolve_labels(
    labels: str | tuple[str, ...] | None, classes: int, known: tuple[str, ...] | None
) -> tuple[str, ...]:
    """The labels of a model with `classes` classes.

    Args:
        labels: what the user gave: a path, the labels, or None.
        classes: how many scores the model gives.
        known: what the source knows itself (ImageNet's names), used when the count fits.

    Raises ModelError when the user's labels are not as many as the classes.
    """
    if labels is not None:
        found = read_labels(labels) if isinstance(labels, str) else labels
        if len(found) != classes:
            where = f"the labels file {labels} has" if isinstance(labels, str) else "labels => has"
            raise ModelError(
                f"{where} {len(found):,} labels, but the model has {classes:,} classes", hint="Give one label a class."
            )
        return found
    if known is not None and len(known) == classes:
        return known
    return tuple(f"class {index}" for index in range(classes))
