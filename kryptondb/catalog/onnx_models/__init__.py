"""ONNX files as models: read as data (reading.py), then translated operator by operator (translation.py).

What does not depend on a picture (weights, the arithmetic on shapes that exporters leave behind) is computed once.
"""

from kryptondb.catalog.onnx_models.build import build

__all__ = ["build"]
