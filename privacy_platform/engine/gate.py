"""The gate: what every release goes through between staging and publication.

Checks decide; either the release is swapped in together with its quarantine, lineage and audit rows in one
transaction, or nothing is published, the staging tables are dropped and the failed checks are audited.
"""

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import psycopg
from psycopg import Connection, sql

from privacy_platform.anonymization.risk.report import RiskReport
from privacy_platform.engine.sources.zone import snapshot
from privacy_platform.errors import PrivacyPlatformError
from privacy_platform.governance import anonymity, audit, budget, lineage
from privacy_platform.governance.anonymity import AnonymityRecord
from privacy_platform.governance.audit import AuditAction, AuditEntry, AuditOutcome
from privacy_platform.governance.budget import Spending
from privacy_platform.policy.tables import Partition, Table
from privacy_platform.warehouse.checks import CheckOutcome
from privacy_platform.warehouse.connection import Role, connect
from privacy_platform.warehouse.release import STAGING, Release, drop_staging, exclusive, swap
from privacy_platform.warehouse.tables import count_rows, partition_name, partitions, table_columns
from privacy_platform.warehouse.views import ensure_views

# How long a release that waits for readers keeps new ones waiting, and how long it then lets them pass.
LOCK_MOMENT = 0.5
LOCK_PAUSE = 1.5
# How often to look for a moment in which nothing is being released: a few milliseconds each.
_MOMENTS = 3


class WarehouseError(PrivacyPlatformError):
    """PostgreSQL refused a statement; the message holds its error code and no value."""


@dataclass(frozen=True)
class ReleaseReport:
    """How a release ended.

    `rows` counts the published partitions, `table_rows` the whole table. `released` is False when there was nothing
    to release and the standing table stays.
    """

    table: Table
    partitions: tuple[Partition, ...]
    rows: int
    table_rows: int
    checks: tuple[CheckOutcome, ...]
    statistics: Mapping[str, int]
    seconds: float
    released: bool = True
    anonymity: AnonymityRecord | None = None
    risk: RiskReport | None = None
    warnings: tuple[str, ...] = ()


class GateError(PrivacyPlatformError):
    """Checks failed and nothing was published; `checks` has all outcomes."""

    def __init__(self, table: Table, checks: Sequence[CheckOutcome], verdict: str = "was not published") -> None:
        self.table = table
        self.checks = tuple(checks)
        failed = "; ".join(f"{check.name}: {check.message}" for check in checks if check.failed)
        super().__init__(f"{table.qualified} {verdict}. {failed}")


@dataclass(frozen=True)
class Run:
    """What is common to all releases of a run: its id, and who is told how far a release is."""

    id: str
    started: float = field(default_factory=time.monotonic)


@dataclass(frozen=True)
class Publication:
    """What goes in together with a release: where its rows came from and which quarantine rows it replaces.

    `anonymity` is what the table as a whole satisfies, `risk` what can still be learned from it, `warnings` what its
    readers must know of the change, `spending` what it takes from a privacy budget.
    """

    dataset: str
    lineage: tuple[lineage.LineageRecord, ...]
    quarantine_stage: str | None = None
    quarantine_sources: tuple[str, ...] = ()
    keys_used: tuple[str, ...] = ()
    anonymity: AnonymityRecord | None = None
    risk: RiskReport | None = None
    warnings: tuple[str, ...] = ()
    spending: Spending | None = None


