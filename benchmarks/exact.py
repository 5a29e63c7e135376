"""How fast exact occlusion maps are: Captum, plain batches, `full` and `incremental` in one run, round and round.

    python -m benchmarks.exact --model vgg16 --positions 256

Weights are random, so nothing is downloaded; how long a map takes does not depend on them. The contenders take turns
round by round (see `benchmarks.rounds`), and who begins moves on each time: a machine that slows down does so for all.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from benchmarks.contenders import Captum, Cells, Contender, Monai, Ours, Plain, Turn, complete, race, reference
from benchmarks.rounds import plan_rounds
from benchmarks.subject import prepare
from kryptondb.catalog.memory import free_memory
from kryptondb.executor.calibrate import measure
from kryptondb.executor.operators import Full, Incremental
from kryptondb.optimizer.cost import Rates
from kryptondb.optimizer.workload import Runs, Workload

MODELS = ("vgg16", "resnet18", "inception_v3")
SIZES = {"inception_v3": 299}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the benchmark for each model, prints its tables, and writes them as JSON where asked."""
    options = _parse(arguments)
    if options.threads:
        torch.set_num_threads(options.threads)
    torch.backends.cudnn.allow_tf32 = False  # float32 means float32, for everyone
    console = Console(width=None if sys.stdout.isatty() else 120, highlight=False)
    machine = describe_machine(options.device)
    console.print(", ".join(f"{name} {value}" for name, value in machine.items()))
    results = []
    for name in options.model:
        result = benchmark(name, options)
        results.append(result)
        show(console, result)
    if options.json:
        options.json.write_text(json.dumps({"machine": machine, "results": results}, indent=2) + "\n")
    return 0


