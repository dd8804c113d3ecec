"""How many records must be left out below a node of the lattice, whatever is published there.

Suppression takes monotonicity away from all models but k and distinct l. A class that satisfies entropy l, recursive
(c,l) or t may merge, one level up, with one that fails, and then both are suppressed; so a node that suppresses too
much says nothing by itself about the nodes below it. What does hold: below a node its classes are split further, and
what is still published of one of them is a union of classes that satisfy. All of the models are closed under union
(counts and values only grow; entropy is concave, distance convex, and the share of the most frequent values is convex).
So the published part of a class, taken together, satisfies as well, and `least_removed` is the least that has to go
for that. It never grows on the way up, and for k and distinct l it is exactly what is suppressed at the node itself.
"""

import numpy as np
import numpy.typing as npt

from privacy_platform.anonymization.kanonymity.evaluate import TOLERANCE, Cells, Classes, distances, undiverse
from privacy_platform.anonymization.kanonymity.requirements import LDiversity, Requirements, TCloseness

__all__ = ["least_removed"]


def least_removed(classes: Classes, requirements: Requirements, limit: int) -> npt.NDArray[np.int64]:
    """Of each class, so many records at least are suppressed at the node it belongs to and at every node below it.

    Args:
        classes: all records of the table in the node's classes, none suppressed.
        requirements: what published classes satisfy.
        limit: records that may be suppressed in all; holds for nodes that keep to it.

    Returns:
        int64 of shape (groups,).
    """
    counts = classes.counts
    least = np.zeros(len(counts), np.int64)
    for name, several in requirements.sensitive.items():
        cells = classes.sensitive[name]
        for one in several:
            if isinstance(one, TCloseness):
                removed = _for_closeness(cells, counts, one, limit)
            else:
                removed = _for_diversity(cells, counts, one)
            np.maximum(least, removed, out=least)
    # Fewer than k records cannot be left of a class, so then all of it goes.
    return np.where(counts - least < requirements.k, counts, least)


def _for_closeness(cells: Cells, counts: npt.NDArray[np.int64], model: TCloseness, limit: int) -> npt.NDArray[np.int64]:
    """Least removal for t.

    Taking m of n records out of a class moves its distribution by at most m / n, and taking `limit` records out of the
    table moves the table's by at most their share: the distance falls by no more than both together.
    """
    records = int(counts.sum())
    slack = model.t + TOLERANCE + limit / max(1, records)
    if model.distance == "ordered":
        # Values that vanish from the published table bring the others nearer: each takes at most one step away.
        of_value = np.sort(np.bincount(cells.value, cells.count, cells.values))
        of_value = of_value[of_value > 0]
        vanished = int(np.searchsorted(np.cumsum(of_value), limit, side="right"))
        slack += vanished / max(1, len(of_value) - 1)
    over = distances(cells, counts, model.distance) - slack
    least: npt.NDArray[np.int64] = np.ceil(np.maximum(over, 0) * counts - TOLERANCE).astype(np.int64)
    return least


def _for_diversity(cells: Cells, counts: npt.NDArray[np.int64], model: LDiversity) -> npt.NDArray[np.int64]:
    """Least removal for l.

    No way of taking records out leaves a distribution more even than cutting the most frequent values down to one
    height (Schur concavity), so a class is cut to the largest height at which it satisfies. If it does not even with
    one record of each value, all of it goes.
    """
    bad = undiverse(cells, counts, model)
    removed = np.where(bad, counts, 0)
    if model.kind == "distinct" or not bad.any():
        return removed
    mine = bad[cells.group]
    number = np.cumsum(bad) - 1
    group, value, count = number[cells.group[mine]], cells.value[mine], cells.count[mine]
    size = int(bad.sum())

    def cut(height: npt.NDArray[np.int64]) -> tuple[Cells, npt.NDArray[np.int64]]:
        kept = np.minimum(count, height[group])
        return Cells(group, value, kept, cells.values), np.bincount(group, kept, size).astype(np.int64)

    fits = np.zeros(size, np.int64)  # a height at which it satisfies, or 0
    fails = np.zeros(size, np.int64)  # a height at which it does not
    np.maximum.at(fails, group, count)
    while (open_ := fails - fits > 1).any():
        middle = np.where(open_, (fits + fails) // 2, np.maximum(fits, 1))
        wrong = undiverse(*cut(middle), model)
        fails = np.where(open_ & wrong, middle, fails)
        fits = np.where(open_ & ~wrong, middle, fits)
    # Cutting to `fails` is not enough, so one record more goes at the least.
    _, left = cut(fails)
    removed[bad] = np.where(fits > 0, counts[bad] - left + 1, counts[bad])
    return removed
