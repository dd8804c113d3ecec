"""What a table must be able to answer so that its risk can be measured: counts of combinations of values.

Columns of the answers are named by position, so that no column of the table can be in the way.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol, Self

import polars as pl

__all__ = ["Kind", "Relation", "SourceColumn"]


class Kind(StrEnum):
    """What the values of a column are."""

    TEXT = "text"
    INTEGER = "integer"
    NUMBER = "number"
    TIME = "time"
    BOOLEAN = "boolean"

    @property
    def ordered(self) -> bool:
        """Whether the distance of two values means something."""
        return self in (Kind.INTEGER, Kind.NUMBER, Kind.TIME)


@dataclass(frozen=True, slots=True)
class SourceColumn:
    """A column that can be asked for."""

    name: str
    kind: Kind


class Relation(Protocol):
    """A table. Null is a value like any other, and equal to itself."""

    @property
    def columns(self) -> tuple[SourceColumn, ...]:
        """The columns that whoever asks may read and whose values can be compared, in order."""
        ...

    def records(self) -> int:
        """How many records there are."""
        ...

    def distinct(self, names: Sequence[str]) -> dict[str, int]:
        """Column → how many values it has, null not counted."""
        ...

    def grouped(self, names: Sequence[str], *, limit: int | None = None) -> pl.DataFrame | None:
        """The distinct combinations of values: columns `c0`, `c1`, … and `records` (int64).

        Returns None, and holds no more than `limit` of them in memory, when there are more than that.
        """
        ...

    def cells(self, names: Sequence[str], value: str) -> pl.DataFrame:
        """How a column's values are distributed over the classes of `names`: `class` (int64), `value`, `records`."""
        ...

    def without(self, names: Sequence[str], mark: str) -> Self:
        """The same table without the records in which all of `names` are the text `mark`."""
        ...