def benchmark(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """Measures one model; the result is plain data."""
    size = options.size or SIZES.get(name, 224)
    subject = prepare(name, size, options.patch, options.stride, options.device, options.seed)
    grid = subject.grid
    rates = measure(options.device)
    memory = free_memory() // 2

    def workload(runs: Runs | None = None) -> Workload:
        return Workload(subject.network, grid, runs, 1, options.device, memory)

    hints = {"batch": options.batch} if options.batch else {}
    fulls = Full.candidates(workload(), rates, {})
    tiled = Incremental.candidates(workload(), rates, hints)
    tile = tiled[0].tile if tiled else (8, 8)

    def cost(runs: Runs) -> float:
        return 1 / tiled[0].redundancy(workload(runs))[0] if tiled else 1.0

    rounds = plan_rounds(grid, tile, min(options.positions, grid.size), cost)
    ours = [Ours(subject, fulls[0], False), *(Ours(subject, operator, True) for operator in tiled)]
    contenders: list[Contender] = [*([Monai(subject)] if options.monai else []), Plain(subject), *ours]
    captum = Captum(subject, len(rounds), options.positions) if importlib.util.find_spec(Captum.MODULE) else None
    everyone: list[Contender | Captum] = [*([captum] if captum else []), *contenders]
    for contender in everyone:
        contender.warm()
    race(contenders, captum, rounds)
    if tiled:
        complete(ours[-1], everyone)
    exact = reference(subject, [contender for contender in everyone if not isinstance(contender, Ours)])
    measured = tuple(sorted(run for part in rounds for run in part.band))
    return {
        "model": name,
        "size": size,
        "patch": options.patch,
        "stride": options.stride,
        "grid": [grid.rows, grid.cols],
        "rounds": len(rounds),
        "base_probability": subject.base,
        "largest_drop": max(abs(subject.base - p) for p in ours[-1].found.values()),
        "redundancy_measured": tiled[0].redundancy(workload(measured))[0] if tiled else 1.0,
        "redundancy_grid": tiled[0].redundancy(workload())[0] if tiled else 1.0,
        "contenders": rows_of(everyone, exact),
        "planner": planner_rows(ours, workload(), rates),
        "rates": vars(rates),
    }


def rows_of(contenders: Sequence[Contender | Captum], exact: Cells) -> list[dict[str, Any]]:
    """One row a contender: what it did, how fast over the first, how far from the others and from float64."""
    rows = []
    first = contenders[0].turns
    for contender in contenders:
        mine = contender.turns
        differences = {
            other.name: max((abs(contender.found[c] - other.found[c]) for c in shared), default=None)
            for other in contenders
            if other is not contender
            for shared in [contender.found.keys() & other.found.keys()]
        }
        rows.append(
            {
                "contender": contender.name,
                "positions": sum(turn.positions for turn in mine),
                "seconds": sum(turn.seconds for turn in mine),
                "positions_per_second": _rate(mine),
                "ratio": _rate(mine) / _rate(first),
                "median_ratio": statistics.median(
                    _rate([turn]) / _rate([base]) for turn, base in zip(mine, first, strict=True) if base.positions
                ),
                "rounds": [_rate([turn]) for turn in mine],
                "differences": differences,
                "error": max(
                    (abs(contender.found[c] - exact[c]) for c in exact.keys() & contender.found.keys()), default=None
                ),
            }
        )
    return rows


def planner_rows(ours: Sequence[Ours], workload: Workload, rates: Rates) -> list[dict[str, Any]]:
    """For a map of the whole grid, the seconds that the planner expects and those that the measured speed gives."""
    rows: list[dict[str, Any]] = []
    for contender in ours:
        estimate = contender.operator.estimate(workload, rates)
        rows.append(
            {
                "operator": contender.name,
                "settings": contender.operator.describe(workload),
                "estimated_seconds": estimate.seconds,
                "measured_seconds": workload.grid.size / _rate(contender.turns),
                "preparing_seconds": statistics.median(contender.preparing),
                "gflops": estimate.flops / 1e9,
            }
        )
    least = min(row["estimated_seconds"] for row in rows)
    for row in rows:
        row["chosen"] = row["estimated_seconds"] == least
    return rows


def _rate(turns: Sequence[Turn]) -> float:
    """Positions a second; 0 where nothing was computed."""
    positions = sum(turn.positions for turn in turns)
    return positions / sum(turn.seconds for turn in turns) if positions else 0.0


def describe_machine(device: str) -> dict[str, str]:
    """What the numbers depend on, asked of the machine that runs."""
    name = platform.processor() or platform.machine()
    information = Path("/proc/cpuinfo")
    if information.is_file():
        lines = [line for line in information.read_text().splitlines() if line.startswith("model name")]
        name = lines[0].split(":", 1)[1].strip() if lines else name
    machine = {"torch": torch.__version__, "threads": str(torch.get_num_threads()), "on": name}
    if device.startswith("cuda"):
        machine["with"] = torch.cuda.get_device_name(device)
    for package in (Captum.MODULE, Monai.MODULE):
        if importlib.util.find_spec(package):
            machine[package] = importlib.metadata.version(package)
    if hasattr(os, "getloadavg"):
        machine["load"] = f"{os.getloadavg()[0]:.1f}"
    machine["at"] = time.strftime("%Y-%m-%d %H:%M")
    return machine


def show(console: Console, result: dict[str, Any]) -> None:
    """Two tables: the contenders, and what the planner expected."""
    console.print(
        f"\n[bold]{result['model']}[/bold], input {result['size']}, patch {result['patch']}, "
        f"stride {result['stride']}, grid {result['grid'][0]} x {result['grid'][1]}, {result['rounds']} rounds. "
        f"Probability {result['base_probability']:.3f}, largest change {result['largest_drop']:.3f}. "
        f"Redundancy ratio of the bands measured {result['redundancy_measured']:.2f}, "
        f"of the grid {result['redundancy_grid']:.2f}."
    )
    rows = result["contenders"]
    table = Table()
    table.add_column("contender")
    first = rows[0]["contender"]
    for title in (
        "positions",
        "seconds",
        "positions/s",
        f"x {first}",
        "median round",
        f"from {first}",
        "from any",
        "from float64",
    ):
        table.add_column(title, justify="right")
    for row in rows:
        known = [difference for difference in row["differences"].values() if difference is not None]
        table.add_row(
            row["contender"],
            f"{row['positions']:,}",
            f"{row['seconds']:.2f}",
            f"{row['positions_per_second']:.2f}",
            f"{row['ratio']:.2f}",
            f"{row['median_ratio']:.2f}",
            "-" if row["differences"].get(first) is None else f"{row['differences'][first]:.1e}",
            f"{max(known):.1e}" if known else "-",
            "-" if row["error"] is None else f"{row['error']:.1e}",
        )
    console.print(table)
    table = Table()
    table.add_column("a whole map")
    table.add_column("settings")
    for title in ("estimated s", "measured s", "ratio", "GFLOP/s", "prepare s"):
        table.add_column(title, justify="right")
    for row in result["planner"]:
        table.add_row(
            row["operator"] + (" (chosen)" if row["chosen"] else ""),
            row["settings"],
            f"{row['estimated_seconds']:.1f}",
            f"{row['measured_seconds']:.1f}",
            f"{row['estimated_seconds'] / row['measured_seconds']:.2f}",
            f"{row['gflops'] / row['measured_seconds']:.0f}",
            f"{row['preparing_seconds']:.2f}",
        )
    console.print(table)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.exact", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", nargs="+", default=list(MODELS), help="torchvision architectures")
    parser.add_argument("--positions", type=int, default=256, help="about how many the slow contenders compute")
    parser.add_argument("--patch", type=int, default=16)
    parser.add_argument("--stride", type=int, default=4)
    parser.add_argument("--size", type=int, help="side of the input; 224, or 299 for inception_v3")
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:0")
    parser.add_argument("--threads", type=int, help="of torch on the CPU")
    parser.add_argument("--seed", type=int, default=0, help="of the random weights")
    parser.add_argument("--batch", type=int, help="positions a tile of incremental, as USING batch => n")
    parser.add_argument("--monai", action="store_true", help="run MONAI too")
    parser.add_argument("--json", type=Path, help="write all numbers here")
    options = parser.parse_args(arguments)
    if options.positions < 1 or options.stride < 1 or options.patch < options.stride or options.patch % options.stride:
        parser.error("--positions and --stride must be at least 1, and --patch a multiple of --stride (peers need it)")
    if options.monai and not importlib.util.find_spec(Monai.MODULE):
        parser.error("--monai needs MONAI: pip install 'kryptondb[bench]'")
    if options.device.startswith("cuda") and not torch.cuda.is_available():
        parser.error("--device cuda: this torch finds no CUDA device")
    return options


if __name__ == "__main__":
    sys.exit(main())
