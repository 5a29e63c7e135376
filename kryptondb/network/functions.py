"""The functions that a network in a file may call, by name: what inference of image networks needs, and nothing else.

A name is looked up, never imported or evaluated. It is an ATen operator of `OPERATORS`, the rows of the table of
operators that files may call (`aten.relu.default`; without an
overload, as for writes in place, `aten.relu_`) or one of `OWN`.

torch checks the arguments of its public functions, but many ATen operators behind them trust their caller: the gradient
operators, the sparse ones and the losses do not look at indices, some inner forms of normalization not even at sizes. A
file could have them read and write anywhere in the process. So an operator is listed here by name or refused, and a
listed one checks every size, dimension and index itself, with these exceptions:

- `CHECKS` names the arguments that its kernel trusts, and what they must be;
- operators that stand in the way of this are replaced (`kryptondb.catalog.program_functions`), attention by
  `attention` and Python's arithmetic by `ARITHMETIC`;
- operators that write do so into their first argument only (`IN_PLACE`), and never into one named `out`.

Not listed either: what leaves memory as it was (`empty`), what draws random numbers, what reads memory by strides or
reinterprets its bits, what gives as many results as its values say (`nonzero`), and what reaches outside (`from_file`).
"""

from __future__ import annotations

import functools
import operator
import re
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from kryptondb.network.operators import ROWS, Operator
from kryptondb.network.window_operators import same, sum_windows, take_every


def attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    *,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """`scaled_dot_product_attention` in inference.

    Args:
        query: [..., tokens, numbers]; `key` and `value` have as many tokens as each other, and the same dimensions
            before them.

    Raises ValueError where they do not fit, not even by repeating what there is one of.
    """
    if not 2 <= query.ndim == key.ndim == value.ndim or key.shape[-2] != value.shape[-2]:
        raise ValueError(f"the values of an attention, {tuple(value.shape)}, do not fit its keys, {tuple(key.shape)}")
    if query.shape[-1] != key.shape[-1] or (enable_gqa and tuple(key.shape[:-2]) != tuple(value.shape[:-2])):
        raise ValueError(f"the queries of an attention, {tuple(query.shape)}, do not fit its keys, {tuple(key.shape)}")
    if not enable_gqa and not tuple(query.shape[:-2]) == tuple(key.shape[:-2]) == tuple(value.shape[:-2]):
        before = torch.broadcast_shapes(*(tensor.shape[:-2] for tensor in (query, key, value)))  # type: ignore[no-untyped-call]
        query, key, value = (tensor.expand(*before, *tensor.shape[-2:]) for tensor in (query, key, value))
    found: Tensor = torch.ops.aten.scaled_dot_product_attention.default(
        query, key, value, attn_mask, 0.0, is_causal, scale=scale, enable_gqa=enable_gqa
    )
    return found


LARGEST = 1 << 63
_NUMBERS = (bool, int, float, torch.SymInt, torch.SymFloat, torch.SymBool)


def take_item(values: Any, place: Any) -> Any:
    """One of several results of an operator."""
    if not isinstance(values, (list, tuple)) or not isinstance(place, int):
        raise TypeError(f"an item of a {type(values).__name__}")
    return values[place]


def _on_numbers(function: Callable[..., Any]) -> Callable[..., Any]:
    def bounded(*numbers: Any) -> Any:
        for number in numbers:
            if not isinstance(number, _NUMBERS):
                raise TypeError(f"{function.__name__} of a {type(number).__name__}")
        result = function(*numbers)
        if isinstance(result, int) and abs(result) >= LARGEST:
            raise OverflowError(f"{function.__name__} gives a number of more than 64 bits")
        return result

    bounded.__name__ = bounded.__qualname__ = f"bounded_{function.__name__.strip('_')}"
    return bounded


_UNARY_AND_BINARY = "abs add and_ eq floordiv ge gt le lt mod mul ne neg not_ or_ pos sub truediv"
#: By the name that Python's operator module has for it.
ARITHMETIC: dict[str, Callable[..., Any]] = {
    "getitem": take_item,
    **{name: _on_numbers(getattr(operator, name)) for name in _UNARY_AND_BINARY.split()},
}
#: By Python's own function: what runs instead.
BOUNDED: dict[Callable[..., Any], Callable[..., Any]] = {
    getattr(operator, name): function for name, function in ARITHMETIC.items()
}


def _overloads(row: Operator) -> frozenset[str] | None:
    return frozenset(row.overloads) or None


#: Operators that write into their first argument, which the graph that calls them has computed.
IN_PLACE: Mapping[str, frozenset[str] | None] = {
    f"{name}_": _overloads(row)
    for row in ROWS
    if row.files and (row.writes_over or row.writes_in_files)
    for name in row.names
    if hasattr(torch.ops.aten, f"{name}_")
}
#: Sizes and statements about them: they give numbers or nothing.
SIZES: Mapping[str, frozenset[str] | None] = {
    **dict.fromkeys(("_assert_scalar", "_assert_tensor_metadata", "sym_constrain_range_for_size", "sym_numel")),
    "sym_size": frozenset(["int", "default"]),
    "sym_storage_offset": None,
    "sym_stride": frozenset(["int", "default"]),
}
#: Every operator by name, with those of its overloads that are listed, None for all that compute on tensors.
OPERATORS: Mapping[str, frozenset[str] | None] = {
    **{name: _overloads(row) for row in ROWS if row.files for name in row.names},
    **IN_PLACE,
    **SIZES,
}

