"""ONNX nodes -> a module: what does not depend on a picture is computed at once, the rest becomes steps.

Every value is known or computed. Known ones are arrays of the file's own types: constants, what is worked out from
them, and shapes in which the number of pictures does not occur. Computed ones exist only as sizes here (torch's fake
tensors, with a symbol for the number of pictures), so that nothing is allocated before its size is known. An operator
that is not taken spoils its results; it is an error when the output needs one of them.

Two transposes after each other become one, and none where they undo each other: the pair that a channels-last file has
around its convolutions disappears.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import torch
from torch._dispatch.python import enable_python_dispatcher
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.symbolic_shapes import DimDynamic, ShapeEnv, StatelessSymbolicContext, StrictMinMaxConstraint
from torch.utils._sympy.numbers import int_oo
from torch.utils._sympy.value_ranges import ValueRanges

from kryptondb.catalog.onnx_models.arithmetic import ARITHMETIC
from kryptondb.catalog.onnx_models.evaluation import Budget, evaluate
from kryptondb.catalog.onnx_models.host import HOST_HANDLERS
from kryptondb.catalog.onnx_models.layers import LAYERS
from kryptondb.catalog.onnx_models.module import OnnxModule, Step, first_line, last_reads, several
from kryptondb.catalog.onnx_models.operation import (
    PICTURES,
    SMALL,
    Operation,
    Operator,
    Refused,
    Value,
    check_node,
    check_understood,
    host,
    schema_of,
)
from kryptondb.catalog.onnx_models.quantization import (
    GIVING,
    QUANTIZATION,
    TAKING,
    Dequantized,
    Scaled,
    in_whole_numbers,
    quantized_type,
)
from kryptondb.catalog.onnx_models.reading import BATCH_HINT, DOMAINS, Array, OnnxFile, branch, needed, reads_of
from kryptondb.catalog.onnx_models.reductions import REDUCTIONS
from kryptondb.catalog.onnx_models.shaping import SHAPING
from kryptondb.errors import ModelError

IMAGE = "\0image"  # no name of a file's
MAX_RUN_BYTES = 1 << 30  # of all values that exist at a time for one picture
MAX_NODES = 100_000  # with the branches that are taken
OPERATORS_HINT = "torch.export.save and a .pt2 file, or db.register(name, module) take models with any operator."
SYMBOL = r"\bs\d+\b"  # torch's name for the number of pictures
SIZE_HINT = "Set size => and channels => to the pictures that it was made for."

_ELEMENTS = {
    torch.float32: onnx.TensorProto.FLOAT,
    torch.bool: onnx.TensorProto.BOOL,
    torch.uint8: onnx.TensorProto.UINT8,
    torch.int8: onnx.TensorProto.INT8,
    torch.int16: onnx.TensorProto.INT16,
    torch.int32: onnx.TensorProto.INT32,
    torch.int64: onnx.TensorProto.INT64,
}
#: Every operator that KryptonDB takes: what it does, and what of it is understood.
OPERATORS: dict[str, Operator] = {**ARITHMETIC, **SHAPING, **LAYERS, **QUANTIZATION, **REDUCTIONS}
#: Operators that give the numbers that they are given, in another order, or take any.
_MOVING = """Concat DepthToSpace Expand Flatten Gather GatherElements GatherND Identity MaxPool Pad Relu Reshape Slice
    SpaceToDepth Split Squeeze Tile Transpose Unsqueeze"""
MOVING = frozenset(_MOVING.split())
TAKING_WHOLE = MOVING | TAKING | {"Cast", "CastLike", "Shape", "Size"}


@dataclass(frozen=True)
class Computed:
    """A value that depends on the picture, or on how many there are.

    Attributes:
        fake: a fake tensor, or a host value with symbols.
        bytes: of one picture.
    """

    fake: Any
    bytes: int


class Translation:
    """One pass over the nodes that an output needs.

    Args:
        file: what `reading.read` gave.
        image: the name of the graph's input.
        output: the name of the value that is wanted.
        shape: of one picture as the module takes it, [C, H, W].
        channels_last: whether the file takes [N, H, W, C].
        batch: the batch that the file is made for, None where it takes any.
        is_bytes: whether the file takes whole numbers of 8 bits.
        static: whether `shape` is that of all that the module takes, of one size, and not of a picture.
    """

    def __init__(
        self,
        file: OnnxFile,
        image: str,
        output: str,
        shape: tuple[int, ...],
        channels_last: bool = False,
        batch: int | None = None,
        is_bytes: bool = False,
        static: bool = False,
    ) -> None:
        self.file, self.batch = file, batch
        self.known: dict[str, Array] = {}
        self.computed: dict[str, Computed] = {}
        self.spoiled: dict[str, ModelError] = {}
        self.aliases: dict[str, str] = {}
        self.scaled: dict[str, Scaled] = {}
        self.dequantized: dict[str, Dequantized] = {}
        self.transposes: dict[str, tuple[str, list[int]]] = {}
        self.whole: dict[str, int] = {}  # types of values that are whole numbers in the file, and float32 here
        self.steps: list[tuple[str, Step, Sequence[str | None], Sequence[str]]] = []
        self.lines: list[str] = []  # the computation as text
        self.producer: dict[str, tuple[Any, str | None]] = {}  # of each computed value: its node and first input
        self.names: set[str] = set()
        self.count = 0
        self.budget = Budget()
        self.environment = ShapeEnv(specialize_zero_one=False)
        self.mode = FakeTensorMode(shape_env=self.environment, allow_non_fake_inputs=True)
        nodes = needed(file.graph.node, output)
        self._reads = {name for node in nodes for name in reads_of(node)} | {output}
        self._unknown = dict.fromkeys(
            (f"{node.domain}::" if node.domain not in DOMAINS else "") + node.op_type
            for node in nodes
            if node.domain not in DOMAINS or node.op_type not in OPERATORS
        )
        self.computed[IMAGE] = self._picture(shape, static)
        if is_bytes:
            self.whole[image] = onnx.TensorProto.UINT8
        if channels_last:
            self._transpose(IMAGE, image, [0, 2, 3, 1], "channels_last")
        else:
            self.aliases[image] = IMAGE
        for node in nodes:
            self._node(node)

    def module(self, output: str, scores: bool = True) -> OnnxModule:
        """The module that computes one value: as scores [N, classes], or as it is.

        Raises ModelError where it needs what KryptonDB does not take, does not depend on the picture, is not one
        tensor of scores for each picture, or would take more memory than is allowed for a picture.
        """
        name = self.resolved(output)
        if name in self.spoiled:
            raise self.spoiled[name]
        found = self.computed.get(name)
        if found is None or not isinstance(found.fake, torch.Tensor):
            raise ModelError(f'{self.file.path}: its output "{output[:80]}" does not depend on the picture')
        wanted, kept = {name}, []
        for step in reversed(self.steps):
            if wanted.intersection(step[3]):
                kept.append(step)
                wanted.update(read for read in step[2] if read is not None)
        kept.reverse()
        self._check_memory(kept, name)
        ndim = found.fake.ndim
        if scores and (
            ndim == 0 or isinstance(found.fake.shape[0], int) or (ndim > 1 and self.classes_at(name) is None)
        ):
            sides = " x ".join("N" if not isinstance(side, int) else str(side) for side in found.fake.shape)
            raise ModelError(
                f'{self.file.path} gives {sides or "one number"} for N pictures as its output "{output[:80]}", not a'
                " score for each class",
                hint="KryptonDB explains classifiers; output => takes another of the file's outputs.",
            )
        return OnnxModule(kept, IMAGE, name, scores and ndim != 2)

    def shape(self, output: str) -> tuple[Any, ...] | None:
        """The sides of a computed value, torch's symbol for the batch among them; None for any other value."""
        found = self.computed.get(self.resolved(output))
        return None if found is None else tuple(found.fake.shape)

    def classes_at(self, output: str) -> int | None:
        """The dimension that the classes of a value of scores lie in, None where it has none or several."""
        shape = self.shape(output)
        places = [
            place for place, side in enumerate(shape or ()) if place and not (isinstance(side, int) and side == 1)
        ]
        return places[0] if len(places) == 1 else 1 if shape and len(shape) > 1 and not places else None

    def _picture(self, shape: tuple[int, ...], static: bool) -> Computed:
        if static:
            with self.mode:
                return Computed(torch.empty(shape), 4 * math.prod(shape))
        sizes = [DimDynamic.DYNAMIC] + [DimDynamic.STATIC] * len(shape)
        at_least_one = StrictMinMaxConstraint(warn_only=False, vr=ValueRanges(1, int_oo))
        sized = self.mode.from_tensor(
            torch.empty(PICTURES, *shape, device="meta"),
            symbolic_context=StatelessSymbolicContext(sizes, constraint_sizes=[at_least_one] + [None] * len(shape)),
        )
        with self.mode:
            fake = torch.empty(sized.shape, device="cpu")
        return Computed(fake, 4 * math.prod(shape))

    def _node(self, node: Any) -> None:
        """Takes one node; what it is refused for is kept for those that read its results."""
        self.count += 1
        reads = [self.resolved(name) if name else None for name in node.input]
        for name in reads:
            if name is not None and name in self.spoiled:
                self.spoiled.update(dict.fromkeys(filter(None, node.output), self.spoiled[name]))
                return
        try:
            if self.count > MAX_NODES:
                raise Refused(f"there are more than {MAX_NODES:,} operators")
            self._take(node, reads)
        except Exception as error:  # whatever torch or the library raises for sizes and attributes that make no sense
            refused = error if isinstance(error, ModelError) else self._refused(node, error)
            self.spoiled.update(dict.fromkeys(filter(None, node.output), refused))

    def _take(self, node: Any, reads: list[str | None]) -> None:
        if node.domain not in DOMAINS or node.op_type in self._unknown:
            schema = schema_of(node.op_type, self.file.opset) if node.domain in DOMAINS else None
        else:
            schema = schema_of(node.op_type, self.file.opset)
        for name in reads:
            if name is not None and name not in self.known and name not in self.computed:
                if not self.file.holds(name):
                    raise ModelError(
                        f'{self.file.path} is damaged: {self._label(node)} reads "{name[:80]}" before it is'
                    )
                self.known[name] = self.file.initializer(name)
        if schema is None:
            raise self._not_taken()
        attributes, node = self._attributes(node)
        check_node(node, schema, attributes)
        if node.op_type == "If":
            self._if(node, reads)
            return
        values = [None if name is None else self.known.get(name) for name in reads]
        if all(name is None or name in self.known for name in reads):
            self._constant(node, schema, attributes, values)
            return
        operator = OPERATORS.get(node.op_type)
        if operator is None:
            raise self._not_taken()
        check_understood(operator, schema, attributes, [bool(name) and name in self._reads for name in node.output])
        permutation = attributes.get("perm") if node.op_type == "Transpose" else None
        if permutation is not None and sorted(permutation) == list(range(len(permutation))):
            self._transpose(str(reads[0]), node.output[0], permutation, node.name)
            if node.input[0] in self.whole:
                self.whole[node.output[0]] = self.whole[node.input[0]]
            return
        if node.op_type not in TAKING_WHOLE and any(name in self.whole for name in node.input):
            raise Refused("it computes with whole numbers of a few bits")
        known = {name: self.known[name] for name in reads if name is not None and name in self.known}
        of_reads = onnx.NodeProto()
        of_reads.CopyFrom(node)
        of_reads.input[:] = [name or "" for name in reads]
        parts = in_whole_numbers(of_reads, attributes, known, self.scaled, self.dequantized)
        if parts is None:
            self._step(node, attributes, reads)
            return
        nodes, constants = parts
        self._spend(sum(value.nbytes for name, value in constants.items() if name not in self.known))
        self.known.update(constants)
        for part in nodes:
            self._step(part, self._attributes(part)[0], [self.resolved(name) if name else None for name in part.input])
        if node.op_type == "DequantizeLinear":
            scale = np.float32(constants[nodes[-1].input[1]])
            self.scaled[node.output[0]] = Scaled(self.resolved(nodes[0].output[0]), scale)

    def _if(self, node: Any, reads: list[str | None]) -> None:
        """Puts the branch that a known condition chooses in the node's place."""
        condition = self.known.get(str(reads[0]))
        if condition is None or condition.size != 1:
            raise Refused("its condition depends on the picture, or on how many there are")
        tensors, nodes, results = branch(node, bool(condition.reshape(-1)[0]), f"{node.output[0]}\0")
        for tensor in tensors:
            self.known[tensor.name] = self.file.array(tensor)
        self._reads.update(name for inner in nodes for name in reads_of(inner))
        self._reads.update(results)
        self._unknown.update(
            dict.fromkeys(inner.op_type for inner in nodes if inner.op_type not in OPERATORS or inner.domain)
        )
        for inner in nodes:
            self._node(inner)
        for outer, inner in zip(node.output, results, strict=False):
            self.aliases[outer] = inner
            resolved = self.resolved(inner)
            if resolved in self.spoiled:
                self.spoiled[outer] = self.spoiled[resolved]

    def _constant(self, node: Any, schema: Any, attributes: dict[str, Any], values: list[Array | None]) -> None:
        """Works out what depends on constants alone, within the bound of all of them."""
        operator = OPERATORS.get(node.op_type)
        if operator is None or not operator.by_torch:
            try:
                results = evaluate(node, schema, self.file.opset, values, self._spend)
            except RuntimeError as error:
                if operator is None or "No implementation" not in str(error):
                    raise
            else:
                self.known.update(zip(filter(None, node.output), results, strict=True))
                if node.op_type == "DequantizeLinear" and values[0] is not None and values[1] is not None:
                    zero = values[2] if len(values) > 2 else None
                    axis = attributes.get("axis", 1)
                    self.dequantized[node.output[0]] = Dequantized(values[0], values[1], zero, axis)
                return
        check_understood(operator, schema, attributes, [bool(name) and name in self._reads for name in node.output])
        shapes = [None if value is None else value.shape for value in values]
        op = self._operation(node, attributes, [None if v is None else as_value(v) for v in values], shapes, values)
        step = Step(op.kind, operator.handler(op), None, _given(op.constants), len(op.constants))
        nothing = [None] * step.arity
        with torch.no_grad():
            with enable_python_dispatcher(), self.mode:
                self._spend(sum(_bytes(value) for value in several(step(nothing))))
            made = several(step(nothing))
        for name, value in zip(node.output, made, strict=False):
            self.known[name] = value.numpy() if isinstance(value, torch.Tensor) else np.asarray(value.tolist())

    def _spend(self, size: int) -> None:
        self.budget.take(size, self.file.bytes)

    def _step(self, node: Any, attributes: dict[str, Any], reads: list[str | None]) -> None:
        operator, host_handler = OPERATORS[node.op_type], HOST_HANDLERS.get(node.op_type)
        values = [None if name is None else self.known.get(name) for name in reads]
        fakes = [None if name is None or name in self.known else self.computed[name].fake for name in reads]
        inputs = [fake if value is None else value for value, fake in zip(values, fakes, strict=True)]
        shapes = [None if value is None else value.shape for value in inputs]
        constants = [None if value is None else as_value(value) for value in values]
        op = self._operation(node, attributes, constants, shapes, inputs)
        step = Step(
            op.kind,
            operator.handler(op),
            host_handler(op) if host_handler is not None else None,
            _given(op.constants),
            len(op.constants),
        )
        guards = len(self.environment.guards)
        with enable_python_dispatcher(), self.mode, torch.no_grad():
            results = several(step(fakes))
        on_host = all(isinstance(result, np.ndarray) for result in results)
        if on_host and len(self.environment.guards) > guards:  # torch's own questions about tensors are no decisions
            raise Refused("it decides by the number of pictures")
        if self.environment.replacements:  # torch has put a number in the place of its symbol
            raise Refused("it works for one number of pictures alone")
        if on_host and all(map(_is_settled, results)):
            self.known.update((name, _typed(result)) for name, result in zip(node.output, results, strict=False))
            return
        first = next(name for name in reads if name is not None and name not in self.known)
        kinds = [self.whole[name] for name in node.input if name in self.whole]
        if op.kind in GIVING:
            self.whole[node.output[0]] = quantized_type(op)
        elif kinds and op.kind in MOVING:
            self.whole.update(dict.fromkeys(filter(None, node.output), kinds[0]))
        if op.kind in ("Identity", "Dropout") or _changes_nothing(op, results[0], fakes[0]):
            self._alias(node.output[0], first)
            return
        computed = [None if name in self.known else name for name in reads]
        self._add(op, step, computed, node, results)

    def _add(self, op: Operation, step: Step, reads: Sequence[str | None], node: Any, results: Sequence[Any]) -> None:
        name = self._unique(op.name or f"{op.kind}_{len(self.steps)}")
        outputs = list(node.output)[: len(results)]
        self.steps.append((name, step, reads, outputs))
        hosts = {place: value.tolist() for place, value in step.hosts.items()}
        shown = {key: _shown(value) for key, value in sorted(op.attributes.items())}
        self.lines.append(f"{op.kind} {op.opset} {shown} {list(reads)} {hosts} {outputs} {op.batch}")
        for output, result in zip(outputs, results, strict=False):
            size = 0 if isinstance(result, np.ndarray) else _bytes(result) // PICTURES
            if size > MAX_RUN_BYTES:
                sides = " x ".join(str(_hinted(side)) if place else "N" for place, side in enumerate(result.shape))
                raise Refused(f"its result of {sides} numbers takes more than {MAX_RUN_BYTES >> 20:,} MiB a picture")
            self.computed[output] = Computed(result, size)
            self.producer[output] = (node, reads[0] if reads else None)

    def _alias(self, name: str, source: str) -> None:
        self.aliases[name] = source

    def _transpose(self, source: str, output: str, permutation: Sequence[int], name: str) -> None:
        before = self.transposes.get(source)
        combined = list(permutation)
        if before is not None and len(before[1]) == len(combined):
            source, combined = before[0], [before[1][place] for place in permutation]
        if combined == list(range(len(combined))):
            self._alias(output, source)
            return
        node = onnx.helper.make_node("Transpose", [source], [output], perm=combined)
        op = self._operation(node, {"perm": combined}, [None], [self.computed[source].fake.shape], [None])
        op.name = name
        step = Step("Transpose", OPERATORS["Transpose"].handler(op), HOST_HANDLERS["Transpose"](op), {}, 1)
        with enable_python_dispatcher(), self.mode, torch.no_grad():
            result = step([self.computed[source].fake])
        self._add(op, step, [source], node, [result])
        self.transposes[output] = (source, combined)

    def _operation(
        self,
        node: Any,
        attributes: dict[str, Any],
        constants: list[Value],
        shapes: Sequence[tuple[Any, ...] | None],
        values: Sequence[Any],
    ) -> Operation:
        return Operation(
            kind=node.op_type,
            name=node.name,
            opset=self.file.opset,
            attributes=attributes,
            constants=constants,
            present=[bool(name) for name in node.input],
            outputs=len(node.output),
            shapes=shapes,
            types=[
                self.whole.get(name) or _element_type(value) for name, value in zip(node.input, values, strict=True)
            ],
            batch=self.batch,
        )

    def _attributes(self, node: Any) -> tuple[dict[str, Any], Any]:
        """The attributes' values, and the node with every array of another file inside."""
        found: dict[str, Any] = {}
        inside = node
        for place, attribute in enumerate(node.attribute):
            if attribute.ref_attr_name:
                raise Refused(f"its attribute {attribute.name[:60]} is that of a function")
            if attribute.type == onnx.AttributeProto.TENSOR:
                found[attribute.name] = self.file.array(attribute.t)
                if attribute.t.data_location == onnx.TensorProto.EXTERNAL:
                    if inside is node:
                        inside = onnx.NodeProto()
                        inside.CopyFrom(node)
                    inside.attribute[place].t.CopyFrom(onnx.numpy_helper.from_array(found[attribute.name]))
                continue
            if attribute.type == onnx.AttributeProto.SPARSE_TENSOR:
                found[attribute.name] = self.file.dense(attribute.sparse_tensor)
                continue
            value = onnx.helper.get_attribute_value(attribute)
            value = value.decode("utf-8", "replace") if isinstance(value, bytes) else value
            found[attribute.name] = list(value) if hasattr(value, "extend") else value
        return found, inside

    def _check_memory(self, steps: Sequence[Any], output: str) -> None:
        """Checks the values of one picture that exist at a time, as the module runs."""
        live = {IMAGE: self.computed[IMAGE].bytes}
        for (name, step, _, writes), frees in zip(steps, last_reads([s[2] for s in steps], output), strict=True):
            live.update((written, self.computed[written].bytes) for written in writes if written in self.computed)
            if sum(live.values()) > MAX_RUN_BYTES:
                raise ModelError(
                    f"{self.file.path} takes more than {MAX_RUN_BYTES >> 20:,} MiB for one picture, at its operator"
                    f" {step.kind} ({name})",
                    hint="A smaller size => takes less.",
                )
            for free in frees:
                live.pop(free, None)

    def resolved(self, name: str) -> str:
        """The value that a name stands for."""
        while name in self.aliases:
            name = self.aliases[name]
        return name

    def _unique(self, name: str) -> str:
        base = re.sub(r"[.\s\0]+", "_", name).strip("/")[:200] or "step"
        unique, count = base, 1
        while unique in self.names or hasattr(OnnxModule, unique) or unique in RESERVED:
            count += 1
            unique = f"{base}_{count}"
        self.names.add(unique)
        return unique

    def _label(self, node: Any) -> str:
        return f"{node.op_type[:60]}{f' ({node.name[:80]})' if node.name else ''}"

    def _not_taken(self) -> ModelError:
        names = [name[:60] for name in list(self._unknown)[:5]]
        what = "the operator" if len(self._unknown) == 1 else "the operators"
        return ModelError(
            f"{self.file.path} uses {what} {', '.join(names)}, which KryptonDB does not support", hint=OPERATORS_HINT
        )

    def _refused(self, node: Any, error: Exception) -> ModelError:
        """An error that names the operator, with a hint that fits: the operator, or the sizes that it was given."""
        if isinstance(error, Refused):
            return ModelError(
                f"{self.file.path}: KryptonDB does not support its operator {self._label(node)}: {first_line(error)}",
                hint=OPERATORS_HINT,
            )
        shapes = [self.shape(name) if self.resolved(name) in self.computed else None for name in node.input if name]
        sides = ", ".join(f"[{', '.join(map(str, shape))}]" for shape in shapes if shape) or "what it is given"
        reason = re.sub(SYMBOL, "N", f"{sides}: {first_line(error)}")
        return ModelError(
            f"{self.file.path}: its operator {self._label(node)} does not work on {reason}",
            hint=SIZE_HINT if self.batch is None else BATCH_HINT,
        )


