"""One batch of a topic: a bounded range of offsets through both zones and the windows, published in one transaction.

The same tasks, checks and gates as for files; only the publication differs. The batch is staged for the raw zone, then
from there for the anonymized zone, then the windows it touches are counted. The rows are added to what stands, the
windows replaced, and the offsets advanced, all in one transaction: whatever is killed and whenever, the records before
an offset are in the zones, once, and those after it are not. That transaction is filled while the batch is still worked
on, committed when every check has passed, and rolled back when one has not.
"""

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime

from psycopg import Connection, sql
from pyspark.sql import SparkSession

from privacy_platform.engine.ahead import Ahead, Landed, drop_abandoned, land_records
from privacy_platform.engine.anonymize import AnonymizeTask, record_splits
from privacy_platform.engine.gate import (
    Publication,
    ReleaseReport,
    Run,
    column_lineage,
    entries,
    pin,
    refuse,
    releasing,
)
from privacy_platform.engine.publishing import Added, Publishing
from privacy_platform.engine.release_anonymized import anonymized_checks, arrows, is_behind, require_upstream
from privacy_platform.engine.release_raw import drop_standing, raw_checks
from privacy_platform.engine.release_windows import NEVER, window_checks, windows_lineage, windows_release
from privacy_platform.engine.session import parallelism
from privacy_platform.engine.sources.topic import Backlog, backlog
from privacy_platform.engine.stage import Statistics, run_stage, total
from privacy_platform.engine.standing_keys import StandingKeys
from privacy_platform.errors import PrivacyPlatformError
from privacy_platform.governance import audit, lineage
from privacy_platform.governance.lineage import LineageRecord
from privacy_platform.policy.compile import aggregate_table, anonymized_table, raw_table, topic_asset
from privacy_platform.policy.load import PolicySet
from privacy_platform.policy.model import AggregatePolicy, DatasetPolicy
from privacy_platform.policy.tables import WHOLE, Table
from privacy_platform.vault.keyring import load_keyring
from privacy_platform.warehouse.append import analyze, appending, require_appendable
from privacy_platform.warehouse.checks import CheckOutcome, raw_pii_check
from privacy_platform.warehouse.offsets import OffsetRange, advance, complete, complete_until
from privacy_platform.warehouse.release import STAGING, Release, open_staging
from privacy_platform.warehouse.tables import count_rows, partitions
from privacy_platform.warehouse.views import ensure_views
from privacy_platform.warehouse.windows import late_rows, settle, stage_windows, touched_windows

BATCH_EVENTS = 500_000


class NotStreamedError(PrivacyPlatformError):
    """The dataset has no topic."""


@dataclass(frozen=True)
class StreamReport:
    """What one batch did: the ranges it published, how many records it left unread, and its tables."""

    topic: str
    ranges: tuple[OffsetRange, ...]
    lag: int
    tables: tuple[ReleaseReport, ...]
    late: int
    seconds: float

    @property
    def records(self) -> int:
        """Records read."""
        return sum(map(len, self.ranges))


@dataclass(frozen=True)
class _Staged:
    """A table's share of the batch, staged and checked."""

    release: Release
    table: Table
    publication: Publication
    checks: list[CheckOutcome]
    statistics: Statistics


@dataclass(frozen=True)
class _Batch:
    """What all parts of a batch work with: `connection` stages and checks, `publishing` adds."""

    connection: Connection
    publishing: Publishing
    spark: Callable[[], SparkSession]
    run: Run

    def require(self, table: Table, dataset: str, checks: Sequence[CheckOutcome]) -> None:
        """End the batch unless all checks passed.

        Raises:
            GateError: one did not.
        """
        if not all(check.passed for check in checks):
            self.publishing.abandon()
            refuse(self.connection, table, self.run, dataset, checks)


