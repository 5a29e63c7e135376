"""EXPLAIN: the chosen tree, what it is estimated to cost and what it did cost, the reason, the rejected candidates."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any, Literal, Protocol

from kryptondb.optimizer.cost import Cost
from kryptondb.optimizer.experiment import Experiment
from kryptondb.optimizer.nodes import PlanNode, branches
from kryptondb.optimizer.physical import Occlude, PhysicalPlan, Quality, Rejected, to_json
from kryptondb.text.plain_text import plain_json
from kryptondb.text.units import bytes_text, gflop_text, seconds_text

WIDTH = 100
MARGIN = 12
GAP = 2
SHOWN_REJECTED = 8


class RunCounts(Protocol):
    """What a run counted: the executor's `Stats` has it."""

    @property
    def seconds(self) -> float:
        """Seconds that the run took."""

    @property
    def flops(self) -> float:
        """Operations, two a multiply-add."""

    @property
    def positions(self) -> int:
        """Positions that were computed, of all images; others are reconstructed from them."""

    @property
    def images(self) -> int:
        """Images that were answered."""

    @property
    def failed(self) -> int:
        """Images that were left out."""

    @property
    def peak_memory(self) -> int | None:
        """Bytes of the process at its highest, where the system tells."""

    @property
    def query_memory(self) -> int | None:
        """Bytes at the highest beside what the process held before."""

    @property
    def rows(self) -> int:
        """Rows of the answer."""

    @property
    def phases(self) -> Mapping[str, float]:
        """Seconds of each phase, of all images."""


class ImageTotal(Protocol):
    """How many images a query's paths name: `images.sources.ImageCount` has it."""

    @property
    def count(self) -> int:
        """How many were counted."""

    @property
    def complete(self) -> bool:
        """Whether there are no more."""


class TuningResult(Protocol):
    """What came of a batch that was to tune itself: the executor's `Outcome` has it."""

    @property
    def measured(self) -> Sequence[str]:
        """Names of the images that ran exactly and were measured."""

    @property
    def recipe(self) -> str | None:
        """What the others ran by, in words; None where they ran exactly too."""

    @property
    def note(self) -> str:
        """How that keeps the promise, or why nothing faster does."""

    @property
    def kind(self) -> Literal["exact", "approximate"]:
        """'approximate' where some image is, else 'exact'."""

    def text(self) -> str:
        """All of it as JSON, as it stands in an answer's metadata."""


def explain(
    plan: PhysicalPlan,
    *,
    analyzed: RunCounts | None = None,
    tuned: TuningResult | None = None,
    images: ImageTotal | None = None,
) -> str:
    """A plan's story as plain text, made for a terminal of 100 columns.

    The tree comes first, with what each step costs for one image; then, with `analyzed`, what was estimated beside what
    was measured; then the experiment, with how many `images` were counted, the quality, what came of tuning with
    `tuned`, the reason, and what was rejected.
    """
    parts = [_tree(plan)]
    if analyzed is not None:
        parts.append(_measurements(plan, analyzed, tuned))
    parts.append("\n".join(_story(plan, tuned, images)))
    return "\n\n".join(parts)


