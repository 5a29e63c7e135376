"""KryptonDB: which parts of this image made the network say that? Asked as a query.

    import kryptondb
    db = kryptondb.connect()
    db.sql("CREATE MODEL net FROM torchvision('resnet18') WITH (weights => 'random')")
    db.sql("SELECT HEATMAP FROM occlude(net, 'sample:cat')").heatmaps()

Importing this package is light: torch and pyarrow are imported by the first statement that needs them.
"""

from __future__ import annotations

import os as _os
import sys as _sys
from typing import TYPE_CHECKING

from kryptondb.errors import (
    BindError,
    CatalogError,
    Error,
    ExecutionError,
    ImageError,
    ModelError,
    NondeterministicModel,
    ParseError,
    PlanError,
    SkippedImages,
)
from kryptondb.result import Result
from kryptondb.session import Session, connect
from kryptondb.version import __version__

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

# Asks OpenMP, before torch loads it, to let idle threads sleep, unless a policy is set already. By default they spin:
# where another process uses a core, the threads that are done occupy the cores that the last thread waits for, and one
# busy process on two cores makes a query twenty times slower.
if "torch" not in _sys.modules:
    _os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def load_ipython_extension(shell: InteractiveShell) -> None:
    """`%load_ext kryptondb`: the magics `%occlude` and `%%occlude`, see `kryptondb.ipython`."""
    from kryptondb.ipython import load

    load(shell)


def unload_ipython_extension(shell: InteractiveShell) -> None:
    """`%unload_ext kryptondb`: removes the magics."""
    from kryptondb.ipython import unload

    unload(shell)


__all__ = [
    "BindError",
    "CatalogError",
    "Error",
    "ExecutionError",
    "ImageError",
    "ModelError",
    "NondeterministicModel",
    "ParseError",
    "PlanError",
    "Result",
    "Session",
    "SkippedImages",
    "__version__",
    "connect",
]
