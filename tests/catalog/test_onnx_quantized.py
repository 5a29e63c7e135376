"""Quantized ONNX files: onnxruntime's answers to the last step, incrementally too, or a refusal by name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import kryptondb
from kryptondb.catalog.build import build_model
from kryptondb.errors import ModelError
from kryptondb.executor.kernels.choice import transformable
from kryptondb.network import trace
from tests.catalog.test_onnx_models import file_of, floats, node

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
RANDOM = np.random.default_rng(0)


def whole(*shape: int, kind: type[np.generic] = np.int8) -> np.ndarray:
    limits = np.iinfo(kind)
    return RANDOM.integers(max(limits.min, -20), min(limits.max, 20), shape, endpoint=True).astype(kind)


def answer(path: Path, images: np.ndarray) -> np.ndarray:
    """What onnxruntime says, running the file as it stands."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    found: np.ndarray = session.run(None, {session.get_inputs()[0].name: images})[0]
    return found


def fake(source: str, output: str, scale: str = "s", zero: str = "z", **more: Any) -> list[Any]:
    """A pair of QuantizeLinear and DequantizeLinear."""
    return [
        node("QuantizeLinear", [source, scale, zero], f"{output}/q", **more),
        node("DequantizeLinear", [f"{output}/q", scale, zero], output, **more),
    ]


def quantized(kind: type[np.generic], axis: bool = False) -> tuple[list[Any], dict[str, np.ndarray]]:
    """A residual network as onnxruntime's quantization writes it, with one scale for a weight or one for each channel.

    Scales are powers of two: with others onnxruntime's own sums round to one step or the next.
    """
    channels = 8
    of_weight = 2.0 ** -RANDOM.integers(5, 9, channels) if axis else 2.0**-7
    arrays = {
        "s": np.float32(2.0**-6),
        "z": np.asarray(3 if kind is not np.int16 else 0, kind),
        "ws": np.asarray(of_weight, np.float32),
        "w1": whole(channels, 3, 3, 3),
        "w2": whole(channels, channels, 3, 3),
        "gs": np.float32(2.0**-6),
        "w3": whole(channels, 5),
        "b1": whole(channels, kind=np.int32),
        "bs": np.asarray(of_weight * 2.0**-6, np.float32),
        "b3": floats(5),
    }
    per = {"axis": 0} if axis else {}
    nodes = [
        *fake("images", "x"),
        node("DequantizeLinear", ["w1", "ws"], "w1f", **per),
        node("DequantizeLinear", ["w2", "ws"], "w2f", **per),
        node("DequantizeLinear", ["b1", "bs"], "b1f", **per),
        node("DequantizeLinear", ["w3", "gs"], "w3f"),
        node("Conv", ["x", "w1f", "b1f"], "c", pads=[1, 1, 1, 1]),
        *fake("c", "cq"),
        node("Relu", ["cq"], "r"),
        *fake("r", "rq"),
        node("Conv", ["rq", "w2f"], "d", pads=[1, 1, 1, 1]),
        *fake("d", "dq"),
        node("Add", ["dq", "rq"], "e"),
        *fake("e", "eq"),
        node("MaxPool", ["eq"], "m", kernel_shape=[2, 2], strides=[2, 2]),
        *fake("m", "mq"),
        node("GlobalAveragePool", ["mq"], "g"),
        *fake("g", "gq"),
        node("Flatten", ["gq"], "f"),
        *fake("f", "fq"),
        node("Gemm", ["fq", "w3f", "b3"], "scores"),
    ]
    return nodes, arrays


@pytest.mark.parametrize("axis", [False, True])
@pytest.mark.parametrize("kind", [np.uint8, np.int8, np.uint16, np.int16])
def test_a_quantized_network_answers_as_onnxruntime_does(tmp_path: Path, kind: type[np.generic], axis: bool) -> None:
    nodes, arrays = quantized(kind, axis)
    path = file_of(tmp_path / "net.onnx", nodes, arrays, ["N", 3, 12, 12], opset=21)
    images = floats(4, 3, 12, 12) * 30
    got = build_model("net", "file", str(path), {}).module(torch.from_numpy(images))
    np.testing.assert_allclose(got, answer(path, images), atol=1e-5)


