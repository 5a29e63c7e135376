"""`%occlude` and `%%occlude`: statements run, variables are their parameters, and results show themselves."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from IPython.core.error import UsageError
from IPython.core.interactiveshell import InteractiveShell
from IPython.core.magic import Magics, line_cell_magic, magics_class, no_var_expand
from IPython.display import display

from kryptondb.errors import BindError, Error
from kryptondb.grammar.statements import Statement
from kryptondb.options.arguments import key_of, parameters_in
from kryptondb.result import Result
from kryptondb.session import Session, connect, parse

#: The variable of the notebook that holds the session.
SESSION = "db"


@magics_class
class OccludeMagics(Magics):  # type: ignore[misc]
    """The two magics.

    They use the session that the notebook holds as `db`. Where it holds none, the first statement opens one in memory,
    and leaves it there under that name where the name is free.
    """

    shell: InteractiveShell

    def __init__(self, shell: InteractiveShell) -> None:
        super().__init__(shell)  # type: ignore[no-untyped-call]
        self._own: Session | None = None

    def session(self) -> Session:
        """The session that statements run in."""
        held = self.shell.user_ns.get(SESSION)
        if isinstance(held, Session):
            return held
        if self._own is None:
            self._own = connect()
            if SESSION not in self.shell.user_ns:
                self.shell.user_ns[SESSION] = self._own
        return self._own

    @no_var_expand
    @line_cell_magic
    def occlude(self, line: str, cell: str | None = None) -> Result | None:
        """Runs statements of the OCCLUDE language; `$name` is the variable of that name.

        %occlude STATEMENT          result = %occlude STATEMENT

        %%occlude [NAME]            the last result is also left in the variable NAME
        STATEMENT; STATEMENT; ...
        """
        name = line.strip()
        if cell is not None and name and not name.isidentifier():
            raise UsageError(f"%%occlude takes the name of a variable for the result, not {name!r}")
        try:
            result = self._run(line if cell is None else cell)
        except Error as error:
            raise _told_shortly(error, f"{type(error).__name__}: {error}") from None
        except KeyboardInterrupt as stopped:
            raise _told_shortly(stopped, "KeyboardInterrupt: the statement was stopped") from None
        if cell is not None and name:
            self.shell.user_ns[name] = result
        return result

    def _run(self, text: str) -> Result | None:
        """Runs all statements and shows their results; the last one is for IPython to show."""
        session = self.session()
        shown: Result | None = None
        for statement in parse(text):
            if shown is not None:
                display(shown)  # type: ignore[no-untyped-call]
            variables = self.shell.user_ns
            _refuse_modules(statement, variables, text)
            result = session.run(statement, text, variables)
            try:
                result.arrow()  # here, where an error has its place in the text and a stop closes the run
            except Error as error:
                error.locate(text)
                raise
            shown = None if result.message == "" else result
        return shown


def _refuse_modules(statement: Statement, variables: Mapping[str, Any], text: str) -> None:
    """A torch module in the place of a model's name is what people try first: they are told how it becomes one."""
    torch = sys.modules.get("torch")
    for parameter in parameters_in(statement):
        name = key_of(parameter)
        if name.isdigit():
            raise BindError(
                "? has no value in a notebook",
                position=parameter.position,
                text=text,
                hint="Write $name for a variable.",
            )
        if torch is not None and isinstance(variables.get(name), torch.nn.Module):
            raise BindError(
                f"${name} is a torch module, and no model of this session yet",
                position=parameter.position,
                text=text,
                hint=f'{SESSION}.register("{name}", {name}, size=224) makes it one; then write {name} without $.',
            )


def _told_shortly(error: BaseException, text: str) -> BaseException:
    """The error, which IPython will show as this text in place of a traceback through KryptonDB."""
    error._render_traceback_ = lambda: text.splitlines()  # type: ignore[attr-defined]
    return error
