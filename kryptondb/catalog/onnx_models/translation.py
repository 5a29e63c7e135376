"""ONNX nodes -> a module: what does not depend on a picture is computed at once, the rest becomes steps.

Two transposes after each other become one, and none where they undo each other: the pair that a channels-last file has
around its convolutions disappears.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from kryptondb.catalog.onnx_models.arithmetic import ARITHMETIC
from kryptondb.catalog.onnx_models.host import HOST_HANDLERS
from kryptondb.catalog.onnx_models.layers import LAYERS
from kryptondb.catalog.onnx_models.module import OnnxModule, Step
from kryptondb.catalog.onnx_models.operation import SMALL, Operation, Refused, Value, host
from kryptondb.catalog.onnx_models.reading import DOMAINS, Array, OnnxFile, array, package
from kryptondb.catalog.onnx_models.shaping import SHAPING
from kryptondb.errors import ModelError

HANDLERS = {**ARITHMETIC, **SHAPING, **LAYERS}
IMAGE = "\0image"  # no name of a file's
MAX_FOLDED = 1 << 28  # numbers of a constant that is computed from others
OPERATORS_HINT = "torch.export.save and a .pt2 file, or db.register(name, module) take models with any operator."


@dataclass(frozen=True)
class Alias:
    """A name that stands for another value."""

    name: str


class Translation:
    """One pass over a file's graph.

    Args:
        file: what `reading.read` gave.
        image: the name of the graph's input.
        channels_last: whether it is [N, H, W, C].
        fixed_batch: the batch that the file is made for, None where it takes any.
    """

    def __init__(self, file: OnnxFile, image: str, channels_last: bool, fixed_batch: int | None) -> None:
        self.file, self.fixed_batch = file, fixed_batch
        self.constants: dict[str, Value] = {name: as_value(found) for name, found in file.arrays.items()}
        self.aliases: dict[str, str] = {}
        self.transposes: dict[str, tuple[str, list[int]]] = {}
        self.steps: list[tuple[str, Step, Sequence[str | None], Sequence[str]]] = []
        self.lines: list[str] = []  # the computation as text
        self.producer: dict[str, tuple[Any, str | None]] = {}  # of each computed value: its node and first input
        self.names: set[str] = set()
        self._refuse_unknown()
        if channels_last:
            self._transpose(IMAGE, image, [0, 2, 3, 1], "channels_last")
        else:
            self.aliases[image] = IMAGE
        for node in file.graph.node:
            self._node(node)

    def module(self, output: str) -> OnnxModule:
        """The module that computes one value. ModelError where it does not depend on the picture."""
        wanted = {self._resolved(output)}
        kept = []
        for step in reversed(self.steps):
            if wanted.intersection(step[3]):
                kept.append(step)
                wanted.update(read for read in step[2] if read is not None)
        if IMAGE not in wanted:
            raise ModelError(f'{self.file.path}: its output "{output}" does not depend on the picture')
        return OnnxModule(kept[::-1], IMAGE, self._resolved(output))

    def _refuse_unknown(self) -> None:
        unknown = dict.fromkeys(
            (f"{node.domain}::" if node.domain not in DOMAINS else "") + node.op_type
            for node in self.file.graph.node
            if node.domain not in DOMAINS or (node.op_type not in HANDLERS and node.op_type != "Constant")
        )
        if unknown:
            names = [name[:60] for name in list(unknown)[:5]]
            what = "the operator" if len(unknown) == 1 else "the operators"
            raise ModelError(
                f"{self.file.path} uses {what} {', '.join(names)}, which KryptonDB does not take", hint=OPERATORS_HINT
            )

    def _node(self, node: Any) -> None:
        attributes = self._attributes(node)
        if node.op_type == "Constant":
            self.constants[node.output[0]] = _constant(attributes)
            return
        reads = [self._resolved(name) if name else None for name in node.input]
        outputs = [name for name in node.output if name]
        op = Operation(
            kind=node.op_type,
            name=node.name,
            opset=self.file.opset,
            attributes=attributes,
            constants=[None if name is None else self.constants.get(name) for name in reads],
            present=[name is not None for name in reads],
            outputs=sum(self._is_used(name) for name in outputs[1:]) + 1 if outputs else 0,
            extra={"batch": self.fixed_batch},
        )
        if node.op_type == "Split":
            op.outputs = len(node.output)
        permutation = attributes.get("perm") if node.op_type == "Transpose" else None
        if permutation is not None and op.constants[0] is None:
            self._transpose(str(reads[0]), node.output[0], permutation, node.name)
            return
        host_handler = HOST_HANDLERS.get(op.kind)
        try:
            function = HANDLERS[op.kind](op)
            host_function = host_handler(op) if host_handler is not None else None
            constants = {place: value for place, value in enumerate(op.constants) if value is not None}
            step = Step(op.kind, function, host_function, constants, len(reads))
            if all(name is None or place in constants for place, name in enumerate(reads)):
                self._fold(step, node.output)
                return
        except ModelError:
            raise
        except Exception as error:  # an attribute that makes no sense, or arithmetic on constants that does not go
            raise self._refused(op, error) from error
        computed = [None if place in constants else name for place, name in enumerate(reads)]
        for name in computed:
            if name is not None and name != IMAGE and name not in self.producer:
                raise ModelError(f'{self.file.path} is damaged: {op.kind} ({op.name}) reads "{name[:80]}" before it is')
        if op.kind in ("Identity", "Dropout") or (op.kind == "Cast" and _changes_nothing(op, computed[0], self)):
            self.aliases[node.output[0]] = str(computed[0])
            return
        self._add(op, step, computed, node.output, node)

    def _add(self, op: Operation, step: Step, reads: Sequence[str | None], outputs: Sequence[str], node: Any) -> None:
        name = self._unique(op.name or f"{op.kind}_{len(self.steps)}")
        self.steps.append((name, step, reads, list(outputs)))
        hosts = {place: value.tolist() for place, value in step.hosts.items()}
        shown = {key: _shown(value) for key, value in sorted(op.attributes.items())}
        self.lines.append(f"{op.kind} {op.opset} {shown} {list(reads)} {hosts} {list(outputs)} {op.extra.get('batch')}")
        for output in outputs:
            self.producer[output] = (node, reads[0] if reads else None)

    def _transpose(self, source: str, output: str, permutation: Sequence[int], name: str) -> None:
        before = self.transposes.get(source)
        combined = list(permutation)
        if before is not None and len(before[1]) == len(combined):
            source, combined = before[0], [before[1][place] for place in permutation]
        if combined == list(range(len(combined))):
            self.aliases[output] = source
            return
        op = Operation("Transpose", name, self.file.opset, {"perm": combined}, [None], [True])
        step = Step("Transpose", HANDLERS["Transpose"](op), HOST_HANDLERS["Transpose"](op), {}, 1)
        self._add(op, step, [source], [output], None)
        self.transposes[output] = (source, combined)

    def _fold(self, step: Step, outputs: Sequence[str]) -> None:
        """Computes a constant from constants, after looking at how large it becomes."""
        nothing = [None] * step.arity
        on_host = not step.tensors
        if not on_host:
            with FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad():
                for value in _several(step(nothing)):
                    if isinstance(value, torch.Tensor) and value.numel() > MAX_FOLDED:
                        raise Refused(f"it makes a constant of {value.numel():,} numbers")
        with torch.no_grad():
            results = _several(step(nothing))
        for name, value in zip(outputs, results, strict=False):
            self.constants[name] = as_value(value) if isinstance(value, torch.Tensor) else value

    def _attributes(self, node: Any) -> dict[str, Any]:
        onnx = package(self.file.path)
        found: dict[str, Any] = {}
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.TENSOR:
                found[attribute.name] = array(attribute.t, self.file.path, {})
                continue
            value = onnx.helper.get_attribute_value(attribute)
            found[attribute.name] = value.decode("utf-8", "replace") if isinstance(value, bytes) else value
        return {
            name: list(value) if isinstance(value, (list, tuple)) or hasattr(value, "extend") else value
            for name, value in found.items()
        }

    def _resolved(self, name: str) -> str:
        while name in self.aliases:
            name = self.aliases[name]
        return name

    def _is_used(self, name: str) -> bool:
        return name in self._all_reads

    @property
    def _all_reads(self) -> set[str]:
        if not hasattr(self, "_reads"):
            graph = self.file.graph
            self._reads = {name for node in graph.node for name in node.input} | {out.name for out in graph.output}
        return self._reads

    def _unique(self, name: str) -> str:
        base = re.sub(r"[.\s\0]+", "_", name).strip("/")[:200] or "step"
        unique, count = base, 1
        while unique in self.names or hasattr(OnnxModule, unique) or unique in RESERVED:
            count += 1
            unique = f"{base}_{count}"
        self.names.add(unique)
        return unique

    def _refused(self, op: Operation, error: Exception) -> ModelError:
        where = f"{op.kind}{f' ({op.name})' if op.name else ''}"
        lines = str(error).strip().splitlines() or [type(error).__name__]
        return ModelError(
            f"{self.file.path}: KryptonDB does not take its operator {where}: {lines[0][:300]}", hint=OPERATORS_HINT
        )


RESERVED = ("steps", "reads", "writes", "frees", "image", "output")  # attributes of the module itself


def as_value(value: Array | torch.Tensor) -> Value:
    """A constant as operators take it: small lists of whole numbers as host values, anything else as a tensor.

    All floating point becomes float32, all whole numbers int64.
    """
    tensor = value if isinstance(value, torch.Tensor) else torch.from_numpy(_plain(value))
    if tensor.is_floating_point():
        return tensor.float()
    if tensor.ndim <= 1 and tensor.numel() <= SMALL:
        return host(tensor.numpy())
    return tensor if tensor.dtype == torch.bool else tensor.long()


def _plain(value: Array) -> Array:
    """The array in a type that torch has, in this machine's byte order."""
    if value.dtype == np.bool_:
        return np.array(value)
    if value.dtype.kind in "iu":
        return np.array(value, dtype=np.int64)
    return np.array(value, dtype=np.float32)


def _constant(attributes: dict[str, Any]) -> Value:
    if "value" in attributes:
        return as_value(attributes["value"])
    for name in ("value_float", "value_floats"):
        if name in attributes:
            return torch.tensor(attributes[name], dtype=torch.float32)
    for name in ("value_int", "value_ints"):
        if name in attributes:
            return host(attributes[name])
    raise ModelError(f"a Constant of an unknown kind: {', '.join(attributes)}")


def _changes_nothing(op: Operation, source: str | None, translation: Translation) -> bool:
    """Whether a cast is one between floating point types of what came from a convolution or the like."""
    return source is not None and source in translation.transposes and op.attribute("to") in (1, 10, 11, 16)


def _several(results: Any) -> tuple[Any, ...]:
    return results if isinstance(results, tuple) else (results,)


def _shown(value: Any) -> Any:
    return value.tolist() if isinstance(value, np.ndarray) else value
