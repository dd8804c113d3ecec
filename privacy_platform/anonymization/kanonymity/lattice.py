"""Global recoding: the node of the generalization lattice that loses least, proved to be the best one.

A node gives every quasi-identifier one level for the whole table (full-domain recoding, Samarati 2001). At a node
exactly those classes are suppressed that have to be (`evaluate.unpublishable`). Its loss is the mean NCP over all
records and quasi-identifiers, in which a suppressed cell counts 1. So

    loss(node) = base(node) + extra(node),

where base, the loss without suppression, is a sum over the columns and grows on the way up, and extra is what
suppression adds. Each is known to bound the other's nodes:

* A lower bound of extra at a node holds for all nodes below it (`bounds.least_removed`): what must go there must go
  at finer levels too, and loses at least as much. If more has to go than the limit allows, the bound is infinite.
* Nodes are taken by ascending base. One whose base and bound together are no better than the best node found is
  done. For any other, a chain up from it is searched, by halves, for the coarsest node whose bound still rules it
  out, as that rules out most others too.
* When base alone is no better than the best node found, all nodes left are worse.

Nothing else is left out, so the result is what trying all nodes would give. Of nodes with equal loss the one that
suppresses fewest records is taken, then the one with the finest levels, first columns first.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np
import numpy.typing as npt

from privacy_platform.anonymization.kanonymity.bounds import least_removed
from privacy_platform.anonymization.kanonymity.evaluate import suppressible, unpublishable
from privacy_platform.anonymization.kanonymity.grouping import Grouped, RollUp, Table, group
from privacy_platform.anonymization.kanonymity.ladders import Ladder
from privacy_platform.anonymization.kanonymity.recoding import Recoding
from privacy_platform.anonymization.kanonymity.requirements import Requirements, TCloseness
from privacy_platform.anonymization.kanonymity.tuples import Tuples
from privacy_platform.anonymization.kanonymity.unreachable import unreachable
from privacy_platform.errors import PrivacyPlatformError

__all__ = ["LARGEST", "LatticeError", "allowed_levels", "global_recoding"]

LARGEST = 20_000_000
"""A lattice of more nodes is refused; one of that size takes about 0.6 GB."""

_TIE = 1e-12
"""Losses that differ by less are the same: they are sums of rounded numbers."""

_NOTHING_FOUND = 2.0
"""More than any loss."""

_BLOCK = 1024
"""Nodes are looked through so many at a time."""


class LatticeError(PrivacyPlatformError):
    """The lattice cannot be searched: it is too large, or a pinned level does not exist."""


@dataclass(frozen=True, slots=True)
class _Node:
    """What is known of a node.

    Attributes:
        loss: its loss; more than 1 if it suppresses more than the limit.
        suppressed: records that it suppresses.
        extra: lower bound of what suppression adds to the loss here and at every node below.
    """

    loss: float
    suppressed: int
    extra: float


def global_recoding(
    tuples: Tuples,
    ladders: Sequence[Ladder],
    requirements: Requirements,
    *,
    pinned: Mapping[str, str] | None = None,
    incumbent: Sequence[int] | None = None,
) -> Recoding:
    """The full-domain generalization of least loss that satisfies the requirements.

    Args:
        tuples: the table.
        ladders: what each quasi-identifier can become, in the order of the tuples' columns.
        requirements: what the published table must satisfy.
        pinned: quasi-identifier → the one level that is allowed for it.
        incumbent: levels that may be good, such as the last release's. They make the search faster; what it finds does
            not depend on them.

    Returns:
        The best node; the same on every run.

    Raises:
        LatticeError: there are too many nodes, or a pinned level does not exist.
        UnreachableError: no node satisfies the requirements within the suppression limit.
    """
    allowed = allowed_levels(ladders, pinned or {})
    if tuples.records == 0:
        return _recoding(tuples, ladders, requirements, [levels[0] for levels in allowed], 0)
    search = _Search(tuples, ladders, requirements, allowed)
    search.run(incumbent)
    if search.best is None:
        raise unreachable(tuples, ladders, requirements, [levels[-1] for levels in allowed], search.fewest())
    return _recoding(tuples, ladders, requirements, search.levels(search.best), len(search.nodes))


def allowed_levels(ladders: Sequence[Ladder], pinned: Mapping[str, str]) -> list[list[int]]:
    """The levels that each quasi-identifier may have, ascending.

    Args:
        ladders: what each quasi-identifier can become.
        pinned: quasi-identifier → the one level that is allowed for it.

    Raises:
        LatticeError: a pinned column or level does not exist.
    """
    names = [ladder.name for ladder in ladders]
    for name, level in pinned.items():
        if name not in names:
            raise LatticeError(f"a level is pinned for `{name}`, which is no quasi-identifier: {', '.join(names)}")
        if level not in (levels := ladders[names.index(name)].levels):
            raise LatticeError(f"`{name}` is pinned to level `{level}`, which it does not have: {', '.join(levels)}")
    return [
        [ladder.levels.index(pinned[ladder.name])] if ladder.name in pinned else _distinct_levels(ladder)
        for ladder in ladders
    ]


def _distinct_levels(ladder: Ladder) -> list[int]:
    """The levels that merge something. Another is never better than the one before: same classes, no less loss."""
    groups = [len(np.unique(codes)) for codes in ladder.codes]
    return [level for level in range(len(groups)) if level == 0 or groups[level] < groups[level - 1]]


class _Search:
    """The search; see the module. A position says for each column which of its allowed levels it has."""

    def __init__(
        self, tuples: Tuples, ladders: Sequence[Ladder], requirements: Requirements, allowed: Sequence[Sequence[int]]
    ) -> None:
        self.ladders = ladders
        self.requirements = requirements
        self.allowed = allowed
        self.records = tuples.records
        self.limit = suppressible(self.records, requirements)
        self.shape = tuple(len(levels) for levels in allowed)
        self.nodes: dict[tuple[int, ...], _Node] = {}
        self.best: tuple[int, ...] | None = None
        if (size := math.prod(self.shape)) > LARGEST:
            most = max(range(len(ladders)), key=lambda i: self.shape[i])
            raise LatticeError(
                f"the generalization lattice has {size:,} nodes, more than {LARGEST:,}: pin the levels of some "
                f"quasi-identifiers or take levels out of their hierarchies; "
                f"`{ladders[most].name}` has most, {self.shape[most]}"
            )
        table = Table.of(tuples)
        self._rollup = RollUp(table, ladders)
        self._steps = [
            [self._loss_of(ladder, level, column, table.counts) for level in levels]
            for ladder, column, levels in zip(ladders, table.columns, allowed, strict=True)
        ]
        self._base = reduce(np.add.outer, [np.array(steps) for steps in self._steps])
        self._bound = np.zeros(self.shape)
        # Where every class that fails must fail below as well, the bound is what is suppressed.
        self._monotone = not any(
            isinstance(one, TCloseness) or one.kind != "distinct"
            for several in requirements.sensitive.values()
            for one in several
        )

    def _loss_of(
        self, ladder: Ladder, level: int, column: npt.NDArray[np.intp], counts: npt.NDArray[np.int64]
    ) -> float:
        """What a level adds to the loss of the table without suppression."""
        values = np.bincount(column, counts, len(ladder.codes[level]))
        ncp = ladder.losses[level][ladder.codes[level]]
        return float((values * ncp).sum()) / (self.records * len(self.ladders))

    def levels(self, position: Sequence[int]) -> list[int]:
        """The levels at a position."""
        return [levels[i] for levels, i in zip(self.allowed, position, strict=True)]

    def run(self, incumbent: Sequence[int] | None) -> None:
        """Find the best node."""
        if incumbent is not None and len(incumbent) == len(self.allowed):
            old = list(zip(incumbent, self.allowed, strict=True))
            if all(level in levels for level, levels in old):
                self.look(tuple(levels.index(level) for level, levels in old))
        self.look(tuple(length - 1 for length in self.shape))
        for position in self._open():
            self._settle(position)

    def fewest(self) -> int:
        """How few records a node suppresses, of those looked at and those down from the top as far as it gets better.

        For k and distinct l the top is the best. Other models can hold further down only.
        """
        at, better = tuple(length - 1 for length in self.shape), True
        while better:
            below = [tuple(at[j] - (i == j) for j in range(len(at))) for i in range(len(at)) if at[i] > 0]
            best = min([at, *below], key=lambda position: self.look(position).suppressed)
            at, better = best, best != at
        return min(node.suppressed for node in self.nodes.values())

    def _limit_of_loss(self) -> float:
        """A node whose loss is surely larger than that is not the best."""
        return (_NOTHING_FOUND if self.best is None else self.nodes[self.best].loss) + 2 * _TIE

    def _open(self) -> Iterator[tuple[int, ...]]:
        """The nodes that may be the best one, by ascending base, as long as there are any."""
        base, bound = self._base.reshape(-1), self._bound.reshape(-1)
        order = np.argsort(base, kind="stable")
        for begin in range(0, len(order), _BLOCK):
            block = order[begin : begin + _BLOCK]
            if base[block[0]] > self._limit_of_loss():
                return
            while (left := block[base[block] + bound[block] <= self._limit_of_loss()]).size:
                yield tuple(int(i) for i in np.unravel_index(left[0], self.shape))

    def _settle(self, position: tuple[int, ...]) -> None:
        """Rule a node out by one as far above it as possible, or else look at it itself."""
        base = self._base[position]
        chain = [] if position in self.nodes else self._chain(position)
        ruled_out, not_ruled_out = 0, len(chain)
        while ruled_out < not_ruled_out:
            middle = (ruled_out + not_ruled_out) // 2
            above = chain[middle]
            limit = self._limit_of_loss()
            if base + self._bound[above] > limit or base + self.look(above).extra > limit:
                ruled_out = middle + 1
            else:
                not_ruled_out = middle
        # Not a bound of the nodes below; but their base is no larger, so they were settled before this one.
        self._bound[position] = np.inf

    def _chain(self, position: tuple[int, ...]) -> list[tuple[int, ...]]:
        """From a node to the top, each time one level up where that loses least."""
        chain, at = [position], list(position)
        while True:
            up = [
                (steps[i + 1] - steps[i], column)
                for column, (steps, i) in enumerate(zip(self._steps, at, strict=True))
                if i + 1 < len(steps)
            ]
            if not up:
                return chain
            at[min(up)[1]] += 1
            chain.append(tuple(at))

    def look(self, position: tuple[int, ...]) -> _Node:
        """Evaluate a node, once."""
        if position in self.nodes:
            return self.nodes[position]
        levels = self.levels(position)
        grouped = self._rollup.group(levels)
        classes = grouped.classes()
        self._rollup.keep(levels, grouped, classes)
        out = np.where(unpublishable(classes, self.requirements), classes.counts, 0)
        extra = self._extra(grouped, levels, out)
        bound = extra
        if not self._monotone:
            bound = self._extra(grouped, levels, least_removed(classes, self.requirements, self.limit))
        node = _Node(round(float(self._base[position]) + extra, 12), int(out.sum()), bound)
        self.nodes[position] = node
        if bound > 0:
            below = self._bound[tuple(slice(0, i + 1) for i in position)]
            np.maximum(below, bound, out=below)
        if extra < np.inf and (self.best is None or self._rank(position) < self._rank(self.best)):
            self.best = position
        return node

    def _rank(self, position: tuple[int, ...]) -> tuple[float, int, tuple[int, ...]]:
        node = self.nodes[position]
        return node.loss, node.suppressed, position

    def _extra(self, grouped: Grouped, levels: Sequence[int], removed: npt.NDArray[np.int64]) -> float:
        """What leaving out so many records of each class adds to the loss; infinite if it is more than the limit."""
        which = np.flatnonzero(removed)
        removed = removed[which]
        if removed.sum() > self.limit:
            return np.inf
        rows = grouped.rows[which]
        gained = np.full(len(rows), float(len(levels)))
        for ladder, level, column in zip(self.ladders, levels, grouped.table.columns, strict=True):
            gained -= ladder.losses[level][ladder.codes[level]][column[rows]]
        return float((removed * gained).sum()) / (self.records * len(levels))


def _recoding(
    tuples: Tuples, ladders: Sequence[Ladder], requirements: Requirements, levels: Sequence[int], checked: int
) -> Recoding:
    """The table at the given levels."""
    grouped = group(Table.of(tuples), ladders, levels)
    out = unpublishable(grouped.classes(), requirements)
    suppressed = out[grouped.groups()]
    left = np.where(suppressed, 0, tuples.counts)
    gone = tuples.records - int(left.sum())
    losses = tuple(
        (float((left * ladder.losses[level][ladder.codes[level]][column]).sum()) + gone) / max(1, tuples.records)
        for ladder, level, column in zip(ladders, levels, tuples.codes.T, strict=True)
    )
    return Recoding(
        levels=np.array(levels, np.int16),
        suppressed=suppressed,
        loss=sum(losses) / max(1, len(losses)),
        losses=losses,
        suppressed_records=gone,
        classes=int((~out).sum()),
        checked=checked,
    )