def release_batch(
    spark: Callable[[], SparkSession],
    policy: DatasetPolicy,
    policies: PolicySet,
    run: Run,
    *,
    limit: int = BATCH_EVENTS,
    ahead: Ahead | None = None,
    standing: StandingKeys | None = None,
) -> StreamReport | None:
    """Publish the next records of a dataset's topic; None when there are none.

    Args:
        spark: gives the session; not called when there is nothing to read.
        policy: the dataset.
        policies: all policies, for the dataset this one refers to and the windows made of it.
        run: the run this belongs to, if its records have not landed ahead: then it is the one they landed under.
        limit: how many records to read at the most.
        ahead: lands the records after these while these are published, and may have landed these.
        standing: knows the keys that stand in the raw table; without it the table is read.

    Raises:
        NotStreamedError: the policy names no topic.
        UpstreamMissingError: the dataset referred to was never materialized.
        GateError: a check failed; nothing was published and the offsets stand where they stood.
        TopicError: the broker cannot be read.
    """
    topic = policy.source.topic
    if topic is None:
        raise NotStreamedError(f"{policy.dataset} is not streamed: name a topic in its policy, source.topic.")
    began = time.monotonic()
    raw, shown = raw_table(policy), anonymized_table(policy)
    windowed = {a.aggregate: a for a in policies.aggregates.values() if a.window and a.source == shown.name}
    tables = {name: aggregate_table(aggregate, policies) for name, aggregate in windowed.items()}
    with ExitStack() as held:
        connection = held.enter_context(releasing(raw, shown, *tables.values()))
        if ahead is None:
            drop_abandoned(connection, policy)
        landed = ahead.take() if ahead else None
        left = landed.left if landed else backlog(connection, topic, limit)
        if not left.ranges:
            _settle(connection, [(windowed[name], table) for name, table in tables.items()], left)
            return None
        for table in (raw, shown, *tables.values()):
            require_appendable(connection, table)
        if landed is None:
            landed = land_records(connection, spark, policy, left, run, appending(raw))
        until = complete_until(connection, topic)
        batch = _Batch(connection, held.enter_context(Publishing()), spark, landed.run)
        fresh = _land(batch, policy, landed, standing)
        anonymized = _anonymize(batch, policy, policies, fresh)
        if ahead:
            ahead.begin(left)
        counted = [
            _count(batch, aggregate, tables[name], shown, anonymized, left.seen_at if left.ends else until)
            for name, aggregate in windowed.items()
        ]
        late = sum(late_rows(connection, each, anonymized.release, until) for each in windowed.values()) if until else 0
        reports = _publish(batch, left, [fresh, anonymized, *counted], list(windowed.values()), standing)
        if ahead:
            ahead.published(connection)
        return StreamReport(topic, left.ranges, left.lag - left.records, reports, late, time.monotonic() - began)


def _land(batch: _Batch, policy: DatasetPolicy, landed: Landed, standing: StandingKeys | None) -> _Staged:
    """Leave out what has landed before, and check and add the rest."""
    connection, release, statistics = batch.connection, landed.release, landed.statistics
    table = raw_table(policy)
    if partitions(connection, table):
        drop = standing.drop_from if standing else drop_standing
        statistics["already_landed"] += drop(connection, release)
    elif standing:
        standing.forget()
    checks = raw_checks(connection, policy, release, statistics)
    batch.require(table, policy.dataset, checks)
    arrow = LineageRecord(
        source=topic_asset(policy),
        target=table.qualified,
        transformation="land: tokenize, seal",
        records_in=statistics["read"],
        records_out=statistics["new"],
        run_id=batch.run.id,
        column_lineage=column_lineage(table),
    )
    batch.publishing.add(release, table)
    publication = Publication(policy.dataset, (arrow,), keys_used=landed.keys_used)
    return _Staged(release, table, publication, checks, statistics)


