"""Clusters grown from a seed, a point at a time: the first partition, and small neighbourhoods partitioned anew.

A cluster takes the point that leaves it with the least NCP times records, for each record it still needs. From that,
part of what its points would lose anyway (their price) is taken off, so that points that are expensive wherever they
go end up with each other instead of spoiling cheap clusters.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from privacy_platform.anonymization.kanonymity.clusters import undisputed
from privacy_platform.anonymization.kanonymity.points import APART, Points

__all__ = ["CELLS", "PRICED", "Grown", "Seeds", "Wanting", "gather", "grow"]

PRICED = 0.5
"""Share of a point's loss elsewhere that is its price."""

CELLS = 1 << 24
"""Penalties are held in memory for so many pairs of points and columns at a time."""

_FIRST = 0.3
"""Share of the candidates for a first cluster that are considered before all are grown again from what is left."""


@dataclass(frozen=True, slots=True, eq=False)
class Grown:
    """What has grown.

    Attributes:
        taken: the candidates taken, shape (seeds, candidates).
        penalties: NCP of the cluster's label, shape (columns, seeds).
        counts: its records, shape (seeds,).
        prices: what they would lose elsewhere, likewise.
        done: whether it has enough of everything, likewise.
    """

    taken: npt.NDArray[np.bool_]
    penalties: npt.NDArray[np.float32]
    counts: npt.NDArray[np.int64]
    prices: npt.NDArray[np.float32]
    done: npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Seeds:
    """What grows: for each seed its candidates.

    Attributes:
        penalties: of the seeds with their candidates; shape (columns, seeds, candidates).
        start: of the seeds alone; shape (columns, seeds).
        counts: records of the candidates, shape (seeds, candidates).
        prices: what their records would lose elsewhere, likewise.
        free: which may be taken, likewise.
        count: records of the seeds, shape (seeds,).
        price: what they would lose elsewhere, likewise.
    """

    penalties: npt.NDArray[np.float32]
    start: npt.NDArray[np.float32]
    counts: npt.NDArray[np.int64]
    prices: npt.NDArray[np.float32]
    free: npt.NDArray[np.bool_]
    count: npt.NDArray[np.int64]
    price: npt.NDArray[np.float32]


Wanting = Callable[[npt.NDArray[np.int64], npt.NDArray[np.bool_]], tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]]
"""Rows, their taken candidates → rows that break l or t, candidates that would help."""


def grow(seeds: Seeds, k: int, wanting: Wanting | None = None) -> Grown:
    """Grow a cluster from each seed until it has k records and lacks nothing, or no candidate is left."""
    free, taken = seeds.free.copy(), np.zeros(seeds.free.shape, np.bool_)
    penalties, counts, prices = seeds.start.copy(), seeds.count.copy(), seeds.price.copy()
    done = np.ones(len(counts), np.bool_)
    active = np.arange(len(counts))
    while True:
        allowed = free[active]
        if wanting is None:
            short = counts[active] < k
        else:
            breaks, helps = wanting(active, taken[active])
            short = (counts[active] < k) | breaks
            # Once there are enough records, only what helps is taken, if there is any.
            helps = allowed & np.logical_or(helps, counts[active, None] < k)
            allowed = np.where(helps.any(axis=1, keepdims=True), helps, allowed)
        active, allowed = active[short], allowed[short]
        if len(active) == 0:
            return Grown(taken, penalties, counts, prices, done)
        with_it = np.maximum(penalties[:, active, None], seeds.penalties[:, active]).sum(axis=0)
        total = counts[active, None] + seeds.counts[active]
        value = (with_it * total - prices[active, None] - seeds.prices[active]) / np.minimum(total, k)
        value[~allowed | (with_it > APART / 2)] = np.inf
        best = value.argmin(axis=1)
        there = np.isfinite(value[np.arange(len(active)), best])
        done[active[~there]] = False
        active, best = active[there], best[there]
        free[active, best] = False
        taken[active, best] = True
        penalties[:, active] = np.maximum(penalties[:, active], seeds.penalties[:, active, best])
        counts[active] += seeds.counts[active, best]
        prices[active] += seeds.prices[active, best]


def gather(points: Points, near: npt.NDArray[np.int64], k: int) -> npt.NDArray[np.int64]:
    """Clusters of at least k records, grown from all points at once, the best taken first; a number for each point.

    Points that are left over are alone in a cluster that may be too small.
    """
    length = len(points.counts)
    numbers = np.arange(length)
    free = np.ones(length, np.bool_)
    # What a point would lose if it could choose its cluster freely.
    lost, _ = _from_all(points, near, k, numbers, free, np.zeros(length, np.float32))
    price = np.where(np.isfinite(lost), PRICED * lost, 0).astype(np.float32)
    while True:
        seeds = np.flatnonzero(free)
        value, grown = _from_all(points, near, k, seeds, free, price)
        complete = np.flatnonzero(np.isfinite(value))
        if len(complete) == 0:
            return numbers
        first = complete[np.argsort(value[complete], kind="stable")][: max(1, int(_FIRST * len(complete)))]
        first = first[undisputed(grown[first], length)]
        numbers[grown[first]] = length + seeds[first][:, None]
        free[grown[first]] = False


def _from_all(
    points: Points,
    near: npt.NDArray[np.int64],
    k: int,
    seeds: npt.NDArray[np.int64],
    free: npt.NDArray[np.bool_],
    price: npt.NDArray[np.float32],
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """Grow a cluster from each seed, whatever grows from others.

    Returns:
        For each seed, the NCP of what grew over its mean price, infinite if it has too few records; and its points,
        the seed filling up.
    """
    width = near.shape[1]
    rows = max(1, CELLS // (width * max(1, len(points.finest))))
    values, clusters = [np.empty(0)], [np.empty((0, width + 1), np.int64)]
    for begin in range(0, len(seeds), rows):
        one = seeds[begin : begin + rows]
        other = near[one]
        grown = grow(
            Seeds(
                points.penalties(one[:, None], other),
                points.finest[:, one],
                points.counts[other],
                price[other] * points.counts[other],
                free[other] & (other != one[:, None]),
                points.counts[one],
                price[one] * points.counts[one],
            ),
            k,
        )
        value = grown.penalties.sum(axis=0) - grown.prices / grown.counts
        values.append(np.where(grown.done, value, np.inf))
        clusters.append(np.concatenate([one[:, None], np.where(grown.taken, other, one[:, None])], axis=1))
    return np.concatenate(values), np.concatenate(clusters)
