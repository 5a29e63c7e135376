"""How good the planner's choices are: the chosen plan compared with every other that the promise admits, in hindsight.

    python -m benchmarks.planner                # two trained networks, three torchvision architectures
    python -m benchmarks.planner --brief        # the two, one patch

A case is a model, a patch, a target of SSIM and a profile. The profile's seconds are measured as ANALYZE does, on the
case's own picture; its SSIM is made up at two levels (`benchmarks.profiles`), since here only cost matters. Admitted
are the exact operators and every recipe that the profile certifies, each with its best settings. Those that are
estimated to take more than twice as long as the choice do not run. The others compute whole maps in turns, the cases of
one query shape together. Who is far behind after the first turn takes no more, and the fastest turn counts.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np
from rich.console import Console

from benchmarks.calibration import Calibration
from benchmarks.contenders import Ours
from benchmarks.course import Course
from benchmarks.networks import NETWORKS, lite0_photographs, vgg16_mri
from benchmarks.profiles import IMAGES, LEVELS, made_up
from benchmarks.report import (
    Sheet,
    add_common_options,
    refuse_missing_device,
)
from benchmarks.subject import Subject, named
from kryptondb.catalog.settings import free_memory
from kryptondb.executor.calibrate import measure
from kryptondb.executor.operators import OPERATORS, AnyOperator
from kryptondb.executor.profiling import Profiler, operators_for
from kryptondb.network import Grid
from kryptondb.optimizer.cost import Rates
from kryptondb.optimizer.logical import Hints
from kryptondb.optimizer.operator import Candidate
from kryptondb.optimizer.recipe import recipes_on
from kryptondb.optimizer.strategies.exact import cheapest
from kryptondb.optimizer.strategies.promised import approximations, promised
from kryptondb.optimizer.strategies.request import Request, SsimPromise
from kryptondb.optimizer.workload import Workload

BRIEF = (lite0_photographs.NAME, vgg16_mri.NAME)
MODELS = (*BRIEF, "resnet18", "mobilenet_v2", "densenet121")
CLOSE = 1.15  # the choice may take so much of the best one's time
HOPELESS = 2.0  # estimated to take this many times as long as the choice: a q-error of 2 is rare
BEHIND = 1.5  # times the fastest of its case, after the first turn
Way = tuple[AnyOperator, str]  # an operator, and the precision that it runs in
Seconds = dict[Way, list[float]]  # of each turn


@dataclass(frozen=True)
class Case:
    """A query, and what the planner made of it.

    Attributes:
        level: which of `benchmarks.profiles` the promise rests on; target: the SSIM asked for.
        chosen: what runs.
        admitted: all that keeps the promise, the exact operators included.
    """

    subject: Subject
    level: str
    target: float
    chosen: Candidate
    admitted: tuple[Candidate, ...]

    @property
    def running(self) -> list[Candidate]:
        """The admitted ones that may be the best, by their estimates."""
        limit = HOPELESS * self.chosen.cost.seconds
        return [each for each in self.admitted if each.cost.seconds <= limit]


@dataclass(frozen=True)
class Choice:
    """A case in hindsight; seconds are of a whole map."""

    model: str
    patch: int
    stride: int
    level: str
    target: float
    admitted: int
    ran: int
    chosen: str
    estimated: float
    chosen_seconds: float
    best: str
    best_seconds: float

    @property
    def ratio(self) -> float:
        """How many times the best one's seconds the choice took."""
        return self.chosen_seconds / self.best_seconds


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs every case and prints a row each, and the share of choices that were close to the best."""
    arguments = sys.argv[1:] if arguments is None else arguments
    options = _parse(arguments)
    course = Course.begin("benchmarks.planner", arguments, options)
    calibration = Calibration(options.device, options.calibration)
    found: list[Choice] = []
    for name in options.model:
        subject = named(name, options.size, options.patch[0], options.stride, options.device, options.seed)
        rates = calibration.rates(measure(options.device), subject.network)
        for patch in options.patch:
            grid = Grid(*subject.image.shape[2:], (patch, patch), (options.stride,) * 2)
            found += _choices(replace(subject, grid=grid), rates, options, course.out)
    sheet = choices_sheet(found, options.confidence, str(calibration))
    course.end([sheet], {"cases": [asdict(each) | {"ratio": each.ratio} for each in found]})
    return 0


def _choices(subject: Subject, rates: Rates, options: argparse.Namespace, out: Console) -> list[Choice]:
    """All cases of one query shape."""
    began = time.perf_counter()
    cases = plan(subject, rates, options.target, options.confidence, options.seed)
    planned = time.perf_counter()
    seconds = run(cases, options.rounds)
    ran = time.perf_counter()
    found = [in_hindsight(case, seconds) for case in cases]
    worst = max(each.ratio for each in found)
    out.print(
        f"{subject.model.name}, patch {subject.grid.patch[0]}: {len(found)} cases, {len(seconds)} plans ran, worst "
        f"choice {worst:.2f} of the best ({planned - began:.0f} s to plan, {ran - planned:.0f} s to run)"
    )
    return found


def plan(subject: Subject, rates: Rates, targets: Iterable[float], confidence: float, seed: int) -> list[Case]:
    """What the planner chooses, and what it could have chosen, at each level of quality and for each target."""
    memory = free_memory() // 2
    workload = Workload(subject.network, subject.grid, None, 1, subject.device, memory)
    request = Request(workload, rates, OPERATORS, Hints())
    exact = cheapest(request)
    assert isinstance(exact.chosen.operator, AnyOperator)
    recipes = recipes_on(rates, workload.precision)
    runner = Ours(subject, exact.chosen.operator, whole_bands=True).runner(None)
    sample = Profiler(runner, operators_for(recipes, workload, rates)).measure(subject.picture, recipes)
    cases = []
    for level, target in itertools.product(LEVELS, targets):
        ssim = SsimPromise(target, confidence, made_up(level, sample.recipes, sample.seconds, seed))
        decision = promised(replace(request, ssim=ssim, profile=ssim.profile))
        assert decision is not None
        tried = approximations(ssim, workload, rates, OPERATORS, {}).tried
        admitted = [*exact.candidates, *(approximation.candidate for approximation in tried if approximation.keeps)]
        fitting = tuple(candidate for candidate in admitted if candidate.cost.memory <= memory)
        cases.append(Case(subject, level.name, target, decision.chosen, fitting))
    return cases


def run(cases: Sequence[Case], rounds: int) -> Seconds:
    """Whole maps by every plan that some case needs, in turns; who begins moves on from round to round."""
    ways = dict.fromkeys(_way(each) for case in cases for each in case.running)
    ours = {way: Ours(cases[0].subject, way[0], whole_bands=True, precision=way[1]) for way in ways}
    seconds: Seconds = {way: [] for way in ours}
    for number in range(rounds):
        order = list(ours)
        first = number * len(order) // rounds
        for way in order[first:] + order[:first]:
            work = ours[way].compute(None)
            seconds[way].append(work.preparing + work.seconds)
        if number == 0:
            ours = {way: ours[way] for way in ours if any(_may_win(way, case, seconds) for case in cases)}
    return seconds


def _way(candidate: Candidate) -> Way:
    assert isinstance(candidate.operator, AnyOperator)
    return candidate.operator, candidate.precision


def _may_win(way: Way, case: Case, seconds: Seconds) -> bool:
    """Whether another turn of a plan could still matter to a case."""
    mine = {_way(each): seconds[_way(each)][0] for each in case.running}
    return way in mine and (way == _way(case.chosen) or mine[way] <= BEHIND * min(mine.values()))


def in_hindsight(case: Case, seconds: Seconds) -> Choice:
    """The choice and the best plan, by the fastest turn of each."""
    took = {each.description: min(seconds[_way(each)]) for each in case.running}
    names = {each.description: _told(each) for each in case.running}
    best = min(took, key=lambda description: took[description])
    return Choice(
        model=case.subject.model.name,
        patch=case.subject.grid.patch[0],
        stride=case.subject.grid.stride[0],
        level=case.level,
        target=case.target,
        admitted=len(case.admitted),
        ran=len(took),
        chosen=names[case.chosen.description],
        estimated=case.chosen.cost.seconds,
        chosen_seconds=took[case.chosen.description],
        best=names[best],
        best_seconds=took[best],
    )


def _told(candidate: Candidate) -> str:
    told = str(getattr(candidate.operator, "recipe", candidate.operator.name))
    return told if candidate.precision == "float32" or candidate.precision in told else f"{told}, {candidate.precision}"


def choices_sheet(found: Sequence[Choice], confidence: float, rates: str) -> Sheet:
    """A row per case, below the share of good choices."""
    close = float(np.mean([each.ratio <= CLOSE for each in found]))
    title = (
        f"The choice takes at most {CLOSE:g} of the best admitted plan's time in {close:.2f} of {len(found)} cases; "
        f"0.9 is required. Confidence {confidence:g}, {IMAGES} images per profile, {rates}. Seconds are of a whole map."
    )
    columns = (
        *("<model", "patch", "stride", "<profile", "SSIM >=", "admitted", "ran", "<chosen", "estimated", "seconds"),
        *("<best in hindsight", "seconds", "ratio"),
    )
    return Sheet(title, columns, [_row(each) for each in found])


def _row(each: Choice) -> list[str]:
    case = [each.model, str(each.patch), str(each.stride), each.level, f"{each.target:g}"]
    chosen = [each.chosen, f"{each.estimated:.2f}", f"{each.chosen_seconds:.2f}"]
    best = ["the same" if each.best == each.chosen else each.best, f"{each.best_seconds:.2f}", f"{each.ratio:.2f}"]
    return [*case, str(each.admitted), str(each.ran), *chosen, *best]


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.planner", description=(__doc__ or "").splitlines()[0])
    models = f"of {', '.join(NETWORKS)}, or torchvision architectures (random weights)"
    parser.add_argument("--model", nargs="+", default=list(MODELS), help=models)
    parser.add_argument("--patch", type=int, nargs="+", default=[16, 32], help="one or more: each is a case")
    parser.add_argument("--stride", type=int, default=8)
    parser.add_argument("--target", type=float, nargs="+", default=[0.8, 0.9, 0.95], help="SSIM asked for")
    parser.add_argument("--confidence", type=float, default=0.9)
    parser.add_argument("--rounds", type=int, default=3, help="turns of every plan that is not far behind")
    parser.add_argument("--brief", action="store_true", help=f"only {' and '.join(BRIEF)}, and one patch")
    add_common_options(parser)
    options = parser.parse_args(arguments)
    if options.brief:
        options.model, options.patch = list(BRIEF), options.patch[:1]
    if min(*options.patch, options.stride, options.rounds) < 1:
        parser.error("--patch, --stride and --rounds must be at least 1")
    if not 0 < options.confidence < 1:
        parser.error("--confidence must lie between 0 and 1")
    refuse_missing_device(parser, options.device)
    return options


if __name__ == "__main__":
    sys.exit(main())
