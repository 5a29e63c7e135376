"""An experiment with made-up scores, so that the executor is tested without a network, and plans put together by hand.

The score of class c at (row, col) is `base(c) - (row * 10 + col) / 1000`, whatever
the picture; `base(c) = 0.9 - c / 10`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
from PIL import Image

from kryptondb.errors import ImageError
from kryptondb.executor.run import Execution
from kryptondb.grammar import parse
from kryptondb.grammar.statements import Call, Expression, Select
from kryptondb.images.preprocess import Preprocess
from kryptondb.optimizer import physical as p
from kryptondb.optimizer.cost import Cost
from kryptondb.optimizer.experiment import ClassChoice, Experiment, Images

LABELS = ("tabby", "tiger", "lynx", "fox")


@dataclass(frozen=True)
class FakeOperator:
    """Plain data, as an operator is."""

    name: ClassVar[str] = "full"
    exact: ClassVar[bool] = True
    rounded: ClassVar[bool] = False

    @classmethod
    def candidates(cls, workload: object, rates: object, hints: Mapping[str, object]) -> list[FakeOperator]:
        return [cls()]

    def estimate(self, workload: object, rates: object) -> Cost:
        return Cost(1.0, 1.0, 1)

    def describe(self, workload: object) -> str:
        return "made up"


@dataclass
class FakeModel:
    labels: tuple[str, ...] = LABELS
    fingerprint: str = "f00d"
    preprocess: Preprocess = field(default_factory=lambda: Preprocess(32, 32))


@dataclass
class FakeModels:
    model: FakeModel = field(default_factory=FakeModel)

    def get(self, name: str) -> FakeModel:
        return self.model


@dataclass
class Tile:
    rows: np.ndarray
    cols: np.ndarray
    scores: np.ndarray
    exact: bool | np.ndarray = True
    computed: bool = True


def base_of(index: int) -> float:
    return 0.9 - index / 10


@dataclass
class FakeRun:
    """One image: one tile a grid row. Notes in `log` when it is begun and when it is closed."""

    name: str
    node: p.Occlude
    log: list[str]
    scores: Mapping[tuple[int, int, int], float]
    prediction: np.ndarray = field(default_factory=lambda: np.array([0.5, 0.1, 0.3, 0.1]))
    flops: float = 0.0
    spent: dict[str, float] = field(default_factory=dict)
    unsteady: str | None = None

    @property
    def classes(self) -> list[int]:
        choice = self.node.experiment.classes
        return list(choice.indices) if choice.kind == "list" else list(range(choice.count(len(LABELS))))

    @property
    def base(self) -> np.ndarray:
        return np.array([base_of(index) for index in self.classes])

    def __iter__(self) -> Iterator[Tile]:
        asked = self.node.experiment
        runs = asked.runs
        if runs is None:
            runs = tuple((row, 0, asked.cols - 1) for row in range(asked.rows))
        self.log.append(f"begin {self.name}")
        try:
            for row, first, last in runs:
                cols = np.arange(first, last + 1, dtype=np.int32)
                rows = np.full(len(cols), row, dtype=np.int32)
                scores = np.array([[self._score(row, int(col), index) for index in self.classes] for col in cols])
                self.flops += 100.0 * len(cols)
                self.log.append(f"tile {self.name} {row}")
                yield Tile(rows, cols, scores.reshape(len(cols), len(self.classes)))
        finally:
            self.log.append(f"end {self.name}")

    def _score(self, row: int, col: int, index: int) -> float:
        return self.scores.get((row, col, index), base_of(index) - (row * 10 + col) / 1000)


@dataclass
class FakeExperiment:
    """Stands for `kryptondb.executor.runner.ModelRunner`."""

    log: list[str] = field(default_factory=list)
    scores: Mapping[tuple[int, int, int], float] = field(default_factory=dict)
    refuses: tuple[str, ...] = ()

    def __call__(self, node: p.Occlude, model: FakeModel, models: FakeModels) -> Any:
        self.log.append("set up")
        self.node = node
        return self

    def run(self, picture: Any) -> FakeRun:
        if any(word in picture.name for word in self.refuses):
            raise ImageError(f"{picture.name}: refused")
        self.log.append(f"open {Path(picture.name).name}")
        return FakeRun(Path(picture.name).name, self.node, self.log, self.scores)


def occlude(
    spec: Any = None,
    *,
    binding: str | None = None,
    count: int | None = None,
    grid: tuple[int, int] = (3, 4),
    **more: Any,
) -> p.Occlude:
    """An experiment on a grid of `grid` rows and columns, patch 8 x 4, stride 2 x 4, and the operator that runs it."""
    asked = {field.name for field in fields(Experiment)}
    experiment = Experiment(
        **{
            "images": Images(spec, binding, count),
            "model": "net",
            "fingerprint": "f00d",
            "channels": 3,
            "height": 8 + 2 * (grid[0] - 1),
            "width": 4 + 4 * (grid[1] - 1),
            "class_count": len(LABELS),
            "patch": (8, 4),
            "stride": (2, 4),
            "fill": "gray",
            "score": "probability",
            "classes": ClassChoice("top", 1),
            **{name: value for name, value in more.items() if name in asked},
        }
    )
    running = {"operator": FakeOperator(), "device": "cpu", "memory_limit": 1}
    return p.Occlude(experiment, **running | {name: value for name, value in more.items() if name not in asked})


def expression(text: str) -> Expression:
    """An expression as it stands in a statement."""
    select = parse(f"SELECT {text} FROM occlude(m, 'i')")
    assert isinstance(select, Select)
    return select.items[0].expression


def where(node: p.PlanNode, text: str) -> p.Filter:
    return p.Filter(node, expression(text))


def select(node: p.PlanNode, **columns: str) -> p.Project:
    """`select(node, y="y", twice="y * 2")`."""
    return p.Project(node, tuple((expression(text), name) for name, text in columns.items()))


def group(node: p.PlanNode, *keys: str, **calls: str) -> p.Aggregate:
    """`group(node, "label", n="count(*)")`."""
    parsed = [(expression(text), name) for name, text in calls.items()]
    assert all(isinstance(call, Call) for call, _ in parsed)
    return p.Aggregate(node, tuple(expression(key) for key in keys), tuple(parsed))  # type: ignore[arg-type]


def order(node: p.PlanNode, *keys: str) -> p.Sort:
    """`order(node, "drop DESC NULLS FIRST", "y")`."""
    parsed = parse(f"SELECT y FROM occlude(m, 'i') ORDER BY {', '.join(keys)}")
    assert isinstance(parsed, Select)
    return p.Sort(node, tuple((item.expression, item.descending, item.nulls_first) for item in parsed.order_by))


def limit(node: p.PlanNode, count: int) -> p.Limit:
    return p.Limit(node, count)


def plan_of(root: p.PlanNode) -> p.PhysicalPlan:
    return p.PhysicalPlan(root, (), p.Quality("exact"), "the only one", "SELECT 1", root.columns)


def start(root: p.PlanNode, experiment: FakeExperiment | None = None, **more: Any) -> Execution:
    """A plan, ready to run."""
    values: dict[str, Any] = {"models": FakeModels(), "bindings": {}, **more}
    execution = Execution(plan_of(root), **values)
    execution.run.set_up = experiment or FakeExperiment()  # type: ignore[assignment]
    return execution


def table(root: p.PlanNode, experiment: FakeExperiment | None = None, **more: Any) -> pa.Table:
    """All rows of a plan."""
    run = start(root, experiment, **more)
    return pa.Table.from_batches(list(run.batches()), schema=run.schema)


def rows(root: p.PlanNode, experiment: FakeExperiment | None = None, **more: Any) -> list[dict[str, Any]]:
    return list(table(root, experiment, **more).to_pylist())


def pictures(folder: Path, *names: str) -> Path:
    """Small pictures in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for index, name in enumerate(names):
        Image.new("RGB", (40, 30), (index * 20 % 256, 90, 160)).save(folder / name)
    return folder
