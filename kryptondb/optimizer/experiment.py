"""An occlusion experiment: what is asked of a model about which images, before anything is chosen.

Both plans, the executor, profiles, metadata, EXPLAIN, reports and DICOM read this one value.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from kryptondb.grammar.statements import Expression
from kryptondb.network import Grid
from kryptondb.optimizer.grid_cells import GridCells
from kryptondb.optimizer.nodes import PlanNode
from kryptondb.optimizer.workload import Runs, cells_in

#: What happens at the lower and right edge.
Edges = Literal["fit", "cover"]
#: The columns of its cells.
CELL_COLUMNS = (
    *("image", "class", "label", "row", "col", "y", "x", "height", "width"),
    *("base", "score", "drop", "exact"),
)


@dataclass(frozen=True)
class ClassChoice:
    """Which classes are scored: the `k` most probable of each image, all of them, or a list of indices."""

    kind: Literal["top", "all", "list"]
    k: int = 0
    indices: tuple[int, ...] = ()

    def count(self, classes: int) -> int:
        """How many classes are scored, of a model that has `classes` of them."""
        return {"top": min(self.k, classes), "all": classes, "list": len(self.indices)}[self.kind]

    def __str__(self) -> str:
        if self.kind == "top":
            return f"TOP {self.k}"
        if self.kind == "all":
            return "ALL"
        shown = ", ".join(str(index) for index in self.indices[:6])
        more = f", ... ({len(self.indices):,})" if len(self.indices) > 6 else ""
        return shown + more if len(self.indices) == 1 else f"({shown}{more})"


@dataclass(frozen=True)
class Images(PlanNode):
    """Where pictures come from: a path, glob, folder or 'sample:NAME', several of them, or an object in the bindings.

    Attributes:
        spec: the paths; None where a Python object is bound.
        binding: the key of that object.
        count: how many pictures; None where only the run finds out.
        window: the (center, width) that gray pictures are seen through, in their files' units.
        axes: how arrays lie in memory, 'HWC' or 'CHW'; None leaves it to their kind.
    """

    spec: str | tuple[str, ...] | None
    binding: str | None = None
    count: int | None = None
    window: tuple[float, float] | None = None
    axes: str | None = None

    @property
    def columns(self) -> tuple[str, ...]:
        return ("image",)

    def details(self) -> str:
        window = f"  window {self.window[0]:g}, {self.window[1]:g}" if self.window else ""
        return f"{self._named()}{window}" + (f"  axes {self.axes}" if self.axes else "")

    def _named(self) -> str:
        if self.spec is None:
            key = str(self.binding)
            return f"parameter {int(key) + 1} (?)" if key.isdigit() else f"parameter ${key}"
        if isinstance(self.spec, str):
            return self.spec
        return ", ".join(self.spec[:3]) + (f", ... ({len(self.spec):,})" if len(self.spec) > 3 else "")


@dataclass(frozen=True)
class Experiment:
    """One model's occlusion experiment on each of some images.

    Attributes:
        images: where these are found.
        model: its name.
        fingerprint: of the model that the name meant when the experiment was bound.
        channels, height, width: of the model's input.
        class_count: how many classes the model has.
        patch, stride: height and width of the patch, and its steps down and across.
        fill: what the patch is painted with.
        score: 'probability', 'log_probability', or 'logit' and 'output', the network's own numbers.
        classes: which of them are scored.
        edges: 'fit' leaves out what no whole patch reaches, 'cover' cuts patches at the lower and right edge.
        precision: that the network is asked to run in, one of `workload.ELEMENT_BYTES`.
        runs: the cells to compute, `(row, first column, last column)` with both columns included, sorted; None for all
            of them, `()` for none. More than `workload.MOST_RUNS` are held by the kinds of their rows and columns.
        image_filter: over `image` alone; an image for which it is not true is never opened.
    """

    images: Images
    model: str
    fingerprint: str
    channels: int
    height: int
    width: int
    class_count: int
    patch: tuple[int, int]
    stride: tuple[int, int]
    fill: str
    score: str
    classes: ClassChoice
    edges: Edges = "fit"
    precision: str = "float32"
    runs: Runs | GridCells | None = None
    image_filter: Expression | None = None

    @property
    def grid(self) -> Grid:
        """Every position of the patch."""
        return Grid(self.height, self.width, self.patch, self.stride, self.edges)

    @property
    def rows(self) -> int:
        """Rows of the grid."""
        return self.grid.rows

    @property
    def cols(self) -> int:
        """Columns of the grid."""
        return self.grid.cols

    @property
    def positions(self) -> int:
        """How many cells are computed for one image and class."""
        return self.rows * self.cols if self.runs is None else cells_in(self.runs)

    @property
    def scored(self) -> int:
        """How many classes are scored."""
        return self.classes.count(self.class_count)

    def shape_key(self) -> dict[str, Any]:
        """What a query must have in common with a profile beside its model, as JSON values.

        Profiles in catalogs are filed under it: a key that changes makes them unknown.
        """
        return {
            "patch": list(self.patch),
            "stride": list(self.stride),
            "fill": self.fill,
            "score": self.score,
            "classes": {"kind": self.classes.kind, "k": self.classes.k, "indices": list(self.classes.indices)},
            "precision": self.precision,
            **({} if self.edges == "fit" else {"edges": self.edges}),
            **({} if self.images.window is None else {"window": list(self.images.window)}),
        }

    def of_pixels(self, shape: Sequence[int]) -> bool:
        """Whether a map of this shape has a value for each pixel of the model's input, as attributions have."""
        return tuple(shape) == (self.height, self.width)

    def covered(self, at: tuple[int, int], shape: Sequence[int]) -> tuple[tuple[int, int], tuple[int, int]]:
        """The first and last pixels down and across that the value at a row and column of a map stands for.

        Args:
            shape: of the map: the grid's, or the model input's, which has a value per pixel.
        """
        if self.of_pixels(shape):
            return (at[0], at[0]), (at[1], at[1])
        grid = self.grid
        top, left = int(grid.tops[at[0]]), int(grid.lefts[at[1]])
        return (top, top + int(grid.heights[at[0]]) - 1), (left, left + int(grid.widths[at[1]]) - 1)
