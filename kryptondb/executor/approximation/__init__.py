"""Approximate maps out of a part of their cells: which cells are computed, and what the others become. Arrays alone."""

from kryptondb.executor.approximation.interpolation import (
    Lattice,
    import_what_reconstructs,
    lattice_cells,
    nearest_known,
)
from kryptondb.executor.approximation.reconstruction import Reconstruction, Round, StageCells, simulated, steps_of

__all__ = [
    "Lattice",
    "Reconstruction",
    "Round",
    "StageCells",
    "import_what_reconstructs",
    "lattice_cells",
    "nearest_known",
    "simulated",
    "steps_of",
]