def explain_json(
    plan: PhysicalPlan,
    *,
    analyzed: RunCounts | None = None,
    tuned: TuningResult | None = None,
    images: ImageTotal | None = None,
) -> str:
    """The same as JSON: `plan` is the physical plan, as `from_json` reads it; `measured` comes with `analyzed`,
    `tuned` where the batch was to tune itself, and `images` where they were counted.
    """
    occlude = plan.occlude
    story: dict[str, Any] = {
        "statement": plan.statement,
        "columns": list(plan.schema),
        "tree": str(plan).split("\n"),
        "quality": {"kind": plan.quality.kind if tuned is None else tuned.kind, "note": plan.quality.note},
        "reason": plan.reason,
    }
    if occlude is not None:
        story["operator"] = {"name": occlude.operator.name, "description": occlude.description}
        asked = occlude.experiment
        story["grid"] = {"rows": asked.rows, "cols": asked.cols, "positions": asked.positions}
        story["dense_tail"] = occlude.tail
        story["estimated_per_image"] = None if occlude.cost is None else asdict(occlude.cost)
    story["rejected"] = [
        {
            "operator": loser.operator.name,
            "description": loser.description,
            "estimated_per_image": None if loser.cost is None else asdict(loser.cost),
            "reason": loser.reason,
        }
        for loser in plan.rejected
    ]
    if images is not None:
        story["images"] = {"count": images.count, "complete": images.complete}
    if analyzed is not None:
        names = ("seconds", "flops", "positions", "images", "failed", "peak_memory", "query_memory", "rows", "phases")
        story["measured"] = {name: getattr(analyzed, name) for name in names}
    if tuned is not None:
        story["tuned"] = json.loads(tuned.text())
    story["plan"] = json.loads(to_json(plan))
    return plain_json(json.dumps(story, indent=2, ensure_ascii=False))


# The tree


def _tree(plan: PhysicalPlan) -> str:
    nodes = list(branches(plan.root))
    costs = [_node_cost(node) for _, node in nodes]
    widths = [max(len(cost[column]) for cost in costs) for column in range(3)]
    room = WIDTH - sum(width + GAP for width in widths if width)
    lines: list[str] = []
    for (branch, node), cost in zip(nodes, costs, strict=True):
        first, *more = _wrapped(branch, node, room if any(cost) else WIDTH)
        columns = ((text, width) for text, width in zip(cost, widths, strict=True) if width)
        tail = "".join(f"{'':{GAP}}{text:>{width}}" for text, width in columns)
        lines.append(f"{first:<{room}}{tail}".rstrip() if any(cost) else first)
        lines.extend(more)
    return "\n".join(lines)


def _wrapped(branch: str, node: PlanNode, width: int) -> list[str]:
    """A node's line, broken where it is too long; what follows stands under its details."""
    head = f"{branch}{node.label()}  "
    details = node.description if isinstance(node, Occlude) else node.details()
    pieces = _broken(details, max(24, width - len(head)))
    return [(head + pieces[0]).rstrip(), *(" " * len(head) + piece for piece in pieces[1:])]


def _broken(text: str, width: int) -> list[str]:
    return textwrap.wrap(text, width, break_on_hyphens=False) or [""]


def _node_cost(node: PlanNode) -> tuple[str, str, str]:
    """What stands in the columns for seconds, operations and memory."""
    if isinstance(node, Occlude) and node.cost is None:
        return "cost unknown", "", ""
    return _cost_texts(node.cost)


def _cost_texts(cost: Cost | None) -> tuple[str, str, str]:
    if cost is None:
        return "", "", ""
    return seconds_text(cost.seconds), gflop_text(cost.flops), bytes_text(cost.memory)


# The story


def _story(plan: PhysicalPlan, tuned: TuningResult | None, images: ImageTotal | None) -> Iterable[str]:
    occlude = plan.occlude
    if occlude is not None:
        yield from _entry("experiment", _experiment(occlude.experiment))
        yield from _entry("positions", _positions(occlude.experiment))
        yield from _entry("model", _model(occlude))
        if occlude.experiment.images.count != 1:
            yield from _entry("images", "; ".join((_how_many(occlude, images), _ahead(occlude))))
        yield from _entry("dense tail", occlude.tail or "none: no operator needs the whole picture")
    yield from _entry("quality", _quality(plan.quality if tuned is None else replace(plan.quality, kind=tuned.kind)))
    if tuned is not None:
        yield from _entry("tuned", _tuned(tuned))
    yield from _entry("reason", plan.reason)
    yield from _rejected(plan.rejected)


