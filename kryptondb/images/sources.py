"""What `occlude(model, images)` may name, to a lazy stream of pictures.

Paths, globs, folders, tables, samples, addresses, arrays, lists of these. Pictures are decoded when their turn comes: a
folder of a million pictures starts at once.
"""

from __future__ import annotations

import glob
import hashlib
import itertools
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from kryptondb.errors import ImageError, did_you_mean
from kryptondb.files.paths import expanded
from kryptondb.images import remote, table_files
from kryptondb.images.arrays import from_array, is_array, pictures_in
from kryptondb.images.content import WHOLE, BytesContent, FileContent, Part, split_fragment
from kryptondb.images.decode import SUFFIXES, decode
from kryptondb.images.folders import Found, Unreadable, exists, is_folder, is_picture, links_in, match_glob, walk
from kryptondb.images.levels import Window
from kryptondb.images.picture import Picture
from kryptondb.images.samples import PREFIX, sample_path
from kryptondb.text.plain_text import printable


@dataclass(frozen=True)
class ImageSource:
    """A picture that can be had: `load()` decodes it, and raises ImageError where it cannot be.

    Attributes:
        name: what it is called wherever it is shown. No other picture of a query has the same.
        file: the file of this machine that it is in; None for an array, and for what cannot be found.
        key: what tells it from another picture of its name: the same for one that is given twice.
    """

    name: str
    load: Callable[[], Picture]
    file: Path | None = None
    key: str = ""


def find_images(spec: object, window: Window | None = None, axes: str | None = None) -> Iterator[ImageSource]:
    """The pictures that `spec` means, in order, none decoded yet.

    Args:
        spec: a path; a glob (`*`, `?`, `[...]`, `**` for any depth); a folder (all depths, hidden files and files that
            are not pictures left out); a Parquet or Arrow file with pictures or paths in a column
            ('scans.parquet#column=image'); 'sample:NAME'; an address such as 'https://...' or 's3://...'; an array or
            a PIL image; a batch of arrays (see `foreign_arrays`); a list of these. Behind a `#` paths, folders and
            globs may name a part of each file: 'study.dcm#frame=3' (see `part`).
        window: (center, width), in each file's own units, that gray pictures are seen through.
        axes: 'HWC' or 'CHW', of arrays.

    Raises:
        ImageError: at once, for one path that does not exist, a glob or folder without a match, an unknown sample, an
            empty list, or a value of another type. What is wrong with one entry of a list, or with a folder further
            down, is raised by that entry's `load`, so that it does not stop the others.
    """
    if isinstance(spec, (list, tuple)):
        if not spec:
            raise ImageError("the list of images is empty")
        return _named_apart(_from_list(spec, window, axes))
    return _named_apart(_find_one(spec, "image", window, axes), several=_is_several(spec))


def _named_apart(sources: Iterator[ImageSource], *, several: bool = True) -> Iterator[ImageSource]:
    r"""The same sources; one that has the name of another picture before it gets a number: `cat (2)`.

    That befalls `sample:cat` beside a file `cat`, images of PIL that were opened from one file and changed, addresses
    that differ in what is not shown, and names with bytes that are not UTF-8 beside others that are spelled so.

    Args:
        several: whether all names have to be remembered. In a folder only those with a backslash can be equal.
    """
    keys: dict[str, str] = {}
    for source in sources:
        if not several and "\\" not in source.name:
            yield source
            continue
        name, number = source.name, 1
        while keys.setdefault(name, source.key) != source.key:
            number += 1
            name = f"{source.name} ({number})"
        yield source if number == 1 else replace(source, name=name)


def _is_several(spec: object) -> bool:
    """Whether pictures in `spec` are named by others than the system: a table of paths, or a folder elsewhere."""
    if not isinstance(spec, (str, Path)):
        return False
    return remote.is_remote(str(spec)) or table_files.is_table(*_split(str(spec)))


def is_single(spec: object) -> bool:
    """Whether `spec` names exactly one picture: a path that is no folder, glob or table, a sample, an array."""
    if isinstance(spec, (list, tuple)):
        return len(spec) == 1 and is_single(spec[0])
    if is_array(spec):
        return pictures_in(spec) is None
    if not isinstance(spec, (str, Path)) or str(spec).startswith(PREFIX):
        return True
    text = str(spec)
    if remote.is_remote(text):
        return not remote.is_several(text)
    path, fragment = _split(text)
    if table_files.is_table(path, fragment):
        return table_files.names_one_row(fragment)
    return not is_folder(path) and (exists(path) or not glob.has_magic(str(path)))


