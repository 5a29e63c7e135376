"""Damage to a file: of its bytes, and of what its format holds, behind checksums that are right."""

from __future__ import annotations

import io
import json
import random
import sqlite3
import zipfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import torch

from benchmarks.fuzz_images import damage as of_bytes
from benchmarks.fuzz_models.originals import Original

EXTREME = (
    0,
    1,
    -1,
    2,
    3,
    5,
    7,
    64,
    255,
    1 << 16,
    1 << 31,
    -(1 << 31),
    (1 << 31) - 1,
    1 << 40,
    (1 << 63) - 1,
    -(1 << 63),
)
_FLOATS = (0.0, 1.0, -1.0, 0.5, 1e-30, 1e30, -1e300, 3.5)
_STRANGE: tuple[Any, ...] = (
    *(None, -1, 10**30, "x", [], {}, {"as_int": 1}, [{}], True, 0.5, "", "a\nb", "\ud800", "/", "../x", "é" * 300),
    *("NaN", "Infinity", [[[[[[]]]]]], {"as_expr": {"expr_str": "s77", "hint": None}}, "float32", 1 << 63),
)
_SIZES = (
    *("s77", "2*s77", "s77*s77", "s77 + 1", "-s77", "s77 // 0", "s77 % 0", "FloorDiv(s77, 0)", "Mod(s77, 3)", "zuf1"),
    *("Max(1, s77)", "Mul(Integer(1000000), Symbol('s77', positive=True, integer=True))", "Where(s77, 1, 2)"),
    *(
        "ModularIndexing(s77, 3, 7)",
        "IntTrueDiv(s77, 2)",
        "Add(s77, s78, s79)",
        "u0",
        "CeilDiv(s77, 3)",
        "ToFloat(s77)",
    ),
    *("*".join(["s77"] * 60), "+".join(f"s{i}*s{i + 1}" for i in range(60)), "Not(s77)", "Max(" + "s77, " * 50 + "1)"),
)


@dataclass(frozen=True)
class Case:
    """One damaged file. `same` says that a file that is taken must answer as its original does."""

    number: int
    original: Original
    data: bytes
    same: bool
    seed: str


def case(number: int, seed: int, originals: Sequence[Original]) -> Case:
    """The case of a number, the same on every machine with the same packages."""
    chance = random.Random(f"{seed} {number}")
    formats = sorted({original.format for original in originals})
    format = formats[number % len(formats)]
    original = chance.choice([original for original in originals if original.format == format])
    if chance.random() < 0.03:
        return Case(number, original, original.data, True, f"{seed} {number}")
    if chance.random() < 0.2:
        data = bytearray(original.data)
        for _ in range(chance.randint(1, 3)):
            chance.choice((of_bytes._change_bytes, of_bytes._make_extreme, of_bytes._cut_out, of_bytes._repeat))(
                data, chance
            )
        return Case(number, original, bytes(data), format == "pt2", f"{seed} {number}")
    return Case(number, original, CHANGES[format](original.data, chance), False, f"{seed} {number}")


# JSON


def strange(value: Any, chance: random.Random, chosen: Sequence[Any] = _STRANGE) -> None:
    """Changes one thing somewhere in a JSON value: puts something strange there, takes it out, or doubles it."""
    while True:
        keys = list(value) if isinstance(value, dict) else list(range(len(value)))
        if not keys:
            return
        key = chance.choice(keys)
        if isinstance(value[key], (dict, list)) and value[key] and chance.random() < 0.9:
            value = value[key]
            continue
        kind = chance.random()
        if kind < 0.15:
            del value[key]
        elif kind < 0.25 and isinstance(value, list):
            value.insert(key, value[key])
        elif kind < 0.5 and type(value[key]) is int:
            value[key] = chance.choice(EXTREME)
        else:
            value[key] = json.loads(json.dumps(chance.choice(chosen)))
        return


# Exported programs


