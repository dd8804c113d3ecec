"""What a table of a zone looks like, as values: the contract between policies and the warehouse."""

from dataclasses import dataclass, field
from datetime import date, timedelta
from enum import StrEnum

import polars as pl


class Zone(StrEnum):
    """The schemas data passes through, in order of decreasing secrecy."""

    RAW = "raw"
    ANONYMIZED = "anonymized"
    ANALYTICS = "analytics"


class ColumnType(StrEnum):
    """The column types in use; the value is PostgreSQL's name."""

    TEXT = "text"
    BIGINT = "bigint"
    DOUBLE = "double precision"
    BOOLEAN = "boolean"
    TIMESTAMP = "timestamptz"
    DATE = "date"
    BYTES = "bytea"

    @property
    def polars(self) -> pl.DataType:
        """The Polars type whose Arrow form COPYs into a column of this type without a cast."""
        return _POLARS[self]


_POLARS: dict[ColumnType, pl.DataType] = {
    ColumnType.TEXT: pl.String(),
    ColumnType.BIGINT: pl.Int64(),
    ColumnType.DOUBLE: pl.Float64(),
    ColumnType.BOOLEAN: pl.Boolean(),
    ColumnType.TIMESTAMP: pl.Datetime("us", "UTC"),
    ColumnType.DATE: pl.Date(),
    ColumnType.BYTES: pl.Binary(),
}


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a zone table and where it comes from; `restricted` ones are not for every reader of the zone."""

    name: str
    type: ColumnType
    comment: str
    pii: str = "none"
    sensitivity: str = "none"
    nullable: bool = True
    sources: tuple[str, ...] = ()
    transformation: str = "identity"
    restricted: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    """A zone table: its columns, key, partitioning and comment.

    `key` is the primary key. A table with `partition_column` (a timestamp) has one partition a UTC day; any other
    has a single partition, so that both are replaced in the same way.
    """

    zone: Zone
    name: str
    columns: tuple[Column, ...]
    key: tuple[str, ...]
    comment: str
    partition_column: str | None = None
    indexes: tuple[tuple[str, ...], ...] = ()
    upstream: tuple[str, ...] = field(default=())

    @property
    def qualified(self) -> str:
        """`schema.name`."""
        return f"{self.zone}.{self.name}"

    @property
    def primary_key(self) -> tuple[str, ...]:
        """The key, with the partitioning column that PostgreSQL wants in it."""
        if self.partition_column is None:
            return self.key
        # Raw records are looked up by their key. Published ones are read by time, and what comes in the order of time
        # goes to the end of such an index: keys without order would need all of it in memory.
        if self.zone is Zone.ANONYMIZED:
            return (self.partition_column, *self.key)
        return (*self.key, self.partition_column)

    def schema(self) -> dict[str, pl.DataType]:
        """Column → Polars type, in order."""
        return {column.name: column.type.polars for column in self.columns}

    def column(self, name: str) -> Column:
        """The column of that name.

        Raises:
            KeyError: there is none.
        """
        return {column.name: column for column in self.columns}[name]


@dataclass(frozen=True, order=True, slots=True)
class Partition:
    """One partition: a UTC day, or the whole table when `day` is None."""

    day: date | None = None

    @property
    def suffix(self) -> str:
        """The ending of the partition's table name."""
        return "all" if self.day is None else f"{self.day:%Y%m%d}"

    @property
    def bounds(self) -> str:
        """The FOR VALUES clause."""
        if self.day is None:
            return "FOR VALUES FROM (MINVALUE) TO (MAXVALUE)"
        start, end = self.range
        return f"FOR VALUES FROM ('{start}') TO ('{end}')"

    @property
    def range(self) -> tuple[str, str]:
        """First instant, and first instant after, as literals; only for a day."""
        assert self.day is not None  # noqa: S101 - programming error otherwise
        return f"{self.day} 00:00:00+00", f"{self.day + timedelta(days=1)} 00:00:00+00"

    @classmethod
    def parse(cls, suffix: str) -> "Partition":
        """The partition whose table name ends so."""
        if suffix == "all":
            return cls()
        return cls(date(int(suffix[:4]), int(suffix[4:6]), int(suffix[6:8])))


WHOLE = Partition()