@contextmanager
def releasing(table: Table, *others: Table) -> Iterator[Connection]:
    """A connection that holds the right to release `table` and others; their staging tables never outlive the block."""
    connection = connect(Role.PIPELINE)
    try:
        in_memory(connection)
        with ExitStack() as held:
            for each in (table, *others):
                held.enter_context(exclusive(each))
            try:
                yield connection
            finally:
                if not connection.closed and not connection.broken:
                    connection.rollback()
                    for each in (table, *others):
                        with suppress(psycopg.errors.LockNotAvailable):  # the next run of the table drops them
                            drop_staging(connection, each.qualified)
    except psycopg.errors.LockNotAvailable:
        raise WarehouseError(
            f"{table.qualified} could not be swapped: readers have held it for too long. Materialize it again."
        ) from None
    except psycopg.Error as error:
        code = error.sqlstate or type(error).__name__
        raise WarehouseError(
            f"PostgreSQL refused the release of {table.qualified} (code {code}). Nothing was published; see the "
            "server's log."
        ) from None
    finally:
        connection.close()


def in_memory(connection: Connection) -> None:
    """Let a connection's checks, which compare whole tables, do so in memory: spilled they take twice as long."""
    connection.execute("SET work_mem = '128MB'")
    connection.commit()  # or the setting would go with the next rollback


def conclude(
    connection: Connection,
    release: Release,
    run: Run,
    publication: Publication,
    *,
    filled: Sequence[Partition],
    emptied: Sequence[Partition] = (),
    checks: Sequence[CheckOutcome],
    statistics: Mapping[str, int],
    rows: int | None = None,
    upstream: Mapping[str, int] | None = None,
) -> ReleaseReport:
    """Publish the staged release if every check passed.

    Args:
        connection: that of `releasing`.
        release: staged, complete and indexed.
        run: the run.
        publication: what goes in together with the rows.
        filled: the staged partitions.
        emptied: standing partitions without a successor.
        checks: what the checks found.
        statistics: what is reported beside.
        rows: how many rows are staged, where a check has counted them.
        upstream: what was read, as `pin` gave it.

    Raises:
        GateError: a check failed; that is audited and nothing is published.
    """
    table = release.table
    if not all(check.passed for check in checks):
        # Of rows that were released anew while they were read a check says nothing.
        hold_all(connection, table, upstream or {})
        refuse(connection, table, run, publication.dataset, checks)
    if rows is None:
        rows = sum(count_rows(connection, STAGING, release.partition(partition)) for partition in filled)
    staying = sorted(set(partitions(connection, table)) - {*filled, *emptied})
    table_rows = rows + sum(count_rows(connection, table.zone, partition_name(table, p)) for p in staying)
    _take(connection, table, upstream or {})
    if publication.spending:
        checks = [*checks, budget.spend(connection, publication.spending)]
        if checks[-1].failed:
            refuse(connection, table, run, publication.dataset, checks)
    swap(connection, release, filled, emptied=emptied)
    # The salt is thrown away with the release, not by a clean-up after it that may never come.
    connection.execute(sql.SQL("DROP TABLE {}").format(sql.Identifier(STAGING, release.secret)))
    ensure_views(connection)
    quarantined = _quarantine(connection, release, publication)
    for record in publication.lineage:
        lineage.record(connection, record)
    if publication.anonymity:
        anonymity.record(connection, publication.anonymity)
    for entry in entries(table, run, publication, (rows, table_rows), filled, emptied, checks, quarantined):
        audit.record(connection, entry)
    connection.commit()
    return ReleaseReport(
        table=table,
        partitions=tuple(filled),
        rows=rows,
        table_rows=table_rows,
        checks=tuple(checks),
        statistics=dict(statistics),
        seconds=time.monotonic() - run.started,
        anonymity=publication.anonymity,
        risk=publication.risk,
        warnings=publication.warnings,
    )


def pin(connection: Connection, read: Mapping[Table, Sequence[Partition]]) -> dict[str, int]:
    """Partition → identity of the relation that stands for it now, for all partitions that are about to be read.

    Tasks read at different times. That they all read one and the same release is known only if the relations they
    began with still stand in the end; see `conclude`.
    """
    names = _pinned_names(read)
    rows = connection.execute(
        "SELECT name, to_regclass(name)::oid::bigint FROM unnest(%s::text[]) AS name", [names]
    ).fetchall()
    return {str(name): int(oid) for name, oid in rows if oid is not None}


