"""How well the planner knows what plans take: the q-error of seconds, over models, patches, strides and operators.

    python -m benchmarks.cost_model --model all --patch 8 16 32 --stride 4 8

The q-error of an estimate is the larger of estimate over measurement and measurement over estimate: 1 is perfect. Rates
are those of a database after CALIBRATE: layers are measured one by one on a few windows, and no plan is run for that.
Each plan computes its map, or where that takes long some rows of its tiles, drawn to stand for all: a run touches its
memory for the first time once, however long it is. Plans in stages compute other cells in each of them, which no rows
stand for: those that take long are skipped. The fastest of a few runs counts.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from benchmarks.calibration import Calibration
from benchmarks.contenders import Ours
from benchmarks.course import Course
from benchmarks.exact import ALL_MODELS, MODELS
from benchmarks.layers import ELEMENT_BYTES
from benchmarks.report import (
    Sheet,
    add_common_options,
    refuse_missing_device,
)
from benchmarks.rounds import bands_of, representatives, runs_of_cells
from benchmarks.subject import Subject, input_side, prepare
from kryptondb.catalog.settings import free_memory
from kryptondb.executor.calibrate import measure
from kryptondb.executor.operators import DrillDown, Full, Incremental, Refined, Staged, Thresholded
from kryptondb.executor.tiles.costs import whole_seconds
from kryptondb.network import Grid
from kryptondb.optimizer.cost import Rates
from kryptondb.optimizer.recipe import Recipe
from kryptondb.optimizer.workload import Runs, Workload

TAUS = (0.6, 0.3)
STAGED: tuple[tuple[type[DrillDown] | type[Refined], Recipe], ...] = (
    (DrillDown, Recipe("drill-down", step=2)),
    (DrillDown, Recipe("drill-down", step=3, fraction=0.1, where="uncertain")),
    (Refined, Recipe("refined", 0.45, 0.45, step=4)),
)
RUNS = 3
FULL_POSITIONS = 64  # one batch
SHORT = 3.0  # estimated seconds of a map that is computed whole
LONG = 10.0  # of one in stages that is skipped


@dataclass(frozen=True)
class Case:
    """One plan: what the planner expects of it, and what was measured, in seconds per position beside the base."""

    model: str
    patch: int
    stride: int
    operator: str
    settings: str
    estimated: float
    measured: float

    @property
    def q_error(self) -> float:
        """The larger of estimate over measurement and measurement over estimate."""
        return max(self.estimated / self.measured, self.measured / self.estimated)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs every case and prints the table and the quantiles of all q-errors."""
    arguments = sys.argv[1:] if arguments is None else arguments
    options = _parse(arguments)
    course = Course.begin("benchmarks.cost_model", arguments, options)
    calibration = Calibration(options.device, options.calibration)
    found: list[Case] = []
    for name in options.model:
        size = options.size or input_side(name)
        subject = prepare(name, size, options.patch[0], options.stride[0], options.device, options.seed)
        rates = calibration.rates(measure(options.device), subject.network)
        for patch, stride in itertools.product(options.patch, options.stride):
            grid = Grid(size, size, (patch, patch), (stride, stride))
            for case in cases(replace(subject, grid=grid), rates, options.device):
                found.append(case)
                course.out.print(f"{case.model} {case.patch}/{case.stride} {case.operator}: q-error {case.q_error:.2f}")
    sheets = [quantiles_sheet(found, str(calibration)), cases_sheet(found)]
    course.end(sheets, {"cases": [asdict(case) for case in found]})
    return 0


