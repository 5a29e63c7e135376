"""What tests of the drop-in classes share: small networks, rates that nobody has to measure, tracing at once."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import kryptondb.images.torchvision_guard  # noqa: F401  (the peers import torchvision)
from kryptondb.compat import engine
from kryptondb.executor.operators import OPERATORS
from kryptondb.optimizer.cost import Rates
from kryptondb.optimizer.logical import Context
from kryptondb.session import connect


@pytest.fixture(autouse=True)
def known_rates(monkeypatch: pytest.MonkeyPatch) -> None:
    session = connect()
    planning = Context(session.database.models, session.database.settings, {}, lambda _: Rates(), OPERATORS)
    monkeypatch.setattr(engine._local, "planning", planning, raising=False)


@pytest.fixture
def tracing_pays(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if every function took long: it is traced after its second batch."""
    monkeypatch.setattr(engine, "WORTH_TRACING", 0.0)


class Counted(nn.Module):
    """A module that counts how many images it is asked about outside of tracing."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module
        self.images = 0

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        if not torch.compiler.is_compiling():
            self.images += len(images)
        output: torch.Tensor = self.module(images)
        return output
