"""An ONNX file as data: its protobuf parsed, its arrays read with every size known beforehand, its graph's nodes.

Nothing in it is run. Arrays may lie in other files (external data); those have to be in the model's own folder.
"""

from __future__ import annotations

import hashlib
import math
import os
import re
from collections.abc import Iterable, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from kryptondb.catalog.model import reading
from kryptondb.errors import ModelError
from kryptondb.files.regular import open_regular, read_regular

MAX_FILE_BYTES = (2 << 30) - 1  # protobuf reads no larger message
MAX_EXTERNAL_BYTES = 16 << 30
MAX_NODES = 100_000
MAX_SPARSE = 1 << 24  # numbers of a sparse array, with its zeros
OLDEST_OPSET = 7
DOMAINS = ("", "ai.onnx")
EXPORT_HINT = (
    "Export it again: torch.onnx.export(model.eval(), (images,), 'file.onnx', dynamic_shapes=({0:"
    " torch.export.Dim('batch')},)), or tf2onnx.convert."
)
BATCH_HINT = "Export it with a batch of any size: torch.onnx.export(..., dynamic_shapes=...), or tf2onnx with None."

#: What an array says of the file that it lies in.
_EXTERNAL = ("location", "offset", "length", "checksum")

Array = NDArray[Any]


class OnnxFile:
    """What a file holds; its arrays are read when they are first asked for.

    Attributes:
        path: as it was given.
        graph: the `onnx.GraphProto`.
        opset: version of the standard operators.
        files: absolute paths of everything that was read so far.
        bytes: of all arrays that were read so far.
    """

    def __init__(self, path: str, graph: Any, opset: int) -> None:
        self.path, self.graph, self.opset = path, graph, opset
        self.bytes = 0
        self._files: dict[str, None] = {path: None}
        self._parts: dict[tuple[str, int, int], Array] = {}  # of other files, each read once
        self._arrays: dict[str, Array] = {}
        self._checksums: dict[str, str] = {}  # of other files, where an array names one
        self._tensors = {tensor.name: tensor for tensor in graph.initializer}
        self._sparse = {tensor.values.name: tensor for tensor in graph.sparse_initializer}

    @property
    def files(self) -> tuple[str, ...]:
        """Absolute paths of the file and of those that its arrays lie in, as far as they were read."""
        return tuple(self._files)

    def holds(self, name: str) -> bool:
        """Whether it has an initializer of that name."""
        return name in self._tensors or name in self._sparse

    def initializer(self, name: str) -> Array:
        """The initializer of that name; `ModelError` as `array` raises it."""
        if name not in self._arrays:
            sparse = self._sparse.get(name)
            self._arrays[name] = self.array(self._tensors[name]) if sparse is None else self.dense(sparse)
        return self._arrays[name]

    def array(self, tensor: Any) -> Array:
        """A `TensorProto` as an array.

        Raises ModelError when the array has another size than its bytes, or holds text.
        """
        onnx = package(self.path)
        name = tensor.name[:80]
        try:
            dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type))
        except (KeyError, TypeError, ValueError):
            raise ModelError(f'{self.path}: the array "{name}" has an unknown type') from None
        if dtype.kind in "OUSc":
            raise ModelError(f'{self.path}: the array "{name}" holds no numbers that KryptonDB reads')
        if any(side < 0 for side in tensor.dims):
            raise ModelError(f'{self.path}: the array "{name}" has a negative size')
        try:
            if onnx.external_data_helper.uses_external_data(tensor):
                return self._external(tensor, dtype)
            value: Array = onnx.numpy_helper.to_array(tensor)
        except (ValueError, TypeError, OverflowError) as error:
            raise ModelError(f'{self.path}: the array "{name}" is damaged: {str(error)[:200]}') from error
        self.bytes += value.nbytes
        return value

    def dense(self, sparse: Any) -> Array:
        """A `SparseTensorProto` as an array with its zeros. ModelError as for `array`, or where it is too large."""
        name = sparse.values.name[:80]
        dims = tuple(sparse.dims)
        if not dims or any(side < 1 for side in dims) or math.prod(dims) > MAX_SPARSE:
            raise ModelError(f'{self.path}: the sparse array "{name}" has more than {MAX_SPARSE:,} numbers, or none')
        values, places = self.array(sparse.values).reshape(-1), self.array(sparse.indices)
        if places.ndim == 2 and places.shape[1] == len(dims) and ((places >= 0) & (places < dims)).all():
            places = np.ravel_multi_index(tuple(places.T), dims)
        if places.ndim != 1 or len(places) != len(values) or not ((places >= 0) & (places < math.prod(dims))).all():
            raise ModelError(f'{self.path}: the sparse array "{name}" is damaged: its places do not fit its size')
        found = np.zeros(math.prod(dims), values.dtype)
        self.bytes += found.nbytes
        found[places] = values
        return found.reshape(dims)

    def _external(self, tensor: Any, dtype: np.dtype[Any]) -> Array:
        """An array of another file of the model's folder, of exactly the bytes that its shape takes."""
        name = tensor.name[:80]
        entries = self._entries(tensor)
        folder = Path(os.path.realpath(Path(self.path).parent))
        location = entries.get("location", "")
        file = folder / location
        if not location or Path(location).is_absolute() or not Path(os.path.realpath(file)).is_relative_to(folder):
            raise ModelError(f'{self.path}: the array "{name}" lies outside the model\'s folder')
        wanted = math.prod(tensor.dims) * dtype.itemsize
        offset, length = (_whole(entries.get(key), default) for key, default in (("offset", 0), ("length", wanted)))
        part = str(file), offset, length
        try:
            with open_regular(file, MAX_EXTERNAL_BYTES) as stream:
                size = os.fstat(stream.fileno()).st_size
                if length != wanted or offset + length > size:
                    raise ModelError(f'{self.path}: the array "{name}" is not inside the file {location} as it says')
                if (checksum := entries.get("checksum")) is not None:
                    self._checksums[str(file)] = self._checksums.get(str(file)) or _sha1(stream)
                    if checksum.lower() != self._checksums[str(file)]:
                        raise ModelError(f"{self.path}: its file {location} is not the one of its checksum")
                if part not in self._parts:
                    held = sum(length for path, _, length in self._parts if path == str(file))
                    if held + length > size:
                        raise ModelError(f'{self.path}: the array "{name}" shares bytes of {location} with others')
                    found = bytearray(length)  # not bytes: torch may hold it as it is
                    stream.seek(offset)
                    if stream.readinto(found) != length:  # type: ignore[attr-defined]  # BinaryIO does not say so
                        raise ModelError(f"{self.path}: its file {location} changed while it was read")
                    self._parts[part] = np.frombuffer(found, dtype=np.uint8)
                    self.bytes += length
        except OSError as error:
            raise ModelError(f"{self.path}: its file {location} cannot be read: {error.strerror or error}") from error
        self._files[str(file)] = None
        return self._parts[part].view(dtype.newbyteorder("<")).reshape(tuple(tensor.dims))

    def _entries(self, tensor: Any) -> Mapping[str, str]:
        """What an array says about the file that it lies in. ModelError for one twice or not understood."""
        entries = {entry.key: entry.value for entry in tensor.external_data}
        strange = next((key for key in entries if key not in _EXTERNAL), None)
        if strange is not None or len(entries) < len(tensor.external_data):
            what = "says something twice" if strange is None else f"says {strange[:40]}, which is not understood,"
            raise ModelError(f'{self.path}: the array "{tensor.name[:80]}" {what} of its file')
        return entries


