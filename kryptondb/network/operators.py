"""The table of ATen operators: what each does to regions, to differences, to numbers and to memory, by all its names.

A row's rule is a function `call -> Node`. Where it finds a case that the algebra does not cover, it returns a dense
node with the reason: the operator then runs on whole pictures, correctly and without speed-up. So does an operator
without a row.

A network in a file may call an operator only if it has a row that does not say `files=False` (`network.functions` says
why). So a new row needs a look at the operator's kernel: it must check every size, dimension and index itself.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from kryptondb.network import channel_moves as moves
from kryptondb.network import magnitudes as bounds
from kryptondb.network import pointwise_operators as pointwise
from kryptondb.network import window_operators as local
from kryptondb.network.exported_graph import Call, dense
from kryptondb.network.magnitudes import Bound
from kryptondb.network.node import Node, Rule

aten = torch.ops.aten

Bounds = tuple[float, float]
Numbers = Sequence[float | None]


@dataclass(frozen=True)
class Operator:
    """One ATen operator.

    Attributes:
        name: without its overload.
        rule: makes a node of a call.
        aliases: torch's other names of it, with the same arguments in the same places.
        writes_over: whether `name_` may write the result over the first argument, where that is the operator's own.
        linear: the rules under which it makes differences of differences, without what only shifts values.
        shifts: the places of constants that only move its output or input, such as biases.
        clamp: its bounds, from its numbers, where it clamps every number by itself.
        fusion: oneDNN's name of the activation, and the numbers that it takes where none are given.
        hides: whether oneDNN makes a number of NaN in it.
        bound: how large its numbers can be; None where nothing is known.
        identity: whether it gives its first argument itself, where that is of the result's type and device.
        jumps: whether the smallest difference of its input may become a whole number of its result.
        idle: whether it does nothing in inference.
        pieces: whether it takes channels apart into pieces.
        view: whether its result may share memory with its first argument, though its schema does not say so.
        strides: whether its result depends on the strides of its argument, not on its numbers alone.
        first_only: whether it takes numbers from its first argument only: of others their type, shape or device.
        runs_as: the operator that runs in its place: channels come last in memory, where a view may have to copy.
        files: whether a network in a file may call it.
        writes_in_files: whether such a network may call `name_`, too, where `writes_over` does not say so already.
        overloads: those that such a network may call; empty for all that compute on tensors.
    """

    name: str
    rule: Callable[[Call], Node]
    aliases: tuple[str, ...] = ()
    writes_over: bool = False
    linear: tuple[Rule, ...] = ()
    shifts: tuple[int, ...] = ()
    clamp: Callable[[Numbers], Bounds | None] | None = None
    fusion: tuple[str, tuple[float, ...]] | None = None
    hides: bool = False
    bound: Bound | None = None
    identity: bool = False
    jumps: bool = False
    idle: bool = False
    pieces: bool = False
    view: bool = False
    strides: bool = False
    first_only: bool = False
    runs_as: str = ""
    files: bool = True
    writes_in_files: bool = False
    overloads: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """All its names, without overloads."""
        return self.name, *self.aliases

    @property
    def in_place(self) -> Callable[..., Any] | None:
        """The same, written over the first argument; None where it has no such form."""
        return getattr(aten, f"{self.name}_", None) if self.writes_over else None


def _rows(names: str, rule: Callable[[Call], Node], **more: Any) -> list[Operator]:
    """A row for each name; `name:overload,overload=alias,alias` adds overloads and aliases."""
    rows = []
    for entry in names.split():
        called, _, aliases = entry.partition("=")
        name, _, overloads = called.partition(":")
        rows.append(Operator(name, rule, _words(aliases), overloads=_words(overloads), **more))
    return rows


def _words(text: str) -> tuple[str, ...]:
    return tuple(filter(None, text.split(",")))


def _between(numbers: Numbers) -> Bounds | None:
    low, high = [*numbers, None, None][:2]
    found = -math.inf if low is None else low, math.inf if high is None else high
    return found if found[0] <= found[1] else None


def _hardtanh(numbers: Numbers) -> Bounds | None:
    low, high = [*numbers, None, None][:2]
    return -1.0 if low is None else low, 1.0 if high is None else high


def _from(numbers: Numbers) -> Bounds | None:
    return None if not numbers or numbers[0] is None else (numbers[0], math.inf)


def _up_to(numbers: Numbers) -> Bounds | None:
    return None if not numbers or numbers[0] is None else (-math.inf, numbers[0])


def _clamping(name: str, clamp: Callable[[Numbers], Bounds | None], **more: Any) -> Operator:
    """A row of an operator that clamps."""

    def bound(node: Node, given: bounds.ArgumentBounds) -> float:
        limits = clamp(clamp_numbers(node) or ()) if clamp_numbers(node) is not None else None
        if limits is None:
            return math.inf
        return max((abs(limit) if math.isfinite(limit) else given.of(node.args[0])) for limit in limits)

    return Operator(name, pointwise.elementwise, clamp=clamp, writes_over=True, bound=bound, **more)


def clamp_numbers(node: Node) -> list[float | None] | None:
    """What an operator that clamps is given behind its first argument; None where those are not numbers."""
    numbers = node.args[1:]
    if node.kwargs or not all(number is None or isinstance(number, (int, float)) for number in numbers):
        return None
    return [None if number is None else float(number) for number in numbers]


ROWS: tuple[Operator, ...] = (
    # Windows
    Operator("conv2d", local.convolution_2d, linear=(Rule.WINDOW,), shifts=(2,), bound=bounds.weighted),
    Operator("convolution", local.convolution, linear=(Rule.WINDOW,), shifts=(2,), bound=bounds.weighted),
    Operator("max_pool2d", local.max_pool, bound=bounds.pooled),
    Operator("avg_pool2d", local.average_pool, linear=(Rule.WINDOW,), bound=bounds.averaged),
    Operator(
        "adaptive_avg_pool2d",
        local.adaptive_average_pool,
        ("_adaptive_avg_pool2d",),
        linear=(Rule.WINDOW,),
        bound=bounds.same,
    ),
    *_rows(
        "pad constant_pad_nd reflection_pad2d replication_pad2d",
        local.pad,
        linear=(Rule.WINDOW,),
        bound=bounds.padded,
    ),
    Operator("_pad_circular", local.pad, linear=(Rule.WINDOW,), bound=bounds.padded, files=False),
    *_rows(
        "upsample_nearest2d _upsample_nearest_exact2d",
        local.nearest,
        linear=(Rule.WINDOW,),
        bound=bounds.same,
    ),
    Operator("index_select", local.pick, linear=(Rule.WINDOW, Rule.POINTWISE), bound=bounds.same),
    Operator("slice", local.take_slice, linear=(Rule.WINDOW, Rule.POINTWISE), bound=bounds.same),
    # Reductions
    Operator("mean", pointwise.mean, bound=bounds.same),
    Operator("sum", pointwise.reduction, bound=bounds.summed),
    *_rows("amax amin", pointwise.reduction, bound=bounds.same),
    *_rows("prod var std norm linalg_vector_norm logsumexp=special_logsumexp all any", pointwise.reduction),
    # Along channels
    Operator("linear", pointwise.linear, linear=(Rule.POINTWISE,), shifts=(2,), bound=bounds.weighted),
    Operator("matmul", pointwise.matrix_product, ("linalg_matmul",)),
    Operator("layer_norm", pointwise.layer_norm, bound=bounds.standardized),
    Operator("rms_norm", pointwise.layer_norm),
    *_rows("softmax=_softmax,special_softmax", pointwise.along_one_dimension, bound=bounds.at_most(1.0)),
    *_rows("log_softmax=_log_softmax,special_log_softmax", pointwise.along_one_dimension),
    Operator("glu", pointwise.along_one_dimension, bound=bounds.same),
    *_rows("cumsum cumprod", pointwise.along_one_dimension),
    Operator("logcumsumexp", pointwise.along_one_dimension, files=False),
    Operator("batch_norm", pointwise.batch_norm, linear=(Rule.POINTWISE,), shifts=(2, 3), bound=bounds.normalized),
    Operator("prelu", pointwise.prelu, bound=bounds.rectified),
    # Several values, place by place
    *_rows(
        "add:Tensor,Scalar sub:Tensor,Scalar=subtract",
        pointwise.elementwise,
        writes_over=True,
        linear=(Rule.MERGE,),
        bound=bounds.total,
    ),
    Operator(
        "mul",
        pointwise.elementwise,
        ("multiply",),
        writes_over=True,
        linear=(Rule.POINTWISE,),
        bound=bounds.product,
        overloads=("Tensor", "Scalar"),
    ),
    Operator(
        "div",
        pointwise.elementwise,
        ("divide", "true_divide"),
        writes_over=True,
        linear=(Rule.POINTWISE,),
        bound=bounds.quotient,
        overloads=("Tensor", "Scalar"),
    ),
    Operator("rsub", pointwise.elementwise, bound=bounds.total),
    *_rows("maximum minimum fmax fmin", pointwise.elementwise, bound=bounds.any_of),
    *_rows("floor_divide remainder fmod", pointwise.elementwise, jumps=True),
    *_rows(
        """pow gt=greater ge=greater_equal lt=less le=less_equal eq ne=not_equal logical_and logical_or addcmul addcdiv
        masked_fill""",
        pointwise.elementwise,
        writes_in_files=True,
    ),
    *_rows(
        """float_power atan2=arctan2 hypot copysign logaddexp logaddexp2 logical_xor bitwise_and=__and__
        bitwise_or=__or__ bitwise_xor=__xor__ where:self,ScalarSelf,ScalarOther,Scalar lerp""",
        pointwise.elementwise,
    ),
    *_rows("xlogy=special_xlogy special_xlog1py heaviside nextafter isclose ldexp", pointwise.elementwise, files=False),
    Operator("cat", pointwise.concatenate, ("concat", "concatenate"), linear=(Rule.MERGE,), bound=bounds.same),
    Operator("stack", pointwise.stack, linear=(Rule.MERGE,), bound=bounds.same),
    # Clamps
    _clamping("relu", lambda numbers: (0.0, math.inf), fusion=("relu", ()), hides=True),
    _clamping("relu6", lambda numbers: (0.0, 6.0), fusion=("hardtanh", (0.0, 6.0)), hides=True),
    _clamping("hardtanh", _hardtanh, fusion=("hardtanh", (-1.0, 1.0)), hides=True),
    _clamping("clamp", _between, aliases=("clip",)),
    _clamping("clamp_min", _from),
    _clamping("clamp_max", _up_to),
    # Other operators of every number by itself
    Operator("silu", pointwise.elementwise, writes_over=True, fusion=("swish", ()), bound=bounds.same),
    Operator("hardswish", pointwise.elementwise, writes_over=True, fusion=("hardswish", ()), bound=bounds.same),
    Operator(
        "sigmoid",
        pointwise.elementwise,
        ("special_expit",),
        writes_over=True,
        fusion=("sigmoid", ()),
        bound=bounds.at_most(1.0),
    ),
    Operator("tanh", pointwise.elementwise, writes_over=True, fusion=("tanh", ()), bound=bounds.at_most(1.0)),
    Operator(
        "leaky_relu", pointwise.elementwise, writes_over=True, fusion=("leaky_relu", (0.01,)), bound=bounds.rectified
    ),
    Operator(
        "neg", pointwise.elementwise, ("negative",), writes_over=True, linear=(Rule.POINTWISE,), bound=bounds.same
    ),
    *_rows("abs=absolute mish", pointwise.elementwise, writes_over=True, bound=bounds.same),
    *_rows("elu celu selu", pointwise.elementwise, writes_over=True, bound=bounds.exponential),
    *_rows("hardsigmoid erf=special_erf sin cos", pointwise.elementwise, writes_over=True, bound=bounds.at_most(1.0)),
    *_rows(
        "floor ceil round=special_round trunc=fix",
        pointwise.elementwise,
        writes_over=True,
        bound=bounds.next_to,
        jumps=True,
    ),
    *_rows(
        """exp log sqrt rsqrt square reciprocal exp2=special_exp2 expm1=special_expm1 log2 log10 log1p=special_log1p
        erfc=special_erfc frac sgn tan sinh cosh asin=arcsin acos=arccos atan=arctan asinh=arcsinh acosh=arccosh
        atanh=arctanh sinc=special_sinc logit=special_logit
        nan_to_num""",
        pointwise.elementwise,
        writes_over=True,
    ),
    *_rows(
        "lgamma=special_gammaln digamma=special_digamma,special_psi i0=special_i0 deg2rad rad2deg",
        pointwise.elementwise,
        writes_over=True,
        files=False,
    ),
    *_rows("gelu hardshrink softshrink", pointwise.elementwise, bound=bounds.same),
    Operator("tanhshrink", pointwise.elementwise, bound=bounds.same, files=False),
    Operator("sign", pointwise.elementwise, bound=bounds.at_most(1.0), writes_in_files=True),
    Operator("softsign", pointwise.elementwise, bound=bounds.at_most(1.0), files=False),
    *_rows("threshold logical_not", pointwise.elementwise, writes_in_files=True),
    *_rows(
        """softplus log_sigmoid isnan isinf isfinite isposinf isneginf signbit bitwise_not ones_like zeros_like
        full_like""",
        pointwise.elementwise,
    ),
    *_rows(
        """rrelu_with_noise special_log_ndtr special_ndtr special_ndtri special_entr special_i0e special_i1 special_i1e
        special_erfcx erfinv=special_erfinv""",
        pointwise.elementwise,
        files=False,
    ),
    # The same numbers in another memory, or of another type
    *_rows("clone", pointwise.elementwise, linear=(Rule.POINTWISE,), bound=bounds.same),
    *_rows("contiguous", pointwise.same_memory, linear=(Rule.POINTWISE,), bound=bounds.same),
    *_rows(
        "alias lift_fresh positive",
        pointwise.same_memory,
        linear=(Rule.POINTWISE,),
        bound=bounds.same,
        identity=True,
    ),
    Operator(
        "detach",
        pointwise.same_memory,
        linear=(Rule.POINTWISE,),
        bound=bounds.same,
        identity=True,
        writes_in_files=True,
    ),
    *_rows(
        "resolve_conj resolve_neg",
        pointwise.same_memory,
        linear=(Rule.POINTWISE,),
        bound=bounds.same,
        identity=True,
        files=False,
    ),
    *_rows(
        "to:device,dtype,other,dtype_layout type_as", pointwise.same_memory, identity=True, view=True, first_only=True
    ),
    Operator("_to_copy", pointwise.elementwise, first_only=True),
    Operator("view_dtype", pointwise.same_memory, files=False),
    *_rows(
        "dropout feature_dropout alpha_dropout feature_alpha_dropout",
        pointwise.whole_picture,
        idle=True,
        writes_in_files=True,
    ),
    # Channels and dimensions moved
    Operator("select", moves.select, linear=(Rule.POINTWISE,), bound=bounds.same),
    Operator("unsqueeze", moves.unsqueeze, linear=(Rule.POINTWISE,), bound=bounds.same),
    Operator("permute", moves.permute, linear=(Rule.POINTWISE,), bound=bounds.same),
    Operator("transpose", moves.permute, ("swapaxes", "swapdims"), linear=(Rule.POINTWISE,), bound=bounds.same),
    Operator("mT", moves.permute, linear=(Rule.POINTWISE,), bound=bounds.same, overloads=("default",)),
    Operator("movedim", moves.permute, ("moveaxis",), linear=(Rule.POINTWISE,), bound=bounds.same),
    *_rows("reshape flatten unflatten squeeze", moves.reshape, linear=(Rule.POINTWISE,), bound=bounds.same),
    Operator("reshape_as", moves.reshape, linear=(Rule.POINTWISE,), bound=bounds.same, first_only=True),
    *_rows(
        "view:default=_unsafe_view",
        moves.reshape,
        linear=(Rule.POINTWISE,),
        bound=bounds.same,
        view=True,
        runs_as="reshape",
    ),
    Operator(
        "view_as",
        moves.reshape,
        linear=(Rule.POINTWISE,),
        bound=bounds.same,
        first_only=True,
        runs_as="reshape_as",
    ),
    Operator("expand", moves.expand, ("broadcast_to",), bound=bounds.same),
    Operator("expand_as", moves.expand, bound=bounds.same, first_only=True),
    *_rows("flip roll", moves.along_channels, bound=bounds.same),
    Operator("channel_shuffle", moves.channel_shuffle, bound=bounds.same),
    Operator("native_channel_shuffle", moves.channel_shuffle, bound=bounds.same, files=False),
    # Operators without regions; those of the first group give no number larger than they read
    *_rows(
        "upsample_bilinear2d pixel_shuffle repeat tile",
        pointwise.whole_picture,
        bound=bounds.same,
    ),
    *_rows("chunk tensor_split:sections,indices split split_with_sizes unbind", pointwise.whole_picture, pieces=True),
    *_rows("unsafe_chunk unsafe_split unsafe_split_with_sizes", pointwise.whole_picture, pieces=True, view=True),
    *_rows("atleast_1d atleast_2d atleast_3d einsum:default meshgrid", pointwise.whole_picture, view=True),
    *_rows("fill zero copy:default", pointwise.whole_picture, writes_in_files=True),
    *_rows("as_strided view_as_complex", pointwise.whole_picture, strides=True, files=False),
    Operator("sum_to_size", pointwise.whole_picture, first_only=True, files=False),
    *_rows(
        """bitwise_left_shift=__lshift__ bitwise_right_shift=__rshift__

        aminmax argmax argmin argsort count_nonzero linalg_norm max median min sort std_mean topk var_mean _safe_softmax

        adjoint broadcast_tensors column_stack diagonal dstack fliplr flipud hsplit hstack lift_fresh_copy mH:default
        matrix_H:default narrow:default numpy_T:default pixel_unshuffle ravel reflection_pad1d reflection_pad3d
        repeat_interleave:self_int replication_pad1d replication_pad3d rot90 row_stack select_scatter slice_scatter t
        tril triu unfold vsplit vstack

        arange eye full linspace new_full new_ones new_zeros one_hot ones scalar_tensor tril_indices triu_indices zeros

        embedding gather index:Tensor take_along_dim _unsafe_index

        addbmm addmm addmv addr baddbmm bilinear bmm cosine_similarity dot inner linalg_multi_dot mm mv outer
        scaled_dot_product_attention tensordot

        adaptive_avg_pool1d adaptive_avg_pool3d _adaptive_avg_pool3d adaptive_max_pool1d adaptive_max_pool2d
        adaptive_max_pool3d avg_pool1d avg_pool3d col2im conv1d conv3d conv_transpose1d conv_transpose2d
        conv_transpose3d im2col max_pool1d max_pool1d_with_indices max_pool2d_with_indices max_pool3d
        max_pool3d_with_indices

        group_norm instance_norm native_group_norm native_layer_norm

        affine_grid_generator grid_sampler upsample_bicubic2d upsample_linear1d upsample_nearest1d upsample_nearest3d
        upsample_trilinear3d _upsample_bicubic2d_aa _upsample_bilinear2d_aa _upsample_nearest_exact1d
        _upsample_nearest_exact3d""",
        pointwise.whole_picture,
    ),
)

#: Every row under every name of its operator.
OPERATORS: dict[str, Operator] = {name: row for row in ROWS for name in row.names}

#: Overloads that are other operators: torch calls several by one name.
_OVERLOADS = {
    ("max", "other"): "maximum",
    ("min", "other"): "minimum",
    ("view", "dtype"): "view_dtype",
}


def renamed(name: str, function: Callable[..., Any]) -> tuple[str, Callable[..., Any]]:
    """An operator's own name, and its function under that: of torch's other names, `subtract` for one.

    Args:
        name: as the exported graph has it, without a `_` at its end.
    """
    overload = str(getattr(function, "_overloadname", ""))
    row = OPERATORS.get(_OVERLOADS.get((name, overload), name))
    if row is None or row.name == name:
        return name, function
    packet = getattr(aten, row.name, None)
    # The overload may have another name too, such as that of the maximum of two.
    twin = getattr(packet, overload, None) or (getattr(packet, "default", None) if overload == "other" else None)
    return row.name, twin or function


#: Statements about sizes and types, which compute nothing.
ASSERTIONS = frozenset(["_assert_tensor_metadata", "_assert_scalar", "_assert_async", "sym_constrain_range_for_size"])


def row_named(name: str) -> Operator | None:
    """The row of an operator, or of one whose form `name_` writes in place."""
    return OPERATORS.get(name) or OPERATORS.get(name.removesuffix("_"))


def row_of(node: Node) -> Operator | None:
    """The row of a node's operator."""
    return OPERATORS.get(node.operator)


def classify(call: Call) -> Node:
    """The node of one call."""
    if call.function is operator.getitem:
        return dense(call, "takes one of several results")
    row = OPERATORS.get(call.operator)
    if row is None:
        return dense(call, f"{call.operator} is not an operator of the algebra")
    call.in_place = row.in_place if call.keeps_type else None
    node = row.rule(call)
    if node.axes is not None and 0 in node.shape:
        return dense(call, "leaves nothing of the picture")
    if (
        node.axes is not None
        and call.dtype is not None
        and not (call.dtype.is_floating_point or call.dtype == torch.bool)
    ):
        return dense(call, f"gives numbers of type {str(call.dtype).removeprefix('torch.')}")
    return node
