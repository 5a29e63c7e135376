"""Freed memory is kept while queries run, and goes back after the last."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from kryptondb.executor import heap


def resident() -> int:
    """Bytes of the process in memory."""
    status = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmRSS:"))


@pytest.mark.skipif(not sys.platform.startswith("linux") or heap._glibc() is None, reason="needs glibc")
def test_freed_memory_stays_while_a_query_runs_and_goes_back_afterwards() -> None:
    size = 96 << 20
    heap.trim()  # of what earlier tests have left free
    before = resident()
    with heap.kept():
        with heap.kept():
            block = torch.ones(size // 4)
            del block
        assert resident() - before > size // 2, "the inner one gave back what the outer keeps"
    assert resident() - before < size // 2


def test_without_glibc_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heap, "_glibc", lambda: None)
    with heap.kept():
        assert torch.ones(3).sum() == 3
