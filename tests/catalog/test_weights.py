"""Weights from files."""

from __future__ import annotations

import collections
import io
import pickle
import struct
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from kryptondb.catalog.weights import load_state, read_state
from kryptondb.errors import ModelError
from tests.catalog.archives import Payload, pickled_payload
from tests.networks import export, small_net


def loaded(path: Path, **arguments: int) -> dict[str, torch.Tensor]:
    net = small_net(1, **arguments)
    load_state(net, read_state(str(path)), str(path))
    return net.state_dict()


def same(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


@pytest.mark.parametrize("kind", ["pth", "pt", "legacy", "safetensors", "wrapped", "parallel", "half"])
def test_a_state_is_read_from_every_way_to_save_it(tmp_path: Path, kind: str) -> None:
    state = small_net().state_dict()
    path = tmp_path / ("net.safetensors" if kind == "safetensors" else "net.pt" if kind == "pt" else "net.pth")
    if kind == "safetensors":
        save_file(state, path)
    elif kind == "legacy":
        torch.save(state, path, _use_new_zipfile_serialization=False)
    elif kind == "wrapped":
        torch.save({"epoch": 3, "state_dict": state, "optimizer": {"lr": 0.1}}, path)
    elif kind == "parallel":
        torch.save({f"module.{name}": tensor for name, tensor in state.items()}, path)
    elif kind == "half":
        torch.save(
            {name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in state.items()}, path
        )
        state = {name: t.half().float() if t.is_floating_point() else t for name, t in state.items()}
    else:
        torch.save(state, path)
    assert same(loaded(path), state)


def test_densenet_files_of_the_first_torchvision_get_their_new_names(tmp_path: Path) -> None:
    path = tmp_path / "densenet.pth"
    torch.save({"features.denseblock1.denselayer2.norm.1.running_mean": torch.zeros(1)}, path)
    assert list(read_state(str(path))) == ["features.denseblock1.denselayer2.norm1.running_mean"]


@pytest.mark.parametrize("legacy", [False, True])
def test_a_malicious_pickle_is_refused_and_nothing_runs(tmp_path: Path, legacy: bool) -> None:
    marker, path = tmp_path / "ran", tmp_path / "evil.pth"
    torch.save({"w": torch.zeros(1), "x": Payload(marker)}, path, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(ModelError, match=r"evil\.pth holds more than weights, and KryptonDB never unpickles: .*\nSave"):
        read_state(str(path))
    assert not marker.exists()
    torch.load(path, weights_only=False)  # the trap does snap where it is let
    assert marker.exists()


def test_a_bare_pickle_is_refused_and_nothing_runs(tmp_path: Path) -> None:
    marker, path = tmp_path / "ran", tmp_path / "evil.pt"
    path.write_bytes(pickle.dumps(Payload(marker)))
    with pytest.raises(ModelError, match=r"evil\.pt"):
        read_state(str(path))
    path.write_bytes(pickled_payload(marker)[:-30])  # a damaged archive
    with pytest.raises(ModelError, match=r"evil\.pt"):
        read_state(str(path))
    assert not marker.exists()


def test_a_whole_pickled_module_is_refused_with_the_remedy(tmp_path: Path) -> None:
    path = tmp_path / "module.pth"
    torch.save(small_net(), path)
    with pytest.raises(ModelError, match=r"never unpickles: .*SmallNet.*\nSave the state with torch.save"):
        read_state(str(path))


def test_archives_of_other_kinds_are_refused_by_name(tmp_path: Path) -> None:
    script = tmp_path / "script.pt"
    torch.jit.trace(small_net(), torch.zeros(1, 3, 16, 16)).save(str(script))
    with pytest.raises(ModelError, match="TorchScript archive.*\nSave its weights with"):
        read_state(str(script))
    program = tmp_path / "program.pt2"
    export(small_net(), program, side=16)
    program = program.rename(tmp_path / "program.pt")
    with pytest.raises(ModelError, match="exported program, not weights.*\nRename it"):
        read_state(str(program))


def test_an_archive_that_grows_when_unpacked_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bomb.pth"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", b"\0" * 10_000_000)
    with pytest.raises(ModelError, match="would grow"):
        read_state(str(path))


@pytest.mark.parametrize(
    "data", [b"", b"hello", b"PK\x03\x04 no archive", b"\x80\x02}q\x00.", b"\x80\x02" + b"\xff" * 50]
)
def test_damaged_files_are_model_errors(tmp_path: Path, data: bytes) -> None:
    for suffix in (".pth", ".safetensors"):
        path = tmp_path / f"damaged{suffix}"
        path.write_bytes(data)
        with pytest.raises(ModelError, match="damaged"):
            read_state(str(path))


def test_a_legacy_file_that_claims_a_terabyte_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "huge.pth"
    buffer = io.BytesIO()
    torch.save(collections.OrderedDict(w=torch.zeros(3)), buffer, _use_new_zipfile_serialization=False)
    data = buffer.getvalue()
    claimed = data.replace(b"K\x03Ntq", b"\x8a\x06" + (1 << 40).to_bytes(6, "little") + b"Ntq", 1)
    assert claimed != data
    path.write_bytes(claimed)
    with pytest.raises(ModelError, match=r"huge\.pth is not a sound weights file"):
        read_state(str(path))


@pytest.mark.parametrize("header", [1 << 62, 1 << 30, 200])
def test_a_safetensors_header_is_bounded_before_it_is_read(tmp_path: Path, header: int) -> None:
    path = tmp_path / "net.safetensors"
    path.write_bytes(struct.pack("<Q", header) + b"{}" + b" " * 20)
    with pytest.raises(ModelError, match="its header would be"):
        read_state(str(path))


def test_files_without_tensors_and_files_of_other_suffixes_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "list.pth"
    torch.save([torch.zeros(1)], path)
    with pytest.raises(ModelError, match="holds no named tensors but list"):
        read_state(str(path))
    with pytest.raises(ModelError, match=r"none\.pth does not exist"):
        read_state(str(tmp_path / "none.pth"))
    (tmp_path / "net.h5").write_bytes(b"x")
    with pytest.raises(ModelError, match=r"\.pth, \.pt or \.safetensors files, not net\.h5"):
        read_state(str(tmp_path / "net.h5"))


def misfit(state: dict[str, Any]) -> str:
    with pytest.raises(ModelError) as caught:
        load_state(small_net(), state, "/data/net.pth")
    return str(caught.value)


def test_a_wrong_class_count_is_reported_by_name_with_the_remedy() -> None:
    message = misfit(small_net(classes=7).state_dict())
    assert "the weights /data/net.pth do not fit: of 9 tensors 2 of another shape" in message
    assert "head.weight is 7 x 4, expected 5 x 4; head.bias is 7, expected 5" in message
    assert message.endswith("If only the classifier differs: classes => 7.")


def test_a_wrong_channel_count_is_reported_by_name_with_the_remedy() -> None:
    message = misfit(small_net(channels=1).state_dict())
    assert "stem.weight is 4 x 1 x 3 x 3, expected 4 x 3 x 3 x 3" in message
    assert "channels => 'L'" in message


def test_missing_and_unexpected_tensors_are_reported_by_name() -> None:
    state = {f"layer{i}.weight": torch.zeros(1) for i in range(6)}
    message = misfit({**state, "stem.weight": small_net().stem.weight})
    assert "7 missing (stem.bias; norm.weight; norm.bias and 4 more)" in message
    assert "6 unexpected (layer0.weight; layer1.weight; layer2.weight and 3 more)" in message


def test_tensors_of_another_kind_are_reported() -> None:
    state = small_net().state_dict()
    assert "head.bias is 5 of int64, expected 5" in misfit({**state, "head.bias": torch.zeros(5, dtype=torch.int64)})
    assert "cannot be copied" in misfit({**state, "head.bias": torch.zeros(5, device="meta")})


ODD = {
    "nested": lambda: torch.nested.nested_tensor([torch.ones(2), torch.ones(3)]),
    "sparse": lambda: torch.eye(3).to_sparse(),
    "sparse rows": lambda: torch.eye(3).to_sparse_csr(),
    "quantized": lambda: torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8),
    "meta": lambda: torch.zeros(3, device="meta"),
}


