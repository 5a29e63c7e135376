"""Database: what one open database hands the statements that run in it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from kryptondb.catalog import Catalog, ModelStore, Settings
from kryptondb.errors import BindError
from kryptondb.grammar.statements import Analyze, Select, Statement, TableFunction
from kryptondb.options.reader import value_of
from kryptondb.show.progress import waiting

if TYPE_CHECKING:
    from kryptondb.optimizer.physical import PhysicalPlan
    from kryptondb.statements.calibration import Calibration
    from kryptondb.statements.profiles import Profiles


@dataclass(frozen=True)
class Database:
    """An open catalog and the views of it that statements use.

    Attributes:
        scripts: the files that statements come from, which no answer is written over.
    """

    catalog: Catalog
    models: ModelStore
    settings: Settings
    scripts: tuple[str, ...]

    @classmethod
    def open(cls, path: str | Path | None, scripts: Sequence[str] = ()) -> Database:
        """Opens a database file, or one in memory for None. Raises CatalogError."""
        catalog = Catalog(path)
        return cls(catalog, ModelStore(catalog), Settings(catalog), tuple(scripts))

    # These need the optimizer, which statements that plan nothing do not import.

    @cached_property
    def profiles(self) -> Profiles:
        """What ANALYZE and self-tuning batches measured."""
        from kryptondb.statements.profiles import Profiles

        return Profiles(self.catalog)

    @cached_property
    def calibration(self) -> Calibration:
        """How fast this machine's devices are."""
        from kryptondb.statements.calibration import Calibration

        return Calibration(self.catalog)

    def plan(self, select: Select, bindings: Mapping[str, object]) -> PhysicalPlan:
        """The physical plan of a query."""
        from kryptondb import optimizer
        from kryptondb.executor.operators import OPERATORS

        with self.threads(), self.waiting("planning"):
            return optimizer.plan(
                select,
                models=self.models,
                settings=self.settings,
                bindings=bindings,
                rates=self.calibration.rates,
                operators=OPERATORS,
                profiles=self.profiles.of_experiment,
            )

    @contextmanager
    def threads(self) -> Iterator[None]:
        """Gives torch the number of threads in the setting `threads`, and its own number again afterwards."""
        wanted = self.settings.thread_count()
        if wanted is None:
            yield
            return
        import torch

        before = torch.get_num_threads()
        torch.set_num_threads(wanted)
        try:
            yield
        finally:
            torch.set_num_threads(before)

    def waiting(self, what: str) -> AbstractContextManager[Callable[[str], None]]:
        """Shows what is being waited for, as the setting `progress` asks; see `kryptondb.show.progress.waiting`."""
        return waiting(what, self.settings.get("progress"))

    # What may not be overwritten

    def kept_files(self) -> dict[str, str]:
        """The files that no answer is written over, beside the database itself, and why."""
        kept = {file: f'it is a file of the model "{name}"' for file, name in self.models.files().items()}
        if self.models.cache_folder is not None:
            kept[str(self.models.cache_folder)] = "the open database keeps its networks there"
        return kept | dict.fromkeys(self.scripts, "it is the running script")

    def refuse_target(
        self, path: str, statements: Sequence[Statement] = (), bindings: Mapping[str, object] = MappingProxyType({})
    ) -> None:
        """Raises ExecutionError where writing to a path would lose something that is still needed.

        That is the database, a file of one of its models, a script, or a picture that one of the statements reads.
        """
        from kryptondb.files.overwriting import refuse_database, refuse_files, refuse_sources
        from kryptondb.images.sources import reads

        refuse_database(path, self.catalog.path)
        refuse_files(path, self.kept_files())
        for statement in statements:
            with suppress(BindError):  # running it will report that
                for part in statement.walk():
                    if isinstance(part, (TableFunction, Analyze)) and part.images is not None:
                        refuse_sources(path, partial(reads, value_of(part.images, bindings)))
