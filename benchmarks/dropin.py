"""The drop-in classes compared with their peers: whether they agree, and how many times as fast they are.

    python -m benchmarks.dropin

Captum or MONAI and the class that takes its place answer the same questions in one process, taking turns. The
first answer of ours counts the tracing of the network, where one is traced; the next ones are those to further images.
Ends with status 1 where two maps differ by more than 1e-5.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch

import kryptondb.images.torchvision_guard  # noqa: F401  (before the peers, which import torchvision)
from benchmarks.dropin_cases import LARGE, SMALL, Case, Maps, cases
from benchmarks.machine import describe_machine
from benchmarks.report import Sheet, add_markdown_option, command_line, console, show, write_section

AGREEMENT = 1e-5
AS_FAST = 0.9  # of a peer's pace: what differs by less is noise
ENOUGH = 1.0  # seconds of a contender that need no further turn
TURNS = 5

T = TypeVar("T")


@dataclass(frozen=True)
class Compared:
    """One question, answered by both.

    Attributes:
        case: the question.
        difference: the largest between two maps.
        peer, first, next: seconds of the peer, of our first answer, and of our further ones, medians.
        ran: what ran under ours.
    """

    case: Case
    difference: float
    peer: float
    first: float
    next: float
    ran: str

    @property
    def agrees(self) -> bool:
        """Whether the maps are the same."""
        return self.difference <= AGREEMENT

    @property
    def ratio(self) -> float:
        """How many times as fast as the peer a further answer is."""
        return self.peer / self.next

    def row(self) -> list[str]:
        """Its line of the table."""
        case = self.case
        return [
            *(case.peer, case.network, case.question),
            f"{self.difference:.1e}" + ("" if self.agrees else " DIFFERS"),
            *(f"{seconds:.2f}" for seconds in (self.peer, self.first, self.next)),
            *(f"{self.peer / self.first:.1f}", f"{self.ratio:.1f}"),
            self.ran.partition(":")[0],
        ]


def compare(case: Case) -> Compared:
    """Asks both, in turns: the peer and ours again until each has taken long enough to stand out from noise."""
    theirs, spent = timed(case.theirs)
    (ours, ran), first = timed(case.ours)
    difference = largest_difference(ours, theirs)
    peers, nexts = [spent], []
    while True:
        (ours, ran), spent = timed(case.ours)
        nexts.append(spent)
        difference = max(difference, largest_difference(ours, theirs))
        if len(nexts) == TURNS or min(sum(peers), sum(nexts)) >= ENOUGH:
            break
        peers.append(timed(case.theirs)[1])
    return Compared(case, difference, statistics.median(peers), first, statistics.median(nexts), ran)


def largest_difference(ours: Maps, theirs: Maps) -> float:
    """Over all maps of an answer, as a part of the largest number where that is above one (scores may be hundreds).

    Infinite where shapes or types are not the same.
    """
    if [(each.shape, each.dtype) for each in ours] != [(each.shape, each.dtype) for each in theirs]:
        return float("inf")
    differences = [
        float((mine.double() - peers.double()).abs().max()) / max(1.0, float(peers.abs().max()))
        for mine, peers in zip(ours, theirs, strict=True)
    ]
    return max(differences)


def timed(work: Callable[[], T]) -> tuple[T, float]:
    """What a piece of work gives, and its seconds."""
    start = time.perf_counter()
    found = work()
    return found, time.perf_counter() - start


def sheet(compared: Sequence[Compared]) -> Sheet:
    """All questions, and what they say together."""
    agree = sum(each.agrees for each in compared)
    fast = sum(each.ratio >= AS_FAST for each in compared)
    traced = [each.ratio for each in compared if "inference" in each.ran.partition(":")[0]]
    told = f", {statistics.median(traced):.1f} times as fast where a traced network ran (median)" if traced else ""
    return Sheet(
        f"{agree} of {len(compared)} agree within {AGREEMENT:g}; at least as fast as the peer in {fast}{told}. "
        "In seconds; the first answer traces the network, the next is what a further image takes.",
        ["<peer", "<network", "<question", "difference", "peer", "first", "next", "x first", "x next", "<what ran"],
        [each.row() for each in compared],
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the benchmark; 1 where a map differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help="small images and few windows: agreement alone")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="of torch (%(default)s)")
    add_markdown_option(parser)
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    output = console()
    compared = []
    for case in cases(SMALL if options.small else LARGE):
        compared.append(compare(case))
        output.print(f"{case.peer}, {case.network}, {case.question}: x {compared[-1].ratio:.1f}", highlight=False)
    found = sheet(compared)
    show(output, found)
    if options.markdown is not None:
        line = command_line("benchmarks.dropin", sys.argv[1:] if arguments is None else arguments)
        write_section(options.markdown, line, describe_machine("cpu"), [found])
    return 0 if all(each.agrees for each in compared) else 1


if __name__ == "__main__":
    sys.exit(main())
