"""Where the time of one query goes: every layer of `incremental`, and the least time that it could take.

    python -m benchmarks.breakdown --model vgg16 --patch 16 --stride 4

Plans a heat map as a query does, runs some whole rows of its tiles, and times every node of the network in them. A
layer's bound is what its operations take at the ceiling that was measured in the same run: those of direct convolution
at the higher of convolution's and a matrix product's, or, where a layer is computed by Winograd's method, those of its
products, if that is less. Layers whose work is moving memory do few operations; their bound says little.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import torch

from benchmarks.calibration import Calibration
from benchmarks.ceiling import best, measure_ceiling
from benchmarks.contenders import Ours
from benchmarks.layers import ELEMENT_BYTES, Layer, layers_of
from benchmarks.machine import describe_machine
from benchmarks.report import (
    Sheet,
    add_common_options,
    command_line,
    console,
    refuse_missing_device,
    show,
    write_section,
)
from benchmarks.rounds import bands_of, representatives
from benchmarks.stopwatch import Stopwatch, watched
from benchmarks.subject import Subject, input_side, prepare
from kryptondb.catalog.settings import free_memory
from kryptondb.executor.operators import Full, Incremental
from kryptondb.executor.tiles.costs import whole_seconds
from kryptondb.executor.tiles.tilings import tiling_of
from kryptondb.optimizer.cost import Rates
from kryptondb.optimizer.workload import Runs, Workload

SMALLEST = 0.005  # of the time of all layers; those below it share a line


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures one query, prints its tables, and writes them where asked."""
    arguments = sys.argv[1:] if arguments is None else arguments
    options = _parse(arguments)
    if options.threads:
        torch.set_num_threads(options.threads)
    torch.backends.cudnn.allow_tf32 = False
    out = console()
    machine = describe_machine(options.device)
    out.print(", ".join(f"{name} {value}" for name, value in machine.items()))
    size = options.size or input_side(options.model)
    subject = prepare(options.model, size, options.patch, options.stride, options.device, options.seed)
    if not Incremental.candidates(Workload(subject.network, subject.grid, None, 1, options.device, 0), Rates(), {}):
        out.print(f"{options.model} only runs as a whole: there are no layers to tell apart")
        return 1
    result = breakdown(subject, options)
    sheets = [layers_sheet(result), totals_sheet(result)]
    for sheet in sheets:
        show(out, sheet)
    if options.json:
        options.json.write_text(json.dumps({"machine": machine, "result": result}, indent=2) + "\n")
    if options.markdown:
        write_section(options.markdown, command_line("benchmarks.breakdown", arguments), machine, sheets)
    return 0


def breakdown(subject: Subject, options: argparse.Namespace) -> dict[str, Any]:
    """Measures where the time goes; the result is plain data."""
    network, grid = subject.network, subject.grid
    before, general = measure_ceiling(options.device)
    calibration = Calibration(options.device, options.calibration)
    rates = calibration.rates(general, network)
    memory = free_memory() // 2

    def workload(runs: Runs | None = None) -> Workload:
        return Workload(network, grid, runs, 1, options.device, memory)

    plan = Incremental.candidates(workload(), rates, {"convolution": "direct"} if options.direct else {})[0]
    full = Full.candidates(workload(), rates, {})[0]
    bands = bands_of(grid, plan.tile)
    costs = [1 / plan.redundancy(workload(band))[0] for band in bands]
    chosen = [bands[number] for number in representatives(costs, min(options.rows, len(bands)))]
    Ours(subject, plan, whole_bands=True).compute(chosen[0])  # what only the first call pays
    seconds, stopwatch = min((_run(subject, plan, chosen) for _ in range(options.runs)), key=lambda run: run[0])
    ceiling = best([before, measure_ceiling(options.device)[0]])

    tilings = [tiling_of(network, grid, workload(band).cells, plan.tile, plan.uniform) for band in chosen]
    positions = sum(int(tiling.total(tiling.positions)) for tiling in tilings)
    whole = tiling_of(network, grid, workload().cells, plan.tile, plan.uniform)
    layers = layers_of(plan, whole, tilings, stopwatch.nodes, ceiling, rates, workload().fusions)
    base = whole_seconds(network, 1, rates, ELEMENT_BYTES, workload().fusions)
    expected = sum(plan.estimate(workload(band), rates).seconds - base for band in chosen) / positions
    return {
        "model": subject.model.name,
        "size": grid.height,
        "patch": grid.patch[0],
        "stride": grid.stride[0],
        "grid": [grid.rows, grid.cols],
        "plan": plan.describe(workload()),
        "estimated_seconds": plan.estimate(workload(), rates).seconds,
        "full_estimated_seconds": full.estimate(workload(), rates).seconds,
        "rows_of_tiles": [len(chosen), len(bands)],
        "positions": positions,
        "calibration": str(calibration),
        "ceiling": asdict(ceiling),
        "layers": [asdict(layer) for layer in layers],
        "parts": _parts(layers, stopwatch, (seconds / positions, expected), base, positions, grid.size),
    }


