"""Exported programs, honest and hostile."""

from __future__ import annotations

import contextlib
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from kryptondb.catalog import build_model
from kryptondb.catalog.program_text import clean_tree_spec, is_identifier, is_size_expression
from kryptondb.errors import ModelError
from tests.catalog.archives import change_json, pickled_payload, rewrite
from tests.networks import Pair, SmallNet, export, small_net

PROGRAM = "models/model.json"
WEIGHTS = "data/weights/model_weights_config.json"
CONSTANTS = "data/constants/model_constants_config.json"


class Branching(nn.Module):
    """Symbolic sizes, several outputs of one operator, a constant, no_grad, strings: what real exports contain."""

    def __init__(self) -> None:
        super().__init__()
        self.net = small_net()
        self.scale = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0])

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            left, right = torch.nn.functional.pad(images, (1, 1, 1, 1), mode="reflect").chunk(2, dim=3)
        wide = torch.einsum("nchw,nchw->nchw", left, right).reshape(images.shape[0] * 3, -1).sum(1)
        return self.net(images) * self.scale + wide.view(images.shape[0], 3).sum(1, keepdim=True) * 0.01


@pytest.fixture
def program(program: Path) -> str:
    return str(program)


def test_an_exported_program_gives_the_same_scores(program: str) -> None:
    model = build_model("net", "file", program, {})
    assert model.input_shape == (3, 16, 16) and model.classes == 5 and model.parameters == 145
    assert model.architecture == "exported program" and model.weights == program and model.files == (program,)
    assert not any(parameter.requires_grad for parameter in model.module.parameters())
    images = torch.rand(3, 3, 16, 16)
    assert torch.equal(model.module(images), small_net()(images))


def test_symbolic_sizes_constants_and_strings_survive(tmp_path: Path) -> None:
    module = Branching().eval()
    model = build_model("net", "file", export(module, tmp_path / "net.pt2", side=16), {})
    images = torch.rand(4, 3, 16, 16)
    torch.testing.assert_close(model.module(images), module(images))


@pytest.mark.parametrize("padding", ["same", "valid"])
def test_padding_by_name_is_taken(padding: str, tmp_path: Path) -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 3, padding=padding), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    model = build_model("net", "file", export(module, tmp_path / "net.pt2", side=16), {})
    images = torch.rand(2, 3, 16, 16)
    torch.testing.assert_close(model.module(images), module(images))


def test_the_fingerprint_depends_on_graph_weights_and_preprocessing(program: str, tmp_path: Path) -> None:
    first = build_model("net", "file", program, {}).fingerprint
    assert build_model("other", "file", program, {"labels": tuple("abcde")}).fingerprint == first
    assert build_model("net", "file", program, {"mean": 0.5}).fingerprint != first
    other = export(small_net(3), tmp_path / "other.pt2", side=16)
    assert build_model("net", "file", other, {}).fingerprint != first


def test_a_program_reads_as_many_channels_as_it_was_made_for(tmp_path: Path) -> None:
    path = export(small_net(channels=1), tmp_path / "grey.pt2", channels=1, side=16)
    assert build_model("net", "file", path, {}).input_shape == (1, 16, 16)
    with pytest.raises(ModelError, match="reads 1 channels, so channels => 'L'"):
        build_model("net", "file", path, {"channels": "RGB"})
    path = export(small_net(channels=4), tmp_path / "four.pt2", channels=4, side=16)
    assert build_model("net", "file", path, {}).input_shape == (4, 16, 16)


def test_options_must_agree_with_the_program(program: str) -> None:
    with pytest.raises(ModelError, match="reads 16 x 16 pixels, not 32 x 32"):
        build_model("net", "file", program, {"size": 32})
    with pytest.raises(ModelError, match="gives 5 scores, not 9"):
        build_model("net", "file", program, {"classes": 9})


