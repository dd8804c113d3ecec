"""Neighbourhoods of a partition, partitioned anew: the step that is repeated to make it better.

Large neighbourhood search (Shaw 1998): a few clusters that are near each other are dissolved and grown again from
seeds drawn by lot, and the new ones are taken if they are better, or, while the temperature is above zero, not much
worse (simulated annealing, Kirkpatrick et al. 1983). Neighbourhoods that share no cluster are done at once.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from privacy_platform.anonymization.kanonymity.clusters import LEAST_GAIN, Clusters
from privacy_platform.anonymization.kanonymity.demands import Demands
from privacy_platform.anonymization.kanonymity.growth import CELLS, PRICED, Seeds, Wanting, grow
from privacy_platform.anonymization.kanonymity.points import Points

__all__ = ["regroup"]

_TRIES = 2
"""A neighbourhood is partitioned anew so many times, and the best is looked at."""

_WIDEST = 256
"""A neighbourhood of more points is left as it is."""


@dataclass(frozen=True, slots=True, eq=False)
class _Hoods:
    """Some neighbourhoods.

    Attributes:
        points: shape (neighbourhoods, width); where there are fewer points, any.
        valid: which of them are points of the neighbourhood.
        penalties: of all pairs of points of a neighbourhood; shape (columns, neighbourhoods, width, width).
        counts: records of the points; 0 for the invalid.
        prices: what their records would lose elsewhere.
        demands: on the valid points, in their order; None if there are none but k.
    """

    points: npt.NDArray[np.int64]
    valid: npt.NDArray[np.bool_]
    penalties: npt.NDArray[np.float32]
    counts: npt.NDArray[np.int64]
    prices: npt.NDArray[np.float32]
    demands: Demands | None


def regroup(
    points: Points,
    clusters: Clusters,
    near: npt.NDArray[np.int64],
    k: int,
    demands: Demands | None,
    rng: np.random.Generator,
    reach: int,
    temperature: float,
) -> tuple[Clusters, int]:
    """Partition neighbourhoods anew; and how many clusters were grown for it.

    Args:
        points: the points.
        clusters: a valid partition.
        near: near points of each point.
        k: fewest records of a cluster.
        demands: what else must hold; None if nothing.
        rng: decides on neighbourhoods and seeds.
        reach: a neighbourhood has the clusters of so many near points of one point.
        temperature: the mean loss, NCP times records, by which a neighbourhood may become worse; 0 for none.
    """
    numbers, length, tried = clusters.of.copy(), len(points.counts), 0
    for several in _choose(points, clusters, near, k, rng, reach):
        hoods, before = _hoods(points, clusters, several, demands)
        limit = before - LEAST_GAIN + temperature * rng.exponential(size=len(before))
        best = np.full(hoods.points.shape, -1)
        for _ in range(_TRIES):
            labels, loss = _partition(hoods, k, rng)
            tried += int((labels.max(axis=1) + 1).sum())
            better = loss < limit
            limit[better], best[better] = loss[better], labels[better]
        changed = (best >= 0) & hoods.valid
        # Numbers that are used by no cluster and no other neighbourhood: those of its first points.
        own = length + hoods.points[:, :1] * _WIDEST
        numbers[hoods.points[changed]] = (own + best)[changed]
    return Clusters.by(points, numbers), tried


def _choose(
    points: Points,
    clusters: Clusters,
    near: npt.NDArray[np.int64],
    k: int,
    rng: np.random.Generator,
    reach: int,
) -> Iterator[list[npt.NDArray[np.int64]]]:
    """Neighbourhoods, those of about the same number of points together: the clusters of each, in one array."""
    lossy = clusters.loss[clusters.of] > LEAST_GAIN
    centres = rng.permutation(np.flatnonzero(lossy))
    claims = clusters.of[np.concatenate([centres[:, None], near[centres, :reach]], axis=1)]
    rank = np.broadcast_to(np.arange(len(centres))[:, None], claims.shape)
    owner = np.full(len(clusters.sizes), len(centres))
    np.minimum.at(owner, claims, rank)
    owned = np.flatnonzero(owner < len(centres))
    owned = owned[np.argsort(owner[owned], kind="stable")]
    # As many clusters of each as keep it narrow enough.
    before = np.cumsum(clusters.sizes[owned]) - clusters.sizes[owned]
    begins = np.searchsorted(owner[owned], owner[owned])
    owned = owned[before - before[begins] + clusters.sizes[owned] <= _WIDEST]
    hood = np.unique(owner[owned], return_inverse=True)[1].reshape(-1)
    how_many = int(hood.max()) + 1 if len(hood) else 0
    sizes = np.bincount(hood, clusters.sizes[owned], how_many).astype(np.int64)
    counts = np.bincount(hood, clusters.counts[owned], how_many)
    splits = np.split(owned, np.flatnonzero(np.diff(hood)) + 1)
    usable = np.flatnonzero((sizes > 1) & ((np.bincount(hood) > 1) | (counts >= 2 * k)))
    usable = usable[np.argsort(sizes[usable], kind="stable")]
    begin = 0
    while begin < len(usable):
        # All get the width of the last: at most half as much again as the first's, and never too many cells.
        width = max(8, int(1.5 * sizes[usable[begin]]))
        end = begin + int(np.searchsorted(sizes[usable[begin:]], width, side="right"))
        end = min(end, begin + max(1, CELLS // (len(points.finest) * width**2)))
        yield [splits[i] for i in usable[begin:end]]
        begin = end


def _hoods(
    points: Points, clusters: Clusters, several: list[npt.NDArray[np.int64]], demands: Demands | None
) -> tuple[_Hoods, npt.NDArray[np.float64]]:
    """The neighbourhoods of these clusters, and their loss."""
    of = np.repeat(np.arange(len(several)), [len(one) for one in several])
    owned = np.concatenate(several)
    sizes = np.bincount(of, clusters.sizes[owned]).astype(np.int64)
    valid = np.arange(sizes.max()) < sizes[:, None]
    members = np.zeros(valid.shape, np.int64)
    members[valid] = clusters.points_of(owned)
    counts = np.where(valid, points.counts[members], 0)
    price = PRICED * clusters.penalties.sum(axis=0)
    hoods = _Hoods(
        members,
        valid,
        points.penalties(members[:, :, None], members[:, None, :]),
        counts,
        (price[clusters.of[members]] * counts).astype(np.float32),
        demands.excerpt(members[valid]) if demands else None,
    )
    return hoods, np.bincount(of, clusters.loss[owned]).astype(np.float64, copy=False)


@dataclass(frozen=True, slots=True, eq=False)
class _Parts:
    """The clusters of a partition of neighbourhoods; arrays of shape (neighbourhoods, clusters), changed in place.

    Attributes:
        seeds: the point each was grown from; -1 where a neighbourhood has fewer clusters.
        counts: records.
        penalties: NCP of the labels; shape (columns, neighbourhoods, clusters).
    """

    seeds: npt.NDArray[np.int64]
    counts: npt.NDArray[np.int64]
    penalties: npt.NDArray[np.float32]


def _partition(
    hoods: _Hoods, k: int, rng: np.random.Generator
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """A random partition of each neighbourhood: cluster of each point, and the loss, infinite if it is not valid."""
    free = hoods.valid.copy()
    labels = np.full(free.shape, -1)
    parts = _grow_all(hoods, k, rng, free, labels)
    if parts.seeds.shape[1] == 0:
        return labels, np.full(len(labels), np.inf)
    _add_rest(hoods, free, labels, parts)
    loss = (parts.penalties.sum(axis=0) * parts.counts.astype(np.float64)).sum(axis=1)
    loss[parts.seeds[:, 0] < 0] = np.inf
    if hoods.demands:
        several = parts.seeds.shape[1]
        numbers = np.where(labels < 0, len(labels) * several, np.arange(len(labels))[:, None] * several + labels)
        bad = hoods.demands.failing(numbers[hoods.valid], len(labels) * several)
        loss[bad.reshape(-1, several).any(axis=1)] = np.inf
    return labels, loss


def _grow_all(
    hoods: _Hoods, k: int, rng: np.random.Generator, free: npt.NDArray[np.bool_], labels: npt.NDArray[np.int64]
) -> _Parts:
    """Grow clusters, one in each neighbourhood at a time, until too little is free; keeps `free` and `labels`."""
    growing = np.ones(len(free), np.bool_)
    lot = rng.random(free.shape)
    seeds: list[npt.NDArray[np.int64]] = []
    counts: list[npt.NDArray[np.int64]] = []
    penalties: list[npt.NDArray[np.float32]] = []
    while len(rows := np.flatnonzero(growing & ((hoods.counts * free).sum(axis=1) >= k))):
        seed = np.where(free[rows], lot[rows], -1).argmax(axis=1)
        grown = grow(
            Seeds(
                hoods.penalties[:, rows, seed],
                hoods.penalties[:, rows, seed, seed],
                hoods.counts[rows],
                hoods.prices[rows],
                free[rows] & (np.arange(free.shape[1]) != seed[:, None]),
                hoods.counts[rows, seed],
                hoods.prices[rows, seed],
            ),
            k,
            _wanting(hoods, rows, seed, hoods.demands) if hoods.demands else None,
        )
        # What could not be completed goes to the clusters that were.
        growing[rows[~grown.done]] = False
        done = rows[grown.done]
        taken = grown.taken
        taken[np.arange(len(rows)), seed] = True
        taken = taken[grown.done]
        labels[done] = np.where(taken, len(seeds), labels[done])
        free[done] &= ~taken
        seeds.append(np.full(len(free), -1))
        counts.append(np.zeros(len(free), np.int64))
        penalties.append(np.zeros((len(hoods.penalties), len(free)), np.float32))
        seeds[-1][done] = seed[grown.done]
        counts[-1][done] = grown.counts[grown.done]
        penalties[-1][:, done] = grown.penalties[:, grown.done]
    if not seeds:
        none = np.empty((len(free), 0), np.int64)
        return _Parts(none, none, np.empty((len(hoods.penalties), len(free), 0), np.float32))
    return _Parts(np.stack(seeds, 1), np.stack(counts, 1), np.stack(penalties, 2))


def _wanting(hoods: _Hoods, rows: npt.NDArray[np.int64], seeds: npt.NDArray[np.int64], demands: Demands) -> Wanting:
    """What clusters that grow in these neighbourhoods from these seeds lack."""
    position = np.full(hoods.valid.shape, -1)
    position[hoods.valid] = np.arange(int(hoods.valid.sum()))

    def wanting(
        active: npt.NDArray[np.int64], taken: npt.NDArray[np.bool_]
    ) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
        mine = position[rows[active]]
        inside = taken.copy()
        inside[np.arange(len(active)), seeds[active]] = True
        clusters = np.full(demands.points, len(active))
        clusters[mine[inside]] = np.nonzero(inside)[0]
        return demands.judge(clusters, len(active), mine)

    return wanting


def _add_rest(hoods: _Hoods, free: npt.NDArray[np.bool_], labels: npt.NDArray[np.int64], parts: _Parts) -> None:
    """Add each point that is left to the cluster of its neighbourhood where that costs least."""
    free &= parts.seeds[:, :1] >= 0
    while len(rows := np.flatnonzero(free.any(axis=1))):
        point = free[rows].argmax(axis=1)
        seeds, before, old = parts.seeds[rows], parts.counts[rows], parts.penalties[:, rows]
        new = np.maximum(old, hoods.penalties[:, rows[:, None], np.maximum(seeds, 0), point[:, None]])
        counts = before + hoods.counts[rows, point][:, None]
        cost = new.sum(axis=0) * counts.astype(np.float64) - old.sum(axis=0) * before.astype(np.float64)
        cost[seeds < 0] = np.inf
        best = cost.argmin(axis=1)
        each = np.arange(len(rows))
        labels[rows, point], free[rows, point] = best, False
        parts.counts[rows, best] = counts[each, best]
        parts.penalties[:, rows, best] = new[:, each, best]
