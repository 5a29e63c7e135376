"""Networks beside the database: a second session starts from them, and from nothing else."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from kryptondb.catalog import Catalog, Model, ModelStore, build_model, model_cache
from kryptondb.catalog.model_cache import NetworkCache
from kryptondb.errors import CatalogError, ModelError
from kryptondb.network import Network, trace
from tests.networks import export, small_net

PRINT = "0123456789abcdef" * 4


@pytest.fixture(scope="module")
def network() -> Network:
    return trace(small_net(), (3, 16, 16))


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return tmp_path / "a.krypton"


@pytest.fixture
def created(program: Path, database: Path) -> Path:
    """The cached file of a model `net` that another session has created."""
    with Catalog(database) as catalog:
        store = ModelStore(catalog)
        store.create("net", "file", str(program), {"labels": tuple("abcde"), "mean": 0.5})
        store.network("net")
    (file,) = Path(f"{database}-networks").iterdir()
    return file


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is built or traced from here on, in order."""
    done: list[str] = []

    def noted(name: str, real: Callable[..., object]) -> Callable[..., object]:
        return lambda *arguments, **named: (done.append(name), real(*arguments, **named))[1]

    monkeypatch.setattr("kryptondb.catalog.model_store.build_model", noted("build", build_model))
    monkeypatch.setattr("kryptondb.network.trace", noted("trace", trace))
    return done


def scores(store: ModelStore) -> torch.Tensor:
    with torch.inference_mode():
        return store.network("net").run(torch.full((1, 3, 16, 16), 0.25))[0]


def test_a_second_session_neither_builds_nor_traces(created: Path, database: Path, built: list[str]) -> None:
    with Catalog(database) as catalog:
        store = ModelStore(catalog)
        model = store.get("net")
        assert (model.name, model.labels, model.parameters) == ("net", tuple("abcde"), 145)
        assert model.preprocess.mean == (0.5, 0.5, 0.5) and model.architecture == "exported program"
        assert store.network("net").traced and built == []
        assert dict(store.describe("net"))["traced"] == "yes" and built == []
        torch.testing.assert_close(scores(store), small_net()(torch.full((1, 3, 16, 16), 0.25)))


def test_the_module_is_built_when_it_is_asked_for(created: Path, database: Path, built: list[str]) -> None:
    with Catalog(database) as catalog:
        model = ModelStore(catalog).get("net")
        images = torch.rand(2, 3, 16, 16)
        assert torch.equal(model.module(images), small_net()(images))
        assert model.module is model.module and built == ["build"]


def test_a_model_file_that_changed_is_not_answered_from_the_cache(created: Path, database: Path, program: Path) -> None:
    export(small_net(5), program, side=16)
    with Catalog(database) as catalog, pytest.raises(ModelError, match=r"net\.pt2 changed"):
        ModelStore(catalog).get("net")


