"""A query's heat maps, row by row, for those who draw them, and names for files of them."""

from __future__ import annotations

import re
from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass
from pathlib import PurePath

import numpy as np
import pyarrow as pa

from kryptondb.errors import BindError
from kryptondb.executor.run import Execution
from kryptondb.files.paths import cut_name
from kryptondb.images.content import split_fragment
from kryptondb.optimizer.physical import HeatMaps, PhysicalPlan, Project, Sort

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


def heatmap_column(schema: pa.Schema, kind: str) -> str:
    """The name of the heat map's column.

    Raises:
        BindError: the rows have none, or not the columns that a file of this kind needs beside it.
    """
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


def maps_of(execution: Execution, column: str) -> Generator[Map, None, None]:
    """The query's rows, one by one."""
    with closing(execution.batches()) as batches:
        for batch in batches:
            drops = batch.column(column).to_numpy_ndarray()
            rows = zip(*(batch.column(name).to_pylist() for name in _NEEDED), drops, strict=True)
            yield from (Map(*row) for row in rows)


def surely_many(plan: PhysicalPlan) -> bool:
    """Whether the plan itself tells, before any work, that it answers several maps."""
    node = plan.root
    while isinstance(node, (Project, Sort)):
        node = node.input
    if not isinstance(node, HeatMaps) or plan.occlude is None:
        return False
    images = plan.occlude.input.count
    return (images or 0) > 1 or plan.occlude.classes.count(plan.occlude.class_count) > 1


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
        name = f"{cut_name(stem, _LONGEST)}-{heatmap.index}"
        again = 1
        while (name if again == 1 else f"{name}-{again}").casefold() in self._given:
            again += 1
        name = name if again == 1 else f"{name}-{again}"
        self._given.add(name.casefold())
        return name + self._suffix
