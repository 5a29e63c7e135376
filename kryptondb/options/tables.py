"""The options of the language, table by table, in the order in which the reference shows them."""

from __future__ import annotations

from kryptondb.grammar.statements import TopK
from kryptondb.options.kinds import (
    Choice,
    Classes,
    Device,
    Duration,
    Either,
    Items,
    Number,
    Pair,
    Text,
    Whole,
    Window,
)
from kryptondb.options.option import Option, Table
from kryptondb.options.words import (
    ARRAY_AXES,
    DEFAULT_CONFIDENCE,
    EDGES,
    FILLS,
    PRECISIONS,
    SCORES,
)

_PIXELS = Whole(1, of="pixels")
_LEVEL = Number(0, 1)

_PATCH = Option("patch", Pair(_PIXELS), "the [rectangle](#patch-and-stride) of the model's input that is covered", 16)
_STRIDE = Option("stride", Pair(_PIXELS), "how far it [moves](#patch-and-stride) from one position to the next", 4)

OCCLUDE = Table(
    "occlude",
    "occlude option",
    _PATCH,
    _STRIDE,
    Option(
        "fill",
        Either(
            Choice(*FILLS, other={"grey": "gray"}),
            _LEVEL,
            Items(_LEVEL, 3, 3, said="a color (r, g, b) of three such numbers"),
        ),
        "what the patch is [painted with](#fill)",
        "gray",
        hint="A level of 0 to 255 is divided by 255: 128 is 0.502.",
    ),
    Option("class", Classes(), "the [classes](#class) that maps are made for", TopK(1)),
    Option(
        "score",
        Choice(*SCORES),
        "the [number](#score) that is mapped",
        otherwise="`'probability'`, or `'output'` of a model that gives none",
    ),
    Option("edges", Choice(*EDGES), "whether patches that the lower and right [edge](#edges) cuts come too", "fit"),
    Option(
        "window",
        Window(),
        "the [values](#window) between black and white",
        otherwise="the file's own",
    ),
    Option(
        "axes",
        Choice(*ARRAY_AXES),
        "how an array bound to a parameter lies in [memory](#axes); needed where its shape may be either",
        otherwise="`'CHW'` for a torch tensor, else `'HWC'`",
    ),
)

REDUNDANCY = Table("redundancy", "redundancy option", _PATCH, _STRIDE)

ANALYZE = Table(
    "analyze",
    "ANALYZE option",
    *OCCLUDE.rows,
    Option("budget", Duration(), "when to stop"),
    Option(
        "confidence",
        Number(0, 1, above=True, below=True),
        "of the bounds in the answer",
        DEFAULT_CONFIDENCE,
    ),
)

USING = Table(
    "using",
    "hint",
    Option(
        "operator",
        Text("the name of an operator"),
        "`'full'`, `'incremental'`, `'thresholded'` (with a `tau`), `'drill-down'`, `'refined'`, and with a time"
        " `'anytime'`",
    ),
    Option("device", Device(), "where the network runs"),
    Option(
        "precision",
        Choice(*PRECISIONS),
        "of the numbers; `bfloat16` and `float16` [round what the patch"
        " changes](../how-it-works.md#rounding-what-changes-and-no-more), with `'full'` and on a GPU everything",
    ),
    Option("batch", Whole(1, 65_536, of="positions"), "positions that run at once"),
    Option(
        "convolution",
        Choice("auto", "accurate", "direct"),
        "`'accurate'` for Winograd's method in small blocks alone, a third of the errors; `'direct'` to leave every"
        " convolution to torch",
    ),
    Option(
        "tau",
        Number(0, 1, above=True),
        "for `thresholded`, `drill-down` and `refined`: which share of a layer's height and width a region keeps;"
        " `thresholded` needs it, `refined` takes 0.6, `drill-down` none",
        hint="It is the share of each layer's height and width that regions keep; with 1 nothing is cut off.",
    ),
    Option(
        "step",
        Whole(1, 64),
        "for `drill-down` and `refined`: the distance of the rows and columns that are computed exactly; 3 and 4 by"
        " default",
        hint="With 3, the cells of every third row and column are computed first.",
    ),
    Option(
        "fraction",
        Number(0, 1),
        "for the same two: the share of the cells that is computed where the map is least sure; 0.1 for `drill-down`"
        " and none for `refined` by default",
        hint="It is the share of all cells that is computed afterwards.",
    ),
    Option(
        "chosen",
        Choice("uncertain", "drop"),
        "which cells that share is of: `'uncertain'`, where the map is least sure, or `'drop'`, the paper's choice,"
        " where the score falls most",
    ),
    Option(
        "doubt",
        Number(0, 10, above=True),
        "instead of a `fraction`: every cell of which the map is less sure than that is computed, about 0.1 to 0.5;"
        " images that are hard to interpolate get more cells than easy ones",
        hint="Cells of which the map is less sure than that are computed afterwards, about 0.1 to 0.5.",
    ),
)
