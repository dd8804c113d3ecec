"""Releasing an exact aggregate: anonymized rows in, groups of enough people out."""

from collections.abc import Callable, Sequence
from contextlib import closing

import polars as pl
from psycopg import Connection
from pyspark.sql import SparkSession

from privacy_platform.engine.aggregate import ROWS, counted_figures, people_of
from privacy_platform.engine.exact import exact_groups, necessary
from privacy_platform.engine.gate import (
    Moment,
    Publication,
    ReleaseReport,
    Run,
    column_lineage,
    conclude,
    one_moment,
    releasing,
)
from privacy_platform.engine.release_private import PRIVATE_CHECKS, release_private
from privacy_platform.engine.shares import require_upstream
from privacy_platform.engine.sources.zone import enter_snapshot
from privacy_platform.engine.stage import CopyOnce, Statistics
from privacy_platform.governance.lineage import LineageRecord
from privacy_platform.policy.compile import aggregate_table, anonymized_table
from privacy_platform.policy.load import PolicySet
from privacy_platform.policy.model import AggregatePolicy
from privacy_platform.policy.private import PEOPLE
from privacy_platform.policy.tables import WHOLE, Column, ColumnType, Table
from privacy_platform.warehouse.checks import (
    MINIMUM_GROUP_SIZE,
    ROW_COUNT_RECONCILED,
    SCHEMA_MATCHES_POLICY,
    CheckOutcome,
    group_size_check,
    reconciliation_check,
    schema_check,
    staged_rows,
)
from privacy_platform.warehouse.connection import Role, connect
from privacy_platform.warehouse.release import Release, indexing, open_staging
from privacy_platform.warehouse.tables import count_lacking, partition_name

EXACT_CHECKS = (SCHEMA_MATCHES_POLICY, MINIMUM_GROUP_SIZE, ROW_COUNT_RECONCILED)


def check_names(policy: AggregatePolicy) -> tuple[str, ...]:
    """The checks of a release, by the policy's mode."""
    return PRIVATE_CHECKS if policy.is_private else EXACT_CHECKS


def release_aggregate(
    spark: Callable[[], SparkSession], policy: AggregatePolicy, policies: PolicySet, run: Run
) -> ReleaseReport:
    """Compute an aggregate from its anonymized tables and publish it, in the mode that its policy says.

    Raises:
        UpstreamMissingError: a table it is made from was never materialized.
        GateError: a check failed.
    """
    if policy.is_private:
        return release_private(spark, policy, policies, run)
    table = aggregate_table(policy, policies)
    hidden = tuple(
        Column(name, ColumnType.BIGINT, "Distinct people; for the check only.", nullable=False)
        for name in (PEOPLE, *map(people_of, counted_figures(policy)))
    )
    sources = [anonymized_table(policies.anonymized_tables[name]) for name in table.upstream]
    # What streams in while the tasks read must be in all that they read, or in nothing of it.
    with releasing(table) as connection, one_moment(connection, table, sources) as moment:
        require_upstream(connection, table, sources)
        release = Release(table, (WHOLE,), hidden=hidden)
        open_staging(connection, release)
        enter_snapshot(connection, moment.seen)
        lacking = necessary(policy, sources[0])
        counted = {s: _counted(connection, s, moment, lacking if s == sources[0] else ()) for s in sources}
        read, unread = {source: rows for source, (rows, _) in counted.items()}, counted[sources[0]][1]
        groups = exact_groups(spark(), connection, policy, policies, moment.standing, seen=moment.seen)
        connection.commit()
        statistics = Statistics(read=read[sources[0]], rows_without_dimension=unread)
        statistics.update(_stage(release, groups, policy))
        with indexing(release, (WHOLE,)):
            published = staged_rows(connection, release)
            checks = [
                schema_check(connection, release, {}, None),
                group_size_check(
                    connection,
                    release,
                    column=PEOPLE,
                    minimum=policy.minimum_group_size,
                    measures={name: people_of(name) for name in counted_figures(policy)},
                ),
                _reconciled(statistics, published),
            ]
            connection.commit()
        publication = Publication(
            dataset=policy.aggregate,
            lineage=tuple(
                LineageRecord(
                    source=source.qualified,
                    target=table.qualified,
                    transformation=f"aggregate: groups of at least {policy.minimum_group_size} people",
                    records_in=read[source],
                    records_out=published,
                    run_id=run.id,
                    column_lineage=column_lineage(table),
                )
                for source in sources
            ),
        )
        return conclude(
            connection,
            release,
            run,
            publication,
            filled=(WHOLE,),
            checks=checks,
            statistics=statistics,
            upstream=moment.pinned,
        )


def _counted(connection: Connection, source: Table, moment: Moment, lacking: Sequence[str]) -> tuple[int, int]:
    """The rows of a source's partitions, and of those the ones that lack a column."""
    names = [partition_name(source, partition) for partition in moment.standing[source]]
    counts = [count_lacking(connection, source.zone, name, lacking) for name in names]
    return sum(rows for rows, _ in counts), sum(without for _, without in counts)


def _reconciled(statistics: Statistics, published: int) -> CheckOutcome:
    """Every row is in a group, shown or not, or lacks a dimension; every group that is large enough is staged."""
    outcomes = [
        reconciliation_check(
            {"groups": statistics["groups"], "published": published, "too small": statistics["small_groups"]},
            read="groups",
        ),
        reconciliation_check(
            {
                "read": statistics["read"],
                "in groups shown": statistics["rows_shown"],
                "in groups too small": statistics["rows_in_small_groups"],
                "without a required dimension": statistics["rows_without_dimension"],
            }
        ),
    ]
    return next((outcome for outcome in outcomes if not outcome.passed), outcomes[-1])


def _stage(release: Release, frame: pl.DataFrame, policy: AggregatePolicy) -> Statistics:
    """Copy the groups that are large enough; count the others."""
    required = [name for name, dimension in policy.dimensions.items() if dimension.required]
    complete = pl.all_horizontal(pl.col(name).is_not_null() for name in required) if required else pl.lit(True)
    large = pl.col(PEOPLE) >= policy.minimum_group_size
    shown, small = frame.filter(complete & large), frame.filter(complete & ~large)
    statistics = Statistics(
        groups=shown.height + small.height,
        small_groups=small.height,
        people_in_small_groups=int(small[PEOPLE].sum()),
        rows_shown=int(shown[ROWS].sum()),
        rows_in_small_groups=int(small[ROWS].sum()),
        rows_without_dimension=int(frame.filter(~complete)[ROWS].sum()),
    )
    schema = release.staged_table.schema()
    with (
        closing(connect(Role.PIPELINE, wait_for_disk=False)) as connection,
        CopyOnce(connection, release.staging, 0) as copy,
    ):
        copy.copy(release.staging, shown.select(pl.col(n).cast(t) for n, t in schema.items()))
        copy.commit(statistics)
    return statistics


__all__ = ["check_names", "release_aggregate"]
