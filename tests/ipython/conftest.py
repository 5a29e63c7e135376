"""A shell of IPython's with the extension loaded, and a session with a small network in it."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config

import kryptondb
from tests.networks import small_network


@pytest.fixture
def shell(tmp_path, monkeypatch: pytest.MonkeyPatch) -> Iterator[InteractiveShell]:
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    config = Config()
    config.HistoryManager.enabled = False
    made = InteractiveShell(config=config)
    made.run_line_magic("load_ext", "kryptondb")
    yield made
    made.run_line_magic("unload_ext", "kryptondb")


@pytest.fixture
def db(shell: InteractiveShell) -> Iterator[kryptondb.Session]:
    """The notebook's `db`, with the model `net`; the variable `image` is a picture."""
    with kryptondb.connect() as session:
        session.register("net", small_network(classes=2), size=24, labels=["dark", "bright"])
        shell.user_ns.update(db=session, image=np.arange(24 * 24 * 3, dtype=np.uint8).reshape(24, 24, 3))
        yield session
