"""A network as JSON: its nodes and the arguments that they are called with; its tensors stand beside it, by name.

In arguments, numbers, true, false, None, short texts and lists stand for themselves; everything else is an object of
one key:

    {"tuple": [...]}  {"ref": 3}  {"extent": "height"}  {"float": "-inf"}
    {"dtype": "int64"}  {"device": "cpu"}  {"memory_format": "channels_last"}  {"layout": "strided"}

Everything that is read is checked before it is used: places of nodes, shapes, windows, and the functions by name.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from kryptondb.network.functions import Function, bytes_are_flags, function_named, misused, name_of
from kryptondb.network.graph import Network
from kryptondb.network.node import Axes, AxisWindow, Extent, Node, Ref, Rule, Window
from kryptondb.network.window_operators import BEYOND, take_every


class Unreadable(Exception):
    """What is read is not a network that this version wrote; the message says what is wrong with it."""


class Unwritable(Exception):
    """A network holds something that has no form in a file; the message says what."""


MOST_TEXT = 4096  # characters of a name or a reason
MOST_ITEMS = 100_000  # of a list
MOST_DEPTH = 8  # of lists in lists
MOST_SIZE = 1 << 63  # of a whole number: torch has 64 bits for it

_DTYPES = "float64 float32 float16 bfloat16 int64 int32 int16 int8 uint8 bool complex64 complex128"
_FORMATS = "contiguous_format preserve_format channels_last channels_last_3d"
_WORDS: dict[str, dict[str, Any]] = {
    "dtype": {name: getattr(torch, name) for name in _DTYPES.split()},
    "memory_format": {name: getattr(torch, name) for name in _FORMATS.split()},
    "layout": {"strided": torch.strided},
    "device": {"cpu": torch.device("cpu")},
    "extent": {extent.value: extent for extent in Extent},
    "float": {"inf": math.inf, "-inf": -math.inf, "nan": math.nan},
}


def encoded(value: Any) -> Any:
    """A template as JSON.

    Raises:
        Unwritable: a value of another kind (a tensor, a symbolic size, a device other than the CPU).
    """
    if value is None or type(value) in (bool, int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else {"float": str(value)}
    if isinstance(value, str) and len(value) <= MOST_TEXT:
        return value
    if isinstance(value, Ref):
        return {"ref": value.index}
    if isinstance(value, list):
        return [encoded(item) for item in value]
    if type(value) is tuple:
        return {"tuple": [encoded(item) for item in value]}
    for kind, words in _WORDS.items():
        for word, meaning in words.items():
            if type(value) is type(meaning) and value == meaning:
                return {kind: word}
    raise Unwritable(f"an argument of type {type(value).__name__}")


def decoded(value: Any, before: int, depth: int = 0) -> Any:
    """A template from JSON.

    Args:
        before: the node's place; it can refer to earlier nodes only.

    Raises:
        Unreadable: anything that `encoded` does not write.
    """
    if depth > MOST_DEPTH:
        raise Unreadable("an argument too deeply nested")
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return whole(value, -MOST_SIZE, MOST_SIZE - 1)
    if isinstance(value, float):
        return number(value)
    if isinstance(value, str):
        return text(value)
    if isinstance(value, list):
        return [decoded(item, before, depth + 1) for item in items(value)]
    if not isinstance(value, dict) or len(value) != 1:
        raise Unreadable("an argument of no known kind")
    ((kind, inner),) = value.items()
    if kind == "tuple":
        return tuple(decoded(item, before, depth + 1) for item in items(inner))
    if kind == "ref":
        return Ref(whole(inner, 0, before - 1))
    words = _WORDS.get(kind)
    if words is None or not isinstance(inner, str) or inner not in words:
        raise Unreadable("an argument of no known kind")
    return words[inner]


# Leaves, each checked before it is used


def whole(value: Any, least: int, most: int) -> int:
    """A whole number from `least` to `most`."""
    if type(value) is not int or not least <= value <= most:
        raise Unreadable("a number out of its range")
    return value


def number(value: Any) -> float:
    """A finite number."""
    if type(value) not in (int, float) or not math.isfinite(value):
        raise Unreadable("a number out of its range")
    return float(value)


def text(value: Any) -> str:
    """A text of at most `MOST_TEXT` characters."""
    if not isinstance(value, str) or len(value) > MOST_TEXT:
        raise Unreadable("no text where one belongs")
    return value


def items(value: Any, count: int | None = None) -> list[Any]:
    """A list of at most `MOST_ITEMS` items, or of exactly `count`."""
    if not isinstance(value, list) or len(value) > MOST_ITEMS or (count is not None and len(value) != count):
        raise Unreadable("no list where one belongs")
    return value


def mapping(value: Any, *keys: str) -> dict[str, Any]:
    """An object; with exactly these keys, if any are given."""
    if not isinstance(value, dict) or len(value) > MOST_ITEMS or (keys and set(value) != set(keys)):
        raise Unreadable("no object where one belongs")
    return value


MOST_NODES = 100_000
MOST_DIMENSIONS = 16
MOST_SIDE = 1 << 31  # cells along one dimension
MOST_ELEMENTS = 1 << 48  # of one value

_NODE = (
    *("name", "operator", "rule", "inputs", "shape", "axes", "function", "args", "kwargs", "window", "constant"),
    *("flops", "reason", "in_place", "fresh"),
)
_TAKE_EVERY = ("y_dim", "x_dim", "y_stride", "x_stride")

Take = Callable[[str, tuple[int, ...]], torch.Tensor]


def network_to_json(network: Network) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """A traced network as JSON, and its tensors by name.

    Raises:
        Unwritable: the network is not traced, or holds something that has no form here.
    """
    if not network.traced:
        raise Unwritable("a network that is not traced")
    tensors: dict[str, torch.Tensor] = {}
    nodes = [_node_to_json(node, tensors) for node in network.nodes]
    value = {
        "nodes": nodes,
        "output": network.output,
        "input_shape": list(network.input_shape),
        "classes": network.classes,
        "batch_statistics": network.batch_statistics,
    }
    return value, tensors


def network_from_json(value: Any, take: Take) -> Network:
    """A network from what `network_to_json` gave; without a module.

    Args:
        take: the tensor of a name; raises Unreadable where there is none of that shape.

    Raises:
        Unreadable: anything else, before any of it has run.
    """
    value = mapping(value, "nodes", "output", "input_shape", "classes", "batch_statistics")
    channels, height, width = _sizes(items(value["input_shape"], 3))
    nodes: list[Node] = []
    rows = items(value["nodes"])
    if not 0 < len(rows) <= MOST_NODES:
        raise Unreadable("a network without nodes")
    for row in rows:
        nodes.append(_node_from_json(row, nodes, take))
    for node in nodes:
        if (node.rule is Rule.INPUT) and (node.shape, node.axes) != ((1, channels, height, width), Axes(0, 2, 3)):
            raise Unreadable("an input of another shape")
    output = whole(value["output"], 0, len(nodes) - 1)
    classes = whole(value["classes"], 1, MOST_SIDE)
    if nodes[output].shape != (1, classes):
        raise Unreadable("an output that is not a vector of scores")
    return Network(
        tuple(nodes), output, (channels, height, width), classes, None, None, _flag(value["batch_statistics"])
    )


def _node_to_json(node: Node, tensors: dict[str, torch.Tensor]) -> dict[str, Any]:
    if node.constant is not None:
        tensors[f"{node.index}.constant"] = node.constant
    return {
        "name": node.name,
        "operator": node.operator,
        "rule": node.rule.value,
        "inputs": list(node.inputs),
        "shape": list(node.shape),
        "axes": None if node.axes is None else [node.axes.batch, node.axes.y, node.axes.x],
        "function": _function_to_json(node.function),
        "args": [encoded(value) for value in node.args],
        "kwargs": {name: encoded(value) for name, value in node.kwargs.items()},
        "window": None if node.window is None else _window_to_json(node.window, node.index, tensors),
        "constant": node.constant is not None,
        "flops": float(node.flops),
        "reason": node.reason,
        "in_place": _function_to_json(node.in_place),
        "fresh": node.fresh,
    }


def _node_from_json(value: Any, before: list[Node], take: Take) -> Node:
    value = mapping(value, *_NODE)
    index = len(before)
    try:
        rule = Rule(text(value["rule"]))
    except ValueError:
        raise Unreadable("a node of no known rule") from None
    shape = _sizes(items(value["shape"]))
    axes = None if value["axes"] is None else _axes(value["axes"], len(shape))
    window = None if value["window"] is None else _window_from_json(value["window"], index, take)
    if (rule is Rule.WINDOW) != (window is not None):
        raise Unreadable("a window where none belongs")
    if window is not None and (axes is None or (window.y.outputs, window.x.outputs) != (shape[axes.y], shape[axes.x])):
        raise Unreadable("a window of another size than its node")
    constant = take(f"{index}.constant", shape) if _flag(value["constant"]) else None
    if constant is not None and constant.dtype == torch.bool and not bytes_are_flags(constant):
        raise Unreadable("flags that are neither true nor false")
    if (rule is Rule.CONSTANT) != (constant is not None):
        raise Unreadable("a constant where none belongs")
    function = _function_from_json(value["function"])
    if (function is None) != (rule in (Rule.INPUT, Rule.CONSTANT)):
        raise Unreadable("a node without a function")
    args = tuple(decoded(item, index) for item in items(value["args"]))
    kwargs = {text(name): decoded(item, index) for name, item in mapping(value["kwargs"]).items()}
    if function is not None and not args:
        raise Unreadable("a node without arguments")
    if isinstance(function, torch._ops.OpOverloadPacket):
        raise Unreadable("a node that leaves open which operator it runs")
    if isinstance(function, torch._ops.OpOverload):
        _check_arguments(function, args, kwargs)
    return Node(
        index,
        name=text(value["name"]),
        operator=text(value["operator"]),
        rule=rule,
        inputs=tuple(whole(place, 0, index - 1) for place in items(value["inputs"])),
        shape=shape,
        axes=axes,
        function=function,
        args=args,
        kwargs=kwargs,
        window=window,
        constant=constant,
        flops=_at_least_0(number(value["flops"])),
        reason=text(value["reason"]),
        in_place=_function_from_json(value["in_place"]),
        fresh=_flag(value["fresh"]),
    )


def _check_arguments(function: torch._ops.OpOverload, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    names = [argument.name for argument in function._schema.arguments]
    wrong = misused(
        str(function._overloadpacket).removeprefix("aten."), {**dict(zip(names, args, strict=False)), **kwargs}
    )
    if wrong:
        raise Unreadable(wrong)


def _window_to_json(window: Window, index: int, tensors: dict[str, torch.Tensor]) -> dict[str, Any]:
    if window.counts is not None:
        tensors[f"{index}.counts.y"], tensors[f"{index}.counts.x"] = window.counts
    return {
        **{
            side: [axis.size, axis.stride, axis.before, axis.inputs, axis.outputs, axis.beyond]
            for side, axis in (("y", window.y), ("x", window.x))
        },
        "outside": encoded(float(window.outside)),
        "args": [encoded(value) for value in window.args],
        "counts": window.counts is not None,
        "function": _function_to_json(window.function),
    }


def _window_from_json(value: Any, index: int, take: Take) -> Window:
    value = mapping(value, "y", "x", "outside", "args", "counts", "function")
    y, x = _axis_window(value["y"]), _axis_window(value["x"])
    outside = decoded(value["outside"], index)
    if not isinstance(outside, float):
        raise Unreadable("a window without a value outside")
    counts = None
    if _flag(value["counts"]):
        counts = (take(f"{index}.counts.y", (y.outputs,)), take(f"{index}.counts.x", (x.outputs,)))
    args = tuple(decoded(item, index) for item in items(value["args"]))
    if not args:
        raise Unreadable("a window without arguments")
    return Window(y, x, outside, args, counts, _function_from_json(value["function"]))


def _axis_window(value: Any) -> AxisWindow:
    size, stride, before, inputs, outputs, beyond = items(value, 6)
    if beyond not in BEYOND:
        raise Unreadable("a window with no known end")
    return AxisWindow(
        whole(size, 1, MOST_SIDE),
        whole(stride, 1, MOST_SIDE),
        whole(before, -MOST_SIDE, MOST_SIDE),
        whole(inputs, 1, MOST_SIDE),
        whole(outputs, 1, MOST_SIDE),
        beyond,
    )


def _function_to_json(function: Function | None) -> Any:
    """A function's name; for `take_every` with its arguments bound, those as well."""
    if function is None:
        return None
    if isinstance(function, partial) and function.func is take_every and not function.args:
        return {"take_every": [function.keywords[name] for name in _TAKE_EVERY]}
    name = name_of(function)
    if name is None:
        raise Unwritable(f"the function {function}")
    return name


