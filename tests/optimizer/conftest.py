"""A database of fakes: models without weights, operators that only cost, so that planning is tested by itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import pytest

from kryptondb.errors import BindError, did_you_mean
from kryptondb.grammar import parse
from kryptondb.grammar.statements import Select
from kryptondb.network import Cap
from kryptondb.optimizer import explain, explain_json, plan
from kryptondb.optimizer.cost import Cost, Rates
from kryptondb.optimizer.logical import Context, LogicalPlan
from kryptondb.optimizer.operator import Reach
from kryptondb.optimizer.optimizer import logical_plan
from kryptondb.optimizer.physical import PhysicalPlan
from kryptondb.optimizer.promise import Profile
from kryptondb.optimizer.recipe import Recipe
from kryptondb.optimizer.workload import Workload


@dataclass(frozen=True)
class Tail:
    node: str = "flatten"
    operator: str = "flatten"
    reason: str = "it mixes all locations"


@dataclass(frozen=True)
class FakeNetwork:
    classes: int
    failure: str | None = None
    unsteady: str | None = None
    batch_statistics: bool = False
    tail: Tail | None = field(default_factory=Tail)
    flops: float = 1e9
    nodes: tuple[Any, ...] = ()
    cache: dict[tuple[Any, ...], Any] = field(default_factory=dict, compare=False)

    @property
    def traced(self) -> bool:
        return self.failure is None

    @property
    def undivided(self) -> str | None:
        return None if self.failure is None else f"the network could not be traced ({self.failure})"


@dataclass(frozen=True)
class FakeModel:
    name: str
    input_shape: tuple[int, int, int]
    labels: tuple[str, ...]
    failure: str | None = None
    fingerprint: str = "f00d" * 16
    activation: str = "softmax"

    @property
    def classes(self) -> int:
        return len(self.labels)


class FakeModels:
    def __init__(self) -> None:
        birds = ("crane", "Tabby cat", "tench, Tinca tinca", "crane", "goldfish", "Siamese cat")
        self.models = {
            "chest": FakeModel("Chest", (1, 64, 48), ("normal", "pneumonia", "nodule", "effusion")),
            "imagenet": FakeModel("imagenet", (3, 64, 48), birds),
            "opaque": FakeModel("opaque", (3, 64, 48), ("a", "b"), failure="data-dependent control flow"),
        }

    def get(self, name: str) -> FakeModel:
        if name.casefold() not in self.models:
            hint = f"{did_you_mean(name, self.models) or ''} SHOW MODELS lists what this database knows.".strip()
            raise BindError(f'no model named "{name}"', hint=hint)
        return self.models[name.casefold()]

    def network(self, model: FakeModel) -> FakeNetwork:
        return FakeNetwork(model.classes, model.failure)


@dataclass
class FakeSettings:
    memory: int = 4_000_000_000
    device: str = "cpu"

    def memory_limit_bytes(self) -> int:
        return self.memory

    def get(self, name: str) -> int:
        return self.memory

    def resolved_device(self) -> str:
        return self.device


@dataclass(frozen=True)
class FakeIncremental:
    name: ClassVar[str] = "incremental"
    exact: ClassVar[bool] = True
    rounded: ClassVar[bool] = False
    tile: tuple[int, int]

    @classmethod
    def candidates(cls, workload: Workload, rates: Rates, hints: Mapping[str, Any]) -> list[FakeIncremental]:
        return [cls((size, size)) for size in (1, 7)] if workload.network.traced else []

    def estimate(self, workload: Workload, rates: Rates) -> Cost:
        flops = workload.positions * workload.network.flops / self.tile[0]
        return Cost(rates.seconds(flops, 0, 0), flops, 100_000_000)

    def describe(self, workload: Workload) -> str:
        return f"{workload.precision}, tiles {self.tile[0]} x {self.tile[1]}, R 7.9 of 9.1 ideal"


@dataclass(frozen=True)
class FakeFull:
    name: ClassVar[str] = "full"
    exact: ClassVar[bool] = True
    rounded: ClassVar[bool] = False
    batch: int

    @classmethod
    def candidates(cls, workload: Workload, rates: Rates, hints: Mapping[str, Any]) -> list[FakeFull]:
        return [cls(hints.get("batch", 16))]

    def estimate(self, workload: Workload, rates: Rates) -> Cost:
        flops = workload.positions * workload.network.flops * 1.5
        return Cost(rates.seconds(flops, 0, 0), flops, 20_000_000 * self.batch)

    def describe(self, workload: Workload) -> str:
        return f"{workload.precision}, batches of {self.batch}"


@dataclass(frozen=True)
class FakeThresholded(FakeIncremental):
    name: ClassVar[str] = "thresholded"
    exact: ClassVar[bool] = False
    rounded: ClassVar[bool] = False
    cap: Cap = Cap(1.0, 1.0)

    @property
    def recipe(self) -> Recipe:
        return Recipe(self.name, self.cap.tau, self.cap.tau_deep)

    @classmethod
    def candidates(cls, workload: Workload, rates: Rates, hints: Mapping[str, Any]) -> list[FakeIncremental]:
        return [cls((7, 7), Cap(hints["tau"], hints["tau"]))]

    @classmethod
    def planned(
        cls, recipe: Recipe, workload: Workload, rates: Rates, hints: Mapping[str, Any]
    ) -> list[FakeThresholded]:
        return [cls((7, 7), Cap(recipe.tau, recipe.tau_deep))]

    def estimate(self, workload: Workload, rates: Rates) -> Cost:
        whole = super().estimate(workload, rates)
        return Cost(whole.seconds * self.cap.tau, whole.flops * self.cap.tau, whole.memory)


@dataclass(frozen=True)
class FakeAnytime:
    """Computes a thousand cells a second, and a guide in the time of half of all cells."""

    name: ClassVar[str] = "anytime"
    exact: ClassVar[bool] = False
    rounded: ClassVar[bool] = False
    recipe: Recipe
    at_once: bool = False

    @classmethod
    def candidates(cls, workload: Workload, rates: Rates, hints: Mapping[str, Any]) -> list[FakeAnytime]:
        return [cls(Recipe("drill-down", step=4))]

    def for_enough_time(self) -> FakeAnytime:
        return replace(self, recipe=Recipe("drill-down", step=8), at_once=True)

    @classmethod
    def planned(cls, recipe: Recipe, workload: Workload, rates: Rates, hints: Mapping[str, Any]) -> list[FakeAnytime]:
        return [cls(recipe)]

    def estimate(self, workload: Workload, rates: Rates) -> Cost:
        return Cost(workload.positions * 1e-3, 1e9, 100_000_000)

    def reach(self, workload: Workload, rates: Rates, seconds: float) -> Reach:
        cells = min(workload.positions, int(seconds * 1e3))
        guided = self.recipe.capped and cells > workload.positions // 2
        left = cells - workload.positions // 2 if guided else cells
        step = next(step for step in (1, 2, 4, 8) if left * step * step >= workload.positions or step == 8)
        return Reach(step, guided, left, max(seconds, 4e-3) if step > 1 else cells * 1e-3, left * 1e6, 4e-3)

    def describe(self, workload: Workload) -> str:
        return f"rounds to {self.recipe}"


@dataclass
class Database:
    """`database.plan(text, values)` plans a SELECT against the fakes."""

    models: FakeModels = field(default_factory=FakeModels)
    settings: FakeSettings = field(default_factory=FakeSettings)
    operators: tuple[Any, ...] = (FakeIncremental, FakeFull, FakeThresholded, FakeAnytime)
    profiles: dict[tuple[str, str, str], Profile] = field(default_factory=dict)  # by fingerprint, classes and device

    def plan(self, text: str, values: Any = ()) -> PhysicalPlan:
        return plan(
            select(text),
            models=self.models,  # type: ignore[arg-type]
            settings=self.settings,  # type: ignore[arg-type]
            bindings=bindings(values),
            rates=lambda device: Rates(),
            operators=self.operators,
            profiles=lambda asked, device: self.profiles.get((asked.fingerprint, asked.classes.kind, device)),
        )

    def logical(self, text: str, values: Any = ()) -> LogicalPlan:
        context = Context(self.models, self.settings, bindings(values), lambda device: Rates(), self.operators)  # type: ignore[arg-type]
        return logical_plan(select(text), context)

    def tree(self, text: str, values: Any = ()) -> str:
        return str(self.logical(text, values))

    def explain(self, text: str, **options: Any) -> str:
        return explain(self.plan(text), **options)

    def explain_json(self, text: str, **options: Any) -> str:
        return explain_json(self.plan(text), **options)

    def error(self, text: str, values: Any = ()) -> str:
        """The message that planning a statement ends with, with the line and the caret."""
        from kryptondb.errors import Error

        with pytest.raises(Error) as caught:
            self.plan(text, values)
        return str(caught.value.locate(text))


def select(text: str) -> Select:
    statement = parse(text)
    assert isinstance(statement, Select)
    return statement


def bindings(values: Any) -> dict[str, Any]:
    return dict(values) if isinstance(values, dict) else {str(index): value for index, value in enumerate(values)}


@pytest.fixture
def database() -> Database:
    return Database()
