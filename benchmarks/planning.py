"""How long planning takes on a grid of millions of positions, compared with one of 53 x 53 on the same network.

Direct plans (`incremental` and `full`) and those in stages (`drill-down`, `refined`, `anytime`) are measured apart.

    python -m benchmarks.planning --side 8192

The network's input is large enough for `side` positions per side at stride 1. It is on torch's meta device: its weights
and activations would take more memory than most machines have, and planning reads only shapes. Both grids take turns;
the table has the least CPU seconds of each, their ratio, and how much memory planning the large one added.
"""

from __future__ import annotations

import argparse
import resource
import time
from collections.abc import Sequence

import torch
from rich.console import Console

import kryptondb.images.torchvision_guard  # noqa: F401  # before torchvision is imported anywhere
from benchmarks.report import Sheet
from kryptondb.executor.operators import AnyOperator, Anytime, DrillDown, Full, Incremental, Refined
from kryptondb.network import Grid, Network, trace
from kryptondb.optimizer.cost import Rates
from kryptondb.optimizer.workload import Workload

PATCH = 16
FEW = 53
HINTS = {"convolution": "direct"}  # how accurate other methods are is measured on weights, of which there are none here
SECONDS = 10.0  # that `anytime` is given


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the benchmark and prints its table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.planning", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--side", type=int, default=8192, help="positions along each axis of the large grid")
    parser.add_argument("--network", nargs="+", choices=sorted(NETWORKS), default=sorted(NETWORKS))
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args(arguments)
    rows = [row for name in options.network for row in _measured(name, options.side, options.rounds)]
    columns = (
        "<network",
        "nodes",
        "<plans",
        f"{FEW} x {FEW}",
        f"{options.side:,} x {options.side:,}",
        "ratio",
        "memory added",
    )
    Console().print(Sheet("CPU seconds of planning", columns, rows).printed())
    return 0


def _toy() -> torch.nn.Module:
    nn = torch.nn
    return nn.Sequential(nn.AvgPool2d(8), nn.Conv2d(3, 2, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 3))


def _densenet121() -> torch.nn.Module:
    from torchvision.models import densenet121

    module: torch.nn.Module = densenet121(weights=None)
    return module


NETWORKS = {"toy": _toy, "densenet121": _densenet121}


PLANS: dict[str, tuple[type[AnyOperator], ...]] = {
    "direct": (Incremental, Full),
    "drill-down": (DrillDown,),
    "refined": (Refined,),
    "anytime": (Anytime,),
}


def _measured(name: str, side: int, rounds: int) -> list[list[str]]:
    size = side + PATCH - 1
    with torch.device("meta"):
        module = NETWORKS[name]().eval()
    network = trace(module, (3, size, size))
    return [_measured_plans(name, network, plans, size, side, rounds) for plans in PLANS]


def _measured_plans(name: str, network: Network, plans: str, size: int, side: int, rounds: int) -> list[str]:
    seconds: dict[int, list[float]] = {FEW: [], side: []}
    added = 0
    for _ in range(rounds):
        for count, stride in ((FEW, (size - PATCH) // (FEW - 1)), (side, 1)):
            before = _peak()
            network.forget()  # nothing is taken over from the round before
            began = time.process_time()
            _plan(network, Grid(size, size, (PATCH, PATCH), (stride, stride)), PLANS[plans])
            seconds[count].append(time.process_time() - began)
            if count == side:
                added = max(added, _peak() - before)
    few, many = min(seconds[FEW]), min(seconds[side])
    return [name, str(len(network.nodes)), plans, f"{few:.2f}", f"{many:.2f}", f"{many / few:.1f}", f"{added >> 20} MB"]


def _plan(network: Network, grid: Grid, kinds: Sequence[type[AnyOperator]]) -> None:
    work = Workload(network, grid, None, 1, "cpu", 1 << 40)
    for kind in kinds:
        for operator in kind.candidates(work, Rates(), HINTS):
            operator.estimate(work, Rates())
            operator.describe(work)
            if isinstance(operator, Anytime):
                operator.reach(work, Rates(), SECONDS)
                operator.for_enough_time().reach(work, Rates(), SECONDS)


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


if __name__ == "__main__":
    raise SystemExit(main())