def _experiment(asked: Experiment) -> str:
    patch, stride = (" x ".join(map(str, pair)) for pair in (asked.patch, asked.stride))
    classes = f"class {asked.classes} of {asked.class_count:,}"
    edges = "" if asked.edges == "fit" else f", edges {asked.edges}"
    return f"patch {patch}, stride {stride}{edges}, fill {asked.fill}, {classes}, {asked.score}"


def _positions(asked: Experiment) -> str:
    cells = f"all {asked.positions:,}"
    if asked.runs is not None:
        cells = f"{asked.positions:,} of {asked.rows * asked.cols:,}"
    where = f"; images where {asked.image_filter}" if asked.image_filter is not None else ""
    return f"{cells} on a grid of {asked.rows} x {asked.cols}{where}"


def _model(occlude: Occlude) -> str:
    asked = occlude.experiment
    shape = f"{asked.channels} x {asked.height} x {asked.width}"
    limit = f"memory limit {bytes_text(occlude.memory_limit)}"
    return f"{asked.model}, {shape}, {occlude.precision} on {occlude.device}, {limit}"


def _how_many(occlude: Occlude, images: ImageTotal | None) -> str:
    """How many images there are and how long all take; what the tree says is for one."""
    asked = occlude.experiment
    count = asked.images.count if asked.image_filter is None else None
    complete = True
    if count is None and images is not None:
        count, complete = images.count, images.complete
    if count is None:
        return "count unknown; estimates are per image"
    found = f"{count:,}" if complete else f"at least {count:,}"
    if occlude.cost is None:
        return found
    seconds = occlude.cost.seconds * count if occlude.tuning is None else occlude.tuning.seconds(count)
    return f"{found}, about {seconds_text(seconds)} {'in all' if complete else 'or more in all'}"


def _ahead(occlude: Occlude) -> str:
    """How the images follow one another."""
    if occlude.ahead:
        return "each is opened and its base computed while the previous one runs"
    if occlude.cost is None:
        return "one after the other: the memory that a base would take is unknown"
    room = f"a second base ({bytes_text(occlude.cost.ahead)}) does not fit in the memory limit"
    return f"one after the other: {room}"


def _quality(quality: Quality) -> str:
    asked = f"asked: {str(quality.promise).removeprefix('WITH ')}" if quality.promise is not None else ""
    about = "; ".join(text for text in (asked, quality.note) if text)
    return f"{quality.kind} ({about})" if about else quality.kind


def _tuned(tuned: TuningResult) -> str:
    others = f"by {tuned.recipe}" if tuned.recipe is not None else "exactly"
    if not tuned.measured:
        return f"all images ran {others}: {tuned.note}"
    return f"{len(tuned.measured):,} ran exactly and were measured, the others {others}: {tuned.note}"


def _entry(title: str, text: str) -> list[str]:
    first, *more = _broken(text, WIDTH - MARGIN)
    return [f"{title:<{MARGIN}}{first}", *(" " * MARGIN + piece for piece in more)]


def _rejected(rejected: Sequence[Rejected]) -> Iterable[str]:
    """One line a candidate; where that is too long for the terminal, its reason stands below it."""
    if not rejected:
        return
    shown = _shown(rejected)
    rows = []
    for loser in shown:
        seconds, _, memory = _cost_texts(loser.cost)
        rows.append((loser.operator.name.capitalize(), loser.description, seconds, memory, loser.reason))
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    fits = MARGIN + sum(widths) + 4 * GAP <= WIDTH
    for index, (name, description, seconds, memory, reason) in enumerate(rows):
        title = "rejected" if index == 0 else ""
        what = f"{title:<{MARGIN}}{name:<{widths[0]}}{'':{GAP}}{description:<{widths[1]}}"
        line = f"{what}{'':{GAP}}{seconds:>{widths[2]}}{'':{GAP}}{memory:>{widths[3]}}"
        yield f"{line}{'':{GAP}}{reason}".rstrip() if fits else line.rstrip()
        if not fits:
            yield f"{'':<{MARGIN + widths[0] + GAP}}{reason}"
    if len(rejected) > len(shown):
        yield f"{'':<{MARGIN}}and {len(rejected) - len(shown)} more"


