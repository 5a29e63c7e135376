"""The table function becomes an experiment: the model is looked up, the options get their values."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING
from urllib.parse import quote

from kryptondb.errors import BindError
from kryptondb.grammar.statements import (
    Column,
    Expression,
    ListLiteral,
    Literal,
    Option,
    Parameter,
    TableFile,
    TableFunction,
    TopK,
)
from kryptondb.network.grid import EDGES, leaves_gaps
from kryptondb.optimizer.context import Context, at
from kryptondb.optimizer.logical import LogicalPlan, Occlusion, RedundancyTable, TableCall
from kryptondb.optimizer.physical import Images
from kryptondb.optimizer.rules.bind_parameters import parameter_key
from kryptondb.optimizer.tree import PlanNode
from kryptondb.optimizer.values import bad, no_such, number, one_of, pair

if TYPE_CHECKING:
    from kryptondb.catalog import Model

OCCLUDE_OPTIONS = ("patch", "stride", "fill", "class", "score", "edges", "window", "axes")
ANALYZE_OPTIONS = (*OCCLUDE_OPTIONS, "budget", "confidence")
REDUNDANCY_OPTIONS = ("patch", "stride")
SCORES = ("probability", "logit", "log_probability", "output")
RAW_SCORES = ("logit", "output")  # the network's own numbers


def bind_source(plan: LogicalPlan, context: Context) -> LogicalPlan:
    """Looks up the model, the images and the options of `occlude` or `redundancy`.

    Before:  TableCall(occlude(chest, 'a.png', patch => 16))
    After:   Occlusion(Images('a.png'), chest, 3 x 224 x 224, patch 16 x 16, stride 4 x 4, fill gray, class TOP 1)

    Raises:
        BindError: an unknown model or option, a value that an option does not take, a patch that does not fit.
    """

    def bind(node: PlanNode) -> PlanNode:
        if not isinstance(node, TableCall):
            return node
        return (_occlusion if node.call.function == "occlude" else _redundancy)(node.call, context)

    return dataclasses.replace(plan, root=plan.root.transform(bind))


def _occlusion(call: TableFunction, context: Context) -> Occlusion:
    options = _options(call, OCCLUDE_OPTIONS)
    model = _model(call.arguments[0], context)
    images = _images(call.arguments[1], context)
    if "window" in options:
        images = dataclasses.replace(images, window=_window(options["window"]))
    if "axes" in options:
        images = dataclasses.replace(images, axes=_axes(options["axes"], images))
    channels, height, width = model.input_shape
    patch, stride = _patch_and_stride(options, model.name, height, width)
    return Occlusion(
        input=images,
        model=model.name,
        fingerprint=model.fingerprint,
        channels=channels,
        height=height,
        width=width,
        patch=patch,
        stride=stride,
        fill=_fill(options["fill"]) if "fill" in options else "gray",
        score=_score(options.get("score"), model),
        classes=options["class"].value if "class" in options else TopK(1),
        edges=_edges(options["edges"], patch, stride, (height, width)) if "edges" in options else "fit",
    )


def _score(option: Option | None, model: Model) -> str:
    """Which number is mapped: by default a probability, and the output itself of a model that gives none."""
    default = "output" if model.activation == "none" else "probability"
    score = one_of(option, SCORES, default) if option is not None else default
    if score in RAW_SCORES:
        return score
    position = (option.value.position or option.position) if option is not None else None
    if model.activation == "none":
        raise BindError(
            f"{model.name} gives no probabilities (activation => 'none')",
            position=position,
            hint="score => 'output' maps what it gives.",
        )
    if model.activation == "softmax" and model.classes == 1:
        raise BindError(
            f"{model.name} gives one number an image; as a softmax it would always be 1",
            position=position,
            hint="score => 'output' maps the number itself. CREATE MODEL ... WITH (activation => 'sigmoid') says that"
            " it is the logit of a probability, activation => 'none' that it is a measure.",
        )
    return score


def _redundancy(call: TableFunction, context: Context) -> RedundancyTable:
    options = _options(call, REDUNDANCY_OPTIONS)
    model = _model(call.arguments[0], context)
    _, height, width = model.input_shape
    patch, stride = _patch_and_stride(options, model.name, height, width)
    return RedundancyTable(model.name, model.fingerprint, height, width, patch, stride)


def _options(call: TableFunction, known: tuple[str, ...]) -> Mapping[str, Option]:
    for option in call.options:
        if option.name not in known:
            raise no_such(f"{call.function} option", option.name, known, option)
    return {option.name: option for option in call.options}


def _model(argument: Expression, context: Context) -> Model:
    if isinstance(argument, Column):
        name = argument.name
    elif isinstance(argument, Literal) and isinstance(argument.value, str):
        name = argument.value
    else:
        raise BindError(
            f"the first argument must be the name of a model, not {argument}",
            position=argument.position,
            hint="SHOW MODELS lists what this database knows.",
        )
    with at(argument.position):
        return context.models.get(name)


def _images(argument: Expression, context: Context) -> Images:
    spec = _spec(argument)
    if spec is not None:
        return Images(spec, count=_count((spec,)))
    if isinstance(argument, ListLiteral):
        specs = tuple(spec for spec in map(_spec, argument.items) if spec is not None)
        if specs and len(specs) == len(argument.items):
            return Images(specs, count=_count(specs))
    if isinstance(argument, Parameter):
        key = parameter_key(argument)
        value = context.bindings[key]
        return Images(None, binding=key, count=_count(tuple(value) if isinstance(value, (list, tuple)) else (value,)))
    hint = f"Did you mean '{argument.name}'? Quote it." if isinstance(argument, Column) else None
    raise BindError(
        f"images must be a path in quotes, a list of paths, or a parameter, not {argument}",
        position=argument.position,
        hint=hint,
    )


def _spec(argument: Expression) -> str | None:
    """The text that names pictures: a path, or a table's path with its column behind a `#`; None for anything else."""
    if isinstance(argument, Literal) and isinstance(argument.value, str):
        return argument.value
    if isinstance(argument, TableFile):
        path, column = argument.path, argument.column or Literal("image")
        texts = [each.value for each in (path, column) if isinstance(each, Literal) and isinstance(each.value, str)]
        if len(texts) == 2:
            return f"{texts[0]}#column={quote(texts[1], safe='')}"
        raise BindError(f"{argument.format} takes a path and a column in quotes", position=argument.position)
    return None


