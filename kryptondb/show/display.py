"""How a result looks to a person: heat maps in half blocks with one line each, everything else as a table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TextIO

from kryptondb.show.screen import Terminal, rendered
from kryptondb.text.plain_text import plain_line, shortened

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

    from kryptondb.executor import ImageFailure
    from kryptondb.optimizer.physical import PhysicalPlan
    from kryptondb.show.answer import Answer

#: A picture each for this many heat maps of one result; the ones after that are told in one line each.
PICTURES = 12
#: A heat map is not drawn larger than this, however large the terminal.
_MAP_LINES = 29


def show(result: Answer, stream: TextIO, terminal: Terminal, *, max_rows: int | None) -> int:
    """Writes the whole result to the stream as it is read; returns how many rows it had.

    Args:
        max_rows: how many rows of a table to show before "... n more rows"; None for all.
    """
    if result.message is not None:
        stream.write(result.message.rstrip("\n") + "\n" if result.message else "")
        stream.flush()
        return 0
    from kryptondb.show.values import is_tensor

    def write(text: str) -> None:
        stream.write(text)
        stream.flush()

    maps = [index for index, field in enumerate(result.schema) if is_tensor(field.type)]
    printer: Printer
    if maps:
        printer = HeatMapPrinter(result.plan, maps[0], terminal, write)
    else:
        from kryptondb.show.tables import TablePrinter

        printer = TablePrinter(result.schema, terminal, write, max_rows=max_rows)
    rows = 0
    before = 0.0
    for batch in result.batches():
        stats = result.so_far.stats if result.so_far is not None else None
        now = float(stats.seconds) if stats is not None else 0.0
        printer.add(batch, None if result.kept else now - before)
        before = now
        rows += batch.num_rows
    printer.finish()
    if result.note is not None:
        write(f"{result.note}\n")
    return rows


class Printer(Protocol):
    """What takes a result's batches one after the other."""

    def add(self, batch: pa.RecordBatch, seconds: float | None) -> None:
        """Shows a batch that took so long to compute; None when it was there already."""

    def finish(self) -> None:
        """Says what can only be said at the end."""


class HeatMapPrinter:
    """Each heat map as a picture (on a terminal in colour), then one line that says what was answered and how well."""

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
        from kryptondb.show.values import is_tensor, shown, tensors

        columns = {field.name: batch.column(index).to_pylist() for index, field in enumerate(batch.schema)
                   if not is_tensor(field.type)}  # fmt: skip
        for index, heatmap in enumerate(tensors(batch.column(self.column))):
            row = {name: values[index] for name, values in columns.items()}
            self.seen += 1
            if self.terminal.colour and self.seen <= PICTURES:
                self.write(self._picture(heatmap))
            last = index == batch.num_rows - 1
            quality = made(batch.schema, row.get("image"), self.plan)
            self.write(caption(row, heatmap, self.plan, seconds if last else None, quality) + "\n")
            if row.get("prediction"):
                self.write(f"predicted {shown(row['prediction'])}\n")

    def finish(self) -> None:
        """Nothing is left to say."""

    def _picture(self, heatmap: np.ndarray) -> str:
        from rich.text import Text

        from kryptondb.images.terminal import halfblocks

        height = min(max(8, (self.terminal.height or 24) - 4), _MAP_LINES)
        width = max(8, min((self.terminal.width or 80) - 1, 2 * _MAP_LINES))
        blocks: Any = halfblocks(heatmap, width=width, height=height, values="drop")
        text = blocks if isinstance(blocks, Text) else Text.from_ansi(blocks)
        return rendered(text, self.terminal)


def made(schema: pa.Schema, image: str | None, plan: PhysicalPlan | None) -> str | None:
    """Whether a row is 'exact' or 'approximate'; None of rows without a plan."""
    if plan is None:
        return None
    from kryptondb.executor.metadata import quality_of

    return quality_of(schema, image, plan.quality.kind)


def caption(
    row: dict[str, Any], heatmap: np.ndarray, plan: PhysicalPlan | None, seconds: float | None, quality: str | None
) -> str:
    """`cat   Egyptian cat 0.771   lowest 0.690 at y 84, x 120   exact   6.8 s`, of a map of drops."""
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
            (y, _), (x, _) = plan.occlude.covered((at_row, at_col), heatmap.shape)
        lowest = f"lowest {row['base'] - heatmap[at_row, at_col]:.3f}" if row.get("base") is not None else "lowest"
        parts.append(f"{lowest} at y {y}, x {x}")
    if quality is not None:
        parts.append(quality)
    if seconds is not None:
        parts.append(spoken_seconds(seconds))
    return plain_line("   ".join(parts))


def spoken_seconds(seconds: float) -> str:
    """`40 ms`, `6.8 s`, `2 min 5 s`."""
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 99.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s"


def spoken_size(count: int) -> str:
    """`812 bytes`, `41 kB`, `3.2 MB`."""
    if count < 1000:
        return f"{count} bytes"
    size, unit = count / 1000, "kB"
    for larger in ("MB", "GB"):
        if size >= 999.5:
            size, unit = size / 1000, larger
    return f"{size:.1f} {unit}" if size < 9.95 else f"{size:.0f} {unit}"


def failures_text(failures: Sequence[ImageFailure]) -> str:
    """Which images were left out, and why."""
    lines = []
    for failure in failures:
        name, why = shortened(plain_line(failure.image)), plain_line(failure.message)
        lines.append(f"  {why}" if name in why else f"  {name}: {why}")
    count = "1 image was left out:" if len(failures) == 1 else f"{len(failures):,} images were left out:"
    return "\n".join([count, *lines])
