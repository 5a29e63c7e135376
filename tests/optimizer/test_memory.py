"""memory_limit: the same statement gets the same plan although free memory changes."""

from __future__ import annotations

import pytest
import torch

from kryptondb.optimizer.cost import Rates
from kryptondb.optimizer.logical import Context
from kryptondb.optimizer.workload import memory_limit
from tests.optimizer.conftest import Database, FakeSettings

GIB = 1 << 30


class Auto(FakeSettings):
    def get(self, name: str) -> str:  # type: ignore[override]
        return "auto"


def limit(settings: FakeSettings, device: str = "cpu") -> int:
    return memory_limit(Context(Database().models, settings, {}, lambda _: Rates(), ()), device)  # type: ignore[arg-type]


def test_a_limit_that_was_set_is_kept_to_the_byte() -> None:
    assert limit(FakeSettings(5 * GIB + 7)) == 5 * GIB + 7


@pytest.mark.parametrize(("free", "expected"), [(5.9, 4), (6.0, 6), (7.9, 6), (8.1, 8), (13, 12)])
def test_what_happens_to_be_free_is_rounded_down(free: float, expected: int) -> None:
    assert limit(Auto(int(free * GIB))) == expected * GIB


def test_a_plan_never_counts_on_more_than_the_gpu_has_free(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (10 * GIB, 16 * GIB))
    assert limit(FakeSettings(64 * GIB), "cuda:0") == 9 * GIB
    assert limit(FakeSettings(2 * GIB), "cuda:0") == 2 * GIB
