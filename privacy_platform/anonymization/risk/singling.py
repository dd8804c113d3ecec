"""The smallest sets of columns that single people out.

A set of columns singles out a record when no other record has the same values in all of them. What a set singles out
every larger set does too, so only minimal sets are of interest, and no superset of one that was found is looked at. The
search goes by size, as Apriori does (Agrawal & Srikant 1994) and as algorithms for minimal unique column combinations
do (Heise et al. 2013), with a share of the records instead of all of them.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import numpy.typing as npt

__all__ = ["MAX_COLUMNS", "MAX_SIZE", "THRESHOLD", "Combination", "Singling", "single_out"]

THRESHOLD = 0.01
"""Share of records from which on a set of columns counts as identifying."""
MAX_SIZE = 4
MAX_COLUMNS = 30
MAX_WORK = 1_500_000_000
"""Tuples looked at in all: about ten seconds."""
_DENSE = 4
"""Keys are counted in an array of their whole range while that is at most so many times their number."""

_Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Combination:
    """A minimal set of columns and what it singles out.

    Attributes:
        columns: in the table's order.
        records: how many records no other shares the values of.
        share: the same as a share of all records.
    """

    columns: tuple[str, ...]
    records: int
    share: float


@dataclass(frozen=True, slots=True)
class Singling:
    """The outcome of the search.

    Attributes:
        combinations: all minimal sets found, the smallest first, then the most identifying.
        columns: the columns that were looked at.
        complete_to: every set of at most that many columns was considered.
        all_columns: share of the records that all columns together single out.
    """

    combinations: tuple[Combination, ...]
    columns: tuple[str, ...]
    complete_to: int
    all_columns: float


def single_out(
    names: Sequence[str],
    codes: npt.NDArray[np.int32],
    counts: _Ints,
    *,
    threshold: float = THRESHOLD,
    max_size: int = MAX_SIZE,
    max_work: int = MAX_WORK,
) -> Singling:
    """The minimal sets of at most `max_size` columns that single out more than `threshold` of the records.

    Args:
        names: the columns.
        codes: shape (tuples, columns), the values as numbers 0, 1, … of each column; tuples may repeat.
        counts: shape (tuples,), records of each tuple, all ≥ 1.
        threshold: share of the records.
        max_size: columns of a set.
        max_work: how many tuples may be looked at in all; a size that would need more is not begun.
    """
    search = _Search(codes, counts, threshold)
    order = range(len(names))
    everything = search.unique(tuple(order)) / max(1, search.records) if names else 0.0
    found: list[tuple[tuple[int, ...], int]] = []
    # Sets that do not single out; only they are worth enlarging.
    harmless: set[tuple[int, ...]] = {()}
    complete = max_size
    for size in range(1, max_size + 1) if everything > threshold else ():
        candidates = list(_candidates(harmless, len(names)))
        if len(candidates) * len(counts) > max_work:
            complete = size - 1
            break
        max_work -= len(candidates) * len(counts)
        harmless = set()
        for columns, unique in search.evaluate(candidates):
            if unique > threshold * search.records:
                found.append((columns, unique))
            else:
                harmless.add(columns)
    found.sort(key=lambda item: (len(item[0]), -item[1], item[0]))
    named = (Combination(tuple(names[c] for c in cs), n, n / search.records) for cs, n in found)
    return Singling(tuple(named), tuple(names), complete, everything)


def _candidates(harmless: set[tuple[int, ...]], width: int) -> Iterator[tuple[int, ...]]:
    """Sets of one column more, all of whose subsets are harmless, those with the same beginning together."""
    for prefix in sorted(harmless):
        for column in range(prefix[-1] + 1 if prefix else 0, width):
            candidate = (*prefix, column)
            if all(subset in harmless for subset in combinations(candidate, len(prefix))):
                yield candidate


class _Search:
    """Counts unique records of sets of columns."""

    def __init__(self, codes: npt.NDArray[np.int32], counts: _Ints, threshold: float) -> None:
        self.counts = counts
        self.records = int(counts.sum())
        self.threshold = threshold
        self.columns = [codes[:, i].astype(np.int64) for i in range(codes.shape[1])]
        self.widths = [int(column.max()) + 1 if len(column) else 1 for column in self.columns]

    def evaluate(self, candidates: Sequence[tuple[int, ...]]) -> Iterator[tuple[tuple[int, ...], int]]:
        """Each candidate with its unique records; 0 where there are too few classes for it to matter."""
        prefix: tuple[int, ...] | None = None
        groups, n = np.zeros(len(self.counts), np.int64), 1
        for candidate in candidates:
            if candidate[:-1] != prefix:
                prefix = candidate[:-1]
                groups, n = self._groups(prefix)
            width = self.widths[candidate[-1]]
            # Unique records are classes, and there cannot be more classes than combinations of values.
            if n * width <= self.threshold * self.records:
                yield candidate, 0
            else:
                yield candidate, self._unique(groups * width + self.columns[candidate[-1]], n * width)

    def unique(self, columns: tuple[int, ...]) -> int:
        """Records that the columns single out."""
        groups, n = self._groups(columns)
        return self._unique(groups, n)

    def _groups(self, columns: tuple[int, ...]) -> tuple[_Ints, int]:
        groups, n = np.zeros(len(self.counts), np.int64), 1
        for column in columns:
            width = self.widths[column]
            groups, n = _renumber(groups * width + self.columns[column], n * width)
        return groups, n

    def _unique(self, keys: _Ints, span: int) -> int:
        if span <= _DENSE * len(keys):
            # Sums of doubles are exact up to 2^53 records.
            return int((np.bincount(keys, self.counts, span) == 1).sum())
        # A unique record is a tuple of one record whose key no other tuple has.
        order = np.argsort(keys)
        ordered = keys[order]
        alone = np.ones(len(keys), np.bool_)
        same = ordered[1:] == ordered[:-1]
        alone[1:] &= ~same
        alone[:-1] &= ~same
        return int((self.counts[order[alone]] == 1).sum())


def _renumber(keys: _Ints, span: int) -> tuple[_Ints, int]:
    """Keys numbered 0, 1, … without gaps, and how many there are."""
    if span <= _DENSE * len(keys):
        occurs = np.zeros(span, np.bool_)
        occurs[keys] = True
        numbers = np.cumsum(occurs) - 1
        return numbers[keys], int(occurs.sum())
    found, inverse = np.unique(keys, return_inverse=True)
    return inverse.astype(np.int64), len(found)
