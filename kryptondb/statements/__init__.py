"""What `Session.run` does for each kind of statement: a function for each, which is handed what the database has open.

`Database` is what they share: the catalog and its views, planning, threads, and the files that are never written over.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any

from kryptondb.grammar import statements

if TYPE_CHECKING:
    from kryptondb.result import Result
    from kryptondb.statements.database import Database

#: The module and function for each class of statement. A module is imported by the first statement that needs it.
FUNCTIONS: dict[type[statements.Statement], tuple[str, str]] = {
    statements.Select: ("queries", "select"),
    statements.Explain: ("queries", "explain"),
    statements.Copy: ("queries", "copy"),
    statements.Analyze: ("analyze", "analyze"),
    statements.DropProfiles: ("profiles", "drop_profiles"),
    statements.Calibrate: ("calibration", "calibrate"),
    statements.CreateModel: ("catalog", "create_model"),
    statements.DropModel: ("catalog", "drop_model"),
    statements.Describe: ("catalog", "describe"),
    statements.Show: ("catalog", "show"),
    statements.Set: ("catalog", "set_setting"),
}


def run_statement(database: Database, statement: statements.Statement, bindings: Mapping[str, object]) -> Result:
    """Runs one statement with the values of its parameters."""
    module, name = FUNCTIONS[type(statement)]
    function: Callable[[Database, Any, Mapping[str, object]], Result]
    function = getattr(import_module(f"{__name__}.{module}"), name)
    return function(database, statement, bindings)
