"""What a registered module computes, as text for its fingerprint: two modules with one text give the same answers.

Code alone does not say it. A function of the same source computes something else where it closes over other values,
reads other globals or has other defaults, and a layer where it keeps other settings, has a hook or an instance's own
`forward`. So all that can be reached from a module is written down; what cannot be looked into never equals anything.
"""

from __future__ import annotations

import dis
import enum
import functools
import hashlib
import inspect
import re
import secrets
import site
import sys
import sysconfig
import types
from collections import deque
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import PurePath
from typing import Any

import numpy as np
import torch

from kryptondb.catalog.model import dense_parts

#: Parts of the standard library whose objects compute nothing.
_QUIET = {"logging", "threading", "_thread", "weakref"}
#: What a module keeps that computes nothing, or that is written down otherwise.
_LEFT_OUT = {
    *("training", "_modules", "_parameters", "_buffers", "_non_persistent_buffers_set", "_is_full_backward_hook"),
    *("_backward_hooks", "_backward_pre_hooks", "_state_dict_hooks", "_state_dict_pre_hooks"),
    *("_load_state_dict_pre_hooks", "_load_state_dict_post_hooks", "_version", "_abc_impl"),
}
#: Mappings whose keys are numbers that no two modules share.
_HOOKS = "_forward_"
_PLAIN = (type(None), bool, int, float, complex, str, bytes, range, slice, PurePath, re.Pattern)
_TORCH = (torch.dtype, torch.device, torch.memory_format, torch.layout)
_MOST, _LARGEST = 50_000, 1 << 25  # values and characters; a module that hangs on more is like no other
_DEEPEST = 60
_LONG = 1 << 16  # characters of one text


def module_structure(module: torch.nn.Module) -> str:
    """A module's computation as text: its tree, and everything that its parts and their code refer to.

    Parameters and buffers are left to the fingerprint. A module with something that cannot be looked into (a lock, an
    object of a compiled library) has another text each time.
    """
    writer = _Writer()
    writer.pieces.append(re.sub(r" at 0x[0-9a-f]+", "", repr(module)))
    for path, part in module.named_modules(remove_duplicate=False):
        writer.pieces.append(path)
        writer.module(part)
    return "\n".join(writer.pieces)


class _Pieces(list[str]):
    """Pieces of a text, and how long they are together."""

    characters = 0

    def append(self, piece: str) -> None:
        self.characters += len(piece)
        super().append(piece)


