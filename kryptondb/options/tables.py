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

_PATCH = Option(
    "patch", Pair(_PIXELS), "the size of the [rectangle](#patch-and-stride) that is covered, in the model's input", 16
)
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
    Option("class", Classes(), "the [classes](#class) to explain", TopK(1)),
    Option(
        "score",
        Choice(*SCORES),
        "the [number](#score) that the map is about",
        otherwise="`'probability'`; `'output'` for a model without probabilities",
    ),
    Option("edges", Choice(*EDGES), "whether to add patches that the lower and right [edge](#edges) cuts", "fit"),
    Option(
        "window",
        Window(),
        "the range of [values](#window) from black to white",
        otherwise="the file's own",
    ),
    Option(
        "axes",
        Choice(*ARRAY_AXES),
        "the order of an array's [axes](#axes); needed if its shape can be read both ways",
        otherwise="`'CHW'` for a torch tensor, else `'HWC'`",
    ),
)

REDUNDANCY = Table("redundancy", "redundancy option", _PATCH, _STRIDE)

ANALYZE = Table(
    "analyze",
    "ANALYZE option",
    *OCCLUDE.rows,
    Option("budget", Duration(), "the time after which to stop"),
    Option(
        "confidence",
        Number(0, 1, above=True, below=True),
        "the confidence of the bounds in the answer",
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
        "the number format; `bfloat16` and `float16` [round only what the patch"
        " changes](../how-it-works.md#rounding-only-what-changes), but everything with `'full'` and on a GPU",
        "float32",
    ),
    Option(
        "batch",
        Whole(1, 65_536, of="positions"),
        "how many positions run at once; if the network or the memory allows only fewer, the line `reason` of"
        " `EXPLAIN` says so",
        otherwise="by cost",
    ),
    Option(
        "convolution",
        Choice("auto", "accurate", "direct"),
        "`'accurate'` allows Winograd's method only in small blocks, which have a third of the error; `'direct'` leaves"
        " every convolution to torch",
        "auto",
    ),
    Option(
        "tau",
        Number(0, 1, above=True),
        "for `thresholded`, `drill-down` and `refined`: the fraction of a layer's height and width that a region"
        " keeps; required for `thresholded`, 0.6 by default for `refined`, and none for `drill-down`",
        hint="It is the fraction of each layer's height and width that regions keep; with 1 nothing is cut off.",
    ),
    Option(
        "step",
        Whole(1, 64),
        "for `drill-down` and `refined`: the distance between rows and columns that are computed exactly; 3 and 4 by"
        " default",
        hint="With 3, the cells of every third row and column are computed first.",
    ),
    Option(
        "fraction",
        Number(0, 1),
        "for the same two: the fraction of all cells that are computed afterwards, where the map is least certain; by"
        " default 0.1 for `drill-down` and none for `refined`",
        hint="It is the fraction of all cells that are computed afterwards.",
    ),
    Option(
        "chosen",
        Choice("uncertain", "drop"),
        "which cells `fraction` chooses: `'uncertain'`, where the map is least certain, or `'drop'`, where the score"
        " falls most (the paper's choice)",
    ),
    Option(
        "doubt",
        Number(0, 10, above=True),
        "instead of a `fraction`: a limit of uncertainty, about 0.1 to 0.5; every cell above it is computed, so images"
        " that are hard to interpolate get more cells than easy ones",
        hint="It is a limit of uncertainty, about 0.1 to 0.5: cells above it are computed afterwards.",
    ),
)

