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
    pictures: Any  # `kryptondb.notebook.Pictures`, or None

    @property
    def plan(self) -> PhysicalPlan | None: ...
    @property
    def schema(self) -> pa.Schema: ...
    @property
    def kept(self) -> bool: ...
    @property
    def so_far(self) -> Any: ...
    @property
    def errors(self) -> Sequence[ImageFailure]: ...
    def arrow(self) -> pa.Table: ...
    def batches(self) -> Iterator[pa.RecordBatch]: ...