def _shown(rejected: Sequence[Rejected]) -> Sequence[Rejected]:
    """The first of them, in their order, and of each operator at least its first."""
    first = {loser.operator.name: index for index, loser in reversed(list(enumerate(rejected)))}
    places = list(dict.fromkeys((*first.values(), *range(len(rejected)))))
    return [rejected[place] for place in sorted(places[: max(SHOWN_REJECTED, len(first))])]


# What was measured


def _measurements(plan: PhysicalPlan, analyzed: RunCounts, tuned: TuningResult | None) -> str:
    """Estimates, for as many images as were run, beside what was counted."""
    cost = plan.occlude.cost if plan.occlude is not None else None
    tuning = plan.occlude.tuning if plan.occlude is not None and tuned is not None and tuned.measured else None
    seconds = tuning.seconds(analyzed.images) if tuning is not None else cost.seconds * analyzed.images if cost else 0.0
    unknown = "unknown" if plan.occlude is not None else ""  # of a network that could not be traced
    images = analyzed.images
    rows: list[tuple[str, str, str, str]] = [("", "estimated", "measured", "")]
    rows.append(
        (
            "seconds",
            seconds_text(seconds) if cost else unknown,
            seconds_text(analyzed.seconds),
            _ratio(analyzed.seconds, seconds),
        )
    )
    rows += _phases(cost if tuning is None else None, analyzed)  # which phases come is only known once it is tuned
    if plan.occlude is not None:
        rows.append(
            (
                "operations",
                "" if tuning is not None else gflop_text(cost.flops * images) if cost else unknown,
                gflop_text(analyzed.flops) if cost else unknown,
                _ratio(analyzed.flops, cost.flops * images if cost and tuning is None else 0),
            )
        )
        positions = plan.occlude.experiment.positions * images
        how = "not computed" if (tuned or plan.quality).kind == "exact" else "reconstructed"
        others = f"{positions - analyzed.positions:,} {how}" if positions > analyzed.positions else ""
        rows.append(("positions", f"{positions:,}", f"{analyzed.positions:,}", others))
        known = plan.occlude.experiment.images.count
        failed = f"{analyzed.failed:,} skipped" if analyzed.failed else ""
        rows.append(("images", f"{known:,}" if known is not None else "", f"{images:,}", failed))
    if plan.occlude is not None:
        held = analyzed.query_memory
        estimated = bytes_text(cost.memory) if cost else unknown
        measured = bytes_text(held) if held is not None else ""
        rows.append(("memory", estimated, measured, _ratio(held or 0, cost.memory if cost and held is not None else 0)))
    if analyzed.peak_memory is not None:
        rows.append(("process", "", bytes_text(analyzed.peak_memory), "weights and libraries included"))
    rows.append(("rows", "", f"{analyzed.rows:,}", ""))
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    first = max(MARGIN, widths[0] + GAP)
    return "\n".join(
        f"{row[0]:<{first}}{row[1]:>{widths[1]}}   {row[2]:>{widths[2]}}   {row[3]}".rstrip() for row in rows
    )


def _phases(cost: Cost | None, analyzed: RunCounts) -> Iterable[tuple[str, str, str, str]]:
    """A row for each phase that was estimated or took time, in the order of the run."""
    estimated = {phase.name: phase.seconds * analyzed.images for phase in cost.phases} if cost else {}
    for name in dict.fromkeys((*estimated, *analyzed.phases)):
        expected, took = estimated.get(name), analyzed.phases.get(name)
        before, after = ("" if seconds is None else seconds_text(seconds) for seconds in (expected, took))
        yield f"{'':{GAP}}{name}", before, after, "" if took is None else _ratio(took, expected or 0.0)


def _ratio(measured: float, estimated: float) -> str:
    if estimated <= 0:
        return ""
    ratio = measured / estimated
    return f"{ratio:.{2 if ratio < 1 else 1}f}x the estimate"
