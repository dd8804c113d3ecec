"""Re-identification risk from the sizes of equivalence classes: prosecutor, journalist, marketer.

Definitions: K. El Emam, Guide to the De-Identification of Personal Health Information (2013); ARX computes the same.
With f records of a class in the table and F people of that class in the population the table was drawn from:

* **Prosecutor**: the adversary knows that their target is in the table. Risk of a record: 1/f.
* **Journalist**: the adversary does not know it and looks into the population. Risk of a record: 1/F.
* **Marketer**: the adversary re-identifies as many as possible. Expected share of records matched correctly.

Without a population the table is taken for the whole of it (F = f), the highest these risks can be. A record counts as
one person. Suppressed records are in no class.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["Attack", "ClassSizes", "class_sizes", "journalist", "marketer", "prosecutor"]


@dataclass(frozen=True, slots=True)
class ClassSizes:
    """How many equivalence classes there are of each size.

    Attributes:
        histogram: (records of a class, number of such classes), ascending.
    """

    histogram: tuple[tuple[int, int], ...]

    @property
    def records(self) -> int:
        """Records in all classes."""
        return sum(size * classes for size, classes in self.histogram)

    @property
    def classes(self) -> int:
        """Number of classes."""
        return sum(classes for _, classes in self.histogram)

    @property
    def smallest(self) -> int:
        """Records of the smallest class: the k of k-anonymity; 0 without records."""
        return self.histogram[0][0] if self.histogram else 0

    @property
    def largest(self) -> int:
        """Records of the largest class."""
        return self.histogram[-1][0] if self.histogram else 0

    def records_between(self, low: int, high: int | None = None) -> int:
        """Records in classes of `low` to `high` records, both included; `high` None is no bound."""
        return sum(size * n for size, n in self.histogram if low <= size and (high is None or size <= high))


@dataclass(frozen=True, slots=True)
class Attack:
    """The risk of the records against one adversary, each 0 to 1.

    Attributes:
        highest: of the record at the highest risk.
        average: of a record on average.
        at_risk: share of the records whose risk is above the threshold.
    """

    highest: float
    average: float
    at_risk: float


def class_sizes(counts: npt.NDArray[np.int64]) -> ClassSizes:
    """The histogram of classes.

    Args:
        counts: records of each class, all ≥ 1.
    """
    sizes, classes = np.unique(counts, return_counts=True)
    return ClassSizes(tuple(zip(sizes.tolist(), classes.tolist(), strict=True)))


def prosecutor(sizes: ClassSizes, threshold: float) -> Attack:
    """Risk of a record whose person is known to be in the table: 1/f (El Emam's pR_a, pR_b and pR_c)."""
    records = sizes.records
    if not records:
        return Attack(0.0, 0.0, 0.0)
    at_risk = sum(size * classes for size, classes in sizes.histogram if 1 / size > threshold)
    return Attack(1 / sizes.smallest, sizes.classes / records, at_risk / records)


def journalist(counts: npt.NDArray[np.int64], population: npt.NDArray[np.int64], threshold: float) -> Attack:
    """Risk of a record whose person is looked for in the population: 1/F (El Emam's jR_a, jR_b and jR_c).

    Args:
        counts: shape (classes,), records of each class in the table, all ≥ 1.
        population: shape (classes,), people of each class in the population. The table is part of the population, so
            no class is taken for smaller than in the table.
        threshold: a record is at risk above it.
    """
    if not len(counts):
        return Attack(0.0, 0.0, 0.0)
    people = np.maximum(population, counts)
    records = counts.sum()
    # The average is the larger of both directions: from a table's record to the population, and back.
    average = max(len(counts) / people.sum(), float((counts / people).sum() / records))
    at_risk = counts[1 / people > threshold].sum() / records
    return Attack(float(1 / people.min()), float(average), float(at_risk))


def marketer(counts: npt.NDArray[np.int64], population: npt.NDArray[np.int64]) -> float:
    """Expected share of the table's records that are matched to the right person of the population (El Emam's mR).

    Args: as of `journalist`. Where the table is the population it is classes over records.
    """
    if not len(counts):
        return 0.0
    return float((counts / np.maximum(population, counts)).sum() / counts.sum())
