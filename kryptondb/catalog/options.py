"""The options of CREATE MODEL, once they are read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from kryptondb.errors import BindError
from kryptondb.options.reader import read
from kryptondb.options.tables import MODEL

Size = tuple[int, int]
Resize = int | Size


@dataclass(frozen=True)
class ModelOptions:
    """The options of one model; None where not given. Paths are absolute. `options.tables.MODEL` says what each is."""

    weights: str | None = None
    labels: str | tuple[str, ...] | None = None
    classes: int | None = None
    size: Size | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    scale: float | None = None
    channels: str | int | None = None
    resize: Resize | None = None
    crop: bool | None = None
    letterbox: float | bool | None = None
    interpolation: str | None = None
    antialias: bool | None = None
    output: str | int | None = None
    activation: str | None = None
    layout: str | None = None

    @classmethod
    def parse(cls, options: Mapping[str, object]) -> ModelOptions:
        """Checks option values as they come from SQL, Python or the catalog's JSON.

        Raises BindError for a name that is no option (with the nearest) or a value that it does not take.
        """
        values = read(MODEL, options)
        crop = values.get("crop")
        if isinstance(crop, tuple):  # torchvision's way to say it: resize => 256, crop => 224
            if values.setdefault("size", crop) != crop:
                raise BindError(
                    "crop is not the size of the input", hint="Give size => alone, or crop => TRUE.", option="crop"
                )
            values["crop"] = True
        if values.get("letterbox") is True:
            values["letterbox"] = 0.0  # black
        if values.get("channels") in (1, 3):
            values["channels"] = {1: "L", 3: "RGB"}[values["channels"]]
        return cls(**values)

    def given(self) -> dict[str, Any]:
        """The options that were given, by name."""
        return {f.name: getattr(self, f.name) for f in fields(self) if getattr(self, f.name) is not None}

    def only(self, kind: str, *names: str) -> None:
        """Raises BindError when an option was given that a kind of source does not take."""
        for name in self.given():
            if name not in names:
                raise _unsuited(name, kind, f"It takes {', '.join(names)}.")

    def without(self, kind: str, *names: str) -> None:
        """Raises BindError when one of the named options was given, which a kind of source has no use for."""
        for name in names:
            if getattr(self, name) is not None:
                raise _unsuited(name, kind)


def _unsuited(name: str, kind: str, hint: str | None = None) -> BindError:
    return BindError(f'option "{name}" does not apply to {kind}', hint=hint, option=name)
