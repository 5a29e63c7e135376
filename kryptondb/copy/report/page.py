"""Writes the report's page, card by card, while the query runs."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Generator, Mapping
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kryptondb.copy.drawing import Drawing
from kryptondb.copy.report.cards import Card, cards_of
from kryptondb.executor.run import Execution
from kryptondb.files.atomic import atomic_file, writing
from kryptondb.images.colors import colors
from kryptondb.images.render import Look
from kryptondb.text.plain_text import plain
from kryptondb.version import __version__

if TYPE_CHECKING:
    from jinja2 import Template


_HERE = Path(__file__).parent
_SCORES = {"probability": "probability", "logit": "logit", "log_probability": "log probability"}
_STOPS = 17  # of the page's color bar


def copy_report(execution: Execution, path: str, options: Mapping[str, object]) -> tuple[int, int]:
    """Runs a query and writes its heat maps as one page; returns how many maps and how many bytes.

    Raises:
        BindError: the query has no heat map, or an option is unknown or has a value it does not take.
        ExecutionError: the file cannot be written, or the query failed. What was there before stays.
        ImageError: a picture cannot be read any more, and `on_error` is 'stop'.
    """
    drawing = Drawing(execution, "html", options)
    template = _template()
    maps = size = 0

    def counted() -> Generator[Card, None, None]:
        nonlocal maps
        with closing(cards_of(drawing)) as cards:
            for card in cards:
                maps += len(card.layers)
                yield card

    with atomic_file(path) as stream, closing(counted()) as cards:
        for text in template.generate(cards=cards, **_of_all(drawing)):
            encoded = text.encode("utf-8", "replace")  # a path in the statement may be no text
            with writing(path):
                stream.write(encoded)
            size += len(encoded)
    return maps, size


def _template() -> Template:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(_HERE),
        autoescape=True,
        finalize=lambda value: plain(value) if type(value) is str else value,  # names may turn the text around them
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": _number, "decimals": _decimals}
    return environment.get_template("page.html")


def _of_all(drawing: Drawing) -> dict[str, Any]:
    """What the page says once, of all its cards."""
    from markupsafe import Markup

    occlude, execution = drawing.occlude, drawing.execution
    asked = occlude.experiment
    style, script = ((_HERE / name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    pixels = asked.of_pixels(execution.schema.field(drawing.column).type.shape)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    made = {
        "model": asked.model,
        "fingerprint": asked.fingerprint,
        "patch": f"{asked.patch[0]} × {asked.patch[1]}",
        "stride": f"{asked.stride[0]} × {asked.stride[1]}",
        "model input": f"{asked.height} × {asked.width}",
        "fill": asked.fill,
        "score": _SCORES.get(asked.score, asked.score),
        "operator": f"{occlude.operator.name}, {occlude.precision} on {occlude.device}",
    }
    return {
        "style": Markup(style),  # ours, and without `</style`
        "script": Markup(script),
        "policy": f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'",
        "model": asked.model,
        "score_name": _SCORES.get(asked.score, asked.score),
        "values": drawing.look.values,
        "pixels": pixels,
        "opacity": drawing.look.opacity,
        "gradient": _gradient(drawing.look),
        "experiment": {
            "patch": (1, 1) if pixels else asked.patch,
            "stride": (1, 1) if pixels else asked.stride,
            "input": (asked.height, asked.width),
            "values": drawing.look.values,
        },
        "made": lambda: {**made, **_quality(execution)},  # which may be known when the first card has come
        "generator": f"KryptonDB {__version__}",
        "left_out": lambda: execution.errors,
    }


def _quality(execution: Execution) -> dict[str, str]:
    """How near the maps come to the exact ones, and what wrote them."""
    quality, outcome = execution.plan.quality, execution.outcome
    note = quality.note
    if outcome is not None:
        count = len(outcome.measured)
        note = f"{count:,} exact, the others by {outcome.recipe}: {outcome.note}" if outcome.recipe else outcome.note
    kind = quality.kind if outcome is None else outcome.kind
    told = f"{kind}: {quality.promise} ({note})" if quality.promise else f"{kind} ({note})" if note else kind
    return {"quality": told, "statement": execution.plan.statement, "written by": f"KryptonDB {__version__}"}


def _gradient(look: Look) -> str:
    """The color map as a CSS gradient."""
    shades = colors(np.linspace(0, 1, _STOPS), look.values, 0, 1, look.colormap)
    stops = ", ".join(f"rgb({red} {green} {blue})" for red, green, blue in shades.tolist())
    return f"linear-gradient(to right, {stops})"


def _number(value: float) -> str:
    """A number of three digits, with a true minus sign."""
    return f"{value:.3g}".replace("-", "−")


def _decimals(value: float) -> str:
    """A score or a drop, as `page.js` writes them too."""
    return (f"{value:.4f}" if abs(value) >= 1e-3 or value == 0 else f"{value:.2e}").replace("-", "−")
