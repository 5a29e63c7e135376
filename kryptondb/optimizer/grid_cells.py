"""Which cells of a grid: a few numbers for millions of cells, where its rows and columns are of few kinds."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, reduce

import numpy as np

#: Of up to so many cells, as many as are wanted are drawn; of more, each is drawn by a number made of its place.
_DRAWN = 1 << 18
#: Of fewer pairs of numbers, those that occur are counted, which takes less time than to sort them.
_FEW_PAIRS = 1 << 16


class GridCells(ABC):
    """Some cells of a grid, as planning looks at them: how many there are, and which of them some lines hold.

    They compare by value and are hashable, so that what is found out about them can be kept.
    """

    @property
    @abstractmethod
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the grid."""

    @property
    @abstractmethod
    def count(self) -> int:
        """How many cells."""

    @property
    @abstractmethod
    def lines(self) -> tuple[np.ndarray, np.ndarray]:
        """The rows that may hold a cell, and the columns, ascending; int64 each."""

    @abstractmethod
    def at(self, rows: np.ndarray, cols: np.ndarray) -> np.ndarray:
        """Whether each pair of some rows and some columns is one of the cells, boolean [rows, cols]."""

    @property
    def by_kind(self) -> CellsByKind:
        """The same with the kinds of their rows and columns."""
        return CellsByKind.of_mask(self.mask)

    @property
    def is_block(self) -> bool:
        """Whether every pair of their lines is one of them."""
        rows, cols = self.lines
        return len(rows) * len(cols) == self.count

    @property
    def mask(self) -> np.ndarray:
        """All cells of the grid: whether each is one of them, boolean [rows, cols]."""
        return self.at(*(np.arange(count) for count in self.shape))


@dataclass(frozen=True, eq=False)
class CellsByKind(GridCells):
    """Rows that hold the same cells are of one kind, and so are columns: a lattice has two kinds of each.

    Attributes:
        rows, cols: the kind of each row and of each column of the grid, int64.
        held: for each kind of rows and each of columns whether they cross in one of the cells, boolean.
    """

    rows: np.ndarray
    cols: np.ndarray
    held: np.ndarray

    @classmethod
    def all_of(cls, shape: tuple[int, int]) -> CellsByKind:
        """Every cell of a grid."""
        rows, cols = (np.zeros(count, dtype=np.int64) for count in shape)
        return cls(rows, cols, np.ones((1, 1), dtype=bool))

    @classmethod
    def of_mask(cls, mask: np.ndarray) -> CellsByKind:
        """The cells of a boolean mask [rows, cols]."""
        rows, some_rows = _kinds_of_lines(np.packbits(mask, axis=1))
        cols, some_cols = _kinds_of_lines(np.packbits(mask, axis=0).T)
        return cls(rows, cols, mask[np.ix_(some_rows, some_cols)])

    @classmethod
    def told_by(
        cls,
        of_rows: Sequence[np.ndarray],
        of_cols: Sequence[np.ndarray],
        held: Callable[[np.ndarray, np.ndarray], np.ndarray],
    ) -> CellsByKind:
        """Cells for which nothing counts but a few numbers of their row and of their column.

        Args:
            of_rows, of_cols: these numbers, int64 [rows] and [cols] each.
            held: `(rows, cols)` -> whether each pair is one of the cells, boolean [rows, cols].
        """
        (rows, some_rows), (cols, some_cols) = (
            _first_of_each(reduce(_together, numbers)) for numbers in (of_rows, of_cols)
        )
        return cls(rows, cols, held(some_rows, some_cols))

    def __sub__(self, other: CellsByKind) -> CellsByKind:
        return self._with(other, lambda rows, cols: self.at(rows, cols) & ~other.at(rows, cols))

    def __or__(self, other: CellsByKind) -> CellsByKind:
        return self._with(other, lambda rows, cols: self.at(rows, cols) | other.at(rows, cols))

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, CellsByKind) and self._key == other._key)

    def __hash__(self) -> int:
        return self._hash

    @property
    def by_kind(self) -> CellsByKind:
        """They themselves."""
        return self

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the grid."""
        return len(self.rows), len(self.cols)

    @cached_property
    def count(self) -> int:
        """How many cells."""
        of_rows, of_cols = (np.bincount(kinds, minlength=n) for kinds, n in self._kinds)
        return int(of_rows @ (self.held @ of_cols))

    @cached_property
    def lines(self) -> tuple[np.ndarray, np.ndarray]:
        """The rows that hold a cell, and the columns, ascending; int64 each."""
        some_rows, some_cols = (np.asarray(self.held.any(axis=axis)) for axis in (1, 0))
        return np.flatnonzero(some_rows[self.rows]), np.flatnonzero(some_cols[self.cols])

    def at(self, rows: np.ndarray, cols: np.ndarray) -> np.ndarray:
        """Whether each pair of some rows and some columns is one of the cells, boolean [rows, cols]."""
        found: np.ndarray = self.held[np.ix_(self.rows[rows], self.cols[cols])]
        return found

    def scattered(self, count: int) -> GridCells:
        """So many of them without a pattern, the same ones every time."""
        if count >= self.count:
            return self
        if count and self.shape[0] * self.shape[1] > _DRAWN:
            return _Scattered(self, count)
        left = np.flatnonzero(self.mask)
        drawn = np.zeros(self.shape, dtype=bool)
        drawn.flat[np.random.default_rng(0).permutation(left)[:count]] = True
        return CellsByKind.of_mask(drawn)

    def _with(self, other: CellsByKind, held: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> CellsByKind:
        return CellsByKind.told_by((self.rows, other.rows), (self.cols, other.cols), held)

    @property
    def _kinds(self) -> tuple[tuple[np.ndarray, int], tuple[np.ndarray, int]]:
        """The kinds of lines along each axis, and how many there are."""
        return (self.rows, self.held.shape[0]), (self.cols, self.held.shape[1])

    @cached_property
    def _key(self) -> tuple[bytes, ...]:
        return self.rows.tobytes(), self.cols.tobytes(), np.packbits(self.held).tobytes()

    @cached_property
    def _hash(self) -> int:
        return hash(self._key)


@dataclass(frozen=True)
class _Scattered(GridCells):
    """About so many cells of others, each drawn by a number made of its place: only those looked at are drawn."""

    others: CellsByKind
    wanted: int

    @property
    def shape(self) -> tuple[int, int]:
        return self.others.shape

    @property
    def count(self) -> int:
        return self.wanted

    @property
    def lines(self) -> tuple[np.ndarray, np.ndarray]:
        return self.others.lines

    def at(self, rows: np.ndarray, cols: np.ndarray) -> np.ndarray:
        drawn: np.ndarray = self.others.at(rows, cols)
        drawn &= _mixed(rows, cols) < self.wanted / self.others.count * 2**32
        return drawn


def _kinds_of_lines(lines: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which rows of a matrix are equal: the kind of each, int64, and the first of each kind."""
    kinds = numbered([line.tobytes() for line in lines])
    return _first_of_each(kinds)


