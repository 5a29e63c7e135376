"""What `Session.run` does for each kind of statement: a function for each, which is handed what the database has open.

`Database` is what they share: the catalog and its views, planning, threads, and the files that are never written over.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kryptondb.grammar.statements import Statement
    from kryptondb.result import Result
    from kryptondb.statements.database import Database

#: The module and function for each class of statement. A module is imported by the first statement that needs it.
FUNCTIONS = {
    "Select": ("queries", "select"),
    "Explain": ("queries", "explain"),
    "Copy": ("queries", "copy"),
    "Analyze": ("analyze", "analyze"),
    "DropProfiles": ("profiles", "drop_profiles"),
    "Calibrate": ("calibration", "calibrate"),
    "CreateModel": ("catalog", "create_model"),
    "DropModel": ("catalog", "drop_model"),
    "Describe": ("catalog", "describe"),
    "Show": ("catalog", "show"),
    "Set": ("catalog", "set_setting"),
}


def run_statement(database: Database, statement: Statement, bindings: Mapping[str, object]) -> Result:
    """Runs one statement with the values of its parameters."""
    module, name = FUNCTIONS[type(statement).__name__]
    function: Callable[[Database, Any, Mapping[str, object]], Result]
    function = getattr(import_module(f"{__name__}.{module}"), name)
    return function(database, statement, bindings)
