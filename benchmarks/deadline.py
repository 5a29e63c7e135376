"""Whether WITH TIME is kept: what queries were given, what they spent, and how much of the map they computed in it.

    python -m benchmarks.deadline --models resnet18 vgg16 --seconds 5 10 20

Every query runs in a session, as a user's does; its time counts from the moment that its rows are asked for. Networks
have random weights (nothing is downloaded) and their layers are calibrated first. With `--exact` the exact map is
computed too, and the SSIM to it is shown. Exit status 1 where a query exceeded its time by more than a tenth and by
more than half a second.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from PIL import Image

import kryptondb
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
from benchmarks.subject import input_side, prepare
from kryptondb.executor.quality import ssim
from kryptondb.images.samples import sample_path

_COLUMNS = ("<model", "given s", "spent s", "over s", "<kept", "<operator", "planned s", "exact cells", "SSIM")
_SHARE_OVER, _SECONDS_OVER = 0.1, 0.5  # what a query may spend beyond its time: the larger of the two


@dataclass(frozen=True)
class Spent:
    """One query.

    Attributes:
        model: its network; operator: what answered.
        given, spent: seconds. planned: what it was estimated to spend.
        exact: the share of all cells that were computed.
        ssim: to the exact map, the mean of all pictures; None where that was not computed.
    """

    model: str
    operator: str
    given: float
    spent: float
    planned: float
    exact: float
    ssim: float | None

    @property
    def kept(self) -> bool:
        """Whether it stopped in time, or nearly."""
        return self.spent <= self.given + max(_SHARE_OVER * self.given, _SECONDS_OVER)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs all queries and prints a row for each. Exit status 1 where a time was not kept."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    options = _parse(arguments)
    out, machine = console(), describe_machine(options.device)
    rows: list[list[str]] = []
    found: list[Spent] = []
    for name in options.models:
        for spent in measured(name, options):
            found.append(spent)
            rows.append(_row(name, spent))
            out.print("  ".join(rows[-1]))
    title = (
        f"Patch {options.patch}, stride {options.stride}, {options.images:,} pictures for each query, random weights. "
        f"{sum(spent.kept for spent in found)} of {len(found)} queries were done in time, or at most a tenth or half "
        "a second later."
    )
    sheet = Sheet(title, _COLUMNS, rows)
    show(out, sheet)
    if options.json:
        options.json.write_text(json.dumps([asdict(spent) for spent in found], indent=2) + "\n")
    if options.markdown:
        write_section(options.markdown, command_line("benchmarks.deadline", arguments), machine, [sheet])
    return int(not all(spent.kept for spent in found))


def measured(name: str, options: argparse.Namespace) -> Iterator[Spent]:
    """All queries of one network."""
    size = options.size or input_side(name)
    subject = prepare(name, size, options.patch, options.stride, options.device, options.seed)
    with kryptondb.connect() as session, tempfile.TemporaryDirectory() as folder:
        session.sql(f"SET device = '{options.device}'")
        if options.threads:
            session.sql(f"SET threads = {options.threads}")
        session.register("net", subject.module, size=(size, size), mean=(0.5,) * 3, std=(0.5,) * 3)
        if options.calibration:
            session.sql("CALIBRATE net")
        pictures = _write_pictures(Path(folder), options.images, size)
        where = f"occlude(net, ?, patch => {options.patch}, stride => {options.stride}, class => {subject.target})"
        exact = session.sql(f"SELECT HEATMAP FROM {where}", [pictures]).heatmaps() if options.exact else None
        for seconds in options.seconds:
            yield run(name, session, where, pictures, seconds, exact)


def run(
    name: str,
    session: kryptondb.Session,
    where: str,
    pictures: Sequence[str],
    seconds: float,
    exact_maps: np.ndarray | None,
) -> Spent:
    """Asks for all cells within some seconds."""
    result = session.sql(f"SELECT row, col, drop, exact FROM {where} WITH TIME <= {seconds:g} SECONDS", [pictures])
    occlude = result.plan.occlude if result.plan is not None else None
    assert occlude is not None and occlude.cost is not None
    began = time.perf_counter()
    table = result.arrow()
    spent = time.perf_counter() - began
    rows, cols, drops, exact = (np.asarray(table[column]) for column in ("row", "col", "drop", "exact"))
    maps = np.full((len(pictures), occlude.experiment.rows, occlude.experiment.cols), np.nan)
    maps[np.arange(len(rows)) // occlude.experiment.positions, rows, cols] = drops  # pictures come one after the other
    alike = None if exact_maps is None else float(np.mean([ssim(*pair) for pair in zip(exact_maps, maps, strict=True)]))
    planned = occlude.cost.seconds * len(pictures)
    return Spent(name, occlude.operator.name, seconds, spent, planned, float(exact.mean()), alike)


def _row(name: str, spent: Spent) -> list[str]:
    return [
        name,
        f"{spent.given:g}",
        f"{spent.spent:.2f}",
        f"{spent.spent - spent.given:+.2f}",
        "yes" if spent.kept else "NO",
        spent.operator,
        f"{spent.planned:.1f}",
        f"{spent.exact:.0%}",
        "" if spent.ssim is None else f"{spent.ssim:.3f}",
    ]


def _write_pictures(folder: Path, count: int, side: int) -> list[str]:
    """So many photographs, no two alike."""
    paths = []
    with Image.open(sample_path("cat")) as photograph:
        for number in range(count):
            path = folder / f"{number:04}.png"
            photograph.convert("RGB").rotate(number * 360 / count).resize((side, side)).save(path)
            paths.append(str(path))
    return paths


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.deadline", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--models", nargs="+", default=["resnet18", "vgg16"], help="torchvision architectures")
    parser.add_argument("--seconds", nargs="+", type=float, default=[5.0, 10.0, 20.0], help="what queries are given")
    parser.add_argument("--images", type=int, default=1, help="how many pictures share the time of a query")
    parser.add_argument("--patch", type=int, default=16)
    parser.add_argument("--stride", type=int, default=4)
    parser.add_argument("--exact", action="store_true", help="compute the exact maps too, and show the SSIM to them")
    add_common_options(parser)
    options = parser.parse_args(arguments)
    refuse_missing_device(parser, options.device)
    return options


if __name__ == "__main__":
    sys.exit(main())
