"""What the rows of each of the catalog's tables hold. A file may come from elsewhere, so every row is checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kryptondb.files.schema import (
    Anything,
    Either,
    Form,
    Items,
    Json,
    Number,
    Object,
    OneOf,
    Row,
    Text,
    Truth,
    Unfit,
    Whole,
    shown,
)
from kryptondb.options.tables import MODEL
from kryptondb.options.words import ACTIVATIONS, MAX_CHANNELS, MAX_CLASSES, MAX_SIDE

#: Bytes of one value. The summary of a model of 100,000 classes with labels of 80 letters has 8 MB.
MOST_VALUE = 64 << 20
#: Rows that are read of one table at once.
MOST_ROWS = 1_100_000

_NAME = Text(1_000)
_PATH = Text(path=True)
_DATE = Text(100)
_SIDE = Whole(1, MAX_SIDE)
_SIDES = Row(_SIDE, _SIDE)
_RATE = Number(above=0)
_SECONDS = Number(0)

_OPTION = Either(OneOf(True, False), Number(), _PATH, Items(Either(Number(), _PATH), most=MAX_CLASSES))
_OPTIONS = Object(optional=dict.fromkeys(MODEL, _OPTION))

_CHANNELS = Either(OneOf("RGB", "L"), Whole(1, MAX_CHANNELS))
_PER_CHANNEL = Items(Number(), 1, MAX_CHANNELS)
_PREPROCESS = Object(
    {"height": _SIDE, "width": _SIDE, "channels": _CHANNELS},
    optional={
        "mean": _PER_CHANNEL,
        "std": _PER_CHANNEL,
        "scale": _RATE,
        "resize": Either(OneOf(None), _SIDE, _SIDES),
        "crop": Truth(),
        "interpolation": Text(100),
        "letterbox": Either(OneOf(None), Number(0, 1)),
        "antialias": Truth(),
    },
    others=Anything(),
)
_DIGEST = Text(64, r"([0-9a-f]{64})?")
#: Earlier versions wrote less, later ones may write more.
_SUMMARY = Object(
    optional={
        "architecture": Text(),
        "weights": _PATH,
        "parameters": Whole(),
        "input": Text(),
        "classes": Whole(1, MAX_CLASSES),
        "preprocess": Json(_PREPROCESS, decoded=False),
        "activation": OneOf(*ACTIVATIONS),
        "labels": _DIGEST,
        "names": Items(Text(1 << 20), most=MAX_CLASSES),
        "files": Object(others=_DIGEST, keys=Text(1 << 16, least=1, path=True), most=10_000),
        "libraries": Object(others=Text(1_000)),
        "torch": Text(1_000),
    },
    others=Anything(),
)

_RATES = Object(
    {"flops_per_second": _RATE, "bytes_per_second": _RATE, "seconds_per_call": _RATE},
    optional={
        **dict.fromkeys(("cached_bytes_per_second", "cache_bytes"), _RATE),
        **dict.fromkeys(("seconds_per_gather", "seconds_per_overlay"), _SECONDS),
        "reduced": Items(Row(Text(100), _RATE), most=100),
        "measured": _DATE,
    },
)
_COUNT = Whole(1, 1 << 31)
_PAIR = Row(_COUNT, _COUNT)
_LAYER = Object(
    {"in_channels": _COUNT, "out_channels": _COUNT}, optional={"kernel": _PAIR, "stride": _PAIR, "groups": _COUNT}
)

_SHAPE = Object(
    {
        "patch": _PAIR,
        "stride": _PAIR,
        "fill": Text(1_000),
        "score": Text(100),
        "classes": Object(
            {
                "kind": OneOf("top", "all", "list"),
                "k": Whole(0, MAX_CLASSES),
                "indices": Items(Whole(0, MAX_CLASSES), most=MAX_CLASSES),
            }
        ),
        "precision": Text(100),
    },
    optional={"edges": Text(100), "window": Row(Number(), Number())},
    others=Anything(),
)
#: Recipes of other versions have other keys, and count for nothing.
_RECIPE = Object(
    optional={
        "reconstruction": Whole(0, 1 << 31),
        "operator": Text(100),
        "where": Text(100),
        "precision": Text(100),
        "step": Whole(0, MAX_SIDE),
        **dict.fromkeys(("tau", "tau_deep", "fraction"), Number(0, 1)),
        "doubt": Number(0),
    },
    others=Anything(),
)

#: What helps where nothing less does.
RESTORE = "Restore the file from a copy, or give another path."


@dataclass(frozen=True)
class Table:
    """The columns of one table, as far as they are read.

    Attributes:
        name: the table's.
        columns: the form of each.
        key: the columns that a row is called by in a message.
        remedy: what helps where a row is damaged; `{}` stands for the first of these columns.
    """

    name: str
    columns: Mapping[str, Form]
    key: tuple[str, ...]
    remedy: str = RESTORE

    def checked(self, names: Sequence[str], row: Sequence[Any]) -> list[Any]:
        """The values of a row, those of JSON columns decoded.

        Raises:
            Unfit: one has not the form of its column; the message names the row.
        """
        values = []
        for name, value in zip(names, row, strict=True):
            try:
                values.append(self.columns[name].check(value))
            except Unfit as unfit:
                key = ", ".join(shown(value) for name, value in zip(names, row, strict=True) if name in self.key)
                called = f", row {key}" if key else ""
                raise Unfit(str(unfit), f"table {self.name}{called}, column {name}") from None
        return values

    def remedy_for(self, names: Sequence[str], row: Sequence[Any]) -> str:
        """What helps against a damaged row."""
        first = dict(zip(names, row, strict=True)).get(self.key[0])
        return self.remedy.format(first) if isinstance(first, str) and first.isprintable() else self.remedy_unnamed

    @property
    def remedy_unnamed(self) -> str:
        """What helps where the row's own name is damaged."""
        return RESTORE if "{}" in self.remedy else self.remedy


