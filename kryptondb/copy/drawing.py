"""A query's heat maps, row by row, and drawn over their pictures, for every kind of file that shows them."""

from __future__ import annotations

import re
from collections.abc import Generator, Mapping
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from kryptondb.errors import BindError, ExecutionError
from kryptondb.executor.pictures import Looks
from kryptondb.executor.run import Execution
from kryptondb.executor.run_state import AnsweredImage
from kryptondb.files.paths import cut_name
from kryptondb.images import render
from kryptondb.images.colors import color_map
from kryptondb.images.content import split_fragment
from kryptondb.images.picture import Picture
from kryptondb.images.render import Level, Look
from kryptondb.optimizer.nodes import HeatMaps, Project, Sort
from kryptondb.optimizer.physical import Occlude, PhysicalPlan
from kryptondb.options.reader import read
from kryptondb.options.tables import COPY, FORMAT

if TYPE_CHECKING:
    from PIL import Image

    from kryptondb.images.preprocess import Preprocess

_LONGEST = 200  # bytes of a file's name that are a picture's: beside them stand the class, a number and the ending

#: The columns that a picture is made of, besides the heat map.
_NEEDED = ("image", "class", "label", "base")


@dataclass(frozen=True)
class Map:
    """One row: a heat map of drops, float32 [rows, cols], and what it is of."""

    image: str
    index: int
    label: str | None
    base: float
    drops: np.ndarray

    @property
    def name(self) -> str:
        """The label, or the class by its number."""
        return self.label if self.label is not None else f"class {self.index}"


class Drawing:
    """The maps of one query, and the pictures they are of: each is opened again, once for all classes in a row.

    Create it before the first batch: the run then remembers the source of each picture, what it was and its prediction.

    Attributes:
        look: how maps are drawn.
        column: the name of the heat map's column.
        occlude: the plan's experiment.
    """

    def __init__(self, execution: Execution, kind: str, options: Mapping[str, object]) -> None:
        """
        Args:
            execution: a run that nobody has read from.
            kind: the format of the file; options: those of COPY.

        Raises:
            BindError: an option that the kind does not have, or a value that it does not take; the rows have no heat
                map, or not the columns that a file of this kind needs beside it.
        """
        self.execution = execution
        self.look = _look_of(kind, options)
        self.column = _heatmap_column(execution.schema, kind)
        occlude = execution.plan.occlude
        assert occlude is not None, "a plan with heat maps has an experiment"
        self.occlude: Occlude = occlude
        self._run = execution.run
        self._run.answered, self._run.looks = {}, Looks()
        self._picture: Picture | None = None
        self._of: str | None = None

    def maps(self) -> Generator[Map, None, None]:
        """The query's rows, one by one."""
        with closing(self.execution.batches()) as batches:
            for batch in batches:
                drops = batch.column(self.column).to_numpy_ndarray()
                rows = zip(*(batch.column(name).to_pylist() for name in _NEEDED), drops, strict=True)
                yield from (Map(*row) for row in rows)

    def figure(self, heatmap: Map, title: str) -> Image.Image:
        """The figure of one map.

        Raises:
            ImageError: its picture cannot be read any more.
        """
        return render.overlay(
            self.picture(heatmap.image),
            self.preprocess,
            self.values(heatmap),
            patch=self.occlude.experiment.patch,
            stride=self.occlude.experiment.stride,
            title=title,
            look=self.look,
        )

    def values(self, heatmap: Map) -> np.ndarray:
        """What is drawn of a map, float32 [rows, cols]: its drops, or the scores under the patch."""
        return heatmap.drops if self.look.values == "drop" else np.float32(heatmap.base) - heatmap.drops

    def picture(self, name: str) -> Picture:
        """A picture of the query, opened again, by the name it has in the `image` column.

        Raises:
            ImageError: it cannot be read any more, or is another picture.
        """
        if self._picture is None or self._of != name:
            self._picture = None  # before another comes: pictures may be large
            self._picture, self._of = self._looks.load_again(self._answered(name).source), name
        return self._picture

    def file(self, name: str) -> Path | None:
        """The file that a picture is in; None for an array. Raises ImageError where it was written to meanwhile."""
        return self._looks.file(self._answered(name).source)

    def prediction(self, name: str) -> list[tuple[int, str | None, float]]:
        """A picture's most probable classes, as PREDICTION lists them: class, label, probability."""
        return self._answered(name).likeliest

    def quality(self, name: str) -> str:
        """Whether the answer about a picture is 'exact' or 'approximate'."""
        if self._run.unsteady is not None:
            return "approximate"
        outcome = self._run.outcome
        return self.execution.plan.quality.kind if outcome is None else outcome.of(name)

    @cached_property
    def preprocess(self) -> Preprocess:
        """How the query's model reads a picture."""
        return self._run.models.get(self.occlude.experiment.model).preprocess

    def score_text(self, heatmap: Map) -> str:
        """`Egyptian cat  0.771`: a map's class, and what the network gives it with nothing covered."""
        name = self.occlude.experiment.score
        score = "" if name == "probability" else f"{name.replace('_', ' ')} "
        return f"{heatmap.name}  {score}{heatmap.base:.3f}"

    @property
    def _looks(self) -> Looks:
        assert self._run.looks is not None
        return self._run.looks

    def _answered(self, name: str) -> AnsweredImage:
        answered = self._run.answered or {}
        if name not in answered:
            raise ExecutionError(f"no picture named {name} in this run")
        return answered[name]


