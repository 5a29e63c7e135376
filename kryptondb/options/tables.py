"""The options of the language, table by table, in the order in which the reference shows them."""

from __future__ import annotations

from collections.abc import Mapping

from kryptondb.grammar.statements import TopK
from kryptondb.options.kinds import (
    Character,
    Choice,
    Classes,
    Device,
    Duration,
    Either,
    Flag,
    Items,
    Label,
    Level,
    Memory,
    Number,
    Pair,
    Path,
    Span,
    Text,
    Whole,
    Window,
)
from kryptondb.options.option import Option, Table
from kryptondb.options.words import (
    ACTIVATIONS,
    ARRAY_AXES,
    DEFAULT_CONFIDENCE,
    EDGES,
    FILLS,
    FORMULAS,
    INTERPOLATIONS,
    LARGEST_SIDE,
    LAYOUTS,
    MAX_CHANNELS,
    MAX_CLASSES,
    MAX_SIDE,
    MAX_THREADS,
    MOST_CONTOURS,
    PLANES,
    PRECISIONS,
    SCORES,
    SMALLEST_SIDE,
    WEIGHT_WORDS,
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
        otherwise="the cheapest",
    ),
    Option("device", Device(), "where the network runs", otherwise="the setting's"),
    Option(
        "precision",
        Choice(*PRECISIONS),
        "of the numbers; `bfloat16` and `float16` [round what the patch"
        " changes](../how-it-works.md#rounding-what-changes-and-no-more), with `'full'` and on a GPU everything",
        "float32",
    ),
    Option(
        "batch",
        Whole(1, 65_536, of="positions"),
        "positions that run at once; where a network must run one by one, or memory allows fewer, the `reason` of"
        " `EXPLAIN` says that the hint is not kept",
        otherwise="by cost",
    ),
    Option(
        "convolution",
        Choice("auto", "accurate", "direct"),
        "`'accurate'` for Winograd's method in small blocks alone, a third of the errors; `'direct'` to leave every"
        " convolution to torch",
        "auto",
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

_LOOK = (
    Option("values", Choice("drop", "score"), "what is drawn", "drop"),
    Option("opacity", _LEVEL, "of the strongest color", 0.6),
    Option("scale", Span(), "the values at the ends of the color bar, to draw maps alike", otherwise="each map's own"),
    Option(
        "colormap",
        Text(
            "the name of a matplotlib color map",
            ("managua_r", "viridis_r", "magma", "inferno", "cividis", "turbo", "coolwarm", "RdBu_r", "gray"),
        ),
        "the colors",
        otherwise="by `values`",
    ),
    Option(
        "size",
        Whole(SMALLEST_SIDE, LARGEST_SIDE, of="pixels"),
        "the long side of the drawn picture",
        otherwise="560 to 1600",
    ),
)
_FIGURE = (
    *_LOOK,
    Option("colorbar", Flag(), "whether it stands beside the picture", True),
    Option("title", Flag(), "whether it stands above; without both, the picture is all there is", True),
    Option("contours", Items(Level(), 0, MOST_CONTOURS, alone=True), "where lines are drawn"),
    Option("side_by_side", Flag(), "whether the picture as it is stands to the left", False),
)

_IPC = (Option("compression", Choice("none", "lz4", "zstd"), "of the columns", "none"),)
_BY_FORMAT: Mapping[str, tuple[Option, ...]] = {
    "arrow": _IPC,
    "arrows": _IPC,
    "parquet": (
        Option("compression", Choice("none", "snappy", "gzip", "zstd", "lz4", "brotli"), "of the columns", "snappy"),
    ),
    "csv": (
        Option("header", Flag(), "whether a line with the names comes first", True),
        Option("delimiter", Character(), "what stands between two values", ","),
        Option(
            "formulas",
            Choice(*FORMULAS),
            "what is done with text that a spreadsheet would run; see below",
            FORMULAS[0],
        ),
    ),
    "png": _FIGURE,
    "html": _LOOK,
    "dicom": _FIGURE,
}
#: Which of COPY's tables is meant.
FORMAT = Option("format", Choice(*_BY_FORMAT), "what is written", otherwise="by the path's suffix")
COPY = {name: Table(f"copy {name}", f"{name} option", FORMAT, *rows, words=True) for name, rows in _BY_FORMAT.items()}

_OWN = "the network's own"
_SIDE = Whole(1, MAX_SIDE, of="pixels")
_WEIGHTS = (
    Option(
        "weights",
        Either(Choice(*WEIGHT_WORDS), Path("a .pth, .pt or .safetensors file")),
        "`'default'` are those that torchvision or timm publish; a file is never unpickled",
        otherwise="`'default'`",
    ),
    Option("classes", Whole(1, MAX_CLASSES), "how many classes there are", otherwise="those of the weights"),
    Option(
        "labels",
        Either(
            Items(Label(), 1, MAX_CLASSES, said=f"a list of at most {MAX_CLASSES:,} labels"),
            Path("a file with one label per line"),
        ),
        "the names of the classes",
        otherwise="those of the weights",
    ),
)
_INPUT = (
    Option("size", Pair(_SIDE), "the input's height and width", otherwise=_OWN),
    Option(
        "resize",
        Either(_SIDE, Items(_SIDE, 2, 2, said="a pair (height, width)")),
        "the short side, or both, before a crop",
        otherwise=_OWN,
    ),
    Option("crop", Either(Flag(), Pair(_SIDE)), "the size that is cut out of the middle", otherwise=_OWN),
    Option("letterbox", Either(Flag(), _LEVEL), "the level around a picture that is fitted in whole; `TRUE` is 0"),
    Option("interpolation", Choice(*INTERPOLATIONS), "how a picture is resized", otherwise=_OWN),
    Option("antialias", Flag(), "whether a picture is smoothed while it is made smaller", otherwise=_OWN),
)
_CHANNELS = (
    Option(
        "channels",
        Either(Choice("RGB", "L"), Whole(1, MAX_CHANNELS)),
        "the colors, or how many channels an array must have",
        otherwise=_OWN,
    ),
    Option(
        "scale",
        Number(0, above=True),
        "what the brightest pixel becomes before mean and std: 1, or 255",
        otherwise=_OWN,
    ),
    Option(
        "mean",
        Items(Number(), 1, MAX_CHANNELS, alone=True),
        "what is subtracted, by channel",
        otherwise=_OWN,
    ),
    Option(
        "std",
        Items(Number(0, above=True), 1, MAX_CHANNELS, alone=True),
        "what is divided by, by channel",
        otherwise=_OWN,
    ),
)
_OUTPUT = (
    Option(
        "output",
        Either(Whole(0, MAX_CLASSES), Text("the name of an output")),
        "which of several outputs holds the scores; they count from 0",
        otherwise="the only one",
    ),
    Option(
        "activation",
        Choice(*ACTIVATIONS),
        "what makes probabilities of them; `'sigmoid'` where classes do not exclude each other, `'none'` for a measure"
        " (then `score => 'output'`)",
        otherwise=_OWN,
    ),
    Option(
        "layout",
        Choice(*LAYOUTS),
        "`'channels_last'` where the module reads [N, H, W, C]",
        otherwise="`'channels_first'`",
    ),
)
MODEL = Table("create model", "model option", *_WEIGHTS, *_INPUT, *_CHANNELS, *_OUTPUT)
#: Which of them say how a picture becomes the input, and which what comes out.
PREPROCESS_OPTIONS = tuple(row.name for row in (*_INPUT, *_CHANNELS))
SCORE_OPTIONS = ("labels", "classes", "output", "activation")

SETTINGS = Table(
    "set",
    "setting",
    Option("device", Device(), "where networks run", "auto"),
    Option("threads", Either(Choice("auto"), Whole(1, MAX_THREADS)), "processor threads that a query may use", "auto"),
    Option(
        "memory_limit",
        Either(Choice("auto"), Memory()),
        "memory that a query may use beside the network's weights, the rows it keeps included; `'auto'` is half of what"
        " is free",
        "auto",
    ),
    Option(
        "on_error", Choice("continue", "stop"), "`'continue'` skips a bad picture, `'stop'` ends the query", "continue"
    ),
    Option(
        "tuning",
        Choice("auto", "off"),
        "a batch with a promise and no profile [measures some of its"
        " pictures](../how-to/batches.md#with-a-promise), chosen by hashing file names; `'off'` runs exactly",
        "auto",
    ),
    Option(
        "progress",
        Choice("auto", "on", "off"),
        "the progress bar, after a second on a terminal or in a notebook; `'on'` at once, `'off'` never",
        "auto",
    ),
    words=True,
    remedy="SHOW SETTINGS lists them.",
)

EXPLAIN = Table(
    "explain",
    "EXPLAIN option",
    Option("format", Choice("text", "json"), "`json` is for programs", "text"),
    words=True,
)

_COLUMN = Option("column", Text("the name of a column in quotes"), "the column that holds the pictures", "image")
TABLE_FILES = Table("table file", "table option", _COLUMN)
#: What may stand behind the `#` of a table's path, and of any other.
TABLE_FRAGMENTS = Table(
    "table path", "table option", _COLUMN, Option("row", Whole(0), "one row of it, from 0", otherwise="all")
)
_MOST = 10**9
FRAGMENTS = Table(
    "path",
    "part",
    Option("frame", Whole(1, _MOST), "of a DICOM file, from 1"),
    Option("page", Whole(1, _MOST), "of a TIFF file, from 1"),
    Option("slice", Whole(0, _MOST), "of a NIfTI volume, from 0"),
    Option("axis", Choice(*PLANES), "the plane of the slice"),
    Option("volume", Whole(0, _MOST), "of a NIfTI file with several, from 0"),
)
