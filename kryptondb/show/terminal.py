"""Rows in a terminal: heat maps in half blocks with captions, everything else as a table that never wraps.

A table is printed as it comes: columns are laid out by the first batch and keep their width. On a terminal long texts
are cut with an ellipsis, and when even that does not fit, columns in the middle are hidden and named below. Into a
file or a pipe nothing is cut or colored.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TextIO

from kryptondb.show.values import is_tensor, shown, shown_column, tensors
from kryptondb.text.plain_text import plain_line, shortened
from kryptondb.text.units import counted, seconds_text

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from rich.console import RenderableType

    from kryptondb.executor import ImageFailure
    from kryptondb.optimizer.physical import PhysicalPlan


@dataclass(frozen=True)
class Terminal:
    """Where text is shown. `width` None: not a terminal, so no line is ever cut and nothing is colored."""

    width: int | None
    height: int | None
    color: bool

    @classmethod
    def of(cls, stream: TextIO) -> Terminal:
        """What `stream` can show."""
        try:
            size = os.get_terminal_size(stream.fileno())
        except (OSError, ValueError, AttributeError):
            return cls(None, None, False)
        color = "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"
        return cls(size.columns or 80, size.lines or 24, color)


def rendered(what: RenderableType, terminal: Terminal, *, strip: bool = False) -> str:
    """An object of rich as text for this terminal (escape codes only where colors are wanted)."""
    from rich.console import Console

    buffer = io.StringIO()
    console = Console(
        file=buffer,
        width=terminal.width or 1_000_000,
        force_terminal=terminal.color,
        force_jupyter=False,  # in a notebook rich would display it, and the text would be empty
        color_system="truecolor" if terminal.color else None,
        legacy_windows=False,
        markup=False,
        highlight=False,
        emoji=False,
    )
    console.print(what, soft_wrap=False)
    text = buffer.getvalue()
    if strip and not terminal.color:
        text = "".join(line.rstrip() + "\n" for line in text.splitlines())
    return text


#: How many heat maps of one result are drawn; of the others only the caption is shown.
PICTURES = 12
#: A heat map is not drawn larger than this, however large the terminal.
_MAP_LINES = 29


def print_rows(
    schema: pa.Schema,
    batches: Iterable[tuple[pa.RecordBatch, float | None]],
    plan: PhysicalPlan | None,
    terminal: Terminal,
    write: Callable[[str], None],
    *,
    max_rows: int | None = None,
) -> None:
    """Writes rows as they come: heat maps one by one where there are any, else a table.

    Args:
        batches: the rows, each batch with the seconds that it took to compute; None for rows that were kept.
        plan: of a query.
        max_rows: how many rows of a table to show before "... n more rows"; None for all.
    """
    maps = [index for index, field in enumerate(schema) if is_tensor(field.type)]
    printer: HeatMapPrinter | TablePrinter
    if maps:
        printer = HeatMapPrinter(plan, maps[0], terminal, write)
    else:
        printer = TablePrinter(schema, terminal, write, max_rows=max_rows)
    for batch, seconds in batches:
        printer.add(batch, seconds)
    if isinstance(printer, TablePrinter):
        printer.finish()


class HeatMapPrinter:
    """Each heat map as a picture (on a terminal in color), then its caption."""

    def __init__(
        self, plan: PhysicalPlan | None, column: int, terminal: Terminal, write: Callable[[str], None]
    ) -> None:
        self.plan = plan
        self.column = column
        self.terminal = terminal
        self.write = write
        self.seen = 0

    def add(self, batch: pa.RecordBatch, seconds: float | None) -> None:
        """Prints every heat map of the batch."""
        columns = {field.name: batch.column(index).to_pylist() for index, field in enumerate(batch.schema)
                   if not is_tensor(field.type)}  # fmt: skip
        for index, heatmap in enumerate(tensors(batch.column(self.column))):
            row = {name: values[index] for name, values in columns.items()}
            self.seen += 1
            if self.terminal.color and self.seen <= PICTURES:
                self.write(self._picture(heatmap))
            last = index == batch.num_rows - 1
            quality = row_quality(batch.schema, row.get("image"), self.plan)
            self.write(caption(row, heatmap, self.plan, seconds if last else None, quality) + "\n")
            if row.get("prediction"):
                self.write(f"predicted {shown(row['prediction'])}\n")

    def _picture(self, heatmap: np.ndarray) -> str:
        from rich.text import Text

        from kryptondb.images.terminal import halfblocks

        height = min(max(8, (self.terminal.height or 24) - 4), _MAP_LINES)
        width = max(8, min((self.terminal.width or 80) - 1, 2 * _MAP_LINES))
        blocks: Any = halfblocks(heatmap, width=width, height=height, values="drop")
        text = blocks if isinstance(blocks, Text) else Text.from_ansi(blocks)
        return rendered(text, self.terminal)


def row_quality(schema: pa.Schema, image: str | None, plan: PhysicalPlan | None) -> str | None:
    """Whether a row is 'exact' or 'approximate'; None without a plan."""
    if plan is None:
        return None
    from kryptondb.executor.metadata import quality_of

    return quality_of(schema, image, plan.quality.kind)


def caption(
    row: dict[str, Any], heatmap: np.ndarray, plan: PhysicalPlan | None, seconds: float | None, quality: str | None
) -> str:
    """`cat   Egyptian cat 0.771   lowest 0.690 at y 84, x 120   exact   6.8 s`, for a heat map."""
    import numpy as np

    parts = [str(row["image"])] if row.get("image") else []
    named = row.get("label") or (f"class {row['class']}" if row.get("class") is not None else None)
    if named and row.get("base") is not None:
        parts.append(f"{named} {row['base']:.3f}")
    elif named:
        parts.append(str(named))
    if np.isnan(heatmap).all():
        parts.append("no position computed")
    else:
        at_row, at_col = map(int, np.unravel_index(int(np.nanargmax(heatmap)), heatmap.shape))
        y, x = at_row, at_col
        if plan is not None and plan.occlude is not None:
            (y, _), (x, _) = plan.occlude.experiment.covered((at_row, at_col), heatmap.shape)
        lowest = f"lowest {row['base'] - heatmap[at_row, at_col]:.3f}" if row.get("base") is not None else "lowest"
        parts.append(f"{lowest} at y {y}, x {x}")
    if quality is not None:
        parts.append(quality)
    if seconds is not None:
        parts.append(seconds_text(seconds))
    return plain_line("   ".join(parts))


def failures_text(failures: Sequence[ImageFailure]) -> str:
    """Which images were skipped, and why."""
    lines = []
    for failure in failures:
        name, why = shortened(plain_line(failure.image)), plain_line(failure.message)
        lines.append(f"  {why}" if name in why else f"  {name}: {why}")
    return "\n".join([f"{counted(len(failures), 'image')} skipped:", *lines])


#: Between two columns.
_GAP = 2
#: Texts are not cut below this many characters while a column can be hidden instead.
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
        """Prints the rows of the batch that are within `max_rows`."""
        shown = batch if self.max_rows is None else batch.slice(0, max(0, self.max_rows - self.rows))
        self.rows += batch.num_rows
        if shown.num_rows or self._widths is None:
            texts = [shown_column(column) for column in shown.columns]
            self._print(texts, header=self._widths is None)

    def finish(self) -> None:
        """Prints the header of an empty table, the number of further rows, and the hidden columns."""
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


def _numeric(schema: pa.Schema) -> list[bool]:
    import pyarrow as pa

    return [pa.types.is_integer(field.type) or pa.types.is_floating(field.type) for field in schema]


def _natural_widths(names: Sequence[str], texts: Sequence[Sequence[str]]) -> list[int]:
    from rich.cells import cell_len

    return [
        max([cell_len(name), *(cell_len(text) for text in column)]) for name, column in zip(names, texts, strict=True)
    ]


def _fit(widths: list[int], numeric: Sequence[bool], same: Sequence[bool], available: int) -> list[int]:
    """Narrows the texts in `widths` (in place) until the table fits; returns the indices of the columns that are shown.

    Columns in the middle are hidden first, before them those with the `same` value in every row.
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
