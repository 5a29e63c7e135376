"""Pixels in other libraries' arrays: torch tensors, Arrow tensors and lists, and whatever gives numpy an array.

Nothing is imported for it: an array of a library that is not loaded cannot have been given.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from kryptondb.errors import one_line

if TYPE_CHECKING:
    import pyarrow as pa

#: How many channels a picture usually has: a side of so many cells may be channels.
_CHANNELS = (1, 3, 4)


def is_array(value: object) -> bool:
    """Whether a value is an array of some library, of pictures or not."""
    if isinstance(value, (type, str, bytes)):
        return False
    return isinstance(value, np.ndarray) or _is_arrow(value) or hasattr(value, "__array__") or _has_dlpack(value)


def pictures_in(value: Any) -> Sequence[object] | None:
    """The pictures of a batch, each an array by itself, None where a value is one picture.

    Batches are torch tensors of four axes, and Arrow arrays: a picture a row. In other arrays of four axes it is not
    certain what is what; `as_numpy` leaves them as they are.
    """
    if _is_tensor(value) and value.ndim == 4:
        strided = value.is_nested or value.layout == sys.modules["torch"].strided
        return list((value if strided else value.to_dense()).unbind())
    if _is_arrow(value) and not _is_arrow_scalar(value) and type(value).__name__ != "Tensor":
        return [value[row] for row in range(len(value))]
    return None


def default_axes(value: object) -> str:
    """In which order a picture's axes lie where nobody says: 'CHW' in a torch tensor, 'HWC' in all else."""
    return "CHW" if _is_tensor(value) else "HWC"


def as_numpy(value: object) -> NDArray[Any]:
    """An array as numpy's, its axes as they lie.

    Raises:
        ValueError: it has no values that can be read here; the message says why.
    """
    if np.ma.is_masked(value):
        raise ValueError("an array with masked cells: say what they are, array.filled(value)")
    if isinstance(value, np.ndarray):
        return np.asarray(value)
    try:
        if _is_tensor(value):
            return _of_tensor(value)
        if _is_arrow(value):
            return _of_arrow(value)
        array = np.asarray(value) if hasattr(value, "__array__") else np.from_dlpack(value)  # type: ignore[arg-type]
    except ValueError:
        raise
    except Exception as error:  # another library's own code: a device, a type, a layout that numpy has not
        raise ValueError(f"a {type(value).__name__} that cannot be read as an array: {one_line(error)}") from error
    if array.dtype == object:
        raise ValueError(f"a {type(value).__name__} that holds no numbers")
    return array


def rows_columns_channels(array: NDArray[Any], axes: str | None, default: str) -> NDArray[Any]:
    """A picture of three axes with its channels last.

    Args:
        axes: 'HWC' or 'CHW', as the query says; None where it leaves it to the `default`.

    Raises:
        ValueError: nothing is said, and the shape is ambiguous or speaks for the other order.
    """
    if array.ndim != 3:
        return array
    if axes is None:
        first, middle, last = array.shape
        shape = " x ".join(map(str, array.shape))
        other = "CHW" if default == "HWC" else "HWC"
        channels, side = (last, first) if default == "HWC" else (first, last)
        if side in _CHANNELS and channels not in (*_CHANNELS, 2) and channels > max(_CHANNELS):
            raise ValueError(
                f"an array of {shape} looks like channels {'first' if other == 'CHW' else 'last'}; {_say(other)}"
            )
        if side in _CHANNELS and channels in _CHANNELS and middle > max(_CHANNELS):
            raise ValueError(f"an array of {shape} may have its channels first or last; {_say('HWC')} or 'CHW'")
    return array.transpose(1, 2, 0) if (axes or default) == "CHW" else array


def _say(axes: str) -> str:
    return f"say which: axes => '{axes}'"


def _is_tensor(value: object) -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)


def _of_tensor(tensor: Any) -> NDArray[Any]:
    if tensor.is_meta:
        raise ValueError("a tensor on the meta device holds no values")
    tensor = tensor.detach()
    if tensor.is_quantized:
        tensor = tensor.dequantize()
    if tensor.layout != sys.modules["torch"].strided:
        tensor = tensor.to_dense()
    if tensor.is_floating_point() and tensor.element_size() < 4:  # numpy has no bfloat16
        tensor = tensor.float()
    array: NDArray[Any] = tensor.cpu().resolve_conj().resolve_neg().numpy()
    return array


def _has_dlpack(value: object) -> bool:
    return hasattr(value, "__dlpack__") and hasattr(value, "__dlpack_device__")


def _is_arrow(value: object) -> bool:
    arrow = sys.modules.get("pyarrow")
    if arrow is None or not isinstance(value, (arrow.Array, arrow.ChunkedArray, arrow.Scalar, arrow.Tensor)):
        return False
    return isinstance(value, arrow.Tensor) or _is_nested(value.type)  # type: ignore[attr-defined]


def _is_arrow_scalar(value: object) -> bool:
    return isinstance(value, sys.modules["pyarrow"].Scalar)


def _is_nested(kind: pa.DataType) -> bool:
    """Whether values of a type are arrays themselves: tensors, or lists of any kind."""
    types = sys.modules["pyarrow"].types
    kind = getattr(kind, "storage_type", kind)
    return bool(types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind))


def _of_arrow(value: Any) -> NDArray[Any]:
    arrow: Any = sys.modules["pyarrow"]
    if isinstance(value, arrow.Tensor):
        tensor: NDArray[Any] = value.to_numpy()
        return tensor
    if not value.is_valid:
        raise ValueError("the picture is NULL")
    if isinstance(value.type, arrow.FixedShapeTensorType):
        array: NDArray[Any] = value.to_numpy()
        return array
    cells = arrow.array([value.as_py()], value.type) if not hasattr(value, "values") else value.values
    sides: list[int] = [len(cells)]
    while _is_nested(cells.type):
        lengths = arrow.compute.unique(arrow.compute.list_value_length(cells))
        if cells.null_count or len(lengths) != 1:
            raise ValueError("a list whose rows are not equally long is not an array")
        sides.append(lengths[0].as_py())
        cells = cells.flatten()
    if cells.null_count:
        raise ValueError("the picture has pixels that are NULL")
    flat: NDArray[Any] = cells.to_numpy(zero_copy_only=False)
    return flat.reshape(sides)
