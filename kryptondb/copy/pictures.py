"""COPY to PNG or DICOM: each heat map drawn over its picture, one file per map.

A path that names a folder (it ends in '/' or is one) gets a file for each image and class, named after both:
`out/cat-281.png`. Any other path gets the one picture of a query with one map. Each file appears whole or not at
all; when a query over many images is stopped, the pictures it had finished stay. In a folder, whose files nobody named
one by one, only pictures that COPY made are overwritten.

A PNG has what the schema's metadata says of the answer, the plan excepted, in its text chunks. A DICOM file is a
secondary capture in the study of the picture that it is of (see `kryptondb.images.secondary_capture`): one series for
each source, its classes numbered in it.
"""

from __future__ import annotations

import io
import os
from collections.abc import Generator, Mapping
from contextlib import closing
from pathlib import Path

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from kryptondb.copy.drawing import Drawing, Map, Names, surely_many
from kryptondb.errors import ExecutionError, ImageError
from kryptondb.executor.metadata import PREFIX
from kryptondb.executor.occlusion import named_images
from kryptondb.executor.run import Execution
from kryptondb.files.atomic import atomic_file, held_folder
from kryptondb.images.secondary_capture import Origin, is_ours, new_series, origin_of, secondary_capture
from kryptondb.images.sources import identities


def copy_pictures(
    execution: Execution, path: str, kind: str, options: Mapping[str, object], *, folder: bool
) -> tuple[int, int]:
    """Runs a query and draws its heat maps; returns how many files and how many bytes.

    Args:
        kind: 'png' or 'dicom'.

    Raises:
        BindError: the query has no heat map, or an option is unknown or has a value it does not take.
        ExecutionError: more than one heat map for one file, or none; a file cannot be written; another query writes
            into the folder, or it was removed or replaced meanwhile.
        ImageError: the picture cannot be read any more, or is no DICOM file where one is needed, and it was the only
            one or `on_error` is 'stop'.
    """
    drawing = Drawing(execution, kind, options)
    encode = _Png(drawing) if kind == "png" else SecondaryCaptures(drawing)
    if not folder:
        return 1, _one(execution, path, encode, drawing.maps())
    written: dict[str, int] = {}
    names = Names(encode.suffix)
    others = _Others(execution, encode)
    with held_folder(path) as target, closing(drawing.maps()) as maps:
        for heatmap in maps:
            try:
                encoded = encode(heatmap)
            except ImageError as error:
                drawing.execution.run.skip_later(heatmap.image, error)
                continue
            name = names.of(heatmap)
            target.check()
            others.refuse(target.path / name)
            with target.file(name) as stream:
                stream.write(encoded)
            written[name] = len(encoded)
        target.check()
        if any(target.size(name) != size for name, size in written.items()):
            raise target.replaced()
    return len(written), sum(written.values())


def _one(execution: Execution, path: str, encode: _Png | SecondaryCaptures, maps: Generator[Map, None, None]) -> int:
    """The picture of the only map; its bytes."""
    if surely_many(execution.plan):
        raise _too_many(path)
    with atomic_file(path) as stream, closing(maps):
        first = next(maps, None)
        if first is None:
            raise ExecutionError(f"nothing to draw into {path}: the query returns no heat map")
        if next(maps, None) is not None:
            raise _too_many(path)
        return stream.write(encode(first))


class _Others:
    """What lies in a folder of pictures already and is left alone: what COPY has not made, and what the query reads."""

    def __init__(self, execution: Execution, encode: _Png | SecondaryCaptures) -> None:
        self._execution, self._encode = execution, encode
        self._read: frozenset[tuple[int, int]] | None = None

    def refuse(self, file: Path) -> None:
        """Raises ExecutionError for such a file."""
        if not os.path.lexists(file):
            return
        if not (file.is_file() and self._encode.made(file)):
            raise ExecutionError(
                f"cannot write {file}: it already exists, and COPY did not write it",
                hint="Name another folder, or move that file away.",
            )
        if self._read is None:
            occlude = self._execution.plan.occlude
            assert occlude is not None, "a plan with heat maps has an experiment"
            self._read = identities(named_images(occlude.experiment.images, self._execution.run.bindings))
        status = file.stat()
        if (status.st_dev, status.st_ino) in self._read:
            raise ExecutionError(
                f"cannot write {file}: the query reads its pictures from it", hint="Name another folder."
            )


