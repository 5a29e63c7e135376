"""Weights: those of a file, those that are published, or random ones; fitted to a module by name.

A file is `.pth`, `.pt` (only tensors are unpickled) or `.safetensors`. Published weights come from a cache, and are
downloaded into it once; where that fails, the error says what else works.
"""

from __future__ import annotations

import http.client
import logging
import pickletools
import re
import threading
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from kryptondb.catalog.model import reading
from kryptondb.errors import ModelError
from kryptondb.files.regular import check_regular
from kryptondb.files.schema import Unfit

if TYPE_CHECKING:
    import torch


MAX_WEIGHTS_BYTES = 16 << 30
NAMED = 3  # how many tensors of a kind a message names
WRAPPERS = ("state_dict", "model_state_dict", "model", "net", "weights")  # where training scripts put the state
PREFIXES = ("module.", "_orig_mod.", "model.")  # DataParallel, torch.compile, Lightning
SAVE_HINT = "Save the state with torch.save(model.state_dict(), 'file.pth') or safetensors.torch.save_file."

# torchvision's DenseNet files on its download server still have the names of its first version: norm.1 for norm1.
_DENSENET = re.compile(r"^(.*denselayer\d+\.(?:norm|relu|conv))\.([12]\.(?:weight|bias|running_mean|running_var))$")

State = dict[str, "torch.Tensor"]

#: What the pickle of a file of dense tensors names.
_WEIGHTS_ONLY = re.compile(
    r"collections\.(OrderedDict|Counter)|(builtins|__builtin__)\.(set|complex)|_codecs\.encode"
    r"|torch\._utils\._rebuild_(tensor|tensor_v2|tensor_v3|parameter|parameter_with_state)"
    r"|torch\._tensor\._rebuild_from_type_v2|torch\.nn\.parameter\.Parameter|torch\.serialization\._get_layout"
    r"|torch\.(Tensor|Size|device|(cuda\.)?\w+Storage)|torch\.storage\.(Typed|Untyped)Storage"
    r"|torch\.(u?int\d+|float\d+\w*|bfloat16|bool|complex\d+)"
)
_LEGACY_PICKLES = 5
_log = logging.getLogger(__name__)


def read_state(path: str) -> State:
    """The tensors of a weights file by name, on the CPU.

    Nothing in the file is ever executed: torch's weights-only reader or safetensors. Raises ModelError when the file is
    missing, is something else (TorchScript, an exported program), holds more than tensors, or is damaged.
    """
    suffix = Path(path).suffix.lower()
    with reading(path, SAVE_HINT, "weights"):
        check_regular(path, MAX_WEIGHTS_BYTES)
    if suffix == ".safetensors":
        return _named_tensors(_read_safetensors(path), path)
    if suffix in (".pth", ".pt"):
        return _named_tensors(_read_torch(path), path)
    raise ModelError(f"weights come from .pth, .pt or .safetensors files, not {Path(path).name}", hint=SAVE_HINT)


def load_state(module: torch.nn.Module, state: State, path: str, ignored: tuple[str, ...] = ()) -> None:
    """Copies a state into a module, strictly: every tensor of the module has to be there in its shape, and no other.

    Args:
        ignored: prefixes of names that may be in the file without need (auxiliary heads that only train).

    Raises ModelError that names the first tensors of each kind of misfit and says how many there are.
    """
    import torch

    wanted = module.state_dict()  # shares its memory with the module
    state = _fitting_names(state, wanted)
    state = {name: tensor for name, tensor in state.items() if not name.startswith(ignored)} if ignored else state
    # Files from before torch 0.4.1 have no such counters, and inference reads none.
    missing = [name for name in wanted if name not in state and not name.endswith("num_batches_tracked")]
    unexpected = [name for name in state if name not in wanted]
    shapes = [
        f"{name} is {_shape(state[name])}, expected {_shape(wanted[name])}"
        for name in wanted
        if name in state and not _fits(state[name], wanted[name])
    ]
    if not (missing or unexpected or shapes):
        try:
            with torch.no_grad():  # not load_state_dict: MNASNet's wants a version, which safetensors cannot keep
                for name, tensor in state.items():
                    wanted[name].copy_(tensor)
        except Exception as error:  # sparse, quantized or meta tensors: each has its own error in torch
            raise ModelError(
                f"the weights {path} hold tensors of a kind that cannot be copied: {_sentence(error)}"
            ) from error
        return
    parts = [
        f"{len(found)} {what} ({_first(found)})"
        for found, what in ((shapes, "of another shape"), (missing, "missing"), (unexpected, "unexpected"))
        if found
    ]
    raise ModelError(
        f"the weights {path} do not fit: of {len(wanted)} tensors {', '.join(parts)}",
        hint=_misfit_hint(state, wanted, missing, unexpected),
    )


