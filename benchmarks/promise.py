"""Whether promises of SSIM are kept on images that the tuning never saw, and what they buy.

    python -m benchmarks.promise --network vgg16_mri lite0_photographs --stride 8 --target 0.8 0.9 0.95

ANALYZE measures a network's tuning images. Then the others are explained, exactly and with `WITH SSIM >= target`,
and the two maps are compared. In between, image by image, Captum (perturbations_per_eval=16) computes a batch of the
map of the first of them: all contenders meet the same machine, whatever else that does. `python -m benchmarks.networks`
lists the networks. With `--profiles FILE` a run that was stopped resumes with the tuning images that are missing.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

import kryptondb
from benchmarks.asking import asking, timed_map
from benchmarks.contenders import BATCH, Captum
from benchmarks.course import Course
from benchmarks.networks import NETWORKS, RealNetwork
from benchmarks.report import Sheet, add_common_options
from benchmarks.rounds import plan_rounds
from benchmarks.subject import of_network
from kryptondb.executor.quality import ssim
from kryptondb.optimizer.physical import PhysicalPlan


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
        for row in measure(NETWORKS[name](), options, course.out.print):
            found.append(row)
            kept = f"kept by {row.kept:.2f} of {row.images}"
            times = f"{row.over_captum:.1f} times Captum, {row.over_exact:.1f} times exact"
            course.out.print(f"{row.network}, SSIM >= {row.target:g}: {kept}, {times} ({row.plan})")
    course.end([sheet(found, options)], {"rows": [asdict(row) for row in found]})
    return 0


def measure(network: RealNetwork, options: argparse.Namespace, say: Callable[[str], None]) -> list[Kept]:
    """One row a target for one network. All contenders take turns, an image each, and `say` hears of every turn."""
    occlude = f"occlude(net, ?, patch => {options.patch}, stride => {options.stride})"
    shape = f"(patch => {options.patch}, stride => {options.stride})"
    exactly = f"SELECT HEATMAP FROM {occlude}"
    promised = [f"{exactly} WITH SSIM >= {target} CONFIDENCE {options.confidence}" for target in options.target]
    unseen = network.unseen[: options.unseen]
    subject = of_network(network, options.patch, options.stride, options.device)
    with asking(network, options, options.profiles) as db:
        db.sql(f"ANALYZE net USING ? WITH {shape[:-1]}, budget => '3 hours')", [list(network.tuning[: options.tuning])])
        captum = Captum(subject, len(unseen), BATCH * len(unseen))
        captum.warm()
        plans = [_warmed(db, query, unseen[0]) for query in (exactly, *promised)][1:]
        (whole,) = plan_rounds(subject.grid, (subject.grid.rows, subject.grid.cols), BATCH, lambda _: 1.0)
        answers: list[list[Answer]] = []  # an image each: exact, then of every target
        for number, image in enumerate(unseen, 1):
            captum.turn(whole)
            answers.append(_answered(db, (exactly, *promised), image))
            took = ", ".join(f"{each.seconds:.2f} s with SSIM {each.alike:.3f}" for each in answers[-1])
            say(f"image {number} of {len(unseen)}: {took}; a map by Captum takes {_whole_map(captum):.0f} s")
    exact, *near = zip(*answers, strict=True)
    whole_map, rows = _whole_map(captum), zip(options.target, plans, near, strict=True)
    return [_kept(network.name, target, plan, each, exact, whole_map) for target, plan, each in rows]


@dataclass(frozen=True)
class Answer:
    """What one query gave: how alike its map is to the exact one, and the seconds from its text to its answer."""

    alike: float
    seconds: float


def _warmed(db: kryptondb.Session, query: str, image: np.ndarray) -> PhysicalPlan:
    """The plan of a query that has run once: the first run pays what the others do not."""
    result = db.sql(query, [image])
    assert result.plan is not None
    result.heatmaps()
    return result.plan


def _answered(db: kryptondb.Session, queries: Sequence[str], image: np.ndarray) -> list[Answer]:
    """What each query says of an image; the first is the one that all are compared with."""
    timed = [timed_map(db, query, image) for query in queries]
    return [Answer(ssim(timed[0][0], heat_map), seconds) for heat_map, seconds in timed]


def _kept(
    network: str,
    target: float,
    plan: PhysicalPlan,
    near: Sequence[Answer],
    exact: Sequence[Answer],
    captum: float,
) -> Kept:
    """The row of a network and target. `captum` is the seconds of a whole map."""
    alike, seconds = [each.alike for each in near], statistics.median(each.seconds for each in near)
    return Kept(
        network=network,
        target=target,
        plan=plan.quality.note,
        kind=plan.quality.kind,
        images=len(near),
        kept=float(np.mean([each >= target for each in alike])),
        median=statistics.median(alike),
        worst=min(alike),
        seconds=seconds,
        over_exact=statistics.median(a.seconds / b.seconds for a, b in zip(exact, near, strict=True)),
        over_captum=captum / seconds,
    )


def _whole_map(captum: Captum) -> float:
    """Seconds of a whole map at the pace of its median turn."""
    paces = [turn.seconds / turn.positions for turn in captum.turns if turn.positions]
    return statistics.median(paces) * captum.subject.grid.size


def sheet(found: Sequence[Kept], options: argparse.Namespace) -> Sheet:
    """A row per network and target."""
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
