"""What requirements say of clusters of points that are still growing, judged against the whole published table."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from privacy_platform.anonymization.kanonymity.evaluate import Cells, Classes, breaking, classes_of
from privacy_platform.anonymization.kanonymity.requirements import Requirements
from privacy_platform.anonymization.kanonymity.tuples import Sensitive, Tuples

__all__ = ["Demands"]

_TIMES = 1 << 20
"""Against a table that is there so many times, a few clusters more do not count."""


@dataclass(frozen=True, slots=True, eq=False)
class Demands:
    """Requirements on clusters of some points of a table.

    Attributes:
        tuples: the points, and after them, if they are an excerpt, all others together as one; so the whole table is
            there for t to be measured against.
        requirements: what every cluster must satisfy.
        points: how many points there are, not counting all others.
        main: sensitive attribute that is judged → the most frequent value of each tuple.
    """

    tuples: Tuples
    requirements: Requirements
    points: int
    main: Mapping[str, npt.NDArray[np.int64]]

    @classmethod
    def on(cls, tuples: Tuples, requirements: Requirements) -> "Demands":
        """Requirements on clusters of all tuples of a table."""
        length = len(tuples.counts)
        main = {name: _main_values(tuples.sensitive[name], length) for name in requirements.sensitive}
        return cls(tuples, requirements, length, main)

    def excerpt(self, points: npt.NDArray[np.int64]) -> "Demands":
        """The same for some of the points, numbered as given; each at most once."""
        new = np.full(len(self.tuples.counts), len(points))
        new[points] = np.arange(len(points))
        classes = classes_of(new, len(points) + 1, self.tuples)
        return Demands(
            Tuples(np.empty((len(points) + 1, 0), np.int32), classes.counts, _as_sensitive(classes.sensitive)),
            self.requirements,
            len(points),
            {name: main[points] for name, main in self.main.items()},
        )

    def failing(self, clusters: npt.NDArray[np.int64], how_many: int) -> npt.NDArray[np.bool_]:
        """Which clusters break a requirement; points in cluster `how_many` are in none."""
        return breaking(self._classes(clusters, how_many), self.requirements)[:how_many]

    def judge(
        self, clusters: npt.NDArray[np.int64], how_many: int, candidates: npt.NDArray[np.int64]
    ) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
        """Which clusters break a requirement, and what would help them.

        Args:
            clusters: cluster of each point, `how_many` for those in none.
            how_many: how many clusters there are.
            candidates: points of shape (how_many, candidates); -1 for none.

        Returns:
            As `failing`; and which candidates have mostly a value that is rarer in the cluster than in the whole table.
        """
        classes = self._classes(clusters, how_many)
        helpful = np.zeros(candidates.shape, np.bool_)
        row = np.arange(how_many)[:, None]
        for name, main in self.main.items():
            cells = classes.sensitive[name]
            table = np.bincount(cells.value, cells.count, cells.values) / self.tuples.records
            keys = cells.group * cells.values + cells.value
            wanted = row * cells.values + main[candidates]
            at = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
            own = np.where(keys[at] == wanted, cells.count[at], 0) / np.maximum(1, classes.counts[:how_many, None])
            helpful |= own < table[main[candidates]]
        return breaking(classes, self.requirements)[:how_many], helpful & (candidates >= 0)

    def joint(
        self, clusters: npt.NDArray[np.int64], how_many: int, one: npt.NDArray[np.int64], other: npt.NDArray[np.int64]
    ) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.float64]]:
        """What two clusters would be together.

        Args:
            clusters: cluster of each point.
            how_many: how many clusters there are.
            one: a cluster of each pair.
            other: the other.

        Returns:
            For each pair, whether it satisfies the requirements, and how much skew goes by joining: records above the
            share that their values have in the whole table.
        """
        classes = self._classes(clusters, how_many)
        table = _repeated(classes, np.arange(how_many + 1), _TIMES)
        sides = [_repeated(classes, side, 1) for side in (one, other)]
        pair = np.arange(len(one))
        groups = np.concatenate([pair, pair, np.full(how_many + 1, len(one))])
        together = classes_of(groups, len(one) + 1, _stacked([*sides, table]))
        skew = self._skew(classes)
        less = skew[one] + skew[other] - self._skew(together)[: len(one)]
        return ~breaking(together, self.requirements)[: len(one)], less

    def _skew(self, classes: Classes) -> npt.NDArray[np.float64]:
        """Records of each class above their share in the whole table, over all values and attributes judged."""
        out = np.zeros(len(classes.counts))
        for name in self.main:
            cells, sensitive = classes.sensitive[name], self.tuples.sensitive[name]
            share = np.bincount(sensitive.value, sensitive.count, cells.values) / self.tuples.records
            above = np.maximum(0, cells.count - share[cells.value] * classes.counts[cells.group])
            out += np.bincount(cells.group, above, len(out))
        return out

    def _classes(self, clusters: npt.NDArray[np.int64], how_many: int) -> Classes:
        others = np.full(len(self.tuples.counts) - self.points, how_many, np.int64)
        return classes_of(np.concatenate([clusters, others]), how_many + 1, self.tuples)


def _repeated(classes: Classes, which: npt.NDArray[np.int64], times: int) -> Tuples:
    """Classes as tuples, in any order and any number of them, each counted so many times."""

    def of(cells: Cells) -> Sensitive:
        sizes = np.bincount(cells.group, minlength=len(classes.counts))
        starts, sizes = (np.cumsum(sizes) - sizes)[which], sizes[which]
        at = np.arange(sizes.sum()) + np.repeat(starts - (np.cumsum(sizes) - sizes), sizes)
        index = np.repeat(np.arange(len(which)), sizes)
        return Sensitive(cells.values, index, cells.value[at].astype(np.int32), cells.count[at] * times)

    sensitive = {name: of(cells) for name, cells in classes.sensitive.items()}
    return Tuples(np.empty((len(which), 0), np.int32), classes.counts[which] * times, sensitive)


def _stacked(several: list[Tuples]) -> Tuples:
    """Tables one after the other."""
    begins = np.cumsum([0, *(len(one.counts) for one in several)])

    def of(name: str) -> Sensitive:
        parts = [one.sensitive[name] for one in several]
        return Sensitive(
            parts[0].values,
            np.concatenate([part.tuple_index + begin for part, begin in zip(parts, begins[:-1], strict=True)]),
            np.concatenate([part.value for part in parts]),
            np.concatenate([part.count for part in parts]),
        )

    counts = np.concatenate([one.counts for one in several])
    return Tuples(np.empty((len(counts), 0), np.int32), counts, {name: of(name) for name in several[0].sensitive})


def _as_sensitive(cells: Mapping[str, Cells]) -> dict[str, Sensitive]:
    return {
        name: Sensitive(one.values, one.group, one.value.astype(np.int32), one.count) for name, one in cells.items()
    }


def _main_values(sensitive: Sensitive, length: int) -> npt.NDArray[np.int64]:
    """The most frequent value of each tuple."""
    out = np.zeros(length, np.int64)
    order = np.argsort(sensitive.count, kind="stable")
    out[sensitive.tuple_index[order]] = sensitive.value[order]
    return out
