"""Tracing: a `torch.nn.Module` -> a `Network`, through `torch.export` with a batch of any size.

The exported ATen operators are taken as they stand: decomposing them costs seconds and makes them harder to know.
"""

from __future__ import annotations

import logging
import warnings

import torch

from kryptondb.errors import ModelError
from kryptondb.network.flops import with_measured_flops
from kryptondb.network.graph import Network
from kryptondb.network.importer import Importer
from kryptondb.network.node import Node


def trace(module: torch.nn.Module, input_shape: tuple[int, int, int], activation: str = "softmax") -> Network:
    """The network behind a module in eval mode.

    Args:
        module: takes images [N, C, H, W] and gives scores [N, classes].
        input_shape: C, H, W.
        activation: what makes probabilities of the scores, 'softmax', 'sigmoid' or 'none'; where the module ends in it,
            it is left to them.

    Returns:
        A network; where `torch.export` or this room cannot take the graph over, one with `failure` set, which the
        `full` operator still answers.

    Raises:
        ModelError: the module cannot take such an image, or does not give one tensor [N, classes].
    """
    example = _example(module, input_shape)
    classes = _classes(module, example)
    batch_statistics = _uses_batch_statistics(module)
    try:
        nodes, output = _graph(module, example)
    except Exception as error:
        failure = _one_line(error)
        return Network((), 0, input_shape, classes, module, failure, batch_statistics)
    network = Network(
        nodes, _before_activation(nodes, output, activation), input_shape, classes, module, None, batch_statistics
    )
    if network.nodes[output].shape != (1, classes):
        failure = f"the graph's output has shape {network.nodes[output].shape}"
        return Network((), 0, input_shape, classes, module, failure, batch_statistics)
    return with_measured_flops(network, example[:1])


_ACTIVATIONS = {"softmax": ("softmax", "log_softmax", "_softmax", "_log_softmax"), "sigmoid": ("sigmoid",)}


def _before_activation(nodes: tuple[Node, ...], output: int, activation: str) -> int:
    """The node before the activation at the network's end: probabilities are the score's business, not its own."""
    while nodes[output].operator in _ACTIVATIONS.get(activation, ()):
        node = nodes[output]
        if len(node.shape) != 2 or (activation == "softmax" and node.args[1] not in (1, -1)):
            break
        output = node.inputs[0]
    return output


def _example(module: torch.nn.Module, input_shape: tuple[int, int, int]) -> torch.Tensor:
    first = next((p for p in module.parameters() if p.is_floating_point()), None)
    dtype = first.dtype if first is not None else torch.float32
    device = first.device if first is not None else torch.device("cpu")
    return torch.zeros((2, *input_shape), dtype=dtype, device=device)


def _classes(module: torch.nn.Module, example: torch.Tensor) -> int:
    shape = "x".join(str(size) for size in example.shape[1:])
    try:
        with torch.inference_mode():
            output = module(example[:1])
    except Exception as error:
        raise ModelError(f"the model cannot take an image of {shape}: {_one_line(error)}") from error
    if not isinstance(output, torch.Tensor):
        raise ModelError(
            f"the model returns a {type(output).__name__}, not one tensor of scores",
            hint="Wrap it in a module that returns the scores, a tensor of images by classes.",
        )
    if output.ndim != 2 or output.shape[0] != 1:
        raise ModelError(
            f"the model returns a tensor of shape {tuple(output.shape)}, not (images, classes)",
            hint="Wrap it in a module that returns the scores, a tensor of images by classes.",
        )
    return int(output.shape[1])


def _uses_batch_statistics(module: torch.nn.Module) -> bool:
    return any(
        isinstance(m, torch.nn.modules.batchnorm._BatchNorm) and m.running_mean is None for m in module.modules()
    )


def _one_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__)[:300]


def _graph(module: torch.nn.Module, example: torch.Tensor) -> tuple[tuple[Node, ...], int]:
    logging.getLogger("torch.export").setLevel(logging.ERROR)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        exported = torch.export.export(module, (example,), dynamic_shapes=({0: torch.export.Dim.DYNAMIC},))
    return Importer(exported).run()
