"""Catalogs that somebody else made or that cannot be written: each is an error that names file, row and remedy."""

from __future__ import annotations

import json
import os
import shutil
import socket
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

import kryptondb
from kryptondb.catalog import Catalog, LayerRecord, ProfileKey, ProfileStore, RecipeRecord, SampleRecord, store
from kryptondb.catalog.model_cache import file_digest, is_unchanged, library_versions
from kryptondb.catalog.store import MIGRATIONS, SCHEMA_VERSION, ModelRecord
from kryptondb.errors import CatalogError
from kryptondb.optimizer.cost import Rates
from tests.networks import small_network

SHAPE = {
    "patch": [16, 16],
    "stride": [4, 4],
    "fill": "gray",
    "score": "probability",
    "classes": {"kind": "top", "k": 1, "indices": []},
    "precision": "float32",
}
MEASURED = {"flops_per_second": 1e9, "bytes_per_second": 1e9, "seconds_per_call": 1e-5, "reduced": []}
CREATE = "CREATE MODEL nothing FROM 'nothing.onnx'"
DEEP = "[" * 100_000
TWICE = '{"a": 1, "a": 2}'
WRONG = '{"classes": "x", "bytes_per_second": 1e999, "step": true, "patch": 9, "in_channels": "3"}'


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A catalog with a row in every table."""
    path = tmp_path / "clinic.krypton"
    with Catalog(path) as catalog:
        catalog.put_model(
            ModelRecord("net", "torchvision", "resnet18", {"size": [8, 8]}, "2026", "f" * 64, {"classes": 5})
        )
        catalog.put_setting("device", "cpu")
        catalog.put_rates("cpu", MEASURED)
        catalog.put_layer_rate("cpu", LayerRecord({"in_channels": 3, "out_channels": 8}, "direct", 1e9, "2026"))
        recipe = RecipeRecord({"operator": "refined", "step": 2}, 0.9, 0.5)
        ProfileStore(catalog).put(
            ProfileKey("f" * 64, SHAPE, "cpu", "net"), SampleRecord("a", "a.png", 2.0, "2026", (recipe,))
        )
    return path


def read_all(path: Path) -> None:
    """Everything that a catalog is asked."""
    with Catalog(path) as catalog:
        catalog.models()
        catalog.settings()
        for device in catalog.devices():
            catalog.rates(device)
            catalog.layer_rates(device)
        profiles = ProfileStore(catalog)
        for key in profiles.known():
            profiles.samples(key)


def change(path: Path, *statements: str, arguments: tuple[object, ...] = ()) -> None:
    with closing(sqlite3.connect(path)) as connection:
        for statement in statements:
            connection.execute(statement, arguments)
        connection.commit()


TEXTS = [
    ("models", "name"), ("models", "kind"), ("models", "source"), ("models", "created"), ("models", "fingerprint"),
    ("settings", "value"), ("rates", "device"), ("layer_rates", "algorithm"), ("layer_rates", "measured"),
    ("profiles", "model"), ("profiles", "fingerprint"), ("profiles", "device"),
    ("profiled_images", "image"), ("profiled_images", "name"), ("profiled_images", "measured"),
]  # fmt: skip
DOCUMENTS = [("models", "options"), ("models", "summary"), ("rates", "value"), ("layer_rates", "layer"),
             ("profiles", "shape"), ("profiled_recipes", "recipe")]  # fmt: skip
NUMBERS = [("layer_rates", "flops_per_second"), ("profiled_images", "seconds"), ("profiled_recipes", "ssim"),
           ("profiled_recipes", "seconds"), ("profiled_recipes", "further")]  # fmt: skip
DAMAGES = [
    *((column, value) for column in TEXTS for value in (b"\xff", b"", "a\0b")),
    *((column, value) for column in DOCUMENTS for value in (b"{}", "", "[]", "{", "NaN", DEEP, TWICE, WRONG)),
    *((column, value) for column in NUMBERS for value in ("fast", b"\x00", 9e999, -9e999)),
]  # fmt: skip


@pytest.mark.parametrize(("column", "value"), DAMAGES)
def test_a_row_with_another_value_is_named_with_its_file_and_the_remedy(
    path: Path, column: tuple[str, str], value: object
) -> None:
    table, name = column
    change(path, f"UPDATE {table} SET {name} = ?", arguments=(value,))
    with pytest.raises(CatalogError) as caught:
        read_all(path)
    assert str(path) in caught.value.message and f"table {table}" in caught.value.message and caught.value.hint
    assert len(str(caught.value)) < 1_000


@pytest.mark.parametrize(
    ("table", "column", "text"),
    [("models", "source", b"caf\xff"), ("models", "kind", b"\xff"), ("profiles", "model", b"\xc3")],
)
def test_a_text_that_is_not_utf_8_is_told_with_its_row(path: Path, table: str, column: str, text: bytes) -> None:
    change(path, f"UPDATE {table} SET {column} = CAST(? AS TEXT)", arguments=(text,))
    if (table, column) == ("models", "source"):  # a path, whose bytes are whatever they are
        with Catalog(path) as catalog:
            assert os.fsencode(catalog.models()[0].source) == text
        return
    with pytest.raises(CatalogError, match=rf"table {table}, .*column {column}"):
        read_all(path)


def test_a_path_that_is_not_utf_8_is_kept(tmp_path: Path) -> None:
    source = os.fsdecode(b"/models/caf\xff.onnx")
    record = ModelRecord("net", "file", source, {"labels": source}, "2026", "f" * 64, {"files": {source: ""}})
    with Catalog(tmp_path / "a.krypton") as catalog:
        catalog.put_model(record)
        assert catalog.model("net") == record


def test_the_remedy_helps(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kryptondb.executor.calibrate.measure_layers", lambda *_: iter(()))
    monkeypatch.setattr("kryptondb.executor.calibrate.measure", lambda _: Rates())
    change(path, "UPDATE models SET source = x'00'", "UPDATE settings SET value = x'00'")
    change(path, "UPDATE profiles SET model = x'ff'", "UPDATE layer_rates SET layer = '[]'")
    change(path, "UPDATE rates SET value = '{}'", "INSERT INTO rates VALUES (x'00', 1)")
    with kryptondb.connect(path) as db:
        for statement in ("DROP PROFILES net", "DROP MODEL net", "SET device = 'cpu'", "CALIBRATE"):
            db.sql(statement)
        for statement in ("SHOW MODELS", "SHOW PROFILES", "SHOW SETTINGS", "SHOW CALIBRATION"):
            db.sql(statement).arrow()
    read_all(path)


@pytest.mark.parametrize(
    ("statements", "problem"),
    [
        (["CREATE TRIGGER t AFTER INSERT ON models BEGIN DELETE FROM models; END"], 'a trigger "t"'),
        (["DROP TABLE settings", "CREATE VIEW settings AS SELECT 'device' AS name, 'cpu' AS value"], "settings"),
        (["DROP TABLE rates"], 'no table "rates"'),
        (["DROP TABLE rates", "CREATE TABLE rates (device, value)"], 'its table "rates" has other columns'),
        (["DROP TABLE rates", "CREATE TABLE rates (device TEXT PRIMARY KEY, value TEXT NOT NULL)"], 'table "rates"'),
        (["ALTER TABLE models ADD COLUMN more TEXT"], 'its table "models"'),
        (["ALTER TABLE models DROP COLUMN summary"], 'its table "models"'),
        (['ALTER TABLE models RENAME TO "\x1b[2J"'], "table"),
        (["CREATE INDEX i ON models (upper(name))"], 'an? index "i"'),
        (["CREATE TABLE extra (x)"], 'a table "extra"'),
        (["PRAGMA user_version = 1"], "table"),
        (["PRAGMA user_version = -7"], "table"),
        ([f"PRAGMA user_version = {SCHEMA_VERSION + 1}"], "newer KryptonDB"),
        (["PRAGMA application_id = 5"], "another program"),
    ],
)
def test_another_schema_is_refused_before_anything_is_read(path: Path, statements: list[str], problem: str) -> None:
    change(path, *statements)
    before = path.read_bytes()
    with pytest.raises(CatalogError, match=problem) as caught:
        Catalog(path)
    assert caught.value.hint and "\x1b" not in str(caught.value) and path.read_bytes() == before


@pytest.mark.parametrize("version", range(1, len(MIGRATIONS)))
def test_catalogs_of_all_earlier_versions_have_the_tables_that_are_expected(
    tmp_path: Path, version: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as older:
        older.setattr(store, "SCHEMA_VERSION", version)
        Catalog(tmp_path / "old.krypton").close()
    read_all(tmp_path / "old.krypton")


def _socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes with names here")
@pytest.mark.parametrize("beside", ["", "-wal", "-shm", "-journal"])
@pytest.mark.parametrize("make", [os.mkfifo, _socket, lambda path: path.symlink_to("/dev/zero")])
def test_pipes_sockets_and_devices_are_refused_in_place_of_a_catalog(
    tmp_path: Path, make: Callable[[Path], object], beside: str
) -> None:
    make(tmp_path / f"a{beside}")
    with pytest.raises(CatalogError, match=rf"a{beside} cannot be a catalog: it is a \w+, not a regular file"):
        Catalog(tmp_path / "a")


@pytest.mark.parametrize("name", ["x" * 300, "file", "loop"])
def test_a_path_that_no_catalog_can_have_is_an_error_that_names_it(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(CatalogError, match=name[:50]):
        Catalog(tmp_path / name / "inside" if name == "file" else tmp_path / name)


@pytest.mark.parametrize("keep", [0, 1, 15, 16, 99, 100, 1000, 4095, 4096, 5000, 9000])
def test_a_catalog_that_was_cut_is_an_error_or_a_new_one(path: Path, keep: int) -> None:
    os.truncate(path, keep)
    if not keep:
        read_all(path)
        return
    with pytest.raises(CatalogError, match=r"clinic\.krypton"):
        read_all(path)


def test_damaged_pages_are_errors(path: Path) -> None:
    data = bytearray(path.read_bytes())
    for offset in range(100, len(data), 97):
        changed = bytearray(data)
        changed[offset] ^= 0xFF
        path.write_bytes(changed)
        try:
            read_all(path)
        except CatalogError as error:
            assert "clinic.krypton" in str(error)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes with names here")
@pytest.mark.parametrize("kind", ["device", "pipe", "folder", "huge", "proc", "missing"])
def test_a_file_of_a_model_that_is_no_regular_file_counts_as_changed(tmp_path: Path, kind: str) -> None:
    path = {"device": "/dev/zero", "proc": "/proc/kmsg"}.get(kind, str(tmp_path / kind))
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        Path(path).mkdir()
    elif kind == "huge":
        Path(path).touch()
        os.truncate(path, 1 << 42)
    assert file_digest(path) == ""
    summary = {"files": {path: "0" * 64}, "libraries": library_versions()}
    assert not is_unchanged(ModelRecord("net", "file", path, {}, "2026", "f" * 64, summary))


# Catalogs that cannot be written


@pytest.fixture
def sealed(path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The catalog in a folder that cannot be written, whoever runs the test."""
    folder = path.parent / "sealed"
    folder.mkdir()
    sealed = Path(shutil.copy(path, folder))
    sealed.chmod(0o444)
    folder.chmod(0o555)
    if os.access(folder, os.W_OK):  # root may write everywhere
        monkeypatch.setattr(store, "_unwritable", lambda path: "its folder cannot be written")
        connect = sqlite3.connect

        def refusing(address: str, **options: object) -> sqlite3.Connection:
            if address.startswith("file:") and "immutable" not in address:  # as where nothing can be made beside it
                raise sqlite3.OperationalError("unable to open database file")
            return connect(address, **options)  # type: ignore[call-overload, no-any-return]

        monkeypatch.setattr(store.sqlite3, "connect", refusing)
    yield sealed
    folder.chmod(0o755)


