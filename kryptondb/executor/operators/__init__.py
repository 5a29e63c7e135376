"""The physical operators: ways to compute the cells of one image. Adding one is its own file and one line here."""

from kryptondb.executor.operators.context import Context, Scores
from kryptondb.executor.operators.full import Full
from kryptondb.executor.operators.incremental import Incremental

OPERATORS: tuple[type[Full] | type[Incremental], ...] = (Incremental, Full)

__all__ = ["OPERATORS", "Context", "Full", "Incremental", "Scores"]
