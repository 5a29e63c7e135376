"""What runs in place of some operators of an exported program: their public forms, which check what they are given.

Exports that were decomposed contain inner operators that trust their arguments: `_native_batch_norm_legit_no_training`
reads as many means as its picture has channels, whether there are so many or not. torch's public functions compute the
same and look first. They are also what the network algebra knows. Arithmetic on sizes is bounded
(`network.functions.ARITHMETIC`), and regions without gradients or autocast, which change nothing here, are written out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from kryptondb.network.functions import BOUNDED, attention

NO_GRAD = "torch.ops.higher_order.wrap_with_set_grad_enabled"
AUTOCAST = "torch.ops.higher_order.wrap_with_autocast"


def _batch_norm(
    input: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    momentum: float,
    eps: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """`_native_batch_norm_legit_no_training`; the statistics beside its result are never read."""
    result = functional.batch_norm(input, running_mean, running_var, weight, bias, False, momentum, eps)
    return result, input.new_zeros(0), input.new_zeros(0)


def _native_batch_norm(
    input: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    training: bool,
    momentum: float,
    eps: float,
) -> tuple[Tensor, Tensor, Tensor]:
    if training:
        raise ValueError("it is in training mode")
    return _batch_norm(input, weight, bias, running_mean, running_var, momentum, eps)


def _batch_norm_without_statistics(
    input: Tensor, weight: Tensor | None, bias: Tensor | None, training: bool, momentum: float, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """`_native_batch_norm_legit.no_stats`: instance norm, decomposed, normalizes with what it is given."""
    result = functional.batch_norm(input, None, None, weight, bias, True, momentum, eps)
    return result, input.new_zeros(0), input.new_zeros(0)


def _flash_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    *,
    attn_mask: Tensor | None = None,
    scale: float | None = None,
) -> tuple[Tensor, Tensor]:
    """`_scaled_dot_product_flash_attention_for_cpu`."""
    return attention(query, key, value, attn_mask, 0.0, is_causal, scale=scale), query.new_zeros(0)


def _lstm(
    input: Tensor,
    hx: Sequence[Tensor],
    params: Sequence[Tensor],
    has_biases: bool,
    num_layers: int,
    dropout: float,
    train: bool,
    bidirectional: bool,
    batch_first: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """`lstm.input`, whose kernel takes the sizes of its weights on trust."""
    directions = 2 if bidirectional else 1
    each = 4 if has_biases else 2
    hidden, features = hx[0].shape[-1], input.shape[-1]
    sizes = [(4 * hidden, features), (4 * hidden, hidden), (4 * hidden,), (4 * hidden,)][:each]
    wanted = []
    for layer in range(num_layers):
        first = (4 * hidden, directions * hidden) if layer else sizes[0]
        wanted.extend([first, *sizes[1:]] * directions)
    states = (num_layers * directions, input.shape[0 if batch_first else 1], hidden)
    if len(hx) != 2 or input.ndim != 3 or [tuple(param.shape) for param in params] != wanted:
        raise ValueError("the weights of an LSTM have other sizes than its input and its state")
    if any(tuple(state.shape) != states for state in hx) or train:
        raise ValueError("the state of an LSTM has another size than its input, or it is in training mode")
    result: tuple[Tensor, Tensor, Tensor] = torch.lstm(
        input, list(hx), list(params), has_biases, num_layers, 0.0, False, bidirectional, batch_first
    )
    return result


def _weight_norm(v: Tensor, g: Tensor, dim: int = 0) -> Tensor:
    return v * (g / _norm_except(v, dim))


def _weight_norm_interface(v: Tensor, g: Tensor, dim: int = 0) -> tuple[Tensor, Tensor]:
    norm = _norm_except(v, dim)
    return v * (g / norm), norm


def _norm_except(v: Tensor, dim: int) -> Tensor:
    """The norm over all dimensions but one, with sides of 1 in their places."""
    others = [place for place in range(v.ndim) if place != dim % v.ndim]
    norm: Tensor = torch.linalg.vector_norm(v, 2.0, others, keepdim=True)
    return norm


def _divided(self: Tensor, other: Tensor | float, *, rounding_mode: str | None) -> Tensor:
    """`div` with a rounding mode. Whole numbers are rounded here: the processor traps on the least one by -1."""
    if rounding_mode is None:
        return torch.div(self, other)
    floor = torch.floor_divide(self, other)
    if rounding_mode == "floor":
        return floor
    if rounding_mode != "trunc":
        raise ValueError(f"a rounding mode {rounding_mode!r}")
    if floor.is_floating_point():
        return torch.trunc(torch.div(self, other))
    return floor + ((floor < 0) & (floor * other != self)).to(floor.dtype)


def _restrided(self: Tensor, size: Sequence[int], stride: Sequence[int], storage_offset: int | None = None) -> Tensor:
    """`as_strided` where it gives its tensor again, as decompositions write it; strides mean nothing in a graph."""
    same = list(self.shape) == list(size) and len(size) == len(stride) and not storage_offset
    if not same or any(
        mine != asked for mine, asked, side in zip(self.stride(), stride, size, strict=True) if side != 1
    ):
        raise ValueError("as_strided reads memory in another order than its tensor")
    return self.view(self.shape)


def _empty_like(self: Tensor, **options: Any) -> Tensor:
    return torch.zeros_like(self, **{name: value for name, value in options.items() if name in ("dtype", "device")})


def _inlined_no_grad(_: bool, graph: Callable[..., Any], *values: Any) -> Any:
    return graph(*values)


def _inlined_autocast(_: str, __: Any, ___: bool, ____: bool, graph: Callable[..., Any], *values: Any) -> Any:
    return graph(*values)


#: By an operator's name in the file, without `torch.ops.aten.`.
SUBSTITUTES: dict[str, Callable[..., Any]] = {
    "lstm.input": _lstm,
    "scaled_dot_product_attention.default": attention,
    "native_batch_norm.default": _native_batch_norm,
    "_native_batch_norm_legit.default": _native_batch_norm,
    "_native_batch_norm_legit.no_stats": _batch_norm_without_statistics,
    "_native_batch_norm_legit_no_training.default": _batch_norm,
    "_scaled_dot_product_flash_attention_for_cpu.default": _flash_attention,
    "_weight_norm.default": _weight_norm,
    "_weight_norm_interface.default": _weight_norm_interface,
    "as_strided.default": _restrided,
    "div.Scalar_mode": _divided,
    "div.Tensor_mode": _divided,
    "divide.Scalar_mode": _divided,
    "divide.Tensor_mode": _divided,
    "empty_like.default": _empty_like,
}


def substitute(module: torch.nn.Module) -> torch.nn.Module:
    """Puts what is checked in the place of what trusts, in a loaded program and the graphs inside it."""
    by_target: dict[Any, Callable[..., Any]] = {
        **BOUNDED,
        torch.ops.higher_order.wrap_with_set_grad_enabled: _inlined_no_grad,
        torch.ops.higher_order.wrap_with_autocast: _inlined_autocast,
    }
    for name, function in SUBSTITUTES.items():
        packet, _, overload = name.partition(".")
        by_target[getattr(getattr(torch.ops.aten, packet), overload)] = function
    for part in module.modules():
        if not isinstance(part, torch.fx.GraphModule):
            continue
        for node in part.graph.nodes:
            if node.op == "call_function" and node.target in by_target:
                node.target = by_target[node.target]
        part.recompile()
    return module
