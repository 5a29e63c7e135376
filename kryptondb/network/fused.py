"""Activations that run inside the convolution before them, while its results are still in the processor's registers.

oneDNN does so on a CPU in float32. Both nodes stay in the graph, with their places, regions and operations: the
convolution gives what the activation would, and the activation hands it on.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from kryptondb.network.aliases import writes_in_place
from kryptondb.network.magnitudes import is_tame
from kryptondb.network.node import Node, Ref
from kryptondb.network.operators import OPERATORS, row_of


@dataclass(frozen=True)
class Fusion:
    """A convolution and the activation that it takes in.

    Attributes:
        convolution, activation: their nodes.
        name: the activation's name in oneDNN.
        numbers: what it is given.
    """

    convolution: int
    activation: int
    name: str
    numbers: tuple[float, ...]

    def function(self, index: int) -> Callable[..., Any]:
        """What one of the two nodes runs as, on the arguments of `aten.conv2d` or of the activation."""
        return self._convolved if index == self.convolution else _handed_on

    def _convolved(
        self,
        images: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None = None,
        stride: Sequence[int] = (1, 1),
        padding: Sequence[int] = (0, 0),
        dilation: Sequence[int] = (1, 1),
        groups: int = 1,
    ) -> torch.Tensor:
        steps = (_both(padding), _both(stride), _both(dilation))
        output: torch.Tensor = torch.ops.mkldnn._convolution_pointwise(
            images, weight, bias, *steps, groups, self.name, self.numbers, ""
        )
        return output


def find_fusions(
    nodes: Sequence[Node], readers: Sequence[Sequence[int]], output: int, head: int | None
) -> dict[int, Fusion]:
    """The fusions of a network where it is now, under both nodes of each; none where torch cannot fuse.

    Args:
        readers: for each node, those that read it.
        output: the node whose value is the network's.
        head: where its head begins: images that need to run again are marked with NaN there, which must not disappear.
    """
    if any(writes_in_place(node.operator) for node in nodes):  # numbers may change behind the back of their node
        head = -1
    fusions: dict[int, Fusion] = {}
    if not can_fuse() or not torch.backends.mkldnn.enabled:
        return fusions
    for activation in nodes:
        convolution = _taken_in_by(nodes, readers, output, activation)
        if convolution is not None:
            row = OPERATORS[activation.operator]
            assert row.fusion is not None
            if row.hides and head is not None and convolution.index > head:
                continue
            name, defaults = row.fusion
            given = activation.args[1:]
            numbers = (*map(float, given), *defaults[len(given) :])
            fusion = Fusion(convolution.index, activation.index, name, numbers)
            fusions[convolution.index] = fusions[activation.index] = fusion
    return fusions


def hands_on(fusions: Mapping[int, Fusion], node: Node, apart: Container[int] = ()) -> bool:
    """Whether a node is an activation with nothing left to do.

    Args:
        apart: convolutions that run without their activations.
    """
    fusion = fusions.get(node.index)
    return fusion is not None and fusion.activation == node.index and fusion.convolution not in apart


def _taken_in_by(nodes: Sequence[Node], readers: Sequence[Sequence[int]], output: int, activation: Node) -> Node | None:
    """The convolution that can take an activation in: one that nothing else reads, with weights in float32 on a CPU."""
    row = row_of(activation)
    if row is None or row.fusion is None or activation.in_place is None or activation.kwargs:
        return None
    source = activation.args[0]
    if not isinstance(source, Ref) or not all(isinstance(number, (int, float)) for number in activation.args[1:]):
        return None
    convolution = nodes[source.index]
    if convolution.function is not torch.ops.aten.conv2d.default or convolution.kwargs:
        return None
    if tuple(readers[convolution.index]) != (activation.index,) or convolution.index == output:
        return None
    constants = [nodes[ref.index].constant for ref in convolution.args[1:3] if isinstance(ref, Ref)]
    fits = all(c is not None and c.dtype == torch.float32 and c.device.type == "cpu" for c in constants)
    weight = constants[0] if constants and fits else None
    return convolution if weight is not None and weight.ndim == 4 and is_tame(*constants) else None


def can_fuse() -> bool:
    """Whether this build of torch has the operator."""
    return hasattr(torch.ops.mkldnn, "_convolution_pointwise")


def _both(value: Sequence[int]) -> list[int]:
    """One number a direction: exported graphs may give one for both."""
    return list(value) * (2 // len(value))


def _handed_on(value: Any, *_: Any) -> Any:
    return value
