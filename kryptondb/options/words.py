"""Words and limits of options that code of other rooms needs too. Nothing is imported here."""

from __future__ import annotations

# occlude
FILLS = ("black", "gray", "white", "mean", "patch_mean", "blur", "gaussian")
SCORES = ("probability", "logit", "log_probability", "output")
EDGES = ("fit", "cover")
ARRAY_AXES = ("HWC", "CHW")

# USING
PRECISIONS = ("float32", "float64", "bfloat16", "float16")

# WITH and ANALYZE
DEFAULT_CONFIDENCE = 0.9

# CREATE MODEL
MAX_CLASSES = 100_000
MAX_SIDE = 8192  # pixels of a model's input; one float32 RGB input of that size is 800 MB
MAX_CHANNELS = 64  # of a model's input
WEIGHT_WORDS = ("default", "random")
ACTIVATIONS = ("softmax", "sigmoid", "none")
LAYOUTS = ("channels_first", "channels_last")
INTERPOLATIONS = ("bilinear", "bicubic", "nearest")

# COPY
FORMULAS = ("escape", "keep")  # what is done with text that a spreadsheet would run; the default first
SMALLEST_SIDE, LARGEST_SIDE = 16, 4096  # of a drawn picture: to blend 16 million pixels takes a few hundred MB
MOST_CONTOURS = 16  # more lines than this say nothing any more

# SET
MIN_MEMORY = 64 << 20
MAX_THREADS = 4096

# What follows the `#` of a path
PLANES = ("axial", "coronal", "sagittal")
