"""A physical plan: all that is needed to run one SELECT, as plain data that another machine can run too.

Frozen dataclasses that print as a tree, compare by value, and go to JSON and back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kryptondb.grammar.statements import Expression, Promise
from kryptondb.network import Cap, Grid
from kryptondb.optimizer import plan_json
from kryptondb.optimizer.cost import Cost, Phase
from kryptondb.optimizer.nodes import (
    Aggregate,
    Filter,
    HeatMaps,
    Limit,
    PlanNode,
    Predictions,
    Project,
    Sort,
    column_name,
)
from kryptondb.optimizer.recipe import Recipe
from kryptondb.optimizer.tuning import Tuning
from kryptondb.optimizer.workload import Runs, cells_in

if TYPE_CHECKING:
    from kryptondb.optimizer.operator import Operator

__all__ = [
    "CELL_COLUMNS",
    "REDUNDANCY_COLUMNS",
    "Aggregate",
    "ClassChoice",
    "Filter",
    "HeatMaps",
    "Images",
    "Limit",
    "Occlude",
    "PhysicalPlan",
    "PlanNode",
    "Predictions",
    "Project",
    "Quality",
    "Redundancy",
    "Rejected",
    "Sort",
    "column_name",
    "from_json",
    "to_json",
]


CELL_COLUMNS = (
    *("image", "class", "label", "row", "col", "y", "x", "height", "width"),
    *("base", "score", "drop", "exact"),
)
REDUNDANCY_COLUMNS = (
    *("layer", "operator", "channels", "height", "width"),
    *("gflops_full", "gflops_incremental", "ratio", "uniform_ratio", "centre_ratio"),
)


@dataclass(frozen=True)
class ClassChoice:
    """Which classes are scored: the `k` most probable of each image, all of them, or a list of indices."""

    kind: str  # 'top', 'all' or 'list'
    k: int = 0
    indices: tuple[int, ...] = ()

    def count(self, classes: int) -> int:
        """How many classes are scored, of a model that has so many."""
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

    `spec` is None when a Python object is bound; `binding` is then its key. `count` is None when not known yet.
    `window` is the (center, width) that grey pictures are seen through, in their files' units. `axes` says how arrays
    lie in memory, 'HWC' or 'CHW'; None leaves it to their kind.
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
class Occlude(PlanNode):
    """The experiment: cells in the 13 columns of LANGUAGE.md, one row a position, class and image.

    `runs` are the grid's cells to compute, `(row, first column, last column)` with both columns included, sorted;
    None for all of them, `()` for none. An image for which `image_filter` (over `image` alone) is not true is never
    opened. `height` and `width` are the model input's. `cost` is the estimate for one image, None for a network that
    could not be traced. `ahead` says that the next image is opened and its base made while one runs, as memory allows.
    `seconds` is the time for all images together, None where nothing has to stop. With `tuning` the operator runs some
    of the images, and these say what runs the others.
    `description` and those after it are for readers: what the operator says about itself, where the network's dense
    tail begins and why, channels and classes, and why the model may answer one picture in two ways, where it does.
    """

    input: Images
    model: str
    fingerprint: str
    patch: tuple[int, int]
    stride: tuple[int, int]
    height: int
    width: int
    runs: Runs | None
    fill: str
    classes: ClassChoice
    score: str
    operator: Operator
    device: str
    memory_limit: int
    image_filter: Expression | None = None
    cost: Cost | None = None
    precision: str = "float32"
    edges: str = "fit"
    ahead: bool = False
    seconds: float | None = None
    tuning: Tuning | None = None
    description: str = ""
    tail: str | None = None
    channels: int = 3
    class_count: int = 0
    unsteady: str | None = None

    @property
    def columns(self) -> tuple[str, ...]:
        return CELL_COLUMNS

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

    def of_pixels(self, shape: Sequence[int]) -> bool:
        """Whether a map of this shape has a value for each pixel of the model's input, as attributions have."""
        return tuple(shape) == (self.height, self.width)

    def covered(self, at: tuple[int, int], shape: Sequence[int]) -> tuple[tuple[int, int], tuple[int, int]]:
        """The first and last pixels down and across that the value at a row and column of a map stands for.

        Args:
            shape: of the map: the grid's, or the model input's, which has a value a pixel.
        """
        if self.of_pixels(shape):
            return (at[0], at[0]), (at[1], at[1])
        grid = self.grid
        top, left = int(grid.tops[at[0]]), int(grid.lefts[at[1]])
        return (top, top + int(grid.heights[at[0]]) - 1), (left, left + int(grid.widths[at[1]]) - 1)

    @property
    def positions(self) -> int:
        """How many cells are computed for one image and class."""
        return self.rows * self.cols if self.runs is None else cells_in(self.runs)

    def label(self) -> str:
        return self.operator.name.capitalize()

    def details(self) -> str:
        some = f"{self.positions:,} of {self.rows * self.cols:,} positions"
        return ", ".join(part for part in (self.description, some, f"class {self.classes}") if part)