def _program(data: bytes, chance: random.Random) -> bytes:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        records = {name: archive.read(name) for name in archive.namelist()}
    folder = next(iter(records)).partition("/")[0]
    model = json.loads(records[f"{folder}/models/model.json"])
    graph = model["graph_module"]["graph"]
    for _ in range(chance.choice((1, 1, 2))):
        kind = chance.random()
        with suppress(KeyError, TypeError, AttributeError, IndexError, ValueError):  # it is damaged there already
            if kind < 0.5:
                _call(graph, chance)
            elif kind < 0.62:
                _argument(graph, chance)
            elif kind < 0.72:
                _size(model, chance)
            elif kind < 0.8:
                strange(model, chance)
            else:
                _weight(records, folder, chance)
    records[f"{folder}/models/model.json"] = json.dumps(model).encode()
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
        for name, record in records.items():
            archive.writestr(zipfile.ZipInfo(name), record)
    return stream.getvalue()


def operators() -> list[torch._ops.OpOverload]:
    """What passes by its name."""
    from kryptondb.catalog.program_functions import SUBSTITUTES
    from kryptondb.network.functions import OPERATORS, listed

    named = [name.split(".") for name in SUBSTITUTES]
    found = [getattr(getattr(torch.ops.aten, name), overload) for name, overload in named]
    for name in OPERATORS:
        overloads = getattr(torch.ops.aten, name).overloads()
        found.extend(operator for overload in overloads if (operator := listed(name, overload)) is not None)
    return found


_OPERATORS: list[torch._ops.OpOverload] = []
_UNLISTED = (
    *(
        "max_unpool2d.default",
        "put_.default",
        "segment_reduce.default",
        "nll_loss_backward.default",
        "set_.source_Tensor",
    ),
    *("resize_.default", "as_strided_.default", "index_put_.default", "empty.memory_format", "_ctc_loss.default"),
)


def _call(graph: dict[str, Any], chance: random.Random) -> None:
    """Adds a call of any operator with any arguments; what it gives is added to the scores, times nothing."""
    if not _OPERATORS:
        _OPERATORS.extend(operators())
    nodes = graph["nodes"]
    names = list(graph["tensor_values"])
    if chance.random() < 0.04:  # what does not pass
        target, schema = f"torch.ops.aten.{chance.choice(_UNLISTED)}", chance.choice(_OPERATORS)._schema
    else:
        operator = chance.choice(_OPERATORS)
        target, schema = f"torch.ops.{operator}".replace("ops.aten::", "ops.aten."), operator._schema
    inputs = []
    for argument in schema.arguments:
        if argument.has_default_value() and chance.random() < 0.5:
            continue
        value = _value(str(argument.type), argument.name, names, chance)
        if value is not None:
            inputs.append({"name": argument.name, "arg": value, "kind": 2 if argument.kwarg_only else 1})
    place = len(nodes) if chance.random() < 0.8 else chance.randrange(len(nodes) + 1)
    meta = json.loads(json.dumps(graph["tensor_values"][names[-1]]))
    result = f"fuzzed_{len(nodes)}"
    outputs: list[dict[str, Any]] = []
    for number, given in enumerate(schema.returns):
        name = result if number == 0 else f"{result}_{number}"
        graph["tensor_values"][name] = meta
        tag = {"Tensor": "as_tensor", "List[Tensor]": "as_tensors"}.get(str(given.type), "as_tensor")
        outputs.append({tag: {"name": name} if tag == "as_tensor" else [{"name": name}]})
    added = [_node(target, inputs, outputs, result)]
    before = (
        graph["outputs"][0]["as_tensor"]["name"] if graph["outputs"] and "as_tensor" in graph["outputs"][0] else None
    )
    if before is not None and place == len(nodes) and outputs:
        summed, scaled, last = f"{result}_s", f"{result}_m", f"{result}_a"
        for name in (summed, scaled, last):
            graph["tensor_values"][name] = meta
        added.append(_of("sum.default", {"self": result}, summed))
        added.append(
            _of("mul.Scalar", {"self": summed}, scaled, {"name": "other", "arg": {"as_float": 0.0}, "kind": 1})
        )
        added.append(_of("add.Tensor", {"self": before, "other": scaled}, last))
    nodes[place:place] = added


