"""KryptonDB: which parts of this image made the network say that? Asked as a query.

    import kryptondb
    db = kryptondb.connect()
    db.sql("CREATE MODEL net FROM torchvision('resnet18') WITH (weights => 'random')")
    db.sql("SELECT HEATMAP FROM occlude(net, 'sample:cat')").heatmaps()

Importing this package is light: torch and pyarrow are imported by the first statement that needs them.
"""

from __future__ import annotations

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
from kryptondb.waiting import wait_asleep

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

wait_asleep()


def load_ipython_extension(shell: InteractiveShell) -> None:
    """`%load_ext kryptondb`: the magics `%occlude` and `%%occlude`, see `kryptondb.ipython`."""
    from kryptondb.ipython import load

    load(shell)


def unload_ipython_extension(shell: InteractiveShell) -> None:
    """`%unload_ext kryptondb`: takes the magics away again."""
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