_LARGEST_SCALE = 4096.0
_LARGEST_EXTENT = 1 << 16  # cells


def _is_scale(value: Any) -> bool:
    """Whether a kernel that divides by it stays in its picture: none at all, or ordinary numbers."""
    if isinstance(value, (list, tuple)):
        return all(_is_scale(item) for item in value)
    if value is None:
        return True
    return isinstance(value, (int, float)) and 1 / _LARGEST_SCALE <= value <= _LARGEST_SCALE


def _is_off(value: Any) -> bool:
    return value is False


def _is_extent(value: Any) -> bool:
    """Whether a kernel that loops over that number of cells ends in time, and never reads before a picture."""
    if isinstance(value, (list, tuple)):
        return all(_is_extent(item) for item in value)
    if isinstance(value, str):
        return value in ("same", "valid")
    return type(value) is int and 0 <= value <= _LARGEST_EXTENT


def _is_mode(value: Any) -> bool:
    return type(value) is int and 0 <= value <= 2


def _is_enumerated(value: Any) -> bool:
    """Whether it is a type, a layout or an order in memory itself: torch takes any number for one, and ends by it."""
    return value is None or isinstance(value, (torch.dtype, torch.layout, torch.memory_format))


_ENUMERATED = (_is_enumerated, "is a number where torch's own name belongs")
_EXTENT = (_is_extent, "is no size of a window")
_MODE = (_is_mode, "is no mode")
_OFF = (_is_off, "is for training")
_SCALE = (_is_scale, "is no scale between two sizes")
#: By the name of an argument: what it must be, and what is said of it where it is not.
CHECKS: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "train": _OFF,  # dropout and its like
    "training": _OFF,  # batch norm: writes into its statistics
    "use_input_stats": _OFF,  # instance norm: the same
    "dilation": _EXTENT,
    "dtype": _ENUMERATED,
    "interpolation_mode": _MODE,  # of grid_sampler, which leaves its result as memory was for any other
    "kernel_size": _EXTENT,
    "layout": _ENUMERATED,
    "memory_format": _ENUMERATED,
    "out_dtype": _ENUMERATED,
    "output_padding": _EXTENT,
    "padding": _EXTENT,
    "padding_mode": _MODE,
    "scale_factors": _SCALE,
    "scales": _SCALE,
    "scales_d": _SCALE,
    "scales_h": _SCALE,
    "scales_w": _SCALE,
}


def misused(name: str, arguments: Mapping[str, Any]) -> str | None:
    """What is wrong with the arguments of a listed operator, None where nothing is.

    Args:
        name: the operator's, without its overload.
        arguments: numbers, flags, None and lists of them by name; anything at all for tensors and symbolic sizes.
    """
    for argument, (holds, what) in CHECKS.items():
        if argument not in arguments or holds(arguments[argument]):
            continue
        # Normalizing with the batch's own statistics, where there are no others, writes nowhere.
        if holds is _is_off and name in ("batch_norm", "instance_norm") and arguments.get("running_mean") is None:
            continue
        return f"the argument {argument} of {name} {what}"
    return None


@functools.cache
def listed(name: str, overload: str) -> torch._ops.OpOverload | None:
    """An ATen operator of the list, None for any other and for overloads that do not compute on tensors."""
    if name not in OPERATORS:
        return None
    chosen = OPERATORS[name]
    if chosen is not None and overload not in chosen:
        return None
    packet = getattr(torch.ops.aten, name, None)
    if not isinstance(packet, torch._ops.OpOverloadPacket) or not hasattr(packet, overload):
        return None
    found = getattr(packet, overload)
    if not isinstance(found, torch._ops.OpOverload):
        return None
    return found if name in SIZES or _computes(found, name in IN_PLACE) else None


def listed_in_place(name: str) -> torch._ops.OpOverloadPacket | None:
    """An operator that writes into its first argument, to be called with a tensor there; None for any other."""
    packet = getattr(torch.ops.aten, name, None) if name in IN_PLACE else None
    return packet if isinstance(packet, torch._ops.OpOverloadPacket) else None


def _computes(operator: torch._ops.OpOverload, in_place: bool) -> bool:
    """Whether an overload takes tensors and numbers, gives tensors, and writes into its first argument at most."""
    schema = operator._schema
    if not schema.returns or "..." in str(schema):
        return False
    if not all(str(result.type) in ("Tensor", "List[Tensor]") for result in schema.returns):
        return False  # the same names stand for functions of lists, numbers and texts
    for place, argument in enumerate(schema.arguments):
        if "Dimname" in str(argument.type):
            return False
        if argument.alias_info is not None and argument.alias_info.is_write and not (in_place and place == 0):
            return False
    return True


def bytes_are_flags(values: torch.Tensor) -> bool:
    """Whether the bytes of a tensor of flags are all 0 or 1: kernels that count flags add their bytes up."""
    return values.numel() == 0 or int(values.contiguous().view(torch.uint8).max()) <= 1


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
