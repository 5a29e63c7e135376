"""The ceiling: how fast this device computes what it computes best, measured in the run that it is compared with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from benchmarks.clock import now
from kryptondb.executor.calibrate import measure
from kryptondb.optimizer.cost import Rates

SIDE = 2048  # of the matrices: 17 GFLOP
RUNS = 4


@dataclass(frozen=True)
class Ceiling:
    """Operations per second, float32, two a multiply-add.

    Attributes:
        convolution: of a 3x3 convolution in torch, at a size that networks have.
        product: of a large matrix product.
    """

    convolution: float
    product: float

    @property
    def direct(self) -> float:
        """What direct convolution could reach at most: it is a matrix product that gathers its input first."""
        return max(self.convolution, self.product)

    def __str__(self) -> str:
        return f"convolution {self.convolution / 1e9:.0f} GFLOP/s, matrix product {self.product / 1e9:.0f} GFLOP/s"


def best(ceilings: Sequence[Ceiling]) -> Ceiling:
    """The highest of several measurements: what disturbs one only ever lowers it."""
    return Ceiling(max(each.convolution for each in ceilings), max(each.product for each in ceilings))


def measure_ceiling(device: str, side: int = SIDE) -> tuple[Ceiling, Rates]:
    """Measures the ceiling, and the device's general rates that a plan is costed with, which are a part of it."""
    rates = measure(device)
    with torch.inference_mode():
        left, right = torch.randn(2, side, side, device=device)
        product = torch.empty(side, side, device=device)
        seconds = []
        for _ in range(RUNS):
            start = now(device)
            torch.mm(left, right, out=product)
            seconds.append(now(device) - start)
    return Ceiling(rates.flops_per_second, 2.0 * side**3 / min(seconds)), rates