MODELS = Table(
    "models",
    {
        "name": Text(10_000, least=1),
        "kind": Text(100),
        "source": _PATH,
        "options": Json(_OPTIONS, MOST_VALUE),
        "created": _DATE,
        "fingerprint": Text(1_000),
        "summary": Json(_SUMMARY, MOST_VALUE),
    },
    ("name",),
    "DROP MODEL {} forgets it; then CREATE MODEL creates it again.",
)
SETTINGS = Table("settings", {"name": _NAME, "value": Text(1_000)}, ("name",), "SET {} = ... sets it again.")
_MEASURE = "CALIBRATE forgets it, and measures again."
RATES = Table("rates", {"device": _NAME, "value": Json(_RATES, 1 << 20)}, ("device",), _MEASURE)
LAYER_RATES = Table(
    "layer_rates",
    {
        "device": _NAME,
        "layer": Json(_LAYER, 1 << 20),
        "algorithm": Text(1_000),
        "flops_per_second": _RATE,
        "measured": _DATE,
    },
    ("device", "layer", "algorithm"),
    _MEASURE,
)
PROFILES = Table(
    "profiles",
    {
        "model": Text(10_000),
        "fingerprint": Text(1_000),
        "shape": Json(_SHAPE, 1 << 22),
        "device": _NAME,
    },
    ("model",),
    "DROP PROFILES {} forgets it.",
)
_ANALYZE = "DROP PROFILES forgets the profiles of a model, and ANALYZE measures them again."
PROFILED_IMAGES = Table(
    "profiled_images",
    {"number": Whole(), "image": Text(), "name": _PATH, "seconds": _SECONDS, "measured": _DATE},
    ("name",),
    _ANALYZE,
)
PROFILED_RECIPES = Table(
    "profiled_recipes",
    {
        "number": Whole(),
        "recipe": Json(_RECIPE, 1 << 20),
        "ssim": Number(-2, 2),
        "seconds": _RATE,
        "further": Number(0),
    },
    ("recipe",),
    _ANALYZE,
)
