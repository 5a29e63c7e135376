"""What an exported program may call and hold: listed operators, sizes known before work, any name, any type."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from kryptondb.catalog import build_model
from kryptondb.catalog.program_functions import SUBSTITUTES, _divided
from kryptondb.catalog.program_text import plain_name
from kryptondb.catalog.sizes import check_sizes
from kryptondb.errors import ModelError
from kryptondb.network.functions import ARITHMETIC, OPERATORS, function_named, listed
from tests.catalog.archives import change_json, rewrite
from tests.networks import export, small_net

PROGRAM = "models/model.json"


@pytest.fixture
def program(program: Path) -> str:
    return str(program)


def nodes(value: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = value["graph_module"]["graph"]["nodes"]
    return found


UNLISTED = """max_pool2d_with_indices_backward.default adaptive_max_pool2d_backward.default nll_loss_backward.default
    segment_reduce.default _ctc_loss.default ctc_loss.IntList _sparse_coo_tensor_unsafe.default
    sparse_coo_tensor.indices _sparse_csr_tensor_unsafe.default embedding_dense_backward.default
    embedding_bag.default _embedding_bag.default grid_sampler_2d_backward.default max_unpool2d.default put_.default
    put.default index_put_.default scatter_add.default masked_scatter.default bincount.default histc.default
    nll_loss_forward.default as_strided_.default as_strided_scatter.default set_.source_Tensor resize_.default
    empty.memory_format new_empty.default empty_strided.default from_file.default nonzero.default item.default
    unique_dim.default randn.default bernoulli.default view.dtype repeat_interleave.self_Tensor
    repeat_interleave.Tensor fractional_max_pool2d.default relu.out add.out mul.out sum.IntList_out mul.left_t
    add.t add.str einsum.sublist slice_backward.default col2im_backward.default _cdist_forward.default
    _scaled_dot_product_flash_attention.default _fused_rms_norm.default batch_norm_backward.default
    upsample_bilinear2d_backward.default _pdist_forward.default quantize_per_tensor.default
    to_sparse.default values.default native_dropout.default _thnn_fused_lstm_cell.default lstm.data
    _adaptive_avg_pool2d_backward.default unfold_backward.default _foreach_add_.Scalar"""


@pytest.mark.parametrize("operator", UNLISTED.split())
def test_an_operator_that_is_not_listed_is_refused_by_name(program: str, operator: str) -> None:
    change_json(program, PROGRAM, lambda value: nodes(value)[1].update(target=f"torch.ops.aten.{operator}"))
    with pytest.raises(ModelError) as caught:
        build_model("net", "file", program, {})
    assert f"net.pt2 is refused: it holds the operator 'torch.ops.aten.{operator}'" in str(caught.value)
    assert "nothing in the file was run" in str(caught.value)
    assert function_named(f"aten.{operator}") is None  # nor does a cached network call it


@pytest.mark.parametrize(
    "target", ["torch.ops.higher_order.cond", "torch.ops.prims.add.default", "torch.sym_constrain"]
)
def test_other_functions_are_refused_by_name(program: str, target: str) -> None:
    change_json(program, PROGRAM, lambda value: nodes(value)[1].update(target=target))
    with pytest.raises(ModelError, match=f"the operator '{target}'"):
        build_model("net", "file", program, {})


def test_every_listed_operator_gives_tensors_and_writes_into_its_first_argument_at_most() -> None:
    for name in OPERATORS:
        packet = getattr(torch.ops.aten, name)
        found = [packet_overload for o in packet.overloads() if (packet_overload := listed(name, o)) is not None]
        assert found, name
        for overload in found:
            writes = [a.alias_info is not None and a.alias_info.is_write for a in overload._schema.arguments]
            assert not any(writes[1:]) and (not writes[:1] or not writes[0] or name.endswith("_")), overload
        assert not name.endswith("_backward") and "sparse" not in name
    for name in SUBSTITUTES:
        packet, _, overload = name.partition(".")
        assert isinstance(getattr(getattr(torch.ops.aten, packet), overload), torch._ops.OpOverload)


@pytest.mark.parametrize(
    ("name", "argument", "value"),
    [
        ("upsample_nearest2d.default", "scales_h", {"as_float": 1e-30}),
        ("upsample_bilinear2d.vec", "scale_factors", {"as_floats": [2.0, "NaN"]}),
        ("_upsample_bilinear2d_aa.default", "scales_w", {"as_float": -1.0}),
        ("upsample_bicubic2d.default", "scales_w", {"as_sym_float": {"as_name": "size"}}),
        ("max_pool1d.default", "kernel_size", {"as_ints": [1 << 62]}),
        ("avg_pool2d.default", "padding", {"as_ints": [1, -3]}),
        ("conv2d.padding", "padding", {"as_string": "half"}),
        ("grid_sampler.default", "interpolation_mode", {"as_int": 7}),
        ("to.other", "memory_format", {"as_int": -1}),
        ("_to_copy.default", "memory_format", {"as_sym_int": {"as_name": "size"}}),
        ("sum.default", "dtype", {"as_int": 6}),
        ("ones_like.default", "layout", {"as_float": 0.0}),
    ],
)
def test_arguments_that_a_kernel_trusts_are_checked(program: str, name: str, argument: str, value: Any) -> None:
    def change(graph: dict[str, Any]) -> None:
        node = nodes(graph)[2]
        node["target"] = f"torch.ops.aten.{name}"
        node["inputs"].append({"name": argument, "arg": value, "kind": 1})

    change_json(program, PROGRAM, change)
    with pytest.raises(ModelError, match=rf"aten\.{name} with other arguments .* {argument} "):
        build_model("net", "file", program, {})


@pytest.mark.parametrize("value", [{"as_bool": True}, {"as_int": 1}, {"as_sym_bool": {"as_bool": True}}])
def test_a_flag_of_training_must_be_false_however_it_is_written(program: str, value: Any) -> None:
    def change(graph: dict[str, Any]) -> None:
        (norm,) = [node for node in nodes(graph) if "batch_norm" in node["target"]]
        for item in norm["inputs"]:
            if item["name"] == "training":
                item["arg"] = value

    change_json(program, PROGRAM, change)
    with pytest.raises(ModelError, match="exported in training mode"):
        build_model("net", "file", program, {})


def test_arithmetic_on_sizes_is_bounded() -> None:
    with pytest.raises(OverflowError, match="64 bits"):
        ARITHMETIC["mul"](1 << 40, 1 << 40)
    for values in (([0], 1 << 40), ("x", 3), (torch.zeros(2), 2)):
        with pytest.raises(TypeError):
            ARITHMETIC["mul"](*values)
    with pytest.raises(TypeError):
        ARITHMETIC["getitem"](torch.zeros(3), 0)
    assert ARITHMETIC["floordiv"](7, 2) == 3 and ARITHMETIC["getitem"]((1, 2), 1) == 2


# Sizes before work


class Headed(nn.Module):
    def __init__(self, more: Callable[[nn.Module, torch.Tensor], torch.Tensor], **buffers: torch.Tensor) -> None:
        super().__init__()
        self.head = nn.Linear(3, 2)
        self.more = more
        for name, value in buffers.items():
            self.register_buffer(name, value)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(images.mean((2, 3))) + self.more(self, images)


def repeated(module: Any, _: torch.Tensor) -> torch.Tensor:
    value = module.start
    for _ in range(10):
        value = value.repeat(8)
    return value.sum()


BOMBS: dict[str, Callable[[Any, torch.Tensor], torch.Tensor]] = {
    "full": lambda m, x: torch.full((1 << 30,), 1e-9).sum(),
    "zeros": lambda m, x: x.new_zeros(x.shape[0], 1 << 29).sum(),
    "many that live at once": lambda m, x: torch.stack([torch.ones(1 << 26) for _ in range(12)]).sum(),
    "many that are kept": lambda m, x: sum((m.start.expand(1 << 27) + n).max() for n in range(8)),  # type: ignore[return-value]
    "repeat": repeated,
    "outer": lambda m, x: torch.outer(torch.arange(1 << 15), torch.arange(1 << 15)).sum() * 1e-9,
    "pad": lambda m, x: nn.functional.pad(x, (1 << 14, 1 << 14, 1 << 12, 1 << 12)).sum(),
    "upsample": lambda m, x: nn.functional.interpolate(x, scale_factor=1000.0).sum(),
}


@pytest.mark.parametrize("what", list(BOMBS))
def test_what_grows_out_of_bounds_is_refused_before_it_runs(what: str) -> None:
    module = Headed(BOMBS[what], start=torch.ones(1))
    with pytest.raises(ModelError, match=r"refused: on 2 x 3 x 32 x 32 its operator \w+ would raise its memory to"):
        check_sizes(module.eval(), (2, 3, 32, 32), "x.pt2", "")


def test_work_without_end_is_refused() -> None:
    def multiplied(_: nn.Module, images: torch.Tensor) -> torch.Tensor:
        square = torch.zeros(1 << 13, 1 << 13) + images.sum()
        for _ in range(200):
            square = square @ square
        return square.sum() + images.sum()

    with pytest.raises(ModelError, match=r"its operator mm would bring its work beyond 2e\+13 products"):
        check_sizes(Headed(multiplied).eval(), (2, 3, 32, 32), "x.pt2", "")


def test_a_bomb_in_a_file_is_refused(tmp_path: Path) -> None:
    path = export(Headed(BOMBS["full"]), tmp_path / "bomb.pt2", side=16)
    with pytest.raises(ModelError, match=r"bomb\.pt2 is refused: .*operator full would raise its memory to 4\.0 GiB"):
        build_model("net", "file", path, {})


@pytest.mark.parametrize(
    "more",
    [
        lambda m, x: m.start.view(1).add_(1.0),
        lambda m, x: x.view(-1)[:4].mul_(0.0).sum(),
        lambda m, x: m.start.expand(1).fill_(3.0),
    ],
)
def test_a_program_that_writes_into_its_weights_or_its_input_is_refused(more: Callable[..., torch.Tensor]) -> None:
    module = Headed(more, start=torch.ones(1)).eval()
    with pytest.raises(ModelError, match=r"writes into its weights or its input"):
        check_sizes(module, (2, 3, 8, 8), "x.pt2", "")
    assert module.get_buffer("start").item() == 1.0


def test_flags_of_other_bytes_than_0_and_1_are_refused(tmp_path: Path) -> None:
    module = Headed(lambda m, x: torch.where(m.mask, 1.0, 2.0).sum(), mask=torch.tensor([True, False]))  # type: ignore[arg-type]
    path = export(module, tmp_path / "flags.pt2", side=16)
    build_model("net", "file", path, {})

    def change(records: dict[str, bytes]) -> None:
        (name,) = [name for name, data in records.items() if data == b"\x01\x00" and "/weight_" in name]
        records[name] = b"\xff\x00"

    rewrite(path, change)
    with pytest.raises(ModelError, match="flags that are neither true nor false"):
        build_model("net", "file", path, {})


# Names and types


NAMES = ["conv/kernel", 'quo"te', "new\nline", "ä ö", "a.b/c", "class", "forward", "__dict__", "x" * 600, "/", "-", "0"]


def test_weights_have_any_names(tmp_path: Path) -> None:
    class Named(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            for place, name in enumerate(NAMES):
                value = torch.randn(3)
                # as nn.ParameterDict does, which takes what register_parameter does not
                (self._buffers if place % 2 else self._parameters)[name] = value if place % 2 else nn.Parameter(value)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            weights = {**self._parameters, **self._buffers}
            total = sum(place * weights[name] for place, name in enumerate(NAMES))  # type: ignore[operator]
            return images.mean((2, 3)) * total

    module = Named().eval()
    path = export(small_net(), tmp_path / "net.pt2", side=16)
    names = {"stem.weight": NAMES[0], "stem.bias": NAMES[1], "norm.weight": NAMES[2], "norm.running_var": NAMES[3]}
    names |= {"norm.bias": NAMES[5], "head.bias": NAMES[6], "head.weight": NAMES[8]}

    def renamed(value: Any) -> Any:
        if isinstance(value, dict):
            return {names.get(key, key): renamed(item) for key, item in value.items()}
        if isinstance(value, list):
            return [renamed(item) for item in value]
        return names.get(value, value) if isinstance(value, str) else value

    for record in (PROGRAM, "data/weights/model_weights_config.json"):
        change_json(path, record, lambda value: (new := renamed(value), value.clear(), value.update(new)))
    images = torch.rand(2, 3, 16, 16)
    model = build_model("net", "file", path, {})
    torch.testing.assert_close(model.module(images), small_net()(images))
    del module


def test_names_become_plain_attributes_and_stay_apart() -> None:
    plain = [plain_name(name) for name in NAMES]
    assert len(set(plain)) == len(NAMES)
    for name in plain:
        assert name is not None
        for part in name.split("."):
            assert part.replace("-", "_").replace("_", "a").isalnum() and not hasattr(torch.fx.GraphModule, part)
    assert plain_name("features.0.conv-1.weight") == "features.0.conv-1.weight"
    assert plain_name("a/b") != plain_name("a b") and plain_name(7) is None and plain_name("x" * 10_000) is None


def test_an_output_has_any_name(tmp_path: Path) -> None:
    class Named(nn.Module):
        def forward(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
            return {"head/scores: 1": images.mean((2, 3)), 'other"': images.sum((2, 3))}

    path = export(Named().eval(), tmp_path / "net.pt2", side=16)
    images = torch.rand(2, 3, 16, 16)
    model = build_model("net", "file", path, {"output": "head/scores: 1"})
    torch.testing.assert_close(model.module(images), images.mean((2, 3)))


class Casting(nn.Module):
    """Makes numbers of its own in its own type."""

    def __init__(self) -> None:
        super().__init__()
        self.net = small_net()
        self.register_buffer("scale", torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0]))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        mask = torch.full((1, 5), torch.finfo(images.dtype).min, dtype=images.dtype)
        rows = torch.arange(5, dtype=images.dtype).to(images.dtype)
        return torch.maximum(self.net(images) * self.scale, mask) + rows


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_programs_in_other_types_are_read_in_float32(dtype: torch.dtype, tmp_path: Path) -> None:
    module = Casting().eval().to(dtype)
    program = torch.export.export(
        module, (torch.zeros(2, 3, 16, 16, dtype=dtype),), dynamic_shapes=({0: torch.export.Dim("batch")},)
    )
    torch.export.save(program, tmp_path / "net.pt2")
    model = build_model("net", "file", str(tmp_path / "net.pt2"), {})
    assert {tensor.dtype for tensor in model.module.state_dict().values() if tensor.is_floating_point()} == {
        torch.float32
    }
    images = torch.rand(3, 3, 16, 16)
    torch.testing.assert_close(model.module(images), copy.deepcopy(module).float()(images))


def test_a_program_that_takes_float32_and_computes_in_half_is_read_in_float32(tmp_path: Path) -> None:
    class Half(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = small_net().half()

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return self.net(images.half()).float()

    model = build_model("net", "file", export(Half().eval(), tmp_path / "net.pt2", side=16), {})
    images = torch.rand(3, 3, 16, 16)
    torch.testing.assert_close(model.module(images), small_net().half().float()(images))


def test_weights_beyond_float32_are_refused(tmp_path: Path) -> None:
    module = small_net().double()
    with torch.no_grad():
        module.head.bias[0] = 1e300
    program = torch.export.export(module, (torch.zeros(2, 3, 16, 16, dtype=torch.float64),))
    torch.export.save(program, tmp_path / "net.pt2")
    with pytest.raises(ModelError, match="beyond the range of float32"):
        build_model("net", "file", str(tmp_path / "net.pt2"), {})


# What runs in place of operators that trust their arguments


class Inner(nn.Module):
    """Batch and group norm, attention, an LSTM and regions without gradients and autocast."""

    def __init__(self, remembers: bool) -> None:
        super().__init__()
        self.remembers = remembers
        torch.manual_seed(1)
        self.conv = nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 8, 3, 2))
        self.norm, self.groups = nn.BatchNorm2d(8), nn.GroupNorm(2, 8)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.memory = nn.LSTM(8, 4, bidirectional=True, batch_first=True)
        self.head = nn.Linear(8, 3)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        tokens = self.groups(self.norm(self.conv(images))).flatten(2).transpose(1, 2)
        with torch.autocast("cpu", enabled=False):
            tokens = tokens + self.attention(tokens, tokens, tokens, need_weights=False)[0]
        with torch.no_grad():
            tokens = torch.div(tokens, 0.25, rounding_mode="trunc")
        return self.head((self.memory(tokens)[0] if self.remembers else tokens).mean(1))


@pytest.mark.parametrize("decomposed", [False, True])
def test_inner_operators_give_what_their_public_forms_give(decomposed: bool, tmp_path: Path) -> None:
    module = Inner(remembers=not decomposed).eval()  # the decomposition of an LSTM takes a minute
    program = torch.export.export(module, (torch.zeros(2, 3, 9, 9),), dynamic_shapes=({0: torch.export.Dim("batch")},))
    if decomposed:
        program = program.run_decompositions()
    torch.export.save(program, tmp_path / "net.pt2")
    images = torch.rand(3, 3, 9, 9)
    model = build_model("net", "file", str(tmp_path / "net.pt2"), {})
    torch.testing.assert_close(model.module(images), module(images), rtol=1e-4, atol=1e-5)


def test_inner_operators_refuse_what_their_kernels_would_read_beyond() -> None:
    x, one = torch.ones(2, 8, 3, 3), torch.ones(1)
    tokens = torch.ones(1, 2, 4, 8)
    wrong: dict[str, Callable[[Callable[..., Any]], Any]] = {
        "_native_batch_norm_legit_no_training.default": lambda f: f(x, one, one, one, one, 0.1, 1e-5),
        "native_batch_norm.default": lambda f: f(x, None, None, one, one, False, 0.1, 1e-5),
        "_weight_norm_interface.default": lambda f: f(torch.ones(9, 4), torch.ones(7, 1)),
        "_scaled_dot_product_flash_attention_for_cpu.default": lambda f: f(tokens, tokens, tokens[:, :, :2]),
        "as_strided.default": lambda f: f(x, [4, 4], [1000, 1]),
        "lstm.input": lambda f: f(tokens[0], [x, x], [one] * 4, True, 1, 0.0, False, False, True),
    }
    for name, call in wrong.items():
        with pytest.raises((RuntimeError, ValueError)):
            call(SUBSTITUTES[name])


def test_whole_numbers_are_divided_without_a_trap() -> None:
    least = torch.tensor([-(2**63), -7, 7, -8], dtype=torch.int64)
    assert _divided(least, -1, rounding_mode="trunc").shape == (4,)
    for mode in ("trunc", "floor"):
        for divisor in (2, -2, 3):
            got = _divided(least[1:], divisor, rounding_mode=mode)
            exact = [value / divisor for value in least[1:].tolist()]
            assert got.tolist() == [math.trunc(e) if mode == "trunc" else math.floor(e) for e in exact]


@pytest.mark.parametrize("side", [0, -1, -(1 << 63), 2.5, True])
def test_a_picture_has_sides(program: str, side: object) -> None:
    def change(value: dict[str, Any]) -> None:
        graph = value["graph_module"]["graph"]
        graph["tensor_values"]["images"]["sizes"][1] = {"as_int": side}

    change_json(program, PROGRAM, change)
    with pytest.raises(ModelError, match=r"is refused: it holds pictures of "):
        build_model("net", "file", program, {})