def _window(option: Option) -> tuple[float, float]:
    items = option.value.items if isinstance(option.value, ListLiteral) else ()
    numbers = [value for value in map(number, items) if value is not None]
    if len(numbers) != 2 or len(items) != 2 or numbers[1] <= 0:
        raise bad(option, "(center, width) in the units of the image files, such as (40, 400), the width above 0")
    return float(numbers[0]), float(numbers[1])


def _axes(option: Option, images: Images) -> str:
    """How arrays lie in memory: rows, columns and channels, or channels first."""
    from kryptondb.images.foreign_arrays import AXES

    axes = one_of(option, AXES, "CHW")
    if images.spec is not None:
        raise BindError(
            "axes says how an array in memory lies, and these pictures are in files, which say it themselves",
            position=option.value.position or option.position,
            hint="Leave axes out.",
        )
    return axes


def _count(specs: tuple[object, ...]) -> int | None:
    """How many pictures there are, where that is plain without reading a folder."""
    from kryptondb.images.foreign_arrays import pictures_in
    from kryptondb.images.sources import is_single

    counts = [1 if is_single(spec) else len(pictures_in(spec) or ()) for spec in specs]
    return sum(counts) if all(counts) else None


def _patch_and_stride(
    options: Mapping[str, Option], model: str, height: int, width: int
) -> tuple[tuple[int, int], tuple[int, int]]:
    patch = pair(options["patch"]) if "patch" in options else (16, 16)
    stride = pair(options["stride"]) if "stride" in options else (4, 4)
    for name, size in (("patch", patch), ("stride", stride)):
        if size[0] <= height and size[1] <= width:
            continue
        given = options.get(name)
        message = f"a {name} of {size[0]} x {size[1]} does not fit the {height} x {width} input of {model}"
        raise BindError(message, position=given.value.position or given.position if given else None)
    return patch, stride


def _edges(option: Option, patch: tuple[int, int], stride: tuple[int, int], sizes: tuple[int, int]) -> str:
    """What happens at the lower and right edge: 'fit' leaves out what no whole patch reaches, 'cover' cuts patches."""
    edges = one_of(option, EDGES, "cover")
    if edges == "cover" and leaves_gaps(sizes, patch, stride):
        raise BindError(
            f"a stride of {stride[0]} x {stride[1]} leaves gaps between patches of {patch[0]} x {patch[1]}, which"
            " cannot cover the picture",
            position=option.value.position or option.position,
            hint="A stride may be as large as the patch: then patches touch.",
        )
    return edges


def _fill(option: Option) -> str:
    from kryptondb.images.fills import parse_fill

    value: str | float | tuple[float, ...] | None = number(option.value)
    if isinstance(option.value, ListLiteral):
        levels = tuple(level for level in map(number, option.value.items) if level is not None)
        value = levels if len(levels) == len(option.value.items) else None
    elif isinstance(option.value, Literal) and isinstance(option.value.value, str):
        value = option.value.value
    if value is None:
        hint = f"Did you mean '{option.value.name}'? Quote it." if isinstance(option.value, Column) else None
        raise bad(option, "a name such as 'gray', a number in 0..1, or (r, g, b)", hint=hint)
    try:
        return str(parse_fill(value))
    except ValueError as error:
        raise BindError(str(error), position=option.value.position or option.position) from None
