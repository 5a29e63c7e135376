"""What the database remembers: models, settings, the rates of its devices and quality profiles, in one SQLite file.

`Catalog` is the file, `Settings` and `ModelStore` are the two views of it that a session holds, `build_model` turns a
source and its options into a `Model` without remembering anything.
"""

from __future__ import annotations

from kryptondb.catalog.build import build_model
from kryptondb.catalog.describe import describe_network, summary_line
from kryptondb.catalog.model import Model
from kryptondb.catalog.model_store import MODEL_COLUMNS, ModelStore
from kryptondb.catalog.options import ModelOptions
from kryptondb.catalog.profiles import ProfileKey, ProfileStore, RecipeRecord, SampleRecord
from kryptondb.catalog.settings import Settings
from kryptondb.catalog.store import Catalog, LayerRecord, ModelRecord

__all__ = [
    "MODEL_COLUMNS",
    "Catalog",
    "LayerRecord",
    "Model",
    "ModelOptions",
    "ModelRecord",
    "ModelStore",
    "ProfileKey",
    "ProfileStore",
    "RecipeRecord",
    "SampleRecord",
    "Settings",
    "build_model",
    "describe_network",
    "summary_line",
]
