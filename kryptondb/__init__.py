"""KryptonDB: which parts of this image made the network say that? Asked as a query.

    import kryptondb
    db = kryptondb.connect()
    db.sql("CREATE MODEL net FROM torchvision('resnet18') WITH (weights => 'random')")
    db.sql("SELECT HEATMAP FROM occlude(net, 'sample:cat')").heatmaps()

Importing this package is light: torch and pyarrow are imported by the first statement that needs them.
"""

from __future__ import annotations

from kryptondb.errors import (
    BindError,
    CatalogError,
    Error,
    ExecutionError,
    ImageError,
    ModelError,
    ParseError,
    PlanError,
)
from kryptondb.result import Result
from kryptondb.session import Session, connect
from kryptondb.version import __version__
from kryptondb.waiting import wait_asleep

wait_asleep()

__all__ = [
    "BindError",
    "CatalogError",
    "Error",
    "ExecutionError",
    "ImageError",
    "ModelError",
    "ParseError",
    "PlanError",
    "Result",
    "Session",
    "__version__",
    "connect",
]
