"""The models of a session: those its catalog remembers, built on first use, and those registered from Python."""

from __future__ import annotations

import hashlib
import io
import logging
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kryptondb.catalog.build import absolute_source, build_model, finish
from kryptondb.catalog.built import Built
from kryptondb.catalog.describe import Row, describe_model, describe_network, input_size
from kryptondb.catalog.model import Model, module_structure, own_copy
from kryptondb.catalog.options import ModelOptions
from kryptondb.catalog.store import Catalog, ModelRecord, name_taken
from kryptondb.errors import BindError, ModelError, did_you_mean

if TYPE_CHECKING:
    import torch

    from kryptondb.network import Network

MODEL_COLUMNS = ("name", "source", "weights", "input", "classes", "parameters", "created")


class ModelStore:
    """Models by name, in any case. Registered ones live as long as the session, created ones as long as the catalog."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._lock = threading.RLock()
        self._registered: dict[str, tuple[Model, str]] = {}  # with the time of registration
        self._built: dict[str, Model] = {}
        self._networks: dict[str, Network] = {}  # by fingerprint

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
        model = build_model(name, kind, source, parsed.given())
        record = ModelRecord(
            name=name,
            kind=kind,
            source=absolute_source(kind, source),
            options=parsed.given(),
            created=_now(),
            fingerprint=model.fingerprint,
            summary=_summary(model),
        )
        self._catalog.put_model(record, replace)
        with self._lock:
            self._forget(folded)
            self._built[folded] = model
        return model

    def register(
        self,
        name: str,
        module: torch.nn.Module,
        *,
        size: int | Sequence[int] = 224,
        mean: float | Sequence[float] | None = None,
        std: float | Sequence[float] | None = None,
        scale: float | None = None,
        channels: str | None = None,
        labels: str | Sequence[str] | None = None,
        classes: int | None = None,
        resize: int | Sequence[int] | None = None,
        crop: bool | int | None = None,
    ) -> Model:
        """Takes any module that maps [N, C, H, W] to one tensor [N, classes], for this session.

        A frozen copy is kept; the module itself is not changed. Pictures come in as pixels of 0..1 (times `scale`)
        unless `mean` and `std` say otherwise. Registering the same name again replaces it.

        Raises BindError for an option's value or a name that the catalog holds, ModelError when the module cannot be
        copied or its output is something else.
        """
        import torch

        from kryptondb.images.preprocess import Preprocess

        if not isinstance(module, torch.nn.Module):
            raise ModelError(f"register takes a torch.nn.Module, not {type(module).__name__}")
        record = self._catalog.model(name)
        if record:
            raise name_taken(record.name)
        options: dict[str, Any] = {
            "size": size,
            "mean": mean,
            "std": std,
            "scale": scale,
            "channels": channels,
            "labels": labels,
            "classes": classes,
            "resize": resize,
            "crop": crop,
        }
        parsed = ModelOptions.parse({key: value for key, value in options.items() if value is not None})
        height, width = parsed.size or (224, 224)
        built = Built(
            architecture=type(module).__name__,
            structure=module_structure(module),
            module=own_copy(module),
            preprocess=Preprocess(height=height, width=width, channels=parsed.channels or "RGB"),
            weights="registered from Python",
        )
        model = finish(name, built, parsed)
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
                self._built.pop(folded, None)
                raise self._unknown(name)
            model = self._built.get(folded)
            if model is None or model.fingerprint != record.fingerprint or _labels_changed(model, record):
                model = build_model(record.name, record.kind, record.source, record.options)
                _check_unchanged(model, record)
                self._built[folded] = model
            return model

    def network(self, name: str) -> Network:
        """The model as a graph of operators, traced once a session. Raises what `get` raises."""
        model = self.get(name)
        with self._lock:
            network = self._networks.get(model.fingerprint)
            if network is None:
                from kryptondb.network import trace

                with _quiet_torch():
                    network = trace(model.module, model.input_shape)
                self._networks[model.fingerprint] = network
            return network

    def drop(self, name: str, if_exists: bool = False) -> bool:
        """DROP MODEL. Raises BindError when there is none, unless `if_exists`; says whether there was one."""
        folded = name.casefold()
        with self._lock:
            registered = folded in self._registered
            self._forget(folded)
        # A name is registered or remembered; both only where another process has created it meanwhile.
        dropped = registered or self._catalog.drop_model(name)
        if not dropped and not if_exists:
            raise self._unknown(name)
        return dropped

    def names(self) -> list[str]:
        """All names, sorted."""
        names = {record.name.casefold(): record.name for record in self._catalog.models()}
        names.update({folded: model.name for folded, (model, _) in self._registered.items()})
        return [names[folded] for folded in sorted(names)]

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

    def _forget(self, folded: str) -> None:
        """Lets go of what this session holds under a name, so that a model replaced many times is held once."""
        built, registered = self._built.pop(folded, None), self._registered.pop(folded, None)
        for model in (built, registered[0] if registered else None):
            if model is not None:
                self._networks.pop(model.fingerprint, None)

    def _unknown(self, name: str) -> BindError:
        near = did_you_mean(name, self.names())
        hint = f"{near} " if near else ""
        return BindError(f'no model named "{name}"', hint=f"{hint}SHOW MODELS lists what this database knows.")


@contextmanager
def _quiet_torch() -> Iterator[None]:
    """Keeps what `torch.export` prints and logs of a network that it gives up on from the user's screen."""
    logger = logging.getLogger("torch.fx.experimental.symbolic_shapes")
    before, logger.disabled = logger.disabled, True
    try:
        with redirect_stderr(io.StringIO()):
            yield
    finally:
        logger.disabled = before


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def _source(record: ModelRecord) -> str:
    """As it would be written after FROM."""
    quoted = "'" + record.source.replace("'", "''") + "'"
    return quoted if record.kind == "file" else f"{record.kind}({quoted})"


def _summary(model: Model) -> dict[str, Any]:
    """What the catalog keeps of a built model: to list it, and to say what has changed."""
    import torch

    return {
        "architecture": model.architecture,
        "weights": model.weights,
        "parameters": model.parameters,
        "input": input_size(model),
        "classes": model.classes,
        "preprocess": model.preprocess.to_json(),
        "labels": _labels_digest(model),
        "files": {path: _file_digest(path) for path in model.files},
        "torch": torch.__version__,
    }


def _labels_digest(model: Model) -> str:
    return hashlib.sha256("\n".join(model.labels).encode()).hexdigest()


def _labels_changed(model: Model, record: ModelRecord) -> bool:
    return bool(record.summary.get("labels", _labels_digest(model)) != _labels_digest(model))


def _file_digest(path: str) -> str:
    """sha256 in hex of a file's bytes, '' for one that cannot be read."""
    digest = hashlib.sha256()
    try:
        with Path(path).open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    except OSError:
        return ""
    return digest.hexdigest()


def _check_unchanged(model: Model, record: ModelRecord) -> None:
    """Raises ModelError, naming the file, when what was built now is not what CREATE MODEL made."""
    if model.fingerprint == record.fingerprint and not _labels_changed(model, record):
        return
    files = record.summary.get("files", {})
    changed = [path for path in model.files if files.get(path) not in (None, _file_digest(path))]
    if changed:
        reason = f"{' and '.join(changed)} changed"
    else:
        reason = f"its libraries changed (it was made with torch {record.summary.get('torch', 'unknown')})"
    raise ModelError(
        f'model "{record.name}" is not what it was when it was created: {reason}',
        hint=f"CREATE OR REPLACE MODEL {record.name} takes it as it is now.",
    )
