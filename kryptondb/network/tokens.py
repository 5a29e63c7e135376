"""Pictures laid out as tokens: what a network does to them between merging height and width and splitting them again.

A reshape keeps numbers in their order. So as long as a merged dimension is only carried along, every operator says the
same on the picture that was merged, with its height and width as dimensions of their own, and changes stay rectangles:

    flatten(2)        [1, 8, 28, 28] -> [1, 8, 784]     the picture as it is, its dimensions in runs of 1, 1 and 2
    transpose(1, 2)   [1, 8, 784]    -> [1, 784, 8]     permute(0, 2, 3, 1), runs of 1, 2 and 1
    linear            [1, 784, 8]    -> [1, 784, 16]    linear over the last dimension
    unflatten(1)      [1, 784, 16]   -> [1, 28, 28, 16] the picture as it is

An operator that looks into the merged dimension (attention, an embedding of places) gets the tokens as they are.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from kryptondb.network import channel_moves as moves
from kryptondb.network import pointwise_operators as pointwise
from kryptondb.network import window_operators as local
from kryptondb.network.exported_graph import Call, refs_in
from kryptondb.network.node import Axes, Node, Ref
from kryptondb.network.operators import OPERATORS

aten = torch.ops.aten

_WHOLE = 1 << 62  # slices to here end where the tensor does

#: The dimensions of a picture, in one run for each dimension of its tokens: [1, 784, 8] is ((1,), (28, 28), (8,)).
Runs = tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Tokens:
    """A value of the exported network: a picture of the graph, reshaped so that each run of dimensions is one.

    Attributes:
        picture: its node, which has axes.
        runs: the sizes of its dimensions, for a batch of one.
        merging: the reshape that they come from.
    """

    picture: Ref
    runs: Runs
    merging: Call = field(compare=False, repr=False)

    @property
    def ndim(self) -> int:
        """How many dimensions the tokens have."""
        return len(self.runs)

    def is_merged(self, dim: int) -> bool:
        """Whether a dimension of the tokens is several of the picture's."""
        return len(self.runs[dim]) > 1

    def places(self, dim: int) -> range:
        """The dimensions of the picture that are one of the tokens'."""
        start = sum(map(len, self.runs[: dim % self.ndim]))
        return range(start, start + len(self.runs[dim]))

    def materialized(self, nodes: Sequence[Node]) -> Call:
        """The reshape that makes these tokens of their picture."""
        if self.merging.args[0] == self.picture:
            return self.merging
        axes = nodes[self.picture.index].axes
        assert axes is not None
        (batch,) = (dim for dim in range(self.ndim) if axes.batch in self.places(dim))
        return reshape_of(self.merging, self.picture, tuple(map(math.prod, self.runs)), batch)


def reshape_of(call: Call, ref: Ref, shape: tuple[int, ...], batch: int = 0) -> Call:
    """A call's result made of another value of the same numbers.

    Args:
        shape: for a batch of one.
        batch: the dimension that grows with the batch.
    """
    return replace(
        call,
        operator="reshape",
        function=aten.reshape.default,
        args=(ref, [-1 if dim == batch else size for dim, size in enumerate(shape)]),
        kwargs={},
        shape=shape,
        batch_dim=None,
        input_refs=(ref.index,),
    )


def tokens_in(value: Any) -> Iterator[Tokens]:
    """The tokens that an argument template, or a tuple of them, refers to."""
    if isinstance(value, Tokens):
        yield value
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from tokens_in(item)


def reads_tokens(call: Call) -> bool:
    """Whether a call has tokens among its arguments."""
    return any(True for _ in tokens_in((call.args, tuple(call.kwargs.values()))))


def with_values(call: Call, value: Callable[[Any], Any]) -> Call:
    """A call with other values for its tokens and nodes."""

    def filled(template: Any) -> Any:
        if isinstance(template, (list, tuple)):
            return type(template)(filled(item) for item in template)
        return value(template) if isinstance(template, (Ref, Tokens)) else template

    args, kwargs = filled(call.args), {name: filled(value) for name, value in call.kwargs.items()}
    refs = tuple(dict.fromkeys(refs_in((args, tuple(kwargs.values())))))
    return replace(call, args=args, kwargs=kwargs, input_refs=refs)


@dataclass(frozen=True)
class OnPicture:
    """A call on tokens, as one on their pictures.

    Attributes:
        done: the call; or the picture, where nothing is to be done to it.
        runs: which dimensions of the result are one for the network.
        merging: the reshape that merged them.
    """

    done: Call | Ref
    runs: Runs
    merging: Call

    def result(self, picture: Ref) -> Ref | Tokens:
        """What the network has, of the picture that the call gave."""
        merged = any(len(run) > 1 for run in self.runs)
        return Tokens(picture, self.runs, self.merging) if merged else picture


