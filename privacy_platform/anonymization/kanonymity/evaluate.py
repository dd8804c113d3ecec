"""What equivalence classes show: which break a requirement, which must be left out, and k, l and t as measured.

A grouping says of every tuple which class it is published in. It is first counted together (`classes_of`); everything
after that looks at the counts of the classes alone and is vectorized over all of them. Attributes are kept sparse: one
cell for each pair of class and value that occurs, so that an attribute of many values costs no more than its records.

Definitions, which pycanon (Sáinz-Pardo Díaz & López García 2022) shares except where said:

* **k**: records of a class (Samarati & Sweeney 1998).
* **distinct l**: values of a class. **Entropy l**: exp of the entropy of a class's values; pycanon rounds it down.
  **Recursive (c,l)**: with counts r1 ≥ r2 ≥ … of a class, r1 < c · (r_l + r_(l+1) + …) (Machanavajjhala et al. 2007).
  pycanon sorts the counts the other way round, so that its r1 is the rarest value, and rounds c; we keep to the paper.
* **t**: earth mover's distance of a class from the published table, which is what an adversary sees (Li et al. 2007):
  `equal` is total variation, `ordered` the sum of the cumulated differences over the number of values less one. The
  values are those that the published table shows. With a single value the distance is 0; pycanon divides by zero.

Comparisons of entropies and distances allow for `TOLERANCE`, so that rounding does not break what holds exactly.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt

from privacy_platform.anonymization.kanonymity.requirements import LDiversity, Requirements, TCloseness
from privacy_platform.anonymization.kanonymity.tuples import Sensitive, Tuples

__all__ = [
    "TOLERANCE",
    "Cells",
    "Classes",
    "Measured",
    "MeasuredSensitive",
    "breaking",
    "classes_of",
    "distances",
    "failing",
    "measure",
    "suppressible",
    "undiverse",
    "unpublishable",
]

TOLERANCE = 1e-9
"""How far an entropy may be under log(l), and a distance over t, by rounding."""

_DENSE = 8
"""Keys are counted in an array of their whole range while it is at most so many times larger than their number."""


@dataclass(frozen=True, slots=True, eq=False)
class Cells:
    """The values of a sensitive attribute in the classes: cells sorted by class, then value, each pair once.

    Attributes:
        group: int64, which class.
        value: int64, which value.
        count: int64, how many records; all ≥ 1.
        values: how many values the attribute has in the whole table.
    """

    group: npt.NDArray[np.int64]
    value: npt.NDArray[np.int64]
    count: npt.NDArray[np.int64]
    values: int


@dataclass(frozen=True, slots=True, eq=False)
class Classes:
    """Equivalence classes, counted.

    Attributes:
        counts: int64 of shape (groups,), records of each class; one without records is no class.
        sensitive: sensitive attribute → its cells.
    """

    counts: npt.NDArray[np.int64]
    sensitive: Mapping[str, Cells] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class MeasuredSensitive:
    """What a table shows of a sensitive attribute, each the worst of all classes.

    Attributes:
        distinct_l: fewest values.
        entropy_l: least exp(entropy), a real number.
        recursive_l: the l that `recursive_c` is measured for.
        recursive_c: the largest r1 / (r_l + r_(l+1) + …). (c,l)-diversity holds for every larger c; infinite if a class
            has fewer than l values.
        t_equal: largest equal distance.
        t_ordered: largest ordered distance, values in the order of their codes.
    """

    distinct_l: int
    entropy_l: float
    recursive_l: int
    recursive_c: float
    t_equal: float
    t_ordered: float


@dataclass(frozen=True, slots=True)
class Measured:
    """What a table shows.

    Attributes:
        k: records of the smallest class; 0 for a table without records, of which nothing else is measured.
        classes: how many classes there are.
        sensitive: sensitive attribute → what is measured of it.
    """

    k: int
    classes: int
    sensitive: Mapping[str, MeasuredSensitive] = field(default_factory=dict)


def classes_of(
    groups: npt.NDArray[np.int64], n_groups: int, tuples: Tuples, published: npt.NDArray[np.bool_] | None = None
) -> Classes:
    """Count a grouping together.

    Args:
        groups: shape (tuples,), the class of each tuple, 0 ≤ class < n_groups.
        n_groups: how many classes may occur.
        tuples: the table.
        published: shape (tuples,), the tuples that are published; others are in no class. None: all.
    """
    counts = tuples.counts if published is None else np.where(published, tuples.counts, 0)
    return Classes(
        _totals(groups, counts, n_groups),
        {name: _cells(groups, n_groups, one, published) for name, one in tuples.sensitive.items()},
    )


def failing(
    groups: npt.NDArray[np.int64],
    n_groups: int,
    tuples: Tuples,
    requirements: Requirements,
    published: npt.NDArray[np.bool_] | None = None,
) -> npt.NDArray[np.bool_]:
    """Which classes break a requirement as the table stands; t against the distribution of what is published.

    Args:
        groups: shape (tuples,), the class of each tuple, 0 ≤ class < n_groups.
        n_groups: how many classes may occur.
        tuples: the table.
        requirements: what every class must satisfy.
        published: shape (tuples,), the tuples that are published. None: all.

    Returns:
        Shape (n_groups,). A class without published records breaks nothing: it is none.
    """
    return breaking(classes_of(groups, n_groups, tuples, published), requirements)


def breaking(classes: Classes, requirements: Requirements) -> npt.NDArray[np.bool_]:
    """Which classes break a requirement, t against all of them together; shape (groups,)."""
    return _alone(classes, requirements) | _against_all(classes, requirements)


def unpublishable(classes: Classes, requirements: Requirements) -> npt.NDArray[np.bool_]:
    """Which classes must be left out so that all others satisfy the requirements; shape (groups,).

    First those that break k or l, which a class does by itself. Then those that break t against what is left; that
    changes what is left, so it is repeated until none does. The result depends on the classes alone.
    """
    out = _alone(classes, requirements)
    if not any(isinstance(one, TCloseness) for several in requirements.sensitive.values() for one in several):
        return out
    left = _without(classes, out)
    while (more := _against_all(left, requirements)).any():
        out |= more
        left = _without(left, more)
    return out


def suppressible(records: int, requirements: Requirements) -> int:
    """How many of the records may be suppressed. A limit of 0.29 allows 29 of 100, whatever 0.29 is in binary."""
    return math.floor(records * requirements.suppression_limit + TOLERANCE)


def measure(
    groups: npt.NDArray[np.int64],
    n_groups: int,
    tuples: Tuples,
    *,
    published: npt.NDArray[np.bool_] | None = None,
    recursive_l: Mapping[str, int] | None = None,
) -> Measured:
    """K, l and t of a grouping as published.

    Args:
        groups: shape (tuples,), the class of each tuple, 0 ≤ class < n_groups.
        n_groups: how many classes may occur.
        tuples: the table.
        published: shape (tuples,), the tuples that are published. None: all.
        recursive_l: sensitive attribute → the l that c of recursive (c,l)-diversity is measured for. If not given, the
            distinct l that was measured.
    """
    classes = classes_of(groups, n_groups, tuples, published)
    there = classes.counts > 0
    if not there.any():
        return Measured(0, 0)

    def of(name: str, cells: Cells) -> MeasuredSensitive:
        distinct = int(_distinct(cells, n_groups)[there].min())
        l_asked = (recursive_l or {}).get(name, distinct)
        most, rest = _most_and_rest(cells, n_groups, l_asked)
        with np.errstate(divide="ignore"):
            ratio = most[there] / rest[there]
        return MeasuredSensitive(
            distinct_l=distinct,
            entropy_l=float(np.exp(_entropy(cells, classes.counts)[there].min())),
            recursive_l=l_asked,
            recursive_c=float(ratio.max()),
            t_equal=float(distances(cells, classes.counts, "equal").max()),
            t_ordered=float(distances(cells, classes.counts, "ordered").max()),
        )

    sensitive = {name: of(name, cells) for name, cells in classes.sensitive.items()}
    return Measured(int(classes.counts[there].min()), int(there.sum()), sensitive)


def _alone(classes: Classes, requirements: Requirements) -> npt.NDArray[np.bool_]:
    """Which classes break k or l."""
    out = classes.counts < requirements.k
    for name, several in requirements.sensitive.items():
        for one in several:
            if isinstance(one, LDiversity):
                out |= undiverse(classes.sensitive[name], classes.counts, one)
    return out & (classes.counts > 0)


def undiverse(cells: Cells, counts: npt.NDArray[np.int64], model: LDiversity) -> npt.NDArray[np.bool_]:
    """Which classes of these cells and records break l; shape (groups,).

    Raises:
        ValueError: the model is recursive and has no c.
    """
    if model.kind == "distinct":
        return _distinct(cells, len(counts)) < model.l
    if model.kind == "entropy":
        return _entropy(cells, counts) < math.log(model.l) - TOLERANCE
    if model.c is None:
        raise ValueError("recursive (c,l)-diversity needs c")
    most, rest = _most_and_rest(cells, len(counts), math.ceil(model.l))
    return ~(most < model.c * rest - TOLERANCE)


def _against_all(classes: Classes, requirements: Requirements) -> npt.NDArray[np.bool_]:
    """Which classes break t against all classes together."""
    out = np.zeros(len(classes.counts), np.bool_)
    for name, several in requirements.sensitive.items():
        for one in several:
            if isinstance(one, TCloseness):
                distance = distances(classes.sensitive[name], classes.counts, one.distance)
                out |= distance > one.t + TOLERANCE
    return out


def _without(classes: Classes, out: npt.NDArray[np.bool_]) -> Classes:
    """The classes that are not left out, under their old numbers."""

    def kept(cells: Cells) -> Cells:
        keep = ~out[cells.group]
        return Cells(cells.group[keep], cells.value[keep], cells.count[keep], cells.values)

    return Classes(np.where(out, 0, classes.counts), {name: kept(cells) for name, cells in classes.sensitive.items()})


def _totals(index: npt.NDArray[np.int64], weights: npt.NDArray[np.int64], length: int) -> npt.NDArray[np.int64]:
    # Sums of doubles are exact up to 2^53 records.
    return np.bincount(index, weights, length).astype(np.int64)


def _sums(index: npt.NDArray[np.int64], weights: npt.NDArray[np.float64], length: int) -> npt.NDArray[np.float64]:
    return np.bincount(index, weights, length).astype(np.float64, copy=False)


def _cells(
    groups: npt.NDArray[np.int64], n_groups: int, sensitive: Sensitive, published: npt.NDArray[np.bool_] | None
) -> Cells:
    index, value, count = sensitive.tuple_index, sensitive.value, sensitive.count
    if published is not None:
        keep = published[index]
        index, value, count = index[keep], value[keep], count[keep]
    keys = groups[index] * sensitive.values + value
    span = n_groups * sensitive.values
    if span <= _DENSE * len(keys):
        totals = np.bincount(keys, count, span)
        found = np.flatnonzero(totals)
        summed = totals[found]
    else:
        found, inverse = np.unique(keys, return_inverse=True)
        summed = np.bincount(inverse, count, len(found))
    group, of = np.divmod(found, max(1, sensitive.values))
    return Cells(group, of, summed.astype(np.int64), sensitive.values)


def _distinct(cells: Cells, n_groups: int) -> npt.NDArray[np.int64]:
    return np.bincount(cells.group, minlength=n_groups)


def _entropy(cells: Cells, counts: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Entropy of every class in nats; 0 for one without records."""
    share = cells.count / counts[cells.group]
    return _sums(cells.group, -share * np.log(share), len(counts))


