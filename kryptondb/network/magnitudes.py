"""How large the numbers of a value can be, computed from how large its operator's inputs can be.

As long as no number is near the largest that float32 holds, nothing overflows, and what is finite stays finite.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from kryptondb.network.node import Node, Ref

#: Gives the largest magnitude of a node's numbers; infinity where nothing is known.
Bound = Callable[[Node, "ArgumentBounds"], float]

#: Weights of ordinary size: with them no magnitude in question overflows within a layer.
TAME = 1e12
_LARGEST_SQUARE = 1e15  # of numbers beyond, sums of squares may overflow


@dataclass(frozen=True, eq=False)
class ArgumentBounds:
    """What is known of the arguments of nodes.

    Attributes:
        nodes: of the network.
        bounds: the largest magnitude, by node.
    """

    nodes: Sequence[Node]
    bounds: Mapping[int, float]

    def of(self, argument: Any) -> float:
        """The largest magnitude of an argument: of a node's value, a number, or the largest of several."""
        if argument is None:
            return 0.0
        if isinstance(argument, Ref):
            return self.bounds.get(argument.index, math.inf)
        if isinstance(argument, (int, float)):
            return abs(float(argument)) if math.isfinite(argument) else math.inf
        if isinstance(argument, (list, tuple)):
            return max(map(self.of, argument), default=0.0)
        return math.inf

    def constant(self, argument: Any) -> torch.Tensor | None:
        """The constant behind an argument, None for all else."""
        return self.nodes[argument.index].constant if isinstance(argument, Ref) else None

    def elements(self, argument: Any) -> int:
        """How many numbers an argument has for one image."""
        return math.prod(self.nodes[argument.index].shape) if isinstance(argument, Ref) else 1


def largest(constant: torch.Tensor) -> float:
    """The largest magnitude in a tensor; infinity where it holds NaN or infinity."""
    if constant.numel() == 0:
        return 0.0
    if constant.is_complex():
        return math.inf
    if not constant.is_floating_point():
        return float(constant.double().abs().max())
    low, high = torch.aminmax(constant)
    found = max(-float(low), float(high))
    return found if math.isfinite(found) else math.inf


def weight_sum(weight: torch.Tensor) -> float:
    """The largest sum of magnitudes that makes an output of weights [out, ...]; infinity for weights not finite."""
    if weight.is_complex() or weight.numel() == 0:
        return math.inf
    rest = tuple(range(1, weight.ndim))
    dtype = torch.float64 if weight.dtype == torch.float64 else torch.float32  # half precision would overflow
    found = float(torch.linalg.vector_norm(weight, 1, rest, dtype=dtype).amax()) if rest else largest(weight)
    return found if math.isfinite(found) else math.inf


def is_tame(weight: torch.Tensor | None, bias: torch.Tensor | None = None) -> bool:
    """Whether the weights of a layer are finite and of ordinary size."""
    if weight is None:
        return False
    return weight_sum(weight) <= TAME and (bias is None or largest(bias) <= TAME)


def argument(node: Node, place: int, default: Any = None, name: str = "") -> Any:
    """An argument of a node, by place or name."""
    return node.args[place] if place < len(node.args) else node.kwargs.get(name, default)


# Bounds of operators; the rows of the table refer to them


def same(node: Node, given: ArgumentBounds) -> float:
    """Of what gives some of its first argument's numbers, or numbers between them."""
    return given.of(node.args[0])


def at_most(most: float) -> Bound:
    """Of what never gives more, whatever it reads."""
    return lambda node, given: most if math.isfinite(given.of(node.args[0])) else math.inf


def next_to(node: Node, given: ArgumentBounds) -> float:
    """Of roundings."""
    return given.of(node.args[0]) + 1.0


def any_of(node: Node, given: ArgumentBounds) -> float:
    """Of what gives numbers of one argument or another."""
    return max(given.of(operand) for operand in node.args)


