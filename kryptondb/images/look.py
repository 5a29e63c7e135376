"""How a heat map is drawn: the choices that a person has, as plain data."""

from __future__ import annotations

from dataclasses import dataclass

from kryptondb.images.colours import check_values, colour_map
from kryptondb.options.words import LARGEST_SIDE, MOST_CONTOURS, SMALLEST_SIDE


@dataclass(frozen=True)
class Level:
    """Where a contour runs: at a value, or at so many percent of the colour scale.

    Percents go the way that the eye is led: of a drop from 0 to the upper end of the scale, of a score from the upper
    end down to the lower one.
    """

    number: float
    percent: bool = False

    def value(self, values: str, low: float, high: float) -> float:
        """The level on a scale from `low` to `high`."""
        if not self.percent:
            return self.number
        share = self.number / 100
        return share * high if values == "drop" else high - share * (high - low)


@dataclass(frozen=True)
class Look:
    """How `kryptondb.images.render.overlay` draws a heat map.

    Args:
        values: 'drop' (base minus occluded score; colours diverge around 0) or 'score' (the occluded score).
        opacity: of the strongest colour, 0 to 1.
        scale: the values at the ends of the colour bar, to draw several maps alike; from the map itself by default.
        colormap: the name of a matplotlib colour map; one made for `values` by default.
        size: the long side of the drawn picture in pixels. By default small pictures are enlarged and large ones made
            smaller; where nothing stands around it, a picture keeps its own size.
        colorbar, title: whether these stand beside the picture. With neither, the picture fills the figure.
        contours: where lines are drawn around what lies above (for a score, below) a level.
        side_by_side: whether the picture as it is stands to the left.

    Raises:
        ValueError: a value that makes no sense.
    """

    values: str = "drop"
    opacity: float = 0.75
    scale: tuple[float, float] | None = None
    colormap: str | None = None
    size: int | None = None
    colorbar: bool = True
    title: bool = True
    contours: tuple[Level, ...] = ()
    side_by_side: bool = False

    def __post_init__(self) -> None:
        check_values(self.values)
        if not 0 <= self.opacity <= 1:
            raise ValueError(f"opacity is from 0 to 1, not {self.opacity:g}")
        if self.size is not None and not SMALLEST_SIDE <= self.size <= LARGEST_SIDE:
            raise ValueError(f"size is from {SMALLEST_SIDE} to {LARGEST_SIDE} pixels, not {self.size}")
        if len(self.contours) > MOST_CONTOURS:
            raise ValueError(f"at most {MOST_CONTOURS} contours are drawn, not {len(self.contours)}")
        if self.colormap is not None:
            object.__setattr__(self, "colormap", colour_map(self.colormap))

    @property
    def bare(self) -> bool:
        """Whether nothing stands around the picture."""
        return not (self.colorbar or self.title)