def joined(model: dict[str, Any]) -> None:
    """Makes the last value that was added the program's output."""
    graph = model["graph_module"]["graph"]
    last = [node["name"] for node in graph["nodes"] if str(node.get("name", "")).endswith("_a")]
    if last:
        old = graph["outputs"][0]["as_tensor"]["name"]
        graph["outputs"][0]["as_tensor"]["name"] = last[-1]
        for spec in model["graph_module"]["signature"]["output_specs"]:
            if spec.get("user_output", {}).get("arg", {}).get("as_tensor", {}).get("name") == old:
                spec["user_output"]["arg"]["as_tensor"]["name"] = last[-1]


def _node(target: str, inputs: list[Any], outputs: list[Any], name: str) -> dict[str, Any]:
    return {
        "target": target,
        "inputs": inputs,
        "outputs": outputs,
        "metadata": {},
        "is_hop_single_tensor_return": None,
        "name": name,
    }


def _of(operator: str, tensors: dict[str, str], name: str, *more: dict[str, Any]) -> dict[str, Any]:
    inputs = [{"name": key, "arg": {"as_tensor": {"name": value}}, "kind": 1} for key, value in tensors.items()]
    return _node(f"torch.ops.aten.{operator}", [*inputs, *more], [{"as_tensor": {"name": name}}], name)


def _whole(chance: random.Random) -> int:
    return chance.randint(-2, 6) if chance.random() < 0.7 else chance.choice(EXTREME)


def _value(kind: str, name: str, names: Sequence[str], chance: random.Random) -> dict[str, Any] | None:
    """An argument of a schema's type, at random; None for one that is left out."""
    optional = kind.startswith("Optional[")
    if optional:
        if chance.random() < 0.5:
            return {"as_none": True}
        kind = kind.removeprefix("Optional[").removesuffix("]")
    tensor = {"name": chance.choice(names)}
    if name in ("training", "train", "use_input_stats"):
        return {"as_bool": False}
    if name == "dtype":
        return {"as_scalar_type": chance.choice((1, 4, 5, 6, 7, 8, 12, 13))}
    if kind == "Tensor":
        return {"as_optional_tensor": {"as_tensor": tensor}} if optional else {"as_tensor": tensor}
    if kind.startswith("List[") and "Tensor" in kind:
        chosen = [{"name": chance.choice(names)} for _ in range(chance.randint(1, 3))]
        if "Optional" in kind:
            return {
                "as_optional_tensors": [
                    {"as_tensor": c} if chance.random() < 0.8 else {"as_none": True} for c in chosen
                ]
            }
        return {"as_tensors": chosen}
    if kind.startswith("List["):
        count = chance.randint(1, 4)
        if "float" in kind:
            return {"as_floats": [chance.choice(_FLOATS) for _ in range(count)]}
        if "bool" in kind:
            return {"as_bools": [chance.random() < 0.5 for _ in range(count)]}
        return {"as_ints": [_whole(chance) for _ in range(count)]}
    if kind in ("int", "SymInt"):
        return {"as_int": _whole(chance)}
    if kind == "float":
        return {"as_float": chance.choice(_FLOATS)}
    if kind == "bool":
        return {"as_bool": chance.random() < 0.5}
    if kind in ("Scalar", "number"):
        return {"as_int": _whole(chance)} if chance.random() < 0.5 else {"as_float": chance.choice(_FLOATS)}
    if kind == "str":
        return {
            "as_string": chance.choice(("none", "tanh", "reflect", "mean", "ij", "floor", "ij,jk->ik", "same", "fro"))
        }
    return None