def total(node: Node, given: ArgumentBounds) -> float:
    """Of sums and differences of two, the second perhaps times a factor."""
    factor = node.kwargs.get("alpha", argument(node, 2, 1))
    return given.of(node.args[0]) + given.of(factor) * given.of(node.args[1])


def product(node: Node, given: ArgumentBounds) -> float:
    """Of two factors."""
    return given.of(node.args[0]) * given.of(node.args[1])


def quotient(node: Node, given: ArgumentBounds) -> float:
    """Of a quotient by constants that are not near zero."""
    divisor = node.args[1]
    constant = given.constant(divisor)
    if constant is not None and constant.is_floating_point():
        least = float(constant.abs().amin())
    else:
        least = abs(float(divisor)) if isinstance(divisor, (int, float)) else 0.0
    return given.of(node.args[0]) / least + 1.0 if least > 0 else math.inf


def rectified(node: Node, given: ArgumentBounds) -> float:
    """Of activations that scale negative numbers by a slope, a number or a constant."""
    return given.of(node.args[0]) * max(1.0, given.of(argument(node, 1, 0.01)))


def exponential(node: Node, given: ArgumentBounds) -> float:
    """Of ELU, CELU and SELU."""
    return 2.0 * (given.of(node.args[0]) + 1.0) * max(1.0, given.of(node.args[1:]))


def summed(node: Node, given: ArgumentBounds) -> float:
    """Of sums over dimensions."""
    return given.of(node.args[0]) * given.elements(node.args[0]) / max(1, math.prod(node.shape))


def averaged(node: Node, given: ArgumentBounds) -> float:
    """Of average poolings, whose divisor may be one of their own."""
    divisor = argument(node, 6, None, "divisor_override")
    cells = math.prod(node.args[1]) if divisor and isinstance(node.args[1], (list, tuple)) else 1
    return given.of(node.args[0]) * max(1.0, float(cells))


def pooled(node: Node, given: ArgumentBounds) -> float:
    """Of maximum poolings; with dilation a window may lie outside the picture."""
    dilation = argument(node, 4, 1, "dilation")
    spread = max(dilation, default=1) if isinstance(dilation, (list, tuple)) else dilation
    return given.of(node.args[0]) if spread == 1 else math.inf


def padded(node: Node, given: ArgumentBounds) -> float:
    """Of pads."""
    numbers = [value for value in (*node.args[2:], *node.kwargs.values()) if isinstance(value, (int, float))]
    return max(given.of(node.args[0]), given.of(numbers))


def weighted(node: Node, given: ArgumentBounds) -> float:
    """Of convolutions and linear layers with constant weights."""
    weight = given.constant(node.args[1])
    bias = argument(node, 2, None, "bias")
    return math.inf if weight is None else given.of(node.args[0]) * weight_sum(weight) + given.of(bias)


def normalized(node: Node, given: ArgumentBounds) -> float:
    """Of batch norms by constant statistics."""
    gamma, beta, mean = node.args[1:4]
    variance = given.constant(node.args[4])
    least = float(variance.amin()) if variance is not None and variance.numel() else -1.0
    epsilon = float(argument(node, 7, 1e-5, "eps"))
    if not least + epsilon > 0 or (isinstance(gamma, Ref) and given.constant(gamma) is None):
        return math.inf
    scale = (1.0 if gamma is None else given.of(gamma)) / math.sqrt(least + epsilon)
    return (given.of(node.args[0]) + given.of(mean)) * scale + given.of(beta)


def standardized(node: Node, given: ArgumentBounds) -> float:
    """Of layer norms: no number lies further from the mean than the root of how many there are."""
    if given.of(node.args[0]) > _LARGEST_SQUARE:
        return math.inf
    gamma, beta = argument(node, 2, None, "weight"), argument(node, 3, None, "bias")
    scale = 1.0 if gamma is None else given.of(gamma)
    return math.sqrt(math.prod(node.args[1])) * scale + given.of(beta)