def _run(subject: Subject, plan: Incremental, bands: Sequence[Runs]) -> tuple[float, Stopwatch]:
    """Runs the bands one after the other; the seconds of their tiles, and where these went."""
    stopwatch = Stopwatch(subject.device)
    contender = Ours(subject, watched(plan, stopwatch), whole_bands=True)
    return sum(contender.compute(band).seconds for band in bands), stopwatch


def _parts(
    layers: Sequence[Layer], stopwatch: Stopwatch, each: tuple[float, float], base: float, positions: int, cells: int
) -> list[dict[str, Any]]:
    """A whole map's seconds by what they are spent on, measured and estimated; the last is everything.

    Args:
        each: seconds per position of everything but the base, measured and estimated.
        base: the base's seconds, estimated.
    """
    parts = [("base, once per image", statistics.median(stopwatch.bases), base, 0.0)]
    for name, in_head in (("layers, tile by tile", False), ("head, several tiles together", True)):
        some = [layer for layer in layers if layer.in_head is in_head]
        sums = (sum(values) for values in zip(*((a.seconds, a.estimate, a.bound) for a in some), strict=True))
        measured, estimated, bound = (total * cells for total in sums) if some else (0.0, 0.0, 0.0)
        parts.append((name, measured, estimated, bound))
    parts.append(("painting patches", stopwatch.painting / positions * cells, 0.0, 0.0))
    parts.append(("reading scores", stopwatch.reading / positions * cells, 0.0, 0.0))
    rest = [total * cells - sum(part[place] for part in parts[1:]) for place, total in enumerate(each, start=1)]  # type: ignore[misc]
    parts.append(("in between: geometry; estimated: weights read, operators launched", rest[0], rest[1], 0.0))
    parts.append(("everything", sum(p[1] for p in parts), sum(p[2] for p in parts), sum(p[3] for p in parts)))
    return [
        {"part": name, "seconds": measured, "estimated_seconds": estimated, "bound_seconds": bound}
        for name, measured, estimated, bound in parts
    ]