@pytest.mark.parametrize("kind", list(ODD))
@pytest.mark.parametrize("legacy", [False, True])
def test_tensors_that_are_not_dense_are_refused(tmp_path: Path, kind: str, legacy: bool) -> None:
    path = tmp_path / "odd.pth"
    state = {"weight": ODD[kind](), "bias": torch.zeros(3)}
    try:
        torch.save(state, path, _use_new_zipfile_serialization=not legacy)
    except (RuntimeError, TypeError):
        pytest.skip("this torch does not save it so")
    with pytest.raises(ModelError, match=r"odd\.pth (holds|is not a sound weights file)"):
        read_state(str(path))


@pytest.mark.parametrize("maker", ["builtins\nbytearray", "__builtin__\nbytearray", "torch._utils\n_rebuild_qtensor"])
@pytest.mark.parametrize("bare", [False, True])
def test_what_a_weights_file_would_make_as_long_as_it_says_is_not_made(tmp_path: Path, maker: str, bare: bool) -> None:
    pickled = b"\x80\x02c" + maker.encode() + b"\nJ\x00\xca\x9a\x3b\x85R."  # of a thousand million bytes
    path = tmp_path / "long.pth"
    if bare:
        path.write_bytes(pickled)
    else:
        torch.save({"weight": torch.zeros(3)}, path)
        with zipfile.ZipFile(path) as archive:
            records = {name: archive.read(name) for name in archive.namelist()}
        with zipfile.ZipFile(path, "w") as archive:
            for name, data in records.items():
                archive.writestr(name, pickled if name.endswith("data.pkl") else data)
    with pytest.raises(ModelError, match="holds more than weights, and KryptonDB never unpickles: "):
        read_state(str(path))


def test_files_from_before_batch_counters_still_load() -> None:
    state = {name: tensor for name, tensor in small_net().state_dict().items() if "batches" not in name}
    net = small_net(1)
    load_state(net, state, "old.pth")
    assert torch.equal(net.head.weight, small_net().head.weight)


def test_heads_that_only_train_may_be_in_the_file() -> None:
    state = {**small_net().state_dict(), "AuxLogits.weight": torch.zeros(1)}
    load_state(small_net(), state, "net.pth", ignored=("AuxLogits.",))
    assert "1 unexpected (AuxLogits.weight)" in misfit(state)


def test_an_archive_of_several_disks_is_not_sound(tmp_path: Path) -> None:
    path = tmp_path / "net.pth"
    torch.save({"weight": torch.zeros(3)}, path)
    data = path.read_bytes()
    place = data.rindex(b"PK\x06\x07")  # where the archive's directory lies, and on how many disks
    path.write_bytes(data[: place + 16] + b"\x07\0\0\0" + data[place + 20 :])
    with pytest.raises(ModelError, match=r"net\.pth is not a sound weights file"):
        read_state(str(path))