def _too_many(path: str) -> ExecutionError:
    return ExecutionError(
        f"the query returns more than one heat map, and {path} is one file",
        hint=f"Name a folder, which gets one file per image and class: '{Path(path).with_suffix('')}/'.",
    )


class _Png:
    """A figure as PNG, with the answer's metadata in its text chunks."""

    suffix = ".png"

    def __init__(self, drawing: Drawing) -> None:
        self._drawing = drawing

    def __call__(self, heatmap: Map) -> bytes:
        """The file's bytes."""
        drawing = self._drawing
        near = "   approximate" if drawing.quality(heatmap.image) == "approximate" else ""
        title = f"{drawing.score_text(heatmap)}\n{heatmap.image}   model {drawing.occlude.experiment.model}{near}"
        encoded = io.BytesIO()
        drawing.figure(heatmap, title).save(encoded, format="PNG", pnginfo=self._text(heatmap.image))
        return encoded.getvalue()

    def made(self, file: Path) -> bool:
        """Whether a file is a PNG with the metadata of an answer."""
        try:
            with Image.open(file) as picture:
                return picture.format == "PNG" and any(str(key).startswith(PREFIX) for key in picture.info)
        except Exception:  # no picture, or a damaged one, of which Pillow raises anything
            return False

    def _text(self, image: str) -> PngInfo:
        info = PngInfo()
        execution = self._drawing.execution
        told = {name.decode(): value.decode() for name, value in (execution.schema.metadata or {}).items()}
        told[PREFIX + "quality"] = self._drawing.quality(image)
        for key, value in told.items():
            if key.startswith(PREFIX) and key not in (PREFIX + "plan", PREFIX + "tuning"):
                info.add_itxt(key, value)
        return info


class SecondaryCaptures:
    """Makes the bytes of a DICOM file from a map.

    Nothing in the figure names the patient or the file, which often does: the title is the class, its score and the
    model.
    """

    suffix = ".dcm"

    def __init__(self, drawing: Drawing) -> None:
        self._drawing = drawing
        self._image: str | None = None
        self._origin: Origin | None = None
        self._series = ""
        self._number = 0

    def __call__(self, heatmap: Map) -> bytes:
        """The file of one map.

        Raises:
            ImageError: its picture is no DICOM file, or cannot be read any more.
            ExecutionError: pydicom is not installed.
        """
        if self._origin is None or self._image != heatmap.image:
            self._origin = origin_of(heatmap.image, self._drawing.file(heatmap.image))
            self._image = heatmap.image
            self._series, self._number = new_series(), 0
        self._number += 1
        drawing = self._drawing
        title = f"{drawing.score_text(heatmap)}\nmodel {drawing.occlude.experiment.model}"
        return secondary_capture(
            drawing.figure(heatmap, title),
            self._origin,
            series=self._series,
            number=self._number,
            description=f"Occlusion heat map, {drawing.occlude.experiment.model}",
            comment=self._comment(heatmap),
        )

    def made(self, file: Path) -> bool:
        """Whether a file is a capture that was made here."""
        return is_ours(file)

    def _comment(self, heatmap: Map) -> str:
        """How the map was made, in words."""
        asked = self._drawing.occlude.experiment
        quality = self._drawing.quality(heatmap.image)
        return (
            f"Occlusion heat map of class {heatmap.index} ({heatmap.name}), {asked.score} {heatmap.base:.4f}; "
            f"shown: {self._drawing.look.values}; model {asked.model} ({asked.fingerprint}); "
            f"patch {asked.patch[0]} x {asked.patch[1]}, stride {asked.stride[0]} x {asked.stride[1]}, "
            f"fill {asked.fill}; {quality}"
        )
