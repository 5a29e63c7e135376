"""The catalog's file."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from kryptondb.catalog import store
from kryptondb.catalog.store import SCHEMA_VERSION, Catalog, LayerRecord, ModelRecord
from kryptondb.errors import BindError, CatalogError
from tests.patience import PATIENCE

WRITER = """
import sys
from kryptondb.catalog.store import Catalog, ModelRecord
path, who, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
for index in range(count):
    with Catalog(path) as catalog:  # opens anew each time, so that creating the file is contended as well
        catalog.put_model(ModelRecord(f"{who}{index}", "torchvision", "resnet18", {"classes": index}, "now", "f"))
        catalog.put_setting("device", who)
        assert catalog.model(f"{who}{index}").options == {"classes": index}
"""

RATES = {"flops_per_second": 1e9, "bytes_per_second": 1e9, "seconds_per_call": 1e-5}


def record(name: str, **options: object) -> ModelRecord:
    return ModelRecord(
        name, "torchvision", "resnet18", dict(options), "2026-01-01T00:00:00+00:00", "f" * 64, {"classes": 5}
    )


def test_what_is_put_is_there_after_closing_and_opening_again(tmp_path: Path) -> None:
    with Catalog(tmp_path / "a.krypton") as catalog:
        catalog.put_model(record("Chest", size=[8, 8]))
        catalog.put_setting("device", "cpu")
        catalog.put_rates("cpu", RATES)
    with Catalog(tmp_path / "a.krypton") as catalog:
        assert catalog.model("chest") == record("Chest", size=[8, 8])
        assert catalog.models() == [record("Chest", size=[8, 8])]
        assert catalog.setting("device") == "cpu"
        assert catalog.settings() == {"device": "cpu"}
        assert catalog.rates("cpu") == RATES
        assert catalog.rates("cuda") is None and catalog.setting("threads") is None and catalog.model("net") is None


def test_a_path_is_taken_as_it_is_meant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with Catalog("~clinic.krypton") as catalog:
        assert catalog.path == tmp_path / "~clinic.krypton"
    with pytest.raises(CatalogError, match=r"'a\\x00b' cannot be a catalog: a path cannot hold a NUL"):
        Catalog("a\0b")


def test_the_newest_rate_of_a_layer_is_kept_by_device_and_algorithm(tmp_path: Path) -> None:
    shape = {"kernel": [3, 3], "in_channels": 4, "out_channels": 8}
    old, new, other = (LayerRecord(shape, name, 1e9, day) for name, day in (("a", "mo"), ("a", "tu"), ("b", "mo")))
    with Catalog(tmp_path / "a.krypton") as catalog:
        for rate in (old, other, new):
            catalog.put_layer_rate("cpu", rate)
        catalog.put_rates("cuda", RATES)
    with Catalog(tmp_path / "a.krypton") as catalog:
        assert catalog.layer_rates("cpu") == [new, other]
        assert catalog.layer_rates("cuda") == []
        assert catalog.devices() == ["cpu", "cuda"]


def test_the_catalog_of_an_older_version_opens_and_keeps_what_it_knows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "old.krypton"
    with monkeypatch.context() as older:
        older.setattr(store, "SCHEMA_VERSION", 1)
        with Catalog(path) as catalog:
            catalog.put_rates("cpu", RATES)
    with Catalog(path) as catalog:
        assert catalog.rates("cpu") == RATES
        assert catalog.layer_rates("cpu") == []
        catalog.put_layer_rate("cpu", LayerRecord({"in_channels": 3, "out_channels": 8}, "direct", 1e9, "now"))
    Catalog(path).close()


@pytest.mark.parametrize("path", [None, ":memory:"])
def test_a_catalog_in_memory_leaves_no_file(path: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with Catalog(path) as catalog:
        catalog.put_model(record("net"))
        assert catalog.model("NET") is not None
    assert list(tmp_path.iterdir()) == []


def test_names_are_kept_as_written_and_found_in_any_case() -> None:
    catalog = Catalog()
    catalog.put_model(record("Größe"))
    assert catalog.model("GRÖSSE") == record("Größe")
    assert catalog.drop_model("grösse")
    assert not catalog.drop_model("grösse")


def test_a_taken_name_is_an_error_unless_it_is_replaced() -> None:
    catalog = Catalog()
    catalog.put_model(record("net"))
    with pytest.raises(BindError, match='a model named "net" already exists\nCREATE OR REPLACE MODEL net'):
        catalog.put_model(record("NET"))
    catalog.put_model(record("NET", classes=3), replace=True)
    assert [model.name for model in catalog.models()] == ["NET"]


def test_two_processes_write_at_once_and_nothing_is_lost(tmp_path: Path) -> None:
    path, count = tmp_path / "shared.krypton", 25
    command = [sys.executable, "-c", WRITER, str(path)]
    writers = [subprocess.Popen([*command, who, str(count)], stderr=subprocess.PIPE, text=True) for who in "abc"]
    for writer in writers:
        _, errors = writer.communicate(timeout=PATIENCE)
        assert writer.returncode == 0, errors
    with Catalog(path) as catalog:
        assert {model.name for model in catalog.models()} == {f"{who}{i}" for who in "abc" for i in range(count)}
        assert catalog.setting("device") in ("a", "b", "c")


def test_a_process_killed_while_it_writes_leaves_a_sound_catalog(tmp_path: Path) -> None:
    path = tmp_path / "killed.krypton"
    writer = subprocess.Popen([sys.executable, "-c", WRITER, str(path), "a", "100000"])
    while writer.poll() is None:  # until something has been written
        with Catalog(path) as catalog:
            if len(catalog.models()) > 3:
                break
    writer.kill()
    writer.wait()
    with Catalog(path) as catalog:
        assert all(model.options == {"classes": int(model.name[1:])} for model in catalog.models())
        catalog.put_model(record("after"))


def test_threads_may_share_a_catalog(tmp_path: Path) -> None:
    with Catalog(tmp_path / "a.krypton") as catalog:
        threads = [threading.Thread(target=catalog.put_model, args=(record(f"m{i}"),)) for i in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(catalog.models()) == 16


def test_a_catalog_that_stays_locked_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "BUSY_SECONDS", 0.05)
    path = tmp_path / "locked.krypton"
    with Catalog(path) as catalog:
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(CatalogError, match="locked.*\nAnother program"):
            catalog.put_setting("device", "cpu")
        other.execute("ROLLBACK")
        other.close()
        catalog.put_setting("device", "cpu")


def test_a_newer_schema_is_refused_with_both_versions(tmp_path: Path) -> None:
    path = tmp_path / "new.krypton"
    Catalog(path).close()
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 6}")
    connection.close()
    with pytest.raises(
        CatalogError, match=rf"newer KryptonDB \(schema version {SCHEMA_VERSION + 6}; .* {SCHEMA_VERSION}\)"
    ):
        Catalog(path)


def test_files_that_are_no_catalogs_are_refused_and_left_alone(tmp_path: Path) -> None:
    picture = tmp_path / "scan.png"
    picture.write_bytes(b"\x89PNG and more")
    with pytest.raises(CatalogError, match=r"scan\.png is not a KryptonDB catalog"):
        Catalog(picture)
    assert picture.read_bytes() == b"\x89PNG and more"
    foreign = tmp_path / "other.db"
    connection = sqlite3.connect(foreign)
    connection.execute("CREATE TABLE models (x)")
    connection.close()
    before = foreign.read_bytes()
    with pytest.raises(CatalogError, match="SQLite file of another program"):
        Catalog(foreign)
    assert foreign.read_bytes() == before
    with pytest.raises(CatalogError, match="is a folder"):
        Catalog(tmp_path)
    with pytest.raises(CatalogError, match="does not exist"):
        Catalog(tmp_path / "nowhere" / "a.krypton")


def test_a_damaged_catalog_is_an_error_with_a_remedy(tmp_path: Path) -> None:
    path = tmp_path / "damaged.krypton"
    Catalog(path).close()
    path.write_bytes(path.read_bytes()[:100] + b"\xff" * 4000)
    with pytest.raises(CatalogError, match=r"damaged\.krypton cannot be used"), Catalog(path) as catalog:
        catalog.models()


def test_a_row_that_is_no_json_is_a_catalog_error(tmp_path: Path) -> None:
    with Catalog(tmp_path / "a.krypton") as catalog:
        catalog.put_model(record("net"))
        connection = sqlite3.connect(tmp_path / "a.krypton")
        connection.execute("UPDATE models SET options = '{'")
        connection.commit()
        connection.close()
        with pytest.raises(CatalogError):
            catalog.model("net")


def test_a_closed_catalog_says_that_it_is_closed() -> None:
    catalog = Catalog()
    catalog.close()
    catalog.close()
    with pytest.raises(CatalogError, match="is closed"):
        catalog.models()


def test_names_are_data_and_never_sql() -> None:
    catalog = Catalog()
    catalog.put_model(record("x'); DROP TABLE models; --"))
    assert len(catalog.models()) == 1
