"""Local recoding: every equivalence class gets levels of its own, so that the whole table loses much less.

The tuples are partitioned into clusters, and each cluster is published at the lowest common ancestors of its tuples.
The best partition is hard to find even for k alone (Meyerson & Williams 2004), so this is a heuristic, in steps: near
tuples are found; clusters are grown from all tuples at once (`growth`); clusters that break a requirement are merged
with others; then single tuples move (`clusters`) and neighbourhoods are partitioned anew (`neighbourhoods`) a fixed
number of times. Chance is drawn from a fixed seed, so the result depends on the table alone.

An equivalence class is all that is published with the same labels, whatever cluster it came from. Classes are so
unions of clusters, and for k, l and t a union of sets that satisfy satisfies too. That is not relied upon: the classes
are judged at the end, and if one failed, or if the best global recoding without suppression lost less, that one is the
result.

Time grows with the number of tuples; memory is some hundred numbers a tuple.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from privacy_platform.anonymization.kanonymity.clusters import Clusters, merge_failing, move
from privacy_platform.anonymization.kanonymity.demands import Demands
from privacy_platform.anonymization.kanonymity.evaluate import failing, suppressible, unpublishable
from privacy_platform.anonymization.kanonymity.grouping import Table, group
from privacy_platform.anonymization.kanonymity.growth import gather
from privacy_platform.anonymization.kanonymity.ladders import Ladder
from privacy_platform.anonymization.kanonymity.lattice import LatticeError, allowed_levels, global_recoding
from privacy_platform.anonymization.kanonymity.neighbourhoods import regroup
from privacy_platform.anonymization.kanonymity.points import Points, near_order, nearest
from privacy_platform.anonymization.kanonymity.recoding import Recoding
from privacy_platform.anonymization.kanonymity.requirements import Requirements
from privacy_platform.anonymization.kanonymity.tuples import Sensitive, Tuples

__all__ = ["local_recoding"]

_SEED = 0
"""Any number: what is drawn decides between partitions, and nothing secret depends on it."""

_NEAR = 40
"""So many near points are kept of each point."""

_REACHES = (4, 6, 8)
"""Near points whose clusters make a neighbourhood, in turn."""

_SWEEPS, _FEWEST_SWEEPS, _PAIRS = 60, 12, 20_000_000
"""Sweeps over all neighbourhoods: fewer where that would look at more pairs of points, but not below the fewest."""

_DEAR = 3
"""With l or t a sweep takes several times as long, so there are so many times fewer."""

_HEAT, _COOL = 0.4, 0.8
"""First temperature, in mean losses of a cluster, and the share of the sweeps after which it is zero."""

_MOVES = 6
"""Rounds of single moves at the start and at the end."""


def local_recoding(
    tuples: Tuples,
    ladders: Sequence[Ladder],
    requirements: Requirements,
    *,
    pinned: Mapping[str, str] | None = None,
) -> Recoding:
    """A recoding in which different tuples may be generalized to different levels of the hierarchies.

    Nothing is suppressed that could be published at the coarsest levels; what could not is, within the limit.

    Args:
        tuples: the table.
        ladders: what each quasi-identifier can become, in the order of the tuples' columns. Losses must not fall from
            one level to the next.
        requirements: what the published table must satisfy.
        pinned: quasi-identifier → the one level that is allowed for it.

    Returns:
        The recoding, with levels of shape (tuples, quasi-identifiers); the same on every run. It loses no more than
        the best global recoding of what is not suppressed, unless the lattice is too large to tell. Tuples that are
        the same at the finest levels allowed get the same levels.

    Raises:
        LatticeError: a pinned column or level does not exist.
        UnreachableError: nothing satisfies the requirements within the suppression limit.
    """
    allowed = allowed_levels(ladders, pinned or {})
    top = np.array([one[-1] for one in allowed], np.int16)
    levels = np.tile(top, (len(tuples.counts), 1))
    suppressed = _suppressed(tuples, ladders, requirements, top, pinned)
    tried = 0
    if not suppressed.all():
        kept = _without(tuples, suppressed)
        local, tried = _search(kept, ladders, requirements, allowed)
        other = np.broadcast_to(_global(kept, ladders, requirements, top, pinned), local.shape)
        groups, classes = _classes(kept, ladders, local)
        valid = not failing(groups, classes, kept, requirements).any()
        better = _losses(kept, ladders, local).sum() <= _losses(kept, ladders, other).sum()
        levels[~suppressed] = local if valid and better else other
    return _recoding(tuples, ladders, levels, suppressed, tried)


def _suppressed(
    tuples: Tuples,
    ladders: Sequence[Ladder],
    requirements: Requirements,
    top: npt.NDArray[np.int16],
    pinned: Mapping[str, str] | None,
) -> npt.NDArray[np.bool_]:
    """The tuples that cannot be published, however coarse; or those that the best global recoding suppresses."""
    if tuples.records == 0:
        return np.ones(len(tuples.counts), np.bool_)
    grouped = group(Table.of(tuples), ladders, top.tolist())
    out = unpublishable(grouped.classes(), requirements)[grouped.groups()]
    if tuples.counts[out].sum() <= suppressible(tuples.records, requirements):
        return out
    # With entropy l, recursive l or t less may be suppressed at finer levels.
    return global_recoding(tuples, ladders, requirements, pinned=pinned).suppressed


def _global(
    tuples: Tuples,
    ladders: Sequence[Ladder],
    requirements: Requirements,
    top: npt.NDArray[np.int16],
    pinned: Mapping[str, str] | None,
) -> npt.NDArray[np.int16]:
    """The levels of the best global recoding without suppression; the coarsest if there are too many to be tried."""
    try:
        return global_recoding(tuples, ladders, replace(requirements, suppression_limit=0.0), pinned=pinned).levels
    except LatticeError:
        return top


def _without(tuples: Tuples, out: npt.NDArray[np.bool_]) -> Tuples:
    """The table without some tuples."""
    new = np.cumsum(~out) - 1

    def kept(one: Sensitive) -> Sensitive:
        keep = ~out[one.tuple_index]
        return Sensitive(one.values, new[one.tuple_index[keep]], one.value[keep], one.count[keep])

    return Tuples(tuples.codes[~out], tuples.counts[~out], {name: kept(one) for name, one in tuples.sensitive.items()})


def _search(
    tuples: Tuples, ladders: Sequence[Ladder], requirements: Requirements, allowed: Sequence[Sequence[int]]
) -> tuple[npt.NDArray[np.int16], int]:
    """Levels of shape (tuples, columns), and how many clusters were grown to find them."""
    grouped = group(Table.of(tuples), ladders, [levels[0] for levels in allowed])
    rolled_up = grouped.rolled_up(grouped.classes())
    codes = tuples.codes[grouped.rows]
    points = Points.of(codes, grouped.counts, ladders, allowed)
    clusters, tried = _partition(points, Demands.on(Tuples(codes, grouped.counts, rolled_up.sensitive), requirements))
    # A column's level is the number of its steps that the cluster loses.
    up = np.zeros((len(ladders), len(clusters.sizes)), np.int64)
    first = clusters.first[clusters.of[clusters.members]]
    for groups, column in zip(points.groups, points.column, strict=True):
        up[column] += np.logical_or.reduceat(groups[clusters.members] != groups[first], clusters.starts)
    levels = np.stack([np.array(one, np.int16)[steps] for one, steps in zip(allowed, up, strict=True)], axis=1)
    return levels[clusters.of][grouped.groups()], tried


def _partition(points: Points, demands: Demands) -> tuple[Clusters, int]:
    """A valid partition of little loss, and how many clusters were grown to find it."""
    k = demands.requirements.k
    rng = np.random.default_rng(_SEED)
    order = near_order(points)
    near = nearest(points, order, _NEAR, rng)
    clusters, tried = merge_failing(points, Clusters.by(points, gather(points, near, k)), order, demands)
    further = demands if demands.requirements.sensitive else None
    clusters = _move(points, clusters, near, k, further)
    # A neighbourhood has about four clusters.
    pairs = 4 * len(points.counts) ** 2 // len(clusters.sizes)
    sweeps = max(_FEWEST_SWEEPS, min(_SWEEPS, _PAIRS // pairs) // (_DEAR if further else 1))
    heat = _HEAT * float(clusters.loss.sum()) / max(1, int((clusters.loss > 0).sum()))
    for sweep in range(sweeps):
        temperature = heat * max(0.0, 1 - sweep / (_COOL * sweeps))
        reach = _REACHES[sweep % len(_REACHES)]
        clusters, grown = regroup(points, clusters, near, k, further, rng, reach, temperature)
        tried += grown
    return _move(points, clusters, near, k, further), tried


def _move(points: Points, clusters: Clusters, near: npt.NDArray[np.int64], k: int, demands: Demands | None) -> Clusters:
    """Single moves, until there are none that gain or they were many."""
    for _ in range(_MOVES):
        clusters, moved = move(points, clusters, near, k, demands.failing if demands else None)
        if not moved:
            break
    return clusters


def _classes(
    tuples: Tuples, ladders: Sequence[Ladder], levels: npt.NDArray[np.int16]
) -> tuple[npt.NDArray[np.int64], int]:
    """The equivalence class of each tuple, which is all tuples with the same labels, and how many there are."""
    groups, classes = np.zeros(len(tuples.counts), np.int64), 1
    for ladder, codes, level in zip(ladders, tuples.codes.T, levels.T, strict=True):
        numbers: dict[str | None, int] = {}
        of = [np.array([numbers.setdefault(label, len(numbers)) for label in labels]) for labels in ladder.labels]
        label = _at(codes, level, [one[base] for one, base in zip(of, ladder.codes, strict=True)])
        found, groups = np.unique(groups * len(numbers) + label, return_inverse=True)
        groups, classes = groups.reshape(-1), len(found)
    return groups, classes


def _losses(tuples: Tuples, ladders: Sequence[Ladder], levels: npt.NDArray[np.int16]) -> npt.NDArray[np.float64]:
    """NCP times records of each column."""
    return np.array(
        [
            (
                tuples.counts
                * _at(codes, level, [one[base] for one, base in zip(ladder.losses, ladder.codes, strict=True)])
            ).sum()
            for ladder, codes, level in zip(ladders, tuples.codes.T, levels.T, strict=True)
        ]
    )


def _at(
    codes: npt.NDArray[np.int32], level: npt.NDArray[np.int16], by_level: list[npt.NDArray[Any]]
) -> npt.NDArray[Any]:
    """What each tuple's base value has at its level."""
    return np.stack(by_level)[level, codes]


def _recoding(
    tuples: Tuples,
    ladders: Sequence[Ladder],
    levels: npt.NDArray[np.int16],
    suppressed: npt.NDArray[np.bool_],
    tried: int,
) -> Recoding:
    kept = _without(tuples, suppressed)
    gone = tuples.records - kept.records
    losses = (_losses(kept, ladders, levels[~suppressed]) + gone) / max(1, tuples.records)
    return Recoding(
        levels=levels,
        suppressed=suppressed,
        loss=float(losses.sum()) / max(1, len(ladders)),
        losses=tuple(losses.tolist()),
        suppressed_records=gone,
        classes=_classes(kept, ladders, levels[~suppressed])[1] if kept.records else 0,
        checked=tried,
    )
