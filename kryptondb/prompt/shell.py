"""What an entry at the prompt does: statements run and show their results, dot commands change how."""

from __future__ import annotations

import sys
import time
import traceback
from collections.abc import Mapping
from typing import TextIO

from kryptondb.errors import Error, did_you_mean
from kryptondb.grammar.scanner import is_complete, scan
from kryptondb.process.termination import Termination
from kryptondb.prompt.output import Output
from kryptondb.result import skipped_so_far
from kryptondb.session import Session, parse
from kryptondb.show.terminal import failures_text
from kryptondb.text.plain_text import message_line, plain
from kryptondb.text.units import seconds_text

MODES = ("table", "json", "csv")

#: The dot commands: the values that each takes, and what it does.
COMMANDS: dict[str, tuple[tuple[str, ...], str]] = {
    ".help": ((), "what can be typed here"),
    ".mode": (MODES, "how rows are shown"),
    ".timer": (("on", "off"), "after each statement, the time it took"),
    ".quit": ((), "exit (so does Ctrl-D)"),
}

_HELP = """\
Statements end with ; and may span lines. Tab completes.
Ctrl-C stops a query, or clears the line.

  SHOW SAMPLES;                                        pictures to try
  CREATE MODEL net FROM torchvision('resnet18');       a model, remembered in the database
  SELECT HEATMAP FROM occlude(net, 'sample:cat');      where the model looks
  SELECT y, x, drop FROM occlude(net, 'cat.png') ORDER BY drop DESC LIMIT 10;
  EXPLAIN SELECT HEATMAP FROM occlude(net, 'cat.png'); the plan, without running it
  CALIBRATE net;                                       measures how fast this machine computes its layers
  COPY (SELECT HEATMAP FROM occlude(net, 'cat.png')) TO 'cat-map.png';

"""


class Shell:
    """The state of one prompt and what its entries do. Errors are printed, never raised.

    Args:
        mode: how rows are shown at first.
        parameters: values of `$name` and `?` in what is typed.
        max_rows: how many rows of a table are shown.
    """

    def __init__(
        self,
        session: Session,
        output: Output,
        *,
        mode: str = "table",
        parameters: Mapping[str, object] | None = None,
        max_rows: int = 40,
        errors: TextIO | None = None,
    ) -> None:
        self.session = session
        self.output = output
        self.mode = mode
        self.timer = False
        self.parameters = dict(parameters or {})
        self.max_rows = max_rows
        self.errors = errors
        self.leaving = False

    def execute(self, text: str) -> None:
        """Runs one entry: a dot command, or statements. Ctrl-C stops the statement that runs."""
        if not text.strip():
            return
        if is_dot_command(text):
            self._command(text.strip().rstrip(";").strip())
            return
        try:
            self._statements(text)
        except Termination:
            raise
        except KeyboardInterrupt:
            self._complain("interrupted")
        except Error as error:
            self._complain(f"{type(error).__name__}: {error}")
        except BrokenPipeError:
            raise
        except Exception as problem:
            self._complain(plain(traceback.format_exc()).rstrip("\n"))
            self._complain(f"This is a bug in KryptonDB, not in your statement ({type(problem).__name__}).")

    def _statements(self, text: str) -> None:
        for statement in parse(text):
            began = time.perf_counter()
            result = self.session.run(statement, text, self.parameters)
            self.output.wrote = False
            try:
                self.output.write(result, self.mode, max_rows=self.max_rows)
            except Error as error:
                error.locate(text)
                raise
            finally:
                result.close()
                if skipped := skipped_so_far(result):
                    self._complain(failures_text(skipped))
            if self.timer:
                self._say(seconds_text(time.perf_counter() - began))

    def _command(self, text: str) -> None:
        name, *given = text.split()
        if name == ".exit":
            name = ".quit"
        if name not in COMMANDS:
            near = did_you_mean(name, COMMANDS) or ".help lists the commands."
            self._complain(message_line(f'no command named "{name}". {near}'))
            return
        values = COMMANDS[name][0]
        value = given[0].lower() if len(given) == 1 else None
        if given and not values:
            self._complain(f"{name} takes no value")
        elif given and value not in values:
            self._complain(f"{name} is one of {', '.join(values)}")
        elif name == ".quit":
            self.leaving = True
        elif name == ".help":
            lines = {" ".join([command, "|".join(values)]): what for command, (values, what) in COMMANDS.items()}
            self._say(_HELP + "\n".join(f"  {line:<22}{what}" for line, what in lines.items()))
        elif name == ".mode":
            if value is None:
                self._say(self.mode)
            else:
                self.mode = value
        elif value is None:
            self._say("on" if self.timer else "off")
        else:
            self.timer = value == "on"

    def _say(self, text: str) -> None:
        self.output.text.write(text + "\n")
        self.output.text.flush()

    def _complain(self, text: str) -> None:
        stream = self.errors or sys.stderr
        print(text, file=stream, flush=True)


def is_ready(text: str) -> bool:
    """Whether Enter runs the text: a dot command, statements that end with `;`, or nothing but closed comments."""
    begun = any(token.kind != "comment" or not token.closed for token in scan(text))
    return not begun or is_dot_command(text) or is_complete(text)


def is_dot_command(text: str) -> bool:
    """Whether the text is a dot command, such as `.mode csv`."""
    return text.lstrip().startswith(".")