def test_a_quantized_network_runs_incrementally_to_the_last_step(tmp_path: Path) -> None:
    nodes, arrays = quantized(np.uint8)
    arrays |= {"s": np.float32(0.013), "ws": np.float32(0.0071), "bs": np.float32(0.013 * 0.0071)}
    path = file_of(tmp_path / "net.onnx", nodes, arrays, ["N", 3, 32, 32], opset=21)
    picture = RANDOM.integers(0, 256, (32, 32, 3), dtype=np.uint8)
    with kryptondb.connect() as db:
        told = db.sql(f"CREATE MODEL net FROM '{path}'").message
        assert told is not None and "incremental throughout" in told
        query = (
            "SELECT class, y, x, score FROM occlude(net, ?, patch => 5, stride => 3, class => ALL, score => 'logit')"
        )
        tables = [
            db.sql(f"{query} USING operator => '{name}'", [picture]).arrow()["score"].to_numpy()
            for name in ("full", "incremental")
        ]
    assert tables[0].std() > 0
    np.testing.assert_array_equal(*tables)


def test_no_convolution_before_a_rounding_is_computed_in_a_way_that_rounds_otherwise() -> None:
    class Rounded(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = torch.nn.Conv2d(3, 8, 3), torch.nn.Conv2d(8, 8, 3)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return self.last(torch.round(self.first(images) * 8)).mean((2, 3))

    network = trace(Rounded().eval(), (3, 16, 16))
    able = [transformable(network, each) is not None for each in network.nodes if each.operator == "conv2d"]
    assert able == [False, True]


@pytest.mark.parametrize(
    ("kind", "scales"), [(np.uint8, False), (np.int8, True), (np.uint8, True), (np.int16, False), (np.uint16, True)]
)
def test_scales_may_lie_along_an_axis(tmp_path: Path, kind: type[np.generic], scales: bool) -> None:
    along = np.array([0.01, 0.02, 0.5], np.float32) if scales else np.float32(0.05)
    zeros = np.array([0, 2, 7] if scales else 1).astype(kind)
    nodes = [*fake("images", "a", axis=1), node("ReduceMean", ["a"], "scores", axes=[2, 3], keepdims=0)]
    path = file_of(tmp_path / "net.onnx", nodes, {"s": along, "z": zeros}, ["N", 3, 6, 6], opset=17)
    if kind in (np.int16, np.uint16):  # from opset 21 on
        nodes[-1] = node("ReduceMean", ["a", "axes"], "scores", keepdims=0)
        arrays = {"s": along, "z": zeros, "axes": np.array([2, 3])}
        path = file_of(tmp_path / "net.onnx", nodes, arrays, ["N", 3, 6, 6], opset=21)
    images = floats(3, 3, 6, 6) * 20
    got = build_model("net", "file", str(path), {}).module(torch.from_numpy(images))
    np.testing.assert_allclose(got, answer(path, images), atol=1e-5)


@pytest.mark.parametrize("several", [False, True])
def test_layers_of_quantized_numbers_are_computed_as_onnxruntime_does(tmp_path: Path, several: bool) -> None:
    of_weight = np.array([0.01, 0.02, 0.03, 0.005], np.float32) if several else np.float32(0.02)
    zero = np.zeros(4 if several else (), np.int8)
    arrays = {
        "s": np.float32(0.02),
        "z": np.uint8(120),
        "w": whole(4, 3, 3, 3),
        "ws": np.asarray(of_weight),
        "wz": zero,
        "b": whole(4, kind=np.int32),
        "m": whole(4, 5),
        "ms": np.float32(0.03),
        "mz": np.int8(0),
    }
    nodes = [
        node("QuantizeLinear", ["images", "s", "z"], "q"),
        node("QLinearConv", ["q", "s", "z", "w", "ws", "wz", "s", "z", "b"], "c", pads=[1, 0, 0, 1], strides=[2, 2]),
        node("Transpose", ["c"], "t", perm=[0, 2, 3, 1]),
        node("QLinearMatMul", ["t", "s", "z", "m", "ms", "mz", "s", "z"], "p"),
        node("DequantizeLinear", ["p", "s", "z"], "d"),
        node("ReduceMean", ["d"], "scores", axes=[1, 2], keepdims=0),
    ]
    path = file_of(tmp_path / "net.onnx", nodes, arrays, ["N", 3, 9, 8], opset=13)
    images = floats(3, 3, 9, 8) * 20
    got = build_model("net", "file", str(path), {}).module(torch.from_numpy(images))
    np.testing.assert_allclose(got, answer(path, images), atol=1e-5)


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_a_picture_of_whole_numbers_may_be_moved_before_it_is_cast(tmp_path: Path, layout: str) -> None:
    first = {
        "NCHW": [node("Cast", ["images"], "x", to=1)],
        "NHWC": [node("Transpose", ["images"], "t", perm=[0, 3, 1, 2]), node("Cast", ["t"], "x", to=1)],
    }
    nodes = [*first[layout], node("Conv", ["x", "w"], "c"), node("GlobalAveragePool", ["c"], "g")]
    shape = ["N", 3, 8, 9] if layout == "NCHW" else ["N", 8, 9, 3]
    path = file_of(tmp_path / "net.onnx", [*nodes, node("Flatten", ["g"], "scores")], {"w": floats(4, 3, 3, 3)}, shape)
    model = onnx.load(str(path))
    model.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.UINT8
    onnx.save(model, str(path))
    images = RANDOM.integers(0, 256, (2, 3, 8, 9), dtype=np.uint8)
    got = build_model("net", "file", str(path), {}).module(torch.from_numpy(images).float())
    given = images if layout == "NCHW" else images.transpose(0, 2, 3, 1)
    np.testing.assert_allclose(got, answer(path, given), rtol=1e-4)


def refusal(folder: Path, nodes: Sequence[Any], arrays: dict[str, np.ndarray], opset: int = 21) -> str:
    tail = [node("GlobalAveragePool", ["a"], "b"), node("Flatten", ["b"], "scores")]
    path = file_of(folder / "net.onnx", [*nodes, *tail], arrays, ["N", 4, 8, 8], opset)
    with pytest.raises(ModelError) as refused:
        build_model("net", "file", str(path), {})
    return str(refused.value)


@pytest.mark.parametrize(
    ("nodes", "arrays", "message"),
    [
        (
            [node("QuantizeLinear", ["images", "s", "z"], "q"), node("Add", ["q", "z"], "a")],
            {"s": np.float32(0.1), "z": np.uint8(1)},
            "Add: it computes with whole numbers of a few bits",
        ),
        (
            [node("QuantizeLinear", ["images", "s"], "q", block_size=2), node("DequantizeLinear", ["q", "t"], "a")],
            {"s": np.ones((1, 2, 8, 8), np.float32), "t": np.float32(1)},
            "QuantizeLinear: its attribute block_size is not understood",
        ),
        (
            [node("QuantizeLinear", ["images", "s"], "q", output_dtype=17), node("DequantizeLinear", ["q", "s"], "a")],
            {"s": np.float32(1)},
            "QuantizeLinear: it makes numbers of type 17",
        ),
        ([node("DynamicQuantizeLinear", ["images"], "a")], {}, "the operator DynamicQuantizeLinear"),
    ],
)
def test_what_is_not_understood_of_it_is_refused_by_name(
    tmp_path: Path, nodes: list[Any], arrays: dict[str, np.ndarray], message: str
) -> None:
    assert message in refusal(tmp_path, nodes, arrays)