_LOOK = (
    Option("values", Choice("drop", "score"), "what is drawn", "drop"),
    Option("opacity", _LEVEL, "the opacity of the strongest color", 0.6),
    Option(
        "scale", Span(), "the values at the ends of the color bar; set it to compare maps", otherwise="each map's own"
    ),
    Option(
        "colormap",
        Text(
            "the name of a matplotlib color map",
            ("managua_r", "viridis_r", "magma", "inferno", "cividis", "turbo", "coolwarm", "RdBu_r", "gray"),
        ),
        "the colors",
        otherwise="depends on `values`",
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
    Option("colorbar", Flag(), "whether a color bar is drawn", True),
    Option(
        "title", Flag(), "whether a title is drawn; without a title and a color bar, only the picture is left", True
    ),
    Option("contours", Items(Level(), 0, MOST_CONTOURS, alone=True), "the values at which contour lines are drawn"),
    Option("side_by_side", Flag(), "whether the picture without a map is drawn to the left", False),
)

_IPC = (Option("compression", Choice("none", "lz4", "zstd"), "how columns are compressed", "none"),)
_BY_FORMAT: Mapping[str, tuple[Option, ...]] = {
    "arrow": _IPC,
    "arrows": _IPC,
    "parquet": (
        Option(
            "compression",
            Choice("none", "snappy", "gzip", "zstd", "lz4", "brotli"),
            "how columns are compressed",
            "snappy",
        ),
    ),
    "csv": (
        Option("header", Flag(), "whether the first line has the column names", True),
        Option("delimiter", Character(), "the character between two values", ","),
        Option(
            "formulas",
            Choice(*FORMULAS),
            "how to write text that a spreadsheet would run; see below",
            FORMULAS[0],
        ),
    ),
    "png": _FIGURE,
    "html": _LOOK,
    "dicom": _FIGURE,
}
#: Which of COPY's tables is meant.
FORMAT = Option("format", Choice(*_BY_FORMAT), "the format of the file", otherwise="from the path's suffix")
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
        "the size before a crop: of the short side, or of both",
        otherwise=_OWN,
    ),
    Option("crop", Either(Flag(), Pair(_SIDE)), "the size of the part that is cut out of the middle", otherwise=_OWN),
    Option(
        "letterbox", Either(Flag(), _LEVEL), "fits the whole picture in, with bars of this level around it; `TRUE` is 0"
    ),
    Option("interpolation", Choice(*INTERPOLATIONS), "how a picture is resized", otherwise=_OWN),
    Option("antialias", Flag(), "whether a picture is smoothed when it is made smaller", otherwise=_OWN),
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
        "the value of the brightest pixel before mean and std: 1 or 255",
        otherwise=_OWN,
    ),
    Option(
        "mean",
        Items(Number(), 1, MAX_CHANNELS, alone=True),
        "the value to subtract from each channel",
        otherwise=_OWN,
    ),
    Option(
        "std",
        Items(Number(0, above=True), 1, MAX_CHANNELS, alone=True),
        "the value to divide each channel by",
        otherwise=_OWN,
    ),
)
_OUTPUT = (
    Option(
        "output",
        Either(Whole(0, MAX_CLASSES), Text("the name of an output")),
        "the output that holds the scores, if there are several: its name, or its number from 0",
        otherwise="the only one",
    ),
    Option(
        "activation",
        Choice(*ACTIVATIONS),
        "turns scores into probabilities; `'sigmoid'` where classes do not exclude each other, `'none'` for a measure"
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
        "memory that a query may use besides the network's weights, including the rows that it keeps; `'auto'` is half"
        " of the free memory",
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
        "when a progress bar is shown: `'auto'` after a second, on a terminal or in a notebook; `'on'` at once; `'off'`"
        " never",
        "auto",
    ),
    words=True,
    remedy="SHOW SETTINGS lists them.",
)

EXPLAIN = Table(
    "explain",
    "EXPLAIN option",
    Option("format", Choice("text", "json"), "`'json'` is for programs", "text"),
    words=True,
)

_COLUMN = Option("column", Text("the name of a column in quotes"), "the column that holds the pictures", "image")
TABLE_FILES = Table("table file", "table option", _COLUMN)
#: What may stand behind the `#` of a table's path, and of any other.
TABLE_FRAGMENTS = Table(
    "table path", "table option", _COLUMN, Option("row", Whole(0), "a row of the table, from 0", otherwise="all")
)
_MOST = 10**9
FRAGMENTS = Table(
    "path",
    "part",
    Option("frame", Whole(1, _MOST), "a frame of a DICOM file, from 1"),
    Option("page", Whole(1, _MOST), "a page of a TIFF file, from 1"),
    Option("slice", Whole(0, _MOST), "a slice of a NIfTI volume, from 0"),
    Option("axis", Choice(*PLANES), "the plane of the slice"),
    Option("volume", Whole(0, _MOST), "a volume of a NIfTI file with several, from 0"),
)
