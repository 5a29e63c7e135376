"""Which color a heat map's value has: one perceptually uniform map for scores, one diverging around 0 for drops.

Both point the eye at what the prediction rests on, which shines: a large positive drop (yellow), a low score (yellow).
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from kryptondb.errors import did_you_mean

Floats = NDArray[np.floating]

# matplotlib names. managua (Crameri, "Scientific color maps", 2018) runs from yellow over a dark middle to light blue.
COLOR_MAPS = {"drop": "managua_r", "score": "viridis_r"}


def check_values(values: str) -> None:
    """Raises ValueError unless `values` is 'drop' or 'score'."""
    if values not in COLOR_MAPS:
        near = did_you_mean(values, COLOR_MAPS)
        raise ValueError(f"values must be 'drop' or 'score', not {values!r}" + (f". {near}" if near else ""))


def limits(heatmap: Floats, values: str) -> tuple[float, float]:
    """The values at the two ends of the color scale: all of a score's range, symmetric around 0 for a drop.

    A constant map (or one without any finite cell) gets a scale of some width around its value, so that low < high.
    """
    check_values(values)
    finite = heatmap[np.isfinite(heatmap)]
    if values == "drop":
        reach = float(np.abs(finite).max()) if finite.size else 0.0
        reach = reach if reach > 0 else 1e-3
        return -reach, reach
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    if low == high:
        margin = max(abs(low) * 1e-3, 1e-6)
        return low - margin, high + margin
    return low, high


def color_map(name: str) -> str:
    """A color map's name as matplotlib spells it.

    Raises:
        ValueError: matplotlib has no such color map; with the nearest names.
    """
    from matplotlib import colormaps

    known = {known.casefold(): known for known in colormaps}
    if name.casefold() not in known:
        near = did_you_mean(name, known.values()) or "Names are matplotlib's: viridis, magma, coolwarm, ..."
        raise ValueError(f'matplotlib has no color map named "{name}". {near}')
    return known[name.casefold()]


def colors(heatmap: Floats, values: str, low: float, high: float, colormap: str | None = None) -> NDArray[np.uint8]:
    """The color of each value: shape [..., 3] for a shape [...]. NaN gets the color of `low`: make it transparent.

    Args:
        colormap: one of matplotlib's, from `low` to `high`; that of `values` by default.
    """
    check_values(values)
    table = _table(colormap or COLOR_MAPS[values])
    position = np.clip((np.nan_to_num(heatmap, nan=low) - low) / (high - low), 0.0, 1.0)
    found: NDArray[np.uint8] = table[np.rint(position * (len(table) - 1)).astype(np.intp)]
    return found


def emphasis(heatmap: Floats, values: str, low: float, high: float) -> Floats:
    """How opaque each value is drawn, 0 to 1; 0 for NaN.

    A score's colors cover the picture evenly. A drop near 0 says that nothing depends on the place: there the picture
    shows, and color comes in with the size of the drop.
    """
    known = np.isfinite(heatmap)
    if values == "score":
        return known.astype(np.float32)
    strength = np.abs(np.nan_to_num(heatmap, nan=0.0)) / max(abs(low), abs(high))
    return np.where(known, np.clip(strength / 0.45, 0.0, 1.0), 0.0).astype(np.float32)


@lru_cache(maxsize=8)
def _table(name: str) -> NDArray[np.uint8]:
    """256 x 3: matplotlib's color map, read once."""
    from matplotlib import colormaps

    table: NDArray[np.uint8] = colormaps[color_map(name)](np.linspace(0, 1, 256), bytes=True)[:, :3].copy()
    return table