def test_a_change_that_keeps_size_and_time_is_seen(created: Path, database: Path, program: Path) -> None:
    before = program.stat()
    data = bytearray(program.read_bytes())
    data[len(data) // 2] ^= 1
    program.write_bytes(data)
    os.utime(program, ns=(before.st_atime_ns, before.st_mtime_ns))
    with Catalog(database) as catalog:
        record = catalog.model("net")
        assert record is not None and not model_cache.is_unchanged(record)


def test_a_module_that_is_asked_for_after_its_file_changed_is_refused(
    created: Path, database: Path, program: Path
) -> None:
    with Catalog(database) as catalog:
        model = ModelStore(catalog).get("net")
        export(small_net(5), program, side=16)
        with pytest.raises(ModelError, match=r"net\.pt2 changed"):
            model.module  # noqa: B018


def test_weights_that_are_replaced_give_a_new_answer(tmp_path: Path, database: Path) -> None:
    options = {"classes": 4, "size": 32, "weights": str(tmp_path / "net.pth")}
    state = build_model("net", "torchvision", "mnasnet0_5", options | {"weights": "random"}).module.state_dict()
    answers = []
    for step in (0.0, 1.0):
        state["classifier.1.bias"] += step
        torch.save(state, tmp_path / "net.pth")
        with Catalog(database) as catalog:
            store = ModelStore(catalog)
            store.create("net", "torchvision", "mnasnet0_5", options, replace=True)
            store.network("net")
        with Catalog(database) as catalog:
            answers.append(ModelStore(catalog).network("net").run(torch.zeros(1, 3, 32, 32))[0])
    torch.testing.assert_close(answers[1], answers[0] + 1.0)
    assert len(list(Path(f"{database}-networks").iterdir())) == 1  # that of the first went with it


def test_a_file_written_to_while_a_model_is_built_counts_as_changed(
    program: Path, database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def build(*arguments: Any) -> Model:
        model = build_model(*arguments)
        export(small_net(5), program, side=16)
        return model

    monkeypatch.setattr("kryptondb.catalog.model_store.build_model", build)
    with Catalog(database) as catalog:
        store = ModelStore(catalog)
        store.create("net", "file", str(program), {})
        store.network("net")
        record = catalog.model("net")
        assert record is not None and not model_cache.is_unchanged(record)


def test_other_libraries_build_once_more_and_are_remembered(
    created: Path, database: Path, built: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    others = {**model_cache.library_versions(), "torchvision": "99.0"}
    monkeypatch.setattr(model_cache, "library_versions", lambda: others)
    for _ in range(2):
        with Catalog(database) as catalog:
            assert ModelStore(catalog).network("net").traced
    assert built == ["build"]


@pytest.mark.parametrize("damage", [b"", b"nonsense", None])
def test_a_damaged_cache_file_is_ignored_and_replaced(
    created: Path, database: Path, built: list[str], damage: bytes | None
) -> None:
    whole = created.read_bytes()
    created.write_bytes(whole[: len(whole) // 2] if damage is None else damage)
    with Catalog(database) as catalog:
        assert ModelStore(catalog).network("net").traced
    assert built == ["build", "trace"]
    with Catalog(database) as catalog:
        assert ModelStore(catalog).network("net").traced
    assert built == ["build", "trace"]


def test_the_network_of_another_model_is_ignored(created: Path, database: Path, built: list[str]) -> None:
    NetworkCache(database).write(created.stem, trace(small_net(classes=7), (3, 16, 16)))
    with Catalog(database) as catalog:
        assert ModelStore(catalog).network("net").classes == 5
    assert built == ["build", "trace"]


@pytest.mark.parametrize("change", [{"names": ["a"]}, {"classes": 7}, {"labels": ""}])
def test_a_record_that_does_not_say_all_is_not_enough(
    created: Path, database: Path, built: list[str], change: dict[str, object]
) -> None:
    with sqlite3.connect(database) as connection:
        (text,) = connection.execute("SELECT summary FROM models").fetchone()
        connection.execute("UPDATE models SET summary = ?", (json.dumps(json.loads(text) | change),))
    connection.close()
    with Catalog(database) as catalog:
        if "labels" in change:
            with pytest.raises(ModelError):
                ModelStore(catalog).get("net")
        else:
            assert ModelStore(catalog).get("net").labels == tuple("abcde")
    assert built == ["build"]


@pytest.mark.parametrize(
    "change", [{"names": None}, {"preprocess": "{}"}, {"files": []}, {"classes": "many"}, {"files": {"a\0": ""}}]
)
def test_a_record_with_other_values_is_damaged(created: Path, database: Path, change: dict[str, object]) -> None:
    with sqlite3.connect(database) as connection:
        (text,) = connection.execute("SELECT summary FROM models").fetchone()
        connection.execute("UPDATE models SET summary = ?", (json.dumps(json.loads(text) | change),))
    connection.close()
    with Catalog(database) as catalog:
        with pytest.raises(CatalogError, match=f'row "net", column summary: {next(iter(change))}.*\nDROP MODEL net'):
            ModelStore(catalog).get("net")
        assert ModelStore(catalog).drop("net")


def test_a_model_that_is_dropped_takes_its_network_along(created: Path, database: Path, program: Path) -> None:
    with Catalog(database) as catalog:
        store = ModelStore(catalog)
        store.create("twin", "file", str(program), {"mean": 0.5})
        store.drop("net")
        assert created.is_file()  # the twin has the same
        store.drop("twin")
        assert not created.parent.exists()


def test_a_registered_module_and_a_database_in_memory_keep_nothing(tmp_path: Path, program: Path) -> None:
    with Catalog(tmp_path / "a.krypton") as catalog:
        store = ModelStore(catalog)
        store.register("net", small_net(), size=16)
        store.network("net")
        assert not (tmp_path / "a.krypton-networks").exists()
    store = ModelStore(Catalog())
    store.create("net", "file", str(program), {})
    assert store.network("net").traced


def test_a_folder_that_cannot_be_written_is_no_error(program: Path, database: Path) -> None:
    Path(f"{database}-networks").write_text("a file where the folder should be")
    with Catalog(database) as catalog:
        store = ModelStore(catalog)
        store.create("net", "file", str(program), {})
        assert store.network("net").traced


def test_the_network_used_longest_ago_makes_room(network: Network, tmp_path: Path) -> None:
    cache = NetworkCache(tmp_path / "a.krypton")
    names = [digit * 64 for digit in "abc"]
    for age, name in enumerate(names[:2]):
        cache.write(name, network)
        os.utime(cache.folder / f"{name}.network", (1000 + age, 1000 + age))
    assert cache.read(names[0]) is not None  # used now, so that the other one is the oldest
    size = (cache.folder / f"{names[0]}.network").stat().st_size
    small = NetworkCache(tmp_path / "a.krypton", most_bytes=size + network.parameter_bytes)
    small.write(names[2], network)
    assert sorted(path.stem[0] for path in cache.folder.iterdir()) == ["a", "c"]


def test_a_network_that_never_fits_is_not_kept(
    network: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    NetworkCache(tmp_path / "a.krypton", most_bytes=10).write(PRINT, network)
    monkeypatch.setattr(model_cache, "FREE_BYTES", 1 << 60)
    NetworkCache(tmp_path / "a.krypton").write(PRINT, network)
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_process_left_half_written_is_removed(network: Network, tmp_path: Path) -> None:
    cache = NetworkCache(tmp_path / "a.krypton")
    cache.folder.mkdir()
    old, new = cache.folder / ".x.network.1.partial", cache.folder / ".y.network.2.partial"
    for path in (old, new):
        path.touch()
    os.utime(old, (1000, 1000))
    cache.write(PRINT, network)
    assert not old.exists() and new.exists()


@pytest.mark.parametrize("fingerprint", ["", "../../etc/passwd", "A" * 64, f"{PRINT}\n", PRINT[:-1]])
def test_only_a_fingerprint_names_a_file(network: Network, tmp_path: Path, fingerprint: str) -> None:
    cache = NetworkCache(tmp_path / "a.krypton")
    cache.write(fingerprint, network)
    cache.forget(fingerprint)
    assert cache.read(fingerprint) is None and list(tmp_path.iterdir()) == []
