"""COPY to PNG: each heat map drawn over its picture.

A path that names a folder (it ends in '/' or is one) gets a file for each image and class, named after both:
`out/cat-281.png`. Any other path gets the one picture of a query that answers one. Each file appears whole or not at
all; when a query over many images is stopped, the pictures it had finished stay.

| option | default | meaning |
|---|---|---|
| `values` | 'drop' | or 'score': what is drawn, base minus occluded score or the occluded score |
| `opacity` | 0.6 | of the strongest colour, 0 to 1 |
| `scale` | by each map | (low, high): the values at the ends of the colour bar, to draw all maps alike |

What the schema's metadata says of the answer, the plan excepted, stands in the file's text chunks.
"""

from __future__ import annotations

import errno
import io
import os
import re
from collections.abc import Generator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
import pyarrow as pa

from kryptondb.atomic import atomic_file, writing
from kryptondb.errors import BindError, ExecutionError
from kryptondb.executor.copy_options import choice, number, pair, refuse_unknown
from kryptondb.executor.metadata import PREFIX
from kryptondb.executor.run import Execution
from kryptondb.images.part import split_fragment
from kryptondb.optimizer.physical import HeatMaps, Occlude, PhysicalPlan, Project, Sort

if TYPE_CHECKING:
    from PIL.PngImagePlugin import PngInfo

    from kryptondb.images import Picture
    from kryptondb.images.preprocess import Preprocess

#: The columns that a picture is made of, besides the heat map.
_NEEDED = ("image", "class", "label", "base")