def _argument(graph: dict[str, Any], chance: random.Random) -> None:
    """Changes an argument of a call that is there."""
    node = chance.choice(graph["nodes"])
    if not node["inputs"]:
        return
    argument = chance.choice(node["inputs"])["arg"]
    tag, value = next(iter(argument.items()))
    if tag == "as_tensor":
        value["name"] = chance.choice(list(graph["tensor_values"]))
    elif tag in ("as_int", "as_ints"):
        argument[tag] = _whole(chance) if tag == "as_int" else [_whole(chance) for _ in value]
    elif tag in ("as_float", "as_floats"):
        argument[tag] = chance.choice(_FLOATS) if tag == "as_float" else [chance.choice(_FLOATS) for _ in value]
    else:
        strange(argument, chance)


def _size(model: dict[str, Any], chance: random.Random) -> None:
    """Says another size, stride or type of a value, perhaps a symbolic one."""
    values = model["graph_module"]["graph"]["tensor_values"]
    meta = values[chance.choice(list(values))]
    key = chance.choice(("sizes", "strides", "sizes", "dtype"))
    if key == "dtype":
        meta["dtype"] = chance.randint(0, 36)
    elif meta[key]:
        symbolic = {"as_expr": {"expr_str": chance.choice(_SIZES), "hint": chance.choice((None, {"as_int": 2}))}}
        meta[key][chance.randrange(len(meta[key]))] = (
            symbolic if chance.random() < 0.6 else {"as_int": chance.choice(EXTREME)}
        )


def _weight(records: dict[str, bytes], folder: str, chance: random.Random) -> None:
    """Damages the list of weights, or the bytes of one."""
    name = f"{folder}/data/weights/model_weights_config.json"
    payloads = [key for key in records if "/data/weights/weight_" in key or "/data/constants/tensor_" in key]
    if payloads and chance.random() < 0.4:
        key = chance.choice(payloads)
        data = bytearray(records[key])
        chance.choice((of_bytes._change_bytes, of_bytes._make_extreme, of_bytes._cut_out))(data, chance)
        records[key] = bytes(data)
        return
    config = json.loads(records[name])
    if config["config"] and chance.random() < 0.6:
        meta = chance.choice(list(config["config"].values()))["tensor_meta"]
        key = chance.choice(("sizes", "strides", "storage_offset", "dtype"))
        if key == "dtype":
            meta["dtype"] = chance.randint(0, 36)
        elif key == "storage_offset" or not meta[key]:
            meta["storage_offset"] = {"as_int": chance.choice(EXTREME)}
        else:
            meta[key][chance.randrange(len(meta[key]))] = {"as_int": chance.choice(EXTREME)}
    else:
        strange(config, chance)
    records[name] = json.dumps(config).encode()


def _joined_program(data: bytes, chance: random.Random) -> bytes:
    """The output is what the last added call gave: otherwise nothing would compute it."""
    changed = _program(data, chance)
    with zipfile.ZipFile(io.BytesIO(changed)) as archive:
        records = {name: archive.read(name) for name in archive.namelist()}
    folder = next(iter(records)).partition("/")[0]
    model = json.loads(records[f"{folder}/models/model.json"])
    with suppress(KeyError, TypeError, AttributeError, IndexError):  # it is damaged there already
        joined(model)
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
        for name, record in records.items():
            archive.writestr(
                zipfile.ZipInfo(name), json.dumps(model).encode() if name.endswith("models/model.json") else record
            )
    return stream.getvalue()


# ONNX


