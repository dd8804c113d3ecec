"""Zone tables as Spark frames: the columns that an aggregate needs, of the partitions that are asked for."""

from collections.abc import Collection, Iterator, Sequence
from functools import partial

import pyarrow as pa
from psycopg import Connection
from pyspark.sql import DataFrame, SparkSession

from privacy_platform.engine.release_anonymized import UpstreamMissingError
from privacy_platform.engine.session import parallelism
from privacy_platform.engine.sources.zone import SPARK_TYPES, ZoneSplit, read_columns, zone_splits
from privacy_platform.engine.stage import read_stage
from privacy_platform.policy.model import AggregatePolicy
from privacy_platform.policy.tables import Partition, Table
from privacy_platform.warehouse.frequency import heaviest_share
from privacy_platform.warehouse.tables import partition_name, table_columns

__all__ = ["is_heavy", "require_upstream", "used_columns", "zone_frame"]


def require_upstream(connection: Connection, table: Table, sources: Sequence[Table]) -> None:
    """See that every table an aggregate is made from stands.

    Raises:
        UpstreamMissingError: one was never materialized.
    """
    for source in sources:
        if not table_columns(connection, source.zone, source.name):
            raise UpstreamMissingError(f"{table.name} is made from {source.name}: materialize {source.name} first.")


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


def zone_frame(
    spark: SparkSession,
    connection: Connection,
    source: Table,
    chosen: Sequence[Partition],
    names: list[str],
    *,
    seen: str | None = None,
) -> DataFrame:
    """The given columns of the chosen partitions, one Spark partition a split; read when it is computed.

    `seen` is the snapshot to read; without one, what streams in meanwhile may be in a part of it.
    """
    splits = zone_splits(connection, source, chosen, parallelism=parallelism())
    schema = ", ".join(f"`{name}` {SPARK_TYPES[source.column(name).type]}" for name in names)
    return (
        read_stage(spark, splits, partial(_read, names, seen), schema) if splits else spark.createDataFrame([], schema)
    )


def is_heavy(connection: Connection, source: Table, chosen: Sequence[Partition], columns: Collection[str]) -> bool:
    """Whether one value of a column has more rows than a processor's share of all, so that its task would end last."""
    names = [partition_name(source, partition) for partition in chosen]
    return heaviest_share(connection, source.zone, names, columns) * parallelism() > 1


def _read(names: list[str], seen: str | None, split: ZoneSplit) -> Iterator[pa.RecordBatch]:
    return read_columns(split, names, seen=seen)