def _function_from_json(value: Any) -> Function | None:
    if value is None:
        return None
    if isinstance(value, dict):
        y_dim, x_dim, y_stride, x_stride = items(mapping(value, "take_every")["take_every"], 4)
        return partial(
            take_every,
            y_dim=whole(y_dim, 0, MOST_DIMENSIONS - 1),
            x_dim=whole(x_dim, 0, MOST_DIMENSIONS - 1),
            y_stride=whole(y_stride, 1, MOST_SIDE),
            x_stride=whole(x_stride, 1, MOST_SIDE),
        )
    function = function_named(text(value))
    if function is None:
        raise Unreadable("a function of no known name")
    return function


def _axes(value: Any, dimensions: int) -> Axes:
    axes = [whole(place, 0, dimensions - 1) for place in items(value, 3)]
    if len(set(axes)) != 3:
        raise Unreadable("axes that are not three")
    return Axes(*axes)


def _sizes(value: list[Any]) -> tuple[int, ...]:
    """A shape whose number of elements is still a sensible number."""
    sizes = tuple(whole(size, 0, MOST_SIDE) for size in value)
    if len(sizes) > MOST_DIMENSIONS or math.prod(sizes) > MOST_ELEMENTS:
        raise Unreadable("a shape out of its range")
    return sizes


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise Unreadable("neither true nor false")
    return value


def _at_least_0(value: float) -> float:
    if value < 0:
        raise Unreadable("a number out of its range")
    return value