def test_a_program_for_a_single_image_must_take_a_batch(tmp_path: Path) -> None:
    class Fixed(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return images.mean((2, 3)).reshape(1, 3)

    with pytest.raises(ModelError, match=r"(fails on an input of 2 x|not one tensor \[2, classes\])"):
        build_model("net", "file", export(Fixed(), tmp_path / "fixed.pt2", dynamic=False, side=16), {})


def test_programs_that_give_something_else_are_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"gives a tuple of 2 \(a tensor of 2 x 3, a tensor of 2 x 3 x 16 x 16\)"):
        build_model("net", "file", export(Pair(), tmp_path / "pair.pt2", side=16), {})


def test_a_program_in_training_mode_is_refused_with_the_remedy(tmp_path: Path) -> None:
    path = export(SmallNet().train(), tmp_path / "train.pt2", side=16)
    with pytest.raises(ModelError, match="exported in training mode .*\nCall model.eval"):
        build_model("net", "file", path, {})


def refused(path: str, marker: Path) -> str:
    """Loads a hostile program; returns the refusal, after checking that nothing ran."""
    with pytest.raises(ModelError) as caught:
        build_model("net", "file", path, {})
    assert not marker.exists()
    return str(caught.value)


def test_a_pickle_among_the_sample_inputs_is_never_read(program: str, tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    rewrite(program, lambda records: records.update({"data/sample_inputs/model.pt": pickled_payload(marker)}))
    build_model("net", "file", program, {})
    assert not marker.exists()
    with contextlib.suppress(Exception):
        torch.export.load(program)  # the trap does snap where it is let
    assert marker.exists()


@pytest.mark.parametrize("kind", ["weights", "constants"])
def test_pickled_payloads_are_refused(program: str, tmp_path: Path, kind: str) -> None:
    marker = tmp_path / "ran"
    name = {"weights": "weight_0", "constants": "opaque_obj_0"}[kind]
    entry = {"path_name": name, "is_param": True, "use_pickle": True, "tensor_meta": None}
    config = {"weights": WEIGHTS, "constants": CONSTANTS}[kind]
    change_json(program, config, lambda value: value["config"].update({"head.weight": entry}))
    rewrite(program, lambda records: records.update({f"data/{kind}/{name}": pickled_payload(marker)}))
    assert f"is refused: it holds {kind} that are pickled" in refused(program, marker)


def test_archives_of_older_torch_keep_weights_as_pickles_and_are_refused(program: str, tmp_path: Path) -> None:
    marker = tmp_path / "ran"

    def change(records: dict[str, bytes]) -> None:
        records["data/weights/model.pt"] = pickled_payload(marker)
        del records[WEIGHTS]

    rewrite(program, change)
    assert "another version of torch" in refused(program, marker)


def test_compiled_code_is_refused(program: str, tmp_path: Path) -> None:
    rewrite(program, lambda records: records.update({"data/aotinductor/model/code.so": b"\x7fELF"}))
    assert "compiled code" in refused(program, tmp_path / "ran")


def first_node(value: dict[str, Any]) -> dict[str, Any]:
    node: dict[str, Any] = value["graph_module"]["graph"]["nodes"][0]
    return node


def hostile_graphs(marker: str) -> dict[str, Callable[[dict[str, Any]], object]]:
    code = f"__import__('pathlib').Path({marker!r}).touch()"

    def size(value: dict[str, Any]) -> None:
        values = value["graph_module"]["graph"]["tensor_values"]
        for meta in values.values():
            if meta["sizes"]:
                meta["sizes"][0] = {"as_expr": {"expr_str": code, "hint": None}}

    def rename(value: dict[str, Any]) -> None:
        text = json.dumps(value).replace('"name": "images"', json.dumps({"name": f"images): {code} #"})[1:-1])
        value.update(json.loads(text))

    def signature(value: dict[str, Any]) -> dict[str, Any]:
        return value["graph_module"]["module_call_graph"][0]["signature"]  # type: ignore[no-any-return]

    factory = {"default_factory_module": "antigravity", "default_factory_name": "x", "dict_context": []}
    spec = json.dumps([1, {"type": "collections.defaultdict", "context": factory, "children_spec": []}])
    enum = json.dumps(
        [1, {"type": "builtins.dict", "context": '[{"__enum__": 1, "fqn": "os:x"}]', "children_spec": []}]
    )
    write = {"name": "filename", "arg": {"as_string": marker}, "kind": 1}
    return {
        "symbolic size": size,
        "the name": rename,
        "the operator 'torch.hub.load'": lambda v: first_node(v).update(target="torch.hub.load"),
        "the operator 'torch.ops.aten.save": lambda v: first_node(v).update(target="torch.ops.aten.save.default"),
        "the operator 'torch.ops.aten.from_file": lambda v: first_node(v).update(
            target="torch.ops.aten.from_file.default"
        ),
        "the operator '_operator.methodcaller'": lambda v: first_node(v).update(target="_operator.methodcaller"),
        "the operator 'torch.ops.aten._print": lambda v: first_node(v).update(target="torch.ops.aten._print.default"),
        "an argument of type 'as_string'": lambda v: first_node(v)["inputs"].append(write),
        "an argument of type 'as_operator'": lambda v: first_node(v)["inputs"].append(
            {"name": "x", "arg": {"as_operator": "torch.hub.load"}, "kind": 1}
        ),
        "an argument of type 'as_custom_obj'": lambda v: first_node(v)["inputs"].append(
            {"name": "x", "arg": {"as_custom_obj": {"name": "a", "class_fqn": "b"}}, "kind": 1}
        ),
        'structure \'[1, {"type": "collections': lambda v: signature(v).update(in_spec=spec),
        'structure \'[1, {"type": "builtins': lambda v: signature(v).update(out_spec=enum),
        "custom objects": lambda v: v["graph_module"]["graph"].update(custom_obj_values={"a": {}}),
        "the dialect": lambda v: v.update(verifiers=["EDGE"]),
    }


@pytest.mark.parametrize("what", list(hostile_graphs("")))
def test_hostile_graphs_are_refused_by_name_and_nothing_runs(program: str, tmp_path: Path, what: str) -> None:
    marker = tmp_path / "ran"
    change_json(program, PROGRAM, hostile_graphs(str(marker))[what])
    message = refused(program, marker)
    assert f"is refused: it holds {what}" in message or what in message


def test_guards_metadata_and_custom_fields_are_left_out(program: str, tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    code = f"__import__('pathlib').Path({str(marker)!r}).touch()"

    def change(value: dict[str, Any]) -> None:
        value["guards_code"] = [code]
        value["graph_module"]["metadata"] = {"custom": "{"}
        first_node(value)["metadata"] = {"stack_trace": f"\n{code}", "from_node": "[", "source_fn_stack": "x,torch.hub"}

    change_json(program, PROGRAM, change)
    model = build_model("net", "file", program, {})
    model.module(torch.zeros(1, 3, 16, 16))
    assert not marker.exists()


@pytest.mark.parametrize("sizes", [[1 << 40], [1 << 20, 1 << 20], [-1], [True]])
def test_tensors_larger_than_their_bytes_are_refused(program: str, tmp_path: Path, sizes: list[int]) -> None:
    def change(value: dict[str, Any]) -> None:
        meta = value["config"]["head.bias"]["tensor_meta"]
        meta["sizes"] = [{"as_int": size} for size in sizes]
        meta["strides"] = [{"as_int": 0} for _ in sizes]

    change_json(program, WEIGHTS, change)
    assert "is refused" in refused(program, tmp_path / "ran")


def test_programs_exported_on_another_device_load_on_the_cpu(program: str) -> None:
    for record in (PROGRAM, WEIGHTS):
        change_json(
            program, record, lambda value: value.update(json.loads(json.dumps(value).replace('"cpu"', '"cuda"')))
        )
    assert build_model("net", "file", program, {}).classes == 5


@pytest.mark.parametrize(
    ("data", "reason"),
    [(b"", "cannot be read: the file is empty"), (b"hello", "is not"), (b"PK\x05\x06" + b"\0" * 18, "is not")],
)
def test_files_that_are_no_programs_are_model_errors(tmp_path: Path, data: bytes, reason: str) -> None:
    path = tmp_path / "broken.pt2"
    path.write_bytes(data)
    with pytest.raises(ModelError, match=rf"broken\.pt2 {reason}"):
        build_model("net", "file", str(path), {})


def test_torchscript_and_missing_files_are_named(tmp_path: Path) -> None:
    path = tmp_path / "script.pt2"
    torch.jit.trace(small_net(), torch.zeros(1, 3, 16, 16)).save(str(path))
    with pytest.raises(ModelError, match="TorchScript"):
        build_model("net", "file", str(path), {})
    with pytest.raises(ModelError, match=r"none\.pt2 does not exist"):
        build_model("net", "file", str(tmp_path / "none.pt2"), {})


def test_a_graph_that_does_not_hold_together_says_what_torch_says(
    program: str,
) -> None:
    change_json(program, PROGRAM, lambda value: value["graph_module"]["graph"]["nodes"].pop(0))
    with pytest.raises(ModelError, match=r"net\.pt2 cannot be loaded: "):
        build_model("net", "file", program, {})
    change_json(program, PROGRAM, lambda value: value["schema_version"].update(major=99))
    with pytest.raises(ModelError, match=r"cannot be loaded: .*schema version"):
        build_model("net", "file", program, {})


def test_programs_changed_at_random_load_or_are_model_errors(saved: Path, tmp_path: Path) -> None:
    path = tmp_path / "changed.pt2"
    chance = random.Random(7)
    for _ in range(40):
        path.write_bytes(saved.read_bytes())
        change_json(str(path), chance.choice([PROGRAM, PROGRAM, WEIGHTS]), lambda value: _damage(value, chance))
        with contextlib.suppress(ModelError):
            build_model("net", "file", str(path), {})


def _damage(value: Any, chance: random.Random) -> None:
    """Replaces one value somewhere in a JSON tree by something else."""
    while True:
        keys = list(value) if isinstance(value, dict) else list(range(len(value)))
        key = chance.choice(keys)
        if isinstance(value[key], (dict, list)) and value[key] and chance.random() < 0.9:
            value = value[key]
            continue
        value[key] = chance.choice([None, -1, 10**30, "x", [], {}, {"as_int": 1}, [{}], True, 0.5])
        return


@pytest.mark.parametrize(
    ("text", "allowed"),
    [
        ("Mul(Integer(16), Symbol('s77', positive=True, integer=True))", True),
        ("2*s0 + 1", True),
        ("-FloorDiv(s1, 2)", True),
        ("Symbol('x')", False),
        ("s0.__class__", False),
        ("print(1)", False),
        ("Symbol.mro()", False),
        ("9**9**9", False),
        ("[s0 for s0 in s1]", False),
        ("lambda: 0", False),
        ("(s1 := 2)", False),
        ("Integer(1e9)", False),
        ("Add(*s0)", False),
        ("", False),
        ("(" * 500, False),
        (None, False),
    ],
)
def test_symbolic_sizes_are_arithmetic_on_symbols(text: object, allowed: bool) -> None:
    assert is_size_expression(text) is allowed


def test_names_and_structures_are_plain() -> None:
    assert (
        is_identifier("conv2d_1") and not is_identifier("a b") and not is_identifier("class") and not is_identifier("é")
    )
    leaf = {"type": None, "context": None, "children_spec": []}
    spec = json.dumps([1, {"type": "builtins.dict", "context": '["logits"]', "children_spec": [leaf]}])
    assert clean_tree_spec(spec) == spec
    assert clean_tree_spec(spec.replace("logits", "a b")) is None
    assert clean_tree_spec("[" * 100_000) is None