def _pinned_names(read: Mapping[Table, Sequence[Partition]]) -> list[str]:
    return [f'"{t.zone}"."{partition_name(t, p)}"' for t, chosen in read.items() for p in chosen]


@dataclass(frozen=True)
class Moment:
    """What stands at one moment.

    Attributes:
        seen: the snapshot to read.
        standing: the partitions of each table.
        pinned: what stands for them, see `pin`.
    """

    seen: str
    standing: Mapping[Table, Sequence[Partition]]
    pinned: Mapping[str, int]

    def pins(self, read: Mapping[Table, Sequence[Partition]]) -> dict[str, int]:
        """Of what is pinned, what is read."""
        return {name: self.pinned[name] for name in _pinned_names(read)}


@contextmanager
def one_moment(connection: Connection, table: Table, sources: Sequence[Table]) -> Iterator[Moment]:
    """The moment at which the sources of `table` are to be read, whatever is added or released meanwhile.

    Of what is swapped in after a snapshot only a part may be seen, and by then its name stands for it. So what is read
    is named and pinned before, is still the same after, and is read by these names.

    Raises:
        WarehouseError: something else stood for it each time.
    """

    def standing() -> tuple[dict[Table, list[Partition]], dict[str, int]]:
        found = {source: partitions(connection, source) for source in sources}
        pinned = pin(connection, found)
        connection.commit()
        return found, pinned

    for _ in range(_MOMENTS):
        before = standing()
        with snapshot() as seen:
            if standing() == before:
                yield Moment(seen, *before)
                return
    raise WarehouseError(f"What {table.qualified} is made from is being released over and over: try again.")


def _take(connection: Connection, table: Table, pinned: Mapping[str, int]) -> None:
    """Keep others from the table until the commit, once its readers have ended; see also `hold_all`.

    Whoever waits for a lock makes everybody who comes later wait too. So this waits for a moment only, lets go, so that
    new readers pass, and tries again, for as long as the connection waits for locks at all.

    Raises:
        psycopg.errors.LockNotAvailable: a reader has held it all the time.
        WarehouseError: see `hold_all`.
    """
    connection.commit()
    row = connection.execute("SELECT setting::float / 1000 FROM pg_settings WHERE name = 'lock_timeout'").fetchone()
    deadline = time.monotonic() + (row[0] if row else 0)
    while True:
        hold_all(connection, table, pinned)
        if not table_columns(connection, table.zone, table.name):
            return
        name = sql.Identifier(table.zone, table.name)
        try:
            connection.execute(
                sql.SQL("SET LOCAL lock_timeout = {}").format(sql.Literal(f"{LOCK_MOMENT * 1000:.0f}ms"))
            )
            connection.execute(sql.SQL("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE").format(name))
            connection.execute("SET LOCAL lock_timeout TO DEFAULT")
            return
        except psycopg.errors.LockNotAvailable:
            connection.rollback()
            if time.monotonic() + LOCK_PAUSE > deadline:
                raise
        time.sleep(LOCK_PAUSE)


def hold_all(connection: Connection, table: Table, pinned: Mapping[str, int]) -> None:
    """Keep the upstream partitions from being replaced until the commit, and see that none has been.

    Raises:
        WarehouseError: one has been; what was read for `table` may be a mixture.
    """
    names = sorted(pinned)

    def standing() -> dict[str, int | None]:
        query = "SELECT name, to_regclass(name)::oid::bigint FROM unnest(%s::text[]) AS name"
        return dict(connection.execute(query, [names]).fetchall())

    changed = [name for name, oid in standing().items() if oid != pinned[name]]
    if not changed and names:
        relations = sql.SQL(", ").join(sql.SQL(name) for name in names)
        connection.execute(sql.SQL("LOCK TABLE {} IN ACCESS SHARE MODE").format(relations))
        changed = [name for name, oid in standing().items() if oid != pinned[name]]
    if changed:
        raise WarehouseError(
            f"{table.qualified} was not published: {changed[0]} was released anew while it was read. "
            "Materialize it again."
        )