class _Writer:
    """Writes values down, each object once."""

    def __init__(self) -> None:
        self.pieces = _Pieces()
        self._seen: dict[int, int] = {}
        self._held: list[object] = []  # so that no other object gets the id of one that was seen

    def module(self, part: torch.nn.Module) -> None:
        """A module's class, settings and hooks, without its weights and its parts."""
        if self._again(part):
            return
        self._class(type(part), 0)
        fields = vars(part)
        if isinstance(part, torch.jit.ScriptModule):
            # The names that TorchScript gives to classes of one name count how many there were in the process.
            self.pieces.append(re.sub(r"___torch_mangle_\d+\.", "", part._c.dump_to_str(True, True, False)))
            fields = _script_constants(part)
        elif isinstance(part, torch.fx.GraphModule):
            self.pieces.append(part.code)
            fields = {name: value for name, value in fields.items() if isinstance(value, (*_PLAIN, torch.Tensor))}
        for name, value in sorted(fields.items()):
            if name not in _LEFT_OUT:
                self.pieces.append(name)
                is_hooks = name.startswith(_HOOKS) and isinstance(value, Mapping)
                self.value(list(value.values()) if is_hooks else value, 1)

    def value(self, value: object, depth: int) -> None:
        """Any value at all."""
        if isinstance(value, (str, bytes)) and len(value) > _LONG:
            self._bytes(type(value).__name__, value.encode(errors="surrogatepass") if isinstance(value, str) else value)
        elif isinstance(value, _PLAIN) and not isinstance(value, enum.Enum):
            self.pieces.append(f"{type(value).__name__} {value!r}")
        elif isinstance(value, _TORCH):
            self.pieces.append(str(value))
        elif isinstance(value, enum.Enum):
            self.pieces.append(f"{_qualified(type(value))}.{value.name}")
        elif depth > _DEEPEST or len(self._seen) > _MOST or self.pieces.characters > _LARGEST:
            self._unknown()
        elif isinstance(value, torch.nn.Module):
            self._whole_module(value)
        elif not self._again(value):
            try:
                self._object(value, depth + 1)
            except Exception:  # whatever an object raises where it is looked at
                self._unknown()

    def _again(self, value: object) -> bool:
        known = self._seen.setdefault(id(value), len(self._seen))
        if known < len(self._held):
            self.pieces.append(f"as {known}")
            return True
        self._held.append(value)
        return False

    def _object(self, value: Any, depth: int) -> None:
        if isinstance(value, torch.Tensor):
            self._tensor(value)
        elif isinstance(value, (np.ndarray, np.generic)) and value.dtype != object:
            self._bytes(f"{value.dtype} {value.shape}", np.ascontiguousarray(value).tobytes())
        elif isinstance(value, types.ModuleType):
            self.pieces.append(f"module {value.__name__}")
        elif isinstance(value, type):
            self._class(value, depth)
        elif isinstance(value, types.FunctionType):
            self._function(value, depth)
        elif isinstance(value, (types.MethodType, functools.partial, staticmethod, classmethod, property)):
            self._parts_of_callable(value, depth)
        elif isinstance(value, (types.BuiltinFunctionType, types.MethodDescriptorType, types.WrapperDescriptorType)):
            self.pieces.append(f"built in {value.__qualname__}")
            owner = getattr(value, "__self__", None)
            if owner is not None and not isinstance(owner, types.ModuleType):
                self.value(owner, depth)
        elif isinstance(value, (Mapping, list, tuple, deque, set, frozenset)):
            self._collection(value, depth)
        else:
            self._instance(value, depth)

    def _instance(self, value: Any, depth: int) -> None:
        kind = type(value)
        fields = dict(getattr(value, "__dict__", {}))
        names = (name for base in kind.__mro__ for name in _listed(base.__dict__.get("__slots__", ())))
        fields |= {name: getattr(value, name) for name in names if not name.startswith("__") and hasattr(value, name)}
        name = f"{getattr(value, '__module__', '')}.{getattr(value, '__qualname__', '')}"
        if isinstance(value, (torch._ops.OpOverload, torch._ops.OpOverloadPacket)):
            self.pieces.append(str(value))
        elif kind.__module__.partition(".")[0] in _QUIET:
            self.pieces.append(_qualified(kind))
        elif isinstance(value, torch.jit.ScriptFunction):
            self.pieces.append(str(value.code))
        elif fields or _is_ours(kind):
            self._class(kind, depth)
            self._fields(fields, depth)
        elif name.strip("."):  # functions of libraries
            self.pieces.append(name)
        else:
            self._unknown()

    def _whole_module(self, module: torch.nn.Module) -> None:
        """A module that code refers to, with its weights, where it has not been written down."""
        if id(module) in self._seen:
            self._again(module)
            return
        for path, part in module.named_modules(remove_duplicate=False):
            self.pieces.append(path)
            self.module(part)
        for name, tensor in (*module.named_parameters(), *module.named_buffers()):
            self.pieces.append(name)
            self._tensor(tensor)

    def _class(self, kind: type, depth: int) -> None:
        """A class by its name; those that no library fixes with their code and what they keep."""
        for base in kind.__mro__:
            self.pieces.append(_qualified(base))
            if not _is_ours(base) or self._again(base):
                continue
            for name, value in vars(base).items():
                is_field = isinstance(value, (types.MemberDescriptorType, types.GetSetDescriptorType))
                if not is_field and name not in _LEFT_OUT and (not name.startswith("__") or callable(value)):
                    self.pieces.append(name)
                    self.value(value, depth + 1)

    def _function(self, function: types.FunctionType, depth: int) -> None:
        self.pieces.append(f"{function.__module__}.{function.__qualname__}")
        if not _is_ours(function):
            return
        self.pieces.append(_source(function))
        self.value(function.__defaults__, depth)
        self.value(function.__kwdefaults__, depth)
        for cell in function.__closure__ or ():
            try:
                self.value(cell.cell_contents, depth)
            except ValueError:  # it has no value yet
                self.pieces.append("empty cell")
        found, read = _names(function.__code__)
        for name in sorted(found & function.__globals__.keys()):
            self.pieces.append(name)
            value = function.__globals__[name]
            self.value(value, depth)
            if isinstance(value, types.ModuleType) and _is_ours(value):
                for attribute in sorted(read & vars(value).keys()):
                    self.pieces.append(attribute)
                    self.value(vars(value)[attribute], depth)

    def _parts_of_callable(self, value: Any, depth: int) -> None:
        self.pieces.append(type(value).__name__)
        if isinstance(value, functools.partial):
            parts: Iterable[object] = (value.func, value.args, value.keywords)
        elif isinstance(value, property):
            parts = (value.fget,)
        elif isinstance(value, types.MethodType):
            parts = (value.__func__, value.__self__)
        else:
            parts = (value.__func__,)
        for part in parts:
            self.value(part, depth)

    def _collection(self, value: Any, depth: int) -> None:
        self.pieces.append(f"{_qualified(type(value))} {len(value)}")
        if isinstance(value, Mapping):
            for key, item in value.items():
                self.value(key, depth)
                self.value(item, depth)
        elif isinstance(value, (set, frozenset)):
            for item in sorted(value, key=repr):
                self.value(item, depth)
        elif all(type(item) in (bool, int, float, str, type(None)) for item in value):
            self.pieces.append(repr(list(value)))
        else:
            for item in value:
                self.value(item, depth)

    def _fields(self, fields: Mapping[str, object], depth: int) -> None:
        for name, value in sorted(fields.items()):
            self.pieces.append(name)
            self.value(value, depth + 1)

    def _tensor(self, tensor: torch.Tensor) -> None:
        if tensor.is_meta:
            self.pieces.append(f"meta {tensor.dtype} {tuple(tensor.shape)}")
            return
        self.pieces.append(str(tensor.layout))
        for part in dense_parts(tensor.detach().cpu()):
            part = part.resolve_conj().resolve_neg().contiguous()
            flat = part.flatten().view(torch.uint8).numpy().tobytes() if part.numel() else b""
            self._bytes(f"{part.dtype} {tuple(part.shape)}", flat)

    def _bytes(self, what: str, data: bytes) -> None:
        self.pieces.append(f"{what} {hashlib.sha256(data).hexdigest()}")

    def _unknown(self) -> None:
        self.pieces.append(f"unknown {secrets.token_hex(16)}")


