"""The models of a session."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

from kryptondb.catalog import MODEL_COLUMNS, Catalog, ModelStore
from kryptondb.errors import BindError, ModelError
from kryptondb.network import Network
from tests.networks import Pair, export, small_net

OPTIONS = {"weights": "random", "classes": 4, "size": 32}


@pytest.fixture
def store() -> ModelStore:
    return ModelStore(Catalog())


def test_a_model_is_found_again_by_another_session_of_the_same_catalog(program: Path, tmp_path: Path) -> None:
    with Catalog(tmp_path / "a.krypton") as catalog:
        made = ModelStore(catalog).create("Net", "file", str(program), {"labels": tuple("abcde"), "mean": 0.5})
    with Catalog(tmp_path / "a.krypton") as catalog:
        store = ModelStore(catalog)
        found = store.get("NET")
        assert (found.name, found.fingerprint, found.labels) == ("Net", made.fingerprint, tuple("abcde"))
        assert found.preprocess == made.preprocess
        assert store.get("net") is found  # built once


def test_relative_paths_are_remembered_absolute(program: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (program.parent / "labels.txt").write_text("a\nb\nc\nd\ne\n")
    monkeypatch.chdir(program.parent)
    catalog = Catalog()
    ModelStore(catalog).create("net", "file", "net.pt2", {"labels": "labels.txt"})
    monkeypatch.chdir("/")
    record = catalog.model("net")
    assert record is not None and record.source == str(program)
    assert record.options == {"labels": str(program.parent / "labels.txt")}
    assert ModelStore(catalog).get("net").labels == tuple("abcde")


def test_a_model_file_that_changed_is_reported_with_the_remedy(program: Path) -> None:
    catalog = Catalog()
    ModelStore(catalog).create("net", "file", str(program), {})
    export(small_net(5), program, side=16)
    with pytest.raises(ModelError) as caught:
        ModelStore(catalog).get("net")
    assert str(caught.value) == (
        f'model "net" is not what it was when it was created: {program} changed\n'
        "CREATE OR REPLACE MODEL net takes it as it is now."
    )
    store = ModelStore(catalog)
    store.create("net", "file", str(program), {}, replace=True)
    assert ModelStore(catalog).get("net").fingerprint == store.get("net").fingerprint


def test_a_labels_file_that_changed_is_reported(program: Path, tmp_path: Path) -> None:
    labels = tmp_path / "labels.txt"
    labels.write_text("a\nb\nc\nd\ne")
    catalog = Catalog()
    ModelStore(catalog).create("net", "file", str(program), {"labels": str(labels)})
    labels.write_text("e\nd\nc\nb\na")
    with pytest.raises(ModelError, match=r"labels\.txt changed"):
        ModelStore(catalog).get("net")


def test_libraries_that_changed_are_told_from_files(monkeypatch: pytest.MonkeyPatch) -> None:
    catalog = Catalog()
    ModelStore(catalog).create("net", "torchvision", "mnasnet0_5", OPTIONS)
    monkeypatch.setattr("kryptondb.catalog.weights.SEED", 1)
    with pytest.raises(ModelError, match=r"its libraries changed \(it was made with torch "):
        ModelStore(catalog).get("net")


def test_a_model_whose_file_is_gone_can_still_be_described_and_dropped(program: Path) -> None:
    catalog = Catalog()
    ModelStore(catalog).create("net", "file", str(program), {})
    program.unlink()
    store = ModelStore(catalog)
    with pytest.raises(ModelError, match="does not exist"):
        store.get("net")
    rows = dict(store.describe("net"))
    assert rows["classes"] == "5" and "does not exist" in rows["problem"]
    assert store.drop("net")


def test_what_another_process_replaced_or_dropped_is_seen(program: Path, tmp_path: Path) -> None:
    with Catalog(tmp_path / "a.krypton") as mine, Catalog(tmp_path / "a.krypton") as other:
        store = ModelStore(mine)
        store.create("net", "file", str(program), {})
        ModelStore(other).create("net", "file", str(program), {"mean": 0.5}, replace=True)
        assert store.get("net").preprocess.mean == (0.5, 0.5, 0.5)
        ModelStore(other).create("net", "file", str(program), {"mean": 0.5, "labels": tuple("abcde")}, replace=True)
        assert store.get("net").labels == tuple("abcde")
        ModelStore(other).drop("net")
        with pytest.raises(BindError):
            store.get("net")


def test_a_model_that_cannot_be_built_is_not_remembered(store: ModelStore) -> None:
    with pytest.raises(ModelError):
        store.create("net", "file", "/nowhere/net.pt2", {})
    assert store.names() == []


def test_an_unknown_model_names_the_nearest(store: ModelStore) -> None:
    store.register("chest", small_net(), size=16)
    with pytest.raises(BindError) as caught:
        store.get("chset")
    assert str(caught.value) == (
        'no model named "chset"\nDid you mean "chest"? SHOW MODELS lists what this database knows.'
    )
    with pytest.raises(BindError):
        store.drop("chset")
    assert not store.drop("chset", if_exists=True)
    assert store.drop("CHEST") and store.names() == []


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_a_module_in_another_precision_says_that_it_is_computed_in_float32(
    store: ModelStore, dtype: torch.dtype
) -> None:
    model, kind = store.register("net", small_net().to(dtype), size=16), str(dtype).removeprefix("torch.")
    assert model.weights == f"registered from Python, {kind} computed in float32"
    images = torch.rand(2, 3, 16, 16)
    torch.testing.assert_close(model.module(images), small_net().to(dtype).float()(images))
    mixed = small_net()
    mixed.head.to(dtype)
    assert store.register("mixed", mixed, size=16).weights == model.weights


def test_a_registered_module_is_copied_and_never_changed(store: ModelStore) -> None:
    module = small_net().train()
    model = store.register("net", module, size=(16, 16), mean=[0.5], std=0.25, scale=1, labels=list("abcde"))
    assert model is store.get("Net") and model.module is not module and module.training
    assert model.input_shape == (3, 16, 16) and model.labels == tuple("abcde") and model.architecture == "SmallNet"
    assert model.preprocess.mean == (0.5,) * 3 and model.preprocess.std == (0.25,) * 3
    assert model.weights == "registered from Python"
    images = torch.rand(2, 3, 16, 16)
    expected = small_net()(images)
    with torch.no_grad():
        module.head.weight.zero_()
    assert torch.equal(model.module(images), expected)


def test_a_registered_model_lives_as_long_as_the_session() -> None:
    catalog = Catalog()
    ModelStore(catalog).register("net", small_net(), size=16)
    assert ModelStore(catalog).names() == []


def test_registering_again_replaces_but_never_hides_a_remembered_model(store: ModelStore) -> None:
    first = store.register("net", small_net(), size=16)
    second = store.register("NET", small_net(1), size=16)
    assert store.get("net") is second and first.fingerprint != second.fingerprint and store.names() == ["NET"]
    with pytest.raises(BindError, match='a model named "NET" already'):
        store.create("net", "torchvision", "mnasnet0_5", OPTIONS)
    store.create("net", "torchvision", "mnasnet0_5", OPTIONS, replace=True)
    assert store.get("net").architecture == "torchvision mnasnet0_5"
    with pytest.raises(BindError, match="CREATE OR REPLACE"):
        store.register("net", small_net(), size=16)


def test_registering_refuses_what_is_no_classifier(store: ModelStore) -> None:
    with pytest.raises(ModelError, match="takes a torch.nn.Module, not str"):
        store.register("net", "resnet18")  # type: ignore[arg-type]
    with pytest.raises(ModelError, match="gives a tuple of 2"):
        store.register("net", Pair(), size=16)
    with pytest.raises(
        BindError, match="size must be a whole number of pixels from 1 to 8,192, or a pair .*, not 1000000"
    ):
        store.register("net", small_net(), size=10**6)
    with pytest.raises(ModelError, match="labels => has 2 labels, but the model has 5"):
        store.register("net", small_net(), size=16, labels=["a", "b"])
    with pytest.raises(ModelError, match="gives 5 scores, not 6"):
        store.register("net", small_net(), size=16, classes=6)


def test_models_are_listed_without_building_them(program: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    catalog = Catalog()
    ModelStore(catalog).create("b", "file", str(program), {})
    store = ModelStore(catalog)
    store.register("A", small_net(), size=16)
    monkeypatch.setattr("kryptondb.catalog.model_store.build_model", None)
    rows = [dict(zip(MODEL_COLUMNS, row, strict=True)) for row in store.rows()]
    assert [(row["name"], row["source"]) for row in rows] == [("A", "registered"), ("b", f"'{program}'")]
    assert [(row["input"], row["classes"], row["parameters"]) for row in rows] == [("16 x 16 RGB", 5, 145)] * 2
    assert all(row["created"] for row in rows)


def test_a_model_is_described(store: ModelStore) -> None:
    store.create("net", "torchvision", "mnasnet0_5", OPTIONS)
    rows = dict(store.describe("net", network=False))
    assert rows["source"] == "torchvision('mnasnet0_5')" and rows["architecture"] == "torchvision mnasnet0_5"
    assert rows["labels"] == "class 0, class 1, class 2, ... class 3" and rows["input"] == "32 x 32 RGB"
    assert rows["fingerprint"] == store.get("net").fingerprint and len(rows["fingerprint"]) == 64
    assert rows["created"].endswith("+00:00") and rows["preprocessing"].startswith("resized to short side")


def test_a_network_is_traced_once_a_model(store: ModelStore, monkeypatch: pytest.MonkeyPatch) -> None:
    traced: list[tuple[int, int, int]] = []
    module = ModuleType("kryptondb.network")
    module.trace = (  # type: ignore[attr-defined]
        lambda _, shape, activation: traced.append(shape) or Network((), 0, shape, 3, None)
    )
    monkeypatch.setitem(sys.modules, "kryptondb.network", module)
    store.register("net", small_net(), size=16)
    assert store.network("net") is store.network("NET")
    assert traced == [(3, 16, 16)]
    store.register("net", small_net(1), size=16)
    store.network("net")
    assert len(traced) == 2
