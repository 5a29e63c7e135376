"""The catalog's file: SQLite, with a schema version, safe when two processes use it at once.

Every write is one transaction that takes SQLite's write lock at once (`BEGIN IMMEDIATE`) and waits for it up to
`BUSY_SECONDS`; the write-ahead log lets readers go on meanwhile.
"""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from kryptondb.errors import BindError, CatalogError
from kryptondb.paths import expanded, unusable

if TYPE_CHECKING:
    from typing_extensions import Self

APPLICATION_ID = 0x4B525950  # "KRYP": tells our files from other SQLite files
BUSY_SECONDS = 30.0
SQLITE_MAGIC = b"SQLite format 3\x00"

# One text a schema version; a file of version n has run the first n. Never edit one that was released: add another.
MIGRATIONS = (
    """
    CREATE TABLE models (
        folded TEXT PRIMARY KEY,
        name TEXT NOT NULL,
        kind TEXT NOT NULL,
        source TEXT NOT NULL,
        options TEXT NOT NULL,
        created TEXT NOT NULL,
        fingerprint TEXT NOT NULL,
        summary TEXT NOT NULL
    ) WITHOUT ROWID;
    CREATE TABLE settings (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
    CREATE TABLE rates (device TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
    """,
    """
    CREATE TABLE layer_rates (
        device TEXT NOT NULL,
        layer TEXT NOT NULL,
        algorithm TEXT NOT NULL,
        flops_per_second REAL NOT NULL,
        measured TEXT NOT NULL,
        PRIMARY KEY (device, layer, algorithm)
    ) WITHOUT ROWID;
    """,
    """
    CREATE TABLE profiles (
        id INTEGER PRIMARY KEY,
        model TEXT NOT NULL,
        fingerprint TEXT NOT NULL,
        shape TEXT NOT NULL,
        device TEXT NOT NULL,
        UNIQUE (fingerprint, shape, device)
    );
    CREATE TABLE profiled_images (
        id INTEGER PRIMARY KEY,
        profile INTEGER NOT NULL,
        image TEXT NOT NULL,
        name TEXT NOT NULL,
        seconds REAL NOT NULL,
        measured TEXT NOT NULL,
        UNIQUE (profile, image)
    );
    CREATE TABLE profiled_recipes (
        image INTEGER NOT NULL,
        recipe TEXT NOT NULL,
        ssim REAL NOT NULL,
        seconds REAL NOT NULL,
        PRIMARY KEY (image, recipe)
    ) WITHOUT ROWID;
    """,
    "ALTER TABLE profiled_recipes ADD COLUMN further REAL NOT NULL DEFAULT 0;",
)
SCHEMA_VERSION = len(MIGRATIONS)


@dataclass(frozen=True)
class ModelRecord:
    """One remembered model: how to build it again, and what it was when it was created.

    Attributes:
        name: as written; looked up without regard to case.
        kind: 'torchvision', 'file', 'pretrained' (or another kind of `CREATE MODEL ... FROM`).
        source: the architecture's name, or the absolute path of a file.
        options: what followed WITH, as JSON values; paths are absolute.
        created: ISO 8601, UTC.
        fingerprint: sha256 of architecture, weights and preprocessing, in hex.
        summary: what `SHOW MODELS` and `DESCRIBE` say without building the model, as JSON values.
    """

    name: str
    kind: str
    source: str
    options: dict[str, Any]
    created: str
    fingerprint: str
    summary: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class LayerRecord:
    """How fast one device computes one shape of layer by one algorithm.

    Attributes:
        layer: the shape, as JSON values.
        measured: ISO 8601, UTC.
    """

    layer: dict[str, Any]
    algorithm: str
    flops_per_second: float
    measured: str


