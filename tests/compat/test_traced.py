"""Networks behind functions are kept as long as they are what the functions do."""

from __future__ import annotations

import weakref

import torch
from torch import nn

from kryptondb.compat.traced import Traced, Tracer
from kryptondb.executor.operators.tilings import extents_of
from kryptondb.network import Grid


def test_a_network_goes_when_its_module_has_learned_something_else() -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4 * 36, 2)).eval()
    images, tracer = torch.randn(1, 3, 8, 8), Tracer()
    before = tracer.trace(module, images, torch.zeros_like(images))
    assert isinstance(before, Traced)
    extents_of(before.network, Grid(8, 8, (4, 4), (4, 4)))
    network = weakref.ref(before.network)
    del before
    with torch.no_grad():
        module[0].weight.add_(1.0)
    assert tracer.known(module, images) is None
    after = tracer.trace(module, images, torch.zeros_like(images))
    assert network() is None and isinstance(after, Traced)