def _onnx(data: bytes, chance: random.Random) -> bytes:
    from onnx import ModelProto, helper

    model = ModelProto()
    model.ParseFromString(data)
    graph = model.graph
    for _ in range(chance.choice((1, 1, 2, 3))):
        node = chance.choice(graph.node)
        kind = chance.random()
        if kind < 0.2:
            node.op_type = chance.choice((*_ONNX_OPERATORS, "Scan", "x"))
        elif kind < 0.4 and node.attribute:
            attribute = chance.choice(node.attribute)
            if attribute.ints:
                attribute.ints[chance.randrange(len(attribute.ints))] = chance.choice(EXTREME)
            else:
                attribute.i = chance.choice(EXTREME)
        elif kind < 0.55:
            names = [name for each in graph.node for name in each.output] + [each.name for each in graph.initializer]
            if node.input:
                node.input[chance.randrange(len(node.input))] = chance.choice([*names, "", "images"])
        elif kind < 0.75:
            weight = chance.choice(graph.initializer)
            if chance.random() < 0.5 and weight.dims:
                weight.dims[chance.randrange(len(weight.dims))] = chance.choice(EXTREME)
            elif weight.data_type == 7:
                count = len(weight.raw_data) // 8
                values = [chance.choice(EXTREME) & (2**64 - 1) for _ in range(count)]
                weight.raw_data = b"".join(value.to_bytes(8, "little") for value in values)
            else:
                weight.data_type = chance.randint(0, 24)
        elif kind < 0.85:
            attribute = helper.make_attribute(
                chance.choice(("axis", "mode", "pads", "group", "to", "keepdims")),
                chance.choice((1, -7, "x", [1, 2], 2.5)),
            )
            node.attribute.append(attribute)
        elif kind < 0.9:
            model.opset_import[0].version = chance.choice((1, 7, 9, 10, 11, 13, 18, 21, 99, -1))
        elif kind < 0.95:
            graph.node.remove(node)
            if not graph.node:
                break
        else:
            shape = graph.input[0].type.tensor_type.shape.dim
            shape[chance.randrange(len(shape))].dim_value = chance.choice(EXTREME)
    return model.SerializeToString()


_ONNX_OPERATORS = (
    *("Add", "Mul", "Div", "Relu", "Expand", "Tile", "Range", "ConstantOfShape", "Gather", "GatherElements", "Resize"),
    *(
        "Pad",
        "Slice",
        "Reshape",
        "Transpose",
        "Concat",
        "Split",
        "Squeeze",
        "Unsqueeze",
        "Shape",
        "Cast",
        "Conv",
        "Einsum",
    ),
    *(
        "ConvTranspose",
        "MaxPool",
        "AveragePool",
        "LRN",
        "Where",
        "NonZero",
        "ScatterND",
        "TopK",
        "Loop",
        "If",
        "OneHot",
    ),
)


# Weights


def _safetensors(data: bytes, chance: random.Random) -> bytes:
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    entry = chance.choice([value for key, value in header.items() if key != "__metadata__"])
    kind = chance.random()
    if kind < 0.3:
        entry["shape"] = [chance.choice(EXTREME) for _ in range(chance.randint(0, 4))]
    elif kind < 0.5:
        entry["dtype"] = chance.choice(("F64", "I64", "BOOL", "BF16", "F8_E4M3", "U16", "X", "C64"))
    elif kind < 0.7:
        entry["data_offsets"] = [chance.choice(EXTREME), chance.choice(EXTREME)]
    else:
        strange(header, chance)
    text = json.dumps(header).encode("utf-8", "surrogatepass")
    shown = len(text) if chance.random() < 0.9 else chance.choice(EXTREME) & (2**64 - 1)
    return shown.to_bytes(8, "little") + text + data[8 + length :]


def _pth(data: bytes, chance: random.Random) -> bytes:
    if not zipfile.is_zipfile(io.BytesIO(data)):
        damaged = bytearray(data)
        for _ in range(chance.randint(1, 4)):
            chance.choice((of_bytes._change_bytes, of_bytes._make_extreme, of_bytes._cut_out))(damaged, chance)
        return bytes(damaged)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        records = {name: archive.read(name) for name in archive.namelist()}
    key = chance.choice([*records, *[name for name in records if name.endswith("data.pkl")] * 8])
    damaged = bytearray(records[key])
    kind = chance.random()
    if kind < 0.3 and key.endswith("data.pkl"):
        opcodes = [
            b"cbuiltins\nbytearray\nJ\x00\xca\x9a\x3b\x85R",
            b"J\xff\xff\xff\x7f",
            b"(",
            b"t",
            b"R",
            b"b",
            b"h\x01",
            b"0",
        ]
        place = chance.randrange(len(damaged))
        damaged[place:place] = chance.choice(opcodes)
    else:
        for _ in range(chance.randint(1, 3)):
            chance.choice((of_bytes._change_bytes, of_bytes._make_extreme, of_bytes._cut_out, of_bytes._repeat))(
                damaged, chance
            )
    records[key] = bytes(damaged)
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
        for name, record in records.items():
            archive.writestr(zipfile.ZipInfo(name), record)
    return stream.getvalue()


