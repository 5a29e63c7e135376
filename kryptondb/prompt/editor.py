"""The prompt's line editor: history, colors, completion, and Enter that waits for `;`."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

from prompt_toolkit import PromptSession
from prompt_toolkit.filters import has_completions, has_focus
from prompt_toolkit.formatted_text import to_formatted_text
from prompt_toolkit.history import FileHistory, History, InMemoryHistory
from prompt_toolkit.input import Input
from prompt_toolkit.key_binding import KeyBindings
from prompt_toolkit.key_binding.key_processor import KeyPressEvent
from prompt_toolkit.layout.processors import Processor, Transformation, TransformationInput
from prompt_toolkit.lexers import PygmentsLexer
from prompt_toolkit.output import Output as Screen
from prompt_toolkit.styles import Style
from pygments.lexer import Lexer
from pygments.token import Comment, Error, Keyword, Name, Number, Operator, Punctuation, String, Text

from kryptondb.grammar.scanner import Token, scan
from kryptondb.grammar.words import FUNCTIONS, KEYWORDS, MODEL_SOURCES, TABLE_FUNCTIONS
from kryptondb.prompt.completer import StatementCompleter
from kryptondb.prompt.shell import is_dot_command, is_ready
from kryptondb.session import Session
from kryptondb.text.plain_text import covered

_CONSTANTS = frozenset({"NULL", "TRUE", "FALSE"})
_CALLED = frozenset({*FUNCTIONS, *MODEL_SOURCES, *TABLE_FUNCTIONS})
_KINDS = {
    "comment": Comment,
    "string": String,
    "quoted": Name.Variable,
    "number": Number,
    "parameter": Name.Constant,
    "other": Error,
}


class OccludeLexer(Lexer):  # type: ignore[misc]  # pygments has no types
    """Colors a text of the OCCLUDE language, complete or not; never fails."""

    name = "OCCLUDE"
    aliases: ClassVar[list[str]] = ["occlude"]

    def get_tokens_unprocessed(self, text: str) -> Iterator[tuple[int, Any, str]]:
        """Offset, pygments token type and text of every piece."""
        if is_dot_command(text):
            yield 0, Comment.Preproc, text
            return
        tokens = list(scan(text))
        end = 0
        for index, token in enumerate(tokens):
            if token.start > end:
                yield end, Text, text[end : token.start]
            following = tokens[index + 1].text if index + 1 < len(tokens) else ""
            yield token.start, _color(token, following), token.text
            end = token.end
        if end < len(text):
            yield end, Text, text[end:]


def _color(token: Token, following: str) -> Any:
    if token.kind == "operator":
        return Punctuation if token.text in "(),;" else Operator
    if token.kind != "word":
        return _KINDS[token.kind]
    if following == "=>":
        return Name.Attribute
    if following == "(" and token.text.lower() in _CALLED:
        return Name.Function
    if token.upper in _CONSTANTS:
        return Keyword.Constant
    return Keyword if token.upper in KEYWORDS else Name


#: Plain terminal colors, which the palette of the user's terminal defines.
STYLE = Style.from_dict(
    {
        "prompt": "bold",
        "continuation": "ansibrightblack",
        "pygments.keyword": "ansiblue bold",
        "pygments.keyword.constant": "ansimagenta nobold",
        "pygments.name.function": "ansicyan",
        "pygments.name.attribute": "ansicyan",
        "pygments.name.constant": "ansimagenta",
        "pygments.literal.string": "ansigreen",
        "pygments.literal.number": "ansimagenta",
        "pygments.comment": "ansibrightblack",
        "pygments.comment.preproc": "ansiyellow",
        "pygments.error": "ansired",
        "completion-menu": "bg:ansibrightblack fg:ansiwhite",
        "completion-menu.completion": "bg:ansibrightblack fg:ansiwhite",
        "completion-menu.completion.current": "bg:ansiblue fg:ansiwhite bold noreverse",
        "completion-menu.meta.completion": "bg:ansibrightblack fg:ansigray",
        "completion-menu.meta.completion.current": "bg:ansiblue fg:ansiwhite noreverse",
        "scrollbar.background": "bg:ansibrightblack",
        "scrollbar.button": "bg:ansigray",
    }
)


def state_folder(environment: Mapping[str, str] = os.environ, platform: str = sys.platform) -> Path:
    """The folder for what a program remembers between runs: XDG_STATE_HOME, or the equivalent on macOS and Windows."""
    if environment.get("XDG_STATE_HOME"):
        return Path(environment["XDG_STATE_HOME"]) / "kryptondb"
    if platform == "win32" and environment.get("LOCALAPPDATA"):
        return Path(environment["LOCALAPPDATA"]) / "kryptondb"
    home = Path(environment["HOME"]) if environment.get("HOME") else Path.home()
    if platform == "darwin":
        return home / "Library" / "Application Support" / "kryptondb"
    return home / ".local" / "state" / "kryptondb"


def private_file(folder: Path, name: str = "history") -> Path | None:
    """The file in the folder, created with permissions for its owner only; None where it cannot be written."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = folder / name
        os.close(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600))
    except OSError:
        return None
    return path


def prompt_history(folder: Path | None = None) -> History:
    """The history of the prompt; in memory only where its file cannot be written."""
    path = private_file(state_folder() if folder is None else folder)
    return FileHistory(str(path)) if path is not None else InMemoryHistory()


def prompt_session(
    session: Session, *, history: History | None = None, input: Input | None = None, output: Screen | None = None
) -> PromptSession[str]:
    """The line editor for a session."""

    def continuation(width: int, line_number: int, wrapped: int) -> Any:
        return [("class:continuation", " " * (width - 4) + ("    " if wrapped else "... "))]

    return PromptSession(
        [("class:prompt", "kryptondb> ")],
        multiline=True,
        prompt_continuation=continuation,
        lexer=PygmentsLexer(OccludeLexer, sync_from_start=True),
        style=STYLE,
        include_default_pygments_style=False,
        completer=StatementCompleter(session),
        complete_while_typing=False,
        complete_in_thread=True,
        history=history,
        input_processors=[Covering()],
        key_bindings=_keys(),
        input=input,
        output=output,
    )


class Covering(Processor):
    """Hides control characters in what is typed, pasted or completed; the text itself is not changed."""

    def apply_transformation(self, transformation_input: TransformationInput) -> Transformation:
        """The pieces of a line as they are shown."""
        pieces = to_formatted_text(transformation_input.fragments)
        return Transformation([(piece[0], covered(piece[1])) for piece in pieces])


def _keys() -> KeyBindings:
    keys = KeyBindings()

    @keys.add("enter", filter=has_focus("DEFAULT_BUFFER"))
    def enter(event: KeyPressEvent) -> None:
        """Accepts the chosen completion; runs what is ready to run; otherwise begins a new line."""
        buffer = event.current_buffer
        if buffer.complete_state and buffer.complete_state.current_completion:
            buffer.complete_state = None
        elif is_ready(buffer.text):
            buffer.validate_and_handle()
        else:
            buffer.insert_text("\n")

    @keys.add("escape", filter=has_completions & has_focus("DEFAULT_BUFFER"), eager=True)
    def escape(event: KeyPressEvent) -> None:
        """Closes the list of completions."""
        event.current_buffer.cancel_completion()

    return keys
