"""A logical plan becomes a physical one: the device, the operator and the promise are settled here."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from kryptondb.errors import BindError, PlanError, at
from kryptondb.grammar.statements import Promise
from kryptondb.optimizer.approximations import Asked
from kryptondb.optimizer.choose import Choice, choose
from kryptondb.optimizer.in_time import STOPPABLE, InTime, in_time
from kryptondb.optimizer.logical import Context, LogicalPlan, Occlusion, RedundancyTable, source
from kryptondb.optimizer.nodes import Limit, PlanNode
from kryptondb.optimizer.physical import ClassChoice, Occlude, PhysicalPlan, Quality, Redundancy
from kryptondb.optimizer.promise import Profile, query_shape, samples_needed
from kryptondb.optimizer.run_by import run_by
from kryptondb.optimizer.self_tuning import tuning
from kryptondb.optimizer.tuning import Tuning
from kryptondb.optimizer.within import Within
from kryptondb.optimizer.workload import REDUCED_PRECISIONS, Workload, memory_limit
from kryptondb.options.words import DEFAULT_CONFIDENCE
from kryptondb.text.plain_text import printable

if TYPE_CHECKING:
    from kryptondb.network import Network


def physicalize(plan: LogicalPlan, context: Context) -> PhysicalPlan:
    """Chooses how a logical plan runs.

    Before:  HeatMaps < Occlusion(chest, grid 53 x 53, class 3)
    After:   HeatMaps < Occlude(Incremental(tile=(7, 7)), device cpu, memory limit 4 GB)

    Raises:
        PlanError: a promise or a hint that cannot be kept.
    """
    table = source(plan)
    if isinstance(table, RedundancyTable):
        return _redundancy(plan, table, context)
    assert isinstance(table, Occlusion)
    promise = plan.statement.promise
    device = _device(plan, context)
    network = context.models.network(table.model)
    assert isinstance(table.classes, ClassChoice)
    workload = Workload(
        network=network,
        grid=table.grid,
        runs=table.runs,
        classes=table.classes.count(network.classes),
        device=device,
        memory_limit=memory_limit(context, device),
        precision=plan.hints.precision,
    )
    hint = next((option for option in plan.statement.hints if option.name == "operator"), None)
    if network.unsteady is not None and promise is not None and promise.ssim is not None:
        raise PlanError(
            f"no SSIM can be promised for {table.model}: {network.unsteady}",
            position=promise.position,
            hint="Without the promise the query runs, and its answers are called approximate.",
        )
    profile = None
    if promise is not None:
        profile = context.profiles(table.fingerprint, query_shape(table, workload.precision), workload.device)
    asked = _asked(promise, profile)
    with at(hint.position if hint is not None else None):
        choice = choose(workload, plan.hints, context, asked)
    quality = _quality(plan, choice, profile)
    within = _within(promise, table)
    if within is None and choice.chosen.operator.name == STOPPABLE:
        raise PlanError(
            f"the operator '{STOPPABLE}' runs until a time is over, and none is given",
            position=hint.position if hint is not None else None,
            hint="WITH TIME <= 10 SECONDS gives it one.",
        )
    timed = None
    if within is not None and promise is not None:
        with at(hint.position if hint is not None else promise.position):
            timed = in_time(choice, within, workload, plan.hints, context, asked, profile)
        choice, quality = timed.choice, _in_time(quality, timed)
    occlude = _occlude(table, choice, workload)
    if within is None and asked is not None and choice.approximation is None and plan.hints.operator is None:
        quality, occlude = _tuned(plan, table, asked, workload, quality, occlude, context)
    if network.unsteady is not None:
        why = f"{table.model} is not deterministic: {network.unsteady}"
        quality = replace(quality, kind="approximate", note="; ".join(filter(None, (why, quality.note))))
    if timed is not None and timed.stops and within is not None:
        occlude = replace(occlude, seconds=within.seconds)

    def put(node: PlanNode) -> PlanNode:
        return occlude if isinstance(node, Occlusion) else node

    root = plan.root.transform(put)
    return PhysicalPlan(
        root=root,
        rejected=choice.rejected,
        quality=quality,
        reason=choice.reason,
        statement=printable(str(plan.statement)),
        schema=root.columns,
    )


def _redundancy(plan: LogicalPlan, table: RedundancyTable, context: Context) -> PhysicalPlan:
    if plan.statement.promise is not None:
        raise BindError(
            "redundancy is counted exactly and runs nothing: WITH has no meaning for it",
            position=plan.statement.promise.position,
        )
    network = context.models.network(table.model)
    if not network.traced:
        raise PlanError(
            f"the redundancy of {table.model} cannot be counted: its network could not be traced ({network.failure})"
        )
    node = Redundancy(table.model, table.fingerprint, table.patch, table.stride, table.height, table.width)

    def put(other: PlanNode) -> PlanNode:
        return node if isinstance(other, RedundancyTable) else other

    root = plan.root.transform(put)
    reason = "counted from the network's geometry; nothing is run"
    return PhysicalPlan(root, (), Quality("exact"), reason, str(plan.statement), root.columns)


def _occlude(table: Occlusion, choice: Choice, workload: Workload) -> Occlude:
    assert isinstance(table.classes, ClassChoice)
    node = Occlude(
        input=table.input,
        model=table.model,
        fingerprint=table.fingerprint,
        patch=table.patch,
        stride=table.stride,
        height=table.height,
        width=table.width,
        edges=table.edges,
        runs=table.runs,
        fill=table.fill,
        classes=table.classes,
        score=table.score,
        operator=choice.chosen.operator,
        device=workload.device,
        memory_limit=workload.memory_limit,
        image_filter=table.image_filter,
        tail=_tail(workload.network),
        channels=table.channels,
        class_count=workload.network.classes,
        unsteady=workload.network.unsteady,
    )
    return run_by(node, choice.chosen, traced=workload.network.traced)


def _tail(network: Network) -> str | None:
    """Where the dense tail begins, and why."""
    if not network.traced:
        return f"the whole network: {network.failure}"
    if network.undivided is not None:
        return f"the whole network: {network.undivided}"
    if network.tail is None:
        return None
    tail = network.tail
    operator = f" ({tail.operator})" if tail.operator != tail.node else ""
    return f"from {tail.node}{operator} on: {tail.reason}"


def _device(plan: LogicalPlan, context: Context) -> str:
    from kryptondb.catalog.settings import resolve_device

    if plan.hints.device is None:
        return context.settings.resolved_device()
    option = next(option for option in plan.statement.hints if option.name == "device")
    with at(option.value.position or option.position):
        return resolve_device(plan.hints.device)


def _asked(promise: Promise | None, profile: Profile | None) -> Asked | None:
    """The promise of SSIM with the profile that goes with it; None where none is asked for."""
    if promise is None or promise.ssim is None:
        return None
    return Asked(promise.ssim, promise.confidence or DEFAULT_CONFIDENCE, profile)


def _within(promise: Promise | None, table: Occlusion) -> Within | None:
    """The promise of time with the number of images that share it; None where none is asked for."""
    if promise is None or promise.seconds is None:
        return None
    return Within(promise.seconds, _images(table))


def _images(table: Occlusion) -> int | None:
    """How many images there are, at least where a folder holds very many; None where only the run finds out."""
    images, spec = table.input.count, table.input.spec
    if images is None and table.image_filter is None and spec is not None:
        from kryptondb.images.sources import count_images

        found = count_images(spec, addresses=True)
        return found.count if found is not None else None
    return images


def _tuned(
    plan: LogicalPlan,
    table: Occlusion,
    asked: Asked,
    workload: Workload,
    quality: Quality,
    occlude: Occlude,
    context: Context,
) -> tuple[Quality, Occlude]:
    """Quality and experiment of an exact plan where the batch may tune itself, or says why it does not."""
    profile, promise = asked.profile, plan.statement.promise
    small = profile is None or profile.images < samples_needed(asked.confidence)
    if not small or occlude.cost is None or not workload.positions or occlude.input.count == 1:
        return quality, occlude
    found: Tuning | str
    if context.settings.get("tuning") == "off":
        found = "SET tuning = 'auto' lets a batch tune itself"
    elif workload.runs is not None:
        found = "a batch tunes itself by whole maps, and a part is asked for"
    elif any(isinstance(node, Limit) for node in plan.root.walk()):
        found = "a query that may end after a few images does not tune itself"
    else:
        found = tuning(asked, workload, occlude.cost.seconds, _images(table), plan.hints.for_operators(), context)
    if isinstance(found, str):
        return replace(quality, note=f"{quality.note}; {found}"), occlude
    quality = Quality("approximate", promise, f"no profile: {found.told()}", asked.confidence, found.needed)
    return quality, replace(occlude, tuning=found)


def _in_time(quality: Quality, timed: InTime) -> Quality:
    """What a plan's quality is when it also keeps a promise of time."""
    if timed.stops:
        return replace(quality, kind="approximate", note=timed.note, expected=timed.expected)
    return replace(quality, note="; ".join(text for text in (quality.note, timed.note) if text))


