"""Exact aggregates of zone tables: shares of the people read and grouped in tasks, their groups put together.

Every task reads all blocks and keeps the rows of its share of the people. That is cheaper than to shuffle the rows by
person, and nothing of a row leaves the task. Quantiles alone are no sum over shares: their values are, for Spark.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce

import polars as pl
import pyarrow as pa
from psycopg import Connection
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from privacy_platform.engine.aggregate import (
    beside,
    finished,
    merged_groups,
    prepared_rows,
    quantile_values,
    share_groups,
)
from privacy_platform.engine.session import parallelism
from privacy_platform.engine.sources.zone import SPARK_TYPES, ZoneSplit, read_columns, share_splits
from privacy_platform.engine.stage import collected, frame_stage, read_stage
from privacy_platform.engine.zone_frames import used_columns
from privacy_platform.policy.compile import aggregate_table
from privacy_platform.policy.load import PolicySet
from privacy_platform.policy.model import AggregatePolicy
from privacy_platform.policy.tables import Partition, Table
from privacy_platform.warehouse.tables import partition_name


def exact_groups(
    spark: SparkSession,
    connection: Connection,
    policy: AggregatePolicy,
    policies: PolicySet,
    read: Mapping[Table, Sequence[Partition]],
    *,
    seen: str,
) -> pl.DataFrame:
    """One row a group, with measures and hidden counts, see `aggregate.finished`; groups are few.

    Args:
        spark: the session.
        connection: as the pipeline role.
        policy: what to compute.
        policies: all policies.
        read: the anonymized tables it is made from, its source first, with the partitions to read.
        seen: the snapshot to read.
    """
    (source, chosen), *others = read.items()
    names = [partition_name(source, partition) for partition in chosen]
    splits = share_splits(connection, source.zone, names, policy.unit, parallelism=parallelism())
    task = _ShareTask(policy, source, others[0][0] if policy.join else None, seen)
    groups = merged_groups(policy, frame_stage(spark, splits, task) or [task.nothing()])
    table = aggregate_table(policy, policies)
    dimensions = [f"`{name}` {SPARK_TYPES[table.column(name).type]}" for name in policy.dimensions]
    for name, measure in policy.measures.items():
        if measure.kind == "quantile":
            values = read_stage(spark, splits, _QuantileTask(task, name), ", ".join([*dimensions, "value double"]))
            found = values.groupBy(*policy.dimensions).agg(F.percentile("value", F.lit(measure.q)).alias(name))
            groups = beside(policy, groups, collected(found))
    return finished(policy, groups)


@dataclass(frozen=True)
class _ShareTask:
    """Reads a share of the people and groups it."""

    policy: AggregatePolicy
    source: Table
    joined: Table | None
    seen: str

    def __call__(self, split: ZoneSplit) -> pl.DataFrame:
        return share_groups(self.policy, self.rows(split))

    def rows(self, split: ZoneSplit) -> pl.DataFrame:
        """The prepared rows of a share."""
        names = used_columns(self.policy, self.source)
        source = _frame(read_columns(split, names, seen=self.seen), self.source, names)
        return prepared_rows(self.policy, source, self._joined(split))

    def _joined(self, split: ZoneSplit) -> pl.DataFrame | None:
        if self.joined is None or self.policy.join is None:
            return None
        names = used_columns(self.policy, self.joined)
        whole = self.policy.join.by != self.policy.unit
        other = split.of_table(self.joined.zone, self.joined.name, None if whole else self.policy.join.by)
        return _frame(read_columns(other, names, seen=self.seen), self.joined, names)

    def nothing(self) -> pl.DataFrame:
        """The groups of a share of nobody."""
        empty = [
            pl.DataFrame(schema={name: table.column(name).type.polars for name in used_columns(self.policy, table)})
            for table in (self.source, *([self.joined] if self.joined else []))
        ]
        return share_groups(self.policy, prepared_rows(self.policy, empty[0], empty[1] if self.joined else None))


@dataclass(frozen=True)
class _QuantileTask:
    """Reads the values that a quantile is of."""

    task: _ShareTask
    measure: str

    def __call__(self, split: ZoneSplit) -> Iterator[pa.RecordBatch]:
        policy = self.task.policy
        values = quantile_values(policy, self.task.rows(split), policy.measures[self.measure]).to_arrow()
        types = [
            pa.string() if pa.types.is_large_string(t) or pa.types.is_string_view(t) else t for t in values.schema.types
        ]
        yield from values.cast(pa.schema(list(zip(values.column_names, types, strict=True)))).to_batches()


def _frame(batches: Iterator[pa.RecordBatch], table: Table, names: Sequence[str]) -> pl.DataFrame:
    """The batches as one frame, in the types of the table's columns also where there is none."""
    empty = pl.DataFrame(schema={name: table.column(name).type.polars for name in names})
    frames = [pl.DataFrame(pl.from_arrow(batch)).cast(empty.schema) for batch in batches]
    return reduce(lambda a, b: a.vstack(b), frames, empty)
