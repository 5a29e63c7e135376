"""What an ONNX file works out from constants and shapes: by the standard's library, within one bound, or not at all."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import kryptondb
from kryptondb.catalog.build import build_model
from kryptondb.errors import ModelError
from tests.catalog.test_onnx_models import difference, file_of, floats, node

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
TAIL = [node("GlobalAveragePool", ["r"], "p"), node("Flatten", ["p"], "scores")]


def constant(name: str, value: Any) -> Any:
    return node("Constant", [], name, value=onnx.numpy_helper.from_array(np.asarray(value), name))


def height_of_convolution() -> list[Any]:
    """`c`, a convolution [N, 5, 15, 15], and its height as the number `h`."""
    return [
        node("Conv", ["images", "w"], "c", strides=[2, 2]),
        node("Shape", ["c"], "s"),
        node("Gather", ["s", "two"], "h", axis=0),
    ]


HEIGHT = {"w": floats(5, 3, 3, 3), "two": np.array(2)}


class TestConstants:
    def test_are_worked_out_whatever_their_operators(self, tmp_path: Path) -> None:
        """A lower triangle, a running sum, places of what is not zero, an upside-down copy: none is in any picture."""
        nodes = [
            node("EyeLike", ["square"], "eye"),
            node("Trilu", ["square"], "low", upper=0),
            node("CumSum", ["low", "zero"], "sums"),
            node("NonZero", ["eye"], "places"),
            node("Cast", ["places"], "numbers", to=1),
            node("ReduceSum", ["numbers"], "total", keepdims=0),
            node("Slice", ["sums", "last", "far", "first", "minus"], "turned"),
            node("OneHot", ["two", "three", "ends"], "hot"),
            node("MatMul", ["turned", "hot3"], "product"),
            node("Add", ["product", "hot"], "w0"),
            node("Mul", ["w0", "total"], "w1"),
            node("Reshape", ["w1", "sides"], "w"),
            node("Conv", ["images", "w"], "r"),
            *TAIL,
        ]
        arrays: dict[str, np.ndarray] = {"square": floats(3, 3), "zero": np.array(0), "two": np.array([2, 0, 1])}
        arrays |= {"last": np.array([-1]), "far": np.array([-(2**62)]), "first": np.array([0]), "minus": np.array([-1])}
        arrays |= {"three": np.array(3), "ends": np.array([0, 0.5], np.float32), "hot3": floats(3, 3)}
        arrays |= {"sides": np.array([3, 3, 1, 1])}
        path = file_of(tmp_path / "net.onnx", nodes, arrays, ["N", 3, 6, 6])
        assert difference(path, floats(2, 3, 6, 6)) < 1e-5
        steps = build_model("net", "file", str(path), {}).module
        assert [name for name, _ in steps.named_children()] == ["Conv_0", "GlobalAveragePool_1", "Flatten_2"]

    def test_are_those_of_their_own_types(self, tmp_path: Path) -> None:
        """A quotient of whole numbers towards zero, a range with fractions, numbers of 8 bits that run over."""
        nodes = [
            node("Div", ["minus7", "two"], "three"),
            node("Range", ["half", "five", "step"], "places"),
            node("Add", ["big", "big"], "over"),
            node("Cast", ["three"], "a", to=1),
            node("Cast", ["over"], "b", to=1),
            node("ReduceSum", ["places"], "c", keepdims=0),
            node("Sum", ["a", "b", "c"], "k"),
            node("Mul", ["images", "k"], "r"),
            *TAIL,
        ]
        arrays = {"minus7": np.array(-7), "two": np.array(2), "big": np.array(200, np.uint8)}
        arrays |= {"half": np.float32(0.5), "five": np.float32(5), "step": np.float32(1.5)}
        path = file_of(
            tmp_path / "net.onnx", nodes, {k: np.asarray(v) for k, v in arrays.items()}, ["N", 3, 6, 6], opset=14
        )
        built = build_model("net", "file", str(path), {})
        scores = built.module(torch.ones(1, 3, 6, 6))
        assert scores[0, 0].item() == pytest.approx(-3 + 144 + (0.5 + 2 + 3.5))

    def test_that_were_packed_are_unpacked(self, tmp_path: Path) -> None:
        nodes = [node("DequantizeLinear", ["q", "s", "z"], "w", axis=0), node("Conv", ["images", "w"], "r"), *TAIL]
        arrays = {"q": np.arange(-54, 54, dtype=np.int8).reshape(4, 3, 3, 3), "z": np.array([1, 0, -3, 2], np.int8)}
        arrays["s"] = np.array([0.1, 0.2, 0.3, 0.4], np.float32)
        assert difference(file_of(tmp_path / "net.onnx", nodes, arrays, ["N", 3, 6, 6]), floats(2, 3, 6, 6)) < 1e-5

    def test_may_be_sparse_or_empty(self, tmp_path: Path) -> None:
        nodes = [
            node("Conv", ["images", "w"], "c"),
            node("Resize", ["c", "roi", "scales"], "r"),
            *TAIL,
        ]
        arrays = {"w": floats(4, 3, 1, 1), "roi": np.zeros(0, np.float32)}
        arrays["scales"] = np.array([1, 1, 2, 2], np.float32)
        path = file_of(tmp_path / "net.onnx", nodes, arrays, ["N", 3, 6, 6], opset=11)
        assert difference(path, floats(2, 3, 6, 6)) < 1e-5
        model = onnx.load(str(path))
        weight = model.graph.initializer[0]
        values = onnx.numpy_helper.from_array(np.array([2, 5], np.float32), "w")
        places = onnx.numpy_helper.from_array(np.array([1, 11]), "places")
        model.graph.sparse_initializer.append(onnx.helper.make_sparse_tensor(values, places, list(weight.dims)))
        del model.graph.initializer[0]
        onnx.save(model, str(path))
        module = build_model("net", "file", str(path), {}).module
        torch.testing.assert_close(module(torch.ones(1, 3, 6, 6))[0], torch.tensor([2.0, 0.0, 0.0, 5.0]))


class TestShapes:
    @pytest.mark.parametrize(("start", "step", "kind"), [(0, 2, 7), (0.5, 1.5, 1), (0.25, 0.75, 11)])
    def test_a_range_that_follows_from_them_keeps_its_fractions(
        self, tmp_path: Path, start: float, step: float, kind: int
    ) -> None:
        dtype = {7: np.int64, 1: np.float32, 11: np.float64}[kind]
        nodes = [
            *height_of_convolution(),
            node("Cast", ["h"], "limit", to=kind),
            node("Range", ["start", "limit", "step"], "places"),
            node("Cast", ["places"], "floating", to=1),
            node("ReduceSum", ["floating"], "total", keepdims=0),
            node("Mul", ["c", "total"], "r"),
            *TAIL,
        ]
        arrays = HEIGHT | {"start": np.array(start, dtype), "step": np.array(step, dtype)}
        path = file_of(tmp_path / "net.onnx", nodes, arrays, ["N", 3, 32, 32])
        assert difference(path, floats(2, 3, 32, 32)) < 1e-5

    def test_choose_the_branch_of_an_if(self, tmp_path: Path) -> None:
        """The other branch holds an operator that is not taken; names inside are those outside, and are nested."""

        def graph(nodes: list[Any], output: str) -> Any:
            info = onnx.helper.make_tensor_value_info(output, onnx.TensorProto.FLOAT, None)
            return onnx.helper.make_graph(nodes, "branch", [], [info])

        inner = graph([node("Mul", ["t", "t"], "x")], "x")
        never = graph([node("NonMaxSuppression", ["c", "c"], "x")], "x")
        taken = graph([node("Relu", ["c"], "t"), node("If", ["is"], "y", then_branch=inner, else_branch=never)], "y")
        nodes = [
            *height_of_convolution(),
            node("Equal", ["h", "fifteen"], "is"),
            node("If", ["is"], "t", then_branch=taken, else_branch=never),
            node("Identity", ["t"], "r"),
            *TAIL,
        ]
        path = file_of(tmp_path / "net.onnx", nodes, HEIGHT | {"fifteen": np.array(15)}, ["N", 3, 32, 32])
        built = build_model("net", "file", str(path), {})
        images = torch.randn(2, 3, 32, 32)
        kernel = torch.from_numpy(HEIGHT["w"])
        want = torch.nn.functional.conv2d(images, kernel, stride=2).relu().square().mean((2, 3))
        torch.testing.assert_close(built.module(images), want)

    @pytest.mark.parametrize("place", [0, 1])
    def test_an_if_that_the_number_of_pictures_or_pixels_decide_is_refused(self, tmp_path: Path, place: int) -> None:
        branches = {}
        for key, kind in (("then_branch", "Relu"), ("else_branch", "Neg")):
            info = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, None)
            branches[key] = onnx.helper.make_graph([node(kind, ["images"], "x")], "branch", [], [info])
        decided = [
            [node("Shape", ["images"], "s"), node("Gather", ["s", "zero"], "n"), node("Equal", ["n", "one"], "is")],
            [node("ReduceMax", ["images"], "m", keepdims=0), node("Greater", ["m", "half"], "is")],
        ][place]
        arrays = {"zero": np.array(0), "one": np.array(1), "half": np.array(0.5, np.float32)}
        path = file_of(
            tmp_path / "net.onnx", [*decided, node("If", ["is"], "r", **branches), *TAIL], arrays, ["N", 3, 8, 8]
        )
        with pytest.raises(ModelError, match="by the number of pictures|depends on the picture"):
            build_model("net", "file", str(path), {})

    def test_with_the_number_of_pictures_in_them_stay_shapes(self, tmp_path: Path) -> None:
        """A class token for each picture, as exporters write it: Shape, ConstantOfShape, Where, Expand, Concat."""
        nodes = [
            node("Conv", ["images", "w"], "c", strides=[2, 2]),
            node("Flatten", ["c"], "f"),
            node("Shape", ["c"], "s"),
            node("Gather", ["s", "first"], "n", axis=0),
            node("Concat", ["n", "minus"], "wanted", axis=0),
            node("Shape", ["wanted"], "rank"),
            node("ConstantOfShape", ["rank"], "ones", value=onnx.numpy_helper.from_array(np.array([1]), "one")),
            node("Equal", ["wanted", "minus"], "free"),
            node("Where", ["free", "ones", "wanted"], "sides"),
            node("Expand", ["token", "sides"], "tokens"),
            node("ConstantOfShape", ["sides"], "zeros"),
            node("Concat", ["f", "tokens", "zeros"], "r", axis=1),
            node("MatMul", ["r", "m"], "scores"),
        ]
        arrays = {"w": floats(2, 3, 3, 3), "first": np.array([0]), "minus": np.array([-1]), "token": floats(1, 7)}
        arrays["m"] = floats(2 * 9 + 7 + 1, 4)
        path = file_of(tmp_path / "net.onnx", nodes, arrays, ["N", 3, 8, 8])
        assert difference(path, floats(3, 3, 8, 8)) < 1e-5


def external(name: str, count: int, location: str, offset: int = 0) -> Any:
    tensor = onnx.TensorProto(name=name, data_type=1, dims=[count], data_location=onnx.TensorProto.EXTERNAL)
    for key, value in (("location", location), ("offset", str(offset)), ("length", str(4 * count))):
        tensor.external_data.add(key=key, value=value)
    return tensor


def test_a_file_that_an_attribute_reads_is_watched_like_others(tmp_path: Path) -> None:
    folder = tmp_path.resolve()
    np.full(3, 2, np.float32).tofile(folder / "k.bin")
    inside = onnx.helper.make_node("Constant", [], ["k"])
    inside.attribute.append(
        onnx.AttributeProto(name="value", type=onnx.AttributeProto.TENSOR, t=external("k", 3, "k.bin"))
    )
    nodes = [inside, node("Reshape", ["k", "to"], "scale"), node("Mul", ["images", "scale"], "r"), *TAIL]
    path = file_of(folder / "net.onnx", nodes, {"to": np.array([1, 3, 1, 1])}, ["N", 3, 8, 8])
    built = build_model("net", "file", str(path), {})
    assert str(folder / "k.bin") in built.files
    assert (built.module(torch.ones(1, 3, 8, 8)) == 2).all()


MIB = 1 << 20


def bombs(folder: Path) -> dict[str, tuple[list[Any], dict[str, np.ndarray]]]:
    """Files of a few kB, each of which asks for gigabytes in another place."""
    many = np.array([1 << 28])
    parts = [node("Tile", ["one", "fifth"], f"t{place}") for place in range(9)]
    parts += [node("ReduceMax", [f"t{place}"], f"m{place}") for place in range(9)]
    one = np.ones(1, np.float32)
    scale = np.array([1, 1, 1, 3e6], np.float32)
    return {
        "nearest": ([node("Resize", ["images", "", "s"], "r", mode="nearest")], {"s": scale}),
        "cubic": ([node("Resize", ["images", "", "s"], "r", mode="cubic")], {"s": scale}),
        "tile": (
            [node("Tile", ["one", "n"], "t"), node("ReduceMax", ["t"], "k"), node("Mul", ["images", "k"], "r")],
            {"one": one, "n": many},
        ),
        "together": (
            [*parts, node("Sum", ["images", *(f"m{place}" for place in range(9))], "r")],
            {"one": one, "fifth": np.array([1 << 24])},
        ),
        "filled": (
            [node("ConstantOfShape", ["n"], "t"), node("ReduceMax", ["t"], "k"), node("Add", ["images", "k"], "r")],
            {"n": many},
        ),
        "range": (
            [
                node("Range", ["zero", "n", "step"], "t"),
                node("ReduceMax", ["t"], "k"),
                node("Mul", ["images", "k"], "r"),
            ],
            {"zero": np.array(0, np.float32), "n": np.array(4e8, np.float32), "step": np.array(1, np.float32)},
        ),
        "hot": (
            [node("OneHot", ["i", "n", "ends"], "t"), node("ReduceMax", ["t"], "k"), node("Mul", ["images", "k"], "r")],
            {"i": np.arange(512), "n": np.array(1 << 22), "ends": np.array([0, 1], np.float32)},
        ),
        "repeated": ([node("Tile", ["images", "n"], "r")], {"n": np.array([1, 1, 512, 512])}),
        "padded": ([node("Pad", ["images", "n"], "r")], {"n": np.array([0, 0, 0, 0, 0, 0, 1 << 20, 1 << 10])}),
        "scattered": ([node("Conv", ["images", "w"], "r", pads=[60000, 0, 0, 0])], {"w": floats(512, 3, 1, 1)}),
    }


@pytest.mark.parametrize("name", list(bombs(Path())))
def test_sizes_are_known_before_anything_is_made(tmp_path: Path, name: str) -> None:
    nodes, arrays = bombs(tmp_path)[name]
    path = file_of(
        tmp_path / "net.onnx", [*nodes, *TAIL], arrays, ["N", 3, 32, 1 if name in ("nearest", "cubic") else 32]
    )
    if sys.platform == "linux":
        import resource

        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ModelError, match="MiB|table of"):
        build_model("net", "file", str(path), {"size": (32, 1)} if name in ("nearest", "cubic") else {})
    if sys.platform == "linux":
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 400 * 1024


def test_arrays_that_share_bytes_of_another_file_take_them_once(tmp_path: Path) -> None:
    with (tmp_path / "w.bin").open("wb") as stream:
        stream.truncate(16 * MIB)
    path = tmp_path / "net.onnx"
    names = [f"w{place}" for place in range(40)]
    nodes = [node("Sum", names, "s"), node("ReduceMax", ["s"], "k"), node("Add", ["images", "k"], "r"), *TAIL]
    for offset, message in ((0, None), (4, "shares bytes of w.bin with others")):
        file_of(path, nodes, {}, ["N", 3, 8, 8])
        model = onnx.load(str(path))
        for place, name in enumerate(names):
            model.graph.initializer.append(external(name, 4 * MIB - 64, "w.bin", offset * place))
        path.write_bytes(model.SerializeToString())
        if message is None:
            assert build_model("net", "file", str(path), {}).classes == 3
        else:
            with pytest.raises(ModelError, match=message):
                build_model("net", "file", str(path), {})


def test_a_file_that_cannot_run_at_its_size_says_so_in_a_line(tmp_path: Path) -> None:
    """And torch's log does not come before it."""
    nodes = [node("Flatten", ["images"], "f"), node("MatMul", ["f", "m"], "scores")]
    path = file_of(tmp_path / "net.onnx", nodes, {"m": floats(100, 4)}, ["N", 3, "H", "W"])
    statement = f"CREATE MODEL m FROM '{path}' WITH (size => 8)"
    ran = subprocess.run(
        [sys.executable, "-m", "kryptondb", "-c", statement], capture_output=True, text=True, check=False
    )
    assert ran.returncode == 1
    assert "MatMul does not work on [N, 192]" in ran.stderr and "size =>" in ran.stderr
    assert "Traceback" not in ran.stderr and len(ran.stderr.splitlines()) < 4
    with pytest.raises(kryptondb.Error, match="batch of any size"):  # made for one picture, and joins several
        file_of(path, [node("Reshape", ["images", "to"], "scores")], {"to": np.array([3, 64])}, [1, 3, 8, 8])
        build_model("net", "file", str(path), {})