def _whole(text: str | None, default: int) -> int:
    """A number of bytes; the default where none is given. ValueError for anything but digits."""
    if not text:
        return default
    if not re.fullmatch(r"[0-9]{1,30}", text):
        raise ValueError(f"{text[:40]!r} is not a number of bytes")
    return int(text)


def _sha1(stream: Any) -> str:
    """Of a whole file: the checksum of external data in the standard."""
    stream.seek(0)
    return hashlib.file_digest(stream, "sha1").hexdigest()


def read(path: str) -> OnnxFile:
    """Parses an ONNX file.

    Raises ModelError when the package onnx is missing, or the file is missing, damaged, too large, or of an unknown
    version.
    """
    onnx = package(path)
    model = _parsed(onnx, path)
    if not _texts_are_texts(model):
        raise ModelError(f"{path} is not a sound ONNX file: it has names that are not UTF-8", hint=EXPORT_HINT)
    if model.ir_version > onnx.IR_VERSION:
        raise ModelError(
            f"{path} is of version {model.ir_version} of the ONNX format; this package onnx knows {onnx.IR_VERSION}",
            hint="A newer package onnx may know it, or onnxruntime's tools may write an older one.",
        )
    graph = model.graph
    _check_defined_once(path, graph)
    if len(graph.node) > MAX_NODES:
        raise ModelError(f"{path} has {len(graph.node):,} operators, more than {MAX_NODES:,}")
    if model.functions:
        names = ", ".join(sorted({function.name[:60] for function in model.functions})[:5])
        raise ModelError(
            f"{path} defines operators of its own: {names}",
            hint="onnx.inliner.inline_local_functions(model) replaces them by the standard ones.",
        )
    return OnnxFile(path, graph, _opset(onnx, model, path))


