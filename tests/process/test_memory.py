"""Freed memory is kept while queries run, and goes back after the last."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from kryptondb.process import memory

SCRIPT = """
import torch
from kryptondb.process import memory
from kryptondb.process.memory import anonymous_bytes

size = 96 << 20
before = anonymous_bytes()
with memory.keeping_freed_memory():
    with memory.keeping_freed_memory():
        block = torch.ones(size // 4)
        del block
    inside = anonymous_bytes()
print(inside - before > size // 2, anonymous_bytes() - before < size // 2)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux") or memory._glibc() is None, reason="needs glibc")
def test_freed_memory_stays_while_a_query_runs_and_goes_back_afterwards() -> None:
    # In a process of its own: in this one, what other tests have left free may serve the allocation.
    run = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["True", "True"]


def test_without_glibc_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_glibc", lambda: None)
    with memory.keeping_freed_memory():
        assert torch.ones(3).sum() == 3
