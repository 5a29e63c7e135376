"""Torch's settings: while KryptonDB works they are its own, and afterwards those of the caller again.

Autocast, grad and inference mode, torch's function and dispatch modes (`with torch.device('meta')`) and flushing of
denormal numbers belong to a thread. The default dtype, deterministic algorithms and the precision of float32 products
belong to the process: the first thread that needs other values sets them, the last one restores them.

This module does not import torch: where torch is not imported there are no settings to replace.
"""

from __future__ import annotations

import builtins
import logging
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

#: What autocast may be on for.
_AUTOCAST_DEVICES = ("cpu", "cuda", "xpu", "mps")
_inside = threading.local()


@contextmanager
def own_torch_state(device: str = "cpu") -> Iterator[None]:
    """Runs the body with torch's own defaults, without gradients; in a generator, use it around each step.

    The body computes in float32 unless it names another type, on the device that it names, in full precision.

    Args:
        device: the type of the torch device that it names. On 'cuda' products are computed in float32, not TF32.
    """
    if "torch" not in sys.modules:
        yield
        return
    with ExitStack() as stack:
        if not getattr(_inside, "own", False):
            _inside.own = True
            stack.callback(setattr, _inside, "own", False)
            _own_thread(stack)
            stack.enter_context(_PROCESS)
        if device == "cuda":
            stack.enter_context(_CUDA)
        yield


def leaves_numbers_alone() -> bool:
    """Whether the caller's settings change no result: neither autocast nor a mode of torch is on."""
    import torch

    return not any(_modes()) and not any(torch.is_autocast_enabled(device) for device in _AUTOCAST_DEVICES)


def is_as_own() -> bool:
    """Whether the process's settings are KryptonDB's own already, so that none has to change."""
    return "torch" not in sys.modules or all(setting.is_own() for setting in _settings())


def _own_thread(stack: ExitStack) -> None:
    """Replaces the settings of this thread; the stack restores them."""
    import torch

    for device in _AUTOCAST_DEVICES:
        if torch.is_autocast_enabled(device):
            stack.callback(torch.set_autocast_enabled, device, True)
            torch.set_autocast_enabled(device, False)
    _without_function_modes(stack)
    _without_dispatch_modes(stack)
    import numpy as np

    if np.float32(1e-40) * np.float32(1) == 0:  # torch has no function for this
        stack.callback(torch.set_flush_denormal, True)
        torch.set_flush_denormal(False)
    stack.enter_context(torch.inference_mode(False))
    stack.enter_context(torch.no_grad())


def _without_function_modes(stack: ExitStack) -> None:
    import torch

    default = getattr(torch, "_GLOBAL_DEVICE_CONTEXT", None)
    device = getattr(default, "device_context", None)
    if default is not None and device is not None:  # which torch.get_default_device reads too
        stack.callback(setattr, default, "device_context", device)
        default.device_context = None
    native: Any = torch._C
    for _ in range(_modes()[0]):
        stack.callback(native._push_on_torch_function_stack, native._pop_torch_function_stack())


def _without_dispatch_modes(stack: ExitStack) -> None:
    from torch.utils import _python_dispatch as dispatch

    for _ in range(_modes()[1]):
        stack.callback(dispatch._push_mode, dispatch._pop_mode())


def _modes() -> tuple[int, int]:
    """How many function and dispatch modes this thread has.

    Dispatch modes "before dispatch" are not counted: they belong to the thread that exports a model.
    """
    import torch

    native: Any = torch._C
    return int(native._len_torch_function_stack()), int(native._len_torch_dispatch_stack())


@dataclass(frozen=True)
class _Setting:
    """One of the process's settings.

    Attributes:
        name: identifies it.
        own: the values that KryptonDB works with; the first of them is set.
    """

    name: str
    get: Callable[[], Any]
    set: Callable[[Any], object]
    own: tuple[Any, ...]

    def is_own(self) -> bool:
        return self.get() in self.own


def _attribute(holder: Any, name: str, *own: Any) -> _Setting:
    return _Setting(f"{holder!r} {name}", lambda: getattr(holder, name), lambda v: setattr(holder, name, v), own)


def _settings() -> Iterator[_Setting]:
    import torch

    yield _Setting("dtype", torch.get_default_dtype, torch.set_default_dtype, (torch.float32,))
    yield _Setting(
        "deterministic",
        lambda: (torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()),
        lambda value: torch.use_deterministic_algorithms(value[0], warn_only=value[1]),
        ((False, False), (False, True)),
    )
    # Torch has two interfaces to this, and each raises where the other was used: each setting is restored by its own.
    yield _Setting(
        "products",
        lambda: _unless_mixed(torch.get_float32_matmul_precision, "highest"),
        torch.set_float32_matmul_precision,
        ("highest",),
    )
    mkldnn: Any = torch.backends.mkldnn
    for layer in (mkldnn.matmul, mkldnn.conv, mkldnn.rnn):
        yield _attribute(layer, "fp32_precision", "ieee", "none")


def _unless_mixed(get: Callable[[], Any], otherwise: Any) -> Any:
    try:
        return get()
    except RuntimeError:
        return otherwise


