"""Networks behind forward functions, traced once and kept as long as the function and the weights of its modules."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from inspect import getclosurevars, isfunction, ismethod
from itertools import islice
from typing import Any, Generic, TypeVar

import torch
from torch import nn

from kryptondb.errors import ModelError
from kryptondb.network import Network, trace
from kryptondb.network.consistency import why_differs

#: A function has not changed where it answers the same images the same, up to this part of the largest number.
_UNCHANGED = 1e-6
#: Two runs of a network agree when they differ by less than this part of the largest number. A wrong answer is far off,
#: and this is far above rounding.
_AGREEING = 1e-3

_DTYPES = (torch.float32, torch.float64)


@dataclass(frozen=True, eq=False)
class Traced:
    """A forward function as a network.

    Attributes:
        network: [n, C, H, W] -> [n, numbers].
        shape: of one image's output, which those numbers are.
        asked, answered: two images, one of them occluded, and what the function said of them when it was traced.
    """

    network: Network
    shape: tuple[int, ...]
    asked: torch.Tensor
    answered: torch.Tensor

    def is_still(self, forward: Callable[..., Any]) -> bool:
        """Whether the function still answers what it did, whatever it is that may have changed behind it."""
        with torch.no_grad():
            now = forward(self.asked)
        return isinstance(now, torch.Tensor) and agree(now, self.answered, _UNCHANGED)

    def outputs(self, images: torch.Tensor) -> torch.Tensor:
        """Full inference of images [n, C, H, W]: [n, *shape]."""
        with torch.inference_mode():
            return self.network.run(images)[0].reshape(len(images), *self.shape)


@dataclass(eq=False)
class _Finding:
    state: tuple[object, ...]
    traced: Traced | str


class Tracer:
    """Traces forward functions; keeps what it found, also that one cannot be traced, for each and shape of images."""

    def __init__(self) -> None:
        self._kept: ByIdentity[dict[tuple[object, ...], _Finding]] = ByIdentity()
        self._spent: ByIdentity[float] = ByIdentity()

    def known(self, forward: Callable[..., Any], images: torch.Tensor) -> Traced | str | None:
        """What is known already: a network, why there is none, or None where nothing is."""
        found = self._kept.get(forward, {}).get(_key(images))
        if found is None or found.state != state_of(modules_of(forward)):
            return None
        if isinstance(found.traced, Traced) and not found.traced.is_still(forward):
            return None
        return found.traced

    def trace(self, forward: Callable[..., Any], images: torch.Tensor, occluded: torch.Tensor) -> Traced | str:
        """The network behind a function of images, or why it has none.

        Args:
            images: the examples, [N, C, H, W]; occluded: one of them with a window filled, [1, C, H, W].
        """
        modules = modules_of(forward)
        state = state_of(modules)
        found = _traced(forward, modules, torch.cat([images[:1], occluded]))
        self._keep(forward, images, _Finding(state, found))
        return found

    def forget(self, forward: Callable[..., Any], images: torch.Tensor, why: str) -> None:
        """Notes that what was traced does not say what the function does now."""
        self._keep(forward, images, _Finding(state_of(modules_of(forward)), why))

    def spent(self, forward: Callable[..., Any]) -> float:
        """Seconds that a function has run in batches so far, in which it was not worth a tracing."""
        return self._spent.get(forward, 0.0)

    def not_worth(self, forward: Callable[..., Any], seconds: float) -> str:
        """Notes that a function ran in batches for so long; says why it was not traced."""
        self._spent.put(forward, self.spent(forward) + seconds)
        return f"all windows took {seconds:.1f} s, so tracing would not pay off"

    def _keep(self, forward: Callable[..., Any], images: torch.Tensor, found: _Finding) -> None:
        of_function = self._kept.get(forward, {})
        self._kept.put(forward, of_function)
        before = of_function.get(_key(images))
        if before is not None and isinstance(before.traced, Traced):
            before.traced.network.forget()  # training makes another each step
        of_function[_key(images)] = found


def is_image(images: torch.Tensor) -> bool:
    """Whether a tensor may be a batch of pictures that networks run incrementally on."""
    return images.ndim == 4 and images.dtype in _DTYPES and images.numel() > 0


def agree(one: torch.Tensor, other: torch.Tensor, part: float = _AGREEING) -> bool:
    """Whether two outputs are the same, NaN and infinity too, up to rounding: a part of the largest number."""
    if one.shape != other.shape:
        return False
    one, other = one.double(), other.double()
    finite = other[other.isfinite()]
    largest = float(finite.abs().max()) if len(finite) else 0.0
    return torch.allclose(one, other, rtol=0.0, atol=part * max(1e-6, largest), equal_nan=True)


def _traced(forward: Callable[..., Any], modules: list[torch.nn.Module], pair: torch.Tensor) -> Traced | str:
    placed = {(p.device, p.dtype) for m in modules for p in m.parameters() if p.is_floating_point()}
    if placed and placed != {(pair.device, pair.dtype)}:
        return "its weights and the images have different types or devices"
    if not placed and (pair.device.type != "cpu" or pair.dtype != torch.float32):
        return "no module with weights was found behind it"
    try:
        with torch.no_grad():
            both = forward(pair.clone())  # it may write into what it is given
    except Exception as error:  # whatever the function raises: it may take no two images at once
        return f"it does not take two images at once ({type(error).__name__}: {error})"
    if not isinstance(both, torch.Tensor) or both.ndim == 0 or len(both) != 2:
        return "it does not answer image by image"
    try:
        network = trace(Images(forward, modules), (pair.shape[1], pair.shape[2], pair.shape[3]), activation="none")
    except ModelError as error:
        return error.message
    finally:
        with torch.no_grad():
            again = forward(
                pair.clone()
            )  # what hooks and caches saw last were the tracer's tensors, which hold no numbers
    if (differs := why_differs(both, again)) is not None:
        return differs
    if network.failure is not None:
        return f"it cannot be traced ({network.failure})"
    if network.unsteady is not None:
        return network.unsteady
    if network.batch_statistics:
        return "its answer for an image depends on the others in the batch"
    traced = Traced(replace(network, module=None), tuple(both.shape[1:]), pair, both)
    if not agree(traced.outputs(pair), both):
        return "its traced network answers something else"
    if not agree(torch.cat([traced.outputs(image) for image in (pair[:1], pair[1:])]), both):
        return "its answer for an image depends on the others in the batch"
    return traced


def _key(images: torch.Tensor) -> tuple[object, ...]:
    return (*images.shape[1:], images.dtype, images.device)


#: How far modules are looked for behind functions and objects that hold them.
_DEEPEST = 3
_DEEPEST_IN_OBJECTS = 1  # a list or a mapping of modules, and not all that an object hangs on
_MOST_PARTS = 1_000


def modules_of(forward: object) -> list[nn.Module]:
    """The modules that a function may call: itself, what it closes over, what its object holds. Each once."""
    return list(dict.fromkeys(_found(forward, _DEEPEST)))


def _found(value: object, deepest: int) -> Iterator[nn.Module]:
    if isinstance(value, nn.Module):
        yield value
    elif deepest == 0:
        return
    elif isinstance(value, partial):
        for part in (value.func, *value.args, *value.keywords.values()):
            yield from _found(part, deepest - 1)
    elif ismethod(value):
        yield from _found(value.__self__, deepest - 1)
    elif isfunction(value):
        try:
            variables = getclosurevars(value)
        except ValueError:  # it closes over what has no value yet
            return
        for part in (*variables.nonlocals.values(), *variables.globals.values()):
            yield from _found(part, deepest - 1)
    elif isinstance(value, Mapping):
        for part in islice(value.values(), _MOST_PARTS):
            yield from _found(part, deepest - 1)
    elif isinstance(value, Sequence) and not isinstance(value, (str, bytes)):
        for part in islice(value, _MOST_PARTS):
            yield from _found(part, deepest - 1)
    elif hasattr(value, "__dict__") and not isinstance(value, type) and type(value).__module__ != "builtins":
        for part in vars(value).values():
            yield from _found(part, min(deepest - 1, _DEEPEST_IN_OBJECTS))


def state_of(modules: Sequence[nn.Module]) -> tuple[object, ...]:
    """What changes when the weights of modules do, or their mode. Compared, never kept as weights."""
    tensors = (tensor for module in modules for tensor in (*module.parameters(), *module.buffers()))
    modes = tuple(part.training for module in modules for part in module.modules())
    return (modes, tuple((id(tensor), tensor.data_ptr(), _version(tensor)) for tensor in tensors))


def _version(tensor: torch.Tensor) -> int:
    return -1 if tensor.is_inference() else tensor._version  # those have none, and cannot be trained


class Images(nn.Module):
    """A forward function as a module of images [N, C, H, W] that gives [N, numbers], whatever shape they had."""

    def __init__(self, forward: Callable[..., Any], modules: Sequence[nn.Module]) -> None:
        super().__init__()
        self.parts = nn.ModuleList(modules)  # their weights say where it runs, and in which precision
        self._call = (forward,)  # in a tuple, for a module may be registered once only

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """[N, C, H, W] -> [N, numbers]."""
        output: torch.Tensor = self._call[0](images)
        return output[:, None] if output.ndim == 1 else output.flatten(1)


Value = TypeVar("Value")


class ByIdentity(Generic[Value]):
    """Values of objects that need not be hashable, forgotten with them. Of what cannot be watched nothing is kept."""

    def __init__(self) -> None:
        self._values: dict[int, Value] = {}

    def get(self, of: object, default: Value) -> Value:
        """What is known of an object."""
        return self._values.get(id(of), default)

    def put(self, of: object, value: Value) -> None:
        """Keeps a value as long as the object lives."""
        if id(of) not in self._values:
            try:
                weakref.finalize(of, self._values.pop, id(of), None).atexit = False
            except TypeError:  # it has slots, and none for those who watch it
                return
        self._values[id(of)] = value