def _is_ours(value: Any) -> bool:
    """Whether a class, function or module is the user's, and not one that a version of a library fixes."""
    name = value.__name__ if isinstance(value, types.ModuleType) else getattr(value, "__module__", None)
    return not _is_library(str(name or "").partition(".")[0])


@functools.cache
def _is_library(package: str) -> bool:
    """Whether a package is of the standard library, this one, or installed: its names say what it computes."""
    if package in sys.stdlib_module_names or package == __name__.partition(".")[0]:
        return True
    found = getattr(sys.modules.get(package), "__file__", None)
    places = (sysconfig.get_path("purelib"), sysconfig.get_path("platlib"), site.getusersitepackages())
    return found is not None and any(PurePath(found).is_relative_to(place) for place in places)


def _listed(names: Any) -> tuple[str, ...]:
    return (names,) if isinstance(names, str) else tuple(names)


def _names(code: types.CodeType) -> tuple[set[str], set[str]]:
    """The names that code looks up among globals, and all that it looks up anywhere, its inner functions' included."""
    found = {str(step.argval) for step in dis.get_instructions(code) if step.opname in ("LOAD_GLOBAL", "LOAD_NAME")}
    read = set(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            inner, anywhere = _names(constant)
            found, read = found | inner, read | anywhere
    return found, read


def _script_constants(module: torch.jit.ScriptModule) -> dict[str, object]:
    """What a TorchScript module holds in its code: the weights, where it is frozen."""
    with suppress(RuntimeError, AttributeError):  # parts without code of their own have none
        return dict(module.code_with_constants[1].const_mapping)
    return {}


def _qualified(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def _source(function: types.FunctionType) -> str:
    """The function's source, which may hold others of the same line, and what tells it from those.

    One typed at a prompt has its code alone.
    """
    code = function.__code__
    own = f"{code.co_name} {code.co_code.hex()} {code.co_names} {_constants(code)}"
    try:
        return f"{inspect.getsource(function)}\n{own}"
    except (OSError, TypeError):
        return own


def _constants(code: types.CodeType) -> list[str]:
    return [
        f"{constant.co_code.hex()} {constant.co_names} {_constants(constant)}"
        if isinstance(constant, types.CodeType)
        else repr(constant)
        for constant in code.co_consts
    ]
