"""Session: one open database. `sql` parses, plans and runs a statement, and hands back a Result."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import TYPE_CHECKING, Any

from kryptondb.errors import BindError, CatalogError, Error, ExecutionError, ModelError, at
from kryptondb.options.arguments import (
    Parameters,
    bindings_for,
    bindings_of,
    check_all_used,
    text_of,
    value_of,
)
from kryptondb.options.reference import documented
from kryptondb.options.tables import MODEL
from kryptondb.process.torch_state import own_torch_state
from kryptondb.result import Result, Rows
from kryptondb.show.notebook import Pictures
from kryptondb.show.progress import waiting
from kryptondb.show.status import status_line, status_row
from kryptondb.show.values import table_of
from kryptondb.statements.running import Watched
from kryptondb.text.plain_text import plain_line
from kryptondb.text.units import bytes_text, counted, seconds_text

if TYPE_CHECKING:
    import torch

    from kryptondb.grammar.statements import (
        Analyze,
        Calibrate,
        Column,
        Copy,
        CreateModel,
        Describe,
        DropModel,
        DropProfiles,
        Explain,
        Select,
        Set,
        Show,
        Statement,
    )
    from kryptondb.network import Network
    from kryptondb.optimizer.cost import Rates
    from kryptondb.optimizer.physical import PhysicalPlan
    from kryptondb.optimizer.promise import Profile


def connect(path: str | Path | None = None) -> Session:
    """Opens a database: a file that remembers models and settings, or one in memory when no path is given.

    Raises:
        CatalogError: the file is not a KryptonDB database, or cannot be opened.
    """
    return Session(path)


def parse(text: str) -> tuple[Statement, ...]:
    """The statements of a text, in order.

    Raises:
        ParseError: with the line, a caret, and what was expected there.
    """
    from kryptondb.grammar import parse_script

    try:
        return tuple(parse_script(text))
    except Error as error:
        error.locate(text)
        raise


class Session:
    """One open database; `kryptondb.connect()` makes it. Usable as a context manager.

    Threads: use a session, and the results it gave, in one thread at a time; every thread can have its own session on
    the same file, and so can other processes.

    Attributes:
        scripts: the files that statements come from, which no answer is written over.
    """

    def __init__(self, path: str | Path | None = None) -> None:
        from kryptondb.catalog import Catalog, ModelStore, Settings
        from kryptondb.statements.calibration import Calibration
        from kryptondb.statements.profiles import Profiles

        self.catalog = Catalog(path)
        self.models = ModelStore(self.catalog)
        self.settings = Settings(self.catalog)
        self.profiles = Profiles(self.catalog)
        self._calibration = Calibration(self.catalog)
        self._closed = False
        self.scripts: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"<kryptondb.Session {plain_line(str(self.catalog.path)) if self.catalog.path else 'in memory'}>"

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the database; closing again does nothing. Rows already read stay readable."""
        self._closed = True
        self.catalog.close()

    def sql(self, text: str, parameters: Parameters = None) -> Result:
        """Runs a statement, or several with `;` between them, and returns the (last) result.

        A SELECT is planned at once, so that its errors are raised here, and runs when its rows are first read. All
        other statements run at once. Of several statements, the rows of a SELECT that is not the last are never read.

        Args:
            text: the statements.
            parameters: a sequence for `?` in order (each statement counts from the first), or a mapping for `$name`;
                values are numbers, strings, lists, and for images also PIL images and arrays of numpy, torch or Arrow.

        Raises:
            Error: of the class of the stage that failed, with the place in the text where there is one.
        """
        statements = parse(text)
        check_all_used(statements, bindings_of(parameters))
        result = Result.of_rows(table_of((), []))
        for statement in statements:
            result = self.run(statement, text, parameters)
        return result

    def execute_script(self, text: str, parameters: Parameters = None) -> list[Result]:
        """Runs the statements of a text in order; one result each, those of SELECTs with all their rows read."""
        statements = parse(text)
        check_all_used(statements, bindings_of(parameters))
        results = []
        for statement in statements:
            result = self.run(statement, text, parameters)
            try:
                result.arrow()
            except Error as error:
                error.locate(text)
                raise
            results.append(result)
        return results

    def run(self, statement: Statement, text: str, parameters: Parameters = None) -> Result:
        """Runs one statement that `parse(text)` gave. The text is for messages, which show the line they are about.

        Parameters that the statement does not use are left to others.
        """
        from kryptondb.grammar import statements as s

        handlers: dict[type, Callable[[Any, Mapping[str, object]], Result]] = {
            s.Select: self._select,
            s.Explain: self._explain,
            s.Copy: self._copy,
            s.CreateModel: self._create_model,
            s.DropModel: self._drop_model,
            s.Describe: self._describe,
            s.Show: self._show,
            s.Set: self._set,
            s.Analyze: self._analyze,
            s.Calibrate: self._calibrate,
            s.DropProfiles: self._drop_profiles,
        }
        try:
            if self._closed:
                raise ExecutionError("this session is closed", hint="kryptondb.connect() opens another.")
            bindings = bindings_for(statement, bindings_of(parameters))
            with own_torch_state():
                return handlers[type(statement)](statement, bindings)
        except Error as error:
            error.locate(text)
            raise

    @documented(MODEL, leave_out=("weights",))
    def register(self, name: str, module: torch.nn.Module, **options: Any) -> None:
        """Makes a torch module a model of this session, under a name. A frozen copy is kept; the module is left alone.

        Args:
            name: what statements call it.
            module: maps [N, C, H, W], float32, to one tensor [N, classes], or to several of which `output` is it.
                The copy of one in another precision is in float32; DESCRIBE says so.
            options: those of CREATE MODEL; None counts as not given, `size` is 224 then.

        Raises:
            BindError: an unknown option, a value that it does not take, or a name that the database holds already.
            ModelError: the module cannot be copied, or answers something else.
        """
        self.models.register(name, module, **options)

    def rates(self, device: str) -> Rates:
        """How fast a device is: measured once, then remembered in the catalog for this machine and thread count."""
        return self._calibration.rates(device)

    def refuse_target(
        self, path: str, statements: Sequence[Statement] = (), bindings: Mapping[str, object] = MappingProxyType({})
    ) -> None:
        """Raises ExecutionError where writing to a path would lose something that is still needed.

        That is the database, a file of one of its models, a script, or a picture that one of the statements reads.
        """
        from kryptondb.files.overwriting import refuse_database, refuse_files, refuse_sources

        refuse_database(path, self.catalog.path)
        refuse_files(path, self._kept())
        for statement in statements:
            with suppress(BindError):  # running it will say so
                refuse_sources(path, _images_of(statement, bindings))

    def _kept(self) -> dict[str, str]:
        """The files that no answer is written over, beside the database, and why."""
        kept = {file: f'the model "{name}" is made of it' for file, name in self.models.files().items()}
        if self.models.cache_folder is not None:
            kept[str(self.models.cache_folder)] = "the open database keeps its networks there"
        return kept | dict.fromkeys(self.scripts, "it is the script that runs")

    # What each statement does

    def _select(self, select: Select, bindings: Mapping[str, object]) -> Result:
        plan = self._plan(select, bindings)
        pictures = Pictures(self.models, plan, bindings)
        looks = pictures.looks if pictures.drawn else None
        return Result(lambda: Watched(self, plan, bindings, looks), plan=plan, pictures=pictures)

    def _explain(self, explain: Explain, bindings: Mapping[str, object]) -> Result:
        from kryptondb import optimizer
        from kryptondb.executor.occlusion import count_named

        plan = self._plan(explain.select, bindings)
        run = Watched(self, plan, bindings) if explain.analyze else None
        for _ in run.batches() if run is not None else ():
            pass
        as_json = explain.format.casefold() == "json"
        render = optimizer.explain_json if as_json else optimizer.explain
        stats, tuned = (None, None) if run is None else (run.stats, run.execution.outcome)
        counted = count_named(plan.occlude) if run is None and plan.occlude is not None else None
        text = render(plan, analyzed=stats, tuned=tuned, images=counted)
        rows = Rows(table_of(("plan",), [(text,)]), run.stats if run else None, run.errors if run else ())
        return Result.of_run(rows, plan=plan, message=text, document=text if as_json else None)

    def _copy(self, copy: Copy, bindings: Mapping[str, object]) -> Result:
        from kryptondb.copy.sinks import copy_to
        from kryptondb.files.atomic import is_stream, target_of
        from kryptondb.options.reader import given_in

        path = text_of(copy.path, bindings, "the path of COPY")
        options = given_in(copy.options, bindings, words=True)
        run = Watched(self, self._plan(copy.select, bindings), bindings)
        with run.watched():
            report = copy_to(run.execution, path, options, database=self.catalog.path, kept=self._kept())
        if report.written is not None:
            rows = Rows(table_of(*status_row(path, report.written)), run.stats, run.errors)
            return Result.of_run(rows, plan=run.execution.plan, message=status_line(path, report.written))
        rows = Rows(table_of((), []), run.stats, run.errors)
        what = f"{report.path}: {counted(report.rows, report.unit)}, {bytes_text(report.bytes)}"
        # Where the rows went on to somebody, as those of /dev/stdout, a sentence might come behind them.
        return Result.of_run(rows, plan=run.execution.plan, message="" if is_stream(target_of(path)) else what)

    def _create_model(self, create: CreateModel, bindings: Mapping[str, object]) -> Result:
        from kryptondb.catalog import summary_line
        from kryptondb.options.reader import given_in

        self.catalog.check_writable()
        source = text_of(create.source.name, bindings, "the source of a model")
        options = given_in(create.options, bindings)
        with (
            options.placing(),
            waiting(f"building {create.name}", self.settings.get("progress")),
        ):
            model = self.models.create(create.name, create.source.kind, source, options, create.replace)
            summary = summary_line(model, self.models.network(create.name))
        return _told(summary)

    def _drop_model(self, drop: DropModel, _: Mapping[str, object]) -> Result:
        self.models.drop(drop.name, drop.if_exists)
        return _told("")

    def _set(self, setting: Set, bindings: Mapping[str, object]) -> Result:
        value = value_of(setting.value, bindings, words=True)
        self.settings.set(setting.name, value, at=setting.value.position, name_at=setting.position)
        return _told("")

    def _describe(self, describe: Describe, _: Mapping[str, object]) -> Result:
        return Result.of_rows(table_of(("property", "value"), self.models.describe(describe.name)))

    def _show(self, show: Show, _: Mapping[str, object]) -> Result:
        if show.what == "models":
            from kryptondb.catalog import MODEL_COLUMNS

            return Result.of_rows(table_of(MODEL_COLUMNS, self.models.rows()))
        if show.what == "settings":
            return Result.of_rows(table_of(("name", "value", "default", "description"), self.settings.rows()))
        if show.what == "samples":
            from kryptondb.images.samples import list_samples

            rows = [(sample.name, sample.description, sample.package) for sample in list_samples()]
            return Result.of_rows(table_of(("name", "description", "package"), rows))
        if show.what == "calibration":
            return Result.of_rows(self._calibration.table())
        return Result.of_rows(self.profiles.table())

    def _calibrate(self, calibrate: Calibrate, _: Mapping[str, object]) -> Result:
        from kryptondb.optimizer.cost import layer_shapes
        from kryptondb.statements.calibration import device_name

        self.catalog.check_writable()
        device = self.settings.resolved_device()
        with self.threads(), waiting("calibrating", self.settings.get("progress")) as say:
            networks, left_out = self._networks_of(calibrate.models)
            shapes = dict.fromkeys(shape for network in networks for shape in layer_shapes(network))
            began = time.perf_counter()
            self._calibration.measure(
                device,
                shapes,
                in_general=not calibrate.models,
                progress=lambda done, total: say(f"calibrating, {done} of {counted(total, 'layer shape')}"),
            )
            name = device_name(device)
        what = f"{counted(len(shapes), 'layer shape')} of {counted(len(networks), 'model')}"
        message = f"{name}: {what} measured in {seconds_text(time.perf_counter() - began)}"
        return _told(f"{message}; left out: {', '.join(left_out)}" if left_out else message)

    def _networks_of(self, models: Sequence[Column]) -> tuple[list[Network], list[str]]:
        """The networks of the models named, each once, or of all; of all, those that cannot be built are told apart."""
        if models:
            named: dict[str, Network] = {}
            for model in models:
                with at(model.position):
                    named[model.name.casefold()] = self.models.network(model.name)
            return list(named.values()), []
        networks, left_out = [], []
        for name in self.models.names():
            try:
                networks.append(self.models.network(name))
            except ModelError as error:
                left_out.append(f"{name} ({error.message})")
        return networks, left_out

    def _analyze(self, statement: Analyze, bindings: Mapping[str, object]) -> Result:
        from kryptondb.statements.analyze import analyze

        self.catalog.check_writable()
        return analyze(self, statement, bindings, self._plan)

    def _drop_profiles(self, drop: DropProfiles, _: Mapping[str, object]) -> Result:
        missing: Error | None = None
        fingerprint = None
        try:
            fingerprint = self.models.get(drop.model).fingerprint
        except BindError as error:
            error.position = error.position or drop.position
            missing = error
        except (ModelError, CatalogError):  # its file is gone, or its row is damaged: its profiles can go all the same
            pass
        images = self.profiles.drop(drop.model, fingerprint)
        if images is None and missing is not None:
            raise missing
        forgotten = "there was no profile" if images is None else f"{counted(images, 'profiled image')} forgotten"
        return _told(f"{drop.model}: {forgotten}")

    def _plan(self, select: Select, bindings: Mapping[str, object]) -> PhysicalPlan:
        from kryptondb import optimizer
        from kryptondb.executor.operators import OPERATORS

        with self.threads(), waiting("planning", self.settings.get("progress")):
            return optimizer.plan(
                select,
                models=self.models,
                settings=self.settings,
                bindings=bindings,
                rates=self.rates,
                operators=OPERATORS,
                profiles=self._profile,
            )

    def _profile(self, fingerprint: str, shape: Mapping[str, Any], device: str) -> Profile | None:
        from kryptondb.catalog import ProfileKey
        from kryptondb.statements.calibration import device_key

        return self.profiles.find(ProfileKey(fingerprint, shape, device_key(device)))

    @contextmanager
    def threads(self) -> Iterator[None]:
        """Gives torch the number of threads that the setting asks for, and its own again afterwards."""
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


def _images_of(statement: Statement, bindings: Mapping[str, object]) -> object:
    """Where the pictures of a statement come from, as `images.find_images` takes it; [] where from nowhere."""
    from kryptondb.grammar import statements as s

    select = statement.select if isinstance(statement, (s.Copy, s.Explain)) else statement
    if isinstance(select, s.Select) and select.source.function == "occlude" and len(select.source.arguments) > 1:
        return value_of(select.source.arguments[1], bindings)
    return value_of(select.images, bindings) if isinstance(select, s.Analyze) else []


def _told(message: str) -> Result:
    """The result of a statement that answers no rows."""
    return Result.of_rows(table_of((), []), message=message)