def test_a_catalog_that_cannot_be_written_answers_what_only_reads(sealed: Path) -> None:
    before = sealed.read_bytes()
    with kryptondb.connect(sealed) as db:
        assert db.sql("SHOW MODELS").arrow()["name"].to_pylist() == ["net"]
        for statement in ("SHOW SETTINGS", "SHOW PROFILES", "SHOW CALIBRATION"):
            db.sql(statement).arrow()
        for statement in ("SET device = 'cpu'", "DROP MODEL net", "DROP PROFILES net", "CALIBRATE", CREATE):
            with pytest.raises(CatalogError, match="is read-only: its folder cannot be written\n.*open a copy"):
                db.sql(statement)
    read_all(sealed)
    assert sealed.read_bytes() == before and list(sealed.parent.iterdir()) == [sealed]


def test_an_older_catalog_that_cannot_be_written_is_read_as_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    older = tmp_path / "older.krypton"
    with closing(sqlite3.connect(older)) as connection:
        store._migrate(connection, 0, 1)
        connection.execute(f"PRAGMA application_id = {store.APPLICATION_ID}")
        connection.execute("INSERT INTO settings VALUES ('threads', '1')")
        connection.commit()
    monkeypatch.setattr(store, "_unwritable", lambda path: "its folder cannot be written")
    with Catalog(older) as catalog:
        assert catalog.setting("threads") == "1" and catalog.layer_rates("cpu") == []
        with pytest.raises(CatalogError, match="read-only"):
            catalog.put_setting("threads", "2")


def test_rates_that_cannot_be_remembered_still_plan(sealed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kryptondb.executor.calibrate.measure", lambda _: Rates())
    with kryptondb.connect(sealed) as db:
        db.register("small", small_network(), size=32)
        query = "SELECT HEATMAP FROM occlude(small, 'sample:cat', patch => 16, stride => 16)"
        assert db.sql(query).heatmaps().shape == (1, 2, 2)
        assert "Image" in db.sql(f"EXPLAIN {query}").arrow()["plan"][0].as_py()


def test_a_full_disk_is_an_error_that_says_so(path: Path) -> None:
    with Catalog(path) as catalog:
        catalog.read("PRAGMA max_page_count = 1")
        with pytest.raises(CatalogError, match="full\nFree space"):
            for index in range(100):
                catalog.put_setting(f"name {index}", "x" * 900)
        read_all(path)


def test_summaries_of_models_are_text_and_numbers_again(path: Path) -> None:
    with Catalog(path) as catalog:
        assert json.loads(json.dumps(catalog.models()[0].summary)) == {"classes": 5}
