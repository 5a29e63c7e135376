"""A statement becomes the cheapest physical plan that keeps its promise, and tells why.

`plan` binds the names of a SELECT, rewrites its logical plan by the rules in `optimizer.RULES`, and chooses operators
by cost. `explain` tells the story of a plan; `to_json` and `from_json` carry one to another machine.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from kryptondb.optimizer.explain import explain, explain_json
from kryptondb.optimizer.physical import PhysicalPlan, from_json, to_json

if TYPE_CHECKING:
    from kryptondb.catalog import ModelStore, Settings
    from kryptondb.grammar.statements import Select
    from kryptondb.optimizer.cost import Rates
    from kryptondb.optimizer.experiment import Experiment
    from kryptondb.optimizer.operator import Operator
    from kryptondb.optimizer.promise import Profile

__all__ = ["PhysicalPlan", "explain", "explain_json", "from_json", "plan", "to_json"]


def plan(
    select: Select,
    *,
    models: ModelStore,
    settings: Settings,
    bindings: Mapping[str, Any],
    rates: Callable[[str], Rates],
    operators: Sequence[type[Operator]],
    profiles: Callable[[Experiment, str], Profile | None] = lambda *_: None,
) -> PhysicalPlan:
    """The physical plan of a SELECT.

    Args:
        bindings: parameters by key: '0', '1' for `?` in order of appearance, the name for `$name`.
        rates: what a device does in a second, by torch device string.
        operators: the classes to choose from.
        profiles: the quality profile of an experiment on a torch device; None where there is none.

    Raises:
        BindError: a name, option or value that means nothing here, at its place in the text.
        PlanError: a promise or hint that cannot be kept.
    """
    from kryptondb.optimizer.logical import Context
    from kryptondb.optimizer.optimizer import optimize

    return optimize(select, Context(models, settings, bindings, rates, operators, profiles))
