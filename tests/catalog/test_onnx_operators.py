"""ONNX operators: what the standard's own cases and onnxruntime answer, or a refusal by name."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import pytest
import torch

from kryptondb.catalog.build import build_model
from kryptondb.errors import ModelError
from kryptondb.network import Rule, trace
from tests.catalog.test_onnx_models import difference, file_of, floats, node

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
from benchmarks import onnx_nodes  # noqa: E402  (needs onnx)
from kryptondb.catalog.onnx_models.reading import OnnxFile  # noqa: E402
from kryptondb.catalog.onnx_models.translation import OPERATORS, Translation  # noqa: E402

PART = 6  # one case of so many is a test, the rest is the benchmark's


def test_the_standards_own_cases_have_the_standards_answers_or_are_refused() -> None:
    chosen = [case for case in onnx_nodes.cases() if crc32(case.name.encode()) % PART == 0]
    found = [answer for case in chosen for answer in onnx_nodes.answers(case)]
    assert sum(answer.outcome == "right" for answer in found) > 100
    assert not [answer for answer in found if answer.outcome in ("wrong", "raised")]


@pytest.mark.parametrize("kind", sorted(OPERATORS))
def test_an_operator_declares_attributes_that_the_standard_has(kind: str) -> None:
    newest = onnx.defs.onnx_opset_version()
    schemas = {}
    for opset in range(1, newest + 1):
        try:
            found = onnx.defs.get_schema(kind, opset, "")
        except onnx.defs.SchemaError:
            continue
        if not found.deprecated:
            schemas[found.since_version] = found
    known = {name for schema in schemas.values() for name in schema.attributes}
    declared = set(OPERATORS[kind].attributes.split())
    assert declared - known <= {
        "max",
        "min",
        "k",
        "value",
        "axes",
        "pads",
        "starts",
        "ends",
        "split",
        "scales",
        "ratio",
    }
    assert max(schemas) <= OPERATORS[kind].newest or newest > 28


def asked(
    nodes: Sequence[Any], shape: Sequence[int], arrays: Mapping[str, np.ndarray], opset: int
) -> tuple[np.ndarray, np.ndarray]:
    """What onnxruntime and KryptonDB make of nodes from `images` to `scores`, for pictures of this shape, N first."""
    images = floats(*shape)
    helper = onnx.helper
    graph = helper.make_graph(
        list(nodes),
        "graph",
        [helper.make_tensor_value_info("images", onnx.TensorProto.FLOAT, ["N", *shape[1:]])],
        [helper.make_tensor_value_info("scores", onnx.TensorProto.FLOAT, None)],
        [onnx.numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    file = OnnxFile("file", graph, opset)
    module = Translation(file, "images", "scores", tuple(shape[1:])).module("scores", scores=False)
    with torch.no_grad():
        got = module(torch.from_numpy(images)).numpy()
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"images": images})[0], got


def check(nodes: Sequence[Any], shape: Sequence[int], arrays: Mapping[str, np.ndarray], opset: int) -> None:
    want, got = asked(nodes, shape, arrays, opset)
    assert got.shape == want.shape
    np.testing.assert_allclose(got, want, atol=1e-4)


POOLS = [
    {"kernel_shape": [3, 3], "strides": [3, 3], "pads": [2, 2, 2, 2], "ceil_mode": 1},
    {"kernel_shape": [2, 3], "strides": [2, 2], "pads": [0, 1, 1, 2], "ceil_mode": 1},
    {"kernel_shape": [3, 2], "strides": [2, 3], "pads": [1, 0, 0, 1], "ceil_mode": 0},
    {"kernel_shape": [4, 1], "strides": [3, 1], "ceil_mode": 1},
    {"kernel_shape": [2, 2], "strides": [3, 3], "ceil_mode": 1},
    {"kernel_shape": [3, 3], "strides": [2, 2], "auto_pad": "SAME_LOWER"},
    {"kernel_shape": [2, 2], "strides": [2, 1], "dilations": [2, 3], "pads": [1, 1, 1, 1], "ceil_mode": 1},
]


@pytest.mark.parametrize("window", POOLS)
@pytest.mark.parametrize("kind", ["MaxPool", "AveragePool", "LpPool"])
def test_pools_have_the_windows_of_the_standard(kind: str, window: dict[str, Any]) -> None:
    for counted in (0, 1) if kind == "AveragePool" else (0,):
        more = {"count_include_pad": counted} if kind == "AveragePool" else {}
        check([node(kind, ["images"], "scores", **window, **more)], (2, 3, 13, 11), {}, 22)


@pytest.mark.parametrize("kind", ["MaxPool", "AveragePool", "LpPool"])
def test_pools_of_signals_and_volumes_too(kind: str) -> None:
    check([node(kind, ["images"], "scores", kernel_shape=[3], strides=[2], pads=[1, 0])], (2, 3, 12), {}, 22)
    check([node(kind, ["images"], "scores", kernel_shape=[2, 3, 2], pads=[0, 1, 1, 1, 0, 0])], (2, 3, 6, 7, 8), {}, 22)


@pytest.mark.parametrize(
    "more",
    [
        {"auto_pad": "SAME_UPPER", "strides": [2, 3]},
        {"auto_pad": "SAME_LOWER", "strides": [3, 1]},
        {"pads": [0, 2, 1, 0], "strides": [2, 2], "output_padding": [1, 0]},
        {"output_shape": [13, 15], "strides": [2, 2]},
        {"dilations": [2, 1], "group": 2},
    ],
)
def test_transposed_convolutions_are_cut_as_the_file_says(more: dict[str, Any]) -> None:
    arrays = {"w": floats(4, 3, 3, 2), "b": floats(3 * more.get("group", 1))}
    check([node("ConvTranspose", ["images", "w", "b"], "scores", **more)], (2, 4, 6, 7), arrays, 13)


COORDINATES = ("half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric", "tf_half_pixel_for_nn")


@pytest.mark.parametrize(("mode", "coordinates"), itertools.product(("nearest", "linear", "cubic"), COORDINATES))
def test_resize_looks_where_onnxruntime_does(mode: str, coordinates: str) -> None:
    for scales in ([1.5, 0.6], [1 / 3, 2.5]):
        arrays = {"scales": np.array([1, 1, *scales], np.float32)}
        resize = node(
            "Resize", ["images", "", "scales"], "scores", mode=mode, coordinate_transformation_mode=coordinates
        )
        check([resize], (1, 2, 9, 10), arrays, 13)
    sizes = node("Resize", ["images", "", "", "sizes"], "scores", mode=mode, coordinate_transformation_mode=coordinates)
    check([sizes], (1, 2, 9, 7), {"sizes": np.array([1, 2, 4, 12])}, 13)


@pytest.mark.parametrize(("coordinates", "rounding"), [
    ("half_pixel", "round_prefer_floor"), ("asymmetric", "floor"), ("asymmetric", "round_prefer_ceil"),
    ("tf_half_pixel_for_nn", "floor"),
])  # fmt: skip
def test_resize_to_the_nearest_cell_stays_incremental(tmp_path: Path, coordinates: str, rounding: str) -> None:
    resize = node(
        "Resize",
        ["c", "", "s"],
        "r",
        coordinate_transformation_mode=coordinates,
        nearest_mode=rounding,
    )
    nodes = [node("Conv", ["images", "w"], "c"), resize, node("Conv", ["r", "v"], "d")]
    tail = [node("GlobalAveragePool", ["d"], "g"), node("Flatten", ["g"], "scores")]
    for scales in ([2.0, 3.0], [1.0, 0.5]):
        arrays = {"w": floats(8, 3, 3, 3), "v": floats(4, 8, 3, 3), "s": np.array([1, 1, *scales], np.float32)}
        path = file_of(tmp_path / "net.onnx", [*nodes, *tail], arrays, ["N", 3, 12, 14])
        built = build_model("net", "file", str(path), {})
        network = trace(built.module, (3, 12, 14))
        picked = [each for each in network.nodes if each.operator == "index_select"]
        assert picked and all(each.rule is Rule.WINDOW for each in picked)
        assert difference(path, floats(3, 3, 12, 14)) < 1e-5


def test_resize_may_smooth_widen_channels_and_keep_its_aspect() -> None:
    for mode in ("linear", "cubic"):
        arrays = {"sizes": np.array([1, 2, 5, 9])}
        check(
            [node("Resize", ["images", "", "", "sizes"], "scores", mode=mode, antialias=1)], (1, 2, 13, 12), arrays, 18
        )
    check([node("Resize", ["images", "", "s"], "scores")], (1, 2, 5, 4), {"s": np.array([1, 2, 1, 1], np.float32)}, 13)
    keeps = {"axes": [2, 3], "keep_aspect_ratio_policy": "not_larger"}
    check([node("Resize", ["images", "", "", "z"], "scores", **keeps)], (1, 2, 6, 8), {"z": np.array([4, 3])}, 18)


@pytest.mark.parametrize(("opset", "kind"), [(10, "Resize"), (9, "Upsample")])
@pytest.mark.parametrize("mode", ["nearest", "linear"])
def test_resize_of_old_opsets_too(opset: int, kind: str, mode: str) -> None:
    for scale in (1.3, 2.5) if kind == "Upsample" else (0.3, 0.6, 0.75, 2.5):
        arrays = {"s": np.array([1, 1, scale, scale], np.float32)}
        check([node(kind, ["images", "s"], "scores", mode=mode)], (1, 2, 10, 7), arrays, opset)


@pytest.mark.parametrize("mode", ["constant", "reflect", "edge", "wrap"])
def test_pads_may_be_negative_and_of_any_axis(mode: str) -> None:
    for pads in ([0, 0, 1, 2, 0, 0, 2, 0], [0, 1, -1, 2, 0, 2, 1, -1], [0, 0, 0, -2, 0, 0, 0, -1]):
        check([node("Pad", ["images", "p"], "scores", mode=mode)], (2, 4, 5, 6), {"p": np.array(pads)}, 19)


@pytest.mark.parametrize(("start", "end", "step"), [(-1, -(2**62), -2), (7, 2, -3), (1, 2**62, 2), (-1, 2**62, -1)])
def test_slices_take_any_step(start: int, end: int, step: int) -> None:
    arrays = {name: np.array([value]) for name, value in {"b": start, "e": end, "a": 2, "t": step}.items()}
    check([node("Slice", ["images", "b", "e", "a", "t"], "scores")], (2, 3, 9, 5), arrays, 13)


def test_an_lrn_divides_by_the_channels_around() -> None:
    for size in (1, 3, 5):
        check([node("LRN", ["images"], "scores", size=size, alpha=1.0, bias=2.0)], (2, 8, 4, 5), {}, 13)


def alone(folder: Path, nodes: Sequence[Any], arrays: dict[str, np.ndarray], opset: int) -> None:
    """Checks a file of one picture of [1, 3, 8, 8], whose nodes end in `a`, on several pictures."""
    tail = [node("GlobalMaxPool", ["a"], "b"), node("Flatten", ["b"], "scores")]
    path = file_of(folder / "net.onnx", [*nodes, *tail], arrays, [1, 3, 8, 8], opset)
    images = floats(3, 3, 8, 8)
    session = onnxruntime.InferenceSession(str(path))
    want = np.concatenate([session.run(None, {"images": image[None]})[0] for image in images])
    got = build_model("net", "file", str(path), {}).module(torch.from_numpy(images)).numpy()
    np.testing.assert_allclose(got, want, atol=1e-4)


def test_a_file_of_one_picture_may_sample_it_at_constant_places(tmp_path: Path) -> None:
    for mode in ("linear", "nearest"):
        grid = np.clip(floats(1, 5, 6, 2) * 10, -1, 1)
        alone(tmp_path, [node("GridSample", ["images", "grid"], "a", mode=mode)], {"grid": grid}, 20)


def test_a_file_of_one_picture_may_normalize_over_its_batch(tmp_path: Path) -> None:
    alone(tmp_path, [node("MeanVarianceNormalization", ["images"], "a")], {}, 13)


@pytest.mark.parametrize("sides", [(1,), (5,), (4, 1), (1, 5), (4, 5)])
def test_a_layer_norm_broadcasts_its_scale(sides: tuple[int, ...]) -> None:
    arrays = {"s": floats(*sides), "b": floats(*sides)}
    check([node("LayerNormalization", ["images", "s", "b"], "scores", axis=2)], (2, 3, 4, 5), arrays, 17)


def test_the_middle_of_a_picture_is_cut_out_or_padded() -> None:
    for sides in ([7, 3], [4, 8], [5, 6]):
        check([node("CenterCropPad", ["images", "s"], "scores", axes=[2, 3])], (2, 3, 5, 6), {"s": np.array(sides)}, 18)


def refusal(folder: Path, nodes: Sequence[Any], arrays: dict[str, np.ndarray], opset: int = 17) -> str:
    tail = [node("GlobalAveragePool", ["a"], "b"), node("Flatten", ["b"], "scores")]
    path = file_of(folder / "net.onnx", [*nodes, *tail], arrays, ["N", 3, 8, 8], opset)
    with pytest.raises(ModelError) as refused:
        build_model("net", "file", str(path), {})
    return str(refused.value)


class TestWhatIsNotUnderstood:
    @pytest.mark.parametrize(
        ("nodes", "arrays", "opset", "message"),
        [
            ([node("Relu", ["images"], "a", slope=0.1)], {}, 17, "Relu: it has no attribute slope"),
            ([node("GlobalMaxPool", ["images"], "a", keepdims=0)], {}, 17, "it has no attribute keepdims"),
            ([node("LeakyRelu", ["images"], "a", alpha=1)], {}, 17, "alpha is of another type"),
            ([node("Conv", ["images"], "a")], {}, 17, "Conv: it has 1 inputs, where the standard has 2 to 3"),
            ([node("SpaceToDepth", ["images"], "a")], {}, 17, "its attribute blocksize is missing"),
            ([node("Resize", ["images", "", "s"], "a", antialias=1)], {"s": np.ones(4, np.float32)}, 13, "antialias"),
            ([node("Gelu", ["images"], "a")], {}, 17, "opset 17 has no operator Gelu"),
            ([node("Cast", ["images"], "a", to=13)], {}, 17, "Cast: it makes numbers of type 13"),
            ([node("LRN", ["images"], "a", size=4)], {}, 13, "LRN: it reads 4 channels, an even number"),
            ([node("CastLike", ["images", "i"], "a")], {"i": np.array([1])}, 17, "CastLike: it cuts off fractions"),
        ],
    )
    def test_is_refused_by_name(
        self, tmp_path: Path, nodes: list[Any], arrays: dict[str, np.ndarray], opset: int, message: str
    ) -> None:
        told = refusal(tmp_path, nodes, arrays, opset)
        assert message in told and "batch of any size" not in told

    @pytest.mark.parametrize("outputs", [["a", "mean"], ["a", "mean", "variance"]])
    def test_is_a_result_that_says_training_though_nothing_reads_it(self, tmp_path: Path, outputs: list[str]) -> None:
        arrays = {name: np.ones(3, np.float32) for name in ("s", "bias", "m", "v")}
        norm = onnx.helper.make_node("BatchNormalization", ["images", "s", "bias", "m", "v"], outputs)
        assert "its result 1" in refusal(tmp_path, [norm], arrays, 13)

    def test_does_not_include_results_that_change_nothing(self, tmp_path: Path) -> None:
        pool = onnx.helper.make_node("MaxPool", ["images"], ["a", "places"], kernel_shape=[2, 2])
        drop = onnx.helper.make_node("Dropout", ["a"], ["b", "mask"])
        nodes = [pool, drop, node("GlobalAveragePool", ["b"], "c"), node("Flatten", ["c"], "scores")]
        path = file_of(tmp_path / "net.onnx", nodes, {}, ["N", 3, 8, 8])
        assert build_model("net", "file", str(path), {}).classes == 3


@pytest.mark.parametrize("shape", [[5], [5, 1], [5, 1, 1], [1, 5], [1, 1, 5], [1]])
def test_scores_may_have_sides_of_one(tmp_path: Path, shape: list[int]) -> None:
    classes = max(shape)
    for activation in ([], [node("Softmax", ["to"], "scores", axis=1 + shape.index(classes))]):
        nodes = [
            node("Conv", ["images", "w"], "c"),
            node("GlobalAveragePool", ["c"], "p"),
            node("Reshape", ["p", "sides"], "to" if activation else "scores"),
            *activation,
        ]
        arrays = {"w": floats(classes, 3, 3, 3), "sides": np.array([-1, *shape])}
        built = build_model("net", "file", str(file_of(tmp_path / "net.onnx", nodes, arrays, ["N", 3, 8, 8])), {})
        assert built.classes == classes
        assert built.module(torch.zeros(3, 3, 8, 8)).shape == (3, classes)


def test_a_softmax_over_a_side_of_one_is_no_activation(tmp_path: Path) -> None:
    nodes = [node("GlobalAveragePool", ["images"], "a"), node("Softmax", ["a"], "scores", axis=-1)]
    built = build_model("net", "file", str(file_of(tmp_path / "net.onnx", nodes, {}, ["N", 3, 8, 8])), {})
    assert (built.module(torch.randn(2, 3, 8, 8)) == 1).all()


def test_an_operator_that_the_asked_output_does_not_need_is_not_looked_at(tmp_path: Path) -> None:
    nodes = [
        node("NonMaxSuppression", ["images", "images"], "boxes"),
        node("GlobalAveragePool", ["images"], "a"),
        node("Flatten", ["a"], "scores"),
    ]
    path = file_of(tmp_path / "net.onnx", nodes, {}, ["N", 3, 8, 8], outputs=["scores", "boxes"])
    assert build_model("net", "file", str(path), {"output": "scores"}).classes == 3
    with pytest.raises(ModelError, match="the operator NonMaxSuppression"):
        build_model("net", "file", str(path), {"output": "boxes"})


@pytest.mark.parametrize("turned", [False, True])
def test_a_file_of_one_picture_may_join_the_batch_with_other_axes(tmp_path: Path, turned: bool) -> None:
    """16 places of 8 channels: as rows of all pictures together, or with the batch joined with two heads."""
    if turned:
        middle = [
            node("Reshape", ["c", "tokens"], "f"),
            node("Transpose", ["f"], "t", perm=[2, 0, 1]),
            node("Reshape", ["t", "heads"], "h"),
            node("Softmax", ["h"], "p", axis=-1),
            node("Reshape", ["p", "whole"], "r"),
            node("Transpose", ["r"], "u", perm=[1, 2, 0]),
            node("Reshape", ["u", "picture"], "v"),
        ]
    else:
        middle = [
            node("Transpose", ["c"], "t", perm=[0, 2, 3, 1]),
            node("Reshape", ["t", "rows"], "f"),
            node("MatMul", ["f", "m"], "p"),
            node("Reshape", ["p", "back"], "r"),
            node("Transpose", ["r"], "v", perm=[0, 3, 1, 2]),
        ]
    tail = node("ReduceMean", ["v"], "scores", axes=[2, 3], keepdims=0)
    sides = {"tokens": [1, 8, 16], "heads": [16, 2, 4], "whole": [16, 1, 8], "picture": [1, 8, 4, 4]}
    sides |= {"rows": [16, 8], "back": [1, 4, 4, 8]}
    arrays = {"w": floats(8, 3, 3, 3), "m": floats(8, 8)} | {name: np.array(value) for name, value in sides.items()}
    path = file_of(tmp_path / "net.onnx", [node("Conv", ["images", "w"], "c"), *middle, tail], arrays, [1, 3, 6, 6])
    built = build_model("net", "file", str(path), {})
    images = floats(3, 3, 6, 6)
    session = onnxruntime.InferenceSession(str(path))
    want = np.concatenate([session.run(None, {"images": image[None]})[0] for image in images])
    np.testing.assert_allclose(built.module(torch.from_numpy(images)).numpy(), want, atol=1e-5)


def test_a_file_of_one_picture_may_resize_to_sizes_that_are_worked_out_from_its_batch(tmp_path: Path) -> None:
    """As torch exports `interpolate` with a size: the first sides of the picture's shape, then the size."""
    nodes = [
        node("Conv", ["images", "w"], "c"),
        node("Shape", ["c"], "s"),
        node("Slice", ["s", "zero", "two", "zero"], "first"),
        node("Concat", ["first", "size"], "sizes", axis=0),
        node("Resize", ["c", "", "", "sizes"], "r", mode="linear", coordinate_transformation_mode="align_corners"),
        node("ReduceMean", ["r"], "scores", axes=[2, 3], keepdims=0),
    ]
    arrays = {"w": floats(8, 3, 3, 3), "zero": np.array([0]), "two": np.array([2]), "size": np.array([7, 9])}
    path = file_of(tmp_path / "net.onnx", nodes, arrays, [1, 3, 6, 6])
    built = build_model("net", "file", str(path), {})
    images = floats(3, 3, 6, 6)
    session = onnxruntime.InferenceSession(str(path))
    want = np.concatenate([session.run(None, {"images": image[None]})[0] for image in images])
    np.testing.assert_allclose(built.module(torch.from_numpy(images)).numpy(), want, atol=1e-5)


def test_a_padding_of_channels_last_pictures_takes_any_number_of_them(tmp_path: Path) -> None:
    nodes = [
        node("Pad", ["images", "pads"], "a"),
        node("Transpose", ["a"], "b", perm=[0, 3, 1, 2]),
        node("Conv", ["b", "w"], "c", strides=[2, 2]),
        node("ReduceMean", ["c"], "scores", axes=[2, 3], keepdims=0),
    ]
    arrays = {"pads": np.array([0, 1, 1, 0, 0, 1, 1, 0]), "w": floats(5, 3, 3, 3)}
    path = file_of(tmp_path / "net.onnx", nodes, arrays, ["N", 9, 8, 3])
    assert difference(path, floats(3, 9, 8, 3)) < 1e-5
