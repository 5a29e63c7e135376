"""A result in a notebook: heat maps over their pictures, everything else as a table."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from html import escape
from typing import TYPE_CHECKING, Any

from kryptondb.errors import Error
from kryptondb.show.terminal import caption, failures_text, row_quality
from kryptondb.show.values import is_tensor, shown, shown_column, tensors
from kryptondb.text.plain_text import plain_line
from kryptondb.text.units import counted

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

    from kryptondb.catalog import ModelStore
    from kryptondb.executor import ImageFailure
    from kryptondb.images import Picture
    from kryptondb.optimizer.physical import PhysicalPlan

#: How much of a long result a notebook shows.
_PICTURES, _ROWS = 12, 20
_OPACITY = 0.75  # of the strongest color of a map


class Pictures:
    """Opens the pictures of a query again, to draw heat maps over them.

    Args:
        bindings: the query's parameters; its images may be one of them.
    """

    def __init__(self, models: ModelStore, plan: PhysicalPlan, bindings: Mapping[str, object]) -> None:
        from kryptondb.executor.pictures import Looks

        self._models = models
        self._plan = plan
        self._bindings = bindings
        self.looks = Looks()

    @property
    def drawn(self) -> bool:
        """Whether the query has heat maps to draw over its pictures."""
        from kryptondb.optimizer.nodes import HeatMaps

        return self._plan.occlude is not None and any(isinstance(node, HeatMaps) for node in self._plan.root.walk())

    def png(self, row: Mapping[str, Any], heatmap: np.ndarray) -> bytes | None:
        """The heat map over its picture as a PNG file's bytes; None for a row without a picture.

        Raises:
            Error: the picture or the model no longer exists, or was replaced.
        """
        from kryptondb.images.render import Look, overlay

        occlude = self._plan.occlude
        if occlude is None or "image" not in row:
            return None
        picture = self._picture(str(row["image"]))
        if picture is None:
            return None
        preprocess = self._models.get(occlude.experiment.model).preprocess
        title = str(row.get("label") or f"class {row.get('class')}")
        if row.get("base") is not None:
            title += f"  {row['base']:.3f}"
        figure = overlay(
            picture,
            preprocess,
            heatmap,
            patch=occlude.experiment.patch,
            stride=occlude.experiment.stride,
            title=title,
            look=Look(opacity=_OPACITY),
        )
        encoded = io.BytesIO()
        figure.save(encoded, format="PNG")
        return encoded.getvalue()

    def _picture(self, name: str) -> Picture | None:
        from kryptondb.executor.occlusion import named_images
        from kryptondb.images.sources import find_images

        assert self._plan.occlude is not None
        images = self._plan.occlude.experiment.images
        for source in find_images(named_images(images, self._bindings), images.window, images.axes):
            if source.name == name:
                return self.looks.load_again(source)
        return None


def html(
    table: pa.Table,
    plan: PhysicalPlan | None,
    pictures: Pictures | None,
    note: str | None,
    failures: Sequence[ImageFailure],
) -> str:
    """Rows, or their beginning, as HTML."""
    maps = [_figure(row, heatmap, table.schema, plan, pictures) for row, heatmap in _maps(table, _PICTURES)]
    parts = maps or [_table(table)]
    left = table.num_rows - (len(maps) or _ROWS)
    if left > 0:
        parts.append(f"<p>... {counted(left, 'more heat map' if maps else 'more row')}</p>")
    if note is not None:
        parts.append(f"<p>{escape(note)}</p>")
    if failures:
        parts.append(f"<pre>{escape(failures_text(failures))}</pre>")
    return "\n".join(parts)


def first_picture(table: pa.Table, pictures: Pictures) -> bytes | None:
    """The first heat map over its picture, as PNG; None where there is none."""
    for row, heatmap in _maps(table, 1):
        with suppress(Error):
            return pictures.png(row, heatmap)
    return None


def _maps(table: pa.Table, most: int) -> Iterator[tuple[dict[str, Any], np.ndarray]]:
    """The first heat maps of a table, each with the other columns of its row."""
    maps = [field.name for field in table.schema if is_tensor(field.type)]
    if not maps:
        return
    table = table.slice(0, most)
    rows = table.drop_columns(maps).to_pylist()
    heatmaps = (heatmap for chunk in table.column(maps[0]).chunks for heatmap in tensors(chunk))
    yield from zip(rows, heatmaps, strict=True)


def _figure(
    row: dict[str, Any],
    heatmap: np.ndarray,
    schema: pa.Schema,
    plan: PhysicalPlan | None,
    pictures: Pictures | None,
) -> str:
    picture = ""
    try:
        png = pictures.png(row, heatmap) if pictures is not None else None
        if png:
            picture = f'<img src="data:image/png;base64,{base64.b64encode(png).decode()}" style="max-width: 100%">'
    except Error as error:
        picture = f"<p>{escape(error.message)}</p>"
    text = escape(caption(row, heatmap, plan, None, row_quality(schema, row.get("image"), plan)))
    if row.get("prediction"):
        text += f"<br>predicted {escape(shown(row['prediction']))}"
    return f'<figure>{picture}<figcaption style="white-space: pre-wrap">{text}</figcaption></figure>'


def _table(table: pa.Table) -> str:
    table = table.slice(0, _ROWS)
    columns = [[text for chunk in column.chunks for text in shown_column(chunk)] for column in table.columns]
    head = "".join(f"<th>{escape(plain_line(name))}</th>" for name in table.column_names)
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(text)}</td>" for text in row) + "</tr>" for row in zip(*columns, strict=True)
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
