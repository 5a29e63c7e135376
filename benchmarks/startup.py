"""How long it takes from process start to the first cell, compared with `import torch` alone.

    python -m benchmarks.startup --model resnet18 --runs 5

Every measurement is a process of its own, from its start to its end. They take turns round by round, so that a machine
that slows down does so for all; the table has their medians. `cold` is the first query of a model whose network is not
kept yet, `warm` the first query of a process that finds it beside the database. Weights are random: nothing is
downloaded.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

import kryptondb

ROOT = Path(kryptondb.__file__).parents[1]
BASELINE = "import torch"


@dataclass(frozen=True)
class Start:
    """One way to start a process: its name, its arguments behind `python`, and what is done before it, not measured."""

    name: str
    arguments: tuple[str, ...]
    before: Callable[[], None] = lambda: None

    def seconds(self) -> float:
        """Starts the process once and waits for its end."""
        self.before()
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
        began = time.perf_counter()
        subprocess.run(
            [sys.executable, *self.arguments], env=environment, check=True, stdout=subprocess.DEVNULL, timeout=600
        )
        return time.perf_counter() - began


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the benchmark, prints its table, and writes it as JSON where asked."""
    options = _parse(arguments)
    with tempfile.TemporaryDirectory() as folder:
        starts = prepare(Path(folder), options.model, options.size)
        for start in starts:
            start.seconds()  # files into the page cache, rates into the catalog, the network beside it
        runs: dict[str, list[float]] = {start.name: [] for start in starts}
        for _ in range(options.runs):
            for start in starts:
                runs[start.name].append(start.seconds())
    rows = rows_of(runs)
    show(Console(width=None if sys.stdout.isatty() else 120, highlight=False), options, rows)
    if options.json:
        options.json.write_text(json.dumps({"model": options.model, "runs": runs, "rows": rows}, indent=2) + "\n")
    return 0


def prepare(folder: Path, model: str, size: int | None) -> list[Start]:
    """A database with a model in it, and the ways to start."""
    database = folder / "startup.krypton"
    networks = folder / "startup.krypton-networks"
    sized = "" if size is None else f", size => {size}"
    with kryptondb.connect(database) as session:
        session.sql(f"CREATE MODEL net FROM torchvision('{model}') WITH (weights => 'random'{sized})")
    query = "SELECT image, y, x, drop FROM occlude(net, 'sample:cat') LIMIT 1"
    ask = ("-m", "kryptondb", str(database), "-c", query)
    return [
        Start(BASELINE, ("-c", "import torch")),
        Start("kryptondb --version", ("-m", "kryptondb", "--version")),
        Start("first cell, cold", ask, lambda: shutil.rmtree(networks, ignore_errors=True)),
        Start("first cell, warm", ask),  # finds what the one before it kept
    ]


def rows_of(runs: dict[str, list[float]]) -> list[dict[str, Any]]:
    """One row a start: its median, its fastest and slowest run, and how much more than `import torch` it takes."""
    base = statistics.median(runs[BASELINE])
    return [
        {
            "start": name,
            "seconds": statistics.median(seconds),
            "fastest": min(seconds),
            "slowest": max(seconds),
            "more_than_torch": statistics.median(seconds) - base,
        }
        for name, seconds in runs.items()
    ]


def show(console: Console, options: argparse.Namespace, rows: Sequence[dict[str, Any]]) -> None:
    """The table, under a line that says what was measured."""
    console.print(f"[bold]{options.model}[/bold], {options.runs} runs each, seconds from process start to process end")
    table = Table()
    table.add_column("start")
    for title in ("median s", "fastest", "slowest", f"more than {BASELINE}"):
        table.add_column(title, justify="right")
    for row in rows:
        numbers = (f"{row[key]:.2f}" for key in ("seconds", "fastest", "slowest"))
        more = "-" if row["start"] == BASELINE else f"{row['more_than_torch']:+.2f}"
        table.add_row(row["start"], *numbers, more)
    console.print(table)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.startup", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", default="resnet18", help="a torchvision architecture")
    parser.add_argument("--size", type=int, help="side of the input; the architecture's own by default")
    parser.add_argument("--runs", type=int, default=5, help="of each start")
    parser.add_argument("--json", type=Path, help="write all numbers here")
    options = parser.parse_args(arguments)
    if options.runs < 1:
        parser.error("--runs must be at least 1")
    return options


if __name__ == "__main__":
    sys.exit(main())