def numbered(parts: Sequence[bytes]) -> np.ndarray:
    """A number for each part, from 0 on in the order in which they first occur; equal ones have the same. int64."""
    numbers = {part: number for number, part in enumerate(dict.fromkeys(parts))}
    return np.array([numbers[part] for part in parts], dtype=np.int64)


def _together(kinds: np.ndarray, more: np.ndarray) -> np.ndarray:
    """The kinds of lines for which both numbers count, int64 [lines] each."""
    pairs = kinds * (int(more.max(initial=0)) + 1) + more
    if pairs.max(initial=0) >= _FEW_PAIRS:
        return np.unique(pairs, return_inverse=True)[1].reshape(-1)
    found: np.ndarray = (np.cumsum(np.bincount(pairs) > 0) - 1)[pairs]
    return found


def _first_of_each(kinds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The kinds of lines, int64 [lines], with the first line of each kind."""
    first = np.empty(int(kinds.max(initial=-1)) + 1, dtype=np.int64)
    first[kinds[::-1]] = np.arange(len(kinds))[::-1]
    return kinds, first


def _mixed(rows: np.ndarray, cols: np.ndarray) -> np.ndarray:
    """A number of 32 bits for each pair of a row and a column in which their bits are mixed, uint32 [rows, cols]."""
    mixed: np.ndarray = rows.astype(np.uint32)[:, None] * np.uint32(0x9E3779B1) + cols.astype(np.uint32) * np.uint32(
        0x85EBCA6B
    )
    for shift, factor in ((15, 0x2C1B3C6D), (12, 0x297A2D39), (15, 1)):  # as hash functions end
        mixed = (mixed ^ (mixed >> np.uint32(shift))) * np.uint32(factor)
    return mixed