def _cuda_settings() -> Iterator[_Setting]:
    import torch

    backends: Any = torch.backends
    yield _Setting(
        "convolutions",
        lambda: _unless_mixed(lambda: backends.cudnn.allow_tf32, False),
        lambda value: setattr(backends.cudnn, "allow_tf32", value),
        (False,),
    )
    for layer in (backends.cuda.matmul, backends.cudnn.conv, backends.cudnn.rnn):
        yield _attribute(layer, "fp32_precision", "ieee")
    yield _attribute(backends.cudnn, "enabled", True)
    yield _attribute(backends.cudnn, "benchmark", False)


class _Process:
    """Settings of the process, replaced while any thread is inside."""

    def __init__(self, settings: Callable[[], Iterator[_Setting]]) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._threads = 0
        self._before: dict[str, tuple[_Setting, Any]] = {}

    def __enter__(self) -> None:
        with self._lock:
            self._threads += 1
            if all(setting.is_own() for setting in self._settings()):
                return
            for setting in self._settings():
                self._before.setdefault(setting.name, (setting, setting.get()))
            for setting in self._settings():
                if not setting.is_own():
                    setting.set(setting.own[0])

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._threads -= 1
            if self._threads == 0:
                # A setting with another value was set meanwhile, and stays. Setting one may change others.
                for setting, before in [pair for pair in self._before.values() if pair[0].is_own()]:
                    if setting.get() != before:
                        setting.set(before)
                self._before.clear()


_PROCESS = _Process(_settings)
_CUDA = _Process(_cuda_settings)


@dataclass(eq=False)
class _Muted(logging.Filter):
    """Hides from the user what torch logs, prints and warns about in the threads that build models.

    As the pattern of a warnings filter it matches every text of these threads.
    """

    threads: set[int] = field(default_factory=set)
    caught: list[BaseException] = field(default_factory=list)

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether a log record passes; the error of a hidden record is kept."""
        if threading.get_ident() not in self.threads:
            return True
        if record.exc_info and record.exc_info[1] is not None:
            self.caught.append(record.exc_info[1])
        return False

    def match(self, _: str) -> bool:
        """Whether a warning comes from one of these threads."""
        return threading.get_ident() in self.threads

    def print(self, *values: object, **options: Any) -> None:
        """Prints for all other threads."""
        if threading.get_ident() not in self.threads:
            builtins.print(*values, **options)


_BUILDING = threading.RLock()


@contextmanager
def building() -> Iterator[list[BaseException]]:
    """Lets one thread at a time build, load or trace a model: torch patches itself meanwhile.

    What torch logs and warns about in that thread is hidden. Logs, warnings and stderr of other threads are not
    affected, and nothing in the process stays changed.

    Yields:
        The errors that torch logged instead of raising them.
    """
    with _BUILDING, own_torch_state():
        if _inside.__dict__.get("muted") is not None:
            _inside.muted.caught.clear()
            yield _inside.muted.caught
            return
        _inside.muted = _Muted({threading.get_ident()})
        try:
            with _muted(_inside.muted), _patched_here_alone():
                yield _inside.muted.caught
        finally:
            _inside.muted = None


@contextmanager
def _patched_here_alone() -> Iterator[None]:
    """Makes the methods that torch.fx patches while it traces apply to this thread only.

    Otherwise calls of modules in other threads would become part of the graph.
    """
    from torch.fx._symbolic_trace import _Patcher

    here, plain = threading.get_ident(), _Patcher.patch_method

    def patch_method(self: _Patcher, cls: type, name: str, new: Callable[..., Any], deduplicate: bool = True) -> None:
        original = getattr(cls, name)

        def replaced(*arguments: Any, **named: Any) -> Any:
            return (new if threading.get_ident() == here else original)(*arguments, **named)

        plain(self, cls, name, replaced, deduplicate)

    _Patcher.patch_method = patch_method  # type: ignore[assignment, method-assign]
    try:
        yield
    finally:
        _Patcher.patch_method = plain  # type: ignore[method-assign]


@contextmanager
def _muted(muted: _Muted) -> Iterator[None]:
    """Installs the filter in torch's loggers, the warnings filters, and the printing of torch.export."""
    import torch.export._trace as tracing

    loggers = [
        logger
        for name, logger in list(logging.root.manager.loggerDict.items())
        if isinstance(logger, logging.Logger) and name.partition(".")[0] == "torch"
    ]
    filters: Any = warnings.filters
    ignored = ("ignore", muted, Warning, None, 0)
    for logger in loggers:
        logger.addFilter(muted)
    filters.insert(0, ignored)
    before = vars(tracing).get("print")
    tracing.print = muted.print  # type: ignore[attr-defined]  # it prints graphs that it gives up on
    try:
        yield
    finally:
        if before is None:
            del tracing.print  # type: ignore[attr-defined]
        else:
            tracing.print = before  # type: ignore[attr-defined]
        now: Any = warnings.filters  # other code may have replaced the list by a copy
        for present in (filters, now):
            if ignored in present:
                present.remove(ignored)
        for logger in loggers:
            logger.removeFilter(muted)
