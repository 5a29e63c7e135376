"""How fast exact occlusion maps are: Captum, plain batches, `full` and `incremental` in one run, round and round.

    python -m benchmarks.exact --model vgg16 resnet18 --patch 8 16 32 --stride 4 8 --positions 256
    python -m benchmarks.exact --device cuda --batches 16 64 256 --positions 2809 --markdown

Weights are random, so nothing is downloaded; how long a map takes does not depend on them. The contenders take turns
round by round (see `benchmarks.rounds`), and who begins moves on each time: a machine that slows down does so for all.
Every model, patch and stride is a case of its own; the last table has a row for each. `--markdown` keeps the tables in
`benchmarks/RESULTS.md`.
"""

from __future__ import annotations

import argparse
import importlib.util
import itertools
import json
import statistics
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

import torch

from benchmarks.batches import largest_tile, of_batches
from benchmarks.calibration import Calibration
from benchmarks.ceiling import Ceiling, best, measure_ceiling
from benchmarks.contenders import Captum, Cells, Contender, Monai, Ours, Plain, Turn, complete, race, reference
from benchmarks.machine import describe_machine
from benchmarks.report import add_common_options, command_line, console, refuse_missing_device, show, write_section
from benchmarks.rounds import plan_rounds
from benchmarks.sheets import contenders_sheet, planner_sheet, summary_sheet
from benchmarks.subject import Subject, input_side, prepare
from kryptondb.catalog.settings import free_memory
from kryptondb.executor.operators import Full, Incremental
from kryptondb.network import Grid
from kryptondb.optimizer.cost import Rates
from kryptondb.optimizer.workload import Runs, Workload

