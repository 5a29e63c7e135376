"""The functions that a network in a file may call, by name: what inference of image networks needs, and nothing else.

A name is looked up, never imported or evaluated. It is an ATen operator of `OPERATORS` (`aten.relu.default`; without an
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
        before = torch.broadcast_shapes(*(each.shape[:-2] for each in (query, key, value)))  # type: ignore[no-untyped-call]
        query, key, value = (each.expand(*before, *each.shape[-2:]) for each in (query, key, value))
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


#: `name` or `name:overload,overload` where only some of its overloads are listed.
_LISTED = """
    abs absolute acos acosh arccos arccosh arcsin arcsinh arctan arctan2 arctanh asin asinh atan atan2 atanh ceil
    celu clamp clamp_max clamp_min clip cos cosh elu erf erfc exp exp2 expm1 fix floor frac gelu hardshrink
    hardsigmoid hardswish hardtanh isfinite isinf isnan isneginf isposinf leaky_relu log log10 log1p log2
    log_sigmoid logit mish nan_to_num neg negative positive prelu reciprocal relu relu6 round rsqrt selu sgn sigmoid
    sign signbit silu sin sinc sinh softplus softshrink sqrt square tan tanh threshold trunc glu

    add:Tensor,Scalar addcdiv addcmul copysign div:Tensor,Scalar divide:Tensor,Scalar float_power floor_divide fmax
    fmin fmod hypot lerp logaddexp logaddexp2 maximum minimum mul:Tensor,Scalar multiply:Tensor,Scalar pow remainder
    rsub sub:Tensor,Scalar subtract:Tensor,Scalar true_divide

    bitwise_and bitwise_left_shift bitwise_not bitwise_or bitwise_right_shift bitwise_xor eq ge greater
    greater_equal gt le less less_equal logical_and logical_not logical_or logical_xor lt masked_fill ne not_equal
    where:self,ScalarSelf,ScalarOther,Scalar __and__ __lshift__ __or__ __rshift__ __xor__

    all amax amin aminmax any argmax argmin argsort count_nonzero cumprod cumsum linalg_norm linalg_vector_norm
    log_softmax logsumexp max mean median min norm prod softmax sort std std_mean sum topk var var_mean _log_softmax
    _safe_softmax _softmax

    adjoint alias atleast_1d atleast_2d atleast_3d broadcast_tensors broadcast_to cat channel_shuffle chunk clone
    column_stack concat concatenate constant_pad_nd contiguous copy detach diagonal dstack expand expand_as flatten
    flip fliplr flipud hsplit hstack lift_fresh lift_fresh_copy mH:default mT:default matrix_H:default meshgrid
    movedim moveaxis narrow:default numpy_T:default pad permute pixel_shuffle pixel_unshuffle ravel reflection_pad1d
    reflection_pad2d reflection_pad3d repeat repeat_interleave:self_int replication_pad1d replication_pad2d
    replication_pad3d reshape reshape_as roll rot90 row_stack select select_scatter slice slice_scatter split
    split_with_sizes squeeze stack swapaxes swapdims t tensor_split:sections,indices tile
    to:device,dtype,other,dtype_layout transpose tril triu type_as unbind unfold unflatten unsafe_chunk unsafe_split
    unsafe_split_with_sizes unsqueeze view:default view_as vsplit vstack _to_copy _unsafe_view

    arange eye full full_like linspace new_full new_ones new_zeros one_hot ones ones_like scalar_tensor tril_indices
    triu_indices zeros zeros_like

    embedding gather index:Tensor index_select take_along_dim _unsafe_index

    addbmm addmm addmv addr baddbmm bilinear bmm cosine_similarity dot einsum:default inner linalg_multi_dot linear
    matmul mm mv outer scaled_dot_product_attention tensordot

    adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d adaptive_max_pool1d adaptive_max_pool2d
    adaptive_max_pool3d avg_pool1d avg_pool2d avg_pool3d col2im conv1d conv2d conv3d conv_transpose1d
    conv_transpose2d conv_transpose3d convolution im2col max_pool1d max_pool1d_with_indices max_pool2d
    max_pool2d_with_indices max_pool3d max_pool3d_with_indices _adaptive_avg_pool2d _adaptive_avg_pool3d

    alpha_dropout batch_norm dropout feature_alpha_dropout feature_dropout group_norm instance_norm layer_norm
    native_group_norm native_layer_norm rms_norm

    affine_grid_generator grid_sampler upsample_bicubic2d upsample_bilinear2d upsample_linear1d upsample_nearest1d
    upsample_nearest2d upsample_nearest3d upsample_trilinear3d _upsample_bicubic2d_aa _upsample_bilinear2d_aa
    _upsample_nearest_exact1d _upsample_nearest_exact2d _upsample_nearest_exact3d
"""

#: Operators that write into their first argument, which the graph that calls them has computed.
_WRITING = """abs_ absolute_ add_ addcdiv_ addcmul_ alpha_dropout_ atan_ ceil_ celu_ clamp_ clamp_max_ clamp_min_ clip_
    copy_:default cos_ detach_ div_:Tensor,Scalar divide_:Tensor,Scalar dropout_ elu_ eq_ erf_ exp_ expm1_
    feature_alpha_dropout_ feature_dropout_ fill_ floor_ ge_ gt_ hardsigmoid_ hardswish_ hardtanh_ le_ leaky_relu_ log_
    log1p_ logical_and_ logical_not_ logical_or_ lt_ masked_fill_ mish_ mul_ multiply_ ne_ neg_ negative_ pow_
    reciprocal_ relu6_ relu_ round_ rsqrt_ selu_ sigmoid_ sign_ silu_ sin_ sqrt_ square_ sub_ subtract_ tanh_ threshold_
    true_divide_ trunc_ zero_"""

#: Sizes and statements about them: they give numbers or nothing.
_SIZES = """_assert_scalar _assert_tensor_metadata sym_constrain_range_for_size sym_numel sym_size:int,default
    sym_storage_offset sym_stride:int,default"""


def _table(text: str) -> dict[str, frozenset[str] | None]:
    entries = (entry.partition(":") for entry in text.split())
    return {name: frozenset(overloads.split(",")) if overloads else None for name, _, overloads in entries}


IN_PLACE = _table(_WRITING)
SIZES = _table(_SIZES)
#: Every operator by name, with those of its overloads that are listed, None for all that compute on tensors.
OPERATORS: Mapping[str, frozenset[str] | None] = {**_table(_LISTED), **IN_PLACE, **SIZES}

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
    """Whether a kernel that goes over so many cells comes to an end, and never before a picture."""
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
