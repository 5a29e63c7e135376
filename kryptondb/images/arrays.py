"""Pixels in memory to a Picture: an array of numpy, torch, Arrow or any other library, or a PIL image in any mode.

Alpha is composited over white, as a page would show it. A gray picture stays one channel. 16-bit samples are
divided by 65535 and keep every one of their levels. Samples without a known range (signed, 32 bits, floats outside
0..1) need a window, which gives them one. No library is imported here: an array of one that is not loaded cannot have
been given.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image

from kryptondb.errors import ImageError, one_line
from kryptondb.images.levels import (
    GIVE_A_WINDOW,
    GRAY_ONLY,
    Meaningless,
    Window,
    check_size,
    levels,
    over_white,
    scaled,
    turned,
    unit_floats,
    windowed,
)
from kryptondb.images.picture import Picture

if TYPE_CHECKING:
    import pyarrow as pa

Floats = NDArray[np.float32]

#: A level, a color or the opacity of each color in a palette.
Key = int | tuple[int, ...] | bytes | None
MAX_CHANNELS = 64  # of an array

# Large pictures are converted in parts of this many pixels, so that what lies between takes little memory.
_BAND = 1 << 22


def from_array(source: object, name: str, window: Window | None = None, axes: str | None = None) -> Picture:
    """The picture in an array (numpy's or any of `foreign_arrays`) or a PIL image, called `name`.

    An array is H x W, H x W x C, or C x H x W, with C 1 (gray), 3 (RGB), 2 or 4 (those with alpha), or any number up to
    64 for models that read as many, in uint8, uint16, bool, or floats in 0..1. A PIL image may have any mode but LAB,
    and is turned upright if it carries an EXIF orientation. Through a `window`, (center, width) in the samples' own
    units, samples without alpha may be of any real type and range: gray ones, and in an array colors without a range.

    Args:
        axes: 'HWC' or 'CHW'. By default 'CHW' in a torch tensor and 'HWC' in all else.

    Raises:
        ImageError: anything else; the message starts with `name`.
    """
    planes: Floats | None = None
    if isinstance(source, Image.Image):
        check_size(name, source.height, source.width)
        try:
            pixels = upright(source, from_pil(source, window, transparent(source)))
        except Meaningless as error:
            raise ImageError(f"{name}: {error}") from None
        except MemoryError:
            raise
        except Exception as error:  # of a file that is damaged and was not read yet, or changed by hand
            raise ImageError(f"{name}: cannot be decoded: {error}") from error
    elif is_array(source):
        try:
            pixels, planes = _from_ndarray(name, as_numpy(source), window, axes, default_axes(source))
        except ValueError as error:
            raise ImageError(f"{name}: {error}") from None
    else:
        raise ImageError(f"{name}: expected an array or a PIL image, not {type(source).__name__}")
    return Picture(name, np.ascontiguousarray(pixels, dtype=np.float32), planes)


def upright(image: Image.Image, pixels: Floats) -> Floats:
    """`pixels` turned as the EXIF orientation of `image` says; unreadable EXIF data counts as none."""
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:
        return pixels  # damaged metadata must not lose the picture, whatever Pillow raises over it
    return turned(pixels, orientation)


def bands(image: Image.Image) -> Iterator[tuple[int, int]]:
    """(top, bottom) of parts of an image, of whole rows, that together are all of it."""
    step = max(1, _BAND // max(1, image.width))
    for top in range(0, image.height, step):
        yield top, min(top + step, image.height)


def in_bands(image: Image.Image, channels: int, convert: Callable[[Image.Image], Floats]) -> Floats:
    """What `convert` makes of an image, H x W x channels, part by part."""
    if image.width * image.height <= _BAND:
        return convert(image)
    pixels: Floats = np.empty((image.height, image.width, channels), dtype=np.float32)
    for top, bottom in bands(image):
        pixels[top:bottom] = convert(image.crop((0, top, image.width, bottom)))
    return pixels


def raw_mode(image: Image.Image) -> str:
    """How the samples of a file that is opened but not loaded yet lie in it; '' where that is not one way."""
    tiles = getattr(image, "tile", None) or []
    modes = {tile.args if isinstance(tile.args, str) else tile.args[0] for tile in tiles if tile.args}
    found = modes.pop() if len(modes) == 1 else ""
    return found if isinstance(found, str) else ""


def transparent(image: Image.Image) -> Key:
    """The level or color that stands for transparent, in the units of Pillow's samples; None where none does.

    Of a PNG of 2 or 4 bits Pillow scales the samples and not this level: only before it is loaded can that be told.

    Raises:
        Meaningless: it is of another kind than the image's mode takes.
    """
    value = image.info.get("transparency")
    mode = image.mode
    if value is None or mode in ("LA", "La", "PA", "RGBA", "RGBa"):
        return None
    whole = isinstance(value, int) and not isinstance(value, bool)
    if mode in ("1", "L") and whole:
        top = {"1": 1, "L;2": 3, "L;4": 15}.get(raw_mode(image) or mode, 255)
        return (int(value) & top) * (255 // top)  # of PNG's 16 bits the lower ones count
    if mode.startswith("I;16") and whole:
        return int(value) & 0xFFFF
    if (
        mode == "RGB"
        and isinstance(value, tuple)
        and len(value) == 3
        and all(isinstance(channel, int) for channel in value)
    ):
        return tuple(channel & 0xFF for channel in value)
    if mode == "P" and (isinstance(value, bytes) or (whole and 0 <= value < 256)):
        return value if isinstance(value, bytes) else int(value)
    if mode not in ("1", "L", "RGB", "P") and not mode.startswith("I;16"):
        return None  # such images have none
    raise Meaningless(
        f"its transparency is {type(value).__name__} {value!r:.40}, which an image of mode {mode} has not"
    )


def from_pil(image: Image.Image, window: Window | None = None, key: Key = None) -> Floats:
    """H x W x C float32 in 0..1, C 1 or 3, for a PIL image of any mode. Meaningless names what is no picture.

    Args:
        key: what `transparent` gives.
    """
    mode = image.mode
    clear = mode in ("LA", "La", "PA", "RGBA", "RGBa") or key is not None
    if window is not None:
        if clear or not (mode in ("1", "L", "I", "F") or mode.startswith("I;16")):
            raise Meaningless(GRAY_ONLY)
        return in_bands(image, 1, lambda band: windowed(np.asarray(band)[:, :, None], window))
    if mode == "I":
        raise Meaningless(f"32-bit or signed integer samples have no known range; {GIVE_A_WINDOW}")
    if mode == "LAB":
        raise Meaningless("CIELAB color is not supported; store the picture as RGB")
    gray = mode in ("1", "L", "LA", "La", "F") or mode.startswith("I;16")
    return in_bands(image, 1 if gray else 3, lambda band: _band_from_pil(band, clear, gray, key))


def _band_from_pil(image: Image.Image, clear: bool, gray: bool, key: Key) -> Floats:
    if image.mode == "F":
        return unit_floats(np.asarray(image)[:, :, None])
    if isinstance(key, (int, tuple)) and image.mode != "P":
        samples = np.asarray(image.convert("L") if image.mode == "1" else image)
        samples = samples[:, :, None] if samples.ndim == 2 else samples
        top = 65535 if image.mode.startswith("I;16") else 255
        return over_white(scaled(samples, top), (samples != np.asarray(key)).any(axis=2))
    if image.mode.startswith("I;16"):
        return scaled(np.asarray(image)[:, :, None], 65535)
    if clear:
        pixels = scaled(np.asarray(image.convert("LA" if gray else "RGBA")), 255)
        return over_white(pixels[:, :, :-1], pixels[:, :, -1])
    if gray:
        return scaled(np.asarray(image.convert("L"))[:, :, None], 255)
    return scaled(np.asarray(image.convert("RGB")), 255)


def _from_ndarray(
    name: str, array: NDArray[np.generic], window: Window | None, axes: str | None, default: str
) -> tuple[Floats, Floats | None]:
    """What there is to look at, and all channels where they are neither gray nor RGB."""
    array = np.asarray(array)  # a matrix has two axes whatever is asked of it
    shape = " x ".join(map(str, array.shape)) or "a single number"
    if array.ndim == 4:
        raise ValueError(f"an array of shape {shape} is a batch; give a list of pictures: list(array)")
    if array.ndim not in (2, 3):
        raise ValueError(f"a picture is an H x W, H x W x C or (with axes => 'CHW') C x H x W array, not {shape}")
    if array.size == 0:
        raise ValueError(f"the picture has no pixels ({shape})")
    array = rows_columns_channels(array, axes, default)
    if array.ndim == 2:
        array = array[:, :, None]
    check_size(name, array.shape[0], array.shape[1])
    if not 1 <= array.shape[2] <= MAX_CHANNELS:
        raise ValueError(f"a picture is an H x W or H x W x C array, not {shape}; C is 1 to {MAX_CHANNELS}")
    pixels = levels(array, window)
    if pixels.shape[2] in (2, 4):
        return over_white(pixels[:, :, :-1], pixels[:, :, -1]), pixels
    if pixels.shape[2] > 4:
        return pixels.mean(axis=2, keepdims=True), pixels
    return pixels, None


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
    return isinstance(value, arrow.Tensor) or _is_nested(value.type)


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
