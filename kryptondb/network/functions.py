"""The functions that nodes call, by name: so that a network in a file says what it computes, and can say nothing else.

A name is looked up, never imported or evaluated. It is an ATen operator that computes on tensors (`aten.relu.default`;
without an overload, as for writes in place, `aten.relu_`) or one of `OWN`.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from typing import Any

import torch

from kryptondb.network.local_operators import same
from kryptondb.network.windows import sum_windows, take_every

Function = Callable[..., Any]

#: ATen operators that begin with an underscore are torch's own internals; these are what exports of models contain.
_INTERNAL = """_adaptive_avg_pool2d _adaptive_avg_pool3d _assert_scalar _assert_tensor_metadata _log_softmax
    _native_batch_norm_legit _native_batch_norm_legit_no_training _safe_softmax
    _scaled_dot_product_efficient_attention _scaled_dot_product_flash_attention
    _scaled_dot_product_flash_attention_for_cpu _softmax _to_copy _unsafe_index _unsafe_view _upsample_bicubic2d_aa
    _upsample_bilinear2d_aa _weight_norm _weight_norm_interface
    __and__ __or__ __xor__ __lshift__ __rshift__"""
INTERNAL = frozenset(_INTERNAL.split())
#: ATen operators that reach outside.
OUTSIDE = frozenset({"from_file", "save", "load", "dump", "warn"})

_NUMBERS = "getitem add sub mul floordiv mod neg truediv eq ne lt le gt ge"
_SYMBOLIC = "sym_int sym_float sym_max sym_min sym_not"
#: Every function besides ATen's operators.
OWN: dict[str, Function] = {
    "torch.conv2d": torch.conv2d,
    "torch.max_pool2d": torch.max_pool2d,
    "torch.nn.functional.avg_pool2d": torch.nn.functional.avg_pool2d,
    "kryptondb.same": same,
    "kryptondb.sum_windows": sum_windows,
    "kryptondb.take_every": take_every,
    **{f"operator.{name}": getattr(operator, name) for name in _NUMBERS.split()},
    **{f"torch.{name}": getattr(torch, name) for name in _SYMBOLIC.split()},
}
_NAMES = {function: name for name, function in OWN.items()}
_ATEN = re.compile(r"aten\.(\w{1,100})(?:\.(\w{1,100}))?", re.ASCII)


def aten_operator(name: str, overload: str | None) -> Function | None:
    """An ATen operator that computes on tensors and does nothing else, or None for any other name."""
    if name in OUTSIDE or (name.startswith("_") and name not in INTERNAL):
        return None
    packet = getattr(torch.ops.aten, name, None)
    if not isinstance(packet, torch._ops.OpOverloadPacket):
        return None
    found = packet if overload is None else getattr(packet, overload, None)
    return found if isinstance(found, (torch._ops.OpOverloadPacket, torch._ops.OpOverload)) else None


def function_named(name: str) -> Function | None:
    """The function of a name that `name_of` gave, or None for any other text."""
    aten = _ATEN.fullmatch(name)
    return aten_operator(aten[1], aten[2]) if aten else OWN.get(name)


def name_of(function: Function) -> str | None:
    """The name of a function, or None for one that has none here."""
    if isinstance(function, (torch._ops.OpOverload, torch._ops.OpOverloadPacket)):
        name = str(function)
        return name if function_named(name) is function else None
    try:
        return _NAMES.get(function)
    except TypeError:  # a callable that cannot be hashed
        return None
