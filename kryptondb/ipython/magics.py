"""`%occlude` and `%%occlude`: statements run, variables are parameters, results show themselves."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from IPython.core.completer import CompletionContext, SimpleCompletion, SimpleMatcherResult, context_matcher
from IPython.core.error import UsageError
from IPython.core.interactiveshell import InteractiveShell
from IPython.core.magic import Magics, line_cell_magic, magics_class, no_var_expand
from IPython.display import display
from prompt_toolkit.completion import CompleteEvent
from prompt_toolkit.document import Document

from kryptondb.errors import BindError, Error
from kryptondb.grammar.statements import Statement
from kryptondb.options.reader import parameters_of
from kryptondb.prompt.completer import StatementCompleter
from kryptondb.result import Result
from kryptondb.session import Session, connect, parse
from kryptondb.text.plain_text import plain_line

#: The variable of the notebook that holds the session.
SESSION = "db"


@magics_class
class OccludeMagics(Magics):
    """The two magics.

    They use the session in the notebook's variable `db`. Where there is none, the first statement opens a session in
    memory, and puts it in that variable where it is free.
    """

    shell: InteractiveShell

    def __init__(self, shell: InteractiveShell) -> None:
        super().__init__(shell)
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
            raise _without_traceback(error, f"{type(error).__name__}: {error}") from None
        except KeyboardInterrupt as stopped:
            raise _without_traceback(stopped, "KeyboardInterrupt: the statement was stopped") from None
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
                result.arrow()  # here, where an error has a position in the text, and Ctrl-C closes the run
            except Error as error:
                error.locate(text)
                raise
            shown = None if result.message == "" else result
        return shown


def _refuse_modules(statement: Statement, variables: Mapping[str, Any], text: str) -> None:
    """Explains how a torch module becomes a model, where one is given in place of a model's name."""
    torch = sys.modules.get("torch")
    for parameter in parameters_of(statement):
        name = parameter.key
        if name.isdigit():
            raise BindError(
                "? has no value in a notebook",
                position=parameter.position,
                text=text,
                hint="Write $name for a variable.",
            )
        if torch is not None and isinstance(variables.get(name), torch.nn.Module):
            raise BindError(
                f"${name} is a torch module, not yet a model of this session",
                position=parameter.position,
                text=text,
                hint=f'Register it with {SESSION}.register("{name}", {name}, size=224), then write {name} without $.',
            )


def _without_traceback(error: BaseException, text: str) -> BaseException:
    """The error, shown by IPython as this text instead of a traceback."""
    error._render_traceback_ = lambda: text.splitlines()  # type: ignore[attr-defined]
    return error


_LINE = re.compile(r"(?:^\s*|=\s*)%occlude\s(.*)$")
_CELL = re.compile(r"%%occlude\b")
_VARIABLE = re.compile(r"\$(\w*)$")
_MATCHER = "kryptondb_matcher"


def add_completion(shell: InteractiveShell, session: Callable[[], Session]) -> None:
    """Adds completion of the language to a shell.

    Args:
        session: returns the session whose models and settings are offered.
    """
    remove_completion(shell)

    @context_matcher()  # type: ignore[untyped-decorator]
    def kryptondb_matcher(context: CompletionContext) -> SimpleMatcherResult:
        text = statement_before_cursor(context.full_text, context.cursor_line, context.cursor_position)
        if text is None:
            return {"completions": []}
        fragment, words = _completions(text, session(), shell.user_ns)
        offered = [SimpleCompletion(word, type="occlude") for word in words]
        return {"completions": offered, "matched_fragment": fragment, "suppress": True, "ordered": True}

    shell.Completer.custom_matchers.append(kryptondb_matcher)


def remove_completion(shell: InteractiveShell) -> None:
    """Removes the completion, if it was added."""
    matchers = shell.Completer.custom_matchers
    matchers[:] = [matcher for matcher in matchers if getattr(matcher, "__name__", "") != _MATCHER]


def statement_before_cursor(text: str, line: int, column: int) -> str | None:
    """The text of the statements before the cursor; None where the cursor is not in a magic.

    Args:
        text: the whole cell.
        line, column: where the cursor is, both from 0.
    """
    lines = text.split("\n")
    before = lines[line][:column]
    if line > 0 and _CELL.match(lines[0].lstrip()):
        return "\n".join([*lines[1:line], before])
    found = _LINE.search(before)
    return found[1] if found else None


def _completions(text: str, session: Session, variables: Mapping[str, Any]) -> tuple[str, Iterator[str]]:
    """The text that completions replace, and the completions."""
    variable = _VARIABLE.search(text)
    if variable is not None:
        names = (name for name in variables if name.startswith(variable[1]) and _is_users(name, variables[name]))
        return variable[0], (f"${name}" for name in sorted(names))
    found = list(StatementCompleter(session).get_completions(Document(text), CompleteEvent(completion_requested=True)))
    typed = -found[0].start_position if found else 0
    words = (completion.text for completion in found)
    return text[len(text) - typed :], (word for word in words if plain_line(word) == word)  # IPython shows them raw


def _is_users(name: str, value: object) -> bool:
    """Whether a variable may be a parameter: not IPython's own, nor modules, classes and functions."""
    if name.startswith("_") or name in ("In", "Out", "exit", "quit", "get_ipython", "open"):
        return False
    return not callable(value) and type(value).__name__ not in ("module", "Session", "Result")
