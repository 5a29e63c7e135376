"""Whether promises of SSIM are kept on images that the tuning never saw, and what they buy.

    python -m benchmarks.promise --network vgg16_mri lite0_photographs --stride 8 --target 0.8 0.9 0.95

ANALYZE measures a network's tuning images. Then the others are asked about, exactly and with `WITH SSIM >= target`,
and the two maps are compared. Captum's pace (perturbations_per_eval=16) is measured on some positions of the first of
them, in the same run. `python -m benchmarks.networks` lists the networks. With `--profiles FILE` a run that was stopped
goes on with the tuning images that are missing.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

import kryptondb
from benchmarks.asking import asking, timed_map
from benchmarks.contenders import Captum
from benchmarks.course import Course
from benchmarks.networks import NETWORKS, RealNetwork
from benchmarks.report import Sheet, add_common_options
from benchmarks.rounds import plan_rounds
from benchmarks.subject import of_network
from kryptondb.executor.quality import ssim

CAPTUM_POSITIONS = 48


@dataclass(frozen=True)
class Kept:
    """One network and target, over all unseen images.

    Attributes:
        plan: what ran, and on what ground.
        kind: 'approximate' or 'exact'.
        kept: the share of images whose map has the SSIM that was asked for.
        median, worst: of the SSIM.
        over_exact, over_captum: how many times as fast as the exact map, and as Captum; medians over images.
    """

    network: str
    target: float
    plan: str
    kind: str
    images: int
    kept: float
    median: float
    worst: float
    seconds: float
    over_exact: float
    over_captum: float


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs every network at every target and prints one row each."""
    arguments = sys.argv[1:] if arguments is None else arguments
    options = _parse(arguments)
    course = Course.begin("benchmarks.promise", arguments, options)
    found: list[Kept] = []
    for name in options.network:
        for row in measure(NETWORKS[name](), options):
            found.append(row)
            kept = f"kept by {row.kept:.2f} of {row.images}"
            times = f"{row.over_captum:.1f} times Captum, {row.over_exact:.1f} times exact"
            course.out.print(f"{row.network}, SSIM >= {row.target:g}: {kept}, {times} ({row.plan})")
    course.end([sheet(found, options)], {"rows": [asdict(row) for row in found]})
    return 0


def measure(network: RealNetwork, options: argparse.Namespace) -> Iterator[Kept]:
    """One row a target for one network, each when it is known."""
    occlude = f"occlude(net, ?, patch => {options.patch}, stride => {options.stride})"
    shape = f"(patch => {options.patch}, stride => {options.stride})"
    with asking(network, options, options.profiles) as db:
        db.sql(f"ANALYZE net USING ? WITH {shape[:-1]}, budget => '3 hours')", [list(network.tuning[: options.tuning])])
        unseen = network.unseen[: options.unseen]
        exact, exact_seconds = _maps(db, f"SELECT HEATMAP FROM {occlude}", unseen)
        captum = _captum_seconds(network, options)
        for target in options.target:
            query = f"SELECT HEATMAP FROM {occlude} WITH SSIM >= {target} CONFIDENCE {options.confidence}"
            plan = db.sql(query, [unseen[0]]).plan
            assert plan is not None
            near, seconds = _maps(db, query, unseen)
            alike = [ssim(*pair) for pair in zip(exact, near, strict=True)]
            yield Kept(
                network=network.name,
                target=target,
                plan=plan.quality.note,
                kind=plan.quality.kind,
                images=len(unseen),
                kept=float(np.mean([each >= target for each in alike])),
                median=statistics.median(alike),
                worst=min(alike),
                seconds=statistics.median(seconds),
                over_exact=statistics.median(a / b for a, b in zip(exact_seconds, seconds, strict=True)),
                over_captum=captum / statistics.median(seconds),
            )


def _maps(db: kryptondb.Session, query: str, images: Sequence[np.ndarray]) -> tuple[list[np.ndarray], list[float]]:
    """The heat map of each image, and the seconds that each query took from its text to its answer."""
    maps, seconds = [], []
    db.sql(query, [images[0]]).heatmaps()  # what only the first call pays
    for image in images:
        heat_map, took = timed_map(db, query, image)
        maps.append(heat_map)
        seconds.append(took)
    return maps, seconds


def _captum_seconds(network: RealNetwork, options: argparse.Namespace) -> float:
    """What a whole map takes Captum, by its pace over some positions of the first unseen image."""
    subject = of_network(network, options.patch, options.stride, options.device)
    grid = subject.grid
    contender = Captum(subject, 1, CAPTUM_POSITIONS)
    contender.warm()
    contender.turn(plan_rounds(grid, (grid.rows, grid.cols), CAPTUM_POSITIONS, lambda _: 1.0)[0])
    (turn,) = contender.turns
    return turn.seconds / turn.positions * grid.size


def sheet(found: Sequence[Kept], options: argparse.Namespace) -> Sheet:
    """A row a network and target."""
    title = (
        f"Patch {options.patch}, stride {options.stride}, confidence {options.confidence:g}; at most {options.tuning} "
        f"images to tune on and {options.unseen} others. A share of at least {options.confidence:g} is promised. "
        f"Seconds are a query's, from its text to its answer. {together(found)}"
    )
    columns = (
        *("<network", "SSIM >=", "<answer", "images", "kept", "median", "worst", "seconds", "x exact", "x Captum"),
        "<plan",
    )
    return Sheet(title, columns, [_row(each) for each in found])


def together(found: Sequence[Kept]) -> str:
    """How many of all approximate maps kept what was promised: one row alone says little, with so few images."""
    near = [each for each in found if each.kind == "approximate"]
    kept, asked = sum(round(each.kept * each.images) for each in near), sum(each.images for each in near)
    return f"Of all {asked} approximate maps {kept} kept what was promised: {kept / asked:.3f}." if asked else ""


def _row(each: Kept) -> list[str]:
    numbers: list[Any] = [f"{each.kept:.2f}", f"{each.median:.3f}", f"{each.worst:.3f}", f"{each.seconds:.2f}"]
    times = [f"{each.over_exact:.1f}", f"{each.over_captum:.1f}"]
    return [each.network, f"{each.target:g}", each.kind, str(each.images), *numbers, *times, each.plan]


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.promise", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--network", nargs="+", choices=list(NETWORKS), default=list(NETWORKS))
    parser.add_argument("--patch", type=int, default=16)
    parser.add_argument("--stride", type=int, default=4)
    parser.add_argument("--target", type=float, nargs="+", default=[0.8, 0.9, 0.95], help="SSIM asked for")
    parser.add_argument("--confidence", type=float, default=0.9)
    parser.add_argument("--tuning", type=int, default=20, help="images to analyze")
    parser.add_argument("--unseen", type=int, default=20, help="images to ask about")
    parser.add_argument("--profiles", metavar="FILE", help="a database that keeps what was measured of tuning images")
    add_common_options(parser)
    options = parser.parse_args(arguments)
    if min(options.patch, options.stride, options.tuning, options.unseen) < 1:
        parser.error("--patch, --stride, --tuning and --unseen must be at least 1")
    return options


if __name__ == "__main__":
    sys.exit(main())