def _misfit_hint(state: State, wanted: State, missing: list[str], unexpected: list[str]) -> str:
    """The remedy: the right class count where only the head differs, else the right architecture."""
    differing = [name for name in wanted if name in state and state[name].shape != wanted[name].shape]
    heads = {int(state[name].shape[0]) for name in differing if state[name].ndim}
    last_axes_agree = all(state[name].shape[1:] == wanted[name].shape[1:] for name in differing)
    if differing and not missing and not unexpected and len(heads) == 1 and last_axes_agree:
        return f"If only the classifier differs: classes => {heads.pop()}."
    first = next(iter(wanted))
    if differing and differing[0] == first and not missing and not unexpected:
        return "If only the number of input channels differs: channels => 'L' for 1, 'RGB' for 3."
    return "Name the architecture, classes and channels that these weights were trained with."


def _read_safetensors(path: str) -> Mapping[str, Any]:
    from kryptondb.files.tensors import open_tensors

    try:
        with open_tensors(path, MAX_WEIGHTS_BYTES) as file:
            return file.read()
    except OSError as error:
        raise ModelError(f"the weights file {path} cannot be read: {error.strerror or error}") from error
    except Unfit as unfit:
        raise ModelError(f"{path} is not a sound safetensors file: {unfit}") from unfit


def _read_torch(path: str) -> Any:
    import torch

    if _is_archive(path):
        _check_archive(path)
    _check_pickles(path)
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # UnpicklingError, RuntimeError, EOFError, MemoryError, ...: whatever is in the file
        text = str(error)
        if "Unsupported" in text or "weights_only" in text or "WeightsUnpickler" in text or "GLOBAL" in text:
            found = re.search(r"(?:Unsupported|Trying to|GLOBAL|Can only)[^\n]{0,160}", text)
            what = f": {found[0].rstrip(' .')}" if found else ""
            raise ModelError(
                f"{path} holds more than weights, and KryptonDB never unpickles{what}", hint=SAVE_HINT
            ) from None
        raise ModelError(f"{path} is not a sound weights file: {_sentence(error)}", hint=SAVE_HINT) from error


def _is_archive(path: str) -> bool:
    try:
        return zipfile.is_zipfile(path)
    except zipfile.BadZipFile:  # it looks for one of several disks
        return True


def _check_archive(path: str) -> None:
    """Refuses TorchScript and exported programs by name, and archives that grow when unpacked."""
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:  # a name that is not UTF-8, ...
        raise ModelError(f"{path} is not a sound weights file: {error}", hint=SAVE_HINT) from error
    names = [entry.filename.partition("/")[2] for entry in entries]  # behind the archive's own folder
    if "archive_format" in names or any(name.startswith("models/") for name in names):
        raise ModelError(
            f"{path} is an exported program, not weights",
            hint="Rename it to end in .pt2 and use it as the source: CREATE MODEL name FROM 'file.pt2'.",
        )
    if "constants.pkl" in names or any(name.startswith("code/") for name in names):
        raise ModelError(
            f"{path} is a TorchScript archive, which holds code; weights => takes tensors only",
            hint="Save its weights with torch.save(torch.jit.load('file.pt').state_dict(), 'file.pth').",
        )
    packed = any(entry.compress_type != zipfile.ZIP_STORED for entry in entries)  # torch.save never compresses
    if packed or sum(entry.file_size for entry in entries) > Path(path).stat().st_size:
        raise ModelError(f"{path} would grow when unpacked, which torch.save does not write", hint=SAVE_HINT)


