"""One operator of an ONNX graph on its way to become a function of tensors."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

#: A value that is known without looking at a picture, or depends on its shape alone: whole numbers, as Python numbers
#: or torch's symbolic ones, in an array of objects.
Host = NDArray[np.object_]
Value = Any  # torch.Tensor | Host | None
Function = Callable[..., Any]

PICTURES = 7  # how many there are while sizes are tried
MAX_HOST = 1 << 16  # numbers of one host value
MAX_TABLE = 1 << 22  # numbers of a table of places or weights that an operator works with
SMALL = 1024  # numbers of a constant that shape arithmetic may read


class Refused(Exception):
    """An operator, or one of its attributes, that cannot be taken over; the message says what."""


@dataclass
class Operation:
    """An ONNX node with what is known of its inputs before any picture.

    Attributes:
        kind: the operator, such as 'Conv'.
        name: the node's name in the file, may be empty.
        opset: version of the operators.
        attributes: Python numbers, texts, lists, and arrays.
        constants: for each input its value where it is constant, None where it is computed or absent. Handlers may
            put another one in place, for example a transposed weight.
        present: for each input, whether there is one.
        outputs: how many results are asked for.
        shapes: of each input, None where there is none; a picture's batch is counted with torch's symbolic number.
        types: of each input the number type that its constant has in the file, or that torch computes it in.
        batch: the batch that the file is made for, None where it takes any.
    """

    kind: str
    name: str
    opset: int
    attributes: Mapping[str, Any]
    constants: list[Value]
    present: Sequence[bool]
    outputs: int = 1
    shapes: Sequence[tuple[Any, ...] | None] = ()
    types: Sequence[int | None] = ()
    batch: int | None = None

    def attribute(self, name: str, default: Any = None) -> Any:
        """An attribute's value, or the default."""
        return self.attributes.get(name, default)

    def has(self, place: int) -> bool:
        """Whether there is an input at this place."""
        return place < len(self.present) and self.present[place]

    def tensor(self, place: int) -> torch.Tensor | None:
        """The constant tensor at this place, or None."""
        value = self.constants[place] if self.has(place) else None
        return value if isinstance(value, torch.Tensor) else None

    def number(self, place: int, name: str, default: Any = None) -> Any:
        """A number given as a constant input, or as an attribute in older opsets. Refused where it is computed."""
        if not self.has(place):
            return self.attribute(name, default)
        value = self.constants[place]
        if value is None or (value.size if isinstance(value, np.ndarray) else value.numel()) != 1:
            raise Refused(f"{name} is computed from the picture")
        return value.item() if isinstance(value, torch.Tensor) else value.reshape(-1)[0]

    def list(self, place: int, name: str) -> list[Any] | None:
        """Numbers given as a constant input, or as an attribute in older opsets; None where there are none."""
        if not self.has(place):
            found = self.attribute(name)
            return None if found is None else list(found)
        value = self.constants[place]
        if value is None:
            raise Refused(f"{name} is computed from the picture")
        return list(value.reshape(-1).tolist())


def host(values: Any) -> Host:
    """Python numbers as a host value."""
    array = np.asarray(values)
    checked_count(array.size)
    return array.astype(object)


def checked_count(count: int) -> int:
    """The count itself. Refused where a host value would have more numbers than shapes ever have."""
    if count > MAX_HOST:
        raise Refused(f"shape arithmetic on {count:,} numbers")
    return count


def checked_table(count: int) -> int:
    """The count itself. Refused where a table of that many numbers would be made for one operator."""
    if count > MAX_TABLE:
        raise Refused(f"it needs a table of {count:,} numbers")
    return count


def numbers(value: Value) -> list[Any]:
    """The numbers of a host value, in order; symbolic ones stay symbolic."""
    if isinstance(value, torch.Tensor):
        raise Refused("a shape is computed from the picture's pixels")
    return list(value.reshape(-1))


def operand(value: Value, device: torch.device | None = None) -> Any:
    """What torch's arithmetic takes: a tensor, or a number for a host value of one."""
    if isinstance(value, np.ndarray):
        if value.size == 1 and value.ndim == 0:
            return value.item()
        return torch.tensor(value.tolist(), device=device)
    return value


def tensor_of(value: Value, device: torch.device | None = None) -> torch.Tensor:
    """A tensor, made from a host value where it is one."""
    return value if isinstance(value, torch.Tensor) else torch.tensor(value.tolist(), device=device)
