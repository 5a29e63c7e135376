"""A logical plan becomes a physical one: what a strategy is asked is gathered here, and what it decides is put in."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from kryptondb.errors import BindError, PlanError, at
from kryptondb.optimizer.experiment import Experiment
from kryptondb.optimizer.logical import Context, LogicalPlan, Occlusion, source
from kryptondb.optimizer.nodes import Limit
from kryptondb.optimizer.physical import Occlude, PhysicalPlan, Quality, Redundancy
from kryptondb.optimizer.strategies import decide
from kryptondb.optimizer.strategies.request import Decision, Request, SsimPromise, TimeLimit
from kryptondb.optimizer.workload import Workload, memory_limit
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
    if isinstance(table, Redundancy):
        return _redundancy(plan, table, context)
    assert isinstance(table, Occlusion)
    request = _request(plan, table.experiment, context)
    decision = decide(request)
    root = plan.put(_occlude(table.experiment, request.workload, decision)).root
    return PhysicalPlan(
        root=root,
        rejected=decision.rejected,
        quality=_quality(decision.quality, table.experiment, request.workload.network),
        reason=decision.reason,
        statement=printable(str(plan.statement)),
        schema=root.columns,
    )


def _redundancy(plan: LogicalPlan, table: Redundancy, context: Context) -> PhysicalPlan:
    if plan.statement.promise is not None:
        raise BindError(
            "redundancy is counted exactly and runs nothing: WITH has no meaning for it",
            position=plan.statement.promise.position,
        )
    network = context.models.network(plan.bound)
    if not network.traced:
        raise PlanError(
            f"the redundancy of {table.model} cannot be counted: its network could not be traced ({network.failure})"
        )
    reason = "counted from the network's geometry; nothing is run"
    return PhysicalPlan(plan.root, (), Quality("exact"), reason, str(plan.statement), plan.root.columns)


def _request(plan: LogicalPlan, experiment: Experiment, context: Context) -> Request:
    promise = plan.statement.promise
    device = _device(plan, context)
    network = context.models.network(plan.bound)
    if network.unsteady is not None and promise is not None and promise.ssim is not None:
        raise PlanError(
            f"no SSIM can be promised for {experiment.model}: {network.unsteady}",
            position=promise.position,
            hint="Without the promise the query runs, and its answers are called approximate.",
        )
    limit = memory_limit(context, device)
    profile = None if promise is None else context.profiles(experiment, device)
    ssim = time_limit = None
    if promise is not None and promise.ssim is not None:
        ssim = SsimPromise(promise.ssim, promise.confidence or DEFAULT_CONFIDENCE, profile)
    if promise is not None and promise.seconds is not None:
        time_limit = TimeLimit(promise.seconds, _image_count(experiment))
    cells = experiment.grid, experiment.runs, experiment.scored
    return Request(
        workload=Workload(network, *cells, device, limit, experiment.precision),
        rates=context.rates(device),
        operators=context.operators,
        hints=plan.hints,
        hint_options=plan.statement.hints,
        promise=promise,
        ssim=ssim,
        time_limit=time_limit,
        profile=profile,
        may_tune=context.settings.get("tuning") != "off",
        limited=any(isinstance(node, Limit) for node in plan.root.walk()),
        single=experiment.images.count == 1,
        image_count=partial(_image_count, experiment),
    )


def _image_count(experiment: Experiment) -> int | None:
    """See `Request.image_count`."""
    images = experiment.images
    if images.count is None and experiment.image_filter is None and images.spec is not None:
        from kryptondb.images.sources import count_images

        found = count_images(images.spec, addresses=True)
        return found.count if found is not None else None
    return images.count


def _occlude(experiment: Experiment, workload: Workload, decision: Decision) -> Occlude:
    network, chosen = workload.network, decision.chosen
    node = Occlude(
        experiment,
        operator=chosen.operator,
        device=workload.device,
        memory_limit=workload.memory_limit,
        precision=chosen.precision,
        seconds=decision.seconds,
        tuning=decision.tuning,
        description=chosen.description,
        tail=_tail(network),
        unsteady=network.unsteady,
    )
    return node.run_by(chosen) if network.traced else node


def _quality(quality: Quality, experiment: Experiment, network: Network) -> Quality:
    """The quality of answers, which are never exact where the model answers one picture in two ways."""
    if network.unsteady is None:
        return quality
    why = f"{experiment.model} is not deterministic: {network.unsteady}"
    return replace(quality, kind="approximate", note="; ".join(filter(None, (why, quality.note))))


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
