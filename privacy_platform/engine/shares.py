"""Aggregating zone tables by shares of the people: each share is read and computed in a task, and the results added up.

Every task reads all blocks and keeps the rows of its share. That is cheaper than to shuffle rows by person, however
many of them are one person's, and nothing of a row leaves the task: what does is groups, which are few.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce

import polars as pl
import pyarrow as pa
from psycopg import Connection
from pyspark.sql import SparkSession

from privacy_platform.engine.release_anonymized import UpstreamMissingError
from privacy_platform.engine.session import parallelism
from privacy_platform.engine.sources.zone import ZoneSplit, read_columns, share_splits
from privacy_platform.engine.stage import frame_stage
from privacy_platform.policy.model import AggregatePolicy
from privacy_platform.policy.tables import Partition, Table
from privacy_platform.warehouse.tables import partition_name, table_columns

__all__ = ["Read", "Shares", "require_upstream"]

Read = Mapping[Table, Sequence[Partition]]
"""The tables an aggregate is made from, its source first, with the partitions to read."""
Compute = Callable[[AggregatePolicy, pl.DataFrame, pl.DataFrame | None], pl.DataFrame]
"""What becomes of the rows of a share: the policy, the source's rows, the joined table's."""


def require_upstream(connection: Connection, table: Table, sources: Sequence[Table]) -> None:
    """See that every table an aggregate is made from stands.

    Raises:
        UpstreamMissingError: one was never materialized.
    """
    for source in sources:
        if not table_columns(connection, source.zone, source.name):
            raise UpstreamMissingError(f"{table.name} is made from {source.name}: materialize {source.name} first.")


class Shares:
    """The shares of the people whose rows an aggregate is made from."""

    def __init__(self, connection: Connection, policy: AggregatePolicy, read: Read, *, seen: str) -> None:
        """Plan the shares.

        Args:
            connection: as the pipeline role.
            policy: the aggregate.
            read: what it is made from.
            seen: the snapshot to read: what streams in meanwhile must be in all that is read, or in nothing of it.
        """
        (source, chosen), *others = read.items()
        names = [partition_name(source, partition) for partition in chosen]
        self.splits = share_splits(connection, source.zone, names, policy.unit, parallelism=parallelism())
        self.rows = ShareRows(policy, source, others[0][0] if policy.join else None, seen)

    def computed(self, spark: SparkSession, compute: Compute) -> list[pl.DataFrame]:
        """What `compute`, a function that can be pickled, makes of each share; of no rows where there is no share."""
        task = _Task(self.rows, compute)
        return frame_stage(spark, self.splits, task) or [task.of_nobody()]


@dataclass(frozen=True)
class ShareRows:
    """Reads the rows of a share, in a worker."""

    policy: AggregatePolicy
    source: Table
    joined: Table | None
    seen: str

    def read(self, split: ZoneSplit) -> tuple[pl.DataFrame, pl.DataFrame | None]:
        """The source's rows and the joined table's."""
        rows = self._frame(self.source, split)
        join = self.policy.join
        if self.joined is None or join is None:
            return rows, None
        # Joined by something else than the person, a row may need any of the other table's.
        token = join.by if join.by == self.policy.unit else None
        return rows, self._frame(self.joined, split.of_table(self.joined.zone, self.joined.name, token))

    def nobody(self) -> tuple[pl.DataFrame, pl.DataFrame | None]:
        """The same without any row."""
        return self._empty(self.source), self._empty(self.joined) if self.joined else None

    def _empty(self, table: Table) -> pl.DataFrame:
        return pl.DataFrame(schema={name: table.column(name).type.polars for name in used_columns(self.policy, table)})

    def _frame(self, table: Table, split: ZoneSplit) -> pl.DataFrame:
        empty = self._empty(table)
        batches: Iterator[pa.RecordBatch] = read_columns(split, empty.columns, seen=self.seen)
        frames = (pl.DataFrame(pl.from_arrow(batch)).cast(empty.schema) for batch in batches)
        return reduce(lambda a, b: a.vstack(b), frames, empty)


@dataclass(frozen=True)
class _Task:
    rows: ShareRows
    compute: Compute

    def __call__(self, split: ZoneSplit) -> pl.DataFrame:
        return self.compute(self.rows.policy, *self.rows.read(split))

    def of_nobody(self) -> pl.DataFrame:
        return self.compute(self.rows.policy, *self.rows.nobody())


def used_columns(policy: AggregatePolicy, source: Table) -> list[str]:
    """The columns of a source that the aggregate needs: no others are read."""
    if policy.join and source.name == policy.join.table and source.name != policy.source:
        return [policy.join.by, *policy.join.columns]
    names = {policy.unit, *(d.column for d in policy.dimensions.values())}
    names |= {name for span in policy.derive.values() for name in (span.span, span.by)}
    names |= {policy.join.by} if policy.join else set()
    for measure in policy.measures.values():
        names |= {n for n in (measure.column, measure.times, measure.once_per) if n} | set(measure.where)
    return [column.name for column in source.columns if column.name in names]
