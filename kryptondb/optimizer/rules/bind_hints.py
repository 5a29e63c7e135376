"""USING: hints get their values, and what this version cannot do is refused by name."""

from __future__ import annotations

import dataclasses

from kryptondb.errors import BindError, PlanError
from kryptondb.grammar.statements import Option
from kryptondb.optimizer.context import Context
from kryptondb.optimizer.logical import Hints, LogicalPlan, RedundancyTable, source
from kryptondb.optimizer.values import bad, no_such, number, one_of, text, whole
from kryptondb.optimizer.workload import ELEMENT_BYTES

HINTS = ("operator", "device", "precision", "tau", "step", "fraction", "chosen", "doubt", "batch", "convolution")
CHOSEN = ("uncertain", "drop")
CONVOLUTIONS = ("auto", "accurate", "direct")
PRECISIONS = tuple(ELEMENT_BYTES)
THRESHOLDED = "thresholded"
STAGED = ("drill-down", "refined")
#: The operators that each hint says something to; all others are for any operator.
MEANT_FOR = {"tau": (THRESHOLDED, *STAGED), **dict.fromkeys(("step", "fraction", "chosen", "doubt"), STAGED)}
LARGEST_BATCH = 65_536
LARGEST_STEP = 64
LARGEST_DOUBT = 10.0


def bind_hints(plan: LogicalPlan, context: Context) -> LogicalPlan:
    """Reads the USING clause. A tau without an operator asks for `thresholded`.

    Before:  USING tau => 0.6, batch => 64
    After:   Hints(operator='thresholded', tau=0.6, batch=64)

    Raises:
        BindError: an unknown hint or value, or two that exclude each other.
        PlanError: `thresholded` without its tau.
    """
    given: dict[str, str | float] = {}
    for option in plan.statement.hints:
        if option.name not in HINTS:
            raise no_such("hint", option.name, HINTS, option)
        given[option.name] = _value(option, context)
    if plan.statement.hints and isinstance(source(plan), RedundancyTable):
        raise BindError(
            "redundancy is counted from the network's geometry and runs nothing: USING has no meaning for it",
            position=plan.statement.hints[0].position,
        )
    if "tau" in given:
        given.setdefault("operator", THRESHOLDED)
    for option in plan.statement.hints:
        _refuse_for_others(option, given.get("operator"))
        if option.name in ("fraction", "chosen") and "doubt" in given:
            raise BindError(
                f"{option.name} and doubt are two ways to say which cells are computed afterwards",
                position=option.position,
                hint="Leave one of them out.",
            )
    if given.get("operator") == THRESHOLDED and "tau" not in given:
        raise PlanError(
            f"the operator '{THRESHOLDED}' needs a tau: no profile says yet how small it may be",
            position=next(option for option in plan.statement.hints if option.name == "operator").position,
            hint="USING tau => 0.6 keeps 0.6 of each layer's height and width.",
        )
    return dataclasses.replace(plan, hints=Hints(**given))  # type: ignore[arg-type]


def _refuse_for_others(option: Option, operator: object) -> None:
    """A hint that the operator asked for makes nothing of is refused."""
    meant = MEANT_FOR.get(option.name)
    if meant is None or operator in meant:
        return
    names = ", ".join(f"'{name}'" for name in meant[:-1]) + f" and '{meant[-1]}'"
    asked = "" if operator is None else f", not for '{operator}'"
    raise BindError(
        f"{option.name} is a hint for the operators {names}{asked}",
        position=option.position,
        hint=f"USING operator => '{meant[-1]}', {option} asks for one of them.",
    )


def _value(option: Option, context: Context) -> str | float:
    if option.name == "tau":
        hint = "It is the share of each layer's height and width that regions keep; with 1 nothing is cut off."
        return _positive(option, 1.0, hint)
    if option.name == "step":
        step = whole(option.value)
        if step is None or not 1 <= step <= LARGEST_STEP:
            hint = "Cells at every so many-th row and column are computed first."
            raise bad(option, f"a whole number from 1 to {LARGEST_STEP}", hint=hint)
        return step
    if option.name == "fraction":
        fraction = number(option.value)
        if fraction is None or not 0 <= fraction <= 1:
            raise bad(option, "a number from 0 to 1", hint="It is the share of all cells that is computed afterwards.")
        return float(fraction)
    if option.name == "chosen":
        return one_of(option, CHOSEN, "drop")
    if option.name == "doubt":
        hint = "Cells of which the map is less sure than that are computed afterwards, about 0.1 to 0.5."
        return _positive(option, LARGEST_DOUBT, hint)
    if option.name == "operator":
        return one_of(option, [operator.name for operator in context.operators], "incremental")
    if option.name == "precision":
        return one_of(option, PRECISIONS, "float32")
    if option.name == "convolution":
        return one_of(option, CONVOLUTIONS, "direct")
    if option.name == "device":
        return _device(option)
    size = whole(option.value)
    if size is None or not 1 <= size <= LARGEST_BATCH:
        raise bad(option, f"a whole number of positions from 1 to {LARGEST_BATCH:,}")
    return size


def _positive(option: Option, most: float, hint: str) -> float:
    value = number(option.value)
    if value is None or not 0 < value <= most:
        raise bad(option, f"a number above 0 and at most {most:g}", hint=hint)
    return float(value)


def _device(option: Option) -> str:
    from kryptondb.catalog.settings import SETTINGS

    try:
        return str(SETTINGS["device"].parse(text(option, "cpu")))
    except ValueError:
        raise bad(option, "'auto', 'cpu', 'cuda' or 'cuda:0'") from None