def reads(spec: object, file: Path) -> bool:
    """Whether a file that is there is one of those that `find_images(spec)` reads: a picture, or a table of them.

    What lies at an address is not looked for, and what cannot be found is not this file.
    """
    identity = _identity(file)
    return any(_identity(found) == identity for found in _files(spec, file))


def identities(spec: object) -> frozenset[tuple[int, int]]:
    """Device and inode of every file of this machine that `find_images(spec)` reads."""
    return frozenset(identity for file in _files(spec, None) if (identity := _identity(file)) is not None)


def _identity(file: Path) -> tuple[int, int] | None:
    """Device and inode of a file; None where it cannot be looked at."""
    try:
        status = file.stat()
    except (OSError, ValueError):
        return None
    return status.st_dev, status.st_ino


def _files(spec: object, wanted: Path | None) -> Iterator[Path]:
    """The files of this machine that `spec` means: all, or as far as they may be the one that is wanted."""
    if isinstance(spec, (list, tuple)):
        for entry in spec:
            yield from _files(entry, wanted)
        return
    if isinstance(spec, (Image.Image, np.memmap)):
        if filename := getattr(spec, "filename", None):
            yield Path(filename)
        return
    if not isinstance(spec, (str, Path)) or remote.is_remote(str(spec)):
        return
    path, fragment = _split(str(spec))
    if wanted is not None and is_folder(path) and not is_picture(Path(os.path.realpath(wanted))):
        # A folder of a million pictures is not walked through for a file that is none; a link in it may lead there.
        yield from (found for found in links_in(path) if is_picture(found))
        if wanted.stat().st_nlink == 1:
            return
    if table_files.is_table(path, fragment):
        yield path
    try:
        for source in _find_path(str(spec), None):
            if source.file is not None:
                yield from (source.file, *_other_halves(source.file))
    except ImageError:  # the query will say so
        return


def _other_halves(file: Path) -> Iterator[Path]:
    """What may be read along with a file: the pixels beside an Analyze or NIfTI header, or the header beside them."""
    plain = Path(file.name.removesuffix(".gz"))
    if other := {".hdr": ".img", ".img": ".hdr"}.get(plain.suffix.casefold()):
        yield from (
            file.with_name(f"{plain.stem}{cased}{gz}") for cased in (other, other.upper()) for gz in ("", ".gz")
        )


def _split(text: str) -> tuple[Path, str]:
    """The path, and the fragment behind its `#`: none where a file has the whole text for its name."""
    whole = expanded(text)
    if exists(whole):
        return whole, ""
    path, fragment = split_fragment(text)
    return expanded(path), fragment


def _find_one(spec: object, name: str, window: Window | None, axes: str | None) -> Iterator[ImageSource]:
    """`find_images` for anything but a list; `name` is what an array is called, each of a batch with its number."""
    if isinstance(spec, (str, Path)):
        return _find_path(str(spec), window)
    if isinstance(spec, Image.Image):
        name = printable(_filename(spec)) or name
        return iter([ImageSource(name, lambda: from_array(spec, name, window), key=f"object {id(spec)}")])
    if is_array(spec):
        batch = pictures_in(spec)
        if batch is not None:
            return _from_list(batch, window, axes, name)
        return iter([ImageSource(name, lambda: from_array(spec, name, window, axes), key=f"object {id(spec)}")])
    raise ImageError(
        f"images cannot be a value of type {type(spec).__name__}",
        hint="Give a path, a glob, a folder, 'sample:NAME', an array, a PIL image, or a list of these.",
    )


def _filename(image: Image.Image) -> str:
    """The file that a PIL image was opened from, '' where there is none."""
    filename = getattr(image, "filename", "")
    return os.fsdecode(filename) if isinstance(filename, (str, bytes)) else ""


def _from_list(
    specs: Sequence[object], window: Window | None, axes: str | None, of: str = "image"
) -> Iterator[ImageSource]:
    if not specs:
        raise ImageError("the batch of images is empty")
    for index, spec in enumerate(specs):
        name = f"{of}[{index}]"
        try:
            yield from _find_one(spec, name, window, axes)
        except ImageError as error:
            yield _failing(str(spec) if isinstance(spec, (str, Path)) else name, error)


