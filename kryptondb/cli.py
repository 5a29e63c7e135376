"""The command line: `kryptondb [DATABASE] [-c QUERY]... [-f FILE]...`.

Exit status: 0 success; 1 an error, with its message on standard error, or skipped images, listed there; 2 invalid
arguments; 130 after Ctrl-C; 143 and 129 after SIGTERM and SIGHUP, which stop the work as Ctrl-C does; 141 when the
reader of the output has closed the pipe.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import traceback
import warnings
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from kryptondb.errors import Error, ExecutionError, NondeterministicModel, ParseError, SkippedImages
from kryptondb.files.paths import ENDINGS, expanded, format_of, suggested_path
from kryptondb.grammar import parse_literal
from kryptondb.grammar.statements import Analyze, Copy, Describe, Explain, Select, Show, Statement
from kryptondb.options.reader import check_all_used, value_of
from kryptondb.options.words import FORMULAS
from kryptondb.process.termination import Termination, termination_signals
from kryptondb.prompt.output import FORMATS, Output, no_output, output_to
from kryptondb.result import skipped_so_far
from kryptondb.session import Session, connect, parse
from kryptondb.show.terminal import failures_text
from kryptondb.text.plain_text import message_line, plain
from kryptondb.version import __version__

if TYPE_CHECKING:
    from kryptondb.executor import ImageFailure

_DESCRIPTION = "Which parts of this image made the network say that? Asked as a query."
_EPILOG = """\
With neither -c nor -f: a prompt on a terminal, standard input otherwise.

formats:
  table  for people: tables, and heat maps in color on a terminal (the default)
  json   one object per row and line; heat maps are lists of rows, NaN is null
  csv    a header and one line per row
  arrow  one result in Arrow's IPC format: a stream, or a file with -o (also a stream if PATH ends in .arrows)
-o also takes the endings of COPY (.png, .html, .dcm, .parquet, ... or a folder) for one SELECT.

examples:
  kryptondb -c "SHOW SAMPLES"
  kryptondb clinic.krypton -f models.sql -c "SELECT HEATMAP FROM occlude(chest, 'scan.png')"
  kryptondb clinic.krypton --param image=scan.png --format csv -o cells.csv \\
      -c "SELECT * FROM occlude(chest, \\$image, class => TOP 3)"
"""


#: The formats of `--format arrow`.
_ARROW = ("arrow", "arrows")


class _Source(argparse.Action):
    """Collects -c and -f in the order given, as ('c', text) and ('f', path)."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        sources = list(namespace.sources or [])
        sources.append(("f" if option_string in ("-f", "--file") else "c", values))
        namespace.sources = sources


class _Parser(argparse.ArgumentParser):
    """A parser whose usage errors quote arguments safely: they may contain control characters."""

    def error(self, message: str) -> NoReturn:
        super().error(message_line(message))


