"""An exported graph -> nodes of the network algebra.

What is done here is plumbing: parameters and what is computed from them alone become constants, batch norm folds into
the convolution before it, dropout disappears, results of `chunk` and `split` become slices, writes in place become
values of their own, what is done to a picture laid out as tokens is done to the picture.
"""

from __future__ import annotations

import math
import operator
from collections import Counter
from dataclasses import replace
from typing import Any

import torch
from torch.fx import Node as FxNode
from torch.fx.node import map_arg

from kryptondb.network.aliases import is_idle, lay_out, literal_nodes, writes_in_place
from kryptondb.network.exported_graph import (
    NUMBER_FUNCTIONS,
    Call,
    CannotTrace,
    arguments_of,
    batch_dim,
    batch_leads,
    constant_name,
    module_path,
    operator_name,
    refs_in,
    shape_for_one,
    sizes_for_one,
    value_of,
)
from kryptondb.network.node import Axes, Extent, Node, Ref, Rule, bind, has_extent
from kryptondb.network.operators import ASSERTIONS, OPERATORS, classify, renamed
from kryptondb.network.tokens import Tokens, on_picture, reads_tokens, reshape_of, with_values


def folded_batch_norm(
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    gamma: torch.Tensor | None,
    beta: torch.Tensor | None,
    mean: torch.Tensor,
    variance: torch.Tensor,
    epsilon: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Weight [out, in, kh, kw] and bias [out] of one convolution equal to convolution and batch norm after each other.

    Computed in float64 and rounded once.
    """
    scale = torch.rsqrt(variance.double() + epsilon)
    if gamma is not None:
        scale = scale * gamma.double()
    shift = (bias.double() - mean.double() if bias is not None else -mean.double()) * scale
    if beta is not None:
        shift = shift + beta.double()
    return (weight.double() * scale[:, None, None, None]).to(weight.dtype), shift.to(weight.dtype)


aten = torch.ops.aten

#: The most elements of a constant computed from others, and the most as a multiple of the largest of them.
_SMALL, _GROWTH = 1 << 16, 4


class Importer:
    """Walks an exported graph once and builds nodes."""

    def __init__(self, exported: torch.export.ExportedProgram) -> None:
        self.exported = exported
        self.graph = exported.graph
        self.nodes: list[Node] = []
        # What stands for an exported node now: a Ref, tokens, a plain value, or a tuple of several results.
        self.value: dict[FxNode, Any] = {}
        self.materialized: dict[Tokens, Ref] = {}
        self.graph_names: dict[int, str] = {}
        lay_out(self.graph)
        self.literal = literal_nodes(self.graph)

    def run(self) -> tuple[tuple[Node, ...], int]:
        """The nodes in the order in which they are computed, and the place of the output among them."""
        signature = self.exported.graph_signature
        if signature.buffers_to_mutate or signature.user_inputs_to_mutate:
            raise CannotTrace("the network changes its own buffers while it runs")
        constants = self._constants()
        users_inputs = [name for name in signature.user_inputs if isinstance(name, str)]
        output: Ref | None = None
        for fx in self.graph.nodes:
            if fx.op == "placeholder":
                if fx.name in users_inputs:
                    self.value[fx] = self._add(
                        Node(0, "image", "input", Rule.INPUT, shape=shape_for_one(fx), axes=Axes(0, 2, 3))
                    )
                elif fx.name in constants:
                    as_it_lies = any(user in self.literal for user in fx.users)
                    self.value[fx] = self._constant(constants[fx.name], constant_name(signature, fx.name), as_it_lies)
                else:
                    raise CannotTrace(f"the network takes another input, {fx.name}")
            elif fx.op == "call_function":
                self._call(fx)
            elif fx.op == "output":
                results = [value for value in fx.args[0] if value is not None]
                if len(results) != 1 or not isinstance(self.value.get(results[0]), (Ref, Tokens)):
                    raise CannotTrace("the network returns more than one tensor")
                output = self._tensor(self.value[results[0]])
            else:
                raise CannotTrace(f"the graph holds a {fx.op} ({fx.target})")
        assert output is not None
        return _pruned(self._named_apart(), output.index)

    def _constants(self) -> dict[str, torch.Tensor]:
        signature = self.exported.graph_signature
        found: dict[str, torch.Tensor] = {}
        for name, target in (*signature.inputs_to_parameters.items(), *signature.inputs_to_buffers.items()):
            tensor = self.exported.state_dict.get(target)
            found[name] = self.exported.constants[target] if tensor is None else tensor
        for name, target in signature.inputs_to_lifted_tensor_constants.items():
            found[name] = self.exported.constants[target]
        return {name: tensor.detach() for name, tensor in found.items()}

    def _add(self, node: Node) -> Ref:
        index = len(self.nodes)
        self.nodes.append(replace(node, index=index))
        return Ref(index)

    def _named_apart(self) -> list[Node]:
        """The nodes, with layers that one module calls by one name distinguished by their names in the graph."""
        layers = Counter(node.name for node in self.nodes if node.flops)
        return [
            replace(node, name=f"{node.name}.{self.graph_names[node.index]}")
            if layers[node.name] > 1 and node.flops and self.graph_names.get(node.index, node.name) != node.name
            else node
            for node in self.nodes
        ]

    def _constant(self, tensor: torch.Tensor, name: str, as_it_lies: bool = False) -> Ref:
        if tensor.ndim == 4 and not as_it_lies:  # convolutions are fastest with weights in the order of their images
            tensor = tensor.contiguous(memory_format=torch.channels_last)
        return self._add(
            Node(0, name, "constant", Rule.CONSTANT, shape=tuple(tensor.shape), constant=tensor, fresh=True)
        )

    def _call(self, fx: FxNode) -> None:
        name = operator_name(fx)
        if name in ASSERTIONS:
            return
        if is_idle(name) and not (fx.args[2] if len(fx.args) > 2 else fx.kwargs.get("train", False)):
            self.value[fx] = self._template(fx.args[0])
            return
        if not hasattr(fx.target, "_schema") and fx.target not in NUMBER_FUNCTIONS:
            raise CannotTrace(f"the graph calls {name}")
        source = fx.args[0] if fx.args and isinstance(fx.args[0], FxNode) else None
        if name == "sym_size" and source is not None and fx.args[1] == 0 and batch_dim(source) == 0:
            self.value[fx] = Extent.BATCH
            return
        if name == "getitem" and source is not None and isinstance(self.value[source], tuple):
            self.value[fx] = self.value[source][fx.args[1]]
            return
        literal = fx in self.literal
        if not literal and source is not None and self._is_identity(fx, name, source):
            self.value[fx] = self._template(source)
            return
        row = OPERATORS.get(name)
        if not literal and row is not None and row.pieces and self._parts(fx, name):
            return
        call = self._as_call(fx, name)
        in_place = writes_in_place(name) and not literal
        if in_place:
            self._make_functional(call)
        constant = None if literal else self._computed(call, fx)
        value: Ref | Tokens
        if constant is not None:
            value = self._constant(constant, call.name)
        elif literal:
            value = self._add(with_values(call, self._tensor).node(Rule.DENSE, reason=self.literal[fx]))
        elif name == "max_pool2d_with_indices":
            self.value[fx] = self._pooled_with_indices(with_values(call, self._tensor), fx)
            return
        elif call.operator == "batch_norm" and not reads_tokens(call):
            value = self._add(self._batch_norm(call, fx))
        else:
            value = self._classified(call)
        if constant is None and in_place and source is not None:
            value = self._of_type(value, call, fx, source)
        self.graph_names.setdefault((value.picture if isinstance(value, Tokens) else value).index, fx.name)
        self.value[fx] = value
        if in_place and source is not None:
            self._redirect(source, value)

    def _classified(self, call: Call) -> Ref | Tokens:
        """What a call gives: on the picture where it reads tokens, or makes them, and that says the same."""
        found = on_picture(call, self._reshaped)
        if found is not None and isinstance(found.done, Ref):
            return found.result(found.done)
        node = classify(found.done) if found is not None and isinstance(found.done, Call) else None
        if found is None or node is None or node.rule is Rule.DENSE:
            return self._add(classify(with_values(call, self._tensor)))
        ref = self._add(node)
        if node.axes is not None:
            return found.result(ref)
        return ref if node.shape == call.shape else self._add(classify(reshape_of(call, ref, call.shape)))

    def _tensor(self, value: Ref | Tokens) -> Ref:
        """The node that holds a value as the exported network has it."""
        if isinstance(value, Ref):
            return value
        if value not in self.materialized:
            self.materialized[value] = self._add(classify(value.materialized(self.nodes)))
        return self.materialized[value]

    def _reshaped(self, constant: Ref, shape: tuple[int, ...]) -> Ref:
        """A constant in another shape."""
        node = self.nodes[constant.index]
        assert node.constant is not None
        return self._constant(node.constant.reshape(shape), node.name)

    def _is_identity(self, fx: FxNode, name: str, source: FxNode) -> bool:
        """Whether a node gives its first argument itself: a conversion to the type and device that it has."""
        row = OPERATORS.get(name)
        before, after = value_of(source), value_of(fx)
        if row is None or not row.identity or not isinstance(after, torch.Tensor) or fx.kwargs.get("copy"):
            return False
        if name == "to" and any(isinstance(argument, bool) and argument for argument in fx.args[2:]):
            return False  # it may ask for a copy
        order = fx.kwargs.get("memory_format")
        same = before.dtype == after.dtype and before.device == after.device
        return same and order in (None, torch.preserve_format)

    def _make_functional(self, call: Call) -> None:
        """Makes a write in place a value of its own."""
        written = call.operator
        name = written[:-1]
        overload = str(getattr(call.function, "_overloadname", ""))
        functional = getattr(aten, name, None)
        if functional is None:
            raise CannotTrace(f"the network writes in place with {written}")
        call.operator, call.function = renamed(name, getattr(functional, overload, None) or functional)

    def _of_type(self, value: Ref | Tokens, call: Call, fx: FxNode, source: FxNode) -> Ref | Tokens:
        """What a write in place leaves: numbers of the type that was there, whatever the operator itself gives."""
        before = value_of(source).dtype

        def like(node: FxNode) -> Any:
            value = value_of(node)
            is_tensor = isinstance(value, torch.Tensor)
            return torch.empty((1,) * value.ndim, dtype=value.dtype, device="meta") if is_tensor else value

        args, kwargs = map_arg(arguments_of(fx), like)
        try:
            given = call.function(*args, **kwargs).dtype
        except Exception:  # shapes of one say nothing of it; then neither does its type
            return value
        if given == before:
            return value
        cast = replace(
            call,
            index=len(self.nodes),
            operator="to",
            function=aten.to.dtype,
            args=(value, before),
            kwargs={},
            input_refs=tuple(refs_in(value)),
            dtype=before,
            keeps_type=False,
        )
        return self._classified(cast)

    def _pooled_with_indices(self, call: Call, fx: FxNode) -> tuple[Ref, Ref | None]:
        """A maximum pooling, and the places of its maxima where they are read: on whole pictures."""
        with_indices, function = call.operator, call.function
        call.operator, call.function = "max_pool2d", aten.max_pool2d.default
        pooled = self._add(classify(call))
        self.graph_names[pooled.index] = fx.name
        if not any(use.users for use in fx.users if use.target is operator.getitem and use.args[1] == 1):
            return pooled, None
        both = replace(call, index=len(self.nodes), operator=with_indices, function=function)
        ref = self._add(both.node(Rule.DENSE, reason="gives places in the whole picture", fresh=True))
        places = replace(both, index=len(self.nodes), operator="getitem", function=operator.getitem, args=(ref, 1))
        places.input_refs = (ref.index,)
        return pooled, self._add(classify(places))

    def _redirect(self, source: FxNode, written: Ref | Tokens) -> None:
        """After a write in place the old name stands for the new value too."""
        old = self.value[source]
        for fx, value in self.value.items():
            if value == old:
                self.value[fx] = written

    def _as_call(self, fx: FxNode, name: str) -> Call:
        given, named = arguments_of(fx)
        args, kwargs = tuple(map(self._template, given)), {key: self._template(value) for key, value in named.items()}
        name, function = renamed(name, fx.target)  # type: ignore[arg-type]  # call_function nodes hold callables
        row = OPERATORS.get(name)
        if row is not None and row.runs_as and fx not in self.literal:
            function = getattr(aten, row.runs_as).default
        if name == "div" and kwargs.get("rounding_mode", "") is None:  # a plain quotient
            kwargs, function = {}, aten.div.Tensor
        value = value_of(fx)
        first = value_of(fx.args[0]) if fx.args and isinstance(fx.args[0], FxNode) else None
        dtype = value.dtype if isinstance(value, torch.Tensor) else None
        return Call(
            index=len(self.nodes),
            name=module_path(fx) or fx.name,
            operator=name,
            function=function,
            args=args,
            kwargs=kwargs,
            shape=shape_for_one(fx),
            batch_dim=batch_dim(fx),
            batch_leads=batch_leads(fx),
            nodes=self.nodes,
            input_refs=tuple(dict.fromkeys(refs_in((args, tuple(kwargs.values()))))),
            dtype=dtype,
            keeps_type=not isinstance(first, torch.Tensor) or first.dtype == dtype,
        )

    def _computed(self, call: Call, fx: FxNode) -> torch.Tensor | None:
        """The value of a call that reads constants alone: weights that are standardized, scales that are reshaped.

        None for all others, for those that draw random numbers, and where the result would be far larger than what it
        is computed from. Graphs that write into parts of tensors are left alone: a constant must not be written into.
        """
        if reads_tokens(call):
            return None
        sources = [self.nodes[ref] for ref in call.input_refs]
        shape = getattr(fx.meta.get("val"), "shape", None)
        if shape is None or not all(isinstance(size, int) for size in shape):
            return None
        known = {node.index: node.constant for node in sources if node.constant is not None}
        random = torch.Tag.nondeterministic_seeded in getattr(fx.target, "tags", ())
        if len(known) < len(sources) or random:
            return None
        if math.prod(shape) > max([_SMALL, *(_GROWTH * constant.numel() for constant in known.values())]):
            return None
        if has_extent((*call.args, *call.kwargs.values())):
            return None
        with torch.no_grad():
            value: torch.Tensor = call.function(
                *bind(call.args, known, batch=1),
                **{key: bind(each, known, batch=1) for key, each in call.kwargs.items()},
            )
        return value.detach()

    def _template(self, value: Any) -> Any:
        if isinstance(value, FxNode):
            known = self.value[value]
            if isinstance(known, tuple):
                raise CannotTrace("several results of one operator are used together")
            return known
        if isinstance(value, (list, tuple)):
            return type(value)(self._template(item) for item in value)
        if isinstance(value, slice):
            raise CannotTrace("the graph holds a slice object")
        return value

    def _parts(self, fx: FxNode, name: str) -> bool:
        """`chunk`, `split` and `unbind` along channels as slices; False when the algebra cannot say."""
        value = self._template(fx.args[0])
        source = self.nodes[value.picture.index if isinstance(value, Tokens) else value.index]
        uses = [use for use in fx.users if use.target is operator.getitem]
        if source.axes is None or any(not isinstance(use.args[1], int) for use in uses):
            return False
        unbinds = name == "unbind"
        place = 1 if unbinds else 2
        along: Any = fx.args[place] if len(fx.args) > place else fx.kwargs.get("dim", 0)
        dim = int(along) % (value.ndim if isinstance(value, Tokens) else len(source.shape))
        places = value.places(dim) if isinstance(value, Tokens) else (dim,)
        if {source.axes.batch, source.axes.y, source.axes.x} & set(places):
            return False
        refs, start = [], 0
        for piece in fx.meta["val"]:
            size = 1 if unbinds else int(piece.shape[dim])
            bounds = (start,) if unbinds else (start, start + size)
            call = Call(
                index=len(self.nodes),
                name=module_path(fx) or fx.name,
                operator="select" if unbinds else "slice",
                function=aten.select.int if unbinds else aten.slice.Tensor,
                args=(value, dim, *bounds),
                kwargs={},
                shape=sizes_for_one(piece),
                batch_dim=0,
                nodes=self.nodes,
                input_refs=tuple(refs_in(value)),
            )
            refs.append(self._classified(call))
            start += size
        self.value[fx] = tuple(refs)
        return True

    def _batch_norm(self, call: Call, fx: FxNode) -> Node:
        """Folds batch norm into the convolution before it when nothing else reads that."""
        if call.arg(5, False, "training"):
            return call.node(Rule.DENSE, reason="normalizes over the batch")
        source = fx.args[0]
        convolution = call.source()
        if (
            convolution is not None
            and convolution.operator in ("conv2d", "convolution")
            and self._has_constant_weight(convolution)
            and isinstance(source, FxNode)
            and len(source.users) == 1
        ):
            weight_ref = convolution.args[1]
            bias_ref = convolution.args[2] if len(convolution.args) > 2 else None
            before = self._value_of(weight_ref)
            gamma, beta, mean, variance = (self._value_of(call.arg(place)) for place in (1, 2, 3, 4))
            if before is not None and mean is not None and variance is not None:
                bias = self._value_of(bias_ref)
                epsilon = float(call.arg(7, 1e-5, "eps"))
                return self._refit(convolution, *folded_batch_norm(before, bias, gamma, beta, mean, variance, epsilon))
        return classify(call)

    def _has_constant_weight(self, convolution: Node) -> bool:
        """Whether its weights can take a batch norm in, be it behind the last picture that has regions."""
        if convolution.rule is Rule.WINDOW:
            return True
        plain = convolution.rule is Rule.DENSE and convolution.function is torch.ops.aten.conv2d.default
        weight = self._value_of(convolution.args[1]) if plain and len(convolution.args) > 1 else None
        return weight is not None and weight.ndim == 4

    def _value_of(self, value: Any) -> torch.Tensor | None:
        return self.nodes[value.index].constant if isinstance(value, Ref) else None

    def _refit(self, convolution: Node, weight: torch.Tensor, bias: torch.Tensor) -> Node:
        """The convolution again, with other weights; the old node is left unread and pruned later."""
        weight_ref = self._constant(weight, f"{convolution.name}.weight")
        bias_ref = self._constant(bias, f"{convolution.name}.bias")

        def refitted(args: tuple[Any, ...]) -> tuple[Any, ...]:
            return (args[0], weight_ref, bias_ref, *args[3:])

        return replace(
            convolution,
            inputs=(convolution.args[0].index, weight_ref.index, bias_ref.index),
            args=refitted(convolution.args),
            kwargs={key: value for key, value in convolution.kwargs.items() if key not in ("weight", "bias")},
            window=convolution.window and replace(convolution.window, args=refitted(convolution.window.args)),
        )


def _pruned(nodes: list[Node], output: int) -> tuple[tuple[Node, ...], int]:
    """Without what the output does not need (folded weights), and numbered again. Writes in place stay."""
    needed = {output}
    for node in reversed(nodes):
        if node.index in needed or writes_in_place(node.operator):
            needed.add(node.index)
            needed.update(node.inputs)
    kept = [node for node in nodes if node.index in needed]
    number = {node.index: place for place, node in enumerate(kept)}

    def moved(template: Any) -> Any:
        if isinstance(template, Ref):
            return Ref(number[template.index])
        if isinstance(template, (list, tuple)):
            return type(template)(moved(item) for item in template)
        return template

    renumbered = []
    for node in kept:
        window = node.window and replace(node.window, args=moved(node.window.args))
        renumbered.append(
            replace(
                node,
                index=number[node.index],
                inputs=tuple(number[i] for i in node.inputs),
                args=moved(node.args),
                kwargs={key: moved(value) for key, value in node.kwargs.items()},
                window=window,
            )
        )
    return tuple(renumbered), number[output]
