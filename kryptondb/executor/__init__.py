"""Runs physical plans: pictures in, Arrow record batches out, image by image.

    execution = Execution(plan, models=..., bindings=...)
    for batch in execution.batches(): ...

`run` turns the plan's nodes into stages; `occlusion` opens pictures and asks the experiment for cells; `heatmaps`,
`stages` and `aggregates` work on the rows. The physical operators (how cells are computed) are in `operators`, the
experiment that they serve in `experiment`.
"""

from __future__ import annotations

from kryptondb.executor.resources import ImageFailure, Progress, Stats
from kryptondb.executor.run import Execution

__all__ = ["Execution", "ImageFailure", "Progress", "Stats"]