def cases(subject: Subject, rates: Rates, device: str) -> Iterator[Case]:
    """Every operator's plan for one subject, measured."""
    memory = free_memory() // 2

    def workload(runs: Runs | None = None) -> Workload:
        return Workload(subject.network, subject.grid, runs, 1, device, memory)

    plans: list[tuple[str, Full | Incremental | DrillDown | Refined]] = [
        ("full", Full.candidates(workload(), rates, {})[0])
    ]
    plans += [("incremental", plan) for plan in Incremental.candidates(workload(), rates, {})]
    for tau in TAUS:
        plans += [(f"thresholded, tau {tau:g}", p) for p in Thresholded.candidates(workload(), rates, {"tau": tau})]
    plans += [(str(recipe), p) for kind, recipe in STAGED for p in kind.planned(recipe, workload(), rates, {})]
    base = whole_seconds(subject.network, 1, rates, ELEMENT_BYTES, workload().fusions)
    for name, plan in plans:
        seconds = plan.estimate(workload(), rates).seconds
        if isinstance(plan, Staged) and seconds > LONG:
            continue
        runs = None if isinstance(plan, Staged) or seconds <= SHORT else _sample(subject, plan, workload())
        ours = Ours(subject, plan, whole_bands=True)
        ours.compute(runs)  # what only the first call pays
        works = [ours.compute(runs) for _ in range(RUNS)]
        positions = len(works[0].found)
        estimated = plan.estimate(workload(runs), rates).seconds - base
        yield Case(
            model=subject.model.name,
            patch=subject.grid.patch[0],
            stride=subject.grid.stride[0],
            operator=name,
            settings=plan.describe(workload()),
            estimated=estimated / positions,
            measured=min(work.seconds for work in works) / positions,
        )


def _sample(subject: Subject, plan: Full | Incremental, whole: Workload) -> Runs:
    """Cells that stand for the grid: a batch for `full`, one row of tiles for the others."""
    grid = subject.grid
    if isinstance(plan, Full):
        numbers = np.linspace(0, grid.size - 1, min(FULL_POSITIONS, grid.size)).astype(np.int64)
        return runs_of_cells(grid, np.stack([numbers // grid.cols, numbers % grid.cols], axis=1))
    bands = bands_of(grid, plan.tile)
    costs = [1 / plan.redundancy(replace(whole, runs=band))[0] for band in bands]
    return bands[representatives(costs, 1)[0]]


def quantiles_sheet(found: Sequence[Case], rates: str) -> Sheet:
    """The q-error's quantiles for each operator and all together."""
    groups: dict[str, list[float]] = {}
    for case in found:
        groups.setdefault(case.operator, []).append(case.q_error)
    groups["all"] = [case.q_error for case in found]
    title = f"q-error of seconds, {rates}. Asked: a median of at most 1.3, a 95th percentile of at most 2."
    columns = ("<operator", "plans", "median", "95th percentile", "largest")
    rows = [
        [name, str(len(errors)), *(f"{np.quantile(errors, level):.2f}" for level in (0.5, 0.95, 1.0))]
        for name, errors in groups.items()
    ]
    return Sheet(title, columns, rows)


def cases_sheet(found: Sequence[Case]) -> Sheet:
    """A row per plan."""
    columns = ("<model", "patch", "stride", "<operator", "<settings", "estimated ms", "measured ms", "q-error")
    rows = [_row(case) for case in found]
    return Sheet("Milliseconds a position, beside the base.", columns, rows)


def _row(case: Case) -> list[str]:
    settings: list[Any] = [case.model, case.patch, case.stride, case.operator, case.settings]
    numbers = (f"{1e3 * case.estimated:.3f}", f"{1e3 * case.measured:.3f}", f"{case.q_error:.2f}")
    return [*map(str, settings), *numbers]


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.cost_model", description=(__doc__ or "").splitlines()[0]
    )
    models = f"torchvision architectures, or 'all' for {', '.join(ALL_MODELS)}"
    parser.add_argument("--model", nargs="+", default=list(MODELS), help=models)
    parser.add_argument("--patch", type=int, nargs="+", default=[16], help="one or more: each is a case")
    parser.add_argument("--stride", type=int, nargs="+", default=[4], help="one or more: each is a case")
    add_common_options(parser)
    options = parser.parse_args(arguments)
    if options.model == ["all"]:
        options.model = list(ALL_MODELS)
    if min(*options.patch, *options.stride) < 1:
        parser.error("--patch and --stride must be at least 1")
    refuse_missing_device(parser, options.device)
    return options


if __name__ == "__main__":
    sys.exit(main())
