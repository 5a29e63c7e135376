"""What the terminal and the notebook need of a result in order to show it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import pyarrow as pa

    from kryptondb.executor import ImageFailure
    from kryptondb.optimizer.physical import PhysicalPlan


class Answer(Protocol):
    """The part of `kryptondb.Result` that showing it reads."""

    message: str | None
    note: str | None
    pictures: Any  # `kryptondb.show.notebook.Pictures`, or None

    @property
    def plan(self) -> PhysicalPlan | None:
        """The physical plan of a query, None for other statements."""

    @property
    def schema(self) -> pa.Schema:
        """Names and types of the rows."""

    @property
    def kept(self) -> bool:
        """Whether the rows are there already."""

    @property
    def so_far(self) -> Any:
        """The run that is under way or done."""

    @property
    def errors(self) -> Sequence[ImageFailure]:
        """The images that were left out."""

    def arrow(self) -> pa.Table:
        """All rows, kept."""

    def batches(self) -> Iterator[pa.RecordBatch]:
        """The rows as they come."""