def surely_many(plan: PhysicalPlan) -> bool:
    """Whether the plan itself shows, before any work, that there will be several maps."""
    node = plan.root
    while isinstance(node, (Project, Sort)):
        node = node.input
    if not isinstance(node, HeatMaps) or plan.occlude is None:
        return False
    images = plan.occlude.experiment.images.count
    return (images or 0) > 1 or plan.occlude.experiment.classes.count(plan.occlude.experiment.class_count) > 1


class Names:
    """File names from images and classes; a second image of the same name gets a number."""

    def __init__(self, suffix: str) -> None:
        self._suffix = suffix
        self._given: set[str] = set()

    def of(self, heatmap: Map) -> str:
        """`cat-281.png` for the class 281 of `pets/cat.jpg`, `ct-frame-3-281.png` for that of `ct.dcm#frame=3`."""
        path, part = split_fragment(heatmap.image)
        last = PurePath(path)
        stem: str = re.sub(r"[^\w.]+", "-", f"{last.stem}-{part}").strip("-.") or "image"
        first = name = f"{cut_name(stem, _LONGEST)}-{heatmap.index}"
        number = 1
        while name.casefold() in self._given:
            number += 1
            name = f"{first}-{number}"
        self._given.add(name.casefold())
        return name + self._suffix


def _look_of(kind: str, options: Mapping[str, object]) -> Look:
    """How a file of this kind is to be drawn."""
    table = COPY[kind]
    given = read(table, options, defaults=True)
    look = {name: value for name, value in given.items() if name != FORMAT.name}
    if "colormap" in given:
        try:
            look["colormap"] = color_map(given["colormap"])
        except ValueError as error:
            raise table["colormap"].refusal(given["colormap"], given.position("colormap"), str(error)) from None
    return Look(**look | {"contours": tuple(Level(*level) for level in given.get("contours", ()))})


def _heatmap_column(schema: pa.Schema, kind: str) -> str:
    column: str | None = next((field.name for field in schema if isinstance(field.type, pa.FixedShapeTensorType)), None)
    if column is None:
        raise BindError(
            f"COPY to {kind} draws heat maps, and this query has none", hint="SELECT HEATMAP FROM occlude(...)."
        )
    missing = [name for name in _NEEDED if name not in schema.names]
    if missing:
        columns = f"column{'s' if len(missing) > 1 else ''} {', '.join(missing)}"
        raise BindError(
            f"COPY to {kind} needs the {columns} beside the heat map",
            hint="SELECT HEATMAP alone brings them.",
        )
    return column
