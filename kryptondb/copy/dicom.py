"""Heat maps as DICOM secondary captures: one series for each source, its classes numbered in it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from kryptondb.copy.drawing import Drawing
from kryptondb.copy.maps import Map

if TYPE_CHECKING:
    from kryptondb.images.secondary_capture import Origin


class SecondaryCaptures:
    """Makes the bytes of a DICOM file from a map.

    Nothing in the figure names the patient or the file, which often does: the title is the class, its score and the
    model.
    """

    suffix = ".dcm"

    def __init__(self, drawing: Drawing) -> None:
        self._drawing = drawing
        self._image: str | None = None
        self._origin: Origin | None = None
        self._series = ""
        self._number = 0

    def __call__(self, heatmap: Map) -> bytes:
        """The file of one map.

        Raises:
            ImageError: its picture is no DICOM file, or cannot be read any more.
            ExecutionError: pydicom is not installed.
        """
        from kryptondb.images.secondary_capture import new_series, origin_of, secondary_capture

        if self._origin is None or self._image != heatmap.image:
            self._origin = origin_of(heatmap.image, self._drawing.execution.file(heatmap.image))
            self._image = heatmap.image
            self._series, self._number = new_series(), 0
        self._number += 1
        drawing = self._drawing
        title = f"{drawing.score_text(heatmap)}\nmodel {drawing.occlude.model}"
        return secondary_capture(
            drawing.figure(heatmap, title),
            self._origin,
            series=self._series,
            number=self._number,
            description=f"Occlusion heat map, {drawing.occlude.model}",
            comment=self._comment(heatmap),
        )

    def made(self, file: Path) -> bool:
        """Whether a file is a capture that was made here."""
        from kryptondb.images.secondary_capture import is_ours

        return is_ours(file)

    def _comment(self, heatmap: Map) -> str:
        """How the map was made, in words."""
        occlude = self._drawing.occlude
        quality = self._drawing.execution.quality(heatmap.image)
        return (
            f"Occlusion heat map of class {heatmap.index} ({heatmap.name}), {occlude.score} {heatmap.base:.4f}; "
            f"shown: {self._drawing.look.values}; model {occlude.model} ({occlude.fingerprint}); "
            f"patch {occlude.patch[0]} x {occlude.patch[1]}, stride {occlude.stride[0]} x {occlude.stride[1]}, "
            f"fill {occlude.fill}; {quality}"
        )
