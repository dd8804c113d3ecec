"""Releasing a windowed aggregate: all of it from what stands, or the windows that a batch of a stream touches."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime
from itertools import pairwise

from psycopg import Connection

from privacy_platform.engine.gate import (
    Publication,
    ReleaseReport,
    Run,
    WarehouseError,
    column_lineage,
    conclude,
    pin,
    releasing,
)
from privacy_platform.engine.release_anonymized import require_upstream
from privacy_platform.engine.session import parallelism
from privacy_platform.engine.stage import Statistics
from privacy_platform.governance.lineage import LineageRecord
from privacy_platform.policy.compile import aggregate_table, anonymized_table
from privacy_platform.policy.load import PolicySet
from privacy_platform.policy.model import AggregatePolicy
from privacy_platform.policy.tables import WHOLE, Column, ColumnType, Table
from privacy_platform.warehouse.checks import (
    CheckOutcome,
    group_size_check,
    reconciliation_check,
    schema_check,
)
from privacy_platform.warehouse.connection import Role, WarehouseConnectionError, connect
from privacy_platform.warehouse.offsets import complete_until, offsets
from privacy_platform.warehouse.release import STAGING, Release, exclusive, indexing, open_staging
from privacy_platform.warehouse.tables import count_rows, partitions
from privacy_platform.warehouse.windows import PEOPLE, ROWS, Between, stage_windows, sum_of, window_cuts

# Connections that count windows, and rows that one counts at a time.
_AT_ONCE, _ROWS_COUNTED = 4, 500_000
NEVER = datetime(1, 1, 2, tzinfo=UTC)


def release_windows(policy: AggregatePolicy, policies: PolicySet, run: Run) -> ReleaseReport:
    """Count all windows of an aggregate from its anonymized table and publish them.

    Raises:
        UpstreamMissingError: the table it is made from was never materialized.
        GateError: a check failed.
    """
    dataset = policies.anonymized_tables[policy.source]
    table, source = aggregate_table(policy, policies), anonymized_table(dataset)
    # Both are held: a stream adds to the one and to the other at once.
    with exclusive(source), releasing(table) as connection:
        require_upstream(connection, table, (source,))
        release = windows_release(table)
        open_staging(connection, release)
        pinned = pin(connection, {source: partitions(connection, source)})
        until = known_until(connection, dataset.source.topic)
        read = count_rows(connection, source.zone, source.name)
        counted, small = _stage_all(connection, release, policy, source, rows=read, until=until)
        with indexing(release, (WHOLE,)):
            checks = window_checks(connection, release, policy, counted, small)
            checks.append(reconciliation_check({"read": read, "in windows": counted}))
            connection.commit()
        statistics = Statistics(read=read, rows_in_small_groups=small)
        shown = count_rows(connection, STAGING, release.staging)
        return conclude(
            connection,
            release,
            run,
            Publication(policy.aggregate, (windows_lineage(policy, table, source, run, read, shown),)),
            filled=(WHOLE,),
            checks=_one_of_each(checks),
            statistics=statistics,
            upstream=pinned,
        )


def _stage_all(
    connection: Connection, release: Release, policy: AggregatePolicy, source: Table, *, rows: int, until: datetime
) -> tuple[int, int]:
    """Stage all windows, stretch by stretch of time, as many at once as there are processors; as `stage_windows`.

    What inserts uses one processor in PostgreSQL. Where the rows of a stretch can be found by their time it is so
    short, rows being spread evenly over a day, that its groups are counted in memory. The caller sees to it that the
    source stays as it is.
    """
    at_once = min(parallelism(), _AT_ONCE)
    by_time = policy.window is not None and source.partition_column == policy.window.column
    cuts = window_cuts(connection, policy, source, max(at_once, rows // _ROWS_COUNTED if by_time else 0))
    connection.commit()

    def stage(between: Between) -> tuple[int, int]:
        with closing(_connected()) as own:
            own.execute("SET work_mem = '128MB'")
            return stage_windows(own, release, policy, source, complete_until=until, between=between)

    with ThreadPoolExecutor(at_once, thread_name_prefix="windows") as pool:
        counts = list(pool.map(stage, pairwise([None, *cuts, None])))
    return sum(counted for counted, _ in counts), sum(small for _, small in counts)


def _connected() -> Connection:
    try:
        return connect(Role.PIPELINE, wait_for_disk=False)
    except WarehouseConnectionError as error:  # it answered when the release began: worth another try
        raise WarehouseError(str(error)) from None


def windows_release(table: Table) -> Release:
    """A release of a windowed aggregate, with the counts that only the checks see."""
    hidden = (
        Column(PEOPLE, ColumnType.BIGINT, "Distinct people; for the check only.", nullable=False),
        Column(ROWS, ColumnType.BIGINT, "Rows; for the check only.", nullable=False),
    )
    return Release(table, (WHOLE,), hidden=hidden)


def known_until(connection: Connection, topic: str | None) -> datetime:
    """The time up to which everything that was sent has been read; of what nobody has streamed, now."""
    found = complete_until(connection, topic) if topic else None
    return found or (NEVER if topic and offsets(connection, topic) else datetime.now(UTC))


def window_checks(
    connection: Connection, release: Release, policy: AggregatePolicy, counted: int, small: int
) -> list[CheckOutcome]:
    """The checks of staged windows: columns, size of the groups, and that every row counted is in one."""
    shown = sum_of(connection, release, ROWS)
    return [
        schema_check(connection, release, {}, None),
        group_size_check(connection, release, column=PEOPLE, minimum=policy.minimum_group_size),
        reconciliation_check(
            {"counted": counted, "in windows shown": shown, "in groups too small": small}, read="counted"
        ),
    ]


def windows_lineage(
    policy: AggregatePolicy, table: Table, source: Table, run: Run, read: int, shown: int
) -> LineageRecord:
    """The arrow from the anonymized table to the windows."""
    return LineageRecord(
        source=source.qualified,
        target=table.qualified,
        transformation=f"windows: groups of at least {policy.minimum_group_size} people",
        records_in=read,
        records_out=shown,
        run_id=run.id,
        column_lineage=column_lineage(table),
    )


def _one_of_each(checks: list[CheckOutcome]) -> list[CheckOutcome]:
    """Two reconciliations are one check: the one that failed, else the last."""
    chosen = {check.name: check for check in checks if check.passed}
    return list((chosen | {check.name: check for check in checks if not check.passed}).values())
