"""The interactive prompt: prompt_toolkit around a `Shell`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from kryptondb.options.words import FORMULAS
from kryptondb.process.termination import Termination
from kryptondb.prompt.editor import prompt_history, prompt_session
from kryptondb.prompt.output import standard_output
from kryptondb.prompt.shell import Shell
from kryptondb.session import Session
from kryptondb.show.terminal import Terminal

if TYPE_CHECKING:
    from prompt_toolkit import PromptSession


def run_prompt(
    session: Session,
    *,
    mode: str = "table",
    parameters: Mapping[str, object] | None = None,
    formulas: str = FORMULAS[0],
) -> int:
    """Reads and runs statements until `.quit` or Ctrl-D; returns the exit status, 0."""
    output = standard_output(formulas)
    rows = max(10, (output.terminal.height or 24) - 6)
    shell = Shell(session, output, mode=mode, parameters=parameters, max_rows=rows)
    return converse(shell, prompt_session(session, history=prompt_history()))


def converse(shell: Shell, prompt: PromptSession[str]) -> int:
    """Reads and runs entries until `.quit` or Ctrl-D. Ctrl-C at the prompt clears the line."""
    while not shell.leaving:
        try:
            text = prompt.prompt()
            shell.output.terminal = Terminal.of(shell.output.text)  # the window may have a new size
            shell.execute(text)
        except Termination:
            raise
        except KeyboardInterrupt:
            continue
        except EOFError:
            break
    return 0