#: Attributes of the module itself.
RESERVED = ("steps", "reads", "writes", "frees", "image", "output", "flat")


def as_value(value: Array) -> Value:
    """A constant as operators take it: small lists of whole numbers as host values, anything else as a tensor.

    All floating point becomes float32; whole numbers that torch does not compute with become int64.
    """
    if value.dtype.kind in "iub" and value.ndim <= 1 and value.size <= SMALL and value.dtype.itemsize <= 8:
        return host(value)
    if value.dtype.kind == "c":
        raise Refused("it reads complex numbers")
    if value.dtype.kind in "iub" and value.dtype.name in _TORCH_WHOLE:
        return torch.from_numpy(_writable(value))
    if value.dtype.kind in "iu":
        return torch.from_numpy(value.astype(np.int64))
    if value.dtype == np.float32:
        return torch.from_numpy(_writable(value))
    try:
        return torch.from_numpy(value.astype(np.float32))
    except TypeError:
        raise Refused(f"it reads numbers of type {value.dtype.name}") from None


_TORCH_WHOLE = ("bool", "uint8", "int8", "int16", "int32", "int64")


def _writable(value: Array) -> Array:
    """The array in this machine's byte order, with memory that torch may hold."""
    native = value.astype(value.dtype.newbyteorder("="), copy=False)
    positive = all(stride >= 0 for stride in native.strides)
    return native if native.flags.writeable and positive else native.copy()


