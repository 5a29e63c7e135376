"""The catalog's file: SQLite, with a schema version, safe when two processes use it at once.

Every write is one transaction that takes SQLite's write lock at once (`BEGIN IMMEDIATE`) and waits for it up to
`BUSY_SECONDS`; the write-ahead log lets readers go on meanwhile.
"""

from __future__ import annotations

import functools
import json
import os
import sqlite3
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from kryptondb.catalog import rows
from kryptondb.catalog.rows import MOST_ROWS, MOST_VALUE, Table
from kryptondb.errors import BindError, CatalogError
from kryptondb.files.paths import expanded, unusable
from kryptondb.files.regular import NotRegular, check_regular, open_regular
from kryptondb.files.schema import Unfit, shown

if TYPE_CHECKING:
    from typing_extensions import Self

APPLICATION_ID = 0x4B525950  # "KRYP": marks our files among other SQLite files
BUSY_SECONDS = 30.0
SQLITE_MAGIC = b"SQLite format 3\x00"
MOST_BYTES = 64 << 30  # of a catalog: profiles of 1,000 images and 1,000 recipes each take 300 MB
READ_ONLY_BYTES = 1 << 30  # of an older one that cannot be written, and is brought up to this version in memory
#: What SQLite keeps beside a database. They are files of its own, or not there.
_BESIDE = ("-wal", "-shm", "-journal")
#: What is raised besides sqlite3's own errors where a file is damaged: names that are not UTF-8, numbers too large.
_DAMAGE = (sqlite3.Error, UnicodeError, OverflowError)

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

    A file that cannot be written is read all the same.

    Attributes:
        path: the file, absolute; None in memory.
        unwritable: why nothing can be written into the file; None where it can.

    Raises:
        CatalogError: the file is not a regular file or not a SQLite file, is another program's, was written by a newer
            KryptonDB, has other tables than KryptonDB makes, or cannot be opened or read.
    """

    def __init__(self, path: str | Path | None = None) -> None:
        problem = unusable(path) if path is not None else None
        if problem is not None:
            raise CatalogError(f"{str(path)!r} cannot be a catalog: {problem}", hint="Give another path.")
        self.path = None if path is None or str(path) == ":memory:" else expanded(path).absolute()
        self.unwritable: str | None = None
        self._lock = threading.RLock()  # one connection, used by one thread at a time
        self._connection: sqlite3.Connection | None = None
        if self.path is not None:
            self._check_file(self.path)
        try:
            self._connect()
        except _DAMAGE as error:
            self.close()
            raise self._failure(error) from error
        except BaseException:
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
            _stored(record.source),
            json.dumps(record.options),
            record.created,
            record.fingerprint,
            json.dumps(record.summary),
        )
        with self.writing() as connection:
            taken = connection.execute("SELECT name FROM models WHERE folded = ?", row[:1]).fetchone()
            if taken and not replace:
                raise name_taken(str(taken[0]))
            values = "?, ?, ?, CAST(? AS TEXT), ?, ?, ?, ?"
            connection.execute(f"INSERT OR REPLACE INTO models VALUES ({values})", row)

    def model(self, name: str) -> ModelRecord | None:
        """The model of that name, in any case, or None."""
        found = self.rows(rows.MODELS, f"SELECT {_MODEL_FIELDS} FROM models WHERE folded = ?", (name.casefold(),))
        return ModelRecord(*found[0]) if found else None

    def models(self) -> list[ModelRecord]:
        """All models, by name."""
        found = self.rows(rows.MODELS, f"SELECT {_MODEL_FIELDS} FROM models ORDER BY folded")
        return [ModelRecord(*row) for row in found]

    def model_names(self) -> list[str]:
        """The names of all models, of those with damaged rows too."""
        return [name for (name,) in self.rows(rows.MODELS, "SELECT name FROM models ORDER BY folded")]

    def has_fingerprint(self, fingerprint: str) -> bool:
        """Whether any model has that fingerprint."""
        return bool(self.read("SELECT 1 FROM models WHERE fingerprint = ? LIMIT 1", (fingerprint,)))

    def put_summary(self, record: ModelRecord, summary: dict[str, Any]) -> None:
        """Keeps another summary of a model, as long as it is still the one of that record."""
        with self.writing() as connection:
            connection.execute(
                "UPDATE models SET summary = ? WHERE folded = ? AND fingerprint = ? AND created = ?",
                (json.dumps(summary), record.name.casefold(), record.fingerprint, record.created),
            )

    def drop_model(self, name: str) -> bool:
        """Forgets a model, one with a damaged row too; False when there was none of that name."""
        with self.writing() as connection:
            return connection.execute("DELETE FROM models WHERE folded = ?", (name.casefold(),)).rowcount > 0

    # Settings

    def setting(self, name: str) -> str | None:
        """The remembered text of a setting, or None when it was never set."""
        found = self.rows(rows.SETTINGS, "SELECT name, value FROM settings WHERE name = ?", (name,))
        return str(found[0][1]) if found else None

    def put_setting(self, name: str, value: str) -> None:
        """Remembers a setting's text."""
        with self.writing() as connection:
            connection.execute("INSERT OR REPLACE INTO settings VALUES (?, ?)", (name, value))

    def settings(self) -> dict[str, str]:
        """All settings that were ever set."""
        return dict(self.rows(rows.SETTINGS, "SELECT name, value FROM settings"))

    # Rates

    def rates(self, device: str) -> dict[str, Any] | None:
        """What was measured on a device (the key is the caller's), or None."""
        found = self.rows(rows.RATES, "SELECT device, value FROM rates WHERE device = ?", (device,))
        return dict(found[0][1]) if found else None

    def put_rates(self, device: str, rates: dict[str, Any]) -> None:
        """Remembers what was measured on a device, as JSON."""
        with self.writing() as connection:
            connection.execute("INSERT OR REPLACE INTO rates VALUES (?, ?)", (device, json.dumps(rates)))

    def layer_rates(self, device: str) -> list[LayerRecord]:
        """What was measured of single layers on a device, the newest of each layer and algorithm."""
        found = self.rows(
            rows.LAYER_RATES, f"SELECT {_LAYER_FIELDS} FROM layer_rates WHERE device = ? ORDER BY 2, 3", (device,)
        )
        return [LayerRecord(*row) for _, *row in found]

    def put_layer_rate(self, device: str, rate: LayerRecord) -> None:
        """Remembers one layer's rate instead of an older one of the same layer and algorithm."""
        row = (device, json.dumps(rate.layer, sort_keys=True), rate.algorithm, rate.flops_per_second, rate.measured)
        with self.writing() as connection:
            connection.execute("INSERT OR REPLACE INTO layer_rates VALUES (?, ?, ?, ?, ?)", row)

    def devices(self) -> list[str]:
        """The devices that anything was measured on, sorted."""
        sql = "SELECT device FROM rates UNION SELECT device FROM layer_rates ORDER BY device"
        return [device for (device,) in self.rows(rows.RATES, sql)]

    def forget_damaged_rates(self) -> None:
        """Forgets the rates whose rows are damaged, so that they can be measured anew."""
        for table, fields, key in ((rows.RATES, "device, value", 1), (rows.LAYER_RATES, _LAYER_FIELDS, 3)):
            names = fields.split(", ")
            damaged = []
            for row in self.read(f"SELECT {fields} FROM {table.name}"):
                try:
                    table.checked(names, row)
                except Unfit:
                    damaged.append(row[:key])
            if damaged:
                where = " AND ".join(f"{name} IS ?" for name in names[:key])
                with self.writing() as connection:
                    connection.executemany(f"DELETE FROM {table.name} WHERE {where}", damaged)

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
        elif "full" in message:
            hint = "Free space on its disk, or give a path on another one."
        elif "disk I/O" in message:
            hint = "Check its disk: it may be full, over a quota, or failing."
        else:
            hint = "Give another file, or restore this one from a copy."
        return CatalogError(f"{self._where} cannot be used: {message}", hint=hint)

    def _check_file(self, path: Path) -> None:
        """Refuses folders, pipes, devices and files that are not SQLite, before SQLite touches them."""
        try:
            if not path.parent.is_dir():
                raise CatalogError(f"the folder {path.parent} does not exist", hint="Create it, or give another path.")
            if path.is_dir():
                raise CatalogError(f"{path} is a folder, not a catalog file", hint="Give a file inside it.")
            with suppress(FileNotFoundError), open_regular(path, MOST_BYTES, empty=True) as file:
                if (start := file.read(len(SQLITE_MAGIC))) and start != SQLITE_MAGIC:
                    raise CatalogError(
                        f"{path} is not a KryptonDB catalog", hint="Give a new path, or a file that KryptonDB made."
                    )
            for ending in _BESIDE:
                with suppress(FileNotFoundError):
                    check_regular(os.path.realpath(path) + ending, MOST_BYTES, empty=True)
        except NotRegular as error:
            raise CatalogError(
                f"{error.filename} cannot be a catalog: {error.strerror}", hint="Give another path."
            ) from error
        except OSError as error:
            raise CatalogError(
                f"{path} cannot be read: {error.strerror or error}", hint="Give another path, or permission to read it."
            ) from error

    def _connect(self) -> None:
        """Opens the file to write and read, or to read alone where it cannot be written."""
        if self.path is None:
            self._prepare(self._opened(":memory:"))
            return
        self.unwritable = _unwritable(self.path)
        if self.unwritable is None:
            try:
                self._prepare(self._opened(str(self.path)))
                self._use_write_ahead_log(self._open())
                return
            except sqlite3.OperationalError as error:
                if "locked" in str(error) or not self._has_content():
                    raise
                self.unwritable = str(error)
                self.close()
                try:
                    self._connect_to_read()
                except sqlite3.Error:
                    raise error from None
                return
        self._connect_to_read()

    def _connect_to_read(self) -> None:
        """Opens a file that cannot be written. What SQLite would have to write beside it first is read as it stands."""
        assert self.path is not None
        address = self.path.as_uri()
        try:
            connection = self._opened(f"{address}?mode=ro")
            version = self._version(connection)
        except sqlite3.OperationalError as error:
            log = Path(os.path.realpath(self.path) + "-wal")
            if "locked" in str(error) or (log.exists() and log.stat().st_size):
                raise
            self.close()
            connection = self._opened(f"{address}?mode=ro&immutable=1")
            version = -1
        if version != SCHEMA_VERSION:
            self._version(connection)
            try:
                check_regular(self.path, READ_ONLY_BYTES, empty=True)
            except OSError as error:
                raise CatalogError(
                    f"{self._where} cannot be used where it cannot be written: {error.strerror}",
                    hint="Copy it to a folder that can be written, and open the copy.",
                ) from error
            self._connection = None
            copy = self._opened(":memory:")
            with closing(connection):
                connection.backup(copy)
            self._prepare(copy)

    def _opened(self, address: str) -> sqlite3.Connection:
        connection = sqlite3.connect(
            address,
            timeout=BUSY_SECONDS,
            isolation_level=None,  # transactions are begun by `writing`, never implicitly
            check_same_thread=False,
            uri=address.startswith("file:"),
        )
        self._connection = connection
        connection.text_factory = _text
        if sys.version_info >= (3, 11):
            connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MOST_VALUE)
        connection.execute("PRAGMA trusted_schema = OFF")
        connection.execute("PRAGMA cell_size_check = ON")
        return connection

    def _has_content(self) -> bool:
        assert self.path is not None
        try:
            return self.path.stat().st_size > 0
        except OSError:
            return False

    def _prepare(self, connection: sqlite3.Connection) -> None:
        """Checks whose file it is, then brings its schema up to this version."""
        version = self._version(connection)
        if version < SCHEMA_VERSION:
            # Two processes may create the same file: the second to get the lock finds the work done.
            with self._transaction(connection):
                version = self._version(connection)
                _migrate(connection, version, SCHEMA_VERSION)
                connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")

    def _version(self, connection: sqlite3.Connection) -> int:
        """The file's schema version, 0 for an empty file.

        Raises:
            CatalogError: the file is another program's, a newer version's, or has other tables than its version.
        """
        begun = not connection.in_transaction
        if begun:  # all of it as it was at one moment, whatever another process makes of it
            connection.execute("BEGIN")
        try:
            version = int(connection.execute("PRAGMA user_version").fetchone()[0])
            application = int(connection.execute("PRAGMA application_id").fetchone()[0])
            tables = _tables(connection)
        finally:
            if begun and connection.in_transaction:
                connection.execute("COMMIT")
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
        self._check_tables(tables, max(0, version))
        return max(0, version)

    def _check_tables(self, found: dict[tuple[str, str], str], version: int) -> None:
        """Refuses a file whose tables are not those of its version: a trigger or view would run what it says."""
        expected = _tables_of(version)
        others = sorted(set(found) ^ set(expected)) or sorted(key for key in found if found[key] != expected[key])
        if others:
            kind, name = others[0]
            if others[0] not in found:
                problem = f"it has no {kind} {shown(name)}"
            elif others[0] not in expected:
                problem = f"it has a {kind} {shown(name)}, which KryptonDB does not make"
            else:
                problem = f"its {kind} {shown(name)} has other columns or rules than KryptonDB gives it"
            raise CatalogError(f"{self._where} is damaged: {problem}", hint=rows.RESTORE)

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

    def check_writable(self) -> None:
        """Raises CatalogError where the file cannot be written: before work whose outcome is to be remembered."""
        if self.unwritable is not None:
            raise CatalogError(
                f"{self._where} is read-only: {self.unwritable}",
                hint="Make the file and its folder writable, free space on its disk, or open a copy of it elsewhere.",
            )

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """One transaction: all that is written inside, or nothing where that raises.

        Raises:
            CatalogError: the file cannot be written.
        """
        with self._lock:
            connection = self._open()
            self.check_writable()
            try:
                with self._transaction(connection):
                    yield connection
            except _DAMAGE as error:
                raise self._failure(error) from error

    def read(self, sql: str, arguments: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        """The rows of a SELECT in SQL, unchecked."""
        with self._lock:
            try:
                return self._open().execute(sql, arguments).fetchmany(MOST_ROWS)
            except _DAMAGE as error:
                raise self._failure(error) from error

    def rows(self, table: Table, sql: str, arguments: tuple[Any, ...] = ()) -> list[list[Any]]:
        """The rows of a SELECT from one table, checked; columns of JSON are decoded.

        Raises:
            CatalogError: a row does not hold what its columns are for, or there are more than are read.
        """
        with self._lock:
            try:
                cursor = self._open().execute(sql, arguments)
                names = [column[0] for column in cursor.description]
                found = cursor.fetchmany(MOST_ROWS + 1)
            except _DAMAGE as error:
                raise self._failure(error) from error
        if len(found) > MOST_ROWS:
            raise CatalogError(f"{self._where} has more than {MOST_ROWS:,} rows in {table.name}", hint=rows.RESTORE)
        checked = []
        for row in found:
            try:
                checked.append(table.checked(names, row))
            except Unfit as unfit:
                raise CatalogError(f"{self._where} is damaged: {unfit}", hint=table.remedy_for(names, row)) from None
        return checked


_MODEL_FIELDS = "name, kind, source, options, created, fingerprint, summary"
_LAYER_FIELDS = "device, layer, algorithm, flops_per_second, measured"


def _text(data: bytes) -> str:
    """A text of the file; the check of its row refuses one that is not UTF-8, with the row's name."""
    return data.decode("utf-8", "surrogateescape")


def _stored(path: str) -> str | bytes:
    """A path as the file keeps it: as bytes where it is not UTF-8, which SQLite casts to text."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return os.fsencode(path)
    return path


def _unwritable(path: Path) -> str | None:
    """Why a file cannot be written that is there; None where it can, or is not there yet."""
    real = Path(os.path.realpath(path))
    if not real.exists():
        return None
    if not os.access(real, os.W_OK):
        return "its file cannot be written"
    if not os.access(real.parent, os.W_OK | os.X_OK):
        return "its folder cannot be written"
    return None


def _migrate(connection: sqlite3.Connection, version: int, to: int) -> None:
    """Brings the tables of one schema version to those of a later one."""
    for number in range(version, to):
        for statement in MIGRATIONS[number].split(";"):
            connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {number + 1}")


def _tables(connection: sqlite3.Connection) -> dict[tuple[str, str], str]:
    """What a file's schema has, by kind and name: the statement that made it. SQLite's own tables are left out."""
    found = connection.execute("SELECT type, name, sql FROM sqlite_master LIMIT 1000").fetchall()
    return {
        (str(kind), str(name)): " ".join(str(sql).split())
        for kind, name, sql in found
        if not (str(name).startswith("sqlite_") and (sql is None or kind == "table"))
    }


@functools.cache
def _tables_of(version: int) -> dict[tuple[str, str], str]:
    """What the schema of a version has."""
    with closing(sqlite3.connect(":memory:")) as connection:
        _migrate(connection, 0, version)
        return _tables(connection)


def name_taken(name: str) -> BindError:
    """The error for a second model of the same name."""
    return BindError(
        f'a model named "{name}" already exists',
        hint=f"CREATE OR REPLACE MODEL {name} replaces it, DROP MODEL {name} forgets it.",
    )