def _check_pickles(path: str) -> None:
    """Refuses what torch's weights-only reader would build besides dense tensors: it trusts their sizes.

    It makes a bytearray as long as a file says, and nested, sparse and quantized tensors of parts that need not fit.
    """
    try:
        for name in _globals(path):
            if not _WEIGHTS_ONLY.fullmatch(name):
                raise ModelError(
                    f"{path} holds more than weights, and KryptonDB never unpickles: {name[:160]}", hint=SAVE_HINT
                )
    except ModelError:
        raise
    except Exception as error:  # pickletools raises many kinds for what is no pickle; torch decides whether it is one
        _log.debug("%s: %s", path, error)


def _globals(path: str) -> Iterator[str]:
    """The functions and classes that the pickles of a weights file name, as `module.name`."""
    if _is_archive(path):
        with zipfile.ZipFile(path) as archive:
            for entry in archive.infolist():
                if entry.filename.endswith(".pkl"):
                    with archive.open(entry) as stream:
                        yield from _named(stream)
        return
    with Path(path).open("rb") as stream:  # as torch.save wrote them before 1.6: five in a row
        for _ in range(_LEGACY_PICKLES):
            yield from _named(stream)


def _named(stream: IO[bytes]) -> Iterator[str]:
    texts: list[str] = []
    for opcode, argument, _ in pickletools.genops(stream):
        if opcode.name in ("GLOBAL", "INST"):
            yield str(argument).replace(" ", ".")
        elif opcode.name == "STACK_GLOBAL":  # torch.save does not write it, and its names may come from anywhere
            yield ".".join(texts[-2:])
        elif isinstance(argument, str):
            texts = [*texts[-1:], argument]


def _named_tensors(value: object, path: str) -> State:
    """The state dict inside what a file holds: itself, or under one of the keys that training scripts use."""
    import torch

    for _ in range(3):
        if not isinstance(value, Mapping):
            break
        inner = next((value[key] for key in WRAPPERS if isinstance(value.get(key), Mapping)), None)
        if inner is None:
            break
        value = inner
    if isinstance(value, Mapping):
        tensors = {k: v for k, v in value.items() if isinstance(k, str) and isinstance(v, torch.Tensor)}
        odd = next((name for name, tensor in tensors.items() if not _is_dense(tensor)), None)
        if odd is not None:
            raise ModelError(
                f"{path} holds a tensor of an unsupported kind (nested, sparse or quantized): {odd[:160]}",
                hint=SAVE_HINT,
            )
        if tensors:
            return {_DENSENET.sub(r"\1\2", name): tensor for name, tensor in tensors.items()}
    raise ModelError(f"{path} holds no named tensors but {type(value).__name__}", hint=SAVE_HINT)


def _is_dense(tensor: torch.Tensor) -> bool:
    import torch

    return tensor.layout == torch.strided and not tensor.is_nested and not tensor.is_quantized and not tensor.is_meta


def _fitting_names(state: State, wanted: State) -> State:
    """The state without a prefix that all its names have and that the module's names have not."""
    for prefix in PREFIXES:
        if all(name.startswith(prefix) for name in state) and not any(name.startswith(prefix) for name in wanted):
            state = {name[len(prefix) :]: tensor for name, tensor in state.items()}
    return state


def _fits(tensor: torch.Tensor, wanted: torch.Tensor) -> bool:
    return tensor.shape == wanted.shape and (tensor.is_floating_point() or not wanted.is_floating_point())


