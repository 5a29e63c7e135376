"""Tracing: a `torch.nn.Module` -> a `Network`, through `torch.export` with a batch of any size.

The exported ATen operators are taken as they stand: decomposing them takes seconds and makes them harder to recognize.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from kryptondb.errors import ModelError, one_line
from kryptondb.network.consistency import asked_twice, mixes_in_graph, mixes_when_run, same_random_numbers_after
from kryptondb.network.exported_graph import CannotTrace
from kryptondb.network.graph import Network
from kryptondb.network.importer import Importer
from kryptondb.network.node import Node, Rule
from kryptondb.process.torch_state import building, own_torch_state


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
    # Not in inference mode: what the module keeps of this for later could not be trained with then.
    with (
        building(),
        own_torch_state(example.device.type),
        torch.inference_mode(False),
        torch.no_grad(),
        same_random_numbers_after(),
    ):
        return _traced(module, input_shape, activation, example)


def _traced(
    module: torch.nn.Module, input_shape: tuple[int, int, int], activation: str, example: torch.Tensor
) -> Network:
    classes = _classes(module, example)
    trial = _Trial.with_noise(module, example)

    def untraced(failure: str) -> Network:
        runs = trial.before(activation)
        together = trial.together or trial.may_mix()
        return Network((), 0, input_shape, classes, runs, failure, together, trial.unsteady)

    try:
        nodes, output, mixes = _graph(module, example)
    except (CannotTrace, RuntimeError) as error:  # torch's own: a constant cannot be computed after all
        return untraced(one_line(error))
    if nodes[output].shape != (1, classes):
        return untraced(f"the graph's output has shape {nodes[output].shape}")
    together = trial.together or (mixes and trial.unsteady is None)
    network = Network(nodes, output, input_shape, classes, module, None, together, trial.unsteady)
    if not trial.agrees(network):
        return untraced("its graph gives another answer than the module")
    return with_measured_flops(replace(network, output=_before_activation(nodes, output, activation)), example[:1])


#: Two answers differ by rounding alone where they are nearer than this part of the largest number.
_ROUNDING = 1e-3
_HALF = 50  # times as much in half precision
_SUMS_TO_ONE = 1e-4
_ACTIVATIONS = {"softmax": ("softmax", "log_softmax"), "sigmoid": ("sigmoid",)}


def _before_activation(nodes: tuple[Node, ...], output: int, activation: str) -> int:
    """The node before the activation at the network's end: probabilities are the score's business, not its own.

    Of two in a row, as in a log-softmax of probabilities, only the last is left to it, unless the one before undoes
    nothing: a softmax of a log-softmax is the softmax.
    """
    wanted = _ACTIVATIONS.get(activation, ())
    while nodes[output].operator in wanted:
        node = nodes[output]
        if len(node.shape) != 2 or (activation == "softmax" and node.args[1] not in (1, -1)):
            break
        output = node.inputs[0]
        wanted = ("log_softmax",) if activation == "softmax" else ()
    return output


@dataclass(frozen=True, eq=False)
class _Trial:
    """A module's answers for two pictures of noise: they show what cannot be read from its code.

    Attributes:
        together: whether an answer depends on the other pictures of its batch, or there may be none.
        outputs: of each by itself, [2, classes].
        unsteady: why it may answer one picture in two ways, None where it does not.
        noise: the pictures, [2, C, H, W].
    """

    module: torch.nn.Module
    together: bool
    outputs: torch.Tensor
    unsteady: str | None
    noise: torch.Tensor

    @classmethod
    def with_noise(cls, module: torch.nn.Module, like: torch.Tensor) -> _Trial:
        """Asks a module about pictures of this shape, type and device; of one without numbers nothing is known."""
        if like.is_meta:
            return cls(module, False, torch.zeros(0), None, like)
        noise = torch.randn(like.shape, generator=torch.Generator().manual_seed(0)).to(like.device, like.dtype)
        noise[1:] = 0.25 * noise[1:] + 0.5  # else both would have about the same mean, spread and largest value
        try:
            first, unsteady = asked_twice(module, noise[:1])
            outputs = torch.cat([first, module(noise[1:].clone())])
        except Exception:  # it does not take noise: nothing is known about it, and it runs as it stands
            return cls(module, True, torch.zeros(0), None, noise)
        try:
            both = module(noise.clone())
        except Exception:  # it takes one picture at a time
            return cls(module, True, outputs, unsteady, noise)
        return cls(module, unsteady is None and not _agree(both, outputs), outputs, unsteady, noise)

    def agrees(self, network: Network) -> bool:
        """Whether a graph says what the module says; of a module that says different things it may say any."""
        if self.unsteady is not None or not len(self.outputs):
            return True
        return _agree(network.run(self.noise[:1])[0], self.outputs[:1])

    def may_mix(self) -> bool:
        """Whether the module, run as it stands, may let one picture of a batch decide for others."""
        if self.unsteady is not None or not len(self.outputs):
            return False
        try:
            return mixes_when_run(self.module, self.noise)
        except Exception:  # it cannot be followed, or takes one picture at a time
            return True

    def before(self, activation: str) -> torch.nn.Module:
        """The module without the activation at its end, where it has one and runs as it stands."""
        outputs = self.outputs.double()
        if not len(outputs):
            return self.module
        if activation == "softmax" and (outputs >= 0).all() and ((outputs.sum(1) - 1).abs() < _SUMS_TO_ONE).all():
            return _Scores(self.module, torch.log)
        if activation == "sigmoid" and ((outputs >= 0) & (outputs <= 1)).all():
            return _Scores(self.module, torch.logit)
        return self.module


def _agree(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Whether two outputs for the same pictures differ by rounding alone."""
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    is_half = other.dtype in (torch.float16, torch.bfloat16)
    if not (other.is_floating_point() or other.is_complex()):  # counts, or yes and no
        one, other = one.double(), other.double()
    finite = other[other.isfinite()]
    largest = float(finite.abs().max()) if len(finite) else 0.0
    rounding = _ROUNDING * largest * (_HALF if is_half else 1)
    return torch.allclose(one, other, 0.0, rounding, equal_nan=True)


