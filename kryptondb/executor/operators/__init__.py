"""The physical operators: ways to compute the cells of one image. Adding one is its own file and one line here."""

from kryptondb.executor.operators.context import Context, Scores
from kryptondb.executor.operators.full import Full
from kryptondb.executor.operators.incremental import Incremental
from kryptondb.executor.operators.thresholded import Thresholded

OPERATORS: tuple[type[Full] | type[Incremental], ...] = (Incremental, Full, Thresholded)

__all__ = ["OPERATORS", "Context", "Full", "Incremental", "Scores", "Thresholded"]