def layers_sheet(result: dict[str, Any]) -> Sheet:
    """A line per layer that takes its time, and one for all others."""
    layers = result["layers"]
    total = sum(layer["seconds"] for layer in layers)
    large = [layer for layer in layers if layer["seconds"] >= SMALLEST * total]
    small = [layer for layer in layers if layer["seconds"] < SMALLEST * total]
    rows = [_line(layer, total) for layer in large]
    for name, some in ((f"{len(small)} others", small), (f"all {len(layers)}", layers)):
        sums = {key: sum(layer[key] for layer in some) for key in ("operations", "seconds", "bound", "estimate")}
        blank = dict.fromkeys(("operator", "shape", "algorithm", "region"), "")
        if some:
            rows.append(_line({"name": name, **blank, **sums}, total))
    ceiling = result["ceiling"]
    title = (
        f"{result['model']}, input {result['size']}, patch {result['patch']}, stride {result['stride']}, "
        f"grid {result['grid'][0]} x {result['grid'][1]}. incremental: {result['plan']}; {result['calibration']}. "
        f"{result['rows_of_tiles'][0]} of {result['rows_of_tiles'][1]} rows of tiles ran, {result['positions']} "
        f"positions. Ceilings: convolution {ceiling['convolution'] / 1e9:.0f} GFLOP/s, matrix product "
        f"{ceiling['product'] / 1e9:.0f}. Milliseconds and GFLOP are a position's, regions the middle tile's, planned "
        "is what the planner expects."
    )
    columns = (
        "<layer",
        "<operator",
        "<shape",
        "<algorithm",
        "<region",
        "GFLOP",
        "ms",
        "bound ms",
        "of bound",
        "of total",
        "planned ms",
        "planned / ms",
    )
    return Sheet(title, columns, rows)


def _line(layer: dict[str, Any], total: float) -> list[str]:
    seconds = layer["seconds"]
    known = layer["operations"] > 0 and seconds > 0
    return [
        *(layer[key] for key in ("name", "operator", "shape", "algorithm", "region")),
        f"{layer['operations'] / 1e9:.3f}" if layer["operations"] else "",
        f"{1e3 * seconds:.3f}",
        f"{1e3 * layer['bound']:.3f}" if known else "",
        f"{100 * layer['bound'] / seconds:.0f}%" if known else "",
        f"{100 * seconds / total:.1f}%",
        f"{1e3 * layer['estimate']:.3f}",
        f"{layer['estimate'] / seconds:.2f}" if seconds else "",
    ]


def totals_sheet(result: dict[str, Any]) -> Sheet:
    """A whole map's time by what it is spent on."""
    parts = result["parts"]
    total = parts[-1]["seconds"]
    cells = result["grid"][0] * result["grid"][1]
    cheaper = "incremental" if result["estimated_seconds"] <= result["full_estimated_seconds"] else "full"
    title = (
        f"A whole map of {cells:,} positions: {total:.1f} s, {cells / total:.2f} positions per second with a stopwatch "
        f"on every node. The planner expects {result['estimated_seconds']:.1f} s of incremental and "
        f"{result['full_estimated_seconds']:.1f} s of full, and would take {cheaper}."
    )
    rows = [
        [
            part["part"],
            f"{part['seconds']:.2f}",
            f"{100 * part['seconds'] / total:.1f}%",
            f"{part['bound_seconds']:.2f}" if part["bound_seconds"] else "",
            f"{part['estimated_seconds']:.2f}" if part["estimated_seconds"] else "",
        ]
        for part in parts
    ]
    return Sheet(title, ("<part", "s", "of total", "bound s", "estimated s"), rows)


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    summary = (__doc__ or "").splitlines()[0]
    parser = argparse.ArgumentParser(prog="python -m benchmarks.breakdown", description=summary)
    parser.add_argument("--model", default="vgg16", help="a torchvision architecture")
    parser.add_argument("--patch", type=int, default=16)
    parser.add_argument("--stride", type=int, default=4)
    parser.add_argument("--rows", type=int, default=2, help="how many rows of tiles run, drawn to stand for all")
    parser.add_argument("--runs", type=int, default=2, help="of all of them; the fastest counts")
    parser.add_argument("--direct", action="store_true", help="leave every convolution to torch")
    add_common_options(parser)
    options = parser.parse_args(arguments)
    if min(options.patch, options.stride, options.rows, options.runs) < 1:
        parser.error("--patch, --stride, --rows and --runs must be at least 1")
    refuse_missing_device(parser, options.device)
    return options


if __name__ == "__main__":
    sys.exit(main())
