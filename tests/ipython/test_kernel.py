"""A real kernel, as a notebook has one: progress under the cell, and a cell that is interrupted."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from jupyter_client.manager import start_new_kernel

import kryptondb
from tests.patience import PATIENCE

pytestmark = pytest.mark.slow

SET_UP = """
%load_ext kryptondb
import numpy as np, torch, kryptondb
from tests.networks import small_network
db = kryptondb.connect()
db.register("net", small_network(classes=2), size=64)
db.sql("SET progress = 'on'")
image = np.zeros((64, 64, 3), dtype=np.uint8)
slow = torch.nn.Sequential(*[torch.nn.Conv2d(3, 3, 3, padding=1) for _ in range(8)], *small_network(classes=2))
db.register("slow", slow, size=512)
"""
MAP = "%occlude SELECT HEATMAP FROM occlude(net, $image, patch => 8, stride => 4) USING batch => 4"


class Cells:
    """Runs cells in a kernel and collects what they say."""

    def __init__(self, manager, client) -> None:
        self.manager, self.client = manager, client

    def run(self, code: str, interrupt_at: str | None = None) -> tuple[dict, list[dict]]:
        """The reply, and every message; interrupted as soon as a message shows some text."""
        messages: list[dict] = []

        def hear(message: dict) -> None:
            messages.append({"type": message["msg_type"], **message["content"]})
            if interrupt_at is not None and interrupt_at in str(message["content"].get("data", "")):
                self.manager.interrupt_kernel()

        reply = self.client.execute_interactive(code, timeout=PATIENCE, output_hook=hear)
        return reply["content"], messages


@pytest.fixture(scope="module")
def kernel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cells]:
    environment = {
        **os.environ,
        "PYTHONPATH": str(Path(kryptondb.__file__).parents[1]),
        "IPYTHONDIR": str(tmp_path_factory.mktemp("ipython")),
        "PYDEVD_DISABLE_FILE_VALIDATION": "1",
        "OMP_NUM_THREADS": "1",
    }
    manager, client = start_new_kernel(env=environment, startup_timeout=PATIENCE)
    try:
        cells = Cells(manager, client)
        reply, messages = cells.run(SET_UP)
        assert reply["status"] == "ok", messages
        yield cells
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


def test_a_bar_stands_under_the_cell_and_goes_away(kernel):
    reply, messages = kernel.run(MAP)
    assert reply["status"] == "ok"
    shown = [each["data"] for each in messages if each["type"] == "display_data"]
    assert any("<progress" in each["text/html"] and "positions" in each["text/plain"] for each in shown)
    updates = [each["data"] for each in messages if each["type"] == "update_display_data"]
    assert updates[-1] == {"text/plain": "", "text/html": ""}
    (result,) = [each["data"] for each in messages if each["type"] == "execute_result"]
    assert "<img" in result["text/html"] and "image/png" in result


def test_an_interrupted_cell_leaves_the_session_usable(kernel):
    reply, messages = kernel.run("%occlude SELECT HEATMAP FROM occlude(slow, $image, stride => 1)", "positions")
    assert reply["ename"] == "KeyboardInterrupt"
    (error,) = [each for each in messages if each["type"] == "error"]
    assert error["traceback"] == ["KeyboardInterrupt: the statement was stopped"]
    reply, _ = kernel.run(MAP)
    assert reply["status"] == "ok"
