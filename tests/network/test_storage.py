"""Networks in files: what was traced is read back as it was, and nothing else is read at all."""

from __future__ import annotations

import copy
import dataclasses
import json
import random
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from torch import nn

from kryptondb.network import Network, storage, trace
from kryptondb.network.functions import OWN, function_named, name_of
from kryptondb.network.network_json import Unreadable, Unwritable, decoded, encoded, network_to_json
from kryptondb.network.storage import decode, read_network, write_network
from tests.networks import Branches, Gate, Pad, Slice, for_families, small_cnns, traced_family


def traced(*body: nn.Module) -> Network:
    torch.manual_seed(0)
    head = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.LazyLinear(3))
    module = nn.Sequential(*body, *head).eval()
    module(torch.zeros(1, 3, 12, 12))
    return trace(module, (3, 12, 12))


@pytest.fixture(scope="module")
def network() -> Network:
    return traced(
        *(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, 1)),
        *(Pad((1, 0, 2, -1), 0.5), nn.AvgPool2d(2, 1, 1, count_include_pad=False), Slice(1, 0, 2), Gate(4)),
        Branches("add_", nn.Identity(), nn.Conv2d(4, 4, 1)),
    )


@pytest.fixture
def file(network: Network, tmp_path: Path) -> Path:
    path = tmp_path / "net.network"
    write_network(network, path)
    return path


def assert_same(read: Network, written: Network, dtype: torch.dtype = torch.float32) -> None:
    images = torch.randn(2, *written.input_shape, dtype=dtype)
    with torch.inference_mode():
        assert torch.equal(read.run(images)[0], written.run(images)[0])
    assert len(read.nodes) == len(written.nodes) and read.module is None
    assert (read.output, read.classes, read.batch_statistics) == (
        *(written.output, written.classes, written.batch_statistics),
    )
    for mine, theirs in zip(read.nodes, written.nodes, strict=True):
        for name in ("index", "name", "operator", "rule", "inputs", "shape", "axes", "flops", "reason", "fresh"):
            assert getattr(mine, name) == getattr(theirs, name), (name, theirs.name)
        assert (mine.args, dict(mine.kwargs), mine.in_place) == (theirs.args, dict(theirs.kwargs), theirs.in_place)
        assert (mine.window is None) == (theirs.window is None)
        if mine.window is not None and theirs.window is not None:
            assert (mine.window.y, mine.window.x, mine.window.args) == (
                *(theirs.window.y, theirs.window.x, theirs.window.args),
            )
            assert (mine.window.counts is None) == (theirs.window.counts is None)
        if mine.constant is not None and theirs.constant is not None:
            assert mine.constant.stride() == theirs.constant.stride() or 1 in theirs.constant.shape
    assert read.tail == written.tail


