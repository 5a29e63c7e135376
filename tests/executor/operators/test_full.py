"""What the naive operator is expected to cost."""

from __future__ import annotations

import pytest
from torch import nn

from kryptondb.executor.operators import Full
from kryptondb.network import Grid, trace
from kryptondb.optimizer.cost import Rates
from kryptondb.optimizer.workload import Workload


@pytest.mark.parametrize("batch", [1, 5, 15, 16, 64])
def test_every_position_is_one_inference_however_batches_come_out(batch: int) -> None:
    module = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    network = trace(module.eval(), (3, 16, 16))
    work = Workload(network, Grid(16, 16, (4, 4), (4, 4)), None, 1, "cpu", 1 << 40)
    assert work.positions == 16
    # A device where nothing but operations takes time.
    rates = Rates(1e9, bytes_per_second=1e30, cached_bytes_per_second=1e30, seconds_per_call=0.0)
    assert Full(batch).estimate(work, rates).seconds == pytest.approx(17 * network.flops / 1e9)
