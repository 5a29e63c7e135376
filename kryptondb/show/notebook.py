"""A result in a notebook: heat maps over their pictures, everything else as a table."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Mapping
from contextlib import suppress
from html import escape
from typing import TYPE_CHECKING, Any

from kryptondb.errors import Error
from kryptondb.text.plain_text import plain_line

if TYPE_CHECKING:
    import numpy as np

    from kryptondb.catalog import ModelStore
    from kryptondb.images import Picture
    from kryptondb.optimizer.physical import PhysicalPlan
    from kryptondb.show.answer import Answer

#: How much of a long result a notebook shows.
_PICTURES, _ROWS = 12, 20


class Pictures:
    """Opens the pictures of a query again, to draw heat maps over them.

    Args:
        bindings: the query's parameters; its images may be one of them.
    """

    def __init__(self, models: ModelStore, plan: PhysicalPlan, bindings: Mapping[str, object]) -> None:
        self._models = models
        self._plan = plan
        from kryptondb.executor.asking import Looks

        self._bindings = bindings
        self.looks = Looks()

    @property
    def drawn(self) -> bool:
        """Whether the query's rows are drawn over its pictures."""
        from kryptondb.optimizer.physical import HeatMaps

        return self._plan.occlude is not None and any(isinstance(node, HeatMaps) for node in self._plan.root.walk())

    def png(self, row: Mapping[str, Any], heatmap: np.ndarray) -> bytes | None:
        """The heat map over its picture as a PNG file's bytes; None for a row without a picture.

        Raises:
            Error: the picture or the model is not there any more, or is another one.
        """
        from kryptondb.images.render import overlay

        occlude = self._plan.occlude
        if occlude is None or "image" not in row:
            return None
        picture = self._picture(str(row["image"]))
        if picture is None:
            return None
        preprocess = self._models.get(occlude.model).preprocess
        title = str(row.get("label") or f"class {row.get('class')}")
        if row.get("base") is not None:
            title += f"  {row['base']:.3f}"
        figure = overlay(picture, preprocess, heatmap, patch=occlude.patch, stride=occlude.stride, title=title)
        encoded = io.BytesIO()
        figure.save(encoded, format="PNG")
        return encoded.getvalue()

    def _picture(self, name: str) -> Picture | None:
        from kryptondb.images.sources import find_images

        assert self._plan.occlude is not None
        images = self._plan.occlude.input
        spec = self._bindings[images.binding] if images.binding is not None else images.spec
        for source in find_images(list(spec) if isinstance(spec, tuple) else spec, images.window, images.axes):
            if source.name == name:
                return self.looks.load_again(source)
        return None


def html(result: Answer) -> str:
    """The whole result, or its beginning, as HTML."""
    if result.message is not None:
        return f"<pre>{escape(result.message)}</pre>" if result.message else ""
    maps = [_figure(result, row, heatmap) for row, heatmap in _maps(result, _PICTURES)]
    parts = maps or [_table(result)]
    rows = result.arrow().num_rows
    left = rows - len(maps) if maps else rows - _ROWS
    if left > 0:
        parts.append(f"<p>... {left:,} more {'heat map' if maps else 'row'}{'' if left == 1 else 's'}</p>")
    if result.note is not None:
        parts.append(f"<p>{escape(result.note)}</p>")
    if result.errors:
        from kryptondb.show.terminal import failures_text

        parts.append(f"<pre>{escape(failures_text(result.errors))}</pre>")
    return "\n".join(parts)


def first_picture(result: Answer) -> bytes | None:
    """The first heat map over its picture, as PNG; None for a result without heat maps."""
    if result.message is not None or result.pictures is None:
        return None
    for row, heatmap in _maps(result, 1):
        with suppress(Error):
            png: bytes | None = result.pictures.png(row, heatmap)
            return png
    return None


def _maps(result: Answer, most: int) -> Iterator[tuple[dict[str, Any], np.ndarray]]:
    """The first heat maps of a result, each with the other columns of its row."""
    from kryptondb.show.values import is_tensor, tensors

    maps = [field.name for field in result.schema if is_tensor(field.type)]
    if not maps:
        return
    table = result.arrow().slice(0, most)
    rows = table.drop_columns(maps).to_pylist()
    heatmaps = (heatmap for chunk in table.column(maps[0]).chunks for heatmap in tensors(chunk))
    yield from zip(rows, heatmaps, strict=True)


def _figure(result: Answer, row: dict[str, Any], heatmap: np.ndarray) -> str:
    from kryptondb.show.terminal import caption, made
    from kryptondb.show.values import shown

    picture = ""
    try:
        png = result.pictures.png(row, heatmap) if result.pictures is not None else None
        if png:
            picture = f'<img src="data:image/png;base64,{base64.b64encode(png).decode()}" style="max-width: 100%">'
    except Error as error:
        picture = f"<p>{escape(error.message)}</p>"
    told = escape(caption(row, heatmap, result.plan, None, made(result.schema, row.get("image"), result.plan)))
    if row.get("prediction"):
        told += f"<br>predicted {escape(shown(row['prediction']))}"
    return f'<figure>{picture}<figcaption style="white-space: pre-wrap">{told}</figcaption></figure>'


def _table(result: Answer) -> str:
    from kryptondb.show.values import shown_column

    table = result.arrow().slice(0, _ROWS)
    columns = [[text for chunk in column.chunks for text in shown_column(chunk)] for column in table.columns]
    head = "".join(f"<th>{escape(plain_line(name))}</th>" for name in table.column_names)
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(text)}</td>" for text in row) + "</tr>" for row in zip(*columns, strict=True)
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
