"""Distinct tuples as points: what each pair of them loses when it is published alike, and which are near each other.

Tuples that are published alike get, in every column, the label of their lowest common ancestor in its hierarchy. The
NCP of that label is the penalty here. Penalties in a hierarchy are an ultrametric: for a set of points that holds x,
the penalty with y added is the larger of the set's and that of x and y. Clustering needs nothing else.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from privacy_platform.anonymization.kanonymity.ladders import Ladder

__all__ = ["APART", "Points", "near_order", "nearest"]

APART = 1e6
"""Penalty of two points that have no common ancestor among the allowed levels; anything near it is no distance."""

_BLOCK = 1024
"""So many points that are next to each other in an order are compared with each other."""


@dataclass(frozen=True, slots=True, eq=False)
class Points:
    """Distinct tuples at the finest levels allowed.

    A step is a column's way from one level to the next. Two points lose it if they are still in different groups.

    Attributes:
        groups: int32 of shape (steps, points), the group of each point before the step.
        gain: float32 of shape (steps, points), by how much the step raises the NCP of the point's label.
        column: the column of each step; steps are ordered by column, then level.
        finest: float32 of shape (columns, points), the NCP at the finest level.
        counts: int64 of shape (points,), records.
    """

    groups: npt.NDArray[np.int32]
    gain: npt.NDArray[np.float32]
    column: tuple[int, ...]
    finest: npt.NDArray[np.float32]
    counts: npt.NDArray[np.int64]

    @classmethod
    def of(
        cls,
        codes: npt.NDArray[np.int32],
        counts: npt.NDArray[np.int64],
        ladders: Sequence[Ladder],
        allowed: Sequence[Sequence[int]],
    ) -> "Points":
        """The points with these base values' codes, of which each column may have the allowed levels, ascending."""
        groups, gain, column = [], [], []
        for number, (ladder, levels) in enumerate(zip(ladders, allowed, strict=True)):
            base = codes[:, number]
            ncp = [ladder.losses[level][ladder.codes[level]][base] for level in levels]
            for low, high in zip(range(len(levels) - 1), range(1, len(levels)), strict=True):
                groups.append(ladder.codes[levels[low]][base])
                gain.append(ncp[high] - ncp[low])
                column.append(number)
            groups.append(ladder.codes[levels[-1]][base])
            gain.append(np.full(len(base), APART))
            column.append(number)
        finest = [
            ladder.losses[levels[0]][ladder.codes[levels[0]]][codes[:, number]]
            for number, (ladder, levels) in enumerate(zip(ladders, allowed, strict=True))
        ]
        # The top of a hierarchy that has one root parts nobody.
        parts = [i for i, one in enumerate(groups) if len(one) and (one != one[0]).any()]
        return cls(
            np.array([groups[i] for i in parts], np.int32).reshape(len(parts), len(counts)),
            np.array([gain[i] for i in parts], np.float32).reshape(len(parts), len(counts)),
            tuple(column[i] for i in parts),
            np.array(finest, np.float32).reshape(len(ladders), len(counts)),
            counts,
        )

    def penalties(self, one: npt.NDArray[np.int64], other: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        """NCP in every column of two points published alike; shape (columns, *the broadcast shape of the points)."""
        out = np.empty((len(self.finest), *np.broadcast_shapes(one.shape, other.shape)), np.float32)
        out[:] = self.finest[:, one]
        for groups, gain, column in zip(self.groups, self.gain, self.column, strict=True):
            out[column] += gain[one] * (groups[one] != groups[other])
        return out

    def distances(self, one: npt.NDArray[np.int64], other: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        """The sum of the penalties over the columns."""
        out = np.empty(np.broadcast_shapes(one.shape, other.shape), np.float32)
        out[:] = self.finest[:, one].sum(0)
        for groups, gain in zip(self.groups, self.gain, strict=True):
            out += gain[one] * (groups[one] != groups[other])
        return out


def near_order(points: Points) -> npt.NDArray[np.int64]:
    """The points in an order that keeps those together which lose little.

    Sorted by the groups of all steps, those first that cost most when they are lost.
    """
    cost = (points.gain * points.counts).sum(axis=1, dtype=np.float64)
    return _sorted(points, np.argsort(-cost, kind="stable"))


def nearest(
    points: Points, order: npt.NDArray[np.int64], how_many: int, rng: np.random.Generator
) -> npt.NDArray[np.int64]:
    """Near points of each point, nearest first; shape (points, up to `how_many`). The point itself fills the rest.

    Not always the nearest of all: only points near each other in `order` or in one more order by chance are compared,
    so that time grows with their number and not its square.
    """
    length = len(points.counts)
    if length == 1:
        return np.zeros((1, 1), np.int64)
    half = max(1, 5 * how_many // 8)
    looks = [_in_blocks(points, one, half) for one in (order, _sorted(points, rng.permutation(len(points.column))))]
    near = np.concatenate([look[0] for look in looks], axis=1)
    distance = np.concatenate([look[1] for look in looks], axis=1)
    by_number = np.argsort(near, axis=1, kind="stable")
    near = np.take_along_axis(near, by_number, 1)
    distance = np.take_along_axis(distance, by_number, 1)
    distance[:, 1:][near[:, 1:] == near[:, :-1]] = np.inf
    by_distance = np.argsort(distance, axis=1, kind="stable")[:, :how_many]
    near = np.take_along_axis(near, by_distance, 1)
    usable = np.take_along_axis(distance, by_distance, 1) < APART / 2
    return np.where(usable, near, np.arange(length)[:, None])


def _sorted(points: Points, steps: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """The points sorted by their groups before the given steps, the first most."""
    if len(steps) == 0:
        return np.arange(len(points.counts))
    return np.lexsort([points.groups[step] for step in reversed(steps)])


def _in_blocks(
    points: Points, order: npt.NDArray[np.int64], how_many: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """The nearest points of each point among those of its block of the order, and how far they are."""
    length = len(order)
    how_many = min(how_many, max(0, min(length, _BLOCK) - 1))
    near = np.empty((length, how_many), np.int64)
    distance = np.empty((length, how_many), np.float32)
    for begin in range(0, length, _BLOCK):
        rows = order[begin : begin + _BLOCK]
        # The last block reaches back, so that all have the same length.
        block = order[max(0, min(begin, length - _BLOCK)) :][:_BLOCK]
        apart = points.distances(rows[:, None], block[None, :])
        apart[rows[:, None] == block[None, :]] = np.inf
        first = np.argpartition(apart, max(0, how_many - 1), axis=1)[:, :how_many]
        near[rows] = block[first]
        distance[rows] = np.take_along_axis(apart, first, 1)
    return near, distance
