"""Reports: tables that are printed and written as Markdown alike, and a file of results with a section per command."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

RESULTS = Path(__file__).with_name("RESULTS.md")
_HEADING = "## "
_TITLE = "# Results\n\nWritten by the benchmarks themselves (`--markdown`), one section per command.\n"
_OF_ONE_RUN = ("--markdown", "--json")  # where results go does not distinguish commands


@dataclass(frozen=True)
class Sheet:
    """A table of texts.

    Attributes:
        title: a sentence or two above it.
        columns: their headings; those that begin with '<' are aligned left.
        rows: a text a column.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]

    def printed(self) -> Table:
        """For the terminal."""
        table = Table()
        for column in self.columns:
            left = column.startswith("<")
            table.add_column(Text(column.removeprefix("<")), justify="left" if left else "right", no_wrap=left)
        for row in self.rows:
            table.add_row(*(Text(text) for text in row))
        return table

    def markdown(self) -> str:
        """As a table of GitHub's Markdown, under its title."""
        heads = [_cell(column.removeprefix("<")) for column in self.columns]
        rules = ["---" if column.startswith("<") else "---:" for column in self.columns]
        lines = [heads, rules, *([_cell(text) for text in row] for row in self.rows)]
        table = "\n".join("| " + " | ".join(line) + " |" for line in lines)
        return f"{self.title}\n\n{table}\n" if self.title else f"{table}\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def add_common_options(parser: argparse.ArgumentParser) -> None:
    """What every benchmark of an operator asks for: its device, threads and weights, and where its results go."""
    parser.add_argument("--size", type=int, help="side of the input; the architecture's own by default")
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:0")
    parser.add_argument("--threads", type=int, help="of torch on the CPU")
    parser.add_argument("--seed", type=int, default=0, help="of the random weights")
    parser.add_argument(
        "--calibration",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="measure the network's layers first, as CALIBRATE does",
    )
    parser.add_argument("--json", type=Path, help="write all numbers here")
    add_markdown_option(parser)


def add_markdown_option(parser: argparse.ArgumentParser) -> None:
    """Where a benchmark's tables are kept."""
    parser.add_argument(
        "--markdown",
        type=Path,
        nargs="?",
        const=RESULTS,
        help="write the tables here; by itself: benchmarks/RESULTS.md",
    )


def refuse_missing_device(parser: argparse.ArgumentParser, device: str) -> None:
    """Ends the command with a message if the requested device does not exist."""
    import torch

    if device.startswith("cuda") and not torch.cuda.is_available():
        parser.error(f"--device {device}: this torch finds no CUDA device")


def console() -> Console:
    """As wide as the terminal, or as a page where the output goes elsewhere."""
    return Console(width=None if sys.stdout.isatty() else 180, highlight=False)


def show(to: Console, sheet: Sheet) -> None:
    """Prints a sheet under its title."""
    to.print()
    if sheet.title:
        to.print(Text(sheet.title))
    to.print(sheet.printed())


def command_line(module: str, arguments: Sequence[str]) -> str:
    """What was typed, without where its results were written to."""
    kept: list[str] = []
    places = iter(range(len(arguments)))
    for place in places:
        word = arguments[place]
        if word.partition("=")[0] not in _OF_ONE_RUN:
            kept.append(word)
        elif "=" not in word and place + 1 < len(arguments) and not arguments[place + 1].startswith("-"):
            next(places)  # the path that belongs to it
    return shlex.join(["python", "-m", module, *kept])


def write_section(path: Path, command: str, machine: Mapping[str, str], sheets: Sequence[Sheet]) -> None:
    """Puts a command's section into a file of results, in the place of the same command's before, or at the end.

    The file is replaced as a whole: a reader in the meantime, and a run that is stopped, find a complete one.
    """
    described = ", ".join(f"{name} {value}" for name, value in machine.items())
    section = "\n".join([f"{_HEADING}`{command}`\n", f"{described}.\n", *(sheet.markdown() for sheet in sheets)])
    before = path.read_text(encoding="utf-8") if path.exists() else _TITLE
    parts = _sections(before)
    places = [place for place, part in enumerate(parts) if part.startswith(f"{_HEADING}`{command}`\n")]
    if places:
        parts[places[0]] = section
    else:
        parts.append(section)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=path.name, suffix=".part")
    temporary = Path(name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write("\n".join(part.rstrip("\n") + "\n" for part in parts))
        temporary.chmod(path.stat().st_mode if path.exists() else 0o644)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _sections(text: str) -> list[str]:
    """The text before the first heading of the second level, and each such heading with what is under it."""
    parts = [""]
    for line in text.splitlines(keepends=True):
        if line.startswith(_HEADING):
            parts.append("")
        parts[-1] += line
    return parts
