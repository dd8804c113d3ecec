"""A partition of points into clusters, each of which is published alike, and the moves that make it better or valid.

A partition is *valid* when every cluster satisfies the requirements. All functions here are deterministic and work on
all clusters at once. Changes that touch the same cluster are settled in favour of the one that gains more.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from privacy_platform.anonymization.kanonymity.demands import Demands
from privacy_platform.anonymization.kanonymity.points import APART, Points

__all__ = ["LEAST_GAIN", "Clusters", "Failing", "merge_failing", "move", "undisputed"]

_CHEAP = 16
"""So many clusters that it would cost least to join are tried."""

_SKEW = 0.1
"""Records of skew that any merger is taken to remove, so that one that removes none has a price as well."""

Failing = Callable[[npt.NDArray[np.int64], int], npt.NDArray[np.bool_]]
"""Cluster of every point, number of clusters → which clusters break a requirement."""

LEAST_GAIN = 1e-3
"""A change must lower the loss, NCP times records, by more: penalties are single floats."""

_WINDOW = 1024
"""A failing cluster looks for another among so many that are next to it."""


@dataclass(frozen=True, slots=True, eq=False)
class Clusters:
    """A partition.

    Attributes:
        of: int64 of shape (points,), the cluster of every point; numbered without gaps.
        members: the points, cluster by cluster.
        starts: where each cluster begins in `members`.
        sizes: points of each cluster.
        counts: records of each cluster.
        penalties: float32 of shape (columns, clusters), NCP of the clusters' labels.
        loss: float64 of shape (clusters,), NCP of all columns together, times records.
    """

    of: npt.NDArray[np.int64]
    members: npt.NDArray[np.int64]
    starts: npt.NDArray[np.int64]
    sizes: npt.NDArray[np.int64]
    counts: npt.NDArray[np.int64]
    penalties: npt.NDArray[np.float32]
    loss: npt.NDArray[np.float64]

    @classmethod
    def by(cls, points: Points, numbers: npt.NDArray[np.int64]) -> "Clusters":
        """The partition in which points with the same number are together."""
        of = np.unique(numbers, return_inverse=True)[1].reshape(-1).astype(np.int64)
        members = np.argsort(of, kind="stable")
        sizes = np.bincount(of)
        starts = np.cumsum(sizes) - sizes
        first = members[starts]
        penalties = np.maximum.reduceat(points.penalties(first[of[members]], members), starts, axis=1)
        counts = np.bincount(of, points.counts).astype(np.int64)
        return cls(of, members, starts, sizes, counts, penalties, penalties.sum(axis=0) * counts.astype(np.float64))

    @property
    def first(self) -> npt.NDArray[np.int64]:
        """A point of each cluster."""
        return self.members[self.starts]

    def points_of(self, clusters: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """The points of several clusters, in their order."""
        sizes = self.sizes[clusters]
        within = np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        at: npt.NDArray[np.int64] = np.repeat(self.starts[clusters], sizes) + within
        return self.members[at]


def undisputed(claims: npt.NDArray[np.int64], length: int) -> npt.NDArray[np.bool_]:
    """Which claims are granted, the first in the order served first: one is if no granted one before it shares a thing.

    Args:
        claims: shape (claims, things of each); things are numbers below `length` and may repeat in a claim.
        length: how many things there are.
    """
    granted = np.zeros(len(claims), np.bool_)
    open_ = np.arange(len(claims))
    taken = np.zeros(length, np.bool_)
    while len(open_):
        mine = claims[open_]
        rank = np.broadcast_to(np.arange(len(open_))[:, None], mine.shape)
        owner = np.full(length, len(open_))
        np.minimum.at(owner, mine, rank)
        wins = (owner[mine] == rank).all(axis=1)
        granted[open_[wins]] = True
        taken[mine[wins]] = True
        open_ = open_[~wins & ~taken[mine].any(axis=1)]
    return granted


def merge_failing(
    points: Points, clusters: Clusters, order: npt.NDArray[np.int64], demands: Demands
) -> tuple[Clusters, int]:
    """Merge clusters that fail with others, until none fails; and how many were merged.

    Each joins that of its near ones which loses least among those that mend it. If none does, the loss is set against
    how much nearer to the whole table both come in their sensitive values. It ends with a valid partition if all
    points that have common ancestors together satisfy the requirements.
    """
    position = np.empty(len(order), np.int64)
    position[order] = np.arange(len(order))
    merged = 0
    while (bad := demands.failing(clusters.of, len(clusters.sizes))).any():
        around = np.argsort(position[clusters.first], kind="stable")
        source, target, cost = _partners(points, clusters, around, bad, demands)
        source, target = (side[np.lexsort((source, cost))] for side in (source, target))
        # Many may join the same cluster, but none that itself goes elsewhere.
        into = np.arange(len(clusters.sizes))
        stays = np.zeros(len(into), np.bool_)
        for one, other in zip(source.tolist(), target.tolist(), strict=True):
            if not stays[one] and into[other] == other:
                into[one] = other
                stays[other] = True
                merged += 1
        clusters = Clusters.by(points, into[clusters.of])
    return clusters, merged


def _partners(
    points: Points,
    clusters: Clusters,
    around: npt.NDArray[np.int64],
    bad: npt.NDArray[np.bool_],
    demands: Demands,
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """For each failing cluster: it, the cluster near it in the order that it had best join, and what that costs."""
    sources, targets, costs = [], [], []
    half = _WINDOW // 2
    for begin in range(0, len(around), half):
        one = around[begin : begin + half]
        one = one[bad[one]]
        if len(one) == 0:
            continue
        other = around[max(0, begin - half) : begin + 2 * half]
        cost = _joint_cost(points, clusters, one[:, None], other[None, :])
        cost[one[:, None] == other[None, :]] = np.inf
        cheap = np.argpartition(cost, min(_CHEAP, len(other)) - 1, axis=1)[:, :_CHEAP]
        sources.append(np.repeat(one, cheap.shape[1]))
        targets.append(other[cheap].reshape(-1))
        costs.append(np.take_along_axis(cost, cheap, 1).reshape(-1))
    source, target, cost = np.concatenate(sources), np.concatenate(targets), np.concatenate(costs)
    there = cost < APART / 2
    source, target, cost = source[there], target[there], cost[there]
    mended, less = demands.joint(clusters.of, len(clusters.sizes), source, target)
    value = np.where(mended, cost, cost / (less + _SKEW))
    best = np.lexsort((target, value, ~mended, source))
    best = best[np.concatenate([[True], np.diff(source[best]) > 0])]
    return source[best], target[best], cost[best]


def _joint_cost(
    points: Points, clusters: Clusters, one: npt.NDArray[np.int64], other: npt.NDArray[np.int64]
) -> npt.NDArray[np.float64]:
    """What merging costs the other cluster, and what the first then loses. What the first loses alone is spent."""
    joint = points.penalties(clusters.first[one], clusters.first[other])
    np.maximum(joint, clusters.penalties[:, one], out=joint)
    np.maximum(joint, clusters.penalties[:, other], out=joint)
    counts = clusters.counts[one] + clusters.counts[other]
    cost: npt.NDArray[np.float64] = joint.sum(axis=0) * counts.astype(np.float64) - clusters.loss[other]
    return cost


def move(
    points: Points, clusters: Clusters, near: npt.NDArray[np.int64], k: int, failing: Failing | None
) -> tuple[Clusters, int]:
    """Move single points to clusters of near points where that lowers the loss; and how many were moved.

    Args:
        points: the points.
        clusters: a valid partition.
        near: near points of each point.
        k: fewest records of a cluster.
        failing: what else must hold; None if nothing.
    """
    home = clusters.of
    left = clusters.counts[home] - points.counts
    alone = clusters.sizes[home] == 1
    gain = clusters.loss[home] - np.where(alone, 0.0, left * _penalty_without(points, clusters))
    movable = np.flatnonzero(((left >= k) | alone) & (gain > LEAST_GAIN))
    pairs = np.unique(movable[:, None] * len(clusters.sizes) + home[near[movable]])
    point, target = np.divmod(pairs, len(clusters.sizes))
    away = home[point] != target
    point, target = point[away], target[away]
    penalties = np.maximum(clusters.penalties[:, target], points.penalties(clusters.first[target], point)).sum(axis=0)
    cost = penalties * (clusters.counts[target] + points.counts[point]).astype(np.float64) - clusters.loss[target]
    better = np.flatnonzero(gain[point] - cost > LEAST_GAIN)
    better = better[np.lexsort((better, (cost - gain[point])[better]))]
    claims = np.stack([home[point[better]], target[better]], axis=1)
    granted = undisputed(claims, len(clusters.sizes))
    claims, chosen = claims[granted], better[granted]
    numbers = home.copy()
    numbers[point[chosen]] = target[chosen]
    if failing is not None:
        bad = failing(numbers, len(clusters.sizes))[claims].any(axis=1)
        numbers[point[chosen[bad]]] = home[point[chosen[bad]]]
        chosen = chosen[~bad]
    return (Clusters.by(points, numbers), len(chosen)) if len(chosen) else (clusters, 0)


def _penalty_without(points: Points, clusters: Clusters) -> npt.NDArray[np.float32]:
    """For each point, the NCP of its cluster's label if the point were not in it; meaningless for one alone."""
    members, starts, sizes = clusters.members, clusters.starts, clusters.sizes
    of = clusters.of[members]
    following = np.arange(len(members)) + 1
    following = np.where(following < (starts + sizes)[of], following, starts[of])
    witness = members[following]
    out = points.finest[:, witness].sum(axis=0)
    for groups, gain in zip(points.groups, points.gain, strict=True):
        mine = groups[members]
        least, most = np.minimum.reduceat(mine, starts), np.maximum.reduceat(mine, starts)
        at_least = np.add.reduceat((mine == least[of]).astype(np.int64), starts)
        at_most = np.add.reduceat((mine == most[of]).astype(np.int64), starts)
        two = at_least + at_most == sizes
        # The step is lost to the others unless the point alone is in a group of its own and they in one.
        odd = ((two & (at_least == 1))[of] & (mine == least[of])) | ((two & (at_most == 1))[of] & (mine == most[of]))
        out += gain[witness] * ((least != most)[of] & ~odd)
    result = np.empty(len(members), np.float32)
    result[members] = out
    return result