def _shows_nothing(profile: Profile | None) -> str:
    return "no profile shows" if profile is None else f"the profile of {profile.images:,} images does not show"


def _quality(plan: LogicalPlan, choice: Choice, profile: Profile | None) -> Quality:
    promise, operator = plan.statement.promise, choice.chosen.operator
    asked = None if promise is None or promise.ssim is None else f"SSIM >= {promise.ssim:g}"
    if choice.approximation is not None and promise is not None:
        confidence = promise.confidence or DEFAULT_CONFIDENCE
        note = f"{choice.approximation.recipe}: {choice.approximation.about}"
        return Quality("approximate", promise, note, confidence, choice.approximation.images)
    if operator.exact and plan.hints.precision not in REDUCED_PRECISIONS:
        why = choice.why_exact or (f"USING asks for {operator.name}" if plan.hints.operator else "no cell is computed")
        return Quality("exact", promise, f"{why}: the exact plan keeps {asked}" if asked else "")
    if asked is None:
        return Quality("approximate", promise, "nothing is promised of how near it comes to the exact answer")
    names = ("tau", "precision") if operator.exact else ("tau", "operator")
    hint = next(option for option in plan.statement.hints if option.name in names)
    what = operator.name if not operator.exact else f"{operator.name} in {plan.hints.precision}"
    raise PlanError(
        f"USING {hint} breaks the promise: {_shows_nothing(profile)} that {what} keeps {asked}",
        position=hint.position,
        hint="Without that hint the exact plan runs, which keeps it; without WITH the approximate one runs.",
    )
