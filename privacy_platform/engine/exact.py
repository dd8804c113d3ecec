"""Exact aggregates of zone tables, computed by shares of the people."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial, reduce

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
from privacy_platform.engine.shares import Read, Share, ShareRows, Shares
from privacy_platform.engine.sources.zone import SPARK_TYPES
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
    quantiles = [
        _quantiles(spark, shares, name, measure.q, aggregate_table(policy, policies))
        for name, measure in policy.measures.items()
        if measure.kind == "quantile"
    ]
    groups = merged_groups(policy, shares.computed(spark, _grouped))
    return finished(policy, reduce(partial(beside, policy), quantiles, groups))


def _quantiles(spark: SparkSession, shares: Shares, name: str, q: float | None, table: Table) -> pl.DataFrame:
    """A quantile of each group; it is no sum over shares, so Spark computes it of all values together."""
    names = list(shares.rows.policy.dimensions)
    schema = ", ".join([*(f"`{n}` {SPARK_TYPES[table.column(n).type]}" for n in names), "value double"])
    values = read_stage(spark, shares.made(spark), _ValuesTask(shares.rows, name), schema)
    return collected(values.groupBy(*names).agg(F.percentile("value", F.lit(q)).alias(name)))


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

    def __call__(self, share: Share) -> Iterator[pa.RecordBatch]:
        policy = self.rows.policy
        rows = prepared_rows(policy, *self.rows.read(share))
        values = quantile_values(policy, rows, policy.measures[self.measure]).to_arrow()
        types = [
            pa.string() if pa.types.is_large_string(t) or pa.types.is_string_view(t) else t for t in values.schema.types
        ]
        yield from values.cast(pa.schema(list(zip(values.column_names, types, strict=True)))).to_batches()
