"""Session: one open database. `sql` parses, plans and runs statements, and returns a Result."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from kryptondb.errors import Error, ExecutionError
from kryptondb.grammar import parse_script
from kryptondb.grammar.statements import Statement
from kryptondb.options.reader import Parameters, bindings_for, bindings_of, check_all_used
from kryptondb.options.reference import documented
from kryptondb.options.tables import MODEL
from kryptondb.process.torch_state import own_torch_state
from kryptondb.result import Result
from kryptondb.text.plain_text import plain_line

if TYPE_CHECKING:
    import torch

    from kryptondb.optimizer.cost import Rates


def connect(path: str | Path | None = None) -> Session:
    """Opens a database: a file that remembers models and settings, or a database in memory when no path is given.

    Raises:
        CatalogError: the file is not a KryptonDB database, or cannot be opened.
    """
    return Session(path)


def parse(text: str) -> tuple[Statement, ...]:
    """The statements of a text, in order.

    Raises:
        ParseError: with the line, a caret, and what was expected there.
    """
    try:
        return tuple(parse_script(text))
    except Error as error:
        error.locate(text)
        raise


class Session:
    """One open database; `kryptondb.connect()` makes it. Usable as a context manager.

    Threads: use a session and its results in one thread at a time; every thread, and every process, can have its own
    session on the same file.

    Attributes:
        database: what is open: the catalog, its models, settings and profiles. For the package itself.
    """

    def __init__(self, path: str | Path | None = None, *, scripts: Sequence[str] = ()) -> None:
        """
        Args:
            path: the database file; None for a database in memory.
            scripts: the files that statements come from, which no answer is written over.
        """
        from kryptondb.statements.database import Database

        self.database = Database.open(path, scripts)
        self._closed = False

    def __repr__(self) -> str:
        path = self.database.catalog.path
        return f"<kryptondb.Session {plain_line(str(path)) if path else 'in memory'}>"

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the database; closing again does nothing. Rows already read stay readable."""
        self._closed = True
        self.database.catalog.close()

    def sql(self, text: str, parameters: Parameters = None) -> Result:
        """Runs a statement, or several with `;` between them, and returns the (last) result.

        A SELECT is planned at once, so that its errors are raised here, and runs when its rows are first read. All
        other statements run at once. Of several statements, the rows of a SELECT that is not the last are never read.

        Args:
            text: the statements.
            parameters: a sequence for `?` in order (each statement counts from the first), or a mapping for `$name`;
                values are numbers, strings, lists, and for images also PIL images and arrays of numpy, torch or Arrow.

        Raises:
            Error: of the class of the stage that failed, with the position in the text where there is one.
        """
        statements = parse(text)
        check_all_used(statements, bindings_of(parameters))
        result = Result()
        for statement in statements:
            result = self.run(statement, text, parameters)
        return result

    def execute_script(self, text: str, parameters: Parameters = None) -> list[Result]:
        """Runs the statements of a text in order and reads all their rows; returns one result per statement."""
        statements = parse(text)
        check_all_used(statements, bindings_of(parameters))
        results = []
        for statement in statements:
            results.append(self.run(statement, text, parameters))
            try:
                results[-1].arrow()
            except Error as error:
                error.locate(text)
                raise
        return results

    def run(self, statement: Statement, text: str, parameters: Parameters = None) -> Result:
        """Runs one statement that `parse(text)` returned; error messages quote the text.

        Parameters that the statement does not use are ignored.
        """
        from kryptondb.statements import run_statement

        try:
            if self._closed:
                raise ExecutionError("this session is closed", hint="kryptondb.connect() opens another.")
            bindings = bindings_for(statement, bindings_of(parameters))
            with own_torch_state():
                return run_statement(self.database, statement, bindings)
        except Error as error:
            error.locate(text)
            raise

    @documented(MODEL, leave_out=("weights",))
    def register(self, name: str, module: torch.nn.Module, **options: Any) -> None:
        """Registers a torch module as a model of this session. A frozen copy is kept; the module itself is not changed.

        Args:
            name: the model's name in statements.
            module: maps [N, C, H, W], float32, to one tensor [N, classes], or to several tensors of which `output`
                chooses one. The copy of a module in another precision is in float32; DESCRIBE says so.
            options: those of CREATE MODEL; None counts as not given; `size` is 224 by default.

        Raises:
            BindError: an unknown option, a value that it does not take, or the name of a model that exists.
            ModelError: the module cannot be copied, or returns something else.
        """
        self.database.models.register(name, module, **options)

    def rates(self, device: str) -> Rates:
        """How fast a device is: measured once, then remembered in the catalog for this machine and thread count."""
        return self.database.calibration.rates(device)
