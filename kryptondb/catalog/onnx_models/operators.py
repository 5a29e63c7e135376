"""Every operator that KryptonDB takes: what it does, and what of it is understood."""

from __future__ import annotations

from kryptondb.catalog.onnx_models.arithmetic import ARITHMETIC
from kryptondb.catalog.onnx_models.declaration import Operator
from kryptondb.catalog.onnx_models.layers import LAYERS
from kryptondb.catalog.onnx_models.quantization import QUANTIZATION
from kryptondb.catalog.onnx_models.reductions import REDUCTIONS
from kryptondb.catalog.onnx_models.shaping import SHAPING

OPERATORS: dict[str, Operator] = {**ARITHMETIC, **SHAPING, **LAYERS, **QUANTIZATION, **REDUCTIONS}
