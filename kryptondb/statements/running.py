"""A plan as it runs for a session: with the session's threads, and a progress line that goes away when rows come."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Protocol

from kryptondb.errors import CatalogError
from kryptondb.show.progress import ProgressLine, progress_line

if TYPE_CHECKING:
    import pyarrow as pa

    from kryptondb.catalog import ModelStore, Settings
    from kryptondb.executor import Execution, ImageFailure, Progress, Stats
    from kryptondb.executor.asking import Looks
    from kryptondb.executor.profiling import Sample
    from kryptondb.images.picture import Picture
    from kryptondb.optimizer.cost import Rates
    from kryptondb.optimizer.physical import Occlude, PhysicalPlan
    from kryptondb.optimizer.recipe import Judged, Recipe
    from kryptondb.statements.profiles import Profiles


class Owner(Protocol):
    """The session that runs something: its models, settings, profiles and threads, and how fast its devices are."""

    models: ModelStore
    settings: Settings
    profiles: Profiles

    def threads(self) -> AbstractContextManager[None]:
        """The threads that the session gives to torch, while it lasts."""

    def rates(self, device: str) -> Rates:
        """How fast a device is."""


class Watched:
    """An execution with the session's threads, and with a progress line that goes away whenever rows come out."""

    def __init__(
        self, session: Owner, plan: PhysicalPlan, bindings: Mapping[str, object], looks: Looks | None = None
    ) -> None:
        from kryptondb.executor import execute

        self._session = session
        self._line: ProgressLine | None = None
        self._remembers = True
        self.execution: Execution = execute(
            plan,
            models=session.models,
            bindings=bindings,
            on_error=str(session.settings.get("on_error")),
            progress=self._progress,
            laboratory=self,
            memory_limit=session.settings.memory_limit_bytes(),
        )
        if looks is not None:
            self.execution.keep_looks(looks)

    @property
    def schema(self) -> pa.Schema:
        """The rows' schema, with how they are made in its metadata."""
        return self.execution.schema

    @property
    def errors(self) -> Sequence[ImageFailure]:
        """The images that were left out so far, and why."""
        return self.execution.errors

    @property
    def stats(self) -> Stats:
        """What was counted so far."""
        return self.execution.stats

    def batches(self) -> Iterator[pa.RecordBatch]:
        """The rows, image by image, with the progress line while nothing comes."""
        with self.watched():
            for batch in self.execution.batches():
                if self._line is not None:
                    self._line.pause()
                yield batch

    def rates(self, device: str) -> Rates:
        """How fast a device is."""
        return self._session.rates(device)

    def known(self, node: Occlude) -> tuple[Mapping[Recipe, Judged], float] | None:
        """What the profile of an experiment has of its first image, and the seconds of that one's exact map."""
        from kryptondb.statements.profiles import key_of, measured_of

        first = next(iter(self._session.profiles.store.samples(key_of(node), limit=1)), None)
        return None if first is None else (measured_of(first), first.seconds)

    def remember(self, node: Occlude, picture: Picture, sample: Sample) -> None:
        """Keeps what a batch measured of a picture that tunes itself, in the profile of its experiment.

        A catalog that cannot be written costs later queries their profile, and not this one its answer: that is told
        once, as a warning.
        """
        from kryptondb.images.picture import content_hash
        from kryptondb.statements.profiles import key_of, sample_of

        if not self._remembers:
            return
        try:
            self._session.profiles.remember(key_of(node), sample_of(content_hash(picture), picture.name, sample))
        except CatalogError as error:
            self._remembers = False
            warnings.warn(f"what this batch measures is not remembered for later queries: {error}", stacklevel=2)

    def keep(self, size: int) -> None:
        """See `Execution.keep`."""
        self.execution.keep(size)

    def close(self) -> None:
        """Ends the execution."""
        self.execution.close()

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Runs what is inside with the progress line and the threads of the session, and closes the execution."""
        self._line = progress_line(self._session.settings.get("progress"))
        try:
            with self._session.threads():
                yield
        finally:
            if self._line is not None:
                self._line.close()
            self.execution.close()

    def _progress(self, progress: Progress) -> None:
        if self._line is not None:
            self._line(progress)
