"""USING: hints get their values, and what this version cannot do is refused by name."""

from __future__ import annotations

import dataclasses

from kryptondb.errors import BindError, PlanError
from kryptondb.grammar.statements import Option
from kryptondb.optimizer.logical import Context, Hints, LogicalPlan, Occlusion, source
from kryptondb.optimizer.physical import Redundancy
from kryptondb.options.reader import bind
from kryptondb.options.tables import USING

THRESHOLDED = "thresholded"
STAGED = ("drill-down", "refined")
#: The operators that each hint says something to; all others are for any operator.
MEANT_FOR = {"tau": (THRESHOLDED, *STAGED), **dict.fromkeys(("step", "fraction", "chosen", "doubt"), STAGED)}


def bind_hints(plan: LogicalPlan, context: Context) -> LogicalPlan:
    """Reads the USING clause. A tau without an operator asks for `thresholded`.

    Before:  USING tau => 0.6, batch => 64
    After:   Hints({'operator': 'thresholded', 'tau': 0.6, 'batch': 64})

    A precision is part of the experiment: what its answers are belongs to what is asked.

    Raises:
        BindError: an unknown hint or value, or two that exclude each other.
        PlanError: `thresholded` without its tau.
    """
    operators = tuple(operator.name for operator in context.operators)
    given = bind(USING.among("operator", operators), plan.statement.hints, defaults=True)
    table = source(plan)
    if plan.statement.hints and isinstance(table, Redundancy):
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
                hint="Remove one of them.",
            )
    if given.get("operator") == THRESHOLDED and "tau" not in given:
        raise PlanError(
            f"the operator '{THRESHOLDED}' needs a tau: no profile shows yet how small it may be",
            position=given.options["operator"].position,
            hint="USING tau => 0.6 keeps 0.6 of each layer's height and width.",
        )
    hints = dict(given)
    precision = hints.pop("precision", None)
    if precision is not None and isinstance(table, Occlusion):
        plan = plan.put(table.asking(precision=precision))
    return dataclasses.replace(plan, hints=Hints(hints))


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