@dataclass(frozen=True)
class Redundancy(PlanNode):
    """The paper's Figure 5 for one model: one row a layer and a total."""

    model: str
    fingerprint: str
    patch: tuple[int, int]
    stride: tuple[int, int]
    height: int
    width: int

    @property
    def columns(self) -> tuple[str, ...]:
        return REDUNDANCY_COLUMNS

    def details(self) -> str:
        patch, stride = (" x ".join(map(str, pair)) for pair in (self.patch, self.stride))
        return f"{self.model}  patch {patch}, stride {stride}, input {self.height} x {self.width}"


@dataclass(frozen=True)
class Rejected:
    """A candidate that was costed and not taken, and why."""

    operator: Operator
    cost: Cost | None
    reason: str
    description: str = ""


@dataclass(frozen=True)
class Quality:
    """How good the answer is: `kind` is 'exact' or 'approximate'.

    `promise` is what was asked for; `note` says how it is kept, or what an approximate answer is. Where a profile lets
    an approximate plan keep it, `confidence` is with what probability, `images` how many certify it. `expected` is the
    SSIM that is expected of an answer without such a promise, None where nothing tells.
    """

    kind: str
    promise: Promise | None = None
    note: str = ""
    confidence: float | None = None
    images: int | None = None
    expected: float | None = None


@dataclass(frozen=True)
class PhysicalPlan:
    """One SELECT, ready to run.

    `statement` is its canonical SQL with parameters filled in; `schema` the names of the output columns.
    """

    root: PlanNode
    rejected: tuple[Rejected, ...]
    quality: Quality
    reason: str
    statement: str
    schema: tuple[str, ...]

    @property
    def occlude(self) -> Occlude | None:
        """The experiment in the plan, if it has one (a query of `redundancy` has none)."""
        return next((node for node in self.root.walk() if isinstance(node, Occlude)), None)

    def __str__(self) -> str:
        return str(self.root)


_CLASSES: tuple[type[Any], ...] = (
    *(PhysicalPlan, Quality, Rejected, ClassChoice, Cost, Phase, Promise, Cap, Recipe, Tuning),
    *(Images, Occlude, Redundancy, Filter, Aggregate, HeatMaps, Predictions, Project, Sort, Limit),
)


def to_json(plan: PhysicalPlan) -> str:
    """The plan as JSON text; expressions stand in it as canonical SQL."""
    return plan_json.encode(plan, _CLASSES)


def from_json(text: str, operators: Sequence[type[Operator]]) -> PhysicalPlan:
    """The plan that `to_json` wrote. `operators` are the classes that an operator's name may mean.

    Raises:
        PlanError: the text is no plan, or names what this version does not have.
    """
    plan: PhysicalPlan = plan_json.decode(text, PhysicalPlan, _CLASSES, operators)
    return plan