#: Makes a constant of another shape of a constant.
Reshaped = Callable[[Ref, tuple[int, ...]], Ref]


def on_picture(call: Call, reshaped: Reshaped) -> OnPicture | None:
    """What a call that merges dimensions, or reads tokens, does to pictures; None where it says nothing of them."""
    row = OPERATORS.get(call.operator)
    first = call.args[0] if call.args else None
    if row is not None and row.rule is moves.reshape:
        return _reshape(call)
    read = list(tokens_in((call.args, tuple(call.kwargs.values()))))
    if not read:
        return None
    if row is not None and row.rule in _OF_SEVERAL:
        moved = _OF_SEVERAL[row.rule](call, reshaped)
    elif not isinstance(first, Tokens) or len(read) > 1:
        return None
    elif call.operator == "slice" and call.shape == tuple(math.prod(run) for run in first.runs) and _takes_all(call):
        return OnPicture(first.picture, first.runs, first.merging)
    elif call.operator == "adaptive_avg_pool1d":
        moved = _average_of_all(call, first)
    else:
        moved = _OF_ONE[row.rule](call, first) if row is not None and row.rule in _OF_ONE else None
    if moved is None:
        return None
    changed, runs = moved
    if tuple(map(math.prod, runs)) != call.shape:
        return None
    start = None if call.batch_dim is None else sum(map(len, runs[: call.batch_dim]))
    shape = tuple(size for run in runs for size in run)
    changed = with_values(replace(changed, shape=shape, batch_dim=start), _picture)
    return OnPicture(changed, runs, read[0].merging)


def _picture(value: Ref | Tokens) -> Ref:
    return value.picture if isinstance(value, Tokens) else value


def _takes_all(call: Call) -> bool:
    whole = call.named("end") is None or call.named("end") >= _WHOLE
    return whole and not call.named("start", 0) and call.named("step", 1) == 1


# Reshapes


def _reshape(call: Call) -> OnPicture | None:
    source = call.args[0]
    picture = _picture(source)
    node = call.nodes[picture.index] if isinstance(picture, Ref) else None
    if node is None or node.axes is None or node.axes.batch != 0 or not call.batch_leads:
        return None
    runs = merged_runs(node.shape, node.axes, call.shape)
    if runs is None or (all(len(run) == 1 for run in runs) and source == picture):
        return None
    shape = tuple(size for run in runs for size in run)
    if shape == node.shape:
        return OnPicture(picture, runs, call)
    changed = replace(call, args=(picture, *call.args[1:]), shape=shape, batch_dim=0)
    return OnPicture(with_values(changed, _picture), runs, call)


def merged_runs(before: Sequence[int], axes: Axes, after: Sequence[int]) -> Runs | None:
    """Which dimensions of a picture a reshape merges, by dimension of the result; None where it cuts height or width.

    Args:
        before: the picture's shape, led by its batch of one.
        after: the result's, whose first dimension is or begins with the batch.

    [1, 8, 28, 28] -> [1, 2, 4, 784] is ((1,), (2,), (4,), (28, 28)): channels may be cut and merged as well.
    """
    if tuple(before) == tuple(after):
        return tuple((size,) for size in after)
    sides = {axes.y, axes.x}
    if 1 in (before[axes.y], before[axes.x]):
        return _merged_sides(tuple(before), min(sides), max(sides), tuple(after))
    runs: list[tuple[int, ...]] = [(size,) for size in after]
    left = iter(d for d in range(1, len(before)) if before[d] != 1)
    right = iter(d for d in range(len(after)) if after[d] != 1)
    for first in left:  # the shortest runs of both with equal products, ones aside
        here, there = [first], [next(right, -1)]
        while (size := math.prod(before[d] for d in here)) != (other := math.prod(after[d] for d in there)):
            more = next(left if size < other else right, -1)
            if more < 0:
                return None
            (here if size < other else there).append(more)
        if sides & set(here):
            if len(there) > 1:
                return None
            runs[there[0]] = tuple(before[d] for d in here)
    if after[0] != 1:
        runs[0] = (1, *runs[0])
    return tuple(runs)


def _merged_sides(before: tuple[int, ...], first: int, last: int, after: tuple[int, ...]) -> Runs | None:
    """The same for a height or width of 1, which any other 1 looks like: where they are merged and nothing else is."""
    if last != first + 1:
        return None
    size = (before[first] * before[last],)
    if after == (*before[:first], *size, *before[last + 1 :]):
        merged = before[first : last + 1]
        return (*((side,) for side in before[:first]), merged, *((side,) for side in before[last + 1 :]))
    if first == 1 and after == (*size, *before[last + 1 :]):
        return (before[: last + 1], *((side,) for side in before[last + 1 :]))
    return None


