"""The `class` option: labels become indices."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from kryptondb.errors import BindError, did_you_mean
from kryptondb.grammar.statements import AllClasses, Column, Expression, ListLiteral, TopK
from kryptondb.optimizer.experiment import ClassChoice
from kryptondb.optimizer.logical import Context, LogicalPlan, Occlusion, source
from kryptondb.options.kinds import Whole
from kryptondb.options.reader import value_of
from kryptondb.options.tables import OCCLUDE
from kryptondb.text.plain_text import printable


def resolve_classes(plan: LogicalPlan, context: Context) -> LogicalPlan:
    """Looks labels up in the model's list, in any case.

    Before:  Occlusion(class => ('Pneumonia', 3))
    After:   Occlusion(class (7, 3))

    Raises:
        BindError: a label that the model does not have (with the nearest) or has twice (with their indices), an index
            or a TOP beyond its classes.
    """
    table = source(plan)
    if not isinstance(table, Occlusion) or table.class_option is None:
        return plan
    model = plan.bound
    classes = _choice(table.class_option, model.name, model.classes, model.labels)
    return plan.put(dataclasses.replace(table.asking(classes=classes), class_option=None))


def _choice(value: Expression, model: str, classes: int, labels: Sequence[str]) -> ClassChoice:
    if isinstance(value, AllClasses):
        return ClassChoice("all")
    if isinstance(value, TopK):
        if value.k > classes:
            message = f"class => TOP {value.k} does not fit {model}, which has {classes:,} classes"
            raise BindError(message, position=value.position, hint="class => ALL takes all of them.")
        return ClassChoice("top", k=value.k)
    items = value.items if isinstance(value, ListLiteral) else (value,)
    indices = (_index(item, model, classes, labels) for item in items)
    return ClassChoice("list", indices=tuple(dict.fromkeys(indices)))


def _index(item: Expression, model: str, classes: int, labels: Sequence[str]) -> int:
    value = value_of(item, {}, strict=False)
    if isinstance(value, str):
        return _labelled(value, item, model, labels)
    try:
        index = Whole(-(2**63)).read(value)
    except ValueError:
        alone = isinstance(item, Column) and item.name.upper() == "ALL"
        hint = "ALL stands alone: class => ALL." if alone else None
        raise OCCLUDE["class"].refusal(value, item.position, hint) from None
    if not 0 <= index < classes:
        message = f"class {index} does not exist: {model} has {classes:,} classes, 0 to {classes - 1}"
        raise BindError(message, position=item.position)
    return index


def _labelled(label: str, value: Expression, model: str, labels: Sequence[str]) -> int:
    label = printable(label)  # as the model's are
    for same in (_exactly, _folded, _synonym):  # the first way in which any label matches
        found = [index for index, known in enumerate(labels) if same(label, known)]
        if len(found) == 1:
            return found[0]
        if found:
            shown = ", ".join(str(index) for index in found[:8])
            raise BindError(
                f'{len(found)} classes of {model} are called "{label}": {shown}',
                position=value.position,
                hint=f"Choose one by its index (class => {found[0]}), or both (class => ({shown})).",
            )
    if not labels:
        raise BindError(f"{model} has no labels: choose a class by its index", position=value.position)
    raise BindError(f'{model} has no class labeled "{label}"', position=value.position, hint=_nearest(label, labels))


def _exactly(given: str, known: str) -> bool:
    return given == known


def _folded(given: str, known: str) -> bool:
    return given.strip().casefold() == known.strip().casefold()


def _synonym(given: str, known: str) -> bool:
    """ImageNet's labels are lists of names: 'tench, Tinca tinca'."""
    return any(_folded(given, name) for name in known.split(",")) if "," in known else False


def _nearest(label: str, labels: Sequence[str]) -> str:
    names = list(dict.fromkeys(name.strip() for known in labels for name in (known, *known.split(","))))
    inside = [name for name in labels if len(label) >= 3 and label.casefold() in name.casefold()]
    if inside:
        return "Did you mean " + " or ".join(f'"{name}"' for name in inside[:3]) + "?"
    near = did_you_mean(label, names)
    if near is not None:
        return near
    shown = ", ".join(f'"{name}"' for name in labels[:6])
    return f"Its labels are {shown}" + (f" and {len(labels) - 6:,} more." if len(labels) > 6 else ".")
