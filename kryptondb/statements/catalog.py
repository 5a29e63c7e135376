"""CREATE MODEL, DROP MODEL, DESCRIBE, SHOW and SET: what the catalog remembers, changed and listed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from kryptondb.catalog import MODEL_COLUMNS, summary_line
from kryptondb.options.reader import given_in, text_of, value_of
from kryptondb.result import Result
from kryptondb.show.values import table_of

if TYPE_CHECKING:
    from kryptondb.grammar.statements import CreateModel, Describe, DropModel, Set, Show
    from kryptondb.statements.database import Database


def create_model(database: Database, statement: CreateModel, bindings: Mapping[str, object]) -> Result:
    """CREATE MODEL: builds and traces the network at once; answers a sentence about it."""
    database.catalog.check_writable()
    source = text_of(statement.source.name, bindings, "the source of a model")
    options = given_in(statement.options, bindings)
    with options.placing(), database.waiting(f"building {statement.name}"):
        model = database.models.create(statement.name, statement.source.kind, source, options, statement.replace)
        summary = summary_line(model, database.models.network(statement.name))
    return Result(message=summary)


def drop_model(database: Database, statement: DropModel, _: Mapping[str, object]) -> Result:
    """DROP MODEL: its profiles stay, for a model of the same weights."""
    database.models.drop(statement.name, statement.if_exists)
    return Result(message="")


def describe(database: Database, statement: Describe, _: Mapping[str, object]) -> Result:
    """DESCRIBE: one row per property of a model."""
    return Result(table=table_of(("property", "value"), database.models.describe(statement.name)))


def show(database: Database, statement: Show, _: Mapping[str, object]) -> Result:
    """SHOW MODELS, SETTINGS, SAMPLES, CALIBRATION or PROFILES."""
    if statement.what == "models":
        return Result(table=table_of(MODEL_COLUMNS, database.models.rows()))
    if statement.what == "settings":
        return Result(table=table_of(("name", "value", "default", "description"), database.settings.rows()))
    if statement.what == "samples":
        from kryptondb.images.samples import list_samples

        rows = [(sample.name, sample.description, sample.package) for sample in list_samples()]
        return Result(table=table_of(("name", "description", "package"), rows))
    return Result(table=database.calibration.table() if statement.what == "calibration" else database.profiles.table())


def set_setting(database: Database, statement: Set, bindings: Mapping[str, object]) -> Result:
    """SET: remembered in the database file."""
    value = value_of(statement.value, bindings, words=True)
    database.settings.set(statement.name, value, at=statement.value.position, name_at=statement.position)
    return Result(message="")
