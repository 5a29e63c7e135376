"""The interactive prompt: prompt_toolkit around a `Shell`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from kryptondb.copy.output import standard_output
from kryptondb.options.words import FORMULAS
from kryptondb.process.ending import Ended
from kryptondb.prompt.lines import is_complete
from kryptondb.prompt.shell import Shell
from kryptondb.text.plain_text import covered

if TYPE_CHECKING:
    from prompt_toolkit import PromptSession
    from prompt_toolkit.history import History
    from prompt_toolkit.input import Input
    from prompt_toolkit.key_binding import KeyBindings
    from prompt_toolkit.key_binding.key_processor import KeyPressEvent
    from prompt_toolkit.layout.processors import Processor
    from prompt_toolkit.output import Output as Screen

    from kryptondb.session import Session

PROMPT = "kryptondb> "


def run_prompt(
    session: Session,
    *,
    mode: str = "table",
    parameters: Mapping[str, object] | None = None,
    formulas: str = FORMULAS[0],
) -> int:
    """Reads and runs statements until `.quit` or Ctrl-D; returns the exit status, 0."""
    from kryptondb.prompt.history import prompt_history

    output = standard_output(formulas)
    rows = max(10, (output.terminal.height or 24) - 6)
    shell = Shell(session, output, mode=mode, parameters=parameters, max_rows=rows)
    return converse(shell, prompt_session(session, history=prompt_history()))


def converse(shell: Shell, prompt: PromptSession[str]) -> int:
    """Asks and answers until told to leave. Ctrl-C at the prompt clears the line."""
    from kryptondb.show.screen import Terminal

    while not shell.leaving:
        try:
            text = prompt.prompt()
            shell.output.terminal = Terminal.of(shell.output.text)  # the window may have a new size
            shell.execute(text)
        except Ended:
            raise
        except KeyboardInterrupt:
            continue
        except EOFError:
            break
    return 0


def prompt_session(
    session: Session, *, history: History | None = None, input: Input | None = None, output: Screen | None = None
) -> PromptSession[str]:
    """The line editor: history, colours, completion, and Enter that waits for `;`."""
    from prompt_toolkit import PromptSession
    from prompt_toolkit.lexers import PygmentsLexer

    from kryptondb.prompt.completer import StatementCompleter
    from kryptondb.prompt.lexer import STYLE, OccludeLexer

    def continuation(width: int, line_number: int, wrapped: int) -> Any:
        return [("class:continuation", " " * (width - 4) + ("    " if wrapped else "... "))]

    return PromptSession(
        [("class:prompt", PROMPT)],
        multiline=True,
        prompt_continuation=continuation,
        lexer=PygmentsLexer(OccludeLexer, sync_from_start=True),
        style=STYLE,
        include_default_pygments_style=False,
        completer=StatementCompleter(session),
        complete_while_typing=False,
        complete_in_thread=True,
        history=history,
        input_processors=[_covering()],
        key_bindings=_keys(),
        input=input,
        output=output,
    )


def _covering() -> Processor:
    """Shows what is typed, pasted or completed without what would act on the terminal; the text stays as it is."""
    from prompt_toolkit.formatted_text import to_formatted_text
    from prompt_toolkit.layout.processors import Processor, Transformation, TransformationInput

    class Covering(Processor):
        def apply_transformation(self, transformation_input: TransformationInput) -> Transformation:
            pieces = to_formatted_text(transformation_input.fragments)
            return Transformation([(piece[0], covered(piece[1])) for piece in pieces])

    return Covering()


def _keys() -> KeyBindings:
    from prompt_toolkit.filters import has_completions, has_focus
    from prompt_toolkit.key_binding import KeyBindings

    keys = KeyBindings()

    @keys.add("enter", filter=has_focus("DEFAULT_BUFFER"))
    def enter(event: KeyPressEvent) -> None:
        """Takes the completion that is chosen; runs what is complete; otherwise begins a new line."""
        buffer = event.current_buffer
        if buffer.complete_state and buffer.complete_state.current_completion:
            buffer.complete_state = None
        elif is_complete(buffer.text):
            buffer.validate_and_handle()
        else:
            buffer.insert_text("\n")

    @keys.add("escape", filter=has_completions & has_focus("DEFAULT_BUFFER"), eager=True)
    def escape(event: KeyPressEvent) -> None:
        """Puts the completions away."""
        event.current_buffer.cancel_completion()

    return keys
