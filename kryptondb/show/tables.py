"""A table that arrives in batches, printed as it comes: columns are laid out by the first batch and keep their width.

On a terminal a table never wraps: long texts are cut with an ellipsis, and when even that does not fit, columns in the
middle are left out and named below. Into a file or a pipe nothing is cut.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from kryptondb.show.screen import Terminal, rendered
from kryptondb.text.plain_text import plain_line

if TYPE_CHECKING:
    import pyarrow as pa

#: Between two columns.
_GAP = 2
#: Texts are not cut below this many characters as long as a column can be left out instead.
_NARROW = 16


class TablePrinter:
    """Prints batches of rows under one header.

    Args:
        max_rows: how many rows to print before counting the rest; None for all.
    """

    def __init__(
        self, schema: pa.Schema, terminal: Terminal, write: Callable[[str], None], *, max_rows: int | None = None
    ) -> None:
        self.schema = schema
        self.terminal = terminal
        self.write = write
        self.max_rows = max_rows
        self.rows = 0
        self._names = [plain_line(name) for name in schema.names]
        self._widths: list[int] | None = None
        self._kept: list[int] = []

    def add(self, batch: pa.RecordBatch, seconds: float | None = None) -> None:
        """Prints what is still to be shown of the batch."""
        from kryptondb.show.values import shown_column

        shown = batch if self.max_rows is None else batch.slice(0, max(0, self.max_rows - self.rows))
        self.rows += batch.num_rows
        if shown.num_rows or self._widths is None:
            texts = [shown_column(column) for column in shown.columns]
            self._print(texts, header=self._widths is None)

    def finish(self) -> None:
        """Prints the header of an empty table, the number of rows left out, and the columns left out."""
        if self._widths is None:
            self._print([[] for _ in self.schema], header=True)
        if self.max_rows is not None and self.rows > self.max_rows:
            self.write(f"... {counted(self.rows - self.max_rows, 'more row')}\n")
        hidden = [name for index, name in enumerate(self._names) if index not in self._kept]
        if hidden:
            self.write(f"... {counted(len(hidden), 'more column')}: {', '.join(hidden)}\n")

    def _print(self, texts: Sequence[Sequence[str]], *, header: bool) -> None:
        from rich import box
        from rich.table import Table
        from rich.text import Text

        if self._widths is None:
            self._widths = _natural_widths(self._names, texts)
            self._kept = list(range(len(self._widths)))
            if self.terminal.width is not None:
                same = [len(column) > 1 and len(set(column)) == 1 for column in texts]
                self._kept = _fit(self._widths, _numeric(self.schema), same, self.terminal.width)
        table = Table(
            box=box.SIMPLE_HEAD,
            show_header=header,
            show_edge=False,
            pad_edge=False,
            padding=(0, 1, 0, 0),
            header_style="bold",
        )
        numeric = _numeric(self.schema)
        for index in self._kept:
            width = self._widths[index]
            table.add_column(
                Text(self._names[index]),
                justify="right" if numeric[index] else "left",
                no_wrap=True,
                overflow="ellipsis",
                min_width=width,
                max_width=width if self.terminal.width is not None else None,
            )
        for row in range(len(texts[0]) if texts else 0):
            cells = (texts[index][row] for index in self._kept)
            table.add_row(*(Text(cell, style="dim" if cell in ("NULL", "NaN") else "") for cell in cells))
        self.write(rendered(table, self.terminal, strip=True))


def counted(number: int, noun: str) -> str:
    """`1 row`, `2,799 rows`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _numeric(schema: pa.Schema) -> list[bool]:
    import pyarrow as pa

    return [pa.types.is_integer(field.type) or pa.types.is_floating(field.type) for field in schema]


def _natural_widths(names: Sequence[str], texts: Sequence[Sequence[str]]) -> list[int]:
    from rich.cells import cell_len

    return [
        max([cell_len(name), *(cell_len(text) for text in column)]) for name, column in zip(names, texts, strict=True)
    ]


def _fit(widths: list[int], numeric: Sequence[bool], same: Sequence[bool], available: int) -> list[int]:
    """Narrows the texts in `widths` (in place) until the table fits; returns the columns that are shown.

    Columns are left out from the middle, those that say the `same` in every row first.
    """
    kept = list(range(len(widths)))

    def excess() -> int:
        return sum(widths[index] for index in kept) + _GAP * (len(kept) - 1) + 1 - available

    def narrow(floor: int) -> None:
        while excess() > 0:
            texts = [index for index in kept if not numeric[index] and widths[index] > floor]
            if not texts:
                return
            widest = max(texts, key=lambda index: widths[index])
            widths[widest] -= 1

    narrow(_NARROW)
    while excess() > 0 and len(kept) > 2:
        middle = (len(widths) - 1) / 2
        kept.remove(min(kept[1:], key=lambda index: (not same[index], abs(index - middle))))
    if excess() > 0:
        narrow(1)
    return kept
