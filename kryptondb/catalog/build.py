"""From a source and its options to a `Model`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from kryptondb.catalog import exported, onnx_models, pretrained, timm_models, torchvision_models
from kryptondb.catalog.model import Model, SourceModel, count_classes, fingerprint, freeze, parameter_count
from kryptondb.catalog.options import ModelOptions, resolve_labels, with_options
from kryptondb.errors import BindError, ModelError, did_you_mean
from kryptondb.files.paths import absolute
from kryptondb.options.words import WEIGHT_WORDS
from kryptondb.process.torch_state import building

if TYPE_CHECKING:
    import torch


def build_model(name: str, kind: str, source: str, options: Mapping[str, object]) -> Model:
    """Builds the model that `CREATE MODEL name FROM kind('source') WITH (options)` means; nothing is remembered.

    Args:
        kind: 'torchvision', 'file', 'pretrained' or 'timm'.
        source: an architecture's name, or a path.
        options: Python values, as `ModelOptions.parse` takes them.

    Raises:
        BindError: a kind, architecture or option that there is not.
        ModelError: the model cannot be built as asked.
    """
    builder = SOURCES.get(kind)
    if builder is None:
        raise BindError(
            f'no model source "{kind}"', hint=did_you_mean(kind, SOURCES) or f"Available: {', '.join(SOURCES)}."
        )
    parsed = ModelOptions.parse(options)
    with building():
        return finish(name, builder(source, parsed), parsed)


def finish(name: str, built: SourceModel, options: ModelOptions) -> Model:
    """Counts classes, resolves labels and preprocessing, and takes the fingerprint."""
    module = freeze(built.module)
    preprocess = with_options(built.preprocess, options)
    shape = (preprocess.channel_count, preprocess.height, preprocess.width)
    structure = built.structure
    if not built.adapted:
        module, structure = _adapted(module, structure, options, (built.batch, *shape))
    activation = options.activation or built.activation or "softmax"
    if activation != "softmax":
        structure += f"\nactivation {activation}"
    classes = count_classes(module, shape, name, built.batch)
    if options.classes not in (None, classes):
        raise ModelError(
            f'model "{name}" gives {classes:,} scores, not {options.classes:,}',
            hint=f"classes => {classes} is what it has.",
        )
    labels = resolve_labels(options.labels, classes, built.labels)
    files = built.files + ((options.labels,) if isinstance(options.labels, str) else ())
    return Model(
        name=name,
        architecture=built.architecture,
        make=lambda: module,
        preprocess=preprocess,
        labels=labels,
        fingerprint=fingerprint(structure, module, preprocess),
        parameters=parameter_count(module),
        weights=built.weights,
        classes=classes,
        files=files,
        activation=activation,
    )


def _adapted(
    module: torch.nn.Module, structure: str, options: ModelOptions, shape: tuple[int, ...]
) -> tuple[torch.nn.Module, str]:
    """The module with the input and the output that the options say, and its structure in text."""
    import torch

    from kryptondb.catalog.scores import ScoreAdapter, adapted

    ready = adapted(module, options.output, options.layout, torch.zeros(shape))
    if isinstance(ready, ScoreAdapter):
        structure += f"\noutput {ready.output!r} channels_last {ready.channels_last} column {ready.column}"
    return ready, structure


def absolute_source(kind: str, source: str) -> str:
    """The source as the catalog remembers it: a file's path made absolute, a name as it is."""
    return absolute(source) if kind == "file" else source


def named_files(kind: str, source: str, options: Mapping[str, object]) -> tuple[str, ...]:
    """The absolute paths that a statement names itself: the source's, the weights' and the labels'."""
    parsed = ModelOptions.parse(options)
    paths = [absolute(source)] if kind == "file" else []
    paths.extend(path for path in (parsed.weights, parsed.labels) if isinstance(path, str) and path not in WEIGHT_WORDS)
    return tuple(paths)


def _file(source: str, options: ModelOptions) -> SourceModel:
    """A model file, by its suffix."""
    path = absolute(source)
    suffix = Path(path).suffix.lower()
    if suffix == ".pt2":
        return exported.build(path, options)
    if suffix == ".onnx":
        return onnx_models.build(path, options)
    if suffix in (".pth", ".pt", ".safetensors"):
        raise ModelError(
            f"{source} is not a model by itself: a {suffix} file holds weights without an architecture",
            hint=f"CREATE MODEL name FROM torchvision('resnet18') WITH (weights => '{source}').",
        )
    raise ModelError(
        f"{source} is not a model file", hint="Model files end in .onnx or .pt2 (saved by torch.export.save)."
    )


SOURCES: dict[str, Callable[[str, ModelOptions], SourceModel]] = {
    "torchvision": torchvision_models.build,
    "file": _file,
    "pretrained": pretrained.build,
    "timm": timm_models.build,
}
