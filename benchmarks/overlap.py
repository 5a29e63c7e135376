"""What preparing the next image ahead saves, on a folder of pictures, compared with one image after the other.

    python -m benchmarks.overlap --model resnet18 --images 12 --patch 32 --stride 16 --rounds 5

Both run the same plan over the same files, turn by turn; who begins changes every round, and answers are compared to
the bit. The ratio is the time without over the time with it, the median over all rounds. `--side` is that of the JPEG
files: large ones take long to decode. Weights are random: nothing is downloaded.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
from PIL import Image

from benchmarks.machine import describe_machine
from benchmarks.report import console
from benchmarks.subject import input_side, prepare
from kryptondb.catalog import Catalog, ModelStore
from kryptondb.catalog.settings import Settings
from kryptondb.executor import Execution
from kryptondb.executor.operators import OPERATORS
from kryptondb.grammar import parse
from kryptondb.grammar.statements import Select
from kryptondb.images.samples import sample_path
from kryptondb.optimizer import PhysicalPlan, plan
from kryptondb.optimizer.cost import Rates
from kryptondb.optimizer.nodes import PlanNode
from kryptondb.optimizer.physical import Occlude


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs all rounds, prints a line for each and the median. Exit status 1 where the answers differ."""
    options = _parse(arguments)
    out = console()
    out.print(", ".join(f"{name} {value}" for name, value in describe_machine(options.device).items()))
    subject = prepare(options.model, input_side(options.model), options.patch, options.stride, options.device, seed=0)
    with Catalog() as catalog, tempfile.TemporaryDirectory() as folder:
        _write_pictures(Path(folder), options.images, options.side)
        models, settings = ModelStore(catalog), Settings(catalog)
        settings.set("device", options.device)
        side = subject.network.input_shape[1]
        models.register("net", subject.module, size=(side, side), mean=(0.5,) * 3, std=(0.5,) * 3)
        statement = parse(
            f"SELECT image, y, x, score FROM occlude(net, '{folder}', patch => {options.patch}, "
            f"stride => {options.stride})"
        )
        assert isinstance(statement, Select)
        ahead = plan(
            statement, models=models, settings=settings, bindings={}, rates=lambda _: Rates(), operators=OPERATORS
        )
        assert ahead.occlude is not None and ahead.occlude.ahead, "not enough memory for a second base"
        out.print(f"{options.model}: {ahead.occlude.operator.name}, {ahead.occlude.description}")
        plans = {"one after the other": _without(ahead), "one ahead": ahead}
        answers = {name: timed(each, models)[1] for name, each in plans.items()}  # and everything is warm
        ratios = []
        for number in range(options.rounds):
            order = list(plans) if number % 2 else list(reversed(plans))
            seconds = {name: timed(plans[name], models)[0] for name in order}
            ratios.append(seconds["one after the other"] / seconds["one ahead"])
            times = ", ".join(f"{name} {seconds[name]:.2f} s" for name in plans)
            out.print(f"round {number + 1}: {times}, ratio {ratios[-1]:.3f}")
    same = answers["one ahead"].equals(answers["one after the other"])
    out.print(f"median ratio {statistics.median(ratios):.3f}, answers {'the same to the bit' if same else 'DIFFER'}")
    return int(not same)


def timed(chosen: PhysicalPlan, models: ModelStore) -> tuple[float, pa.Table]:
    """Seconds that a plan takes, and its rows."""
    began = time.perf_counter()
    run = Execution(chosen, models=models, bindings={})
    rows = list(run.batches())
    seconds = time.perf_counter() - began
    return seconds, pa.Table.from_batches(rows).replace_schema_metadata(None)


def _without(ahead: PhysicalPlan) -> PhysicalPlan:
    """The same plan, which takes one picture after the other."""

    def change(node: PlanNode) -> PlanNode:
        return replace(node, ahead=False) if isinstance(node, Occlude) else node

    return replace(ahead, root=ahead.root.transform(change))


def _write_pictures(folder: Path, count: int, side: int) -> None:
    """So many photographs, no two alike."""
    with Image.open(sample_path("astronaut")) as photograph:
        for number in range(count):
            turned = photograph.convert("RGB").rotate(number * 360 / count).resize((side, side))
            turned.save(folder / f"{number:04}.jpg", quality=92)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.overlap", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", default="resnet18", help="a torchvision architecture")
    parser.add_argument("--images", type=int, default=12)
    parser.add_argument("--side", type=int, default=1024, help="height and width of the files")
    parser.add_argument("--patch", type=int, default=32)
    parser.add_argument("--stride", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