def _shape(tensor: torch.Tensor) -> str:
    kind = "" if tensor.is_floating_point() else f" of {str(tensor.dtype).removeprefix('torch.')}"
    return (" x ".join(str(side) for side in tensor.shape) or "a number") + kind


def _first(found: list[str]) -> str:
    more = f" and {len(found) - NAMED} more" if len(found) > NAMED else ""
    return "; ".join(found[:NAMED]) + more


def _sentence(error: BaseException) -> str:
    """The first line of a library's message, short."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0][:200]


SEED = 0  # of weights => 'random': the same numbers, and so the same fingerprint, every time


def weighted(
    name: str,
    make: Callable[[], torch.nn.Module],
    weights: str,
    published: Callable[[], tuple[str, str]],
    ignored: tuple[str, ...] = (),
) -> tuple[torch.nn.Module, str, tuple[str, ...]]:
    """Makes an architecture, with weights drawn from a fixed seed, and fills it with others where they are asked for.

    The caller's random numbers are left as they were.

    Args:
        name: the package and the architecture, for messages.
        make: makes the module.
        weights: 'default', 'random' or the path of a file.
        published: where the default ones lie, fetched if need be, and what they are called.
        ignored: prefixes of names that files may have beyond what the module needs.

    Returns:
        The module, where its weights come from in words, and the files that were read.

    Raises:
        ModelError: the architecture does not take what it is given, or the weights do not fit or are not there.
    """
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        try:
            module = make()
        except Exception as error:  # an input size or channels that the architecture does not take
            reason = next(iter(str(error).splitlines()), type(error).__name__)
            raise ModelError(f"{name} cannot be built: {reason}") from error
    if weights == "random":
        return module, f"random (seed {SEED})", ()
    path, origin = published() if weights == "default" else (weights, weights)
    load_state(module, read_state(path), path, ignored)
    return module, origin, (path,)


PROBE_SECONDS = 8.0  # how long to wait for a server before it counts as unreachable


def torch_hub_path(url: str) -> Path:
    """Where torch keeps the file of an address."""
    import torch

    return Path(torch.hub.get_dir()) / "checkpoints" / url.rpartition("/")[2]


def torch_hub_file(url: str, what: str) -> str:
    """The path of a file in torch's cache, downloaded and checked against the hash in its name where it is not there.

    torch would unpickle it; here it is only fetched, and read like any other weights file. Raises ModelError, within
    about `PROBE_SECONDS`, when the server cannot be reached.

    Args:
        what: the file in words, for the message.
    """
    import torch

    path = torch_hub_path(url)
    if path.is_file():
        return str(path)
    failure = unreachable(url)
    if failure is None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            digest = re.search(r"-([0-9a-f]{8,})\.", path.name)
            torch.hub.download_url_to_file(url, str(path), digest[1] if digest else None, progress=False)
            return str(path)
        except (OSError, RuntimeError, http.client.HTTPException) as error:  # network, disk, a hash that does not match
            failure = str(error) or type(error).__name__
    raise not_there(what, failure, f"put {url} into {path.parent}")


def not_there(what: str, failure: str, by_hand: str) -> ModelError:
    """The error for weights that cannot be fetched, and what else can be done."""
    return ModelError(
        f"{what} cannot be downloaded: {failure}",
        hint=f"Give weights => 'file.pth' or weights => 'random', or {by_hand}.",
    )


def unreachable(url: str) -> str | None:
    """Why a server does not answer, or None when it does. A thread, since name look-ups know no time limit."""
    import urllib.request

    answer: list[str | None] = []

    def ask() -> None:
        try:
            request = urllib.request.Request(url, method="HEAD", headers={"User-Agent": "torch.hub"})
            with urllib.request.urlopen(request, timeout=PROBE_SECONDS):
                answer.append(None)
        except (OSError, ValueError, http.client.HTTPException) as error:  # URLError and timeouts are OSErrors
            answer.append(str(error) or type(error).__name__)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(PROBE_SECONDS)
    return answer[0] if answer else f"no answer within {PROBE_SECONDS:g} seconds"