# Operators of one value: each gives the call with dimensions of the picture, and the runs of its result


_Moved = tuple[Call, Runs] | None


def _carried(call: Call, runs: Sequence[tuple[int, ...] | None]) -> Runs:
    """Merged runs as they are, and for all others what the call makes of the dimension."""
    return tuple(
        run if run is not None and len(run) > 1 else (size,) for run, size in zip(runs, call.shape, strict=True)
    )


def _as_it_is(call: Call, tokens: Tokens) -> _Moved:
    return call, _carried(call, tokens.runs)


def _over_last(call: Call, tokens: Tokens, count: int = 1) -> _Moved:
    if count > tokens.ndim or any(tokens.is_merged(-1 - d) for d in range(count)):
        return None
    return call, _carried(call, tokens.runs)


def _layer_norm(call: Call, tokens: Tokens) -> _Moved:
    return _over_last(call, tokens, len(call.arg(1)))


def _channels_second(call: Call, tokens: Tokens) -> _Moved:
    """Operators that know the second dimension as channels, however many follow."""
    if tokens.ndim < 3 or tokens.is_merged(0) or tokens.is_merged(1) or call.named("training", False):
        return None
    return call, _carried(call, tokens.runs)


def _with(call: Call, name: str, value: Any) -> Call:
    """A call with another value of an argument, by the name in its operator's schema."""
    schema = [argument for argument in call.function._schema.arguments if not argument.kwarg_only]  # type: ignore[attr-defined]
    place = [argument.name for argument in schema].index(name)
    given = (*call.args, *(argument.default_value for argument in schema[len(call.args) : place + 1]))
    kwargs = {key: other for key, other in call.kwargs.items() if key != name}
    return replace(call, args=(*given[:place], value, *given[place + 1 :]), kwargs=kwargs)


def _dims(call: Call, ndim: int) -> tuple[str, list[int] | None, bool]:
    """The argument that names dimensions: its name, the dimensions, and whether there is one and no list."""
    arguments = {argument.name: argument for argument in call.function._schema.arguments}  # type: ignore[attr-defined]
    name = "dim" if "dim" in arguments else "dims"
    default = arguments[name].default_value if name in arguments and arguments[name].has_default_value() else None
    value = call.named(name, default)
    if isinstance(value, int):
        return name, [value % ndim], True
    return name, [d % ndim for d in value] if value else None, False


def _along(call: Call, tokens: Tokens) -> _Moved:
    """Operators along dimensions that stay: softmax, slices, flips."""
    name, dims, alone = _dims(call, tokens.ndim)
    if dims is None or any(map(tokens.is_merged, dims)):
        return None
    places = [tokens.places(d)[0] for d in dims]
    return _with(call, name, places[0] if alone else places), _carried(call, tokens.runs)


def _select(call: Call, tokens: Tokens) -> _Moved:
    _, dims, _ = _dims(call, tokens.ndim)
    if dims is None or tokens.is_merged(dims[0]):
        return None
    left = [run for d, run in enumerate(tokens.runs) if d != dims[0]]
    return _with(call, "dim", tokens.places(dims[0])[0]), _carried(call, left)


def _reduce(call: Call, tokens: Tokens) -> _Moved:
    """Reductions; of a merged dimension over all that it is."""
    name, dims, alone = _dims(call, tokens.ndim)
    if dims is None or (alone and tokens.is_merged(dims[0])):
        return None
    places = [place for d in dims for place in tokens.places(d)]
    left: list[tuple[int, ...]] = [run for d, run in enumerate(tokens.runs) if d not in dims]
    if call.named("keepdim", False):
        left = [(1,) * len(run) if d in dims else run for d, run in enumerate(tokens.runs)]
    return _with(call, name, places[0] if alone else places), _carried(call, left)


def _average_of_all(call: Call, tokens: Tokens) -> _Moved:
    """`aten.adaptive_avg_pool1d(x, 1)`: the mean over the last dimension."""
    if call.shape[-1] != 1:
        return None
    mean = replace(
        call, operator="mean", function=aten.mean.dim, args=(tokens, list(tokens.places(-1)), True), kwargs={}
    )
    return mean, _carried(call, [*tokens.runs[:-1], (1,) * len(tokens.runs[-1])])


def _unsqueeze(call: Call, tokens: Tokens) -> _Moved:
    dim = call.arg(1) % (tokens.ndim + 1)
    runs = [*tokens.runs[:dim], None, *tokens.runs[dim:]]
    return _with(call, "dim", sum(map(len, tokens.runs[:dim]))), _carried(call, runs)