ALL_MODELS = (
    "vgg16",
    "resnet18",
    "inception_v3",
    "resnet50",
    "densenet121",
    "mobilenet_v2",
    "efficientnet_b0",
    "squeezenet1_0",
)
MODELS = ("vgg16", "resnet18", "inception_v3", "resnet50", "mobilenet_v2")
SLOWER = 4  # Captum with one position at a time computes this many times fewer
CLOSE = 1.1  # the planner's choice may take so much of the faster operator's time


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs every case, prints its tables, and writes them where asked, anew after each case."""
    arguments = sys.argv[1:] if arguments is None else arguments
    options = _parse(arguments)
    if options.threads:
        torch.set_num_threads(options.threads)
    torch.backends.cudnn.allow_tf32 = False  # float32 means float32, for everyone
    torch.backends.cuda.matmul.allow_tf32 = False
    out = console()
    machine = describe_machine(options.device)
    out.print(", ".join(f"{name} {value}" for name, value in machine.items()))
    calibration = Calibration(options.device, options.calibration)
    results: list[dict[str, Any]] = []
    for name in options.model:
        size = options.size or input_side(name)
        subject = prepare(name, size, options.patch[0], options.stride[0], options.device, options.seed)
        for patch, stride in itertools.product(options.patch, options.stride):
            grid = Grid(size, size, (patch, patch), (stride, stride))
            result = benchmark(replace(subject, grid=grid), options, calibration)
            results.append(result)
            for sheet in (contenders_sheet(result), planner_sheet(result)):
                show(out, sheet)
            _write(options, command_line("benchmarks.exact", arguments), machine, results)
    if len(results) > 1:
        show(out, summary_sheet(results))
    return 0


def _write(options: argparse.Namespace, command: str, machine: dict[str, str], results: list[dict[str, Any]]) -> None:
    if options.json:
        options.json.write_text(json.dumps({"machine": machine, "results": results}, indent=2) + "\n")
    if options.markdown:
        cases = [sheet for result in results for sheet in (contenders_sheet(result), planner_sheet(result))]
        write_section(options.markdown, command, machine, [summary_sheet(results), *([] if options.brief else cases)])


def benchmark(subject: Subject, options: argparse.Namespace, calibration: Calibration) -> dict[str, Any]:
    """Measures one case; the result is plain data."""
    grid = subject.grid
    before, general = measure_ceiling(options.device)
    rates = calibration.rates(general, subject.network)
    memory = free_memory() // 2

    def workload(runs: Runs | None = None) -> Workload:
        return Workload(subject.network, grid, runs, 1, options.device, memory)

    hints = {"batch": options.batch} if options.batch else {}
    full = Ours(subject, Full.candidates(workload(), rates, {})[0], whole_bands=False)
    plan = next(iter(Incremental.candidates(workload(), rates, hints)), None)
    tiled = [Ours(subject, plan, whole_bands=True)] if plan else []
    direct = _left_to_torch(plan, workload(), rates) if plan and options.direct else None
    variants = [Ours(subject, direct, whole_bands=True, variant="direct")] if direct else []
    variants += of_batches(subject, workload(), rates, options.batches)

    def cost(runs: Runs) -> float:
        return 1 / plan.redundancy(workload(runs))[0] if plan else 1.0

    rounds = plan_rounds(grid, largest_tile([*tiled, *variants]), min(options.positions, grid.size), cost)
    everyone = [*_peers(subject, options, len(rounds)), full, *tiled, *variants]
    for contender in everyone:
        contender.warm()
    race(everyone, rounds)
    ceiling = best([before, measure_ceiling(options.device)[0]])
    if tiled:
        complete(tiled[0], everyone)
    exact = reference(subject, [contender for contender in everyone if not isinstance(contender, Ours)])
    planner = planner_rows([full, *tiled], variants, workload(), rates)
    return {
        "model": subject.model.name,
        "size": grid.height,
        "patch": grid.patch[0],
        "stride": grid.stride[0],
        "grid": [grid.rows, grid.cols],
        "rounds": len(rounds),
        "base_probability": subject.base,
        "largest_drop": max(abs(subject.base - p) for p in [full, *tiled][-1].found.values()),
        "redundancy_measured": _redundancy(tiled[0].turns, subject) if tiled else 1.0,
        "redundancy_grid": plan.redundancy(workload())[0] if plan else 1.0,
        "contenders": rows_of(everyone, exact, ceiling),
        "planner": planner,
        "choice": choice_of(planner),
        "ceiling": asdict(ceiling),
        "calibration": str(calibration),
        "rates": asdict(rates),
    }


def _peers(subject: Subject, options: argparse.Namespace, rounds: int) -> list[Contender]:
    """Those that run whole inferences; all ratios are to the first."""
    positions = min(options.positions, subject.grid.size)
    peers: list[Contender] = []
    if importlib.util.find_spec(Captum.MODULE):
        peers.append(Captum(subject, rounds, positions))
    if options.captum_one:
        peers.append(Captum(subject, rounds, -(-positions // SLOWER), batch=1, variant="by one"))
    if options.monai:
        peers.append(Monai(subject))
    return [*peers, Plain(subject)]


def _left_to_torch(plan: Incremental, workload: Workload, rates: Rates) -> Incremental | None:
    """The same tiles with every convolution left to torch; None where the plan leaves them to it anyway."""
    hints = {"batch": plan.tile[0] * plan.tile[1], "convolution": "direct"}
    direct = replace(Incremental.candidates(workload, rates, hints)[0], tile=plan.tile)
    return direct if direct != plan else None


def rows_of(contenders: Sequence[Contender], exact: Cells, ceiling: Ceiling) -> list[dict[str, Any]]:
    """One row per contender: what it did, how fast over the first, how far from the others and from float64."""
    rows = []
    first = contenders[0].turns
    for contender in contenders:
        mine = contender.turns
        seconds = sum(turn.seconds for turn in mine)
        reached = sum(turn.operations for turn in mine) / seconds
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
                "seconds": seconds,
                "positions_per_second": _rate(mine),
                "ratio": _rate(mine) / _rate(first),
                "median_ratio": statistics.median(
                    _rate([turn]) / _rate([base]) for turn, base in zip(mine, first, strict=True) if base.positions
                ),
                "rounds": [_rate([turn]) for turn in mine],
                "operations_per_second": reached,
                "share": reached / ceiling.direct,
                "differences": differences,
                "error": max(
                    (abs(contender.found[c] - exact[c]) for c in exact.keys() & contender.found.keys()), default=None
                ),
            }
        )
    return rows


def planner_rows(
    candidates: Sequence[Ours], variants: Sequence[Ours], workload: Workload, rates: Rates
) -> list[dict[str, Any]]:
    """For a map of the whole grid, the seconds that the planner expects and those that the measured speed gives.

    Args:
        candidates: what it chooses from; variants: what it is only asked about.
    """
    estimates = {each: each.operator.estimate(workload, rates) for each in (*candidates, *variants)}
    fitting = [each for each in candidates if estimates[each].memory <= workload.memory_limit] or candidates
    chosen = min(fitting, key=lambda each: estimates[each].seconds)
    return [
        {
            "operator": contender.name,
            "settings": contender.operator.describe(workload),
            "estimated_seconds": estimate.seconds,
            "measured_seconds": workload.grid.size / _rate(contender.turns),
            "preparing_seconds": statistics.median(contender.preparing),
            "gflops": estimate.flops / 1e9,
            "candidate": contender in candidates,
            "chosen": contender is chosen,
        }
        for contender, estimate in estimates.items()
    ]


def choice_of(planner: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What the planner chose, and how it compares with the fastest of what it chose from."""
    chosen = next(row for row in planner if row["chosen"])
    fastest = min(row["measured_seconds"] for row in planner if row["candidate"])
    over = chosen["measured_seconds"] / fastest
    return {"operator": chosen["operator"], "over_fastest": over, "within_10_percent": over <= CLOSE}