def refuse(
    connection: Connection,
    table: Table,
    run: Run,
    dataset: str,
    checks: Sequence[CheckOutcome],
    verdict: str = "was not published",
) -> None:
    """Drop the staged release, put the failed checks on record, and raise.

    Raises:
        GateError: always.
    """
    connection.rollback()
    drop_staging(connection, table.qualified)
    for check in checks:
        if check.failed:
            details = {"check": check.name, "message": check.message, **check.figures}
            audit.record(
                connection,
                AuditEntry(AuditAction.CHECK_FAILED, AuditOutcome.REFUSED, dataset, table.qualified, run.id, details),
            )
    connection.commit()
    raise GateError(table, checks, verdict)


def unchanged(
    connection: Connection, table: Table, run: Run, dataset: str, checks: Sequence[CheckOutcome]
) -> ReleaseReport:
    """The report of a run that found nothing new, and looked again at what stands.

    Raises:
        GateError: the standing table is not what was released.
    """
    if any(check.failed for check in checks):
        refuse(connection, table, run, dataset, checks, "has nothing new, and what stands does not pass")
    rows = count_rows(connection, table.zone, table.name)
    return ReleaseReport(table, (), 0, rows, tuple(checks), {}, time.monotonic() - run.started, released=False)


def standing_partitions(connection: Connection, table: Table, wanted: Sequence[Partition]) -> list[Partition]:
    """The partitions of `table` that stand and are wanted."""
    return sorted(set(partitions(connection, table)) & set(wanted))


def column_lineage(table: Table) -> dict[str, object]:
    """Column → where it comes from and what was done, as stored and shown."""
    return {
        column.name: {"sources": list(column.sources), "transformation": column.transformation}
        for column in table.columns
        if column.sources
    }


def _quarantine(connection: Connection, release: Release, publication: Publication) -> int:
    """Replace the quarantine rows of what was read again by the staged ones."""
    if publication.quarantine_stage is None:
        return 0
    connection.execute(
        "DELETE FROM raw.quarantine WHERE dataset = %s AND stage = %s AND source = ANY(%s)",
        [publication.dataset, publication.quarantine_stage, list(publication.quarantine_sources)],
    )
    return connection.execute(
        sql.SQL("INSERT INTO raw.quarantine SELECT * FROM {}").format(sql.Identifier(STAGING, release.quarantine))
    ).rowcount


def entries(
    table: Table,
    run: Run,
    publication: Publication,
    rows: tuple[int, int],
    filled: Sequence[Partition],
    emptied: Sequence[Partition],
    checks: Sequence[CheckOutcome],
    quarantined: int,
) -> Iterator[AuditEntry]:
    """What the audit log says of a publication; `rows` counts the published rows and those of the whole table."""
    where: dict[str, Any] = {"dataset": publication.dataset, "subject_table": table.qualified, "run_id": run.id}
    if publication.keys_used:
        yield AuditEntry(AuditAction.KEY_USE, details={"keys": list(publication.keys_used)}, **where)
    if quarantined:
        yield AuditEntry(AuditAction.QUARANTINE, details={"rows": quarantined}, **where)
    if publication.spending and publication.spending.charges:
        yield AuditEntry(AuditAction.BUDGET_SPEND, details=publication.spending.summary(), **where)
    details = {
        "rows": rows[0],
        "table_rows": rows[1],
        "partitions": [partition.suffix for partition in filled],
        "emptied_partitions": [partition.suffix for partition in emptied],
        "checks_passed": [check.name for check in checks],
        "process": os.getpid(),
    }
    yield AuditEntry(AuditAction.PUBLISH, details=details, **where)
