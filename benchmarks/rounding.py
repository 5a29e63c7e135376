"""What a reduced precision costs in SSIM and saves in time, on trained networks and their own pictures.

    python -m benchmarks.rounding --network lite0_photographs vgg16_mri --stride 16 --pictures 3

Three maps of each picture: the exact one; the same with what the patch changes rounded, beside a base in float32; and
one by a network that rounds everything it computes. Their SSIM is to the exact one, and all take turns.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

from benchmarks.asking import asking, timed_map
from benchmarks.course import Course
from benchmarks.networks import NETWORKS, RealNetwork
from benchmarks.report import Sheet, add_common_options
from kryptondb.executor.quality import ssim
from kryptondb.optimizer.workload import REDUCED_PRECISIONS


@dataclass(frozen=True)
class Rounded:
    """One network, over all pictures.

    Attributes:
        differences, everything: the median and the lowest SSIM of maps in which that is rounded.
        exact_seconds, differences_seconds, full_seconds: medians of a query; the last of every position through the
            whole network in the reduced precision.
    """

    network: str
    pictures: int
    differences: tuple[float, float]
    everything: tuple[float, float]
    exact_seconds: float
    differences_seconds: float
    full_seconds: float


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures every network and prints a row each."""
    arguments = sys.argv[1:] if arguments is None else arguments
    options = _parse(arguments)
    course = Course.begin("benchmarks.rounding", arguments, options)
    found = [measure(NETWORKS[name](), options) for name in options.network]
    course.end([sheet(found, options)], {"rows": [asdict(row) for row in found]})
    return 0


def measure(network: RealNetwork, options: argparse.Namespace) -> Rounded:
    """The three maps of each of a network's unseen pictures."""
    heat_map = f"SELECT HEATMAP FROM occlude(net, ?, patch => {options.patch}, stride => {options.stride})"
    reduced = f"{heat_map} USING precision => '{options.precision}', operator => "
    queries = (heat_map, f"{reduced}'incremental'", f"{reduced}'full'")
    maps: list[list[np.ndarray]] = [[] for _ in queries]
    seconds: list[list[float]] = [[] for _ in queries]
    pictures = network.unseen[: options.pictures]
    with asking(network, options) as db:
        for query in queries:
            db.sql(query, [pictures[0]]).heatmaps()  # what only the first call pays
        for picture in pictures:
            for place, query in enumerate(queries):
                heat_map, took = timed_map(db, query, picture)
                maps[place].append(heat_map)
                seconds[place].append(took)
    alike = [[ssim(*pair) for pair in zip(maps[0], near, strict=True)] for near in maps[1:]]
    spread = [(statistics.median(each), min(each)) for each in alike]
    return Rounded(network.name, len(pictures), *spread, *map(statistics.median, seconds))


def sheet(found: Sequence[Rounded], options: argparse.Namespace) -> Sheet:
    """A row per network."""
    title = (
        f"Patch {options.patch}, stride {options.stride}, {options.precision}. SSIM to the exact map, median and "
        "worst, where what the patch changes is rounded, and where everything is. Seconds are a query's."
    )
    columns = (
        *("<network", "pictures", "differences", "worst", "everything", "worst", "exact", "differences", "x exact"),
        *("full, everything", "x"),
    )
    return Sheet(title, columns, [_row(each) for each in found])


def _row(each: Rounded) -> list[str]:
    likeness = [f"{number:.4f}" for number in (*each.differences, *each.everything)]
    exact, differences, full = each.exact_seconds, each.differences_seconds, each.full_seconds
    seconds = [f"{exact:.2f}", f"{differences:.2f}", f"{exact / differences:.1f}", f"{full:.2f}", f"{exact / full:.1f}"]
    return [each.network, str(each.pictures), *likeness, *seconds]


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.rounding", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--network", nargs="+", choices=list(NETWORKS), default=list(NETWORKS))
    parser.add_argument("--precision", choices=REDUCED_PRECISIONS, default="bfloat16")
    parser.add_argument("--patch", type=int, default=16)
    parser.add_argument("--stride", type=int, default=16)
    parser.add_argument("--pictures", type=int, default=5)
    add_common_options(parser)
    options = parser.parse_args(arguments)
    if min(options.patch, options.stride, options.pictures) < 1:
        parser.error("--patch, --stride and --pictures must be at least 1")
    return options


if __name__ == "__main__":
    sys.exit(main())
