"""The physical operators: ways to compute the cells of one image. Adding one is its own file and one line here."""

from kryptondb.executor.operators.anytime import Anytime
from kryptondb.executor.operators.context import ImageContext, Scores
from kryptondb.executor.operators.drill_down import DrillDown
from kryptondb.executor.operators.full import Full
from kryptondb.executor.operators.incremental import Incremental
from kryptondb.executor.operators.refined import Refined
from kryptondb.executor.operators.staged import Staged
from kryptondb.executor.operators.thresholded import Thresholded

#: Any of them.
AnyOperator = Full | Incremental | Staged

OPERATORS: tuple[type[AnyOperator], ...] = (Incremental, Full, Thresholded, DrillDown, Refined, Anytime)

__all__ = [
    "AnyOperator",
    "Anytime",
    "OPERATORS",
    "ImageContext",
    "DrillDown",
    "Full",
    "Incremental",
    "Refined",
    "Scores",
    "Staged",
    "Thresholded",
]
