"""One cell of a result as text for people (`shown`), and as a value that JSON can hold (`plain`).

float32 numbers keep their own shortest spelling: 0.1 stays 0.1 and does not become 0.10000000149011612.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from kryptondb.errors import ExecutionError
from kryptondb.text.plain_text import plain_line, printable

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa


def is_tensor(kind: pa.DataType) -> bool:
    """True for the type of a heat map column."""
    import pyarrow as pa

    return isinstance(kind, pa.FixedShapeTensorType)


def tensors(column: pa.Array) -> np.ndarray:
    """A heat map column as numpy, n x rows x cols."""
    import numpy as np

    rows, cols = column.type.shape
    if len(column) == 0:
        return np.empty((0, rows, cols), dtype=column.type.value_type.to_pandas_dtype())
    return np.asarray(column.to_numpy_ndarray()).reshape(len(column), rows, cols)


def plain_column(column: pa.Array) -> list[Any]:
    """The column as Python values that JSON can hold: NaN and infinities become None, maps nested lists by row."""
    import pyarrow as pa

    if is_tensor(column.type):
        return [
            None if null else [_plain_floats(row) for row in values]
            for values, null in zip(tensors(column), column.is_null().to_pylist(), strict=True)
        ]
    if pa.types.is_floating(column.type):
        return _plain_floats(column.to_numpy(zero_copy_only=False))
    if pa.types.is_struct(column.type):
        names = [field.name for field in column.type]
        parts = [plain_column(column.field(index)) for index in range(len(names))]
        rows = zip(*parts, strict=True) if parts else iter([()] * len(column))
        nulls = column.is_null().to_pylist()
        return [None if null else dict(zip(names, row, strict=True)) for row, null in zip(rows, nulls, strict=True)]
    if pa.types.is_list(column.type) or pa.types.is_large_list(column.type):
        flat = plain_column(column.values)
        offsets = column.offsets.to_pylist()
        nulls = column.is_null().to_pylist()
        return [
            None if null else flat[start:end] for start, end, null in zip(offsets[:-1], offsets[1:], nulls, strict=True)
        ]
    return list(column.to_pylist())


def _plain_floats(values: np.ndarray) -> list[float | None]:
    """Shortest spelling of each number at its own precision; None for NaN, infinities and null, which JSON lacks."""
    import numpy as np

    finite = np.isfinite(values)
    if values.dtype != np.float64:
        values = values.astype(np.float32).astype(str).astype(np.float64)
    if finite.all():
        return values.tolist()  # type: ignore[no-any-return]
    return [value if ok else None for value, ok in zip(values.tolist(), finite.tolist(), strict=True)]


def shown(value: Any) -> str:
    """One value as text: NULL, four decimals for floats, label and probability for a prediction.

    Texts are on one line, with control characters written out.
    """
    if value is None:
        return "NULL"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return shown_float(value)
    if isinstance(value, dict):
        if {"label", "probability"} <= value.keys():
            named = value["label"] if value["label"] is not None else f"class {value.get('class')}"
            return f"{plain_line(str(named))} {value['probability']:.3f}"
        return ", ".join(f"{plain_line(name)} {shown(item)}" for name, item in value.items())
    if isinstance(value, (list, tuple)):
        if value and all(isinstance(row, (list, tuple)) for row in value):
            return f"{len(value)} x {len(value[0])}"
        return ", ".join(shown(item) for item in value)
    return plain_line(str(value))


def shown_float(value: float) -> str:
    """Four decimals, or scientific notation for very small and very large numbers."""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    size = abs(value)
    if size != 0 and (size < 5e-4 or size >= 1e7):
        return f"{value:.2e}"
    if size >= 1e4:
        return f"{value:.1f}"
    return f"{value:.4f}"


def shown_column(column: pa.Array) -> list[str]:
    """The column as texts for people."""
    if is_tensor(column.type):
        rows, cols = column.type.shape
        return ["NULL" if null else f"{rows} x {cols}" for null in column.is_null().to_pylist()]
    return [shown(value) for value in column.to_pylist()]


def require_pandas() -> None:
    """Raises ExecutionError where a data frame is asked for and pandas is not installed."""
    try:
        import pandas  # noqa: F401
    except ImportError:
        raise ExecutionError("df() needs pandas", hint="Install it: pip install pandas") from None


def table_of(
    names: Sequence[str], rows: Sequence[Sequence[Any]], kinds: Mapping[str, pa.DataType] = MappingProxyType({})
) -> pa.Table:
    """A small table from rows.

    Args:
        kinds: the types of columns by name; others have the type of their values, or strings where there are none.
    """
    import pyarrow as pa

    columns = []
    for index, name in enumerate(names):
        values = [printable(row[index]) if isinstance(row[index], str) else row[index] for row in rows]
        column = pa.array(values, kinds.get(name))
        columns.append(column.cast(pa.string()) if pa.types.is_null(column.type) else column)
    return pa.Table.from_arrays(columns, names=list(names))
