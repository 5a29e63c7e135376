"""USING: hints get their values, and what this version cannot do is refused by name."""

from __future__ import annotations

import dataclasses

from kryptondb.errors import BindError, PlanError
from kryptondb.grammar.statements import Option
from kryptondb.optimizer.context import Context
from kryptondb.optimizer.logical import Hints, LogicalPlan, RedundancyTable, source
from kryptondb.optimizer.values import bad, no_such, one_of, text, whole

HINTS = ("operator", "device", "precision", "tau", "batch", "convolution")
CONVOLUTIONS = ("auto", "direct")
PRECISIONS = ("float32", "float64")
FUTURE_PRECISIONS = ("bfloat16", "float16")
FUTURE_OPERATORS = ("thresholded", "drill-down", "refined")
LARGEST_BATCH = 65_536


def bind_hints(plan: LogicalPlan, context: Context) -> LogicalPlan:
    """Reads the USING clause.

    Before:  USING operator => 'incremental', batch => 64
    After:   Hints(operator='incremental', batch=64)

    Raises:
        BindError: an unknown hint or value.
        PlanError: a precision, operator or tau that this version does not have yet.
    """
    given: dict[str, str | int] = {}
    for option in plan.statement.hints:
        if option.name not in HINTS:
            raise no_such("hint", option.name, HINTS, option)
        given[option.name] = _value(option, context)
    if plan.statement.hints and isinstance(source(plan), RedundancyTable):
        raise BindError(
            "redundancy is counted from the network's geometry and runs nothing: USING has no meaning for it",
            position=plan.statement.hints[0].position,
        )
    return dataclasses.replace(plan, hints=Hints(**given))  # type: ignore[arg-type]


def _value(option: Option, context: Context) -> str | int:
    if option.name == "tau":
        raise _not_yet(option, f"tau => {option.value}", "It belongs to the approximate operators; answers are exact.")
    if option.name == "operator":
        _refuse_future(option, FUTURE_OPERATORS)
        return one_of(option, [operator.name for operator in context.operators], "incremental")
    if option.name == "precision":
        _refuse_future(option, FUTURE_PRECISIONS)
        return one_of(option, PRECISIONS, "float32")
    if option.name == "convolution":
        return one_of(option, CONVOLUTIONS, "direct")
    if option.name == "device":
        return _device(option)
    size = whole(option.value)
    if size is None or not 1 <= size <= LARGEST_BATCH:
        raise bad(option, f"a whole number of positions from 1 to {LARGEST_BATCH:,}")
    return size


def _device(option: Option) -> str:
    from kryptondb.catalog.settings import SETTINGS

    try:
        return str(SETTINGS["device"].parse(text(option, "cpu")))
    except ValueError:
        raise bad(option, "'auto', 'cpu', 'cuda' or 'cuda:0'") from None


def _refuse_future(option: Option, names: tuple[str, ...]) -> None:
    given = text(option, "float32" if option.name == "precision" else "incremental")
    for name in names:
        if given.casefold().replace("-", "") == name.replace("-", ""):
            known = ", ".join(PRECISIONS) if option.name == "precision" else "full and incremental"
            raise _not_yet(option, f"{option.name} => '{name}'", f"Available are {known}, which are exact.")


def _not_yet(option: Option, what: str, hint: str) -> PlanError:
    return PlanError(f"{what} is not available in this version yet", position=option.position, hint=hint)