def _permute(call: Call, tokens: Tokens) -> _Moved:
    order = moves.order_of(call, tokens.ndim)
    places = [place for d in order for place in tokens.places(d)]
    permute = replace(call, operator="permute", function=aten.permute.default, args=(tokens, places), kwargs={})
    return permute, _carried(call, [tokens.runs[d] for d in order])


def _expand(call: Call, tokens: Tokens) -> _Moved:
    return call, _carried(call, [*[None] * (len(call.shape) - tokens.ndim), *tokens.runs])


def _pad(call: Call, tokens: Tokens) -> _Moved:
    """Pads of channels."""
    pads, found = list(call.arg(1)), []
    for d in range(len(pads) // 2):
        pair = pads[2 * d : 2 * d + 2]
        if tokens.is_merged(-1 - d) and any(pair):
            return None
        found += pair * len(tokens.runs[-1 - d])
    return replace(call, args=(call.args[0], found, *call.args[2:])), _carried(call, tokens.runs)


# Operators of several values


def _elementwise(call: Call, reshaped: Reshaped) -> _Moved:
    """Tokens with the same dimensions merged, numbers, and constants that are the same at all places."""
    ndim = len(call.shape)
    runs: list[tuple[int, ...] | None] = [None] * ndim
    operands = list(tokens_in((call.args, tuple(call.kwargs.values()))))
    for tokens in operands:
        for d, run in enumerate(tokens.runs, ndim - tokens.ndim):
            if len(run) > 1 and (runs[d] or run) != run:
                return None
            runs[d] = run if len(run) > 1 else runs[d]
    merged = {d: run for d, run in enumerate(runs) if run is not None}
    if any(len(tokens.runs[d - ndim]) == 1 for tokens in operands for d in merged if d >= ndim - tokens.ndim):
        return None
    fits = True

    def fitted(value: Ref | Tokens) -> Ref | Tokens:
        nonlocal fits
        if isinstance(value, Tokens):
            return value
        node = call.nodes[value.index]
        offset = ndim - len(node.shape)
        if not any(d >= offset for d in merged) or node.shape == ():
            return value
        if node.constant is None or any(node.shape[d - offset] != 1 for d in merged if d >= offset):
            fits = False
            return value
        sizes = [(1,) * len(merged[d]) if d in merged else (size,) for d, size in enumerate(node.shape, offset)]
        return reshaped(value, tuple(size for run in sizes for size in run))

    changed = with_values(call, fitted)
    return (changed, _carried(call, runs)) if fits else None


def _parts(call: Call) -> list[Tokens] | None:
    """Tokens that are put together, None where their dimensions are not merged in the same way."""
    parts = [part for part in call.args[0] if isinstance(part, Tokens)]
    if len(parts) < len(call.args[0]):
        return None
    merged = [[run if len(run) > 1 else None for run in part.runs] for part in parts]
    return parts if all(runs == merged[0] for runs in merged) else None


def _concatenate(call: Call, reshaped: Reshaped) -> _Moved:
    parts, dim = _parts(call), call.named("dim", 0)
    if parts is None or parts[0].is_merged(dim):
        return None
    return _with(call, "dim", parts[0].places(dim)[0]), _carried(call, parts[0].runs)


def _stack(call: Call, reshaped: Reshaped) -> _Moved:
    parts, dim = _parts(call), call.named("dim", 0) % len(call.shape)
    if parts is None:
        return None
    runs = parts[0].runs
    return _with(call, "dim", sum(map(len, runs[:dim]))), _carried(call, [*runs[:dim], None, *runs[dim:]])


#: By the rule of the operator's row in the table.
_OF_ONE: dict[Callable[[Call], Node], Callable[[Call, Tokens], _Moved]] = {
    pointwise.linear: _over_last,
    pointwise.matrix_product: _over_last,
    pointwise.layer_norm: _layer_norm,
    pointwise.along_one_dimension: _along,
    pointwise.mean: _reduce,
    pointwise.reduction: _reduce,
    pointwise.batch_norm: _channels_second,
    pointwise.prelu: _channels_second,
    pointwise.same_memory: _as_it_is,
    local.take_slice: _along,
    local.pick: _along,
    local.pad: _pad,
    moves.select: _select,
    moves.unsqueeze: _unsqueeze,
    moves.permute: _permute,
    moves.expand: _expand,
    moves.along_channels: _along,
    moves.channel_shuffle: _channels_second,
}
_OF_SEVERAL: dict[Callable[[Call], Node], Callable[[Call, Reshaped], _Moved]] = {
    pointwise.elementwise: _elementwise,
    pointwise.concatenate: _concatenate,
    pointwise.stack: _stack,
}