@for_families()
def test_every_family_is_read_back_as_it_was_traced(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.fsync", lambda _: None)  # hundreds of megabytes that nobody needs after a crash
    written = traced_family(name).network
    write_network(written, tmp_path / "net.network")
    assert_same(read_network(tmp_path / "net.network"), written)


@pytest.mark.slow
@given(small_cnns())
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_network_is_read_back_as_it_was_traced(tmp_path: Path, drawn: tuple[nn.Module, tuple[int, int, int]]) -> None:
    module, shape = drawn
    written = trace(module, shape)
    assert written.traced, written.failure
    write_network(written, tmp_path / "net.network")
    assert_same(read_network(tmp_path / "net.network"), written, torch.float64)


def test_weights_lie_as_the_convolutions_want_them_and_need_the_file_no_more(file: Path, network: Network) -> None:
    read = read_network(file)
    weights = [node.constant for node in read.nodes if node.constant is not None and node.constant.ndim == 4]
    assert weights and all(weight.is_contiguous(memory_format=torch.channels_last) for weight in weights)
    with file.open("r+b") as stream:
        stream.truncate(100)  # of a mapped file, the next read would end the process
    assert_same(read, network)


def test_a_network_that_is_not_traced_is_not_written(tmp_path: Path) -> None:
    class Undecided(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.mean((2, 3)) if bool(x.sum() > 0) else x.amax((2, 3))

    network = trace(Undecided().eval(), (3, 8, 8))
    assert not network.traced
    with pytest.raises(Unwritable, match="not traced"):
        write_network(network, tmp_path / "net.network")
    assert list(tmp_path.iterdir()) == []


def test_a_function_without_a_name_is_not_written(network: Network, tmp_path: Path) -> None:
    node = dataclasses.replace(network.nodes[-1], function=lambda *_: None)
    changed = Network(
        (*network.nodes[:-1], node), *(getattr(network, n) for n in ("output", "input_shape", "classes")), None
    )
    with pytest.raises(Unwritable, match="the function"):
        write_network(changed, tmp_path / "net.network")


@pytest.mark.parametrize(
    "name",
    [
        *("aten.from_file.default", "aten.save.default", "aten._cudnn_init_dropout_state.default", "aten.__class__"),
        *("aten._dir.default", "aten.relu.__init__", "aten.relu.name", "aten", "os.system", "operator.attrgetter", ""),
        *("builtins.eval", "torch.load", "kryptondb.trace", "torchvision.nms.default", "aten.relu.default.name"),
    ],
)
def test_only_operators_that_compute_are_found_by_name(name: str) -> None:
    assert function_named(name) is None


def test_functions_are_found_again_by_their_names() -> None:
    aten = torch.ops.aten
    for function in (aten.relu.default, aten.relu_, aten.conv2d.default, aten._to_copy.default, *OWN.values()):
        name = name_of(function)
        assert name is not None and function_named(name) is function
    assert name_of(aten.from_file.default) is None and name_of(print) is None and name_of(nn.ReLU()) is None


def test_every_kind_of_argument_is_read_back() -> None:
    from kryptondb.network.node import Extent, Ref

    value = [
        *(None, True, 1, -2, 1.5, float("inf"), -float("inf"), "same", (1, [2, (3,)]), Ref(2), Extent.HEIGHT),
        *(torch.float32, torch.device("cpu"), torch.channels_last, torch.strided, torch.bool),
    ]
    assert decoded(json.loads(json.dumps(encoded(value), allow_nan=False)), 3) == value
    nothing = decoded(encoded(float("nan")), 0)
    assert nothing != nothing


@pytest.mark.parametrize("value", [torch.zeros(1), 1j, object(), {"a": 1}, torch.device("meta"), print])
def test_any_other_argument_is_not_written(value: object) -> None:
    with pytest.raises(Unwritable, match="an argument of type"):
        encoded([value])


@pytest.mark.parametrize(
    "value",
    [
        *({"ref": 3}, {"ref": -1}, {"ref": 0.0}, {"ref": True}, {"dtype": "load"}, {"device": "cuda"}, {"tuple": 1}),
        *({}, {"ref": 0, "tuple": []}, {"float": 1.0}, {"function": "aten.relu.default"}, 1 << 63, float("nan")),
        *("x" * 5000, [[[[[[[[[[1]]]]]]]]]], {"dtype": ["float32"]}),
    ],
)
def test_any_other_argument_is_not_read(value: object) -> None:
    with pytest.raises(Unreadable):
        decoded(value, 3)


# Files that are not what was written


def test_a_file_that_is_not_there_is_unreadable(tmp_path: Path) -> None:
    with pytest.raises(Unreadable):
        read_network(tmp_path / "none.network")
    with pytest.raises(Unreadable):
        read_network(tmp_path)


@pytest.mark.parametrize("key", ["format", "kryptondb", "torch", "room"])
def test_the_file_of_another_version_is_unreadable(file: Path, key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "_writer", lambda now=storage._writer(): {**now, key: "another"})
    with pytest.raises(Unreadable, match="another version"):
        read_network(file)


def test_a_truncated_file_is_unreadable(file: Path) -> None:
    whole = file.read_bytes()
    for length in [0, 1, 7, 8, 9, *range(16, len(whole), len(whole) // 40), len(whole) - 1]:
        file.write_bytes(whole[:length])
        with pytest.raises(Unreadable):
            read_network(file)


def test_a_damaged_file_is_unreadable_wherever_the_damage_is(file: Path, network: Network) -> None:
    whole = file.read_bytes()
    header = 8 + struct.unpack("<Q", whole[:8])[0]
    chance = random.Random(0)
    places = [*range(8), *(chance.randrange(8, header) for _ in range(150))]
    places += [chance.randrange(header, len(whole)) for _ in range(100)]
    read = 0
    for place in places:
        damaged = bytearray(whole)
        damaged[place] ^= 1 << chance.randrange(8)
        file.write_bytes(damaged)
        try:
            found = read_network(file)
        except Unreadable:
            continue
        assert_same(found, network)  # the damage was to what means nothing, such as a space behind the header
        read += 1
    assert read < len(places) / 4


def test_a_header_that_claims_too_much_is_not_read(file: Path) -> None:
    file.write_bytes(struct.pack("<Q", 1 << 40) + file.read_bytes()[8:])
    with pytest.raises(Unreadable, match="its header would be"):
        read_network(file)


def test_whatever_a_sound_file_claims_it_is_checked_before_it_runs(network: Network) -> None:
    """The nodes mutated a few hundred times behind a right checksum: read as a network, or refused; nothing else."""
    value, tensors = network_to_json(network)
    stored = {name: storage._in_memory_order(tensor) for name, tensor in tensors.items()}
    value["orders"] = {name: order for name, (_, order) in stored.items()}
    flat = {name: tensor for name, (tensor, _) in stored.items()}
    assert_same(decode(copy.deepcopy(value), flat), network)
    chance = random.Random(0)
    strange: list[Any] = [
        *(None, True, -1, 0, 1, 1 << 40, 1 << 70, 0.5, "", "x" * 10_000, "aten.from_file.default", [], {}, [[]]),
        *({"ref": 10**6}, {"tuple": [1]}, "os.system", [0] * 5, {"take_every": [0, 0, 0, 0]}, "relu", "window"),
    ]
    refused = 0
    for _ in range(400):
        changed = copy.deepcopy(value)
        mutate(changed, chance, strange)
        try:
            decode(changed, flat)
        except Unreadable:
            refused += 1
    assert refused > 200


def mutate(value: Any, chance: random.Random, strange: list[Any]) -> None:
    """Changes one thing somewhere in a JSON value: puts something strange there, takes it out, or doubles it."""
    while True:
        keys = list(value) if isinstance(value, dict) else list(range(len(value)))
        key = chance.choice(keys)
        if isinstance(value[key], (dict, list)) and value[key] and chance.random() < 0.85:
            value = value[key]
            continue
        change: Callable[[], None] = chance.choice(
            [lambda: value.__setitem__(key, chance.choice(strange)), lambda: value.__delitem__(key)]
        )
        change()
        return