def _given(constants: Sequence[Value]) -> dict[int, Value]:
    return {place: value for place, value in enumerate(constants) if value is not None}


def _element_type(value: Any) -> int | None:
    """TensorProto's number of the type of an array or a fake tensor."""
    if isinstance(value, torch.Tensor):
        return _ELEMENTS.get(value.dtype)
    if isinstance(value, np.ndarray) and value.dtype != object:
        return int(onnx.helper.np_dtype_to_tensor_dtype(value.dtype))
    return None if value is None else int(onnx.TensorProto.INT64)


def _is_settled(value: Any) -> bool:
    """Whether no symbol is left in a host value."""
    return all(isinstance(number, (bool, int, float)) for number in value.reshape(-1))


def _typed(value: Any) -> Array:
    """A host value without symbols as an array of the type that shapes have."""
    found = list(value.reshape(-1))
    if found and all(isinstance(number, bool) for number in found):
        return np.asarray(value, dtype=np.bool_)
    return np.asarray(value, dtype=np.float32 if any(isinstance(n, float) for n in found) else np.int64)


def _changes_nothing(op: Operation, result: Any, source: Any) -> bool:
    """Whether a step gives what it is given: casts between floating point types do, which are all float32 here."""
    if op.kind == "DequantizeLinear":
        return result is source
    return (
        op.kind in ("Cast", "CastLike")
        and isinstance(source, torch.Tensor)
        and isinstance(result, torch.Tensor)
        and source.is_floating_point()
        and result.is_floating_point()
    )


def _hinted(side: Any) -> int:
    return int(side.node.hint) if isinstance(side, torch.SymInt) else int(side)


def _bytes(value: Any) -> int:
    """Bytes of a fake tensor for `PICTURES` pictures."""
    if not isinstance(value, torch.Tensor):
        return 0
    return math.prod(_hinted(side) for side in value.shape) * value.element_size()


def _shown(value: Any) -> Any:
    return value.tolist() if isinstance(value, np.ndarray) else value