def _check_defined_once(path: str, graph: Any) -> None:
    """Raises ModelError for a value that a graph, or one in its attributes, defines twice: which one would count?"""
    inputs = {value.name for value in graph.input}
    arrays = chain(
        (tensor.name for tensor in graph.initializer), (sparse.values.name for sparse in graph.sparse_initializer)
    )
    defined: set[str] = set()
    for name in arrays:
        if name in defined:
            raise ModelError(f'{path} is damaged: its array "{name[:80]}" appears twice', hint=EXPORT_HINT)
        defined.add(name)
    defined |= inputs
    for node in graph.node:
        for name in filter(None, node.output):
            if name in defined:
                raise ModelError(
                    f'{path} is damaged: {node.op_type[:60]} gives "{name[:80]}", which already exists',
                    hint=EXPORT_HINT,
                )
            defined.add(name)
        for attribute in node.attribute:
            for inner in (*((attribute.g,) if attribute.HasField("g") else ()), *attribute.graphs):
                _check_defined_once(path, inner)


def _texts_are_texts(message: Any) -> bool:
    """Whether every text in a message is one: protobuf gives bytes for what is not UTF-8."""
    for field, value in message.ListFields():
        several = (value,) if isinstance(value, (str, bytes)) or hasattr(value, "ListFields") else value
        if field.type == field.TYPE_STRING and not all(isinstance(text, str) for text in several):
            return False
        if field.type == field.TYPE_MESSAGE and not all(_texts_are_texts(message) for message in several):
            return False
    return True


def package(path: str) -> Any:
    """The package `onnx`, imported. ModelError with the remedy where it is not installed."""
    try:
        import onnx
        import onnx.external_data_helper
        import onnx.numpy_helper
    except ImportError:
        raise ModelError(f"{path} needs the package onnx", hint='pip install "kryptondb[onnx]"') from None
    return onnx


def _parsed(onnx: Any, path: str) -> Any:
    from google.protobuf.message import DecodeError

    with reading(
        path, "Give an ONNX file of at most 2 GiB: onnx.save(model, path, save_as_external_data=True) splits it."
    ):
        data = read_regular(path, MAX_FILE_BYTES)
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


def needed(nodes: Iterable[Any], output: str) -> list[Any]:
    """The nodes that a value depends on, in their order. What other outputs need is not looked at."""
    wanted, found = {output}, []
    for node in reversed(list(nodes)):
        if wanted.intersection(filter(None, node.output)):
            found.append(node)
            wanted.update(reads_of(node))
    return found[::-1]


def reads_of(node: Any) -> set[str]:
    """Names of the values that a node reads, those of the graphs in its attributes included."""
    names = {name for name in node.input if name}
    for graph in _graphs(node):
        own = {tensor.name for tensor in graph.initializer} | {value.name for value in graph.input}
        own |= {name for inner in graph.node for name in inner.output}
        names |= {name for inner in graph.node for name in reads_of(inner)} - own
        names |= {value.name for value in graph.output} - own
    return names


def branch(node: Any, taken: bool, prefix: str) -> tuple[list[Any], list[Any], list[str]]:
    """The branch of an `If` as nodes of the graph around it.

    Args:
        prefix: goes before every name that the branch defines, so that none is defined twice.

    Returns:
        Its initializers, renamed; its nodes, renamed; the names of its results.
    """
    wanted = "then_branch" if taken else "else_branch"
    graph = next(attribute.g for attribute in node.attribute if attribute.name == wanted)
    defined = [tensor.name for tensor in graph.initializer]
    defined += [name for inner in graph.node for name in inner.output if name]
    names = {name: prefix + name for name in defined}
    tensors = []
    for tensor in graph.initializer:
        renamed = onnx.TensorProto()
        renamed.CopyFrom(tensor)
        renamed.name = names[tensor.name]
        tensors.append(renamed)
    return tensors, [_renamed(inner, names) for inner in graph.node], [names.get(v.name, v.name) for v in graph.output]


def _renamed(node: Any, names: Mapping[str, str]) -> Any:
    renamed = onnx.NodeProto()
    renamed.CopyFrom(node)
    for values in (renamed.input, renamed.output):
        values[:] = [names.get(name, name) for name in values]
    for graph in _graphs(renamed):
        own = {tensor.name for tensor in graph.initializer} | {name for inner in graph.node for name in inner.output}
        outer = {name: new for name, new in names.items() if name not in own}
        for place, inner in enumerate(graph.node):
            graph.node[place].CopyFrom(_renamed(inner, outer))
        for value in graph.output:
            value.name = outer.get(value.name, value.name)
    return renamed


def _graphs(node: Any) -> list[Any]:
    graphs = [attribute.g for attribute in node.attribute if attribute.HasField("g")]
    return graphs + [graph for attribute in node.attribute for graph in attribute.graphs]
