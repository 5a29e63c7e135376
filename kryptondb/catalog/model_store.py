"""The models of a session: those its catalog remembers, built on first use, and those registered from Python."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from kryptondb.catalog.build import absolute_source, build_model, finish, named_files
from kryptondb.catalog.describe import Row, describe_model, describe_network, input_size
from kryptondb.catalog.model import Model, SourceModel, converted_from, own_copy, unwrapped
from kryptondb.catalog.model_cache import (
    NetworkCache,
    check_unchanged,
    digests_of,
    is_unchanged,
    labels_changed,
    remembered_model,
    summary_of,
)
from kryptondb.catalog.options import ModelOptions
from kryptondb.catalog.store import Catalog, ModelRecord, name_taken
from kryptondb.errors import (
    BindError,
    CatalogError,
    Error,
    ModelError,
    NondeterministicModel,
    did_you_mean,
    one_line,
    warn,
)
from kryptondb.process.torch_state import building
from kryptondb.text.plain_text import printable

if TYPE_CHECKING:
    import torch

    from kryptondb.network import Network

MODEL_COLUMNS = ("name", "source", "weights", "input", "classes", "parameters", "created")


class ModelStore:
    """Models by name, in any case. Registered ones live as long as the session, created ones as long as the catalog.

    A catalog in a file keeps the traced networks of its models beside it: a session that finds one there, and the
    model's sources unchanged, builds nothing.
    """

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._cache = NetworkCache(catalog.path) if catalog.path is not None else None
        self._lock = threading.RLock()
        self._registered: dict[str, tuple[Model, str]] = {}  # with the time of registration
        self._built: dict[str, Model] = {}
        self._networks: dict[str | Model, Network] = {}  # by fingerprint; a registered model's by the model itself

    def create(self, name: str, kind: str, source: str, options: Mapping[str, object], replace: bool = False) -> Model:
        """CREATE MODEL: builds first, then remembers, so that what is remembered has worked once.

        Raises BindError when the name is taken and `replace` is False, ModelError when the model cannot be built.
        """
        folded = name.casefold()
        taken = self._registered.get(folded)
        record = self._catalog.model(name)
        if not replace and (taken or record):
            raise name_taken(taken[0].name if taken else record.name if record else name)
        parsed = ModelOptions.parse(options)
        before = self._digests(kind, source, parsed.given())
        model = build_model(name, kind, source, parsed.given())
        replaced = record
        record = ModelRecord(
            name=name,
            kind=kind,
            source=absolute_source(kind, source),
            options=parsed.given(),
            created=_now(),
            fingerprint=model.fingerprint,
            summary=summary_of(model, before),
        )
        self._catalog.put_model(record, replace)
        with self._lock:
            self._forget(folded)
            self._built[folded] = model
            self._forget_network(replaced)
        return model

    def register(self, name: str, module: torch.nn.Module, **options: object) -> Model:
        """Takes any module that maps [N, C, H, W] to one tensor [N, classes], for this session.

        A frozen copy is kept; the module itself is not changed. Pictures come in as pixels of 0..1 (times `scale`)
        unless `mean` and `std` say otherwise. Registering the same name again replaces it.

        Args:
            options: those of CREATE MODEL, without `weights`; None counts as not given, `size` is 224 then.

        Raises BindError for an option's value or a name that the catalog holds, ModelError when the module cannot be
        copied or its output is something else.
        """
        import torch

        from kryptondb.catalog.structure import module_structure
        from kryptondb.images.preprocess import Preprocess

        if not isinstance(module, torch.nn.Module):
            raise ModelError(f"register takes a torch.nn.Module, not {type(module).__name__}")
        name = printable(name)
        record = self._catalog.model(name)
        if record:
            raise name_taken(record.name)
        parsed = ModelOptions.parse({key: value for key, value in options.items() if value is not None})
        parsed.without("a registered module", "weights")
        height, width = parsed.size or (224, 224)
        with building():
            try:
                own = own_copy(module)
                built = SourceModel(
                    architecture=type(unwrapped(module)).__name__,
                    structure=module_structure(own),
                    module=own,
                    preprocess=Preprocess(height=height, width=width, channels=parsed.channels or "RGB"),
                    weights="registered from Python" + converted_from(module),
                )
                model = finish(name, built, parsed)
            except Error:
                raise
            except Exception as error:  # a module's own code, wherever it is looked at
                raise ModelError(
                    f"the module {type(module).__name__} cannot be registered: {one_line(error)}"
                ) from error
        with self._lock:
            self._forget(name.casefold())
            self._registered[name.casefold()] = (model, _now())
        return model

    def get(self, name: str) -> Model:
        """The model of that name, built if this session has not used it yet.

        Raises:
            BindError: no such model; names the nearest.
            ModelError: it cannot be built any more, or a file has changed since CREATE MODEL.
        """
        folded = name.casefold()
        with self._lock:  # two threads that ask for the same model build it once
            if folded in self._registered:
                return self._registered[folded][0]
            record = self._catalog.model(name)  # each time: another process may have replaced or dropped it
            if record is None:
                self._forget(folded)
                raise self._unknown(name)
            model = self._built.get(folded)
            if model is None or model.fingerprint != record.fingerprint or labels_changed(model, record):
                model = self._from_cache(record) or self._build(record)
                self._built[folded] = model
            return model

    def network(self, model: str | Model) -> Network:
        """A model or a model's name, as a graph of operators; traced once per session. Raises what `get` does."""
        if isinstance(model, str):
            model = self.get(model)
        with self._lock:
            key = self._key(model)
            cache = None if key is model else self._cache
            network = self._networks.get(key)
            if network is None and cache is not None:
                network = self._fitting_network(model)
            if network is None:
                from kryptondb.network import trace

                network = trace(model.module, model.input_shape, model.activation)
                if network.unsteady is not None:
                    warn(NondeterministicModel(model.name, network.unsteady))
                if cache is not None:
                    cache.write(model.fingerprint, network)
            self._networks[key] = network
            return network

    def drop(self, name: str, if_exists: bool = False) -> bool:
        """DROP MODEL. Raises BindError when there is none, unless `if_exists`; says whether there was one."""
        folded = name.casefold()
        with self._lock:
            registered = folded in self._registered
            self._forget(folded)
        # A name is registered or remembered; both only where another process has created it meanwhile.
        record = None
        with suppress(CatalogError):  # a damaged row says nothing of a cached network, and can go all the same
            record = None if registered else self._catalog.model(name)
        dropped = registered or self._catalog.drop_model(name)
        self._forget_network(record)
        if not dropped and not if_exists:
            raise self._unknown(name)
        return dropped

    def names(self) -> list[str]:
        """All names, sorted."""
        names = {name.casefold(): name for name in self._catalog.model_names()}
        names.update({folded: model.name for folded, (model, _) in self._registered.items()})
        return [names[folded] for folded in sorted(names)]

    def files(self) -> dict[str, str]:
        """The files that models are made of (source, weights, labels, arrays beside it), each with a model's name."""
        found: dict[str, str] = {}
        for record in self._catalog.models():
            with suppress(BindError):  # of another version, which had other options
                found.update(dict.fromkeys(named_files(record.kind, record.source, record.options), record.name))
            files = record.summary.get("files")
            found.update(dict.fromkeys(map(str, files) if isinstance(files, dict) else (), record.name))
        for model, _ in self._registered.values():
            found.update(dict.fromkeys(model.files, model.name))
        return found

    @property
    def cache_folder(self) -> Path | None:
        """Where networks are kept beside the database; None of a database in memory."""
        return self._cache.folder if self._cache is not None else None

    def rows(self) -> list[tuple[str | int | None, ...]]:
        """SHOW MODELS: `MODEL_COLUMNS`, without building anything; classes and parameters are integers."""
        rows: dict[str, tuple[str | int | None, ...]] = {}
        for record in self._catalog.models():
            known = [record.summary.get(key) for key in ("weights", "input", "classes", "parameters")]
            rows[record.name.casefold()] = (record.name, _source(record), *known, record.created)
        for folded, (model, created) in self._registered.items():
            size = input_size(model)
            rows[folded] = (model.name, "registered", model.weights, size, model.classes, model.parameters, created)
        return [rows[folded] for folded in sorted(rows)]

    def describe(self, name: str, network: bool = True) -> list[Row]:
        """DESCRIBE: rows of (property, value). A model that cannot be built any more says why in a row `problem`.

        Args:
            network: whether to trace the model and add how far it runs incrementally.
        """
        registered = self._registered.get(name.casefold())
        record = None if registered else self._catalog.model(name)
        try:
            model = self.get(name)
        except ModelError as error:
            if record is None:
                raise
            known = [(key, str(record.summary.get(key, ""))) for key in ("architecture", "weights", "input", "classes")]
            rows = [("name", record.name), ("source", _source(record)), *known, ("fingerprint", record.fingerprint)]
            return [*rows, ("created", record.created), ("problem", str(error))]
        source = _source(record) if record else "registered"
        created = record.created if record else registered[1] if registered else ""
        rows = [("name", model.name), ("source", source), *describe_model(model), ("created", created)]
        if network:
            rows.extend(describe_network(self.network(name)))
        return rows

    def _from_cache(self, record: ModelRecord) -> Model | None:
        """The model without its module, where its network is at hand and nothing it was made from has changed."""
        if self._cache is None or not is_unchanged(record):
            return None
        model = remembered_model(record, make=partial(self._module, record))
        if model is None:
            return None
        network = self._networks.get(record.fingerprint) or self._fitting_network(model)
        if network is None:
            return None
        self._networks[record.fingerprint] = network
        return model

    def _fitting_network(self, model: Model) -> Network | None:
        """The model's network from the cache, if it takes the model's pictures and gives its classes."""
        network = self._cache.read(model.fingerprint) if self._cache is not None else None
        fits = network is not None and (network.input_shape, network.classes) == (model.input_shape, model.classes)
        return network if fits else None

    def _build(self, record: ModelRecord) -> Model:
        """Builds a remembered model and checks that it is the one that was created."""
        before = self._digests(record.kind, record.source, record.options)
        model = build_model(record.name, record.kind, record.source, record.options)
        check_unchanged(model, record)
        if self._cache is not None:
            summary = summary_of(model, before)
            if summary != record.summary:  # other libraries make the same model: the next session need not find out
                with suppress(CatalogError):
                    self._catalog.put_summary(record, summary)
        return model

    def _module(self, record: ModelRecord) -> torch.nn.Module:
        return self._build(record).module

    def _digests(self, kind: str, source: str, options: Mapping[str, object]) -> dict[str, str]:
        """Digests of the files that a model is about to be built from; none where no other process will ask."""
        return digests_of(named_files(kind, source, options)) if self._cache is not None else {}

    def _forget_network(self, record: ModelRecord | None) -> None:
        """Removes the cached network of a model that is gone, unless another model is the same."""
        if self._cache is None or record is None:
            return
        if not self._catalog.has_fingerprint(record.fingerprint):
            self._cache.forget(record.fingerprint)

    def _key(self, model: Model) -> str | Model:
        """What its network is kept under: no fingerprint says all that a module of the user's may compute."""
        registered = self._registered.get(model.name.casefold())
        return model if registered is not None and registered[0] is model else model.fingerprint

    def _forget(self, folded: str) -> None:
        """Lets go of what this session holds under a name, so that a model replaced many times is held once."""
        built, registered = self._built.pop(folded, None), self._registered.get(folded)
        for model in (built, registered[0] if registered else None):
            network = self._networks.pop(self._key(model), None) if model is not None else None
            if network is not None:
                network.forget()
        self._registered.pop(folded, None)

    def _unknown(self, name: str) -> BindError:
        near = did_you_mean(name, self.names())
        hint = f"{near} " if near else ""
        return BindError(f'no model named "{name}"', hint=f"{hint}SHOW MODELS lists what this database knows.")


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def _source(record: ModelRecord) -> str:
    """As it would be written after FROM."""
    quoted = "'" + record.source.replace("'", "''") + "'"
    return quoted if record.kind == "file" else f"{record.kind}({quoted})"