class _Scores(torch.nn.Module):
    """The scores of a module that gives probabilities."""

    def __init__(self, module: torch.nn.Module, inverse: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.module, self.inverse = module, inverse

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """[n, C, H, W] -> [n, classes]."""
        return self.inverse(self.module(images))


def _example(module: torch.nn.Module, input_shape: tuple[int, int, int]) -> torch.Tensor:
    first = next((p for p in module.parameters() if p.is_floating_point()), None)
    dtype = first.dtype if first is not None else torch.float32
    device = first.device if first is not None else torch.device("cpu")
    return torch.zeros((2, *input_shape), dtype=dtype, device=device)


def _classes(module: torch.nn.Module, example: torch.Tensor) -> int:
    shape = "x".join(str(size) for size in example.shape[1:])
    try:
        output = module(example[:1].clone())
    except Exception as error:
        raise ModelError(f"the model cannot take an image of {shape}: {one_line(error)}") from error
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


def _graph(module: torch.nn.Module, example: torch.Tensor) -> tuple[tuple[Node, ...], int, bool]:
    """The nodes, the place of the output among them, and whether they compute with several pictures together.

    Raises:
        CannotTrace: `torch.export` fails, with whatever error the module's own code or the exporter raises, or this
            room cannot take the graph over.
    """
    shapes = ({0: torch.export.Dim.DYNAMIC},)
    try:
        exported = torch.export.export(module, (example,), dynamic_shapes=shapes)
    except Exception as error:
        if not _fixes_the_batch(error):
            raise CannotTrace(one_line(error)) from error
        try:  # Python makes a plain number of len(x); torch reads the code instead of running it, if asked to
            exported = torch.export.export(module, (example,), dynamic_shapes=shapes, strict=True)
        except Exception:
            fixed = "it works with the number of pictures in a batch as a fixed number"
            raise CannotTrace(fixed) from error
    return *Importer(exported).run(), mixes_in_graph(exported)


def _fixes_the_batch(error: Exception) -> bool:
    """Whether an export failed because the network made a plain number of the batch's size."""
    return "Constraints violated" in str(error) or "specialized" in str(error)


def with_measured_flops(network: Network, image: torch.Tensor) -> Network:
    """The network with the operations of its dense operators counted while they run once on `image`, [1, C, H, W]."""
    unknown = {node.index for node in network.nodes if node.rule is Rule.DENSE and node.flops == 0.0}
    if not unknown:
        return network
    counted: dict[int, float] = {}
    values: dict[int, Any] = {}
    with torch.inference_mode():
        for node in network.nodes:
            if node.index in unknown:
                with FlopCounterMode(display=False) as counter:
                    values[node.index] = network.run_node(node, values, image, 1)
                counted[node.index] = float(counter.get_total_flops())
            else:
                values[node.index] = network.run_node(node, values, image, 1)
            _forget(values, (i for i in node.inputs if network.last_use[i] == node.index))
    return replace(network, nodes=tuple(replace(n, flops=counted.get(n.index, n.flops)) for n in network.nodes))


def _forget(values: dict[int, Any], indices: Iterable[int]) -> None:
    for index in indices:
        values.pop(index, None)
