"""What `occlude(model, images)` may name, to a lazy stream of pictures: paths, globs, folders, samples, arrays, lists.

Folders are walked one directory at a time, each in name order, and files are decoded when their turn comes: a folder of
a million pictures starts at once.
"""

from __future__ import annotations

import fnmatch
import glob
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from kryptondb.errors import ImageError, did_you_mean
from kryptondb.images.arrays import from_array
from kryptondb.images.decode import SUFFIXES, decode
from kryptondb.images.picture import Picture, printable
from kryptondb.images.samples import PREFIX, sample_path


@dataclass(frozen=True)
class ImageSource:
    """A picture that can be had: `load()` decodes it, and raises ImageError where it cannot be.

    `file` is the file of this machine that it is in; None for an array, and for what cannot be found.
    """

    name: str
    load: Callable[[], Picture]
    file: Path | None = None


def find_images(spec: object) -> Iterator[ImageSource]:
    """The pictures that `spec` means, in order, none decoded yet.

    Args:
        spec: a path; a glob (`*`, `?`, `[...]`, `**` for any depth); a folder (all depths, hidden files and files that
            are not pictures by their suffix left out); 'sample:NAME'; a numpy array or PIL image; a list of these.

    Raises:
        ImageError: at once, for one path that does not exist, a glob or folder without a match, an unknown sample, an
            empty list, or a value of another type. What is wrong with one entry of a list, or with a folder further
            down, is raised by that entry's `load`, so that it does not stop the others.
    """
    if isinstance(spec, (list, tuple)):
        if not spec:
            raise ImageError("the list of images is empty")
        return _from_list(spec)
    return _find_one(spec, "image")


def is_single(spec: object) -> bool:
    """Whether `spec` names exactly one picture: a path that is no folder and no glob, a sample, an array."""
    if isinstance(spec, (list, tuple)):
        return len(spec) == 1 and is_single(spec[0])
    if isinstance(spec, str) and spec.startswith(PREFIX):
        return True
    if isinstance(spec, (str, Path)):
        path = _expanded(str(spec))
        return not _is_folder(path) and (_exists(path) or not glob.has_magic(str(path)))
    return True


def _find_one(spec: object, name: str) -> Iterator[ImageSource]:
    """`find_images` for anything but a list; `name` is what an array is called."""
    if isinstance(spec, (str, Path)):
        return _find_path(str(spec))
    if isinstance(spec, Image.Image):
        filename = getattr(spec, "filename", "")
        name = filename if isinstance(filename, str) and filename else name
        return iter([ImageSource(name, lambda: from_array(spec, name))])
    if isinstance(spec, np.ndarray):
        return iter([ImageSource(name, lambda: from_array(spec, name))])
    raise ImageError(
        f"images cannot be a value of type {type(spec).__name__}",
        hint="Give a path, a glob, a folder, 'sample:NAME', a numpy array, a PIL image, or a list of these.",
    )


def _from_list(specs: list[object] | tuple[object, ...]) -> Iterator[ImageSource]:
    for index, spec in enumerate(specs):
        name = f"image[{index}]"
        try:
            yield from _find_one(spec, name)
        except ImageError as error:
            yield _failing(printable(spec) if isinstance(spec, (str, Path)) else name, error)


def _failing(name: str, error: ImageError) -> ImageSource:
    """A source in the place of one that could not be found."""

    def load() -> Picture:
        raise error

    return ImageSource(name, load)


def _file(path: Path) -> ImageSource:
    return ImageSource(printable(path), lambda: decode(path), path)


def _find_path(text: str) -> Iterator[ImageSource]:
    shown = printable(text)
    if text.startswith(PREFIX):
        sample = sample_path(text)
        name = text.removeprefix(PREFIX).strip().lower()
        return iter([ImageSource(name, lambda: replace(decode(sample), name=name), sample)])
    if not text:
        raise ImageError("the path of the images is empty")
    path = _expanded(text)
    if _is_folder(path):
        suffixes = ", ".join(sorted(SUFFIXES))
        return _not_empty(_walk(path, ()), f"{shown}: no pictures in this folder", f"It may hold {suffixes} files.")
    if _exists(path):
        return iter([_file(path)])
    if glob.has_magic(text):
        return _not_empty(_glob(path), f"{shown}: no file matches", None)
    raise ImageError(f"{shown}: no such file", hint=_nearest(path))


def _not_empty(sources: Iterator[ImageSource], message: str, hint: str | None) -> Iterator[ImageSource]:
    """The same sources, or ImageError at once when there is none: reads only the first."""
    first = next(sources, None)
    if first is None:
        raise ImageError(message, hint=hint)
    return itertools.chain([first], sources)