# Databases and records


_CELLS: tuple[Any, ...] = (
    *(
        None,
        "",
        "x",
        -1,
        1 << 62,
        0.5,
        b"\xff\x00",
        "{",
        "{}",
        "[]",
        "null",
        '{"a": 1}',
        "\x1b[31m",
        "/dev/zero",
        "[" * 5000,
    ),
    *("9" * 5000, '{"labels": 5}', "é" * 5000, "1e999", "2024-01-01"),
)


def _database(data: bytes, chance: random.Random) -> bytes:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.deserialize(data)
    with suppress(sqlite3.Error, IndexError, ValueError, RecursionError):  # it is damaged there already
        connection.execute("PRAGMA writable_schema = ON")
        for _ in range(chance.choice((1, 1, 2, 3))):
            tables = [row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
            table = chance.choice(tables)
            columns = [row[1] for row in connection.execute(f'PRAGMA table_info("{table}")')]
            column = chance.choice(columns)
            kind = chance.random()
            if kind < 0.6:
                rows = [row[0] for row in connection.execute(f'SELECT rowid FROM "{table}"')]
                values = [row[0] for row in connection.execute(f'SELECT "{column}" FROM "{table}"')]
                value = chance.choice(_CELLS)
                texts = [text for text in values if isinstance(text, str) and text[:1] in "[{"]
                if texts and chance.random() < 0.6:
                    parsed = json.loads(chance.choice(texts))
                    with suppress(IndexError):
                        strange(parsed, chance)
                    value = json.dumps(parsed)
                if rows:
                    connection.execute(
                        f'UPDATE "{table}" SET "{column}" = ? WHERE rowid = ?', (value, chance.choice(rows))
                    )
                else:
                    cells = [chance.choice(_CELLS) for _ in columns]
                    connection.execute(f'INSERT INTO "{table}" VALUES ({", ".join("?" * len(cells))})', cells)
            elif kind < 0.7:
                cells = [chance.choice(_CELLS) for _ in columns]
                connection.execute(f'INSERT INTO "{table}" VALUES ({", ".join("?" * len(cells))})', cells)
            elif kind < 0.78:
                connection.execute(f'ALTER TABLE "{table}" DROP COLUMN "{column}"')
            elif kind < 0.84:
                connection.execute(f'DROP TABLE "{table}"')
            elif kind < 0.92:
                connection.execute(f"PRAGMA user_version = {chance.choice((0, 1, 2, 3, 99, -1))}")
            else:
                connection.execute(
                    f'CREATE TRIGGER t{chance.randrange(99)} AFTER UPDATE ON "{table}" BEGIN DELETE FROM "{table}"; END'
                )
    with suppress(sqlite3.Error):
        return connection.serialize()
    return data


def _manifest(data: bytes, chance: random.Random) -> bytes:
    lines = [json.loads(line) for line in data.splitlines()]
    for _ in range(chance.choice((1, 1, 2))):
        strange(
            lines, chance, (*_STRANGE, "part-99999.parquet", "part-" + "9" * 5000 + ".parquet", "../part-00001.parquet")
        )
    written = "\n".join(json.dumps(line) for line in lines).encode()
    return written + (b"\n" if chance.random() < 0.8 else b"")


CHANGES: dict[str, Callable[[bytes, random.Random], bytes]] = {
    "database": _database,
    "manifest": _manifest,
    "onnx": _onnx,
    "pt2": _joined_program,
    "pth": _pth,
    "safetensors": _safetensors,
}
