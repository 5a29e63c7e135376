"""A model: a module that nothing else holds, how pictures get into it, its class labels, and its fingerprint."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from kryptondb.errors import ModelError, one_line
from kryptondb.options.words import MAX_CLASSES

if TYPE_CHECKING:
    import torch

    from kryptondb.images.preprocess import Preprocess


@dataclass(frozen=True, eq=False)
class SourceModel:
    """A module and what its source knows about it.

    Attributes:
        architecture: its name in texts.
        structure: its computation in text, for the fingerprint.
        module: nothing else holds it.
        preprocess: the default; the user's options change it.
        weights: where they come from, in words.
        labels: class names that the source knows, used when their number fits.
        files: absolute paths it was built from.
        activation: what the source says makes probabilities of the scores, where the module leaves it out.
        adapted: whether the options `output` and `layout` are in the module already.
        batch: how many images the class count is found with: 1 saves time where the source is known to take batches.
    """

    architecture: str
    structure: str
    module: torch.nn.Module
    preprocess: Preprocess
    weights: str
    labels: tuple[str, ...] | None = None
    files: tuple[str, ...] = ()
    activation: str | None = None
    adapted: bool = False
    batch: int = 2


@dataclass(frozen=True, eq=False)
class Model:
    """A classifier, ready to run.

    Attributes:
        name: as the user wrote it.
        architecture: 'torchvision resnet18', a class name, or 'exported program'.
        make: gives the module.
        preprocess: from a picture to [C, H, W].
        labels: one per class.
        fingerprint: sha256 in hex over architecture, weights and preprocessing.
        parameters: how many numbers the module learned.
        weights: where they come from: a path, 'random', 'registered', or a name.
        classes: how many scores there are.
        files: absolute paths of the files that it was built from (source, weights, labels).
        activation: what makes probabilities of the scores: 'softmax', 'sigmoid' or 'none'.
    """

    name: str
    architecture: str
    make: Callable[[], torch.nn.Module]
    preprocess: Preprocess
    labels: tuple[str, ...]
    fingerprint: str
    parameters: int
    weights: str
    classes: int
    files: tuple[str, ...] = ()
    activation: str = "softmax"

    @cached_property
    def module(self) -> torch.nn.Module:
        """In eval mode, float32, on the CPU, without gradients; [N, C, H, W] normalized -> [N, classes] scores.

        A model that is answered from its cached network is built when this is first asked for. Raises ModelError when
        it cannot be built any more, or a file has changed since CREATE MODEL.
        """
        return self.make()

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""
        return self.preprocess.channel_count, self.preprocess.height, self.preprocess.width


@contextmanager
def reading(path: str, hint: str, what: str = "model") -> Iterator[None]:
    """Has the system's errors about a file that a model is made from raised as ModelError, with the file's name.

    Args:
        what: the kind of file, for the message.
    """
    try:
        yield
    except FileNotFoundError:
        raise ModelError(f"the {what} file {path} does not exist") from None
    except OSError as error:
        raise ModelError(f"the {what} file {path} cannot be read: {error.strerror or error}", hint=hint) from error


def own_copy(module: torch.nn.Module) -> torch.nn.Module:
    """A frozen deep copy on the CPU, in float32; the original is not touched.

    Wrappers that only say where a module runs (DataParallel, torch.compile) are left out.

    Raises ModelError when it cannot be copied, or has weights without values.
    """
    module = unwrapped(module)
    name = type(module).__name__
    _check_values(module)
    try:
        copied = copy.deepcopy(module)
    except Exception as error:  # whatever a module's own __deepcopy__ or its attributes raise
        raise ModelError(
            f"the module {name} cannot be copied: {one_line(error)}",
            hint="Register a module that copy.deepcopy takes, for example a fresh one with load_state_dict.",
        ) from error
    try:
        return freeze(copied.to(device="cpu").float())
    except Exception as error:  # a module's own methods again
        raise ModelError(f"the module {name} cannot be put on the CPU in float32: {one_line(error)}") from error


def converted_from(module: torch.nn.Module) -> str:
    """`, bfloat16 computed in float32`: which precisions of a module its own copy does not keep; empty for float32."""
    values = (*module.parameters(), *module.buffers())
    kinds = {str(value.dtype).removeprefix("torch.") for value in values if value.is_floating_point()} - {"float32"}
    return f", {' and '.join(sorted(kinds))} computed in float32" if kinds else ""


def unwrapped(module: torch.nn.Module) -> torch.nn.Module:
    """The module behind wrappers that change where or how it runs, and not what it says."""
    import torch

    while True:
        inner = getattr(module, "_orig_mod", None)  # torch.compile
        if isinstance(module, (torch.nn.DataParallel, torch.nn.parallel.DistributedDataParallel)):
            inner = module.module
        if not isinstance(inner, torch.nn.Module):
            return module
        module = inner


def _check_values(module: torch.nn.Module) -> None:
    """Raises ModelError for weights without values: those of the meta device, and of layers that wait for an input."""
    import torch

    waiting = (torch.nn.parameter.UninitializedParameter, torch.nn.parameter.UninitializedBuffer)
    for name, tensor in (*module.named_parameters(), *module.named_buffers()):
        if isinstance(tensor, waiting):
            raise ModelError(
                f"the module {type(module).__name__} has no values yet: {name} waits for a first input",
                hint="Run it on one batch before it is registered, or load its weights.",
            )
        if tensor.is_meta:
            raise ModelError(
                f"the module {type(module).__name__} has no values: {name} is on the meta device",
                hint="Load its weights, for example with load_state_dict(..., assign=True), before it is registered.",
            )


def freeze(module: torch.nn.Module) -> torch.nn.Module:
    """The same module in eval mode and without gradients."""
    try:
        module.eval()
    except NotImplementedError:  # an exported graph has its mode built in
        for part in module.modules():
            part.training = False
    for parameter in module.parameters():  # one by one: a TorchScript module takes no requires_grad_
        parameter.requires_grad_(False)
    return module


def count_classes(module: torch.nn.Module, shape: tuple[int, int, int], name: str, batch: int = 2) -> int:
    """How many scores the module gives: one pass over `batch` black inputs.

    Raises ModelError when it fails on that input or gives anything but one float tensor [N, classes].
    """
    import torch

    size = " x ".join(str(side) for side in (batch, *shape))
    try:
        with torch.no_grad():
            output = module(torch.zeros(batch, *shape))
    except Exception as error:  # the module's own code
        raise ModelError(
            f'model "{name}" fails on an input of {size}: {one_line(error)[:200]}',
            hint="Set size => and channels => to the input it was made for; it must take any number of images.",
        ) from error
    if not isinstance(output, torch.Tensor) or output.ndim != 2 or output.shape[0] != batch or not output.shape[1]:
        raise ModelError(
            f'model "{name}" gives {_described(output)} for {batch} images, not one tensor [{batch}, classes]',
            hint=_output_hint(output),
        )
    if not output.is_floating_point():
        raise ModelError(f'model "{name}" gives {output.dtype} scores, not floating point ones')
    if output.shape[1] > MAX_CLASSES:
        raise ModelError(f'model "{name}" gives {output.shape[1]:,} scores per image, more than {MAX_CLASSES:,}')
    return int(output.shape[1])


def _output_hint(output: Any) -> str:
    """How to say which of several outputs holds the scores."""
    if isinstance(output, dict) and output:
        return f"output => '{next(iter(output))}' takes one of them."
    if isinstance(output, (tuple, list)) and output:
        return "output => 0 takes the first of them."
    return "Wrap it in a module that returns the scores of the classes alone."


def parameter_count(module: torch.nn.Module) -> int:
    """How many numbers the module learned."""
    return sum(parameter.numel() for parameter in module.parameters())


def fingerprint(structure: str, module: torch.nn.Module, preprocess: Preprocess) -> str:
    """sha256 in hex over architecture, weights and preprocessing: equal models, equal answers.

    Args:
        structure: what the architecture is, in text that differs where the computation does.
    """
    import torch

    digest = hashlib.sha256()

    def add(text: str) -> None:
        data = text.encode()
        digest.update(len(data).to_bytes(8, "little"))  # so that no two lists of texts run together alike
        digest.update(data)

    add("kryptondb model 1")
    add(structure)
    add(preprocess.to_json())
    for name, tensor in sorted(_tensors(module), key=lambda item: item[0]):
        if tensor.layout != torch.strided or tensor.is_nested or tensor.is_quantized:
            add(f"{name} {tensor.layout}")
        for part in dense_parts(tensor.detach().cpu()):
            add(f"{name} {part.dtype} {tuple(part.shape)}")
            if part.numel():
                digest.update(part.contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def dense_parts(tensor: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """The tensor itself, or dense tensors that say what one of another kind holds."""
    import torch

    if tensor.is_nested:
        return tuple(tensor.unbind())
    if tensor.is_quantized:
        return tensor.int_repr(), tensor.dequantize()
    if tensor.layout == torch.sparse_coo:
        tensor = tensor.coalesce()
        return torch.tensor(tensor.shape), tensor.indices(), tensor.values()
    if tensor.layout in (torch.sparse_csr, torch.sparse_bsr):
        return torch.tensor(tensor.shape), tensor.crow_indices(), tensor.col_indices(), tensor.values()
    if tensor.layout in (torch.sparse_csc, torch.sparse_bsc):
        return torch.tensor(tensor.shape), tensor.ccol_indices(), tensor.row_indices(), tensor.values()
    return (tensor if tensor.layout == torch.strided else tensor.to_dense(),)


def _tensors(module: torch.nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    import torch

    yield from module.named_parameters(remove_duplicate=False)
    yield from module.named_buffers(remove_duplicate=False)  # those outside the state dict count as well
    for path, part in module.named_modules():
        for name, value in vars(part).items():
            if isinstance(value, torch.Tensor):  # a constant that was never registered as a buffer
                yield f"{path}.{name}", value


def _described(output: Any) -> str:
    """What came back instead of scores, in words."""
    import torch

    if isinstance(output, torch.Tensor):
        return "a tensor of " + (" x ".join(str(side) for side in output.shape) or "one number")
    if isinstance(output, (tuple, list)):
        return f"a {type(output).__name__} of {len(output)} ({', '.join(_described(item) for item in output[:3])})"
    if isinstance(output, dict):
        return f"a {type(output).__name__} with {', '.join(str(key) for key in list(output)[:5])}"
    return f"a {type(output).__name__}"
