"""A table as the search sees it.

Its distinct quasi-identifier tuples, how many records share each, and, for each sensitive attribute, how its values
are distributed over them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

__all__ = ["Sensitive", "Tuples"]


@dataclass(frozen=True, slots=True, eq=False)
class Sensitive:
    """The values of a sensitive attribute among the tuples, as a sparse matrix of counts.

    Attributes:
        values: how many distinct values there are (null is one of them); codes are in the values' order, null last.
        tuple_index: int64, which tuple.
        value: int32, which value.
        count: int64, how many records; all ≥ 1, each pair of tuple and value once.
    """

    values: int
    tuple_index: npt.NDArray[np.int64]
    value: npt.NDArray[np.int32]
    count: npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Tuples:
    """The distinct tuples of base values.

    Attributes:
        codes: int32 of shape (tuples, quasi-identifiers), in the columns' order; codes of the ladders' base values.
        counts: int64 of shape (tuples,), records a tuple, all ≥ 1.
        sensitive: sensitive attribute → its counts.
    """

    codes: npt.NDArray[np.int32]
    counts: npt.NDArray[np.int64]
    sensitive: Mapping[str, Sensitive] = field(default_factory=dict)

    @property
    def records(self) -> int:
        """How many records the table has."""
        return int(self.counts.sum())
