"""The functions that nodes call, by name: so that a network in a file says what it computes, and can say nothing else.

A name is looked up, never imported or evaluated. It is an ATen operator of the list in `inference_operators`
(`aten.relu.default`; without an overload, as for writes in place, `aten.relu_`) or one of `OWN`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import torch

from kryptondb.network.attention import attention
from kryptondb.network.inference_operators import listed, listed_in_place
from kryptondb.network.local_operators import same
from kryptondb.network.size_arithmetic import ARITHMETIC, BOUNDED
from kryptondb.network.windows import sum_windows, take_every

Function = Callable[..., Any]

_SYMBOLIC = "sym_int sym_float sym_max sym_min sym_not"
#: Every function besides ATen's operators.
OWN: dict[str, Function] = {
    "torch.conv2d": torch.conv2d,
    "torch.max_pool2d": torch.max_pool2d,
    "torch.nn.functional.avg_pool2d": torch.nn.functional.avg_pool2d,
    "kryptondb.same": same,
    "kryptondb.sum_windows": sum_windows,
    "kryptondb.take_every": take_every,
    **{f"operator.{name}": function for name, function in ARITHMETIC.items()},
    **{f"torch.{name}": getattr(torch, name) for name in _SYMBOLIC.split()},
}
_NAMES = {function: name for name, function in OWN.items()}
_NAMES.update({function: _NAMES[bounded] for function, bounded in BOUNDED.items()})
_ATTENTION = "aten.scaled_dot_product_attention.default"
_NAMES[attention] = _ATTENTION
_ATEN = re.compile(r"aten\.(\w{1,100})(?:\.(\w{1,100}))?", re.ASCII)


def function_named(name: str) -> Function | None:
    """The function of a name that `name_of` gave, or None for any other text."""
    if name == _ATTENTION:
        return attention
    aten = _ATEN.fullmatch(name)
    if aten is None:
        return OWN.get(name)
    return listed_in_place(aten[1]) if aten[2] is None else listed(aten[1], aten[2])


def name_of(function: Function) -> str | None:
    """The name of a function, or None for one that has none here."""
    if isinstance(function, (torch._ops.OpOverload, torch._ops.OpOverloadPacket)):
        name = str(function)
        return name if name == _ATTENTION or function_named(name) is function else None
    try:
        return _NAMES.get(function)
    except TypeError:  # a callable that cannot be hashed
        return None