def arguments() -> argparse.ArgumentParser:
    """The parser of the command line."""
    parser = _Parser(
        prog="kryptondb",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "database", nargs="?", metavar="DATABASE", help="the file that remembers models and settings (default: none)"
    )
    parser.add_argument(
        "-c", "--command", dest="sources", action=_Source, metavar="QUERY", help="run statements; may be repeated"
    )
    parser.add_argument(
        "-f", "--file", dest="sources", action=_Source, metavar="FILE", help="run a script ('-': standard input)"
    )
    parser.add_argument(
        "--format", choices=FORMATS, help="how results are written (default: the ending of -o, or table)"
    )
    parser.add_argument("-o", "--output", metavar="PATH", help="write results to a file instead of standard output")
    parser.add_argument(
        "--formulas",
        choices=FORMULAS,
        help="how csv writes text that a spreadsheet would run: with a ' before it (the default), or as it is",
    )
    parser.add_argument(
        "--param",
        action="append",
        default=[],
        type=_parameter,
        metavar="NAME=VALUE",
        help="the value of $NAME; 0=..., 1=... are the values of the first and second ?. A number, a 'quoted string', "
        "true, false, null or a list in parentheses is read as in a statement; anything else is a string",
    )
    parser.add_argument(
        "--version", action="version", version=f"kryptondb {__version__}", help="show the version and exit"
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit status (usage errors raise SystemExit(2), as argparse does)."""
    if sys.stdout is None:  # closed by the parent process
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115
    try:
        with termination_signals():
            status = _main(argv)
            sys.stdout.flush()
        return status
    except Termination as end:
        return end.status
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        _abandon_output()
        return 141
    except Error as error:
        print(error, file=sys.stderr)
        return 1
    except OSError as problem:  # a full disk, a terminal that went away
        where = problem.filename or "the output"
        print(message_line(f"cannot write {where}: {problem.strerror or problem}"), file=sys.stderr)
        return 1
    except Exception:
        print(plain(traceback.format_exc()), file=sys.stderr, end="")
        return 1


def _main(argv: Sequence[str] | None) -> int:
    parser = arguments()
    chosen = parser.parse_args(argv)
    _refuse_a_query_as_database(parser, chosen.database)
    sources: list[tuple[str, str]] = chosen.sources or []
    bindings: dict[str, object] = dict(chosen.param)
    format, copied = _output_format(parser, chosen.output, chosen.format)
    if chosen.formulas is not None and format != "csv":
        parser.error("--formulas is for --format csv")
    formulas = chosen.formulas or FORMULAS[0]
    if not sys.warnoptions:
        warnings.simplefilter("ignore")  # those of libraries are not for users
        warnings.simplefilter("always", NondeterministicModel)
        warnings.showwarning = lambda message, *_, **__: print(
            f"warning: {message_line(str(message))}", file=sys.stderr
        )

    warnings.simplefilter("ignore", SkippedImages)  # they are listed at the end

    if not sources and sys.stdin is not None and sys.stdin.isatty() and sys.stdout.isatty():
        if chosen.output:
            parser.error("-o needs -c, -f or standard input")
        if format in _ARROW:
            parser.error("--format arrow needs -c, -f or standard input")
        from kryptondb.repl import run_prompt

        with connect(chosen.database) as session:
            return run_prompt(session, mode=format, parameters=bindings, formulas=formulas)

    if format in _ARROW and not chosen.output and sys.stdout.isatty():
        parser.error("--format arrow is binary: give -o PATH, or a pipe")
    destination = _Destination(format, chosen.output, copied, formulas)
    return _run_sources(sources or [("f", "-")], chosen.database, bindings, destination)


@dataclass(frozen=True)
class _Destination:
    """Where results go: the format, the file (None for standard output), and whether only COPY writes the format."""

    format: str
    path: str | None
    copied: bool
    formulas: str


def _run_sources(
    sources: Sequence[tuple[str, str]], database: str | None, bindings: dict[str, object], destination: _Destination
) -> int:
    """Runs all statements in order, after all texts were parsed."""
    scripts = [(text, list(parse(text))) for text in (_read(kind, value) for kind, value in sources)]
    every = [statement for _, statements in scripts for statement in statements]
    check_all_used(every, bindings)
    files = ["/dev/stdin" if value == "-" else str(expanded(value)) for kind, value in sources if kind == "f"]
    with Session(database, scripts=files) as session:
        failures: list[ImageFailure] = []
        try:
            if destination.path is not None:
                session.database.refuse_target(destination.path, every, bindings)
            if not destination.format:
                raise _unclear(str(destination.path))
            if destination.format in _ARROW:
                _one_result_only(scripts)
            if destination.copied:
                _copy_instead(scripts, str(destination.path))
            elsewhere = nullcontext(no_output())  # COPY writes the results itself
            with elsewhere if destination.copied else output_to(destination.path, destination.formulas) as output:
                for text, statements in scripts:
                    for statement in statements:
                        failures += _run_statement(session, statement, text, bindings, output, destination)
                if destination.path is not None and not destination.copied:
                    session.database.refuse_target(destination.path)  # again, for models that were created meanwhile
        finally:
            if failures:
                print(failures_text(failures), file=sys.stderr)
        return 1 if failures else 0


def _run_statement(
    session: Session,
    statement: Statement,
    text: str,
    bindings: dict[str, object],
    output: Output,
    destination: _Destination,
) -> Sequence[ImageFailure]:
    result = session.run(statement, text, bindings)
    try:
        output.write(result, "table" if destination.copied else destination.format)
    except Error as error:
        error.locate(text)
        raise
    return skipped_so_far(result)


_Scripts = list[tuple[str, "list[Statement]"]]


def _answering(scripts: _Scripts) -> list[Statement]:
    """The statements that answer rows."""
    kinds = (Analyze, Describe, Explain, Select, Show)
    return [statement for _, statements in scripts for statement in statements if isinstance(statement, kinds)]


def _copy_instead(scripts: _Scripts, path: str) -> None:
    """Turns the last SELECT into a COPY, for an output format that only COPY writes.

    Raises:
        ExecutionError: it is not the last statement, or other statements answer rows too.
    """
    last = scripts[-1][1][-1] if scripts[-1][1] else None
    if not isinstance(last, Select) or len(_answering(scripts)) != 1:
        raise ExecutionError(
            f"{path} holds the answer of one SELECT, the last statement and the only one that answers rows",
            hint="Run it alone, or use COPY. Tables, JSON and CSV take several: -o results.txt, .json or .csv.",
        )
    scripts[-1][1][-1] = Copy(last, path)


def _one_result_only(scripts: _Scripts) -> None:
    """Raises ExecutionError for several results: an Arrow file or stream has one schema."""
    answering = _answering(scripts)
    if len(answering) > 1:
        raise ExecutionError(
            f"the arrow format holds one result, and these statements give {len(answering)}",
            hint="Run them one by one, or use --format json.",
        )


def _read(kind: str, value: str) -> str:
    if kind == "c":
        return value
    try:
        if value == "-":
            return sys.stdin.read() if sys.stdin is not None else ""
        return expanded(value).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as problem:
        why = problem.strerror if isinstance(problem, OSError) and problem.strerror else str(problem)
        raise ExecutionError(f"cannot read the script {value}: {why}") from problem


def _parameter(text: str) -> tuple[str, object]:
    """`name=value` as a pair. Raises ArgumentTypeError, which argparse reports as a usage error."""
    name, equals, value = text.partition("=")
    if not equals or not re.fullmatch(r"\w+", name.lstrip("$")):
        raise argparse.ArgumentTypeError(f"{text[:60]!r} is not NAME=VALUE")
    try:
        literal = parse_literal(value)
    except ParseError as error:
        raise argparse.ArgumentTypeError(f"{name}: {error.message}") from None
    return name.lstrip("$"), value if literal is None else value_of(literal, {})


def _output_format(parser: argparse.ArgumentParser, path: str | None, given: str | None) -> tuple[str, bool]:
    """The format to write, and whether only COPY writes it; '' where the ending does not tell the format.

    A --format that contradicts the ending is an error.
    """
    if path is None:
        return "arrows" if given == "arrow" else given or "table", False
    if path.endswith(("/", os.sep)) or expanded(path).is_dir():
        meant, copied = "a folder", True
    else:
        meant = format_of(path) or ("" if Path(path).suffix or suggested_path(path) else "table")
        copied = meant not in ("", *FORMATS, *_ARROW)
    if meant in ("", "table"):
        return given or meant, False
    if given not in (None, "arrow" if meant in _ARROW else meant):
        parser.error(f"--format {given} contradicts -o {path}, which means {meant}: leave --format out")
    return meant, copied


def _unclear(path: str) -> ExecutionError:
    if better := suggested_path(path):
        return ExecutionError(
            f"the name of {path!r} is only an ending", hint=f"Name the file: {better!r}; or add --format."
        )
    return ExecutionError(
        f"the format of {path!r} is not clear from its name", hint=f"Add --format, or use one of {', '.join(ENDINGS)}."
    )


def _refuse_a_query_as_database(parser: argparse.ArgumentParser, database: str | None) -> None:
    """Refuses `kryptondb "SELECT ..."`, which would otherwise create a file of that name."""
    if database is None or Path(database).exists():
        return
    if re.match(
        r"\s*(select|show|create|drop|describe|explain|copy|set|analyze|calibrate)[\s;]", database, re.IGNORECASE
    ):
        parser.error(f"{database!r} looks like a query: give it with -c")


def _abandon_output() -> None:
    """Discards what is left in the buffer of standard output, which has no reader any more."""
    try:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
    except (OSError, ValueError, AttributeError):
        pass
