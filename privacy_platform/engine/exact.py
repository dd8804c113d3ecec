"""Exact aggregates of zone tables, computed by shares of the people."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

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
from privacy_platform.engine.shares import Read, ShareRows, Shares
from privacy_platform.engine.sources.zone import SPARK_TYPES, ZoneSplit
from privacy_platform.engine.stage import collected, read_stage
from privacy_platform.policy.compile import aggregate_table
from privacy_platform.policy.load import PolicySet
from privacy_platform.policy.model import AggregatePolicy
from privacy_platform.policy.tables import ColumnType, Table


def exact_groups(
    spark: SparkSession,
    connection: Connection,
    policy: AggregatePolicy,
    policies: PolicySet,
    read: Read,
    *,
    seen: str,
) -> pl.DataFrame:
    """One row a group, with measures and hidden counts, see `aggregate.finished`; groups are few.

    Rows that lack one of the `necessary` columns are in none of them.

    Args:
        spark: the session.
        connection: as the pipeline role.
        policy: what to compute.
        policies: all policies.
        read: what it is made from.
        seen: the snapshot to read.
    """
    shares = Shares(
        connection,
        policy,
        read,
        seen=seen,
        hashed=compared(policy, list(read)),
        present=necessary(policy, next(iter(read))),
    )
    groups = merged_groups(policy, shares.computed(spark, _grouped))
    table = aggregate_table(policy, policies)
    dimensions = [f"`{name}` {SPARK_TYPES[table.column(name).type]}" for name in policy.dimensions]
    for name, measure in policy.measures.items():
        if measure.kind == "quantile":  # no sum over shares
            task, schema = _ValuesTask(shares.rows, name), ", ".join([*dimensions, "value double"])
            values = read_stage(spark, shares.splits, task, schema)
            found = values.groupBy(*policy.dimensions).agg(F.percentile("value", F.lit(measure.q)).alias(name))
            groups = beside(policy, groups, collected(found))
    return finished(policy, groups)


def necessary(policy: AggregatePolicy, source: Table) -> tuple[str, ...]:
    """The columns of the source without which a row is in no group, and so need not be read.

    There are none where a figure of a row depends on others, as the length of a session does.
    """
    if policy.derive:
        return ()
    required = {dimension.column for dimension in policy.dimensions.values() if dimension.required}
    required -= {*source.primary_key}  # never null
    return tuple(column.name for column in source.columns if column.name in required and column.nullable)


def compared(policy: AggregatePolicy, sources: Sequence[Table]) -> frozenset[str]:
    """The columns of texts that are compared with each other and nothing else: people, sessions.

    For that a hash is enough, and moved and grouped in half the time. That two of a million people have the same one
    has a probability of 3 in 10**8: then they are taken for one or, where their rows are joined, the rows do not
    reconcile and nothing is published. Hashes are others each time: it is not so again, and nobody can choose texts
    for it.
    """
    equal = {policy.unit, *(span.by for span in policy.derive.values())}
    equal |= {measure.once_per for measure in policy.measures.values() if measure.once_per}
    values: set[str | None] = {dimension.column for dimension in policy.dimensions.values()}
    values |= {span.span for span in policy.derive.values()}
    for measure in policy.measures.values():
        values |= {measure.times, *measure.where, measure.column if measure.kind != "count_distinct" else None}
    if policy.join:
        values |= set(policy.join.columns)
        if policy.join.by != policy.unit:
            values.add(policy.join.by)
    return frozenset(
        name
        for name in equal - values
        if all(column.type is ColumnType.TEXT for table in sources for column in table.columns if column.name == name)
    )


def _grouped(policy: AggregatePolicy, source: pl.DataFrame, joined: pl.DataFrame | None) -> pl.DataFrame:
    return share_groups(policy, prepared_rows(policy, source, joined))


@dataclass(frozen=True)
class _ValuesTask:
    """Reads the values of a share that a quantile is of."""

    rows: ShareRows
    measure: str

    def __call__(self, split: ZoneSplit) -> Iterator[pa.RecordBatch]:
        policy = self.rows.policy
        rows = prepared_rows(policy, *self.rows.read(split))
        values = quantile_values(policy, rows, policy.measures[self.measure]).to_arrow()
        types = [
            pa.string() if pa.types.is_large_string(t) or pa.types.is_string_view(t) else t for t in values.schema.types
        ]
        yield from values.cast(pa.schema(list(zip(values.column_names, types, strict=True)))).to_batches()