def copy_pictures(execution: Execution, path: str, options: Mapping[str, object], *, folder: bool) -> tuple[int, int]:
    """Runs a query and draws its heat maps; returns how many files and how many bytes.

    Raises:
        BindError: the query has no heat map, or an option is unknown or has a value it does not take.
        ExecutionError: more than one heat map for one file, or none; or a file cannot be written.
    """
    style = _style(options)
    column = _heatmap_column(execution.schema)
    draw = _Draw(execution, style)
    execution.keep_sources()
    if not folder:
        return 1, _one(execution.plan, path, draw, _maps(execution, column))
    target = Path(path).expanduser()
    with writing(path):
        target.mkdir(parents=True, exist_ok=True)
        if not os.access(target, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    files = size = 0
    names = _Names()
    with closing(_maps(execution, column)) as maps:
        for heatmap in maps:
            size += draw.save(heatmap, target / names.of(heatmap))
            files += 1
    return files, size


def _one(plan: PhysicalPlan, path: str, draw: _Draw, maps: Generator[_Map, None, None]) -> int:
    """The picture of the only map; its bytes."""
    if _surely_many(plan):
        raise _too_many(path)
    with atomic_file(path) as stream, closing(maps):
        first = next(maps, None)
        if first is None:
            raise ExecutionError(f"nothing to draw into {path}: the query answers no heat map")
        if next(maps, None) is not None:
            raise _too_many(path)
        return draw.write(first, stream)


def _too_many(path: str) -> ExecutionError:
    return ExecutionError(
        f"the query answers more than one heat map, and {path} is one file",
        hint=f"Name a folder, which gets a file for each image and class: '{Path(path).with_suffix('')}/'.",
    )


def _surely_many(plan: PhysicalPlan) -> bool:
    """Whether the plan itself tells, before any work, that it answers several maps."""
    node = plan.root
    while isinstance(node, (Project, Sort)):
        node = node.input
    if not isinstance(node, HeatMaps) or plan.occlude is None:
        return False
    images = plan.occlude.input.count
    return (images or 0) > 1 or plan.occlude.classes.count(plan.occlude.class_count) > 1


@dataclass(frozen=True)
class _Map:
    """One row: a heat map of drops, float32 [rows, cols], and what it is of."""

    image: str
    index: int
    label: str | None
    base: float
    drops: np.ndarray


def _heatmap_column(schema: pa.Schema) -> str:
    """The name of the heat map's column."""
    column: str | None = next((field.name for field in schema if isinstance(field.type, pa.FixedShapeTensorType)), None)
    if column is None:
        raise BindError(
            "COPY to png draws heat maps, and this query has none", hint="SELECT HEATMAP FROM occlude(...)."
        )
    missing = [name for name in _NEEDED if name not in schema.names]
    if missing:
        raise BindError(
            f"COPY to png needs the column{'s' if len(missing) > 1 else ''} {', '.join(missing)} beside the heat map",
            hint="SELECT HEATMAP alone brings them.",
        )
    return column


def _maps(execution: Execution, column: str) -> Generator[_Map, None, None]:
    """The query's rows, one by one."""
    with closing(execution.batches()) as batches:
        for batch in batches:
            drops = batch.column(column).to_numpy_ndarray()
            rows = zip(*(batch.column(name).to_pylist() for name in _NEEDED), drops, strict=True)
            yield from (_Map(*row) for row in rows)


@dataclass(frozen=True)
class _Style:
    """How maps are drawn: `overlay`'s keyword arguments of these names."""

    values: str
    opacity: float
    scale: tuple[float, float] | None


def _style(options: Mapping[str, object]) -> _Style:
    refuse_unknown("png", options, ("values", "opacity", "scale"))
    return _Style(
        values=choice("values", options.get("values", "drop"), ("drop", "score")),
        opacity=number("opacity", options.get("opacity", 0.6), 0, 1),
        scale=pair("scale", options["scale"]) if "scale" in options else None,
    )


class _Draw:
    """Draws the maps of one query. Opens each picture again, once for all classes that follow each other."""

    def __init__(self, execution: Execution, style: _Style) -> None:
        self.execution = execution
        self.style = style
        occlude = execution.plan.occlude
        assert occlude is not None, "a plan with heat maps has an experiment"
        self.occlude: Occlude = occlude
        self._picture: Picture | None = None
        self._of: str | None = None
        self._preprocess: Preprocess | None = None

    def save(self, heatmap: _Map, path: Path) -> int:
        """Writes one file; its bytes."""
        with atomic_file(path) as stream:
            return self.write(heatmap, stream)

    def write(self, heatmap: _Map, stream: BinaryIO) -> int:
        """Draws one map and writes it as PNG; its bytes."""
        from kryptondb.images.render import overlay

        style = self.style
        figure = overlay(
            self._picture_of(heatmap.image),
            self._preprocessing(),
            heatmap.drops if style.values == "drop" else np.float32(heatmap.base) - heatmap.drops,
            patch=self.occlude.patch,
            stride=self.occlude.stride,
            title=self._title(heatmap),
            values=style.values,
            opacity=style.opacity,
            scale=style.scale,
        )
        encoded = io.BytesIO()
        figure.save(encoded, format="PNG", pnginfo=self._text())
        with writing(getattr(stream, "name", "the picture")):
            stream.write(encoded.getbuffer())
        return encoded.tell()

    def _picture_of(self, name: str) -> Picture:
        if self._picture is None or self._of != name:
            self._picture, self._of = self.execution.picture(name), name
        return self._picture

    def _preprocessing(self) -> Preprocess:
        if self._preprocess is None:
            self._preprocess = self.execution.models.get(self.occlude.model).preprocess
        return self._preprocess

    def _title(self, heatmap: _Map) -> str:
        """`Egyptian cat  0.771`, and below it the image and the model."""
        name = heatmap.label if heatmap.label is not None else f"class {heatmap.index}"
        score = "" if self.occlude.score == "probability" else f"{self.occlude.score.replace('_', ' ')} "
        return f"{name}  {score}{heatmap.base:.3f}\n{heatmap.image}   model {self.occlude.model}"

    def _text(self) -> PngInfo:
        """The answer's metadata as text chunks."""
        from PIL.PngImagePlugin import PngInfo

        info = PngInfo()
        for name, value in (self.execution.schema.metadata or {}).items():
            key = name.decode()
            if key.startswith(PREFIX) and key != PREFIX + "plan":
                info.add_itxt(key, value.decode())
        return info


class _Names:
    """File names from images and classes; a second image of the same name gets a number."""

    def __init__(self) -> None:
        self._given: set[str] = set()

    def of(self, heatmap: _Map) -> str:
        """`cat-281.png` for the class 281 of `pets/cat.jpg`, `ct-frame-3-281.png` for that of `ct.dcm#frame=3`."""
        path, part = split_fragment(heatmap.image)
        last = Path(re.split(r"[/\\]", path)[-1])
        stem: str = re.sub(r"[^\w.]+", "-", f"{last.stem}-{part}").strip("-.")[:100] or "image"
        name = f"{stem}-{heatmap.index}"
        again = 1
        while (name if again == 1 else f"{name}-{again}").casefold() in self._given:
            again += 1
        name = name if again == 1 else f"{name}-{again}"
        self._given.add(name.casefold())
        return name + ".png"
