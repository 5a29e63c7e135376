"""Approximate operators that compute some cells, look at them, compute some more, and reconstruct the rest."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch

from kryptondb.executor.approximation import Reconstruction, StageCells
from kryptondb.executor.kernels.winograd import Block
from kryptondb.executor.operators.context import ImageContext, Scores
from kryptondb.executor.operators.full import Full
from kryptondb.executor.operators.incremental import Incremental, prepare_base
from kryptondb.executor.operators.thresholded import Thresholded
from kryptondb.executor.tiles.base import base_bytes
from kryptondb.executor.tiles.costs import weight_elements, whole_seconds
from kryptondb.executor.tiles.replay import Replays
from kryptondb.network import Network
from kryptondb.optimizer.cost import BASE, Cost, Phase, Rates
from kryptondb.optimizer.grid_cells import CellsByKind, GridCells
from kryptondb.optimizer.recipe import Recipe
from kryptondb.optimizer.workload import BASE_BYTES, Workload

if TYPE_CHECKING:
    from typing_extensions import Self

_PASSES = 1_500  # how often a reconstruction goes over its maps
_COPIES = 12  # maps alive at once


@dataclass(frozen=True, eq=False)
class Stage:
    """Some of a recipe's cells by one operator.

    Attributes:
        guides: whether its scores are no answer themselves but guide the reconstruction.
        about: 'about ' where the number of cells is an estimate.
    """

    name: str
    operator: Incremental | Full
    guides: bool = False
    about: str = ""


@dataclass(frozen=True)
class Staged(ABC):
    """What `drill-down` and `refined` have in common: a recipe, and the operators for its exact and its cheap cells.

    All stages read one base, which is made once for each image. Cells are handed on as soon as they are what they will
    be: computed ones as they come, reconstructed ones at the end.

    Attributes:
        recipe: which cells are computed, and how.
        accurate: computes the exact ones.
        cheap: computes those that need only be near; None where the recipe has none.
    """

    name: ClassVar[str]
    exact: ClassVar[bool] = False
    rest: ClassVar[str] = "reconstruction"  # what else a run spends time on, beside its base and its stages
    recipe: Recipe
    accurate: Incremental | Full
    cheap: Thresholded | None = None

    @classmethod
    @abstractmethod
    def recipe_of(cls, hints: Mapping[str, Any]) -> Recipe:
        """What USING asks for, and the operator's own choice of what it does not say."""

    @classmethod
    @abstractmethod
    def _shares(cls, cells: StageCells) -> tuple[GridCells, GridCells | None]:
        """Cells to plan the accurate operator for, and the cheap one; None where the recipe needs no cheap one."""

    @abstractmethod
    def _first(self, cells: StageCells) -> Sequence[tuple[Stage, GridCells]]:
        """The stages whose cells are known before anything is computed, with these."""

    @classmethod
    def candidates(cls, workload: Workload, rates: Rates, hints: Mapping[str, Any]) -> list[Self]:
        """The cheapest operator for the recipe that the hints ask for."""
        return cls.planned(cls.recipe_of(hints), workload, rates, hints)

    @classmethod
    def planned(cls, recipe: Recipe, workload: Workload, rates: Rates, hints: Mapping[str, Any]) -> list[Self]:
        """The cheapest operator for a recipe, with each stage's settings chosen for its own cells; or none."""
        cells, cheap_cells = cls._shares(StageCells(recipe, workload.cells.by_kind))
        left = workload.memory_limit
        for _ in range(2):
            limited = replace(workload, memory_limit=left)
            accurate = _cheapest((Incremental, Full), limited, cells, rates, hints)
            cheap = None
            if cheap_cells is not None:
                of_tile = partial(Thresholded, cap=recipe.cap)
                settings = Thresholded.settings(of_tile, part_of(limited, cheap_cells), rates, hints)
                if not settings:
                    return []
                cheap = settings[0]
            operator = cls(recipe, accurate, cheap)
            # What stages hold for one another is known only now: each has to make do with less.
            excess = operator.estimate(workload, rates).memory - workload.memory_limit
            if excess <= 0:
                break
            left = max(1, left - excess)
        return [operator]

    def prepare(self, context: ImageContext) -> torch.Tensor:
        """Materializes the base that all stages read; gives the scores of the unoccluded image, [1, classes]."""
        if not self._incremental:
            return self.accurate.prepare(context)
        return prepare_base(context, {index for index, _ in self._layers})

    @property
    def rounded(self) -> bool:
        """Whether regions hold differences in the query's precision, beside a base in float32."""
        return any(operator.rounded for operator in self._incremental)

    def replays(self, device: torch.device) -> Replays | None:
        """Where passes are recorded, for all pictures of a query; None where none are."""
        recording = next((operator for operator in self._incremental if operator.graphs), None)
        return recording.replays(device) if recording is not None else None

    def run(self, context: ImageContext) -> Iterator[Scores]:
        """Yields computed cells a block at a time, then all others; `prepare` comes first."""
        if not context.mask.any():
            return
        reconstruction = Reconstruction(self.recipe, context.mask, context.score)
        found = FoundCells(context.mask.shape)
        for stage, cells in self._first(StageCells(self.recipe, CellsByKind.of_mask(context.mask))):
            yield from self._run(stage, cells.mask, context, found)
        more = reconstruction.further(found.values, found.guide)
        if more.any():
            yield from self._run(self._further, more, context, found)
        rest = context.mask & ~found.known
        if rest.any():
            maps = reconstruction.completed(found.values, found.known, found.guide)
            rows, cols = (index.astype(np.int32) for index in np.nonzero(rest))
            yield Scores(rows, cols, np.ascontiguousarray(maps[:, rest].T), exact=False, computed=False)

    def estimate(self, workload: Workload, rates: Rates) -> Cost:
        """All stages on their cells, the base once, and the reconstruction."""
        if not workload.positions:
            return self.accurate.estimate(workload, rates)
        network, element = workload.network, workload.element_bytes
        stages = self._stages(workload)
        costs = [stage.operator.estimate(part_of(workload, cells), rates) for stage, cells in stages]
        again, shared = len(costs) - 1, self._shared_bytes(network, element)
        base = whole_seconds(network, 1, rates, BASE_BYTES if self.rounded else element)
        phases = [Phase(BASE, base)]
        phases += [Phase(stage.name, cost.seconds - base) for (stage, _), cost in zip(stages, costs, strict=True)]
        phases.append(Phase(self.rest, reconstructing(workload, rates)))
        return Cost(
            seconds=sum(phase.seconds for phase in phases),
            flops=sum(cost.flops for cost in costs) - again * network.flops,
            memory=max(cost.memory for cost in costs) + shared + _COPIES * _map_bytes(workload),
            ahead=max(cost.ahead for cost in costs) + shared,
            room=max(cost.room for cost in costs),
            phases=tuple(phases),
        )

    def describe(self, workload: Workload) -> str:
        """For EXPLAIN: what the recipe says, and how each stage computes its cells."""
        _, _, recipe = str(self.recipe).partition(", ")
        shares = ((stage, part_of(workload, cells)) for stage, cells in self._stages(workload))
        stages = [
            f"{stage.name} {stage.about}{share.positions:,} by {stage.operator.name} ({stage.operator.describe(share)})"
            for stage, share in shares
        ]
        return "; ".join([recipe, *stages])

    @property
    def _further(self) -> Stage:
        """Cells that earlier stages chose. They differ from picture to picture: no pass is recorded for the next."""
        accurate = self.accurate
        if isinstance(accurate, Incremental) and accurate.graphs:
            accurate = replace(accurate, graphs=False)
        return Stage("chosen", accurate, about="about " if self.recipe.doubt else "")

    def _stages(self, workload: Workload) -> list[tuple[Stage, GridCells]]:
        """All of them, with their cells. Those that will be chosen are taken to lie scattered."""
        cells = StageCells(self.recipe, workload.cells.by_kind)
        stages = [*self._first(cells)]
        if cells.further_count:
            stages.append((self._further, cells.scattered))
        return stages

    def _run(
        self, stage: Stage, cells: np.ndarray, context: ImageContext, found: FoundCells
    ) -> Generator[Scores, None, None]:
        """Runs a stage as if its cells, boolean [rows, cols], were all that is asked for."""
        part = replace(
            context,
            mask=cells,
            flops=0.0,
            replays=None if context.replays is None else context.replays.part(stage.name),
            beside=context.beside + self._shared_bytes(context.network, context.element_bytes),
            layers_beside=self._layers,
        )
        counted = 0.0
        blocks = stage.operator.run(part)
        while (scores := context.timed(stage.name, blocks)) is not None:
            context.flops, counted = context.flops + part.flops - counted, part.flops
            found.add(scores, stage.guides)
            # No cell of a guide is an answer, but the reader may want to stop here.
            yield scores.none() if stage.guides else scores

    @cached_property
    def _incremental(self) -> list[Incremental]:
        return [operator for operator in (self.accurate, self.cheap) if isinstance(operator, Incremental)]

    @cached_property
    def _layers(self) -> frozenset[tuple[int, Block]]:
        """The convolutions that some stage computes from differences, with their blocks."""
        return frozenset(layer for operator in self._incremental for layer in operator.blocks.items())

    def _shared_bytes(self, network: Network, element_bytes: int) -> int:
        """The most bytes that a stage holds for others: weights prepared for them, and what they read of the base."""
        nodes = {index for index, _ in self._layers}
        held = [0]
        for operator in self._incremental:
            others = dict(self._layers - set(operator.blocks.items()))
            tables = base_bytes(network, element_bytes, nodes) - base_bytes(network, element_bytes, operator.blocks)
            held.append(weight_elements(network, others) * element_bytes + tables)
        return max(held)


