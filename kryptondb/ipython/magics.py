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
from kryptondb.options.arguments import key_of, parameters_in
from kryptondb.prompt.completer import StatementCompleter
from kryptondb.result import Result
from kryptondb.session import Session, connect, parse
from kryptondb.text.plain_text import plain_line

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


_LINE = re.compile(r"(?:^\s*|=\s*)%occlude\s(.*)$")
_CELL = re.compile(r"%%occlude\b")
_VARIABLE = re.compile(r"\$(\w*)$")
_MATCHER = "kryptondb_matcher"


def add_completion(shell: InteractiveShell, session: Callable[[], Session]) -> None:
    """Makes the shell's Tab know the language.

    Args:
        shell: whose Tab.
        session: gives the session whose models and settings are offered.
    """
    remove_completion(shell)

    @context_matcher()  # type: ignore[untyped-decorator]
    def kryptondb_matcher(context: CompletionContext) -> SimpleMatcherResult:
        text = statement_before_cursor(context.full_text, context.cursor_line, context.cursor_position)
        if text is None:
            return {"completions": []}
        fragment, words = _completions(text, session(), shell.user_ns)
        offered = [SimpleCompletion(word, type="occlude") for word in words]  # type: ignore[no-untyped-call]
        return {"completions": offered, "matched_fragment": fragment, "suppress": True, "ordered": True}

    shell.Completer.custom_matchers.append(kryptondb_matcher)


def remove_completion(shell: InteractiveShell) -> None:
    """Takes it away again; nothing happens where it is not."""
    matchers = shell.Completer.custom_matchers
    matchers[:] = [matcher for matcher in matchers if getattr(matcher, "__name__", "") != _MATCHER]


def statement_before_cursor(text: str, line: int, column: int) -> str | None:
    """What stands of the statements before the cursor; None where the cursor is not in any.

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
    """What the completions replace, and what they are."""
    variable = _VARIABLE.search(text)
    if variable is not None:
        names = (name for name in variables if name.startswith(variable[1]) and _is_users(name, variables[name]))
        return variable[0], (f"${name}" for name in sorted(names))
    found = list(StatementCompleter(session).get_completions(Document(text), CompleteEvent(completion_requested=True)))
    typed = -found[0].start_position if found else 0
    words = (completion.text for completion in found)
    return text[len(text) - typed :], (word for word in words if plain_line(word) == word)  # IPython shows them raw


def _is_users(name: str, value: object) -> bool:
    """Whether a variable may be a parameter: what IPython keeps for itself, modules, classes and functions are not."""
    if name.startswith("_") or name in ("In", "Out", "exit", "quit", "get_ipython", "open"):
        return False
    return not callable(value) and type(value).__name__ not in ("module", "Session", "Result")
