"""A table's equivalence classes at given levels, fast: what the lattice search does over and over.

Each row gets one number, its labels' codes as digits. Those are sorted together with the rows' own numbers, both packed
into one 64-bit integer, because sorting plain integers is several times faster than sorting by a key. A table that was
grouped stands for all its records at those and all coarser levels: each class becomes one row (`Grouped.rolled_up`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from privacy_platform.anonymization.kanonymity.evaluate import Classes, classes_of
from privacy_platform.anonymization.kanonymity.ladders import Ladder
from privacy_platform.anonymization.kanonymity.tuples import Sensitive, Tuples

__all__ = ["Grouped", "RollUp", "Table", "group"]

_SPARE = 2
"""All tables that are kept together have at most so many times the rows of the first."""


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """Tuples by column.

    Attributes:
        columns: for each quasi-identifier, the code of every row's base value.
        counts: int64, records of every row.
        sensitive: sensitive attribute → its counts over the rows.
    """

    columns: tuple[npt.NDArray[np.intp], ...]
    counts: npt.NDArray[np.int64]
    sensitive: Mapping[str, Sensitive]

    @classmethod
    def of(cls, tuples: Tuples) -> "Table":
        """The table of the distinct tuples."""
        columns = tuple(np.ascontiguousarray(column, np.intp) for column in tuples.codes.T)
        return cls(columns, tuples.counts, tuples.sensitive)


@dataclass(frozen=True, slots=True, eq=False)
class Grouped:
    """The classes of a table at some levels. Their order depends on the levels and the records alone.

    Attributes:
        table: what was grouped.
        order: the table's rows, class by class.
        starts: where each class begins in `order`.
        counts: int64, records of each class.
    """

    table: Table
    order: npt.NDArray[np.int64]
    starts: npt.NDArray[np.intp]
    counts: npt.NDArray[np.int64]

    @property
    def rows(self) -> npt.NDArray[np.int64]:
        """One row of each class."""
        return self.order[self.starts]

    def groups(self) -> npt.NDArray[np.int64]:
        """The class of every row."""
        sizes = np.diff(np.append(self.starts, len(self.order)))
        groups = np.empty(len(self.order), np.int64)
        groups[self.order] = np.repeat(np.arange(len(self.starts)), sizes)
        return groups

    def classes(self) -> Classes:
        """The classes with their sensitive values counted."""
        if not self.table.sensitive:
            return Classes(self.counts)
        whole = Tuples(np.empty((len(self.order), 0), np.int32), self.table.counts, self.table.sensitive)
        return classes_of(self.groups(), len(self.starts), whole)

    def rolled_up(self, classes: Classes) -> Table:
        """The classes as rows of a table of their own; `classes` is what `classes()` gave."""
        rows = self.rows
        sensitive = {
            name: Sensitive(cells.values, cells.group, cells.value.astype(np.int32), cells.count)
            for name, cells in classes.sensitive.items()
        }
        return Table(tuple(column[rows] for column in self.table.columns), self.counts, sensitive)


def group(table: Table, ladders: Sequence[Ladder], levels: Sequence[int]) -> Grouped:
    """Group the rows that have the same label in every column at the given levels, one a column."""
    rows = len(table.counts)
    bits = rows.bit_length()
    keys = np.zeros(rows, np.int64)
    span = 1
    for column, ladder, level in zip(table.columns, ladders, levels, strict=True):
        labels = len(ladder.labels[level])
        if span * labels >= 1 << (63 - bits):
            # The digits do not fit any more: number the keys so far anew, in the same order.
            keys = np.unique(keys, return_inverse=True)[1]
            span = rows
        if labels > 1:
            keys += (ladder.codes[level] * np.int64(span))[column]
        span *= labels
    packed = np.sort((keys << bits) | np.arange(rows))
    order = packed & ((1 << bits) - 1)
    packed >>= bits
    starts = np.flatnonzero(np.concatenate([[True], packed[1:] != packed[:-1]]))[:rows]
    counts = np.add.reduceat(table.counts[order], starts) if rows else table.counts
    return Grouped(table, order, starts, counts)


class RollUp:
    """Groups a table at many levels, each time starting from the smallest table that is known at or below them.

    Args:
        table: the table.
        ladders: what its columns can become.
    """

    def __init__(self, table: Table, ladders: Sequence[Ladder]) -> None:
        self._ladders = ladders
        self._tables = [table]
        self._levels = np.zeros((1, len(ladders)), np.int64)
        self._spare = _SPARE * len(table.counts)

    def group(self, levels: Sequence[int]) -> Grouped:
        """The classes of the table at these levels; the same whatever was grouped before."""
        below = np.flatnonzero((self._levels <= np.asarray(levels)).all(axis=1))
        smallest = min((self._tables[i] for i in below), key=lambda table: len(table.counts))
        return group(smallest, self._ladders, levels)

    def keep(self, levels: Sequence[int], grouped: Grouped, classes: Classes) -> None:
        """Let later groupings start from this one, if that saves at least half of the rows."""
        rows = len(grouped.counts)
        if rows <= min(len(grouped.order) // 2, self._spare):
            self._tables.append(grouped.rolled_up(classes))
            self._levels = np.vstack([self._levels, levels])
            self._spare -= rows