def _most_and_rest(
    cells: Cells,
    n_groups: int,
    l: int,  # noqa: E741 - the name of the literature
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Of every class: records of its most frequent value, and of its l-th and rarer ones."""
    order = np.lexsort((-cells.count, cells.group))
    group, count = cells.group[order], cells.count[order]
    rank = np.arange(len(group)) - np.searchsorted(group, group)
    most = np.zeros(n_groups, np.int64)
    most[group[rank == 0]] = count[rank == 0]
    rest = rank >= l - 1
    return most, _totals(group[rest], count[rest], n_groups)


def distances(
    cells: Cells, counts: npt.NDArray[np.int64], kind: Literal["equal", "ordered"]
) -> npt.NDArray[np.float64]:
    """Earth mover's distance of every class from all of them together; 0 for one without records."""
    of_value = _totals(cells.value, cells.count, cells.values)
    shown = of_value > 0
    share = of_value[shown] / max(1, int(of_value.sum()))
    # Numbered among the values that are shown at all.
    value = (np.cumsum(shown) - 1)[cells.value]
    if kind == "equal":
        # Half the sum of |own - share| is the sum of what is above: both sum to one. Only cells can be above.
        above = np.maximum(cells.count / counts[cells.group] - share[value], 0)
        return _sums(cells.group, above, len(counts))
    if len(share) < 2 or len(value) == 0:
        return np.zeros(len(counts))
    return _steps(cells, counts, value, share) / (len(share) - 1)


def _steps(
    cells: Cells, counts: npt.NDArray[np.int64], value: npt.NDArray[np.int64], share: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Sum over all values of |share of the class up to there - share of the table up to there|, for every class.

    The class's cumulated share is a step function, constant from one cell of the class to the next, while the table's
    grows: on a step it is first below and then above, so that two differences of its prefix sums give the step's part.
    """
    table = np.cumsum(share)
    prefix = np.concatenate([[0.0], np.cumsum(table)])
    first = np.ones(len(value), np.bool_)
    first[1:] = cells.group[1:] != cells.group[:-1]
    starts = np.flatnonzero(first)
    running = np.cumsum(cells.count)
    before = np.repeat(running[starts] - cells.count[starts], np.diff(np.append(starts, len(value))))
    height = (running - before) / counts[cells.group]
    # A class's last step goes on to the last value.
    end = np.where(np.roll(first, -1), len(share), np.roll(value, -1))
    turn = np.clip(np.searchsorted(table, height, side="right"), value, end)
    below = height * (turn - value) - (prefix[turn] - prefix[value])
    above = (prefix[end] - prefix[turn]) - height * (end - turn)
    total = _sums(cells.group, below + above, len(counts))
    # Up to its first cell the class has nothing.
    total[cells.group[starts]] += prefix[value[starts]]
    return total
