"""Tab in `%occlude` lines and `%%occlude` cells: what the prompt offers, and the notebook's variables after a `$`."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from IPython.core.completer import CompletionContext, SimpleCompletion, SimpleMatcherResult, context_matcher
from IPython.core.interactiveshell import InteractiveShell
from prompt_toolkit.completion import CompleteEvent
from prompt_toolkit.document import Document

from kryptondb.prompt.completer import StatementCompleter
from kryptondb.session import Session
from kryptondb.text.plain_text import plain_line

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
