"""Checks the graph of an exported program, so that loading and running it computes on tensors and does nothing else.

Everything is allowed by name or refused. Of what passes, only plain data is kept: node metadata, guards (Python source)
and custom fields are left out. What torch would do with the rest, and why it is checked:

- names of values become identifiers in generated Python source, those of weights stand in it in quotes: the first are
  identifiers or refused, the second become plain ones;
- `expr_str` (symbolic sizes) is evaluated by sympy as Python source;
- `target` is looked up from the torch module: only the operators of `network.functions`, those that
  `program_functions` has a checked form for, and arithmetic on sizes pass;
- tree specs may name a module to import: only tuple, list and dict pass;
- payloads may be pickles: only raw tensors pass.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from kryptondb.catalog.program_text import clean_tree_spec, is_identifier, is_size_expression, plain_name, words
from kryptondb.errors import ModelError

InputShape = tuple[int | None, int | None, int | None]  # channels, height, width; None where any will do

# torch's ScalarType numbers, as the file has them
FLOAT16, FLOAT32, FLOAT64, BOOL, BFLOAT16 = 6, 7, 8, 12, 13
REDUCED = (FLOAT16, BFLOAT16, FLOAT64)
LARGEST_FLOAT32 = 3.4028234663852886e38
STRIDED = 7
VIEW_ELEMENTS = 1 << 24  # of a tensor that repeats its bytes (stride 0)
SHARED = 4  # elements of all tensors together for each byte of their records: some layers share their weights

STRING_ARGUMENTS = words(
    "approximate assert_msg equation indexing mode msg ord padding padding_mode reduce reduction rounding_mode side"
)
SYMBOLIC = re.compile(r"torch\.(sym_(?:int|float|max|min|not|ite|sum|sqrt)|_sym_sqrt)|math\.(ceil|floor|trunc|sqrt)")
ATEN = re.compile(r"torch\.ops\.aten\.(\w+)\.(\w+)", re.ASCII)
NOT_FINITE = ("Infinity", "-Infinity", "NaN")
VERIFIERS = ("TRAINING", "ATEN")


@dataclass(frozen=True)
class CheckedProgram:
    """A serialized `ExportedProgram` that holds checked, plain data only.

    Attributes:
        program: as JSON; what was in `reduced` is in float32.
        shape: of its one input.
        reduced: the number of the type that the file computes in where that is not float32, else None.
    """

    program: dict[str, Any]
    shape: InputShape
    reduced: int | None


def check_program(program: dict[str, Any], path: str) -> CheckedProgram:
    """A clean copy of a program. Raises ModelError, naming what was found, for anything not allowed."""
    return _Check(path).program(program)


def check_payloads(config: dict[str, Any], sizes: dict[str, int], kind: str, path: str) -> dict[str, Any]:
    """A checked copy of the list of weights or constants: raw tensors, inside their records, on the CPU.

    Args:
        sizes: bytes of each record of this kind in the archive.
        kind: 'weights' or 'constants'.
    """
    check = _Check(path)
    prefix = "weight" if kind == "weights" else "tensor"
    checked: dict[str, Any] = {}
    total = 0
    for name, entry in check.mapping(config.get("config")).items():
        entry = check.mapping(entry)
        record = entry.get("path_name")
        if entry.get("use_pickle") is not False or not isinstance(record, str):
            raise check.refused(f"{kind} that are pickled ({_short(name)})")
        if not re.fullmatch(rf"{prefix}_\d{{1,9}}", record) or record not in sizes:
            raise check.refused(f"a record of {kind} called {_short(record)}")
        meta = check.tensor_meta(entry.get("tensor_meta"))
        numbers = [[side.get("as_int") for side in meta[key]] for key in ("sizes", "strides")]
        if any(not isinstance(n, int) or isinstance(n, bool) or n < 0 for n in (*numbers[0], *numbers[1])):
            raise check.refused(f"{kind} of symbolic or negative size")
        if math.prod(numbers[0]) > max(sizes[record], VIEW_ELEMENTS) or (not sizes[record] and math.prod(numbers[0])):
            raise check.refused(f"a tensor ({_short(name)}) larger than its record")
        total += math.prod(numbers[0])
        if check.dotted(name) in checked:
            raise check.refused(f"two {kind} of the name {_short(name)}")
        checked[check.dotted(name)] = {
            "path_name": record,
            "is_param": bool(entry.get("is_param")),
            "use_pickle": False,
            "tensor_meta": meta,
        }
    if total > SHARED * sum(sizes.values()) + 4 * VIEW_ELEMENTS:
        raise check.refused(f"{kind} that are many times larger than their records together")
    return {"config": checked}


class _Check:
    """One pass over a program; every method returns a clean copy of its argument or refuses the file."""

    def __init__(self, path: str) -> None:
        self.path = path

    def refused(self, what: str) -> ModelError:
        return ModelError(
            f"{self.path} is refused: it holds {what}",
            hint="KryptonDB loads programs of ATen operators and plain tensors only; nothing in the file was run.",
        )

    # Leaves

    def mapping(self, value: Any) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise self.refused(f"{type(value).__name__} where an object belongs")
        return value

    def sequence(self, value: Any) -> list[Any]:
        if not isinstance(value, list):
            raise self.refused(f"{type(value).__name__} where a list belongs")
        return value

    def identifier(self, value: Any) -> str:
        if not is_identifier(value):
            raise self.refused(f"the name {_short(value)}")
        return str(value)

    def dotted(self, value: Any) -> str:
        """The name of a weight, whatever characters it has, as a path of plain attributes."""
        name = plain_name(value)
        if name is None:
            raise self.refused(f"the name {_short(value)}")
        return name

    def plain(self, value: Any) -> Any:
        """Numbers, booleans, None and lists of them."""
        if value is None or isinstance(value, (bool, int, float)) or value in NOT_FINITE:
            return value
        return [self.plain(item) for item in self.sequence(value)]

    def size_expression(self, value: Any) -> str:
        if not isinstance(value, str) or not is_size_expression(value):
            raise self.refused(f"the symbolic size {_short(value)}")
        return value

    def tree_spec(self, value: Any, any_keys: bool = False) -> str:
        spec = clean_tree_spec(value, any_keys)
        if spec is None:
            raise self.refused(f"inputs or outputs of the structure {_short(value)}")
        return spec

    # Sizes and tensors

    def size(self, value: Any) -> dict[str, Any]:
        """A SymInt, SymBool or SymFloat."""
        value = self.mapping(value)
        if "as_expr" not in value:
            return {self._tag(value): self.plain(next(iter(value.values())))}
        expression = self.mapping(value["as_expr"])
        hint = expression.get("hint")
        if hint is not None:
            hint = {self._tag(self.mapping(hint)): self.plain(next(iter(hint.values())))}
        return {"as_expr": {"expr_str": self.size_expression(expression.get("expr_str")), "hint": hint}}

    def _tag(self, value: dict[str, Any]) -> str:
        if len(value) != 1 or next(iter(value)) not in ("as_int", "as_float", "as_bool"):
            raise self.refused(f"a size given as {_short(list(value))}")
        return next(iter(value))

    def tensor_meta(self, value: Any) -> dict[str, Any]:
        value = self.mapping(value)
        if value.get("layout") != STRIDED or not isinstance(value.get("dtype"), int):
            raise self.refused("a tensor that is not a dense one")
        return {
            "dtype": value["dtype"],
            "sizes": [self.size(side) for side in self.sequence(value.get("sizes"))],
            "requires_grad": bool(value.get("requires_grad")),
            "device": {"type": "cpu", "index": None},  # wherever it was exported: it is loaded on the CPU
            "strides": [self.size(side) for side in self.sequence(value.get("strides"))],
            "storage_offset": self.size(value.get("storage_offset")),
            "layout": STRIDED,
        }

    # The graph

    def argument(self, value: Any, operator: str = "", name: str = "") -> dict[str, Any]:
        """An argument of a node, an input or an output; `operator` and `name` say where, for strings and subgraphs."""
        value = self.mapping(value)
        if len(value) != 1:
            raise self.refused("an argument without one type")
        ((tag, inner),) = value.items()
        rules: dict[str, Callable[[Any], Any]] = {
            "as_tensor": self._tensor_name,
            "as_tensors": lambda v: [self._tensor_name(item) for item in self.sequence(v)],
            "as_nested_tensors": lambda v: [
                [self._tensor_name(i) for i in self.sequence(row)] for row in self.sequence(v)
            ],
            "as_optional_tensor": self.argument,
            "as_optional_tensors": lambda v: [self.argument(item) for item in self.sequence(v)],
            "as_device": lambda v: {"type": "cpu", "index": None},
        }
        if tag in ("as_sym_int", "as_sym_float", "as_sym_bool"):
            return {tag: self._symbol(inner)}
        if tag in ("as_sym_ints", "as_sym_floats", "as_sym_bools"):
            return {tag: [self._symbol(item) for item in self.sequence(inner)]}
        if tag in rules:
            return {tag: rules[tag](inner)}
        if tag in ("as_none", "as_int", "as_float", "as_bool", "as_scalar_type", "as_memory_format", "as_layout"):
            return {tag: self.plain(inner)}
        if tag in ("as_ints", "as_floats", "as_bools", "as_int_lists", "as_float_lists"):
            return {tag: self.plain(self.sequence(inner))}
        if tag == "as_string" and isinstance(inner, str) and ATEN.fullmatch(operator) and name in STRING_ARGUMENTS:
            return {tag: inner}
        from kryptondb.catalog.program_functions import AUTOCAST, NO_GRAD

        if tag == "as_string" and operator == AUTOCAST and inner in ("cpu", "cuda"):
            return {tag: inner}
        if tag == "as_graph" and operator in (NO_GRAD, AUTOCAST):
            inner = self.mapping(inner)
            return {tag: {"name": self.identifier(inner.get("name")), "graph": self.graph(inner.get("graph"))}}
        raise self.refused(f"an argument of type {_short(tag)}" + (f" for {_short(operator)}" if operator else ""))

    def _tensor_name(self, value: Any) -> dict[str, str]:
        return {"name": self.identifier(self.mapping(value).get("name"))}

    def _symbol(self, value: Any) -> dict[str, Any]:
        value = self.mapping(value)
        if list(value) == ["as_name"]:
            return {"as_name": self.identifier(value["as_name"])}
        return {self._tag(value): self.plain(next(iter(value.values())))}

    def operator(self, value: Any) -> str:
        import torch

        from kryptondb.catalog.program_functions import AUTOCAST, NO_GRAD, SUBSTITUTES
        from kryptondb.network.functions import ARITHMETIC, OPERATORS, listed

        if not isinstance(value, str):
            raise self.refused("an operator without a name")
        aten = ATEN.fullmatch(value)
        if aten:
            name, overload = aten.groups()
            if f"{name}.{overload}" in SUBSTITUTES or listed(name, overload) is not None:
                return value
            if name in OPERATORS and not hasattr(torch.ops.aten, name):
                raise ModelError(
                    f"{self.path} uses the operator {_short(value)}, which this torch {torch.__version__} does not have"
                )
            raise self.refused(f"the operator {_short(value)}")
        symbolic = SYMBOLIC.fullmatch(value)
        if (symbolic and (symbolic[2] or hasattr(torch, symbolic[1]))) or value in (NO_GRAD, AUTOCAST):
            return value
        if value.startswith("_operator.") and value[len("_operator.") :] in ARITHMETIC:
            return value
        raise self.refused(f"the operator {_short(value)}")

    def node(self, value: Any) -> dict[str, Any]:
        from kryptondb.catalog.program_functions import AUTOCAST
        from kryptondb.network.functions import misused

        value = self.mapping(value)
        operator = self.operator(value.get("target"))
        inputs = []
        for item in self.sequence(value.get("inputs")):
            item = self.mapping(item)
            name = item.get("name")
            name = self.identifier(name) if name else ""
            inputs.append(
                {
                    "name": name,
                    "arg": self.argument(item.get("arg"), operator, name),
                    "kind": self.plain(item.get("kind")),
                }
            )
        short = operator.removeprefix("torch.ops.")
        aten = ATEN.fullmatch(operator)
        wrong = misused(aten[1], {item["name"]: _literal(item["arg"]) for item in inputs}) if aten else None
        if wrong and wrong.endswith("for training"):
            raise ModelError(
                f"{self.path} was exported in training mode ({short})",
                hint="Call model.eval() before torch.export.export.",
            )
        if wrong:
            raise self.refused(f"the operator {short} with other arguments than inference needs: {wrong}")
        if operator == AUTOCAST and (len(inputs) < 5 or inputs[2]["arg"] != {"as_bool": False}):
            raise self.refused("a region of mixed precision (autocast)")
        return {
            "target": operator,
            "inputs": inputs,
            "outputs": [self.argument(item) for item in self.sequence(value.get("outputs"))],
            "metadata": {},
            "is_hop_single_tensor_return": self.plain(value.get("is_hop_single_tensor_return")),
            "name": None if value.get("name") is None else self.identifier(value["name"]),
        }

    def graph(self, value: Any) -> dict[str, Any]:
        value = self.mapping(value)
        if value.get("custom_obj_values"):
            raise self.refused("custom objects")

        def values(key: str, rule: Callable[[Any], Any]) -> dict[str, Any]:
            return {self.identifier(name): rule(item) for name, item in self.mapping(value.get(key, {})).items()}

        return {
            "inputs": [self.argument(item) for item in self.sequence(value.get("inputs"))],
            "outputs": [self.argument(item) for item in self.sequence(value.get("outputs"))],
            "nodes": [self.node(item) for item in self.sequence(value.get("nodes"))],
            "tensor_values": values("tensor_values", self.tensor_meta),
            "sym_int_values": values("sym_int_values", self.size),
            "sym_bool_values": values("sym_bool_values", self.size),
            "sym_float_values": values("sym_float_values", self.size),
            "is_single_tensor_return": bool(value.get("is_single_tensor_return")),
            "custom_obj_values": {},
        }

    # The signature

    def input_spec(self, value: Any) -> dict[str, Any]:
        value = self.mapping(value)
        if len(value) != 1:
            raise self.refused("an input without one kind")
        ((kind, inner),) = value.items()
        inner = self.mapping(inner)
        if kind == "user_input":
            return {kind: {"arg": self.argument(inner.get("arg"))}}
        names = {"parameter": "parameter_name", "buffer": "buffer_name", "tensor_constant": "tensor_constant_name"}
        if kind not in names:
            raise self.refused(f"an input of kind {_short(kind)}")
        spec: dict[str, Any] = {
            "arg": self._tensor_name(inner.get("arg")),
            names[kind]: self.dotted(inner.get(names[kind])),
        }
        if kind == "buffer":
            spec["persistent"] = bool(inner.get("persistent", True))
        return {kind: spec}

    def output_spec(self, value: Any) -> dict[str, Any]:
        value = self.mapping(value)
        if list(value) == ["user_output"]:
            return {"user_output": {"arg": self.argument(self.mapping(value["user_output"]).get("arg"))}}
        if list(value) == ["buffer_mutation"]:
            raise ModelError(
                f"{self.path} changes its own state when it runs: it was exported in training mode",
                hint="Call model.eval() before torch.export.export.",
            )
        raise self.refused(f"an output of kind {_short(list(value))}")

    def call(self, value: Any) -> dict[str, Any]:
        """The entry for the whole program in the list of module calls; those for its parts are not needed."""
        signature = self.mapping(self.mapping(value).get("signature"))
        names = signature.get("forward_arg_names")
        return {
            "fqn": "",
            "signature": {
                "inputs": [self.argument(item) for item in self.sequence(signature.get("inputs"))],
                "outputs": [self.argument(item) for item in self.sequence(signature.get("outputs"))],
                "in_spec": self.tree_spec(signature.get("in_spec")),
                "out_spec": self.tree_spec(signature.get("out_spec"), any_keys=True),
                "forward_arg_names": [self.identifier(name) for name in self.sequence(names)] if names else None,
            },
        }

    def program(self, value: dict[str, Any]) -> CheckedProgram:
        module = self.mapping(value.get("graph_module"))
        signature = self.mapping(module.get("signature"))
        graph = self.graph(module.get("graph"))
        inputs = [self.input_spec(item) for item in self.sequence(signature.get("input_specs"))]
        calls = [c for c in self.sequence(module.get("module_call_graph")) if self.mapping(c).get("fqn") == ""]
        if len(calls) != 1:
            raise self.refused(f"{len(calls)} main programs")
        verifiers = self.sequence(value.get("verifiers", []))
        if any(name not in VERIFIERS for name in verifiers):
            raise self.refused(f"a graph in the dialect {_short(verifiers)}")
        version = self.mapping(value.get("schema_version"))
        ranges = self.mapping(value.get("range_constraints", {}))
        clean = {
            "graph_module": {
                "graph": graph,
                "signature": {
                    "input_specs": inputs,
                    "output_specs": [self.output_spec(item) for item in self.sequence(signature.get("output_specs"))],
                },
                "module_call_graph": [self.call(calls[0])],
                "metadata": {},
                "treespec_namedtuple_fields": {},
            },
            "opset_version": {
                self.identifier(k): self.plain(v) for k, v in self.mapping(value.get("opset_version")).items()
            },
            "range_constraints": {
                self.identifier(name): {
                    key: self.plain(self.mapping(limits).get(key)) for key in ("min_val", "max_val")
                }
                for name, limits in ranges.items()
            },
            "schema_version": {key: self.plain(version.get(key)) for key in ("major", "minor")},
            "verifiers": verifiers,
            "torch_version": "",
            "guards_code": [],
        }
        shape = self._input_shape(inputs, graph)
        reduced = _reduced(inputs, graph)
        return CheckedProgram(clean if reduced is None else _in_float32(clean, reduced), shape, reduced)

    def _input_shape(self, inputs: list[dict[str, Any]], graph: dict[str, Any]) -> InputShape:
        """(C, H, W) of the one picture batch the program takes; None for a size that is free."""
        user = [spec["user_input"]["arg"] for spec in inputs if "user_input" in spec]
        if len(user) != 1 or "as_tensor" not in user[0]:
            raise ModelError(f"{self.path} takes {len(user)} inputs, not one batch of pictures")
        meta = graph["tensor_values"].get(user[0]["as_tensor"]["name"])
        if meta is None or len(meta["sizes"]) != 4 or meta["dtype"] not in (FLOAT32, *REDUCED):
            raise ModelError(f"{self.path} does not take floating point pictures [N, C, H, W]")
        channels, height, width = (side.get("as_int") for side in meta["sizes"][1:])
        if any(side is not None and (type(side) is not int or side < 1) for side in (channels, height, width)):
            raise self.refused(f"pictures of {_short([channels, height, width])}")
        return channels, height, width


def _literal(argument: dict[str, Any]) -> Any:
    """The number, flag, text, None or list of numbers that an argument is; itself for anything computed."""
    import torch

    ((tag, inner),) = argument.items()
    if tag == "as_none":
        return None
    # One of each stands for all: torch knows the numbers that files have for them.
    enumerated = {
        "as_scalar_type": torch.float32,
        "as_layout": torch.strided,
        "as_memory_format": torch.contiguous_format,
    }
    if tag in enumerated:
        return enumerated[tag]
    plain = ("as_int", "as_float", "as_bool", "as_ints", "as_floats", "as_bools", "as_string")
    return inner if tag in plain else argument


def _reduced(inputs: list[dict[str, Any]], graph: dict[str, Any]) -> int | None:
    """The type that a program computes in where that is not float32: its pictures', or that of all its parameters."""

    def dtype(name: str) -> int:
        return int(graph["tensor_values"].get(name, {}).get("dtype", FLOAT32))

    (pictures,) = (spec["user_input"]["arg"]["as_tensor"]["name"] for spec in inputs if "user_input" in spec)
    if dtype(pictures) in REDUCED:
        return dtype(pictures)
    weights = {dtype(spec["parameter"]["arg"]["name"]) for spec in inputs if "parameter" in spec}
    found = weights & {FLOAT32, *REDUCED}
    return found.pop() if len(found) == 1 and FLOAT32 not in found else None


def _in_float32(value: Any, reduced: int) -> Any:
    """A clean program with float32 in the place of the type that it computes in.

    KryptonDB computes in float32: more than a half holds, and what its answers are compared in.
    """
    if isinstance(value, list):
        return [_in_float32(item, reduced) for item in value]
    if not isinstance(value, dict):
        return value
    changed = {key: _in_float32(item, reduced) for key, item in value.items()}
    for key in ("dtype", "as_scalar_type"):
        if type(changed.get(key)) is int and changed[key] == reduced:
            changed[key] = FLOAT32
    if isinstance(changed.get("as_float"), float):
        changed["as_float"] = max(-LARGEST_FLOAT32, min(LARGEST_FLOAT32, changed["as_float"]))
    return changed


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
