"""An ONNX file as data: its protobuf parsed, its arrays read with every size known beforehand. Nothing in it is run.

Arrays may lie in other files (external data); those have to be in the model's own folder.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kryptondb.errors import ModelError
from kryptondb.files.regular import open_regular, read_regular

MAX_FILE_BYTES = (2 << 30) - 1  # protobuf reads no larger message
MAX_EXTERNAL_BYTES = 16 << 30
MAX_NODES = 100_000
OLDEST_OPSET = 7
DOMAINS = ("", "ai.onnx")
EXPORT_HINT = (
    "Export it again: torch.onnx.export(model.eval(), (images,), 'file.onnx', dynamic_shapes=({0:"
    " torch.export.Dim('batch')},)), or tf2onnx.convert."
)

Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class OnnxFile:
    """What a file holds.

    Attributes:
        path: as it was given.
        graph: the `onnx.GraphProto`.
        opset: version of the standard operators.
        arrays: the initializers by name.
        files: absolute paths of everything that was read.
    """

    path: str
    graph: Any
    opset: int
    arrays: Mapping[str, Array]
    files: tuple[str, ...]


def read(path: str) -> OnnxFile:
    """Reads an ONNX file and its external data.

    Raises ModelError when the package onnx is missing, or the file is missing, damaged, too large, of an unknown
    version, or has arrays that are not where or what it says.
    """
    onnx = package(path)
    model = _parsed(onnx, path)
    graph = model.graph
    if len(graph.node) > MAX_NODES:
        raise ModelError(f"{path} has {len(graph.node):,} operators, more than {MAX_NODES:,}")
    if model.functions:
        names = ", ".join(sorted({function.name[:60] for function in model.functions})[:5])
        raise ModelError(
            f"{path} defines operators of its own: {names}",
            hint="onnx.inliner.inline_local_functions(model) replaces them by the standard ones.",
        )
    arrays: dict[str, Array] = {}
    files: dict[str, None] = {path: None}
    for tensor in graph.initializer:
        arrays[tensor.name] = array(tensor, path, files)
    if graph.sparse_initializer:
        raise ModelError(f"{path} holds sparse arrays, which KryptonDB does not take")
    return OnnxFile(path, graph, _opset(onnx, model, path), arrays, tuple(files))


def package(path: str) -> Any:
    """The package `onnx`, imported. ModelError with the remedy where it is not installed."""
    try:
        import onnx
        import onnx.external_data_helper
        import onnx.numpy_helper
    except ImportError:
        raise ModelError(f"{path} needs the package onnx", hint='pip install "kryptondb[onnx]"') from None
    return onnx


def array(tensor: Any, path: str, files: dict[str, None]) -> Array:
    """A `TensorProto` as an array; adds the file that it lies in to `files`.

    Raises ModelError when the array has another size than its bytes, or holds text or packed numbers.
    """
    onnx = package(path)
    name = tensor.name[:80]
    try:
        dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type))
    except (KeyError, TypeError, ValueError):
        raise ModelError(f'{path}: the array "{name}" has an unknown type') from None
    if dtype.kind not in "fiub" and dtype.name != "bfloat16":
        raise ModelError(f'{path}: the array "{name}" holds {dtype.name}, no numbers that KryptonDB reads')
    if any(side < 0 for side in tensor.dims):
        raise ModelError(f'{path}: the array "{name}" has a negative size')
    try:
        if onnx.external_data_helper.uses_external_data(tensor):
            return _external(tensor, dtype, path, files)
        value: Array = onnx.numpy_helper.to_array(tensor)
    except (ValueError, TypeError, OverflowError) as error:
        raise ModelError(f'{path}: the array "{name}" is damaged: {str(error)[:200]}') from error
    return value


def _parsed(onnx: Any, path: str) -> Any:
    from google.protobuf.message import DecodeError

    try:
        data = read_regular(path, MAX_FILE_BYTES)
    except FileNotFoundError:
        raise ModelError(f"the model file {path} does not exist") from None
    except OSError as error:
        raise ModelError(
            f"{path} cannot be read: {error.strerror or error}",
            hint="Give an ONNX file of at most 2 GiB: onnx.save(model, path, save_as_external_data=True) splits it.",
        ) from error
    try:
        model = onnx.ModelProto()
        model.ParseFromString(data)
    except (DecodeError, RecursionError) as error:
        raise ModelError(f"{path} is not a sound ONNX file: {str(error)[:200]}", hint=EXPORT_HINT) from error
    if not model.graph.node and not model.graph.output:
        raise ModelError(f"{path} is not an ONNX model: it holds no graph", hint=EXPORT_HINT)
    return model


def _opset(onnx: Any, model: Any, path: str) -> int:
    versions = [entry.version for entry in model.opset_import if entry.domain in DOMAINS]
    newest = onnx.defs.onnx_opset_version()
    if len(versions) != 1 or not OLDEST_OPSET <= versions[0] <= newest:
        said = f"opset {versions[0]}" if versions else "no opset"
        raise ModelError(
            f"{path} uses {said} of the ONNX operators; KryptonDB takes {OLDEST_OPSET} to {newest}",
            hint="onnx.version_converter.convert_version changes it, or a newer package onnx knows it.",
        )
    return int(versions[0])


def _external(tensor: Any, dtype: np.dtype[Any], path: str, files: dict[str, None]) -> Array:
    """An array of another file of the model's folder, of exactly the bytes that its shape takes."""
    name = tensor.name[:80]
    entries = {entry.key: entry.value for entry in tensor.external_data}
    folder = Path(os.path.realpath(Path(path).parent))
    location = entries.get("location", "")
    file = folder / location
    if not location or Path(location).is_absolute() or not Path(os.path.realpath(file)).is_relative_to(folder):
        raise ModelError(f'{path}: the array "{name}" lies outside the model\'s folder')
    count = math.prod(tensor.dims)
    offset = int(entries.get("offset", "0") or 0)
    wanted = count * dtype.itemsize
    length = int(entries.get("length", "") or wanted)
    try:
        with open_regular(file, MAX_EXTERNAL_BYTES) as stream:
            size = os.fstat(stream.fileno()).st_size
            if offset < 0 or length != wanted or offset + length > size:
                raise ModelError(f'{path}: the array "{name}" is not inside the file {location} as it says')
            stream.seek(offset)
            data = stream.read(length)
    except OSError as error:
        raise ModelError(f"{path}: its file {location} cannot be read: {error.strerror or error}") from error
    files[str(file)] = None
    return np.frombuffer(data, dtype=dtype.newbyteorder("<")).reshape(tuple(tensor.dims))