def _anonymize(batch: _Batch, policy: DatasetPolicy, policies: PolicySet, landed: _Staged) -> _Staged:
    """Stage the anonymized records of the staged raw ones."""
    connection, run = batch.connection, batch.run
    table = anonymized_table(policy)
    reference = policies.datasets[policy.references.dataset] if policy.references else None
    static = raw_pii_check(policy, {}, ())
    batch.require(table, policy.dataset, [static])
    joined = (raw_table(reference), anonymized_table(reference)) if reference else ()
    require_upstream(connection, table, joined)
    release = appending(table)
    open_staging(connection, release)
    pinned = pin(connection, {other: partitions(connection, other) for other in joined})
    behind = reference is not None and is_behind(connection, reference)
    staged = [landed.release.partition(WHOLE)]
    splits = record_splits(connection, policy, STAGING, staged, parallelism=parallelism())
    connection.commit()
    task = AnonymizeTask(policy, release, run.id, datetime.now(UTC), reference, behind)
    statistics = total(run_stage(batch.spark(), splits, task))
    analyze(connection, release)
    batch.publishing.add(release, table, pinned=pinned)
    checks = anonymized_checks(connection, policy, release, statistics, reference)
    batch.require(table, policy.dataset, checks)
    # Each record was looked up once in the tables referred to.
    read = dict.fromkeys((landed.table, *joined), statistics["read"])
    keyring = load_keyring()
    publication = Publication(
        policy.dataset,
        tuple(arrows(policy, release, run, read, statistics["published"])),
        keys_used=(f"token/v{keyring.pinned}", f"hmac/v{keyring.pinned}", "sealing", "release salt"),
    )
    return _Staged(release, table, publication, checks, statistics)


def _count(
    batch: _Batch, policy: AggregatePolicy, table: Table, source: Table, added: _Staged, until: datetime | None
) -> _Staged:
    """Stage the windows that the anonymized records touch."""
    connection, run = batch.connection, batch.run
    release = windows_release(table)
    open_staging(connection, release)
    touched = touched_windows(connection, policy, added.release)
    counted, small = stage_windows(
        connection, release, policy, source, complete_until=until or NEVER, added=added.release, touched=touched
    )
    checks = window_checks(connection, release, policy, counted, small)
    batch.require(table, policy.aggregate, checks)
    batch.publishing.add(release, table, replaced=touched)
    statistics = Statistics(read=counted, rows_in_small_groups=small, windows=len(touched))
    shown = count_rows(connection, STAGING, release.staging)
    publication = Publication(policy.aggregate, (windows_lineage(policy, table, source, run, counted, shown),))
    return _Staged(release, table, publication, checks, statistics)


def _publish(
    batch: _Batch,
    left: Backlog,
    parts: Sequence[_Staged],
    windowed: Sequence[AggregatePolicy],
    standing: StandingKeys | None,
) -> tuple[ReleaseReport, ...]:
    """Everything the batch staged, its offsets and its records of what happened: one transaction."""
    run = batch.run
    batch.connection.commit()
    connection, added = batch.publishing.ended()
    advance(connection, left.ranges, run.id, left.expected)
    for part in parts:
        connection.execute(sql.SQL("DROP TABLE {}").format(sql.Identifier(STAGING, part.release.secret)))
    if left.ends:
        complete(connection, left.topic, left.seen_at)
        for policy, part in zip(windowed, parts[2:], strict=True):
            settle(connection, policy, part.table, left.seen_at)
    ensure_views(connection)
    reports = []
    for part, what in zip(parts, added, strict=True):
        quarantined = connection.execute(
            sql.SQL("INSERT INTO raw.quarantine SELECT * FROM {}").format(
                sql.Identifier(STAGING, part.release.quarantine)
            )
        ).rowcount
        for record in part.publication.lineage:
            lineage.record(connection, record)
        rows = (what.rows, what.table_rows)
        for entry in entries(part.table, run, part.publication, rows, what.partitions, (), part.checks, quarantined):
            audit.record(connection, entry)
        reports.append(_report(part, run, what))
    publication = audit.last_publication(connection, parts[0].table.qualified)
    connection.commit()
    if standing:
        standing.published(publication)
    return tuple(reports)


def _report(part: _Staged, run: Run, added: Added) -> ReleaseReport:
    return ReleaseReport(
        part.table,
        tuple(added.partitions),
        added.rows,
        added.table_rows,
        tuple(part.checks),
        dict(part.statistics),
        time.monotonic() - run.started,
    )


def _settle(connection: Connection, windowed: Sequence[tuple[AggregatePolicy, Table]], left: Backlog) -> None:
    """Nothing to read: everything sent until now is published, so more windows may be final."""
    complete(connection, left.topic, left.seen_at)
    for policy, table in windowed:
        if partitions(connection, table):
            settle(connection, policy, table, left.seen_at)
    connection.commit()