class FoundCells:
    """What stages have computed so far.

    Attributes:
        values: scores that are answers, [k, rows, cols], NaN where there is none yet.
        known: where there is one, boolean [rows, cols].
        guide: scores that guide, [k, rows, cols]; None where there are none.
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.known = np.zeros(shape, dtype=bool)
        self.values = np.full((0, *shape), np.nan)
        self.guide: np.ndarray | None = None

    def add(self, scores: Scores, guides: bool) -> None:
        """Takes in what a stage computed."""
        shape = (scores.scores.shape[1], *self.known.shape)
        if guides:
            if self.guide is None:
                self.guide = np.full(shape, np.nan)
            self.guide[:, scores.rows, scores.cols] = scores.scores.T
            return
        if not self.known.any():
            self.values = np.full(shape, np.nan)
        self.values[:, scores.rows, scores.cols] = scores.scores.T
        self.known[scores.rows, scores.cols] = True


def reconstructing(workload: Workload, rates: Rates) -> float:
    """Seconds that a reconstruction of an image's maps is estimated to take."""
    return rates.seconds(0.0, float(_PASSES * _map_bytes(workload)), _PASSES)


def _map_bytes(workload: Workload) -> int:
    return workload.classes * workload.grid.size * 8


def part_of(workload: Workload, cells: GridCells) -> Workload:
    """Some cells as a workload of their own."""
    return replace(workload, runs=cells)


def _cheapest(
    kinds: Sequence[type[Incremental] | type[Full]],
    workload: Workload,
    cells: GridCells,
    rates: Rates,
    hints: Mapping[str, Any],
) -> Incremental | Full:
    """The fastest operator of these kinds for some cells; of those that memory allows, if any."""
    part = part_of(workload, cells)
    operators = [operator for kind in kinds for operator in kind.candidates(part, rates, hints)]
    if any(operator.rounded for operator in operators):  # stages share a base, and that is another one
        operators = [operator for operator in operators if operator.rounded]
    costed = [(operator.estimate(part, rates), operator) for operator in operators]
    _, best = min(costed, key=lambda plan: (plan[0].memory > workload.memory_limit, plan[0].seconds))
    return best