class Catalog:
    """A catalog in a file, or in memory when `path` is None or ':memory:'.

    Raises:
        CatalogError: the file is no SQLite file, is another program's, was written by a newer KryptonDB, or cannot be
            opened, read or written.
    """

    def __init__(self, path: str | Path | None = None) -> None:
        problem = unusable(path) if path is not None else None
        if problem is not None:
            raise CatalogError(f"{str(path)!r} cannot be a catalog: {problem}", hint="Give another path.")
        self.path = None if path is None or str(path) == ":memory:" else expanded(path).absolute()
        self._lock = threading.RLock()  # one connection, used by one thread at a time
        self._connection: sqlite3.Connection | None = None
        if self.path is not None:
            self._check_file(self.path)
        try:
            self._connection = sqlite3.connect(
                ":memory:" if self.path is None else str(self.path),
                timeout=BUSY_SECONDS,
                isolation_level=None,  # transactions are begun by `writing`, never implicitly
                check_same_thread=False,
            )
            self._prepare(self._connection)
        except sqlite3.Error as error:
            self.close()
            raise self._failure(error) from error
        except CatalogError:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the file; closing again does nothing."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    # Models

    def put_model(self, record: ModelRecord, replace: bool = False) -> None:
        """Remembers a model. Raises BindError when the name is taken and `replace` is False."""
        row = (
            record.name.casefold(),
            record.name,
            record.kind,
            record.source,
            json.dumps(record.options),
            record.created,
            record.fingerprint,
            json.dumps(record.summary),
        )
        with self.writing() as connection:
            taken = connection.execute("SELECT name FROM models WHERE folded = ?", row[:1]).fetchone()
            if taken and not replace:
                raise name_taken(taken[0])
            connection.execute("INSERT OR REPLACE INTO models VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)

    def model(self, name: str) -> ModelRecord | None:
        """The model of that name, in any case, or None."""
        rows = self.read(f"SELECT {_MODEL_FIELDS} FROM models WHERE folded = ?", (name.casefold(),))
        return self._record(rows[0]) if rows else None

    def models(self) -> list[ModelRecord]:
        """All models, by name."""
        return [self._record(row) for row in self.read(f"SELECT {_MODEL_FIELDS} FROM models ORDER BY folded")]

    def put_summary(self, record: ModelRecord, summary: dict[str, Any]) -> None:
        """Keeps another summary of a model, as long as it is still the one of that record."""
        with self.writing() as connection:
            connection.execute(
                "UPDATE models SET summary = ? WHERE folded = ? AND fingerprint = ? AND created = ?",
                (json.dumps(summary), record.name.casefold(), record.fingerprint, record.created),
            )

    def drop_model(self, name: str) -> bool:
        """Forgets a model; False when there was none of that name."""
        with self.writing() as connection:
            return connection.execute("DELETE FROM models WHERE folded = ?", (name.casefold(),)).rowcount > 0

    # Settings

    def setting(self, name: str) -> str | None:
        """The remembered text of a setting, or None when it was never set."""
        rows = self.read("SELECT value FROM settings WHERE name = ?", (name,))
        return str(rows[0][0]) if rows else None

    def put_setting(self, name: str, value: str) -> None:
        """Remembers a setting's text."""
        with self.writing() as connection:
            connection.execute("INSERT OR REPLACE INTO settings VALUES (?, ?)", (name, value))

    def settings(self) -> dict[str, str]:
        """All settings that were ever set."""
        return {str(name): str(value) for name, value in self.read("SELECT name, value FROM settings ORDER BY name")}

    # Rates

    def rates(self, device: str) -> dict[str, Any] | None:
        """What was measured on a device (the key is the caller's), or None."""
        rows = self.read("SELECT value FROM rates WHERE device = ?", (device,))
        return self.json_object(rows[0][0]) if rows else None

    def put_rates(self, device: str, rates: dict[str, Any]) -> None:
        """Remembers what was measured on a device, as JSON."""
        with self.writing() as connection:
            connection.execute("INSERT OR REPLACE INTO rates VALUES (?, ?)", (device, json.dumps(rates)))

    def layer_rates(self, device: str) -> list[LayerRecord]:
        """What was measured of single layers on a device, the newest of each layer and algorithm."""
        fields = "layer, algorithm, flops_per_second, measured"
        rows = self.read(f"SELECT {fields} FROM layer_rates WHERE device = ? ORDER BY layer, algorithm", (device,))
        return [LayerRecord(self.json_object(layer), *rest) for layer, *rest in rows]

    def put_layer_rate(self, device: str, rate: LayerRecord) -> None:
        """Remembers one layer's rate instead of an older one of the same layer and algorithm."""
        row = (device, json.dumps(rate.layer, sort_keys=True), rate.algorithm, rate.flops_per_second, rate.measured)
        with self.writing() as connection:
            connection.execute("INSERT OR REPLACE INTO layer_rates VALUES (?, ?, ?, ?, ?)", row)

    def devices(self) -> list[str]:
        """The devices that anything was measured on, sorted."""
        rows = self.read("SELECT device FROM rates UNION SELECT device FROM layer_rates ORDER BY device")
        return [str(device) for (device,) in rows]

    # Inside

    @property
    def _where(self) -> str:
        return "the catalog in memory" if self.path is None else f"the catalog {self.path}"

    def _failure(self, error: Exception) -> CatalogError:
        message = str(error)
        if "locked" in message or "busy" in message:
            hint = f"Another program has kept it locked for {BUSY_SECONDS:g} seconds: try again when it is done."
        elif "readonly" in message or "unable to open" in message:
            hint = "Check that the file and its folder can be written."
        else:
            hint = "Give another file, or restore this one from a copy."
        return CatalogError(f"{self._where} cannot be used: {message}", hint=hint)

    def _check_file(self, path: Path) -> None:
        """Refuses folders and files that are not SQLite, before SQLite touches them."""
        if not path.parent.is_dir():
            raise CatalogError(f"the folder {path.parent} does not exist", hint="Create it, or give another path.")
        if path.is_dir():
            raise CatalogError(f"{path} is a folder, not a catalog file", hint="Give a file inside it.")
        try:
            if path.exists() and path.stat().st_size:
                with path.open("rb") as file:
                    if file.read(len(SQLITE_MAGIC)) != SQLITE_MAGIC:
                        raise CatalogError(
                            f"{path} is not a KryptonDB catalog", hint="Give a new path, or a file that KryptonDB made."
                        )
        except OSError as error:
            raise CatalogError(f"{path} cannot be read: {error.strerror or error}") from error

    def _prepare(self, connection: sqlite3.Connection) -> None:
        """Checks whose file it is, then brings its schema up to this version."""
        version = self._version(connection)
        if version < SCHEMA_VERSION:
            # Two processes may create the same file: whoever gets the lock second finds the work done.
            with self._transaction(connection):
                version = self._version(connection)
                for number in range(version, SCHEMA_VERSION):
                    for statement in MIGRATIONS[number].split(";"):
                        connection.execute(statement)
                    connection.execute(f"PRAGMA user_version = {number + 1}")
                connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        if self.path is not None:
            self._use_write_ahead_log(connection)

    def _version(self, connection: sqlite3.Connection) -> int:
        """The file's schema version, 0 for an empty file; CatalogError when it is not ours or from the future."""
        version = int(connection.execute("PRAGMA user_version").fetchone()[0])
        application = int(connection.execute("PRAGMA application_id").fetchone()[0])
        tables = int(connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0])
        if application != APPLICATION_ID and (tables or version or application):
            raise CatalogError(
                f"{self.path} is a SQLite file of another program, not a KryptonDB catalog", hint="Give a new path."
            )
        if version > SCHEMA_VERSION:
            raise CatalogError(
                f"{self._where} was written by a newer KryptonDB (schema version {version}; this one knows"
                f" {SCHEMA_VERSION})",
                hint="Upgrade with: pip install --upgrade kryptondb",
            )
        return version

    @staticmethod
    def _use_write_ahead_log(connection: sqlite3.Connection) -> None:
        """Switches to WAL. SQLite does not wait for the lock here, so this does; some file systems have no WAL."""
        deadline = time.monotonic() + BUSY_SECONDS
        while connection.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
            try:
                connection.execute("PRAGMA journal_mode = WAL").fetchone()
                break
            except sqlite3.OperationalError as error:
                if "locked" not in str(error) or time.monotonic() > deadline:
                    raise
                time.sleep(0.02)
        connection.execute("PRAGMA synchronous = NORMAL")

    def _open(self) -> sqlite3.Connection:
        if self._connection is None:
            raise CatalogError(f"{self._where} is closed")
        return self._connection

    @staticmethod
    @contextmanager
    def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """One transaction: all that is written inside, or nothing where that raises."""
        with self._lock:
            connection = self._open()
            try:
                with self._transaction(connection):
                    yield connection
            except sqlite3.Error as error:
                raise self._failure(error) from error

    def read(self, sql: str, arguments: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        """The rows of a SELECT in SQL."""
        with self._lock:
            try:
                return self._open().execute(sql, arguments).fetchall()
            except sqlite3.Error as error:
                raise self._failure(error) from error

    def json_object(self, text: str) -> dict[str, Any]:
        """What a row keeps as JSON. Raises CatalogError where it holds no object."""
        try:
            value = json.loads(text)
        except ValueError as error:
            raise self._failure(error) from error
        if not isinstance(value, dict):
            raise self._failure(ValueError("a row holds no JSON object"))
        return value

    def _record(self, row: tuple[Any, ...]) -> ModelRecord:
        name, kind, source, options, created, fingerprint, summary = row
        return ModelRecord(
            name, kind, source, self.json_object(options), created, fingerprint, self.json_object(summary)
        )


_MODEL_FIELDS = "name, kind, source, options, created, fingerprint, summary"


def name_taken(name: str) -> BindError:
    """The error for a second model of the same name."""
    return BindError(
        f'there is a model named "{name}" already',
        hint=f"CREATE OR REPLACE MODEL {name} replaces it, DROP MODEL {name} forgets it.",
    )