def _failing(text: str, error: ImageError) -> ImageSource:
    """A source in the place of one that could not be found."""

    def load() -> Picture:
        raise error

    return ImageSource(printable(text), load, key=text)


def _file(path: Path, part: Part, window: Window | None) -> ImageSource:
    key = f"{path}#{part}" if part.given() else str(path)
    return ImageSource(printable(key), lambda: decode(path, part, window), path, key)


def _found(found: Found, part: Part, window: Window | None) -> ImageSource:
    return _failing(found.name, found.error) if isinstance(found, Unreadable) else _file(found, part, window)


def _find_path(text: str, window: Window | None) -> Iterator[ImageSource]:
    shown = printable(text)
    if not text:
        raise ImageError("the path of the images is empty")
    if text.startswith(PREFIX):
        return iter([_sample(text, window)])
    if remote.is_remote(text):
        return _find_address(text, window)
    path, fragment = _split(text)
    if table_files.is_table(path, fragment):
        return _find_in_table(path, fragment, window)
    part = Part.parse(fragment, shown) if fragment else WHOLE
    if is_folder(path):
        suffixes = ", ".join(sorted(SUFFIXES))
        found = (_found(file, part, window) for file in walk(path, ()))
        return _not_empty(found, f"{shown}: no pictures in this folder", f"It may hold {suffixes} files.")
    if exists(path):
        return iter([_file(path, part, window)])
    if glob.has_magic(text):
        found = (_found(file, part, window) for file in match_glob(path))
        return _not_empty(found, f"{shown}: no file matches", None)
    raise ImageError(f"{shown}: no such file", hint=_nearest(path))


def _sample(text: str, window: Window | None) -> ImageSource:
    path, fragment = split_fragment(text)
    name = text.removeprefix(PREFIX).strip().lower()
    part = Part.parse(fragment, name) if fragment else WHOLE
    sample = sample_path(path)
    content = FileContent(sample, path)
    return ImageSource(name, lambda: replace(decode(content, part, window), name=name), sample, f"sample {name}")


def _find_address(text: str, window: Window | None) -> Iterator[ImageSource]:
    """What lies at an address, fetched when its turn comes."""
    address, fragment = split_fragment(text)
    shown = remote.shown(text)
    part = Part.parse(fragment, shown) if fragment else WHOLE

    def source(each: str) -> ImageSource:
        name = remote.shown(each)
        named = f"{name}#{part}" if part.given() else name
        return ImageSource(named, lambda: decode(remote.fetch(each), part, window), key=f"{each}#{part}")

    if not remote.is_several(address):
        return iter([source(address)])
    return _not_empty(map(source, remote.find(address, SUFFIXES)), f"{shown}: no file matches", None)


def _find_in_table(path: Path, fragment: str, window: Window | None) -> Iterator[ImageSource]:
    """One source a row. A picture stands in the row itself, or somewhere that the row names."""
    table = table_files.ImageTable(path, fragment)

    def source(cell: table_files.Cell) -> ImageSource:
        if isinstance(cell, Unreadable):
            return _failing(cell.name, cell.error)
        if isinstance(cell, table_files.Row):
            name = cell.name
            key = f"{path}#row={cell.index}"
            return ImageSource(name, lambda: decode(BytesContent(table.picture(cell), name), WHOLE, window), key=key)
        try:
            return _named(cell, window)
        except ImageError as error:
            return _failing(cell, error)

    return _not_empty(map(source, table.cells()), f"{printable(path)}: a table without a row", None)


def _named(text: str, window: Window | None) -> ImageSource:
    """The one picture of a path or an address, neither looked at yet."""
    if remote.is_remote(text):
        return next(_find_address(text, window))
    path, fragment = (Path(text), "") if exists(Path(text)) else _split(text)
    return _file(path, Part.parse(fragment, printable(text)) if fragment else WHOLE, window)


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


def sampling_order(sources: Iterable[ImageSource]) -> list[ImageSource]:
    """The images in an order that has nothing to do with what is on them, always the same for the same names."""
    return sorted(sources, key=lambda source: hashlib.sha256(source.name.encode()).digest())