def _rate(turns: Sequence[Turn]) -> float:
    """Positions per second; 0 where nothing was computed."""
    positions = sum(turn.positions for turn in turns)
    return positions / sum(turn.seconds for turn in turns) if positions else 0.0


def _redundancy(turns: Sequence[Turn], subject: Subject) -> float:
    """The operations that whole inferences would have taken, over those done."""
    whole = subject.network.flops * sum(turn.positions for turn in turns)
    return whole / max(1.0, sum(turn.operations for turn in turns))


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.exact", description=(__doc__ or "").splitlines()[0])
    models = f"torchvision architectures, or 'all' for {', '.join(ALL_MODELS)}"
    parser.add_argument("--model", nargs="+", default=list(MODELS), help=models)
    parser.add_argument("--positions", type=int, default=256, help="about how many the slow contenders compute")
    parser.add_argument("--patch", type=int, nargs="+", default=[16], help="one or more: each is a case")
    parser.add_argument("--stride", type=int, nargs="+", default=[4], help="one or more: each is a case")
    parser.add_argument("--batch", type=int, help="positions per tile of incremental, as USING batch => n")
    parser.add_argument(
        "--batches",
        type=int,
        nargs="+",
        default=[],
        help="also run full and incremental with n positions at once, on CUDA with graphs and without",
    )
    parser.add_argument("--captum-one", action="store_true", help="run Captum with one position at a time too")
    parser.add_argument("--monai", action="store_true", help="run MONAI too")
    parser.add_argument("--direct", action="store_true", help="run incremental with all convolutions left to torch too")
    parser.add_argument("--brief", action="store_true", help="write one row per case to Markdown, no table of its own")
    add_common_options(parser)
    options = parser.parse_args(arguments)
    if options.model == ["all"]:
        options.model = list(ALL_MODELS)
    pairs = itertools.product(options.patch, options.stride)
    if options.positions < 1 or any(stride < 1 or patch < stride or patch % stride for patch, stride in pairs):
        parser.error("--positions and --stride must be at least 1, and --patch a multiple of --stride (peers need it)")
    if any(batch < 1 for batch in options.batches):
        parser.error("--batches must be at least 1")
    if options.monai and not importlib.util.find_spec(Monai.MODULE):
        parser.error("--monai needs MONAI: pip install 'kryptondb[bench]'")
    if options.captum_one and not importlib.util.find_spec(Captum.MODULE):
        parser.error("--captum-one needs Captum: pip install 'kryptondb[bench]'")
    refuse_missing_device(parser, options.device)
    return options


if __name__ == "__main__":
    sys.exit(main())
