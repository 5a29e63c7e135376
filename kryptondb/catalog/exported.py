"""`'file.pt2'`: a program saved by `torch.export.save`, loaded without trusting it.

`torch.export.load` unpickles sample inputs, custom objects and odd tensors, evaluates symbolic sizes as Python, builds
Python source from the names in the graph, and loads compiled libraries. So the file itself is never given to it. Its
records are read here as plain bytes, everything that could be executed is refused or left out (program_check.py), and a
new archive in memory with nothing but a checked graph and raw tensors is what torch loads.
"""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kryptondb.catalog.model import SourceModel, freeze, reading
from kryptondb.catalog.options import ModelOptions, for_input
from kryptondb.catalog.program_check import (
    BFLOAT16,
    BOOL,
    FLOAT16,
    FLOAT32,
    FLOAT64,
    InputShape,
    check_payloads,
    check_program,
)
from kryptondb.errors import ModelError
from kryptondb.files.regular import check_regular
from kryptondb.options.tables import PREPROCESS_OPTIONS, SCORE_OPTIONS
from kryptondb.process.torch_state import building

if TYPE_CHECKING:
    import torch

MAX_RECORDS = 200_000
MAX_PROGRAM_BYTES = 256 << 20  # of the graph's JSON: MaxViT's is 4 MB
MAX_ARCHIVE_BYTES = 16 << 30
_REDUCED = {FLOAT16: "float16", BFLOAT16: "bfloat16", FLOAT64: "float64"}
EXPORT_HINT = (
    "Export it again: torch.export.save(torch.export.export(model.eval(), (images,),"
    " dynamic_shapes=({0: torch.export.Dim('batch')},)), 'file.pt2')."
)


def build(path: str, options: ModelOptions) -> SourceModel:
    """Loads an exported program that takes one picture batch [N, C, H, W] of floating point numbers.

    One that computes in another type than float32 is read in float32. Before any of it runs, the sizes of all its
    values are found and bounded. Raises ModelError when the file is missing, damaged, holds anything that would have to
    be executed to be loaded, grows out of bounds, or takes other inputs than the options say.
    """
    from kryptondb.catalog.sizes import check_sizes

    options.only("an exported program", *SCORE_OPTIONS, "layout", *PREPROCESS_OPTIONS)
    with reading(path, EXPORT_HINT):
        check_regular(path, MAX_ARCHIVE_BYTES)
    archive, program, shape = _checked_archive(path)
    if options.layout == "channels_last":
        shape = shape[2], shape[0], shape[1]
    preprocess = for_input(shape, options, path)
    module = _load(archive, path)
    batch = 2, preprocess.channel_count, preprocess.height, preprocess.width
    if options.layout == "channels_last":
        batch = batch[0], *batch[2:], batch[1]
    check_sizes(freeze(module), batch, path, EXPORT_HINT)
    return SourceModel(
        architecture="exported program",
        structure=program,
        module=module,
        preprocess=preprocess,
        weights=path,
        files=(path,),
    )


def _checked_archive(path: str) -> tuple[bytes, str, InputShape]:
    """A new archive with the checked records of the file, the graph in text, and the input's shape."""
    try:
        with zipfile.ZipFile(path) as source:
            records = _records(source, path)
            program = _json(source, records, "models/model.json", path)
            configs = {
                kind: _json(source, records, f"data/{kind}/model_{kind}_config.json", path)
                for kind in ("weights", "constants")
            }
            checked = check_program(program, path)
            text = json.dumps(checked.program, sort_keys=True)
            target = io.BytesIO()
            with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as output:

                def write(name: str, data: bytes) -> None:
                    output.writestr(zipfile.ZipInfo(f"model/{name}"), data)

                for name in ("archive_format", "archive_version", ".data/version", "byteorder"):
                    write(name, _small(source, records, name, path))
                write("models/model.json", text.encode())
                write("data/sample_inputs/model.pt", b"")  # a pickle in the file: left out
                for kind, config in configs.items():
                    sizes = {
                        n.rpartition("/")[2]: e.file_size for n, e in records.items() if n.startswith(f"data/{kind}/")
                    }
                    payloads = check_payloads(config, sizes, kind, path)
                    for record in sorted({entry["path_name"] for entry in payloads["config"].values()}):
                        data = source.read(records[f"data/{kind}/{record}"])
                        write(f"data/{kind}/{record}", _payload(data, record, payloads, checked.reduced, path))
                    write(f"data/{kind}/model_{kind}_config.json", json.dumps(payloads).encode())
            return target.getvalue(), text, checked.shape
    except (zipfile.BadZipFile, OSError, ValueError, RecursionError, NotImplementedError) as error:
        raise ModelError(f"{path} is not a sound exported program: {error}", hint=EXPORT_HINT) from error


