"""The table function becomes an experiment: the model is looked up, the options get their values."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING
from urllib.parse import quote

from kryptondb.errors import BindError, at
from kryptondb.grammar.statements import (
    Column,
    Expression,
    ListLiteral,
    Literal,
    Parameter,
    TableFile,
    TableFunction,
)
from kryptondb.network.grid import leaves_gaps
from kryptondb.optimizer.experiment import ClassChoice, Edges, Experiment, Images
from kryptondb.optimizer.logical import Context, LogicalPlan, Occlusion, TableCall, source
from kryptondb.optimizer.physical import Redundancy
from kryptondb.options.reader import OptionValues, bind
from kryptondb.options.tables import OCCLUDE, REDUNDANCY, TABLE_FILES

if TYPE_CHECKING:
    from kryptondb.catalog import Model

RAW_SCORES = ("logit", "output")  # the network's own numbers


def bind_source(plan: LogicalPlan, context: Context) -> LogicalPlan:
    """Looks up the model, the images and the options of `occlude` or `redundancy`.

    Before:  TableCall(occlude(chest, 'a.png', patch => 16))
    After:   Occlusion(Images('a.png'), chest, 3 x 224 x 224, patch 16 x 16, stride 4 x 4, fill gray, class TOP 1)

    Raises:
        BindError: an unknown model or option, a value that an option does not take, a patch that does not fit.
    """
    table = source(plan)
    assert isinstance(table, TableCall)
    occludes = table.call.function == "occlude"
    given = bind(OCCLUDE if occludes else REDUNDANCY, table.call.options, defaults=True)
    model = _model(table.call.arguments[0], context)
    yields = _occlusion(table.call, given, model, context) if occludes else _redundancy(given, model)
    return dataclasses.replace(plan.put(yields), model=model)


def _occlusion(call: TableFunction, given: OptionValues, model: Model, context: Context) -> Occlusion:
    from kryptondb.images.fills import parse_fill

    images = _images(call.arguments[1], context)
    channels, height, width = model.input_shape
    patch, stride = _patch_and_stride(given, model.name, height, width)
    experiment = Experiment(
        images=dataclasses.replace(images, window=given.get("window"), axes=_axes(given, images)),
        model=model.name,
        fingerprint=model.fingerprint,
        channels=channels,
        height=height,
        width=width,
        class_count=model.classes,
        patch=patch,
        stride=stride,
        fill=str(parse_fill(given["fill"])),
        score=_score(given, model),
        classes=ClassChoice("top", k=1),
        edges=_edges(given, patch, stride, (height, width)),
    )
    return Occlusion(experiment, given.options["class"].value if "class" in given.options else None)


def _score(given: OptionValues, model: Model) -> str:
    """Which number is mapped: by default a probability, and the output itself of a model that gives none."""
    score: str = given.get("score", "output" if model.activation == "none" else "probability")
    if score in RAW_SCORES:
        return score
    position = given.position("score")
    if model.activation == "none":
        raise BindError(
            f"{model.name} gives no probabilities (activation => 'none')",
            position=position,
            hint="score => 'output' maps what it gives.",
        )
    if model.activation == "softmax" and model.classes == 1:
        raise BindError(
            f"{model.name} gives one number per image; as a softmax it would always be 1",
            position=position,
            hint="score => 'output' maps the number itself. CREATE MODEL ... WITH (activation => 'sigmoid') says that"
            " it is the logit of a probability, activation => 'none' that it is a measure.",
        )
    return score


def _redundancy(given: OptionValues, model: Model) -> Redundancy:
    _, height, width = model.input_shape
    patch, stride = _patch_and_stride(given, model.name, height, width)
    return Redundancy(model.name, model.fingerprint, patch, stride, height, width)


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
        value = context.bindings[argument.key]
        return Images(
            None, binding=argument.key, count=_count(tuple(value) if isinstance(value, (list, tuple)) else (value,))
        )
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
        column = bind(TABLE_FILES, argument.options, defaults=True)["column"]
        if isinstance(argument.path, Literal) and isinstance(argument.path.value, str):
            return f"{argument.path.value}#column={quote(column, safe='')}"
        raise BindError(f"{argument.format} takes the path of a file in quotes", position=argument.position)
    return None


def _axes(given: OptionValues, images: Images) -> str | None:
    """How arrays lie in memory: rows, columns and channels, or channels first."""
    axes: str | None = given.get("axes")
    if axes is not None and images.spec is not None:
        raise BindError(
            "axes describes an array in memory, and these pictures are files",
            position=given.position("axes"),
            hint="Omit axes.",
        )
    return axes


def _count(specs: tuple[object, ...]) -> int | None:
    """How many pictures there are, where that is plain without reading a folder."""
    from kryptondb.images.arrays import pictures_in
    from kryptondb.images.sources import is_single

    counts = [1 if is_single(spec) else len(pictures_in(spec) or ()) for spec in specs]
    return sum(counts) if all(counts) else None


def _patch_and_stride(
    given: OptionValues, model: str, height: int, width: int
) -> tuple[tuple[int, int], tuple[int, int]]:
    patch, stride = given["patch"], given["stride"]
    for name, size in (("patch", patch), ("stride", stride)):
        if size[0] > height or size[1] > width:
            message = f"a {name} of {size[0]} x {size[1]} does not fit the {height} x {width} input of {model}"
            raise BindError(message, position=given.position(name))
    return patch, stride


def _edges(given: OptionValues, patch: tuple[int, int], stride: tuple[int, int], sizes: tuple[int, int]) -> Edges:
    """What happens at the lower and right edge: 'fit' leaves out what no whole patch reaches, 'cover' cuts patches."""
    edges: Edges = given["edges"]
    if edges == "cover" and leaves_gaps(sizes, patch, stride):
        raise BindError(
            f"a stride of {stride[0]} x {stride[1]} leaves gaps between patches of {patch[0]} x {patch[1]}, which"
            " cannot cover the picture",
            position=given.position("edges"),
            hint="A stride may be as large as the patch: then patches touch.",
        )
    return edges
