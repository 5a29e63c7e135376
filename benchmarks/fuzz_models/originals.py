"""The sound files that are damaged: small networks in every form that a session reads them in, and what it keeps."""

from __future__ import annotations

import io
import json
import sqlite3
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

SIDE = 12


@dataclass(frozen=True)
class Original:
    """A sound file. `scores` are what its model gives for `picture()`, None for files that are not models."""

    format: str
    name: str
    data: bytes
    scores: tuple[float, ...] | None = None


def picture() -> torch.Tensor:
    """The batch that models are compared on, [2, 3, SIDE, SIDE]."""
    return torch.rand(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))


def network() -> nn.Module:
    """[N, 3, SIDE, SIDE] -> [N, 5]; weights files are for it."""
    torch.manual_seed(0)
    body = (nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten())
    return nn.Sequential(*body, nn.Linear(4 * (SIDE // 2) ** 2, 5)).eval()


class Indexing(nn.Module):
    """Has tensors of every kind that operators read: indices, flags, scales, pictures, matrices."""

    def __init__(self) -> None:
        super().__init__()
        self.net = network()
        self.register_buffer("places", torch.tensor([0, 3, 2, 1, 4]))
        self.register_buffer("far", torch.tensor([10**11, -(2**63), -1, 5, 0]))
        self.register_buffer("flags", torch.tensor([True, False, True, True, False]))
        self.register_buffer("scales", torch.tensor([1.0, 2.0, 0.5, -1.0, float("inf")]))
        self.register_buffer("matrix", torch.arange(25.0).reshape(5, 5))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        scores = self.net(images)[:, self.places]
        kept = torch.where(self.flags, scores, 0.0) + (self.far * 0).to(scores.dtype) + self.scales.clamp(0, 1)
        return kept @ self.matrix + images.mean((1, 2, 3))[:, None]


class Reshaping(nn.Module):
    """Computes with symbolic sizes: windows of a picture become a batch and come back."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        count = images.shape[0]
        windows = images.view(count, 3, 2, SIDE // 2, 2, SIDE // 2).permute(0, 2, 4, 1, 3, 5)
        tokens = windows.reshape(count * 4, 3, -1).softmax(-1)
        attended = nn.functional.scaled_dot_product_attention(tokens, tokens, tokens)
        return attended.reshape(count, 4, 3, -1).mean((1, 3)).chunk(1, 1)[0]


def originals() -> list[Original]:
    """All of them, in a fixed order."""
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        return [*_programs(), *_onnx(), *_weights(), *_databases(), *_manifests()]


def _scored(module: nn.Module) -> tuple[float, ...]:
    return tuple(module(picture()).flatten().tolist())


def _programs() -> Iterator[Original]:
    batch = torch.export.Dim("batch")
    for name, module in (("plain", network()), ("indexing", Indexing().eval()), ("reshaping", Reshaping().eval())):
        program = torch.export.export(module, (picture(),), dynamic_shapes=({0: batch},))
        stream = io.BytesIO()
        torch.export.save(program, stream)
        yield Original("pt2", f"{name}.pt2", stream.getvalue(), _scored(module))


def _onnx() -> Iterator[Original]:
    """Two graphs: layers with weights, and shapes computed from shapes."""
    from onnx import TensorProto, checker, helper, numpy_helper

    module = network()
    state = {name.replace(".", "_"): value.numpy() for name, value in module.state_dict().items() if value.ndim}
    images = helper.make_tensor_value_info("images", TensorProto.FLOAT, ["n", 3, SIDE, SIDE])
    scores = helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["n", 5])
    node = helper.make_node
    layers = [
        node("Conv", ["images", "0_weight", "0_bias"], ["a"], kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        node("BatchNormalization", ["a", "1_weight", "1_bias", "1_running_mean", "1_running_var"], ["b"], epsilon=1e-5),
        node("Relu", ["b"], ["c"]),
        node("MaxPool", ["c"], ["d"], kernel_shape=[2, 2], strides=[2, 2]),
    ]
    flat = [node("Flatten", ["d"], ["e"]), node("Gemm", ["e", "5_weight", "5_bias"], ["scores"], transB=1)]
    shaped = [
        node("Resize", ["d", "", "two"], ["big"], mode="nearest"),
        node("Pad", ["big", "pads"], ["padded"], mode="constant"),
        node("Slice", ["padded", "ones", "ends", "axes"], ["cut"]),
        node("AveragePool", ["cut"], ["pooled"], kernel_shape=[2, 2], strides=[2, 2]),
        node("Shape", ["pooled"], ["shape"]),
        node("Gather", ["shape", "zero"], ["count"], axis=0),
        node("Unsqueeze", ["count", "zeros"], ["counts"]),
        node("ConstantOfShape", ["zeros"], ["nothing"]),
        node("Concat", ["counts", "minus"], ["wanted"], axis=0),
        node("Reshape", ["pooled", "wanted"], ["e"]),
        node("Cast", ["five_weight"], ["w"], to=TensorProto.FLOAT),
        node("MatMul", ["e", "w"], ["product"]),
        node("Add", ["product", "5_bias"], ["sum"]),
        node("Softmax", ["sum"], ["soft"], axis=1),
        node("Log", ["soft"], ["scores"]),
    ]
    more: dict[str, Any] = {
        "two": np.array([1, 1, 2, 2], np.float32),
        "pads": np.array([0, 0, 1, 1, 0, 0, 1, 1], np.int64),
        "ones": np.array([1, 1], np.int64),
        "ends": np.array([13, 13], np.int64),
        "axes": np.array([2, 3], np.int64),
        "zero": np.array(0, np.int64),
        "zeros": np.array([0], np.int64),
        "minus": np.array([-1], np.int64),
        "five_weight": state["5_weight"].T.astype(np.float64),
    }
    for name, nodes, arrays in (("layers", layers + flat, state), ("shapes", layers + shaped, {**state, **more})):
        weights = [numpy_helper.from_array(np.array(value, order="C"), key) for key, value in arrays.items()]
        graph = helper.make_graph(nodes, name, [images], [scores], weights)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
        checker.check_model(model)
        yield Original("onnx", f"{name}.onnx", model.SerializeToString(), _onnx_scores(model.SerializeToString()))


def _onnx_scores(data: bytes) -> tuple[float, ...]:
    """What KryptonDB's own module gives for the sound file: it is compared with onnxruntime elsewhere."""
    from kryptondb.catalog import build_model

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "sound.onnx"
        path.write_bytes(data)
        return _scored(build_model("m", "file", str(path), {}).module)


def _weights() -> Iterator[Original]:
    from safetensors.torch import save

    state = network().state_dict()
    yield Original("safetensors", "plain.safetensors", save(state))
    half = {name: value.half() if value.is_floating_point() else value for name, value in state.items()}
    yield Original("safetensors", "half.safetensors", save(half))
    for name, value, zipped in (
        ("plain", state, True),
        ("wrapped", {"epoch": 3, "state_dict": state, "more": [1.5, "x", {"a": (1, 2)}]}, True),
        ("legacy", state, False),
    ):
        stream = io.BytesIO()
        torch.save(value, stream, _use_new_zipfile_serialization=zipped)
        yield Original("pth", f"{name}.pth", stream.getvalue())


def _databases() -> Iterator[Original]:
    import kryptondb

    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder) / "net.pt2"
        program.write_bytes(next(_programs()).data)
        path = Path(folder) / "clinic.krypton"
        with kryptondb.connect(str(path)) as session:
            session.sql(f"CREATE MODEL net FROM '{program}' WITH (labels => ('a', 'b', 'c', 'd', 'e'))")
            session.sql(f"CREATE MODEL other FROM '{program}' WITH (mean => 0.5)")
            session.sql("SET on_error = 'stop'")
        with sqlite3.connect(path) as connection:  # without a log of what is to come, all in one file
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            connection.execute("PRAGMA journal_mode = DELETE")
        yield Original("database", "clinic.krypton", path.read_bytes())


QUERY = {"statement": "SELECT HEATMAP FROM occlude(net, 'a.png')", "fingerprint": "0" * 64, "labels": "1" * 64}


def _manifests() -> Iterator[Original]:
    lines = [
        {"kryptondb": "0.1.0", "query": QUERY},
        {"part": "part-00001.parquet", "rows": 2, "bytes": 4, "images": [["a.png", "1:2"], ["b.png", "3:4"]]},
        {"failed": "c.png", "message": "it is damaged"},
        {"part": "part-00002.parquet", "rows": 1, "bytes": 4, "images": [["d.png", "5:6"]]},
    ]
    data = "".join(json.dumps(line) + "\n" for line in lines).encode()
    yield Original("manifest", "_manifest.jsonl", data)
