"""`'file.onnx'`: an ONNX classifier, read as data and translated to PyTorch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kryptondb.catalog.model import SourceModel
from kryptondb.catalog.options import ModelOptions
from kryptondb.errors import BindError, ModelError, did_you_mean, one_line
from kryptondb.options.tables import PREPROCESS_OPTIONS, SCORE_OPTIONS

if TYPE_CHECKING:
    import torch

    from kryptondb.catalog.onnx_models.reading import OnnxFile
    from kryptondb.catalog.onnx_models.translation import Translation

FLOATING, UINT8 = (1, 10, 11, 16), 2  # TensorProto's numbers of element types
ACTIVATIONS = {"Softmax": "softmax", "LogSoftmax": "softmax", "Sigmoid": "sigmoid"}
SAME = 1e-4  # largest difference between a picture alone and in a batch, relative to the scores


@dataclass(frozen=True)
class Input:
    """The picture batch that a file reads; None for a size that is free."""

    name: str
    channels_last: bool
    batch: int | None
    channels: int | None
    height: int | None
    width: int | None
    is_bytes: bool


def build(path: str, options: ModelOptions) -> SourceModel:
    """Builds the model in an ONNX file that takes one batch of pictures, [N, C, H, W] or [N, H, W, C].

    A softmax or sigmoid at the end becomes the model's activation and is left out of the module. Raises ModelError when
    the file is missing or damaged, uses an operator that is not taken (by name), or takes other inputs than the options
    say; BindError for an output that there is not.
    """
    from kryptondb.catalog.onnx_models.reading import read

    options.only("an ONNX file", *SCORE_OPTIONS, "layout", *PREPROCESS_OPTIONS)
    file = read(path)
    from kryptondb.catalog.onnx_models.translation import Translation  # needs the package onnx, as `read` says

    taken = _input(file, options)
    preprocess = _preprocess(taken, options, path)
    shape = (preprocess.channel_count, preprocess.height, preprocess.width)
    output = _output(file, options)
    translation = Translation(file, taken.name, output, shape, taken.channels_last, taken.batch, taken.is_bytes)
    output, activation = _scores(translation, output, options.activation)
    module = translation.module(output)
    if taken.batch is not None:
        _check_batches(module, shape, path)
    return SourceModel(
        architecture=f"ONNX opset {file.opset}",
        structure="\n".join(["onnx 1", repr(taken), output, *translation.lines]),
        module=module,
        preprocess=preprocess,
        weights=path,
        files=file.files,
        activation=activation,
        adapted=True,
        batch=1,
    )


def _input(file: OnnxFile, options: ModelOptions) -> Input:
    found = [value for value in file.graph.input if not file.holds(value.name)]
    if len(found) != 1:
        names = ", ".join(value.name[:60] for value in found[:5])
        raise ModelError(f"{file.path} takes {len(found)} inputs ({names}), not one batch of pictures")
    kind = found[0].type.tensor_type
    sides = [side.dim_value if side.HasField("dim_value") and side.dim_value > 0 else None for side in kind.shape.dim]
    if len(sides) != 4 or kind.elem_type not in (*FLOATING, UINT8):
        raise ModelError(f"{file.path} does not take floating point pictures of four dimensions, [N, C, H, W]")
    last = options.layout == "channels_last" if options.layout else _is_channels_last(sides, found[0].name, file)
    batch, *rest = sides
    height, width, channels = rest if last else (rest[1], rest[2], rest[0])
    return Input(found[0].name, last, batch, channels, height, width, kind.elem_type == UINT8)


def _is_channels_last(sides: list[int | None], name: str, file: OnnxFile) -> bool:
    """Whether the picture's last dimension is its channels: by its size, else by a transpose that puts them first."""
    _, first, _, last = sides
    if (first in (1, 3)) != (last in (1, 3)):
        return last in (1, 3)
    readers = [node for node in file.graph.node if name in node.input]
    permutations = [list(a.ints) for n in readers if n.op_type == "Transpose" for a in n.attribute if a.name == "perm"]
    return bool(readers) and len(permutations) == len(readers) and all(p == [0, 3, 1, 2] for p in permutations)


def _preprocess(taken: Input, options: ModelOptions, path: str) -> Any:
    from kryptondb.catalog.options import for_input

    return for_input((taken.channels, taken.height, taken.width), options, path, scale=255.0 if taken.is_bytes else 1.0)


def _output(file: OnnxFile, options: ModelOptions) -> str:
    """The name of the output that holds the scores: the only one, or what `output =>` names or counts."""
    names = [value.name for value in file.graph.output]
    wanted = options.output
    if wanted is None:
        if len(names) != 1:
            raise ModelError(
                f"{file.path} has {len(names)} outputs: {', '.join(names[:8])}",
                hint=f"output => '{names[0]}' takes one of them." if names else "",
            )
        return str(names[0])
    if isinstance(wanted, int) and wanted < len(names):
        return str(names[wanted])
    if wanted in names:
        return str(wanted)
    raise BindError(
        f'{file.path} has no output "{wanted}"',
        hint=did_you_mean(str(wanted), names) or f"Its outputs are {', '.join(names[:8])}.",
        option="output",
    )


def _scores(translation: Translation, output: str, wanted: str | None) -> tuple[str, str | None]:
    """The value that holds the scores and the activation behind it, where the file ends in the one that is wanted."""
    node, source = translation.producer.get(translation.resolved(output), (None, None))
    activation = ACTIVATIONS.get(node.op_type) if node is not None else None
    if activation is None or source is None or wanted not in (None, activation):
        return output, None
    classes, shape = translation.classes_at(output), translation.shape(output)
    if classes is None or shape is None:
        return output, None
    if activation == "softmax":
        default = -1 if translation.file.opset >= 13 else 1
        axis = next((attribute.i for attribute in node.attribute if attribute.name == "axis"), default) % len(shape)
        # Before opset 13 all sides from the axis on were taken together.
        over = range(axis, len(shape)) if translation.file.opset < 13 else [axis]
        if 0 in over or classes not in over:
            return output, None
    return source, activation


def _check_batches(module: torch.nn.Module, shape: tuple[int, int, int], path: str) -> None:
    """Checks that a file made for a batch of fixed size gives each picture of another batch its own scores."""
    import torch

    from kryptondb.catalog.onnx_models.reading import BATCH_HINT

    generator = torch.Generator().manual_seed(0)
    images = torch.rand(2, *shape, generator=generator)
    try:
        with torch.no_grad():
            together = module(images)
            alone = [module(image[None]) for image in images]
    except RuntimeError as error:
        raise ModelError(f"{path} is made for a batch of fixed size: {one_line(error)}", hint=BATCH_HINT) from error
    same = all(
        one.shape[1:] == both.shape and (one[0] - both).abs().max() <= SAME * one.abs().max().clamp(min=1)
        for one, both in zip(alone, together, strict=True)
    )
    if not same:
        raise ModelError(f"{path} is made for a batch of fixed size and gives other scores in another", hint=BATCH_HINT)