def _nearest(path: Path) -> str | None:
    """`Did you mean ...?` with the names in the folder where the file should be."""
    try:
        names = [entry.name for entry in itertools.islice(path.parent.iterdir(), 1000)]
    except (OSError, ValueError):
        return None
    return did_you_mean(path.name, names)


def _expanded(text: str) -> Path:
    try:
        return Path(text).expanduser()
    except RuntimeError:  # `~somebody` without a home is a name like any other
        return Path(text)


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except (OSError, ValueError):
        return False


def _exists(path: Path) -> bool:
    """Whether something is there. A file that may not be looked at is there: decoding it will say why it fails."""
    try:
        return path.exists()
    except PermissionError:
        return True
    except (OSError, ValueError):
        return False


def _is_picture(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES


Ancestors = tuple[tuple[int, int], ...]  # (device, inode) of the folders above: a link to one of them is a loop


@dataclass(frozen=True)
class _Entry:
    """Something in a folder, with the folders above it."""

    path: Path
    is_folder: bool
    above: Ancestors

    @property
    def hidden(self) -> bool:
        return self.path.name.startswith(".")


def _identity(folder: Path) -> tuple[int, int]:
    status = folder.stat()
    return status.st_dev, status.st_ino


def _entries(folder: Path, above: Ancestors) -> Iterator[_Entry | ImageSource]:
    """What one directory holds, in name order; one failing source for a folder that cannot be read."""
    try:
        identity = _identity(folder)
        if identity in above:
            return
        paths = sorted(folder.iterdir(), key=lambda path: path.name)
    except OSError as error:
        shown = printable(folder)
        yield _failing(shown, ImageError(f"{shown}: {(error.strerror or str(error)).lower()}"))
        return
    for path in paths:
        yield _Entry(path, _is_folder(path), (*above, identity))


def _walk(folder: Path, above: Ancestors) -> Iterator[ImageSource]:
    """Every picture under `folder`, at all depths, files and folders in one name order."""
    for entry in _entries(folder, above):
        if isinstance(entry, ImageSource):
            yield entry
        elif entry.hidden:
            continue
        elif entry.is_folder:
            yield from _walk(entry.path, entry.above)
        elif _is_picture(entry.path):
            yield _file(entry.path)


def _glob(pattern: Path) -> Iterator[ImageSource]:
    """The files that match, in name order by directory. A pattern without a suffix of its own means pictures only."""
    parts = pattern.parts[1:] if pattern.anchor else pattern.parts
    suffix = pattern.suffix
    only_pictures = not suffix or glob.has_magic(suffix)
    seen: set[Path] | None = set() if parts.count("**") > 1 else None  # only two `**` can reach a file in two ways
    for found in _match(Path(pattern.anchor), parts, ()):
        if isinstance(found, ImageSource):
            yield found
        elif only_pictures and not _is_picture(found):
            continue
        elif seen is None or found not in seen:
            if seen is not None:
                seen.add(found)
            yield _file(found)


def _match(folder: Path, parts: tuple[str, ...], above: Ancestors) -> Iterator[Path | ImageSource]:
    """Files under `folder` whose path matches `parts`; as in a shell, `*` does not match a leading dot."""
    part, rest = parts[0], parts[1:]
    if part == "**":
        while rest and rest[0] == "**":
            rest = rest[1:]
        yield from _match_here_and_below(folder, rest or ("*",), above)
        return
    if not glob.has_magic(part):
        path = folder / part
        if rest and _is_folder(path):
            yield from _match(path, rest, ())
        elif not rest and path.is_file():
            yield path
        return
    for entry in _entries(folder, above):
        if isinstance(entry, ImageSource):
            yield entry
        elif (entry.hidden and not part.startswith(".")) or not fnmatch.fnmatchcase(entry.path.name, part):
            continue
        elif rest and entry.is_folder:
            yield from _match(entry.path, rest, ())
        elif not rest and not entry.is_folder:
            yield entry.path


def _match_here_and_below(folder: Path, rest: tuple[str, ...], above: Ancestors) -> Iterator[Path | ImageSource]:
    """`**/rest`: rest in this folder, then in each folder below it."""
    try:
        if above and _identity(folder) in above:
            return
    except OSError:
        pass  # reading it says why
    yield from _match(folder, rest, ())
    for entry in _entries(folder, above):
        if isinstance(entry, ImageSource):
            if not glob.has_magic(rest[0]):  # otherwise _match has read the folder, and reported it
                yield entry
        elif entry.is_folder and not entry.hidden:
            yield from _match_here_and_below(entry.path, rest, entry.above)
