"""What users read of options, written from the rows: tables of the reference pages, and the help of functions.

A page says where a table stands, and `python docs/options.py` fills it in:

    <!-- options: occlude -->
    <!-- options: create model: size, resize, crop -->
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Collection, Iterable
from typing import Any, TypeVar

from kryptondb.options import tables
from kryptondb.options.option import Option, Table

_Function = TypeVar("_Function", bound=Callable[..., Any])
_VARIADIC = inspect.Parameter.VAR_KEYWORD
_MARKED = re.compile(r"<!-- options: ([a-z ]+?)(?:: ([a-z_, ]+))? -->\n\n?(?:\|.*\n)*")


def all_tables() -> dict[str, Table]:
    """Every table by its scope."""
    alone = [table for table in vars(tables).values() if isinstance(table, Table)]
    return {table.scope: table for table in (*alone, *tables.COPY.values())}


def markdown(rows: Iterable[Option]) -> str:
    """A table of options: name, default, what it takes and what it is for."""
    lines = ["| option | default | takes | meaning |", "|---|---|---|---|"]
    for row in rows:
        default = row.default_text if row.default is None else f"`{row.default_text}`"
        takes = re.sub(r"'[^']*'", r"`\g<0>`", str(row.kind))
        lines.append(f"| `{row.name}` | {default} | {takes} | {row.about} |")
    return "\n".join(lines) + "\n"


def filled_in(page: str) -> str:
    """A page with its tables of options as the rows have them.

    Raises:
        KeyError: a table or option that there is not.
    """
    known = all_tables()

    def table(found: re.Match[str]) -> str:
        of = known[found[1]]
        rows = [of[name] for name in found[2].split(", ")] if found[2] else of.rows
        head = found[0].splitlines()[0]
        return f"{head}\n\n" + markdown(row for row in rows if row is not tables.FORMAT)

    return _MARKED.sub(table, page)


def documented(table: Table, leave_out: Collection[str] = ()) -> Callable[[_Function], _Function]:
    """Gives a function with `**options` the keywords of a table in its signature, and a line for each in its help."""
    rows = [row for row in table.rows if row.name not in leave_out]

    def decorated(function: _Function) -> _Function:
        doc, signature = inspect.cleandoc(function.__doc__ or ""), inspect.signature(function)
        lines = "".join(f"        {row.name}: {row.line}; {row.kind}.\n" for row in rows)
        function.__doc__ = re.sub(r"(\n    options: .*\n)", lambda found: found[1] + lines, doc, count=1)
        named = [parameter for parameter in signature.parameters.values() if parameter.kind is not _VARIADIC]
        keywords = [inspect.Parameter(row.name, inspect.Parameter.KEYWORD_ONLY, default=None) for row in rows]
        function.__signature__ = signature.replace(parameters=[*named, *keywords])  # type: ignore[attr-defined]
        return function

    return decorated