def _records(source: zipfile.ZipFile, path: str) -> dict[str, zipfile.ZipInfo]:
    """The archive's records by name behind its own folder; refuses what torch would not have written."""
    entries = source.infolist()
    if len(entries) > MAX_RECORDS:
        raise ModelError(f"{path} holds {len(entries):,} records, more than {MAX_RECORDS:,}")
    if any("/code/" in entry.filename or entry.filename.endswith("/constants.pkl") for entry in entries):
        raise ModelError(f"{path} is a TorchScript archive, not an exported program", hint=EXPORT_HINT)
    records: dict[str, zipfile.ZipInfo] = {}
    for entry in entries:
        name = entry.filename.partition("/")[2]
        stored = entry.compress_type == zipfile.ZIP_STORED and entry.compress_size == entry.file_size
        if not stored or entry.flag_bits & 1 or name in records:
            raise ModelError(f"{path} is compressed, encrypted or ambiguous, which torch.export.save does not write")
        if name.startswith("data/aotinductor/"):
            raise ModelError(f"{path} holds compiled code, which KryptonDB does not run", hint=EXPORT_HINT)
        records[name] = entry
    if sum(entry.file_size for entry in entries) > Path(path).stat().st_size:  # records that share their bytes
        raise ModelError(f"{path} would grow when unpacked, which torch.export.save does not write")
    if "models/model.json" not in records:
        raise ModelError(f"{path} is not an exported program of this torch", hint=EXPORT_HINT)
    return records


def _payload(data: bytes, record: str, payloads: dict[str, Any], reduced: int | None, path: str) -> bytes:
    """The bytes of a record; those of the type that the program computes in become float32, in `payloads` too."""
    import torch

    from kryptondb.network.functions import bytes_are_flags

    metas = [entry["tensor_meta"] for entry in payloads["config"].values() if entry["path_name"] == record]
    dtypes = {meta["dtype"] for meta in metas}
    if BOOL in dtypes and not bytes_are_flags(torch.frombuffer(bytearray(data or b"\0"), dtype=torch.uint8)):
        raise ModelError(f"{path} is refused: it holds flags that are neither true nor false ({record})")
    if reduced is None or reduced not in dtypes:
        return data
    if len(dtypes) > 1:
        raise ModelError(f"{path} is refused: it reads {record} as numbers of two types")
    for meta in metas:
        meta["dtype"] = FLOAT32
    if not data:
        return data
    read = torch.frombuffer(bytearray(data), dtype=getattr(torch, _REDUCED[reduced]))
    found = read.to(torch.float32)
    if not torch.equal(found.isfinite(), read.isfinite()):
        raise ModelError(f"{path} holds weights beyond the range of float32, which KryptonDB computes in ({record})")
    return found.numpy().tobytes()


def _small(source: zipfile.ZipFile, records: dict[str, zipfile.ZipInfo], name: str, path: str) -> bytes:
    """A record of a few letters that describes the archive."""
    allowed = {"archive_format": b"pt2", "byteorder": b"little"}
    if name not in records or records[name].file_size > 16:
        raise ModelError(f"{path} is not an exported program of this torch: no {name}", hint=EXPORT_HINT)
    data = source.read(records[name])
    if data != allowed.get(name, data) or not (name in allowed or data.strip().isdigit()):
        raise ModelError(f"{path} is not an exported program: its {name} is {data!r}", hint=EXPORT_HINT)
    return data


def _json(source: zipfile.ZipFile, records: dict[str, zipfile.ZipInfo], name: str, path: str) -> dict[str, Any]:
    """A JSON object out of the archive, of bounded size."""
    if name not in records:
        raise ModelError(f"{path} was saved by another version of torch: it has no {name}", hint=EXPORT_HINT)
    if records[name].file_size > MAX_PROGRAM_BYTES:
        raise ModelError(f"{path} has a graph of more than {MAX_PROGRAM_BYTES >> 20} MiB")
    value = json.loads(source.read(records[name]))
    if not isinstance(value, dict):
        raise ModelError(f"{path} is not a sound exported program: {name} holds no object")
    return value


def _load(archive: bytes, path: str) -> torch.nn.Module:
    """The checked archive as a module. Input guards are left out: `count_classes` tries it on a batch."""
    import torch

    from kryptondb.catalog.program_functions import substitute

    with building() as caught:
        try:
            program = torch.export.load(io.BytesIO(archive))
            return substitute(program.module(check_guards=False))
        except Exception as error:  # torch raises whatever it meets in a graph that does not hold together
            lines = str(caught[0] if caught else error).strip().splitlines() or [type(error).__name__]
            raise ModelError(f"{path} cannot be loaded: {lines[0][:300]}", hint=EXPORT_HINT) from error
