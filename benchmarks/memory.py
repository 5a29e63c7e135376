"""Whether queries keep to their memory: peak resident memory compared with its estimate, at several limits.

    python -m benchmarks.memory --model vgg16 resnet18 --limit 1 4 16

Every case is a process of its own: one model, one operator, one memory limit in GiB. It runs the picture's base and its
tiles until `--seconds` are up, the largest tiles first, and compares the peak of its resident memory (beyond what it
held with the network loaded; pages of files not counted) with what EXPLAIN says. Exit status 1 when a peak is more than
15% above its estimate, or an estimate above the limit. Weights are random: nothing is downloaded.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

import kryptondb

ROOT = Path(kryptondb.__file__).parents[1]
ALLOWED = 1.15
_SIZES = {"inception_v3": 299}


@dataclass(frozen=True)
class Peak:
    """One case and its memory, in bytes; `positions` of `total` were computed."""

    model: str
    operator: str
    limit: int
    plan: str
    estimated: int
    measured: int
    positions: int
    total: int

    @property
    def ratio(self) -> float:
        """Measured over estimated."""
        return self.measured / self.estimated

    @property
    def verdict(self) -> str:
        """`ok`, or what is wrong."""
        if self.estimated > self.limit:
            return "no plan fits"
        return "ok" if self.ratio <= ALLOWED else "above"


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs every case, prints a table, and writes it as JSON where asked."""
    options = _parse(arguments)
    if options.case:
        print(json.dumps(asdict(measure(options.model[0], options.operator[0], options.limit[0], options))))
        return 0
    peaks = [
        _in_a_process(model, operator, limit, options)
        for model in options.model
        for operator in options.operator
        for limit in options.limit
    ]
    show(Console(width=None if sys.stdout.isatty() else 130, highlight=False), peaks)
    if options.json:
        rows = [{**asdict(peak), "ratio": peak.ratio, "verdict": peak.verdict} for peak in peaks]
        options.json.write_text(json.dumps(rows, indent=2) + "\n")
    return int(any(peak.verdict != "ok" for peak in peaks))


def measure(name: str, operator: str, limit: float, options: argparse.Namespace) -> Peak:
    """Plans and runs one case in this process."""
    from benchmarks.subject import prepare
    from kryptondb.executor.operators import OPERATORS
    from kryptondb.executor.runner import ModelRunner
    from kryptondb.optimizer.cost import Rates
    from kryptondb.optimizer.workload import Workload
    from kryptondb.process.memory import MemoryMeter, keeping_freed_memory, release_free_memory

    subject = prepare(name, options.size or _SIZES.get(name, 224), options.patch, options.stride, "cpu", seed=0)
    workload = Workload(subject.network, subject.grid, None, 1, "cpu", int(limit * 2**30))
    kind = next(each for each in OPERATORS if each.name == operator)
    (chosen,) = kind.candidates(workload, Rates(), {})
    estimated = chosen.estimate(workload, Rates()).within(workload.memory_limit).memory
    runner = ModelRunner(subject.experiment(), subject.model, subject.network, chosen, "cpu", memory=estimated)
    release_free_memory()
    meter, began, positions = MemoryMeter(), time.monotonic(), 0
    with keeping_freed_memory():
        meter.begin()
        for scores in runner.run(subject.picture):
            positions += len(scores.rows)
            meter.sample()
            if time.monotonic() - began > options.seconds:
                break
    assert meter.query_peak is not None, "the system does not report how much memory a process holds"
    total, plan = subject.grid.rows * subject.grid.cols, chosen.describe(workload)
    return Peak(name, operator, workload.memory_limit, plan, estimated, meter.query_peak, positions, total)


def show(console: Console, peaks: Sequence[Peak]) -> None:
    """One row per case."""
    table = Table()
    for title in ("limit", "model", "plan"):
        table.add_column(title)
    for title in ("estimate", "measured", "ratio", "positions", "verdict"):
        table.add_column(title, justify="right")
    for peak in peaks:
        table.add_row(
            f"{peak.limit / 2**30:g} GiB", peak.model, f"{peak.operator}: {peak.plan}",
            f"{peak.estimated / 1e6:,.0f} MB", f"{peak.measured / 1e6:,.0f} MB", f"{peak.ratio:.2f}",
            f"{peak.positions:,} of {peak.total:,}", peak.verdict,
        )  # fmt: skip
    console.print(table)


def _in_a_process(model: str, operator: str, limit: float, options: argparse.Namespace) -> Peak:
    case: list[Any] = ["--case", "--model", model, "--operator", operator, "--limit", limit]
    for name in ("patch", "stride", "seconds"):
        case += [f"--{name}", getattr(options, name)]
    if options.size:
        case += ["--size", options.size]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.memory", *map(str, case)],
        env=environment, check=True, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    peak = Peak(**json.loads(done.stdout.splitlines()[-1]))
    print(f"{peak.model} {peak.operator} {limit:g} GiB: {peak.ratio:.2f}", file=sys.stderr, flush=True)
    return peak


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.memory", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", nargs="+", default=["vgg16", "resnet18"], help="torchvision architectures")
    parser.add_argument("--operator", nargs="+", default=["incremental", "full"], choices=["incremental", "full"])
    parser.add_argument("--limit", nargs="+", type=float, default=[1.0, 4.0, 16.0], help="memory limits in GiB")
    parser.add_argument("--size", type=int, help="side of the input; the architecture's own by default")
    parser.add_argument("--patch", type=int, default=16)
    parser.add_argument("--stride", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=120.0, help="stop a case after so long")
    parser.add_argument("--json", type=Path, help="write all numbers here")
    parser.add_argument("--case", action="store_true", help=argparse.SUPPRESS)  # one case, in this process
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
